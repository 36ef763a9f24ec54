// The registry: equal queries share a view, made with its first reader and gone with its last. And what happens to views while a commit is applied.
#include "view_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

#define PLACES_MIN 64

// ---- registry ------------------------------------------------------------------------------------------------------

static const struct view_kind *const kinds[] = {[QUERY_TABLE] = &table_view_kind};

static struct view **place_of(struct rows *r, uint64_t hash)
{
    return &r->views.places[hash & (r->views.place_count - 1)];
}

static struct view *find(struct rows *r, const struct query *q)
{
    struct view *v = r->views.place_count > 0 ? *place_of(r, q->canonical_hash) : NULL;
    for (; v; v = v->next)
        if (!v->err && v->q->canonical_hash == q->canonical_hash && span_equal(v->q->canonical, q->canonical)) return v;
    return NULL;
}

// Room for one more: about one view a place.
static int make_room(struct rows *r)
{
    size_t before = r->views.place_count, places = before > 0 ? 2 * before : PLACES_MIN;
    if (r->views.count < before) return 0;
    struct view **old = r->views.places, **fresh = calloc(places, sizeof *fresh);
    if (!fresh) return ERR_NOMEM;
    r->views.places = fresh;
    r->views.place_count = places;
    for (size_t i = 0; i < before; i++) {
        for (struct view *v = old[i], *next; v; v = next) {
            struct view **place = place_of(r, v->q->canonical_hash);
            next = v->next;
            v->next = *place;
            *place = v;
        }
    }
    free(old);
    return 0;
}

static void link_view(struct view *v)
{
    struct view **place = place_of(v->r, v->q->canonical_hash);
    v->next = *place;
    *place = v;
    v->r->views.count++;
}

static void unlink_view(struct view *v)
{
    struct view **place = place_of(v->r, v->q->canonical_hash);
    while (*place != v) {
        assert(*place);
        place = &(*place)->next;
    }
    *place = v->next;
    v->r->views.count--;
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
    int err = make_room(r);
    if (err) return err;
    v = calloc(1, kind->size);
    if (!v) return ERR_NOMEM;
    v->r = r;
    v->q = query_ref(q);
    v->kind = kind;
    v->ring_from = r->seq;
    err = kind->open(v, txn);
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
    v->kind->close(v);
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
    int err = v->err ? 0 : v->kind->row(v, i, seq, c);
    if (err) give_up(v, seq, err);
}

int view_listen(struct view *v, struct interest *i, uint32_t table, uint32_t slot, struct expr *const *conditions, size_t count)
{
    *i = (struct interest){.hear = hear, .owner = v, .table = table, .slot = slot};
    return interests_add(v->r->views.interests, i, conditions, count, v->q->params);
}

void view_moves(struct view *v)
{
    if (v->moved) return;
    v->moved = true;
    v->moved_next = v->r->views.moved;
    v->r->views.moved = v;
}

int views_row(struct rows *r, uint64_t seq, const struct row_change *c)
{
    return interests_find(r->views.interests, seq, c);
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
