// Has anything that a transaction read changed since? Answered from the state alone: what each commit touched (row_commits), and what
// rows were at the base (history). So the answer is the same after a restart, and on every machine that decides the same entry.
//
//     each commit in (base, now] ── each row it touched ──┬─> read by its id, or in a range of ids ──> a conflict
//                                                         └─> its table's indexes were read ──> later, once per row:
//                                  its keys at the base and now ──> one of them lies in a range that was read ──> a conflict
//
// What a row was in between does not count: a row that moved into a range and out of it again was not missed by anybody who looks
// before and after. The cost is the rows touched since the base, each by the logarithm of the ranges read in its table.
#ifndef SEGUE_ROWS_VALIDATE_H
#define SEGUE_ROWS_VALIDATE_H

#include "read_set.h"
#include "store.h"

// Checks `reads` (finished) against the commits in (base, now]. 0, or ERR_CONFLICT with up to ROWS_CONFLICTS_MAX of the rows in *out; ERR_TOO_OLD where more than
// TRANSACTION_ROWS_MAX rows were touched since; ERR_CORRUPT, ERR_NOMEM, or the transaction's error. `seen`: the names are this schema's.
int reads_validate(struct rows *r, struct db_txn *txn, const struct schema *seen, const struct read_set *reads, uint64_t base, uint64_t now,
                   struct rows_conflicts *out, struct problem *p);

#endif
