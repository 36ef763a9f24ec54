// Views that are computed when somebody reads: while a commit is applied, such a view only notes which rows were touched, and which seq
// did it. The first reader that asks for what lies behind what is computed has the difference of the two states made, once for all: a *range* of
// encoded steps, which is kept for those who come with the same states.
//
//            ring_from        ranges         settled        notes
//      ────────┤ [first..last] [..] [first..last] ├ touched rows, by seq ───> now
//
// A range leads from any state before its first seq that touched the view to any behind its last one, for between two ranges nothing changed. Who stands
// within a range, or behind the ring, gets the difference from history, by the same way. More rows than a difference may look at: readers hear ERR_TOO_OLD and begin
// again with a snapshot.
//
// A kind embeds struct lazy_view first, and gives its own functions as a struct lazy_ops.
#ifndef SEGUE_ROWS_LAZY_VIEW_H
#define SEGUE_ROWS_LAZY_VIEW_H

#include "delta.h"
#include "view_impl.h"

struct lazy_view;

// Encoded steps, in order.
struct lazy_steps {
    struct bytes **values;
    size_t n, cap, bytes;
};
int lazy_steps_add(struct lazy_steps *steps, struct bytes *value); // takes the value over, after a failure too. ERR_NOMEM, ERR_RESULT_TOO_LARGE

// Both seqs can be read; `rows` are all that were touched between them, and some more.
struct lazy_range {
    struct db_txn *txn;
    uint64_t from, to;
    struct delta_rows *rows;
};

// After ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE, ERR_BAD_VALUE, ERR_TOO_OLD and ERR_CANCELED the readers begin again; other errors are the view's for good.
struct lazy_ops {
    // The steps from one state to the other. What the view keeps of itself is as of range->from, and afterwards as of range->to.
    int (*advance)(struct lazy_view *l, const struct lazy_range *range, struct lazy_steps *out);
    // The same for a reader who is behind; what the view keeps stays as it is. (It may be as of range->to: l->settled.)
    int (*catch_up)(struct lazy_view *l, const struct lazy_range *range, struct lazy_steps *out);
    // What the view keeps cannot be brought on. It is to be made anew when it is needed next, as of the range's `from` then.
    void (*lose)(struct lazy_view *l);
};

struct lazy_note {
    uint64_t seq;
    struct delta_row row;
};

struct lazy_kept {
    uint64_t first, last; // seqs that touched the view
    struct lazy_steps steps;
};

struct lazy_view {
    struct view v; // first
    const struct lazy_ops *ops;
    // The query's plan and parameters, or others of the same query where those cannot answer any more; and its difference, which views of equal shape share.
    struct plan *plan;
    struct arena *arena;
    struct value *params;
    struct delta *delta;
    struct interest *interests;
    size_t interest_count;
    struct lazy_note *notes; // of commits after noted_from, oldest first; those up to it are of no use
    size_t note_count, note_cap;
    uint64_t noted_from;
    struct lazy_kept *ring;
    size_t ring_head, ring_count, ring_cap, ring_bytes;
    uint64_t ring_from; // all changes behind it are in the ring, or noted
    uint64_t settled;   // what the view keeps is as of this seq
    uint64_t lost;      // who is behind it must begin again
    unsigned strain;    // how often in a row differences were too expensive; each halves the time that the next may take
};

static inline struct lazy_view *lazy_view_of(struct view *v)
{
    return (struct lazy_view *)v;
}

// For the functions of a kind: open (first thing; then the kind fills what it keeps, as of l->settled), close (last thing), row, reach, changes.
int lazy_open(struct view *v, const struct lazy_ops *ops);
void lazy_close(struct view *v);
int lazy_row(struct view *v, struct interest *heard, uint64_t seq, const struct row_change *c);
int lazy_reach(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached);
int lazy_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink);

// Is what the view keeps the state as of this seq, too?
bool lazy_stands_at(const struct lazy_view *l, uint64_t seq);
// The difference over the range, with the plans that can answer for it. As delta_run.
int lazy_difference(struct lazy_view *l, const struct lazy_range *range, size_t *budget, struct delta_sink *sink);
// When a difference that begins now has to be over.
uint64_t lazy_deadline(const struct lazy_view *l);
// Has l->plan, l->params and l->delta be such as can answer for this seq, and those that follow. ERR_NOMEM, or what compiling the query says.
int lazy_plan_for(struct lazy_view *l, uint64_t at);

#endif
