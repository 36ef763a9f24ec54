#include "view_diff.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_write.h"

// Moving one row looks through the whole list. Where that would be this many steps, changed rows leave and come back instead.
#define STEPS_MAX (1u << 22)
#define NOWHERE UINT32_MAX

struct place {
    struct uuid id;
    uint32_t index;
};

struct diff {
    const struct uuid *before, *after;
    size_t before_count, after_count;
    const struct id_set *touched;
    struct place *places; // of `after`, by id
    struct place *old_places;
    uint32_t *list; // the client's list as the steps leave it: of each row, where it will stand in `after`
    size_t count;
    bool coarse;
    struct view_ops *out;
};

int view_ops_add(struct view_ops *out, struct view_op op)
{
    if (out->n == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 16;
        struct view_op *ops = realloc(out->ops, cap * sizeof *ops);
        if (!ops) return ERR_NOMEM;
        out->ops = ops;
        out->cap = cap;
    }
    out->ops[out->n++] = op;
    return 0;
}

void view_ops_free(struct view_ops *ops)
{
    free(ops->ops);
    *ops = (struct view_ops){.ops = NULL};
}

void view_op_begin(struct jw *w, const struct view_op *op, struct span key)
{
    static const char *const names[] = {[VIEW_ADDED] = "added", [VIEW_CHANGED] = "changed", [VIEW_REMOVED] = "removed"};
    char id[UUID_TEXT];
    jw_object(w);
    jw_key(w, names[op->kind]);
    if (op->kind != VIEW_REMOVED) return;
    uuid_format(op->id, id);
    jw_str(w, key.n > 0 ? key : SPAN(id, UUID_TEXT));
}

void view_op_end(struct jw *w, const struct view_op *op, struct span key, bool ordered)
{
    if (key.n > 0 && op->kind != VIEW_REMOVED) jw_key(w, "key"), jw_str(w, key);
    if (ordered && op->kind != VIEW_REMOVED) jw_key(w, "at"), jw_uint(w, op->at);
    if (ordered && op->kind != VIEW_ADDED) jw_key(w, "was"), jw_uint(w, op->was);
    jw_end(w);
}

static int compare_places(const void *a, const void *b)
{
    return uuid_compare(((const struct place *)a)->id, ((const struct place *)b)->id);
}

static struct place *places_of(const struct uuid *ids, size_t n)
{
    struct place *places = malloc((n + 1) * sizeof *places);
    if (!places) return NULL;
    for (size_t i = 0; i < n; i++)
        places[i] = (struct place){.id = ids[i], .index = (uint32_t)i};
    if (n > 1) qsort(places, n, sizeof *places, compare_places);
    return places;
}

static uint32_t find(const struct place *places, size_t n, struct uuid id)
{
    struct place key = {.id = id};
    const struct place *found = n > 0 ? bsearch(&key, places, n, sizeof *places, compare_places) : NULL;
    return found ? found->index : NOWHERE;
}

static bool leaves(const struct diff *d, struct uuid id, uint32_t in_after)
{
    return in_after == NOWHERE || (d->coarse && id_set_has(d->touched, id));
}

// From the end, so that what stands before keeps its place.
static int removals(struct diff *d)
{
    for (size_t i = d->before_count; i-- > 0;) {
        if (!leaves(d, d->before[i], find(d->places, d->after_count, d->before[i]))) continue;
        int err = view_ops_add(d->out, (struct view_op){.kind = VIEW_REMOVED, .id = d->before[i], .was = (uint32_t)i});
        if (err) return err;
    }
    for (size_t i = 0; i < d->before_count; i++) {
        uint32_t after = find(d->places, d->after_count, d->before[i]);
        if (leaves(d, d->before[i], after)) continue;
        d->list[d->count++] = after;
    }
    return 0;
}

// Takes the row out and puts it behind the last one that will stand before it. Called in the order of `after`, so that one has its
// place already: it did not change, or was moved before.
static void move(struct diff *d, uint32_t after, uint32_t *was, uint32_t *at)
{
    size_t from = 0, to;
    while (d->list[from] != after)
        from++;
    memmove(d->list + from, d->list + from + 1, (d->count - from - 1) * sizeof *d->list);
    for (to = d->count - 1; to > 0; to--)
        if (d->list[to - 1] < after) break;
    memmove(d->list + to + 1, d->list + to, (d->count - 1 - to) * sizeof *d->list);
    d->list[to] = after;
    *was = (uint32_t)from;
    *at = (uint32_t)to;
}

static int moves(struct diff *d)
{
    for (size_t i = 0; i < d->after_count && !d->coarse; i++) {
        struct view_op op = {.kind = VIEW_CHANGED, .id = d->after[i]};
        if (!id_set_has(d->touched, op.id) || find(d->old_places, d->before_count, op.id) == NOWHERE) continue;
        move(d, (uint32_t)i, &op.was, &op.at);
        int err = view_ops_add(d->out, op);
        if (err) return err;
    }
    for (size_t i = 1; i < d->count; i++)
        if (d->list[i - 1] >= d->list[i]) return ERR_CORRUPT;
    return 0;
}

static int additions(struct diff *d)
{
    for (size_t i = 0; i < d->after_count; i++) {
        bool stays = find(d->old_places, d->before_count, d->after[i]) != NOWHERE;
        if (stays && !(d->coarse && id_set_has(d->touched, d->after[i]))) continue;
        int err = view_ops_add(d->out, (struct view_op){.kind = VIEW_ADDED, .id = d->after[i], .at = (uint32_t)i});
        if (err) return err;
    }
    return 0;
}

int view_diff(const struct uuid *before, size_t before_count, const struct uuid *after, size_t after_count, const struct id_set *touched,
              struct view_ops *out)
{
    struct diff d = {
        .before = before, .after = after, .before_count = before_count, .after_count = after_count, .touched = touched, .out = out};
    assert(before_count < NOWHERE && after_count < NOWHERE);
    d.coarse = (before_count + 1) * (touched->n < after_count ? touched->n : after_count) > STEPS_MAX;
    d.places = places_of(after, after_count);
    d.old_places = places_of(before, before_count);
    d.list = malloc((before_count + 1) * sizeof *d.list);
    int err = d.places && d.old_places && d.list ? removals(&d) : ERR_NOMEM;
    if (!err) err = moves(&d);
    if (!err) err = additions(&d);
    free(d.places);
    free(d.old_places);
    free(d.list);
    return err;
}
