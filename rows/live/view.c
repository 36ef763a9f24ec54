// The registry: equal queries share a view, made with its first reader and gone with its last. And what happens to views while a commit is applied.
#include "view_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"

// ---- registry ------------------------------------------------------------------------------------------------------

static const struct view_kind *const kinds[] = {[QUERY_TABLE] = &table_view_kind, [QUERY_JOINED] = &join_view_kind, [QUERY_GROUPED] = &group_view_kind};

static struct view *find(const struct rows *r, const struct query *q)
{
    struct hash_node *n = hash_table_first(&r->views.table, q->canonical_hash);
    for (; n; n = hash_table_more(n)) {
        struct view *v = HASH_OWNER(n, struct view, node);
        if (!v->err && span_equal(v->q->canonical, q->canonical)) return v;
    }
    return NULL;
}

bool rows_scanned(const struct rows *r, const struct query *q)
{
    const struct view *v = q->live ? find(r, q) : NULL;
    return v && v->scanned;
}

int view_obtain(struct rows *r, struct db_txn *txn, struct query *q, struct view **out)
{
    struct view *v = find(r, q);
    if (v) {
        *out = v;
        return 0;
    }
    const struct view_kind *kind = kinds[q->live];
    assert(kind && kind->size >= sizeof *v);
    v = calloc(1, kind->size);
    if (!v) return ERR_NOMEM;
    v->r = r;
    v->q = query_ref(q);
    v->kind = kind;
    v->ring_from = r->seq;
    int err = kind->open(v, txn);
    if (err) {
        view_hold(v, 0);
        query_unref(v->q);
        free(v);
        return err;
    }
    hash_table_insert(&r->views.table, &v->node, q->canonical_hash);
    *out = v;
    return 0;
}

void view_free(struct view *v)
{
    assert(!v->feed.subs && !v->moved);
    hash_table_remove(&v->r->views.table, &v->node);
    v->kind->close(v);
    view_hold(v, 0);
    view_ring_free(v);
    query_unref(v->q);
    free(v);
}

// ---- commits -------------------------------------------------------------------------------------------------------

// The view cannot be kept current; its readers learn why when they read on.
static void give_up(struct view *v, uint64_t seq, int err)
{
    v->err = err;
    view_mark(v, seq);
}

static void hear(struct interest *i, uint64_t seq, const struct row_change *c)
{
    struct view *v = i->owner;
    if (c->grown && !v->texts) return;
    int err = v->err ? 0 : v->kind->row(v, i, seq, c);
    if (err) give_up(v, seq, err);
}

int view_listen(struct view *v, struct interest *i, uint32_t table, uint32_t slot, struct expr *const *conditions, size_t count)
{
    *i = (struct interest){.hear = hear, .owner = v, .table = table, .slot = slot};
    int err = interests_add(v->r->views.interests, i, conditions, count, v->q->params);
    v->scanned = v->scanned || (!err && i->scanned);
    return err;
}

void view_moves(struct view *v)
{
    if (v->moved) return;
    v->moved = true;
    v->moved_next = v->r->views.moved;
    v->r->views.moved = v;
}

int view_hold(struct view *v, size_t bytes)
{
    assert(v->r->views.held >= v->held);
    v->r->views.held += bytes - v->held;
    v->held = bytes;
    return bytes > 0 && v->r->views.held > VIEW_KEYS_BYTES_MAX ? ERR_RESULT_TOO_LARGE : 0;
}

uint64_t view_deadline(uint64_t us)
{
    return us > 0 ? clock_mono_us() + us : 0;
}

void views_row(struct rows *r, uint64_t seq, const struct row_change *c)
{
    interests_find(r->views.interests, seq, c);
}

void views_commit(struct rows *r, struct db_txn *txn, uint64_t seq)
{
    while (r->views.moved) {
        struct view *v = r->views.moved;
        r->views.moved = v->moved_next;
        v->moved = false;
        int err = v->err ? 0 : v->kind->commit(v, txn, seq);
        if (err) give_up(v, seq, err);
    }
}
