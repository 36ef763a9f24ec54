// What a transaction has read, as it travels: in the reply to a query, and back in the batch that commits (PROTOCOL.md, "Transactions").
#ifndef SEGUE_BATCH_READS_H
#define SEGUE_BATCH_READS_H

#include "batch.h"
#include "read_set.h"

struct jr;

// A token is what a query read and the seq at which it did, opaque to clients: base64url without padding. Appends; the set is finished.
void reads_token_put(struct buf *out, uint64_t at, const struct read_set *set);
// Records a token's reads; *at is written on success alone. ERR_BAD_VALUE, ERR_NOMEM.
int reads_token_take(struct span text, struct read_set *set, uint64_t *at);

// The members "base", "reads" and "rows" of a transaction as its first operation. ERR_BAD_BATCH, ERR_TOO_LARGE, ERR_NOMEM.
int batch_reads_from_json(const struct jr *batch, uint64_t base, struct buf *out, struct problem *p);
// The same of a set that the service recorded itself, and "rows" beside it.
int batch_reads_from_set(const struct jr *batch, struct read_set *set, uint64_t base, struct buf *out, struct problem *p);

struct rows_preview;
struct db_txn;
// Lays encoded operations over a state (preview.h). Those of streams are for whoever decides the batch. As rows_preview_op, with the operation's position.
int batch_preview(struct rows_preview *v, struct db_txn *txn, struct span ops, struct problem *p);

#endif
