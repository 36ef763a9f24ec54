#include "group_view.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"

#define LOOKS_BY_CLOCK 64 // groups looked at between two looks at the clock

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

// Once the joined rows are in the shift: nothing is lost in it, and there is room for what its groups show.
static int image_settle(struct group_view *g, struct group_image *image, const struct row_source *src, size_t *budget)
{
    int err = meet_the_only(g, image);
    if (!err) err = look_again(g, image, src, budget);
    if (err) return err;
    image->seen = calloc(image->shift.n + 1, sizeof *image->seen);
    return image->seen ? 0 : ERR_NOMEM;
}

// What its groups show, from *at on. EXEC_MORE: `end_us` (0: never) has come.
static int image_look(struct group_image *image, struct group_look *look, size_t *at, uint64_t end_us)
{
    for (size_t looked = 0; *at < image->shift.n; ++*at, looked++) {
        if (end_us > 0 && looked % LOOKS_BY_CLOCK == LOOKS_BY_CLOCK - 1 && clock_mono_us() > end_us) return EXEC_MORE;
        int err = group_look(look, image->shift.all[*at]->now, &image->seen[*at]);
        if (err) return err;
    }
    return 0;
}

// Both. `look` is left open in that state.
static int image_finish(struct group_view *g, struct group_image *image, const struct row_source *src, size_t *budget, struct group_look *look)
{
    size_t at = 0;
    int err = image_settle(g, image, src, budget);
    if (!err) err = group_look_open(look, g, src, *budget);
    return err ? err : image_look(image, look, &at, 0);
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
    struct delta_states states = {.before = {.r = g->l.v.r, .txn = txn, .at = from}, .after = {.r = g->l.v.r, .txn = txn, .at = to}, .params = g->l.params, .end_us = lazy_deadline(&g->l)};
    int err = delta_run(g->l.delta, &states, rows, budget, &sink.sink, NULL);
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

// ---- what is kept --------------------------------------------------------------------------------------------------

// Filling goes through all rows, in the steps of the first snapshot; who reads changes before that is done waits for the rest of it.
struct group_filling {
    struct plan *plan; // that the image was begun with
    struct group_image image;
    struct group_scan *scan; // until all rows are in
    size_t looked;           // groups, then
    uint64_t at;
};

static void stop_filling(struct group_view *g)
{
    if (!g->filling) return;
    group_scan_free(g->filling->scan);
    image_close(&g->filling->image);
    plan_unref(g->filling->plan);
    free(g->filling);
    g->filling = NULL;
}

static void empty(struct group_view *g)
{
    stop_filling(g);
    g->filled = false;
    if (!g->made) return;
    group_rows_free(g);
    group_state_free(&g->state, group_select(g));
    g->made = false;
}

static int make_tables(struct group_view *g)
{
    int err = group_state_init(&g->state, g->l.v.r);
    if (err) return err;
    err = hash_table_init(&g->rows);
    if (err) group_state_free(&g->state, group_select(g));
    g->list = (struct sort_keys){.keys = NULL};
    g->made = !err;
    return err;
}

static int begin_filling(struct group_view *g, struct db_txn *txn)
{
    const struct row_source src = {.r = g->l.v.r, .txn = txn, .at = g->l.settled};
    struct group_filling *f;
    int err = rows_not_too_old(g->l.v.r, src.at, NULL);
    if (!err) err = lazy_plan_for(&g->l, src.at);
    if (!err) err = make_tables(g);
    if (err) return err;
    f = calloc(1, sizeof *f);
    if (!f) return ERR_NOMEM;
    f->at = src.at;
    err = image_open(&f->image, g);
    if (err) {
        free(f);
        return err;
    }
    f->plan = plan_ref(g->l.plan);
    g->filling = f;
    return group_scan_new(g, &src, &f->image.shift, &f->scan);
}

static int scan_some(struct group_view *g, struct db_txn *txn, size_t keys, uint64_t end_us)
{
    struct group_filling *f = g->filling;
    const struct row_source src = {.r = g->l.v.r, .txn = txn, .at = f->at};
    size_t budget = QUERY_SCAN_MAX;
    if (!f->scan) return 0;
    int err = group_scan_step(f->scan, txn, keys, end_us);
    if (err) return err;
    g->looked_at += group_scan_looked_at(f->scan);
    group_scan_free(f->scan);
    f->scan = NULL;
    err = image_settle(g, &f->image, &src, &budget);
    return !err && end_us > 0 && f->image.shift.n > LOOKS_BY_CLOCK ? EXEC_MORE : err;
}

static int look_some(struct group_view *g, struct db_txn *txn, uint64_t end_us)
{
    struct group_filling *f = g->filling;
    const struct row_source src = {.r = g->l.v.r, .txn = txn, .at = f->at};
    struct group_look look = {.open = false};
    size_t budget = QUERY_SCAN_MAX;
    int err = lazy_plan_for(&g->l, f->at);
    if (!err) err = group_look_open(&look, g, &src, budget);
    if (!err) err = image_look(&f->image, &look, &f->looked, end_us);
    group_look_close(&look, &budget);
    return err;
}

// All groups are looked at: they are what the view keeps.
static int end_filling(struct group_view *g)
{
    struct group_touches touches = {.all = NULL};
    int err = group_touches_find(g, NULL, &g->filling->image, &touches);
    if (!err) err = group_rows_apply(g, &g->filling->image, &touches);
    free(touches.all);
    if (err) return err;
    stop_filling(g);
    g->filled = true;
    return 0;
}

// Some of it; EXEC_MORE: there is more. An index that goes meanwhile means another plan.
static int fill_some(struct group_view *g, struct db_txn *txn, size_t keys, uint64_t end_us)
{
    int err = 0;
    if (g->filled) return 0;
    if (!g->filling) err = begin_filling(g, txn);
    if (!err) err = rows_not_too_old(g->l.v.r, g->filling->at, NULL);
    if (!err) err = scan_some(g, txn, keys, end_us);
    if (!err) err = look_some(g, txn, end_us);
    if (!err) err = end_filling(g);
    if (err && err != EXEC_MORE) empty(g);
    return err == ERR_CANCELED ? EXEC_MORE : err;
}

static int fill(struct group_view *g, struct db_txn *txn)
{
    uint64_t end_us = view_deadline(g->l.v.r->views.fill_us);
    int err;
    do
        err = fill_some(g, txn, QUERY_SCAN_MAX, end_us);
    while (err == EXEC_MORE && (end_us == 0 || clock_mono_us() < end_us));
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

// ---- from one state to another -------------------------------------------------------------------------------------

static int advance_to(struct group_view *g, const struct lazy_range *range, size_t *budget, struct group_image *image, struct group_look *look, struct lazy_steps *out)
{
    const struct row_source src = {.r = g->l.v.r, .txn = range->txn, .at = range->to};
    struct group_touches touches = {.all = NULL};
    int err = image_shift(g, range->txn, range->from, range->to, range->rows, budget, image);
    if (!err) err = image_finish(g, image, &src, budget, look);
    if (!err) err = group_touches_find(g, NULL, image, &touches);
    if (!err) err = group_diff(g, &touches, look, true, out);
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
    if (!err) err = fill(g, range->txn);
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
    if (!err) err = group_diff(g, &touches, look, false, out);
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
    if (!err) err = fill(g, range->txn);
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

// ---- snapshots -----------------------------------------------------------------------------------------------------

#define FILL_STEP_KEYS 8192 // as query_run.c has them: so that a long search does not hold up the owner
#define FILL_STEP_US 10000
#define SHOWN_AT_ONCE 1000 // rows of a snapshot that are made of what the view keeps

static int show_kept(struct group_view *g, struct db_txn *txn, uint64_t at, struct feed_sink *sink)
{
    const struct row_source src = {.r = g->l.v.r, .txn = txn, .at = at};
    struct group_look look = {.open = false};
    size_t budget = QUERY_SCAN_MAX;
    int err = lazy_plan_for(&g->l, at);
    if (!err) err = group_look_open(&look, g, &src, budget);
    if (!err) err = group_show_all(g, &look, sink);
    group_look_close(&look, &budget);
    g->looked_at += QUERY_SCAN_MAX - budget;
    return err;
}

// The first one fills the view, whose groups are then shown to all who come with its state. Who asks for another state, or for many groups, has the query run:
// where the view cannot be filled as of its state, that one may be well.
static int snapshot(struct view_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    struct group_view *g = group_view_of(lazy_view_of((struct view *)sub->sub.feed));
    int err = sub->run ? 0 : fill_some(g, txn, FILL_STEP_KEYS, clock_mono_us() + FILL_STEP_US);
    *done = false;
    if (err == EXEC_MORE) return 0;
    if (err && err != ERR_TOO_OLD && err != ERR_BAD_VALUE && err != ERR_RESULT_TOO_LARGE) return err;
    if (err || sub->run || !lazy_stands_at(&g->l, at) || g->rows.count > SHOWN_AT_ONCE) return view_snapshot_plain(sub, txn, at, budget, sink, done);
    *done = true;
    return show_kept(g, txn, at, sink);
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
    (void)txn; // it is filled when somebody asks
    static const struct lazy_ops ops = {.advance = advance, .catch_up = catch_up, .lose = lose};
    int err = lazy_open(v, &ops);
    if (err) return err;
    struct group_view *g = group_view_of(lazy_view_of(v));
    err = find_order(g);
    if (err) close_view(v);
    return err;
}

const struct view_kind group_view_kind = {
    .name = "groups",
    .size = sizeof(struct group_view),
    .open = open_view,
    .close = close_view,
    .row = lazy_row,
    .snapshot = snapshot,
    .reach = lazy_reach,
    .changes = lazy_changes,
};
