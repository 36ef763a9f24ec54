// The whole result of a live query, kept as ids and digests: what is needed to tell a later result of it as row changes. For results over rows that lie
// over the store (source.h), of which no commit says what it changes: they are looked up again and compared. Bounded, for that is done within a turn.
#ifndef SEGUE_ROWS_LIVE_RESULT_H
#define SEGUE_ROWS_LIVE_RESULT_H

#include "rows.h"

struct live_row {
    struct uuid id;     // of a keyed query one that its key makes
    struct bytes *key;  // as clients see it; NULL: rows have ids
    uint64_t digest;    // of its JSON
    struct bytes *json; // as a snapshot has it, until live_result_slim
};

// In the order of the result. Zero is an empty one.
struct live_result {
    struct live_row *rows;
    size_t n, cap;
    size_t bytes; // of JSON that was taken
};

// Needed before the others, and with the errors of rows_attach.
int live_result_fit(struct query *q, struct problem *p);
// Runs the query to its end. ERR_QUERY_TOO_EXPENSIVE past LIVE_RESULT_SCAN_MAX keys looked at, ERR_RESULT_TOO_LARGE past LIVE_RESULT_BYTES_MAX bytes, and what
// query_next fails with. *out is empty before, and after a failure.
int live_result_take(struct rows *r, struct db_txn *txn, struct query *q, const struct query_source *source, struct live_result *out, struct problem *p);
// The JSON of the rows goes.
void live_result_slim(struct live_result *res);
void live_result_free(struct live_result *res); // leaves it empty

// Emits the row changes (rows.h, "feed") that lead from one to the other, whose rows have their JSON. ERR_NOMEM, or the sink's.
int live_result_diff(const struct query *q, const struct live_result *before, const struct live_result *after, struct feed_sink *sink);
// May a commit in (from, to] have changed rows of the query's tables in the store? ERR_TOO_OLD: nothing is known of that any more.
int live_result_touched(struct rows *r, struct db_txn *txn, const struct query *q, uint64_t from, uint64_t to, bool *touched);

#endif
