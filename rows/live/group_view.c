#include "group_view.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

// ---- images --------------------------------------------------------------------------------------------------------

static int image_open(struct group_image *image, struct group_view *g)
{
    image->seen = NULL;
    return group_shift_init(&image->shift, &g->state, group_select(g));
}

static void image_close(struct group_image *image)
{
    for (size_t i = 0; image->seen && i < image->shift.n; i++)
        group_seen_free(&image->seen[i]);
    free(image->seen);
    group_shift_free(&image->shift);
}

// The one group of a query that groups by nothing is there without any row, and may show a select within that changes.
static int meet_the_only(struct group_view *g, struct group_image *image)
{
    const struct select *s = group_select(g);
    struct shifted *x;
    return s->grouped && s->group_count == 0 ? group_shift_meet(&image->shift, SPAN_NONE, &x) : 0;
}

static int look_again(struct group_view *g, struct group_image *image, const struct row_source *src, size_t *budget)
{
    int err = 0;
    for (size_t i = 0; i < image->shift.n && !err; i++) {
        struct group *group = image->shift.all[i]->now;
        if (group_is_lost(group, group_select(g))) err = group_look_again(g, src, budget, group);
    }
    return err;
}

static int look_at_all(struct group_image *image, struct group_look *look)
{
    int err = 0;
    image->seen = calloc(image->shift.n + 1, sizeof *image->seen);
    if (!image->seen) return ERR_NOMEM;
    for (size_t i = 0; i < image->shift.n && !err; i++)
        err = group_look(look, image->shift.all[i]->now, &image->seen[i]);
    return err;
}

// Once the joined rows are in the shift: what the groups show in that state. `look` is left open there.
static int image_finish(struct group_view *g, struct group_image *image, const struct row_source *src, size_t *budget, struct group_look *look)
{
    int err = meet_the_only(g, image);
    if (!err) err = look_again(g, image, src, budget);
    if (!err) err = group_look_open(look, g, src, *budget);
    return err ? err : look_at_all(image, look);
}

struct shift_sink {
    struct delta_sink sink; // first
    struct group_shift *shift;
};

static int shift_row(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run)
{
    (void)key;
    return group_shift_row(((struct shift_sink *)sink)->shift, run, side == DELTA_BEFORE);
}

