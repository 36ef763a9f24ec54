// Looking through a table as of a commit, in id order, in steps between which the transaction may change.
#ifndef SEGUE_ROWS_SCAN_H
#define SEGUE_ROWS_SCAN_H

#include "query.h"
#include "sort_keys.h"

struct scan {
    uint64_t at;
    struct uuid last; // the last id looked at
    bool begun, done;
    uint64_t looked_at;
};

// Non-zero ends the step after this row: SCAN_ENOUGH as success, anything else as that error.
#define SCAN_ENOUGH 1
typedef int scan_row(void *ctx, struct uuid id, const struct row *row);

// Calls `each` for the next matching rows, looking at no more than `rows_max` rows in this step; s->done: there are no more.
// ERR_QUERY_TOO_EXPENSIVE after QUERY_SCAN_MAX in all, ERR_CORRUPT, the transaction's error, or the callback's.
int scan_step(struct scan *s, struct rows *r, struct db_txn *txn, const struct query *q, size_t rows_max, scan_row *each, void *ctx);

// The keys of the result as of `at`, sorted: of all matching rows the least `keep`. *all: those were all.
// ERR_RESULT_TOO_LARGE for more than QUERY_ROWS_MAX where all are to be kept, else as scan_step and sort_keys_collect. *out is empty before, and after a failure.
int scan_keys(struct rows *r, struct db_txn *txn, const struct query *q, uint64_t at, size_t keep, struct sort_keys *out, bool *all);

// One step of the same, for who sorts in pieces: collects into `out`, without finishing it.
int scan_collect(struct scan *s, struct rows *r, struct db_txn *txn, const struct query *q, size_t rows_max, size_t keep,
                 struct sort_keys *out, bool *dropped);

#endif
