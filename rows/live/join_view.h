// A view of joined rows, or of rows with selects within: its inside, for join_view*.c.
#ifndef SEGUE_ROWS_JOIN_VIEW_H
#define SEGUE_ROWS_JOIN_VIEW_H

#include "lazy_view.h"

enum join_shape { JOIN_SET, JOIN_LIST, JOIN_WINDOW };

// Rows are named by their keys (run_key). What is kept of each, of a list or window, is a sort key: what the query orders by, the row's key, and the key's
// length in two bytes, which decide nothing any more.
struct join_view {
    struct lazy_view l; // first
    enum join_shape shape;
    struct sort_keys keys; // as of l.settled
    bool whole;            // all rows of the joined result are among them
    bool stale;            // they were lost
};

static inline struct join_view *join_view_of(struct lazy_view *l)
{
    return (struct join_view *)l;
}

// A joined row that may differ between two states, or one that is shown in one of them. Spans lie in the difference's arena; none: not known.
struct join_row {
    bool was, is;    // it stands in the state before, after
    uint64_t digest; // of what it showed before
    struct span old, new; // sort keys, of a list or window
    struct span json;     // after
    bool same; // it shows after what it showed before
};

struct join_diff {
    struct delta_sink sink; // first
    struct join_view *j;
    struct db_txn *txn;
    uint64_t to;
    size_t budget; // keys that may still be looked at
    struct arena *arena;
    struct key_set keys; // of rows, by their numbers here
    struct join_row *rows;
    size_t cap;
    struct buf text, sort;
};

// ---- join_diff.c ---------------------------------------------------------------------------------------------------

// What the two states of the range have different. ERR_NOMEM, or as delta_run. join_diff_close in any case.
int join_diff_open(struct join_diff *x, struct join_view *j, const struct lazy_range *range);
void join_diff_close(struct join_diff *x);
static inline size_t join_diff_count(const struct join_diff *x)
{
    return x->keys.n;
}
// The row's number here, given its key; made where nothing differs in it.
int join_diff_number(struct join_diff *x, struct span key, size_t *number);
// Does the row show something else, or stand elsewhere in the order?
bool join_row_differs(const struct join_row *row);
// Adds the step to `out`, the row as it is after. Positions are told where the query has an order.
int join_diff_step(struct join_diff *x, enum view_op_kind kind, size_t number, size_t at, size_t was, struct lazy_steps *out);

// ---- join_scan.c ---------------------------------------------------------------------------------------------------

// The sort key of the row at hand. As run_next.
int join_sort_key(const struct plan *plan, struct run *run, struct buf *out);
// The row's key, of a sort key.
struct span join_sort_name(struct span sort_key);
// The sort keys of the result as of `at`, limits aside, the least `keep` of them, by the query's plan. *whole: those are all. As scan_keys.
int join_scan(struct join_view *j, struct db_txn *txn, uint64_t at, size_t keep, struct sort_keys *out, bool *whole);

#endif