// From the state of the view to another one, later or earlier; `rows` are touched between them.
static int image_shift(struct group_view *g, struct db_txn *txn, uint64_t from, uint64_t to, struct delta_rows *rows, size_t *budget, struct group_image *image)
{
    struct shift_sink sink = {.sink = {.row = shift_row}, .shift = &image->shift};
    struct delta_states states = {.before = {.r = g->l.v.r, .txn = txn, .at = from}, .after = {.r = g->l.v.r, .txn = txn, .at = to}, .params = g->l.params};
    int err = delta_run(g->l.delta, &states, rows, budget, &sink.sink, NULL);
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

// ---- what is kept --------------------------------------------------------------------------------------------------

static void empty(struct group_view *g)
{
    if (!g->filled) return;
    group_rows_free(g);
    group_state_free(&g->state, group_select(g));
    g->filled = false;
}

static int make_empty(struct group_view *g)
{
    int err = group_state_init(&g->state, g->l.v.r);
    if (err) return err;
    err = hash_table_init(&g->rows);
    if (err) group_state_free(&g->state, group_select(g));
    g->list = (struct sort_keys){.keys = NULL};
    g->filled = !err;
    return err;
}

static int fill_image(struct group_view *g, const struct row_source *src)
{
    size_t budget = QUERY_SCAN_MAX;
    struct group_image image;
    struct group_look look = {.open = false};
    struct group_touches touches = {.all = NULL};
    int err = image_open(&image, g);
    if (err) return err;
    err = group_scan(g, src, &budget, &image.shift);
    if (!err) err = image_finish(g, &image, src, &budget, &look);
    if (!err) err = group_touches_find(g, NULL, &image, &touches);
    if (!err) err = group_rows_apply(g, &image, &touches);
    group_look_close(&look, &budget);
    g->looked_at += QUERY_SCAN_MAX - budget;
    free(touches.all);
    image_close(&image);
    return err;
}

// As of this seq; the plan can answer for it.
static int fill(struct group_view *g, struct db_txn *txn, uint64_t at)
{
    const struct row_source src = {.r = g->l.v.r, .txn = txn, .at = at};
    if (g->filled) return 0;
    int err = make_empty(g);
    if (!err) err = fill_image(g, &src);
    if (err) empty(g);
    return err;
}

// ---- from one state to another -------------------------------------------------------------------------------------

static int advance_to(struct group_view *g, const struct lazy_range *range, size_t *budget, struct group_image *image, struct group_look *look, struct lazy_steps *out)
{
    const struct row_source src = {.r = g->l.v.r, .txn = range->txn, .at = range->to};
    struct group_touches touches = {.all = NULL};
    int err = image_shift(g, range->txn, range->from, range->to, range->rows, budget, image);
    if (!err) err = image_finish(g, image, &src, budget, look);
    if (!err) err = group_touches_find(g, NULL, image, &touches);
    if (!err) err = group_diff(g, &touches, look, out);
    if (!err) err = group_rows_apply(g, image, &touches);
    free(touches.all);
    return err;
}

static int advance(struct lazy_view *l, const struct lazy_range *range, struct lazy_steps *out)
{
    struct group_view *g = group_view_of(l);
    size_t budget = QUERY_SCAN_MAX;
    struct group_image image;
    struct group_look look = {.open = false};
    int err = lazy_plan_for(l, range->from);
    if (!err) err = fill(g, range->txn, range->from);
    if (!err) err = image_open(&image, g);
    if (err) return err;
    err = advance_to(g, range, &budget, &image, &look, out);
    group_look_close(&look, &budget);
    g->looked_at += QUERY_SCAN_MAX - budget;
    image_close(&image);
    return err;
}

// ---- for readers who are behind ------------------------------------------------------------------------------------

static int add_touched(struct group_view *g, struct db_txn *txn, uint64_t from, uint64_t to, struct delta_rows *rows)
{
    const struct plan *plan = g->l.plan;
    int err = 0;
    for (uint32_t i = 0; i < plan->table_slots && !err; i++) {
        struct id_set ids = {.ids = NULL};
        uint64_t reached;
        err = touched_rows(g->l.v.r, txn, plan->tables[i], from, to, QUERY_SCAN_MAX, SIZE_MAX, &ids, &reached);
        for (size_t k = 0; k < ids.n && !err; k++)
            err = delta_rows_add(rows, i, ids.ids[k]);
        id_set_free(&ids);
    }
    return err;
}

// An earlier state than the view's: found backwards, from what was touched since.
static int image_of(struct group_view *g, struct db_txn *txn, uint64_t at, size_t *budget, struct group_image *image, struct group_look *look)
{
    const struct row_source src = {.r = g->l.v.r, .txn = txn, .at = at};
    struct delta_rows rows = {.rows = NULL};
    int err = at < g->l.settled ? add_touched(g, txn, at, g->l.settled, &rows) : 0;
    if (!err && rows.n > 0) err = image_shift(g, txn, g->l.settled, at, &rows, budget, image);
    if (!err) err = image_finish(g, image, &src, budget, look);
    delta_rows_free(&rows);
    return err;
}

static int steps_between(struct group_view *g, struct group_image *from, struct group_image *to, struct group_look *look, struct lazy_steps *out)
{
    struct group_touches touches = {.all = NULL};
    int err = group_touches_find(g, from, to, &touches);
    if (!err) err = group_diff(g, &touches, look, out);
    free(touches.all);
    return err;
}

// Both states are images beside the view's own, which stays as it is.
static int catch_up(struct lazy_view *l, const struct lazy_range *range, struct lazy_steps *out)
{
    struct group_view *g = group_view_of(l);
    size_t budget = QUERY_SCAN_MAX;
    struct group_image from, to;
    struct group_look look_from = {.open = false}, look_to = {.open = false};
    int err = lazy_plan_for(l, range->from);
    if (!err) err = fill(g, range->txn, l->settled);
    if (!err) err = image_open(&from, g);
    if (err) return err;
    err = image_open(&to, g);
    if (!err) {
        err = image_of(g, range->txn, range->from, &budget, &from, &look_from);
        group_look_close(&look_from, &budget);
        if (!err) err = image_of(g, range->txn, range->to, &budget, &to, &look_to);
        if (!err) err = steps_between(g, &from, &to, &look_to, out);
        group_look_close(&look_to, &budget);
        g->looked_at += QUERY_SCAN_MAX - budget;
        image_close(&to);
    }
    image_close(&from);
    return err;
}

static void lose(struct lazy_view *l)
{
    empty(group_view_of(l));
}

// ---- the kind ------------------------------------------------------------------------------------------------------

// DISTINCT rows are ordered by what they show: by which of that?
static int find_order(struct group_view *g)
{
    const struct select *s = group_select(g);
    if (!s->distinct) return 0;
    g->order = calloc(s->order_count + 1, sizeof *g->order);
    if (!g->order) return ERR_NOMEM;
    for (size_t i = 0; i < s->order_count; i++) {
        while (g->order[i] < s->target_count && !expr_same(s->order[i].expr, s->targets[g->order[i]].expr))
            g->order[i]++;
        assert(g->order[i] < s->target_count); // or it would not have been compiled
    }
    return 0;
}

static void close_view(struct view *v)
{
    struct group_view *g = group_view_of(lazy_view_of(v));
    empty(g);
    group_again_forget(g);
    free(g->order);
    lazy_close(v);
}

static int open_view(struct view *v, struct db_txn *txn)
{
    static const struct lazy_ops ops = {.advance = advance, .catch_up = catch_up, .lose = lose};
    int err = lazy_open(v, &ops);
    if (err) return err;
    struct group_view *g = group_view_of(lazy_view_of(v));
    err = find_order(g);
    if (!err) err = lazy_plan_for(&g->l, g->l.settled);
    if (!err) err = fill(g, txn, g->l.settled);
    if (err) close_view(v);
    return err;
}

const struct view_kind group_view_kind = {
    .name = "groups",
    .size = sizeof(struct group_view),
    .open = open_view,
    .close = close_view,
    .row = lazy_row,
    .snapshot = view_snapshot_plain,
    .reach = lazy_reach,
    .changes = lazy_changes,
};
