// What a joined result's two states have different, row by row, and its steps as JSON.
#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "join_view.h"
#include "show.h"

#define BYTES_MAX (32 * MIB) // of the rows of one difference

int join_diff_number(struct join_diff *x, struct span key, size_t *number)
{
    int err = key_set_add(&x->keys, key, number, NULL);
    if (err) return err == ERR_TOO_LARGE ? ERR_RESULT_TOO_LARGE : err;
    if (*number < x->cap) return 0;
    size_t cap = x->cap ? x->cap * 2 : 16;
    struct join_row *rows = realloc(x->rows, cap * sizeof *rows);
    if (!rows) return ERR_NOMEM;
    memset(rows + x->cap, 0, (cap - x->cap) * sizeof *rows);
    x->rows = rows;
    x->cap = cap;
    return 0;
}

static int copy(struct join_diff *x, const struct buf *b, struct span *out)
{
    if (b->err) return b->err;
    if (arena_copy_span(x->arena, buf_span(b), out)) return 0;
    return arena_full(x->arena) ? ERR_RESULT_TOO_LARGE : ERR_NOMEM;
}

// Not in a window that ends before it: if it comes to be shown all the same, it is looked up.
static bool far_off(const struct join_view *j, struct span sort)
{
    return j->shape == JOIN_WINDOW && !j->whole && !j->stale && (j->keys.n == 0 || span_compare(sort, sort_key_span(j->keys.keys[j->keys.n - 1])) > 0);
}

static int show(struct join_diff *x, struct run *run)
{
    struct jw w;
    buf_clear(&x->text);
    jw_init(&w, &x->text);
    int err = show_targets(&w, run, x->j->l.plan->top);
    return err ? err : x->text.err;
}

static int take_before(struct join_diff *x, struct join_row *row, struct run *run)
{
    row->was = true;
    int err = x->j->shape == JOIN_SET ? 0 : copy(x, &x->sort, &row->old);
    if (err || far_off(x->j, buf_span(&x->sort))) return err;
    err = show(x, run);
    if (!err) row->digest = checksum64(buf_span(&x->text), 0);
    return err;
}

static int take_after(struct join_diff *x, struct join_row *row, struct run *run)
{
    row->is = true;
    int err = x->j->shape == JOIN_SET ? 0 : copy(x, &x->sort, &row->new);
    if (err || far_off(x->j, buf_span(&x->sort))) return err;
    err = show(x, run);
    if (!err) err = copy(x, &x->text, &row->json);
    row->same = !err && row->was && row->digest == checksum64(row->json, 0);
    return err;
}

static int take(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run)
{
    struct join_diff *x = (struct join_diff *)sink;
    size_t number;
    buf_clear(&x->sort);
    int err = x->j->shape == JOIN_SET ? 0 : join_sort_key(x->j->l.plan, run, &x->sort);
    if (!err) err = join_diff_number(x, key, &number);
    if (err) return err;
    return side == DELTA_BEFORE ? take_before(x, &x->rows[number], run) : take_after(x, &x->rows[number], run);
}

int join_diff_open(struct join_diff *x, struct join_view *j, const struct lazy_range *range)
{
    *x = (struct join_diff){.sink = {.row = take}, .j = j, .txn = range->txn, .to = range->to, .budget = QUERY_SCAN_MAX, .arena = arena_new(BYTES_MAX)};
    key_set_init(&x->keys, QUERY_MEMORY_MAX);
    buf_init(&x->text, QUERY_RESULT_MAX);
    buf_init(&x->sort, QUERY_SORT_MAX);
    return x->arena ? lazy_difference(&j->l, range, &x->budget, &x->sink) : ERR_NOMEM;
}

void join_diff_close(struct join_diff *x)
{
    arena_free(x->arena);
    key_set_free(&x->keys);
    free(x->rows);
    buf_free(&x->text);
    buf_free(&x->sort);
}

bool join_row_differs(const struct join_row *row)
{
    return row->was != row->is || !row->same || !span_equal(row->old, row->new);
}

// ---- steps ---------------------------------------------------------------------------------------------------------

struct look_up {
    struct delta_sink sink; // first
    struct join_diff *x;
};

static int take_text(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run)
{
    (void)side, (void)key;
    return show(((struct look_up *)sink)->x, run);
}

// A row that is shown because others have left.
static int find_json(struct join_diff *x, size_t number)
{
    struct look_up look_up = {.sink = {.row = take_text}, .x = x};
    struct row_source state = {.r = x->j->l.v.r, .txn = x->txn, .at = x->to};
    bool stands = false;
    int err = lazy_plan_for(&x->j->l, x->to);
    if (!err) err = delta_look_up(x->j->l.delta, &state, x->j->l.params, key_set_at(&x->keys, number), &x->budget, &look_up.sink, &stands, NULL);
    if (!err && !stands) err = ERR_INTERNAL;
    return err ? err : copy(x, &x->text, &x->rows[number].json);
}

// The key of a row that goes by its id is that id.
static int put_step(struct join_diff *x, const struct view_op *op, size_t number)
{
    const struct query *q = x->j->l.v.q;
    struct jw w;
    buf_clear(&x->text);
    buf_clear(&x->sort);
    run_key_text(x->j->l.plan->top, key_set_at(&x->keys, number), &x->sort);
    jw_init(&w, &x->text);
    view_op_begin(&w, op, buf_span(&x->sort));
    if (op->kind != VIEW_REMOVED) jw_raw(&w, x->rows[number].json);
    view_op_end(&w, op, query_keyed(q) ? buf_span(&x->sort) : SPAN_NONE, query_ordered(q));
    return x->sort.err ? x->sort.err : x->text.err;
}

int join_diff_step(struct join_diff *x, enum view_op_kind kind, size_t number, size_t at, size_t was, struct lazy_steps *out)
{
    const struct view_op op = {.kind = kind, .at = (uint32_t)at, .was = (uint32_t)was};
    int err = kind != VIEW_REMOVED && x->rows[number].json.n == 0 ? find_json(x, number) : 0;
    if (!err) err = put_step(x, &op, number);
    if (err) return err;
    struct bytes *value = bytes_new(buf_span(&x->text));
    return value ? lazy_steps_add(out, value) : ERR_NOMEM;
}
