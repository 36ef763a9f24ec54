#include "view_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

// ---- registry ------------------------------------------------------------------------------------------------------

static struct view *find(const struct rows *r, const struct query *q)
{
    if (q->table >= r->views.tables) return NULL;
    for (struct view *v = r->views.of_table[q->table]; v; v = v->next)
        if (!v->err && span_equal(v->q->canonical, q->canonical)) return v;
    return NULL;
}

static int make_list(struct rows *r, uint32_t table)
{
    if (table < r->views.tables) return 0;
    size_t tables = table + 1;
    struct view **of_table = realloc(r->views.of_table, tables * sizeof(struct view *));
    if (!of_table) return ERR_NOMEM;
    for (size_t i = r->views.tables; i < tables; i++)
        of_table[i] = NULL;
    r->views.of_table = of_table;
    r->views.tables = tables;
    return 0;
}

static void link_view(struct view *v)
{
    struct view **first = &v->r->views.of_table[v->q->table];
    v->next = *first;
    if (v->next) v->next->prev = v;
    *first = v;
    v->r->views.count++;
}

static void unlink_view(struct view *v)
{
    struct view **first = &v->r->views.of_table[v->q->table];
    assert(v->prev || *first == v);
    if (v->prev) {
        v->prev->next = v->next;
    } else {
        *first = v->next;
    }
    if (v->next) v->next->prev = v->prev;
    v->r->views.count--;
    for (struct view **d = &v->r->views.dirty; v->dirty && *d; d = &(*d)->dirty_next) {
        if (*d != v) continue;
        *d = v->dirty_next;
        break;
    }
}

static size_t keys_kept(const struct view *v)
{
    return v->shape == VIEW_WINDOW ? v->q->limit + (size_t)VIEW_SPARE_ROWS : SIZE_MAX;
}

static int fill(struct view *v, struct db_txn *txn)
{
    if (v->shape == VIEW_SET) return 0;
    sort_keys_free(&v->keys);
    return scan_keys(v->r, txn, v->q, v->r->seq, keys_kept(v), &v->keys, &v->whole);
}

int view_obtain(struct rows *r, struct db_txn *txn, struct query *q, struct view **out)
{
    struct view *v = find(r, q);
    if (v) {
        *out = v;
        return 0;
    }
    int err = make_list(r, q->table);
    if (err) return err;
    v = calloc(1, sizeof *v);
    if (!v) return ERR_NOMEM;
    v->r = r;
    v->q = query_ref(q);
    v->shape = q->has_limit ? VIEW_WINDOW : query_ordered(q) ? VIEW_LIST : VIEW_SET;
    v->ring_from = r->seq;
    err = fill(v, txn);
    if (err) {
        query_unref(v->q);
        free(v);
        return err;
    }
    link_view(v);
    *out = v;
    return 0;
}

void view_free(struct view *v)
{
    assert(!v->feed.subs && !v->moved);
    unlink_view(v);
    view_ring_free(v);
    sort_keys_free(&v->keys);
    free(v->before);
    id_set_free(&v->touched);
    query_unref(v->q);
    free(v);
}

// The view cannot be kept current; its readers learn why when they read on.
static void give_up(struct view *v, uint64_t seq, int err)
{
    v->err = err;
    sort_keys_free(&v->keys);
    view_mark(v, seq);
}

// ---- lists ---------------------------------------------------------------------------------------------------------

static int list_row(struct view *v, uint64_t seq, const struct row_change *c, struct span old, struct span new)
{
    struct view_op op = {.id = c->id};
    bool was = false, is = false;
    if (old.n > 0) {
        op.was = (uint32_t)sort_keys_find(&v->keys, old, &was);
        if (!was) return ERR_INTERNAL;
        sort_keys_remove(&v->keys, op.was);
    }
    if (new.n > 0) {
        op.at = (uint32_t)sort_keys_find(&v->keys, new, &is);
        if (is) return ERR_INTERNAL;
        int err = sort_keys_insert(&v->keys, op.at, new);
        if (err) return err;
    }
    op.kind = new.n == 0 ? VIEW_REMOVED : was ? VIEW_CHANGED : VIEW_ADDED;
    view_record(v, seq, op);
    return v->keys.n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : 0;
}

// ---- windows -------------------------------------------------------------------------------------------------------

static size_t shown(const struct view *v)
{
    return v->keys.n < v->q->limit ? v->keys.n : v->q->limit;
}

