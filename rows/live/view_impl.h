// A live view's inside, shared by the files of the module view.
//
//   rows change --views_row--> keys and window --views_commit--> pending steps --views_publish--> ring of encoded changes --> readers
//
// A set (no order, no limit) keeps nothing of its rows: a row's images before and after a commit say all. A list (ordered, unlimited)
// keeps the keys of all its rows. A window (limited) keeps the keys up to some spare rows beyond its end, and looks through the table
// again when those run out.
#ifndef SEGUE_ROWS_VIEW_IMPL_H
#define SEGUE_ROWS_VIEW_IMPL_H

#include "scan.h"
#include "view.h"
#include "view_diff.h"

enum view_shape { VIEW_SET, VIEW_LIST, VIEW_WINDOW };

struct view_pending {
    uint64_t seq;
    struct view_op op;
};

struct view_change {
    uint64_t seq;
    struct bytes *value; // the step as JSON
};

struct view {
    struct feed feed; // first: a sub's feed is its view
    struct rows *r;
    struct query *q;
    struct view *next, *prev; // of the same table
    enum view_shape shape;
    int err; // sticky: the view cannot go on, and says why to who asks

    struct sort_keys keys; // of a list or window: as of the last applied commit
    bool whole;            // all rows that match are among the keys

    // While one commit is applied, of a window that it moved.
    bool moved;
    struct view *moved_next;
    struct uuid *before; // what the window showed
    size_t before_count;
    struct id_set touched;

    bool dirty;
    struct view *dirty_next;
    uint64_t changed; // the last commit that changed it
    struct view_pending *pending;
    size_t pending_count, pending_cap;

    // Encoded changes of the commits after ring_from, oldest first.
    struct view_change *ring;
    size_t ring_head, ring_count, ring_cap, ring_bytes;
    uint64_t ring_from;
};

// ---- view.c: the registry and keeping a view current ---------------------------------------------------------------

// The view of this query, made and filled where nobody has it yet. ERR_NOMEM, ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE, …
int view_obtain(struct rows *r, struct db_txn *txn, struct query *q, struct view **out);
void view_free(struct view *v); // without subs

// ---- view_ring.c: changes on their way to readers ------------------------------------------------------------------

// Notes a step of a commit, to be encoded when that is published.
void view_record(struct view *v, uint64_t seq, struct view_op op);
// Has every reader hear of `seq` though no step is noted: they must read on from history, or meet the view's error.
void view_mark(struct view *v, uint64_t seq);
void view_ring_free(struct view *v);
// The step as JSON, the row as of `seq`.
int view_encode(struct view *v, struct db_txn *txn, uint64_t seq, const struct view_op *op, struct bytes **out);
// The first kept change after `from`, as an index into ring + ring_head.
size_t view_ring_after(const struct view *v, uint64_t from);

#endif
