// The keys of a live query's rows: what a view is filled with.
#ifndef SEGUE_ROWS_SCAN_H
#define SEGUE_ROWS_SCAN_H

#include "query.h"
#include "sort_keys.h"

// The keys of the result as of `at`, sorted: of all matching rows the least `keep`, whatever the query's own limit and offset. *all: those were all. Goes by the
// query's plan; where an index gives the order, it stops behind the last one that is kept.
// ERR_RESULT_TOO_LARGE for more than QUERY_ROWS_MAX where all are to be kept, ERR_QUERY_TOO_EXPENSIVE after QUERY_SCAN_MAX keys, ERR_CORRUPT, ERR_NOMEM, or
// the transaction's error. *out is empty before, and after a failure. `q` is live.
int scan_keys(struct rows *r, struct db_txn *txn, const struct query *q, uint64_t at, size_t keep, struct sort_keys *out, bool *all);

#endif
