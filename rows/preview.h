// What operations that nobody has committed would make of the state as of a seq: rows that lie over the stored ones (source.h). They are checked
// as operations are, one by one; what concerns a batch as a whole (references, uniqueness, checks) is for whoever decides it.
#ifndef SEGUE_ROWS_PREVIEW_H
#define SEGUE_ROWS_PREVIEW_H

#include "rows.h"

struct db_txn;
struct overlay;
struct rows_preview;

// `base`: the last seq that their writer had seen, which may be before `at`: then they merge with what came since. `arrival_ms`: what now() is. NULL: no memory.
struct rows_preview *rows_preview_new(struct rows *r, struct db_txn *txn, uint64_t at, uint64_t base, uint64_t arrival_ms);
void rows_preview_free(struct rows_preview *v); // NULL is fine
// What now() is for the operations that follow.
void rows_preview_time(struct rows_preview *v, uint64_t arrival_ms);

// As rows_decide_op; a failure leaves it fit for nothing but being freed. Inserts name their id. The last call's overlay is no longer valid.
int rows_preview_op(struct rows_preview *v, struct db_txn *txn, const struct row_op *op, struct problem *p);
// The rows as the operations leave them, until the next one. NULL: no memory.
const struct overlay *rows_preview_overlay(struct rows_preview *v);
struct jw;
// An array of the rows that differ from the state: [{"table":…,"id":…,"was":{row}|null,"is":{row}|null},…], by table and id. ERR_CORRUPT, or the transaction's
// error, and then half of it is written.
int rows_preview_diff(struct rows_preview *v, struct db_txn *txn, struct jw *w);
// Is the schema still the one that its rows are of? Else make it again.
bool rows_preview_current(const struct rows_preview *v);

#endif
