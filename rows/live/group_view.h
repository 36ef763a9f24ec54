// Views of rows that are made of many: groups and distinct rows. What the groups have come to is kept, and follows the joined rows that a commit makes and
// takes away; which rows of the result the groups make, where each stands, and a digest of what it shows.
//
//      delta ──joined rows──> shift of the groups ──group_look──> what each shows ──group_diff──> steps
//
// Private to group_*.c.
#ifndef SEGUE_ROWS_GROUP_VIEW_H
#define SEGUE_ROWS_GROUP_VIEW_H

#include "group_state.h"
#include "lazy_view.h"

// A row of the result, which is its group's; only of a result that is grouped and distinct several groups may make the same one.
struct group_row {
    struct hash_node node;
    struct uuid id;     // a digest of its values: its key
    uint32_t refs;      // groups that make it
    uint64_t digest;    // of its JSON
    struct span place;  // its key in the view's list, which holds it
    struct group *of;   // one that makes it, or did when it was made
    uint32_t values_n;  // of a grouped and distinct one: what it shows, as value_key writes it
    uint8_t values[];
};

struct group_view {
    struct lazy_view l; // first
    bool made, filled;  // there are tables; what they hold is as of l.settled
    struct group_filling *filling; // on the way to that
    uint64_t looked_at; // rows and keys, since it was made
    struct group_state state;
    struct hash_table rows;
    struct sort_keys list; // of all rows, where the query has an order or a limit: its order, then the id
    size_t *order;         // of a distinct result: of each term of its order the target that it is
    // Looking through one group again: the plan for it, made from `again_of`, with which of what is grouped by is null.
    struct plan *again, *again_of;
    struct arena *again_exprs;
    uint64_t again_nulls;
};

static inline struct group_view *group_view_of(struct lazy_view *l)
{
    return (struct group_view *)l;
}

static inline const struct select *group_select(const struct group_view *g)
{
    return g->l.plan->top;
}

// Rows of a result that is distinct, and not grouped, show what their groups go by.
static inline bool group_shows_key(const struct group_view *g)
{
    return !group_select(g)->grouped;
}

static inline bool group_listed(const struct group_view *g)
{
    return query_ordered(g->l.v.q) || g->l.v.q->has_limit || g->l.v.q->offset > 0;
}

// ---- group_scan.c: going through joined rows -----------------------------------------------------------------------

// All rows of the query in this state, into the shift, in steps: other transactions may come between them.
struct group_scan;
int group_scan_new(struct group_view *g, const struct row_source *src, struct group_shift *shift, struct group_scan **out); // ERR_NOMEM
// Looks at `keys` of them at most, until about `end_us` (0: as long as that takes). 0: those were all; EXEC_MORE; ERR_CANCELED: an index is gone; and what
// group_shift_row says.
int group_scan_step(struct group_scan *scan, struct db_txn *txn, size_t keys, uint64_t end_us);
uint64_t group_scan_looked_at(const struct group_scan *scan);
void group_scan_free(struct group_scan *scan); // NULL is fine
// Looks for what the tallies of this group do not know.
void group_again_forget(struct group_view *g);
int group_look_again(struct group_view *g, const struct row_source *src, size_t *budget, struct group *group);

// ---- group_look.c: what a group shows ------------------------------------------------------------------------------

struct group_seen {
    bool is; // there is a row
    struct uuid id;
    uint64_t digest;
    struct buf place, values;
    struct bytes *json;
};

void group_seen_free(struct group_seen *seen);

// Looking at groups in one state.
struct group_look {
    struct group_view *g;
    struct run run;
    bool open;
};

int group_look_open(struct group_look *look, struct group_view *g, const struct row_source *src, size_t budget);
void group_look_close(struct group_look *look, size_t *budget); // what is left of it
int group_look(struct group_look *look, const struct group *group, struct group_seen *out);
// A row of the state, which is the same in the state that is looked at.
int group_look_row(struct group_look *look, const struct group_row *row, struct bytes **json);

// ---- group_rows.c: the rows of the result --------------------------------------------------------------------------

struct group_row *group_row_find(const struct group_view *g, struct uuid id);
void group_rows_free(struct group_view *g);

// What a shift's groups show, one for each.
struct group_image {
    struct group_shift shift;
    struct group_seen *seen;
};

// A row that differs between two states, or may.
struct group_touch {
    struct uuid id;
    struct group_row *row; // in the view; NULL: it has none
    int64_t from_refs, to_refs;
    const struct group_seen *from, *to; // NULL: as the view's row, if it is there
};

struct group_touches {
    struct group_touch *all; // by id
    size_t n;
};

// `from` and `to`: images of those states beside what the view keeps; NULL: that is the state.
int group_touches_find(struct group_view *g, const struct group_image *from, const struct group_image *to, struct group_touches *out);
struct span group_place_from(const struct group_touch *t);
struct span group_place_to(const struct group_touch *t);
bool group_touch_changes(const struct group_touch *t); // stands in both, and is not the same
// The view's rows and groups become those of `to`. ERR_NOMEM, ERR_QUERY_TOO_EXPENSIVE, and then half of them are.
int group_rows_apply(struct group_view *g, struct group_image *to, const struct group_touches *touches);

// ---- group_diff.c --------------------------------------------------------------------------------------------------

// All of the result, as the values of a snapshot; `look` is at the state that the view keeps.
int group_show_all(struct group_view *g, struct group_look *look, struct feed_sink *sink);
// The steps from one state to the other; `look` is at the other. `from_kept`: the first is the one that the view keeps. Before group_rows_apply.
int group_diff(struct group_view *g, const struct group_touches *touches, struct group_look *look, bool from_kept, struct lazy_steps *out);

#endif
