// What a live query over rows that lie over the store (source.h) has different between two states, from the rows that may differ: nothing is kept of the result, and
// the work follows those rows. For results without groups, order and limit; of others a whole one is looked up and compared (live_result.h).
#ifndef SEGUE_ROWS_LIVE_DIFFERENCE_H
#define SEGUE_ROWS_LIVE_DIFFERENCE_H

#include "rows.h"

// Is it such a result? The query is live (live_result_fit).
bool live_difference_tells(const struct query *q);

struct live_states {
    struct query_source before, after; // their `reads` are not told
    bool laid; // what lies over the store is not the same in both: all of it counts
};
// Emits the row changes (rows.h, "feed") that lead from one to the other. ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE: too many rows may differ, or are looked at for
// them, and nothing was emitted; ERR_TOO_OLD, ERR_BAD_VALUE …, or the sink's.
int live_difference(struct rows *r, struct db_txn *txn, struct query *q, const struct live_states *states, struct feed_sink *sink);

#endif
