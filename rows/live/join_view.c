// Views of joined rows, and of rows with selects within: computed from the difference of two states. A set (no order, no limit) keeps nothing of its
// rows. A list (ordered, unlimited) keeps the sort keys of all, a window (limited, or beginning further on) those up to some spare rows beyond its
// end, and asks the query's plan again when they run out.
#include "join_view.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

static size_t window_end(const struct join_view *j)
{
    const struct query *q = j->l.v.q;
    return q->has_limit ? q->offset + (size_t)q->limit : SIZE_MAX;
}

static size_t keys_kept(const struct join_view *j)
{
    return j->l.v.q->has_limit ? window_end(j) + VIEW_SPARE_ROWS : SIZE_MAX;
}

static int fill(struct join_view *j, struct db_txn *txn, uint64_t at)
{
    if (j->shape == JOIN_SET) return 0;
    sort_keys_free(&j->keys);
    int err = join_scan(j, txn, at, keys_kept(j), &j->keys, &j->whole);
    if (!err) err = view_hold(&j->l.v, sort_keys_held(&j->keys));
    j->stale = err != 0;
    return err;
}

// ---- lists ---------------------------------------------------------------------------------------------------------

// Sort keys that are the view's own, or a list of them as it was, put together from its pointers and what lies in the difference's arena.
struct list {
    struct sort_keys *keys;
    bool own;
    struct arena *arena;
};

static void take_out(struct list *list, size_t at)
{
    struct sort_keys *keys = list->keys;
    if (list->own) {
        sort_keys_remove(keys, at);
        return;
    }
    keys->n--;
    memmove(keys->keys + at, keys->keys + at + 1, (keys->n - at) * sizeof *keys->keys);
}

static int put_in(struct list *list, size_t at, struct span key)
{
    struct sort_keys *keys = list->keys;
    if (list->own) return sort_keys_insert(keys, at, key);
    struct sort_key *k = arena_alloc(list->arena, sizeof *k + key.n);
    if (!k) return ERR_NOMEM;
    k->n = (uint32_t)key.n;
    memcpy(k->b, key.p, key.n);
    assert(keys->n < keys->cap);
    memmove(keys->keys + at + 1, keys->keys + at, (keys->n - at) * sizeof *keys->keys);
    keys->keys[at] = k;
    keys->n++;
    return 0;
}

// What is known of a list and what a difference tells are of the same rows; else the one or the other is wrong.
static int list_step(struct list *list, struct span old, struct span new, size_t *was, size_t *at)
{
    bool found = false;
    if (old.n > 0) {
        *was = sort_keys_find(list->keys, old, &found);
        if (!found) return ERR_INTERNAL;
        take_out(list, *was);
    }
    if (new.n == 0) return 0;
    *at = sort_keys_find(list->keys, new, &found);
    return found ? ERR_INTERNAL : put_in(list, *at, new);
}

static int list_steps(struct join_diff *x, struct list *list, struct lazy_steps *out)
{
    int err = 0;
    for (size_t i = 0; i < join_diff_count(x) && !err; i++) {
        const struct join_row *row = &x->rows[i];
        size_t at = 0, was = 0;
        if (!join_row_differs(row)) continue;
        err = list_step(list, row->old, row->new, &was, &at);
        if (!err) err = join_diff_step(x, !row->is ? VIEW_REMOVED : row->was ? VIEW_CHANGED : VIEW_ADDED, i, at, was, out);
    }
    return !err && list->keys->n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : err;
}

static int set_steps(struct join_diff *x, struct lazy_steps *out)
{
    int err = 0;
    for (size_t i = 0; i < join_diff_count(x) && !err; i++) {
        const struct join_row *row = &x->rows[i];
        if (join_row_differs(row)) err = join_diff_step(x, !row->is ? VIEW_REMOVED : row->was ? VIEW_CHANGED : VIEW_ADDED, i, 0, 0, out);
    }
    return err;
}

// The list as it was before the difference: what has come is taken out of it, and what has gone put in.
static int list_before(struct join_diff *x, struct list *list)
{
    int err = 0;
    size_t unused;
    for (size_t i = 0; i < join_diff_count(x) && !err; i++)
        if (join_row_differs(&x->rows[i])) err = list_step(list, x->rows[i].new, SPAN_NONE, &unused, &unused);
    for (size_t i = 0; i < join_diff_count(x) && !err; i++)
        if (join_row_differs(&x->rows[i])) err = list_step(list, SPAN_NONE, x->rows[i].old, &unused, &unused);
    return err;
}

