// Views of rows of one table, kept current from the changed rows' images alone. A set (no order, no limit) keeps nothing of its rows: a row before and after a
// commit says all. A list (ordered, unlimited) keeps the keys of all its rows. A window (limited, or beginning further on) keeps the keys up to some spare
// rows beyond its end, and looks through the table again when those run out.
#include "table_view.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

static size_t window_end(const struct table_view *t)
{
    const struct query *q = t->v.q;
    return q->has_limit ? q->offset + (size_t)q->limit : SIZE_MAX;
}

static size_t keys_kept(const struct table_view *t)
{
    return t->v.q->has_limit ? window_end(t) + VIEW_SPARE_ROWS : SIZE_MAX;
}

static int hold(struct table_view *t)
{
    return view_hold(&t->v, sort_keys_held(&t->keys));
}

// What cannot go on keeps nothing. Returns the error.
static int let_go(struct table_view *t, int err)
{
    sort_keys_free(&t->keys);
    view_hold(&t->v, 0);
    return err;
}

static int fill(struct table_view *t, struct db_txn *txn, uint64_t seq)
{
    if (t->shape == TABLE_SET) return 0;
    sort_keys_free(&t->keys);
    int err = scan_keys(t->v.r, txn, t->v.q, seq, keys_kept(t), &t->keys, &t->whole);
    return err ? err : hold(t);
}

static int open_view(struct view *v, struct db_txn *txn)
{
    struct table_view *t = table_view_of(v);
    const struct query *q = v->q;
    const struct select *s = q->plan->top;
    t->shape = q->has_limit || q->offset > 0 ? TABLE_WINDOW : query_ordered(q) ? TABLE_LIST : TABLE_SET;
    int err = fill(t, txn, v->r->seq);
    if (!err) err = view_listen(v, &t->interest, q->table, s->levels[0].slot, s->where, s->where_count);
    return err ? let_go(t, err) : 0;
}

static void close_view(struct view *v)
{
    struct table_view *t = table_view_of(v);
    interests_remove(v->r->views.interests, &t->interest);
    sort_keys_free(&t->keys);
    free(t->before);
    id_set_free(&t->touched);
}

// ---- lists ---------------------------------------------------------------------------------------------------------

static int list_row(struct table_view *t, uint64_t seq, const struct row_change *c, struct span old, struct span new)
{
    struct view_op op = {.id = c->id};
    bool was = false, is = false;
    if (old.n > 0) {
        op.was = (uint32_t)sort_keys_find(&t->keys, old, &was);
        if (!was) return ERR_INTERNAL;
        sort_keys_remove(&t->keys, op.was);
    }
    if (new.n > 0) {
        op.at = (uint32_t)sort_keys_find(&t->keys, new, &is);
        if (is) return ERR_INTERNAL;
        int err = sort_keys_insert(&t->keys, op.at, new);
        if (err) return err;
    }
    op.kind = new.n == 0 ? VIEW_REMOVED : was ? VIEW_CHANGED : VIEW_ADDED;
    view_record(&t->v, seq, op);
    return t->keys.n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : hold(t);
}

// ---- windows -------------------------------------------------------------------------------------------------------

static size_t shown(const struct table_view *t)
{
    size_t end = t->keys.n < window_end(t) ? t->keys.n : window_end(t);
    return end > t->v.q->offset ? end - t->v.q->offset : 0;
}