static struct uuid *copy_shown(const struct view *v)
{
    struct uuid *ids = malloc((shown(v) + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < shown(v); i++)
        ids[i] = sort_key_id(v->keys.keys[i]);
    return ids;
}

static int window_moves(struct view *v)
{
    if (v->moved) return 0;
    v->before = copy_shown(v);
    if (!v->before) return ERR_NOMEM;
    v->before_count = shown(v);
    v->moved = true;
    v->moved_next = v->r->views.moved;
    v->r->views.moved = v;
    return 0;
}

// Only the keys up to the last one are known, unless they are all: what lies beyond is somebody else's until the window is filled again.
static int window_row(struct view *v, const struct row_change *c, struct span old, struct span new)
{
    bool held = false, there = false;
    size_t old_at = old.n > 0 ? sort_keys_find(&v->keys, old, &held) : 0;
    size_t new_at = new.n > 0 ? sort_keys_find(&v->keys, new, &there) : 0;
    bool enters = new.n > 0 && (v->whole || new_at < v->keys.n);
    if (there && !(held && old_at == new_at)) return ERR_INTERNAL;
    if (!held && !enters) return 0;
    int err = window_moves(v);
    if (!err) err = id_set_add(&v->touched, c->id);
    if (err) return err;
    if (held) sort_keys_remove(&v->keys, old_at);
    if (held && old_at < new_at) new_at--;
    if (enters) err = sort_keys_insert(&v->keys, new_at, new);
    while (!err && v->keys.n > keys_kept(v) + VIEW_SPARE_ROWS) {
        sort_keys_remove(&v->keys, v->keys.n - 1);
        v->whole = false;
    }
    return err;
}

static int window_commit(struct view *v, struct db_txn *txn, uint64_t seq)
{
    struct view_ops ops = {.ops = NULL};
    int err = 0;
    if (!v->whole && v->keys.n < v->q->limit) err = fill(v, txn);
    struct uuid *after = err ? NULL : copy_shown(v);
    if (!err && !after) err = ERR_NOMEM;
    id_set_sort(&v->touched);
    if (!err) err = view_diff(v->before, v->before_count, after, shown(v), &v->touched, &ops);
    for (size_t i = 0; i < ops.n && !err; i++)
        view_record(v, seq, ops.ops[i]);
    view_ops_free(&ops);
    free(after);
    return err;
}

static void window_settle(struct view *v)
{
    free(v->before);
    v->before = NULL;
    v->touched.n = 0;
    v->moved = false;
}

// ---- rows that change ----------------------------------------------------------------------------------------------

static int keyed_row(struct view *v, uint64_t seq, const struct row_change *c, bool was, bool is)
{
    struct buf old, new;
    buf_init(&old, QUERY_SORT_MAX);
    buf_init(&new, QUERY_SORT_MAX);
    if (was) query_order_key(v->q, c->id, c->old, &old);
    if (is) query_order_key(v->q, c->id, c->new, &new);
    int err = old.err ? old.err : new.err;
    if (!err && v->shape == VIEW_LIST) err = list_row(v, seq, c, buf_span(&old), buf_span(&new));
    if (!err && v->shape == VIEW_WINDOW) err = window_row(v, c, buf_span(&old), buf_span(&new));
    buf_free(&old);
    buf_free(&new);
    return err;
}

void views_row(struct rows *r, uint64_t seq, const struct row_change *c)
{
    struct view *v = c->table->no < r->views.tables ? r->views.of_table[c->table->no] : NULL;
    for (; v; v = v->next) {
        if (v->err) continue;
        bool was = query_matches(v->q, c->id, c->old), is = query_matches(v->q, c->id, c->new);
        if (!was && !is) continue;
        if (v->shape == VIEW_SET) {
            view_record(v, seq, (struct view_op){.id = c->id, .kind = !is ? VIEW_REMOVED : was ? VIEW_CHANGED : VIEW_ADDED});
            continue;
        }
        int err = keyed_row(v, seq, c, was, is);
        if (err) give_up(v, seq, err);
    }
}

void views_commit(struct rows *r, struct db_txn *txn, uint64_t seq)
{
    while (r->views.moved) {
        struct view *v = r->views.moved;
        r->views.moved = v->moved_next;
        int err = v->err ? 0 : window_commit(v, txn, seq);
        if (err) give_up(v, seq, err);
        window_settle(v);
    }
}