static int list_behind(struct join_diff *x, struct lazy_steps *out)
{
    const struct sort_keys *now = &x->j->keys;
    struct sort_keys keys = {.n = now->n, .cap = now->n + join_diff_count(x)};
    struct list list = {.keys = &keys, .arena = x->arena};
    keys.keys = malloc((keys.cap + 1) * sizeof *keys.keys);
    if (!keys.keys) return ERR_NOMEM;
    if (now->n > 0) memcpy(keys.keys, now->keys, now->n * sizeof *keys.keys);
    int err = list_before(x, &list);
    if (!err) err = list_steps(x, &list, out);
    free(keys.keys);
    return err;
}

// ---- windows -------------------------------------------------------------------------------------------------------

// Rows that are shown, by their numbers in the difference, written as ids.
struct shown {
    struct uuid *ids;
    size_t n;
};

static struct uuid id_of(size_t number)
{
    struct uuid id = {.b = {0}};
    uint64_t n = number;
    memcpy(id.b, &n, sizeof n);
    return id;
}

static size_t number_of(struct uuid id)
{
    uint64_t n;
    memcpy(&n, id.b, sizeof n);
    return (size_t)n;
}

static int take_shown(struct join_diff *x, const struct sort_keys *keys, struct shown *out)
{
    size_t first = x->j->l.v.q->offset, end = keys->n < window_end(x->j) ? keys->n : window_end(x->j);
    int err = 0;
    out->ids = malloc((keys->n + 1) * sizeof *out->ids);
    if (!out->ids) return ERR_NOMEM;
    for (size_t i = first; i < end && !err; i++) {
        size_t number;
        err = join_diff_number(x, join_sort_name(sort_key_span(keys->keys[i])), &number);
        out->ids[out->n++] = id_of(number);
    }
    return !err && out->n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : err;
}

static int window_steps(struct join_diff *x, const struct shown *before, const struct shown *after, struct lazy_steps *out)
{
    struct id_set touched = {.ids = NULL};
    struct view_ops ops = {.ops = NULL};
    int err = 0;
    for (size_t i = 0; i < join_diff_count(x) && !err; i++)
        if (x->rows[i].was && x->rows[i].is && join_row_differs(&x->rows[i])) err = id_set_add(&touched, id_of(i));
    id_set_sort(&touched);
    if (!err) err = view_diff(before->ids, before->n, after->ids, after->n, &touched, &ops);
    for (size_t i = 0; i < ops.n && !err; i++)
        err = join_diff_step(x, ops.ops[i].kind, number_of(ops.ops[i].id), ops.ops[i].at, ops.ops[i].was, out);
    view_ops_free(&ops);
    id_set_free(&touched);
    return err;
}

// Only the keys up to the last one are known, unless they are all: what lies beyond is nobody's until the window is filled again.
static int window_row(struct join_view *j, const struct join_row *row)
{
    bool found = false;
    size_t at;
    if (row->old.n > 0) {
        at = sort_keys_find(&j->keys, row->old, &found);
        if (found) sort_keys_remove(&j->keys, at);
        else if (j->whole || at < j->keys.n) return ERR_INTERNAL;
    }
    return 0;
}

static int window_row_in(struct join_view *j, const struct join_row *row, struct span edge)
{
    bool found = false;
    if (row->new.n == 0 || (!j->whole && span_compare(row->new, edge) > 0)) return 0;
    size_t at = sort_keys_find(&j->keys, row->new, &found);
    return found ? ERR_INTERNAL : sort_keys_insert(&j->keys, at, row->new);
}

// The last key that is known of says how far the window is known, though that very row may leave.
static int move_window(struct join_diff *x)
{
    struct join_view *j = x->j;
    struct span edge = SPAN_NONE;
    int err = 0;
    if (j->keys.n > 0 && !arena_copy_span(x->arena, sort_key_span(j->keys.keys[j->keys.n - 1]), &edge)) return ERR_NOMEM;
    for (size_t i = 0; i < join_diff_count(x) && !err; i++)
        if (join_row_differs(&x->rows[i])) err = window_row(j, &x->rows[i]);
    for (size_t i = 0; i < join_diff_count(x) && !err; i++)
        if (join_row_differs(&x->rows[i])) err = window_row_in(j, &x->rows[i], edge);
    while (!err && j->l.v.q->has_limit && j->keys.n > keys_kept(j) + VIEW_SPARE_ROWS) {
        sort_keys_remove(&j->keys, j->keys.n - 1);
        j->whole = false;
    }
    return !err && !j->whole && j->keys.n < window_end(j) ? fill(j, x->txn, x->to) : err;
}