static struct uuid *copy_shown(const struct table_view *t)
{
    size_t n = shown(t);
    struct uuid *ids = malloc((n + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < n; i++)
        ids[i] = sort_key_id(t->keys.keys[t->v.q->offset + i]);
    return ids;
}

static int window_moves(struct table_view *t)
{
    if (t->v.moved) return 0;
    t->before = copy_shown(t);
    if (!t->before) return ERR_NOMEM;
    t->before_count = shown(t);
    view_moves(&t->v);
    return 0;
}

// Only the keys up to the last one are known, unless they are all: what lies beyond is somebody else's until the window is filled again.
static int window_row(struct table_view *t, const struct row_change *c, struct span old, struct span new)
{
    bool held = false, there = false;
    size_t old_at = old.n > 0 ? sort_keys_find(&t->keys, old, &held) : 0;
    size_t new_at = new.n > 0 ? sort_keys_find(&t->keys, new, &there) : 0;
    bool enters = new.n > 0 && (t->whole || new_at < t->keys.n);
    if (there && !(held && old_at == new_at)) return ERR_INTERNAL;
    if (!held && !enters) return 0;
    int err = window_moves(t);
    if (!err) err = id_set_add(&t->touched, c->id);
    if (err) return err;
    if (held) sort_keys_remove(&t->keys, old_at);
    if (held && old_at < new_at) new_at--;
    if (enters) err = sort_keys_insert(&t->keys, new_at, new);
    while (!err && t->v.q->has_limit && t->keys.n > keys_kept(t) + VIEW_SPARE_ROWS) {
        sort_keys_remove(&t->keys, t->keys.n - 1);
        t->whole = false;
    }
    if (!err && shown(t) > QUERY_ROWS_MAX) err = ERR_RESULT_TOO_LARGE;
    return err ? err : hold(t);
}

static int record_moves(struct table_view *t, uint64_t seq, const struct uuid *after)
{
    struct view_ops ops = {.ops = NULL};
    id_set_sort(&t->touched);
    int err = view_diff(t->before, t->before_count, after, shown(t), &t->touched, &ops);
    for (size_t i = 0; i < ops.n && !err; i++)
        view_record(&t->v, seq, ops.ops[i]);
    view_ops_free(&ops);
    return err;
}

static int window_commit(struct view *v, struct db_txn *txn, uint64_t seq)
{
    struct table_view *t = table_view_of(v);
    int err = !t->whole && t->keys.n < window_end(t) ? fill(t, txn, seq) : 0;
    struct uuid *after = err ? NULL : copy_shown(t);
    if (!err) err = after ? record_moves(t, seq, after) : ERR_NOMEM;
    free(after);
    free(t->before);
    t->before = NULL;
    t->touched.n = 0;
    return err ? let_go(t, err) : 0;
}

// ---- rows that change ----------------------------------------------------------------------------------------------

struct image {
    bool in; // the result, limits aside
    struct buf key;
};

static int take_image(struct table_view *t, struct uuid id, const struct row *row, struct image *out)
{
    const struct query *q = t->v.q;
    struct arena *scratch = t->v.r->scratch;
    struct query_row at;
    query_row_open(&at, q, scratch, id, row);
    int err = query_row_matches(&at, q, &out->in);
    if (!err && out->in && t->shape != TABLE_SET) err = query_row_key(&at, q, &out->key);
    arena_clear(scratch);
    return err;
}

static int move_row(struct table_view *t, uint64_t seq, const struct row_change *c, const struct image *old, const struct image *new)
{
    if (!old->in && !new->in) return 0;
    switch (t->shape) {
    case TABLE_SET:
        view_record(&t->v, seq, (struct view_op){.id = c->id, .kind = !new->in ? VIEW_REMOVED : old->in ? VIEW_CHANGED : VIEW_ADDED});
        return 0;
    case TABLE_LIST: return list_row(t, seq, c, buf_span(&old->key), buf_span(&new->key));
    case TABLE_WINDOW: return window_row(t, c, buf_span(&old->key), buf_span(&new->key));
    }
    assert(!"a shape");
    return ERR_INTERNAL;
}

static int change_row(struct view *v, struct interest *heard, uint64_t seq, const struct row_change *c)
{
    struct table_view *t = table_view_of(v);
    struct image old, new;
    assert(heard == &t->interest);
    buf_init(&old.key, QUERY_SORT_MAX);
    buf_init(&new.key, QUERY_SORT_MAX);
    int err = take_image(t, c->id, c->old, &old);
    if (!err) err = take_image(t, c->id, c->new, &new);
    if (!err) err = move_row(t, seq, c, &old, &new);
    buf_free(&old.key);
    buf_free(&new.key);
    return err ? let_go(t, err) : 0;
}

const struct view_kind table_view_kind = {
    .name = "table",
    .size = sizeof(struct table_view),
    .open = open_view,
    .close = close_view,
    .row = change_row,
    .commit = window_commit,
    .snapshot = view_snapshot_plain,
    .reach = table_view_reach,
    .changes = table_view_changes,
};
