// What is told of commits and of rows' versions, as JSON: what histories, differences and previews are made of.
#ifndef SEGUE_ROWS_TELL_H
#define SEGUE_ROWS_TELL_H

#include "store.h"

// The members of a commit: "seq", and where it is still known "time", "author", "replica" and "counter" or "key", "mode".
void tell_commit(struct jw *w, struct rows *r, struct db_txn *txn, uint64_t seq);
// The row's id and columns as an object, or null where it does not stand. Streams and blobs as of `seq`.
void tell_row(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *row, uint64_t seq);
// "table" and "id" as members.
void tell_name(struct jw *w, const struct table *t, struct uuid id);

// The table, or ERR_NO_SUCH_TABLE.
int tell_table(struct rows *r, struct span name, const struct table **out, struct problem *p);

#endif