static int advance_window(struct join_diff *x, struct lazy_steps *out)
{
    struct shown before = {.n = 0}, after = {.n = 0};
    int err = take_shown(x, &x->j->keys, &before);
    if (!err) err = move_window(x);
    if (!err) err = take_shown(x, &x->j->keys, &after);
    if (!err) err = window_steps(x, &before, &after, out);
    free(before.ids);
    free(after.ids);
    return err;
}

static int scan_shown(struct join_diff *x, uint64_t at, struct shown *out)
{
    struct sort_keys keys = {.keys = NULL};
    bool whole;
    int err = join_scan(x->j, x->txn, at, window_end(x->j), &keys, &whole);
    if (!err) err = take_shown(x, &keys, out);
    sort_keys_free(&keys);
    return err;
}

// Both states looked up as a whole: of a window, and of a list that has gone on since.
static int compare_shown(struct join_diff *x, uint64_t from, struct lazy_steps *out)
{
    struct shown before = {.n = 0}, after = {.n = 0};
    int err = scan_shown(x, from, &before);
    if (!err) err = scan_shown(x, x->to, &after);
    if (!err) err = window_steps(x, &before, &after, out);
    free(before.ids);
    free(after.ids);
    return err;
}

// ---- the kind ------------------------------------------------------------------------------------------------------

static int advance(struct lazy_view *l, const struct lazy_range *range, struct lazy_steps *out)
{
    struct join_view *j = join_view_of(l);
    struct join_diff x;
    int err = j->stale ? fill(j, range->txn, range->from) : 0;
    if (err) return err;
    err = join_diff_open(&x, j, range);
    if (!err && j->shape == JOIN_SET) err = set_steps(&x, out);
    if (!err && j->shape == JOIN_LIST) err = list_steps(&x, &(struct list){.keys = &j->keys, .own = true}, out);
    if (!err && j->shape == JOIN_WINDOW) err = advance_window(&x, out);
    join_diff_close(&x);
    return err ? err : view_hold(&l->v, sort_keys_held(&j->keys));
}

static int catch_up(struct lazy_view *l, const struct lazy_range *range, struct lazy_steps *out)
{
    struct join_view *j = join_view_of(l);
    struct join_diff x;
    bool here = !j->stale && lazy_stands_at(l, range->to);
    int err = join_diff_open(&x, j, range);
    if (!err && j->shape == JOIN_SET) err = set_steps(&x, out);
    else if (!err) err = j->shape == JOIN_LIST && here ? list_behind(&x, out) : compare_shown(&x, range->from, out);
    join_diff_close(&x);
    return err;
}

static void lose(struct lazy_view *l)
{
    struct join_view *j = join_view_of(l);
    sort_keys_free(&j->keys);
    view_hold(&l->v, 0);
    j->whole = false;
    j->stale = j->shape != JOIN_SET;
}

static const struct lazy_ops lazy = {.advance = advance, .catch_up = catch_up, .lose = lose};

static void close_view(struct view *v)
{
    sort_keys_free(&join_view_of(lazy_view_of(v))->keys);
    lazy_close(v);
}

static int open_view(struct view *v, struct db_txn *txn)
{
    struct join_view *j = join_view_of(lazy_view_of(v));
    const struct query *q = v->q;
    int err = lazy_open(v, &lazy);
    if (err) return err;
    j->shape = q->has_limit || q->offset > 0 ? JOIN_WINDOW : query_ordered(q) ? JOIN_LIST : JOIN_SET;
    err = fill(j, txn, j->l.settled);
    if (err) close_view(v);
    return err;
}

const struct view_kind join_view_kind = {
    .name = "joined",
    .size = sizeof(struct join_view),
    .open = open_view,
    .close = close_view,
    .row = lazy_row,
    .snapshot = view_snapshot_plain,
    .reach = lazy_reach,
    .changes = lazy_changes,
};
