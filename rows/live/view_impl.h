// A live view's inside, shared by the kinds of views (a file each) and the files that serve them all.
//
//      rows change ──interests──> kind->row ──> [kind->commit] ──> dirty ──rows_publish──> readers are woken ──> kind->reach, kind->changes
//
// A kind is a table of functions and a struct that begins with a struct view. Which kind a query needs is said by query_make_live.
#ifndef SEGUE_ROWS_VIEW_IMPL_H
#define SEGUE_ROWS_VIEW_IMPL_H

#include "interests.h"
#include "query_live.h"
#include "scan.h"
#include "view.h"
#include "view_diff.h"

struct view;

// One reader.
struct view_sub {
    struct feed_sub sub; // first; its feed is the view
    struct query_run *run; // the snapshot being sent
    uint64_t run_at;
};

struct view_kind {
    const char *name;
    size_t size; // of its struct
    // `v` is zeroed but for r, q, kind and ring_from. Fills it as of v->r->seq, all of whose rows are written, and adds its interests (view_listen). After a
    // failure, which is what rows_attach answers, nothing is left; close is not called.
    int (*open)(struct view *v, struct db_txn *txn);
    void (*close)(struct view *v); // removes the interests, frees what is the kind's own

    // While a commit is applied, with only some of its rows seen: one of its interests heard of a changed row. Marks the view (view_record, view_mark, view_touch)
    // where that changes it, or asks for its commit (view_moves). An error is for good: every reader meets it.
    int (*row)(struct view *v, struct interest *heard, uint64_t seq, const struct row_change *c);
    // When all rows of the commit are seen, and written, and a row asked for it. NULL: none does.
    int (*commit)(struct view *v, struct db_txn *txn, uint64_t seq);

    // As those of feed_ops (base/feed.h), of a view without an error; from < to. The run of `sub` may be used between the pieces of a snapshot.
    int (*snapshot)(struct view_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done);
    int (*reach)(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached);
    int (*changes)(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink);
};

extern const struct view_kind table_view_kind; // table_view.c
extern const struct view_kind join_view_kind;  // join_view.c
extern const struct view_kind group_view_kind; // group_view.c

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
    const struct view_kind *kind;
    struct hash_node node; // of the registry, by the hash of the canonical form
    bool scanned;          // one of its interests is
    bool texts;            // it reads the text of streams, and hears of those that have grown
    int err;               // sticky: the view cannot go on, and says why to who asks

    size_t held;           // view_hold
    bool moved; // its commit is asked for
    struct view *moved_next;

    bool dirty;
    struct view *dirty_next, *dirty_prev;
    uint64_t changed; // the last commit that changed it

    // Of a kind that notes steps while a commit is applied: those that are not published yet.
    struct view_pending *pending;
    size_t pending_count, pending_cap;

    // Encoded changes of the commits after ring_from, oldest first.
    struct view_change *ring;
    size_t ring_head, ring_count, ring_cap, ring_bytes;
    uint64_t ring_from;
};

// How far a reader who is behind the ring gets in one range.
#define REACH_ROWS_MAX 4096     // rows compared
#define REACH_COMMITS_MAX 16384 // commits looked through for them
#define CHANGE_BYTES 256        // about what one change takes, before it is encoded

// ---- view.c: the registry, and commits -----------------------------------------------------------------------------

// The view of this query, made and filled where nobody has it yet. ERR_NOMEM, ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE, …
int view_obtain(struct rows *r, struct db_txn *txn, struct query *q, struct view **out);
void view_free(struct view *v); // without subs

// Has the view hear (kind->row) of changes of a table that may touch rows of this slot for which all of the conditions hold. ERR_NOMEM.
int view_listen(struct view *v, struct interest *i, uint32_t table, uint32_t slot, struct expr *const *conditions, size_t count);
// Asks for the view's commit, once.
void view_moves(struct view *v);
// So many bytes are kept of its rows now, in place of what was said before. ERR_RESULT_TOO_LARGE: all views together keep more than VIEW_KEYS_BYTES_MAX; it counts
// all the same, until the kind lets go of them.
int view_hold(struct view *v, size_t bytes);
// When what is begun now should end, having so long (0: whenever).
uint64_t view_deadline(uint64_t us);

// ---- view_ring.c: changes on their way to readers ------------------------------------------------------------------

// The view is changed by this commit: its readers are woken when that is published.
void view_touch(struct view *v, uint64_t seq);
// The same, and notes a step, to be encoded then.
void view_record(struct view *v, uint64_t seq, struct view_op op);
// The same where no step is noted: readers must read on from history, or meet the view's error.
void view_mark(struct view *v, uint64_t seq);
void view_ring_free(struct view *v);
// The step as JSON, the row as of `seq`.
int view_encode(struct view *v, struct db_txn *txn, uint64_t seq, const struct view_op *op, struct bytes **out);
// Are all changes behind this seq in the ring? And then: reach and changes from there.
bool view_ring_covers(const struct view *v, uint64_t from);
uint64_t view_ring_reach(const struct view *v, uint64_t from, uint64_t to, size_t budget);
int view_ring_changes(struct view *v, uint64_t from, uint64_t to, struct feed_sink *sink);

// ---- view_feed.c ---------------------------------------------------------------------------------------------------

// A snapshot by the query's own plan: its rows, as they are.
int view_snapshot_plain(struct view_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done);

#endif
