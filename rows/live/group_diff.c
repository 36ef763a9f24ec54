// The steps from one state of a grouped result to another.
#include <assert.h>
#include <stdlib.h>

#include "base64.h"
#include "err.h"
#include "group_view.h"

#define ROW_BY_ROW_MAX 256 // where a touched row stands is counted beside all that were touched before

struct diff {
    struct group_view *g;
    const struct group_touches *touches;
    struct group_look *look; // at the other state
    struct lazy_steps *out;
};

static int compare_ids(const void *id, const void *touch)
{
    return uuid_compare(*(const struct uuid *)id, ((const struct group_touch *)touch)->id);
}

static const struct group_touch *touch_of(const struct diff *d, struct uuid id)
{
    return d->touches->n > 0 ? bsearch(&id, d->touches->all, d->touches->n, sizeof *d->touches->all, compare_ids) : NULL;
}

// ---- a step --------------------------------------------------------------------------------------------------------

static int json_of(struct diff *d, struct uuid id, struct bytes **json)
{
    const struct group_touch *t = touch_of(d, id);
    if (t && t->to) {
        *json = bytes_ref(t->to->json);
        return 0;
    }
    return group_look_row(d->look, t ? t->row : group_row_find(d->g, id), json);
}

static void put_key(struct jw *w, struct uuid id)
{
    struct buf key;
    buf_init(&key, KIB);
    base64url_encode(&key, SPAN(id.b, sizeof id.b));
    jw_str(w, buf_span(&key));
    if (key.err) w->out->err = key.err;
    buf_free(&key);
}

static void put_step(struct jw *w, const struct view_op *op, const struct bytes *json, bool ordered)
{
    static const char *const names[] = {[VIEW_ADDED] = "added", [VIEW_CHANGED] = "changed", [VIEW_REMOVED] = "removed"};
    jw_object(w);
    jw_key(w, names[op->kind]);
    if (json) jw_raw(w, bytes_span(json)), jw_key(w, "key");
    put_key(w, op->id);
    if (ordered && op->kind != VIEW_REMOVED) jw_key(w, "at"), jw_uint(w, op->at);
    if (ordered && op->kind != VIEW_ADDED) jw_key(w, "was"), jw_uint(w, op->was);
    jw_end(w);
}

static int add_step(struct diff *d, struct view_op op)
{
    struct bytes *json = NULL, *value = NULL;
    struct buf text;
    struct jw w;
    int err = op.kind == VIEW_REMOVED ? 0 : json_of(d, op.id, &json);
    if (err) return err;
    buf_init(&text, QUERY_RESULT_MAX);
    jw_init(&w, &text);
    put_step(&w, &op, json, query_ordered(d->g->l.v.q));
    err = text.err;
    if (!err) value = bytes_new(buf_span(&text));
    bytes_unref(json);
    buf_free(&text);
    if (err || !value) return err ? err : ERR_NOMEM;
    return lazy_steps_add(d->out, value);
}

// ---- row by row ----------------------------------------------------------------------------------------------------

static bool is_step(const struct group_touch *t)
{
    return (t->from_refs > 0) != (t->to_refs > 0) || group_touch_changes(t);
}

// Where a place is in the list as the first `steps` touched rows have left it; `without`: one that is taken out of it just now.
static uint32_t rank(const struct diff *d, size_t steps, struct span place, const struct group_touch *without)
{
    bool found;
    size_t at = sort_keys_find(&d->g->list, place, &found);
    for (size_t i = 0; i < steps; i++) {
        const struct group_touch *t = &d->touches->all[i];
        if (!is_step(t)) continue;
        if (t->from_refs > 0 && span_compare(group_place_from(t), place) < 0) at--;
        if (t->to_refs > 0 && span_compare(group_place_to(t), place) < 0) at++;
    }
    if (without && span_compare(group_place_from(without), place) < 0) at--;
    return (uint32_t)at;
}

// `places`: in the list that the view keeps, which is that of the state where the steps begin.
static int row_steps(struct diff *d, bool places)
{
    int err = 0;
    for (size_t i = 0; i < d->touches->n && !err; i++) {
        const struct group_touch *t = &d->touches->all[i];
        bool was = t->from_refs > 0, is = t->to_refs > 0;
        struct view_op op = {.kind = !is ? VIEW_REMOVED : was ? VIEW_CHANGED : VIEW_ADDED, .id = t->id};
        if (!is_step(t)) continue;
        if (places && was) op.was = rank(d, i, group_place_from(t), NULL);
        if (places && is) op.at = rank(d, i, group_place_to(t), was ? t : NULL);
        err = add_step(d, op);
    }
    return err;
}

// ---- as a whole ---------------------------------------------------------------------------------------------------

// What is shown of the list in one state: the view's own list without the rows that may differ, and these where they are in that state.
struct window {
    struct uuid *ids;
    size_t n, cap;
};

static int compare_spans(const void *a, const void *b)
{
    return span_compare(*(const struct span *)a, *(const struct span *)b);
}

static struct span *touched_places(const struct diff *d, bool is_from, size_t *n)
{
    struct span *places = malloc((d->touches->n + 1) * sizeof *places);
    *n = 0;
    for (size_t i = 0; places && i < d->touches->n; i++) {
        const struct group_touch *t = &d->touches->all[i];
        if (is_from ? t->from_refs > 0 : t->to_refs > 0) places[(*n)++] = is_from ? group_place_from(t) : group_place_to(t);
    }
    if (places && *n > 1) qsort(places, *n, sizeof *places, compare_spans);
    return places;
}

static struct uuid id_at_end(struct span key)
{
    struct uuid id;
    memcpy(id.b, key.p + key.n - sizeof id.b, sizeof id.b);
    return id;
}

static int window_add(struct window *w, struct uuid id)
{
    if (w->n == w->cap) {
        size_t cap = w->cap > 0 ? 2 * w->cap : 64;
        struct uuid *ids = realloc(w->ids, cap * sizeof *ids);
        if (!ids) return ERR_NOMEM;
        w->ids = ids;
        w->cap = cap;
    }
    w->ids[w->n++] = id;
    return 0;
}

static int window_take(struct diff *d, bool is_from, struct window *out)
{
    const struct query *q = d->g->l.v.q;
    const struct sort_keys *list = &d->g->list;
    size_t end = q->has_limit ? q->offset + (size_t)q->limit : SIZE_MAX, n, at = 0, place = 0;
    struct span *places = touched_places(d, is_from, &n);
    int err = places ? 0 : ERR_NOMEM;
    *out = (struct window){.ids = NULL};
    for (size_t i = 0; i < end && !err; i++) {
        while (at < list->n && touch_of(d, sort_key_id(list->keys[at])))
            at++;
        bool of_list = at < list->n, touched = place < n;
        if (!of_list && !touched) break;
        if (of_list && touched) of_list = span_compare(sort_key_span(list->keys[at]), places[place]) < 0;
        struct uuid id = of_list ? sort_key_id(list->keys[at++]) : id_at_end(places[place++]);
        if (i >= q->offset) err = window_add(out, id);
    }
    free(places);
    return err;
}

static int changed_ids(const struct diff *d, struct id_set *out)
{
    int err = 0;
    for (size_t i = 0; i < d->touches->n && !err; i++)
        if (group_touch_changes(&d->touches->all[i])) err = id_set_add(out, d->touches->all[i].id);
    id_set_sort(out);
    return err;
}

static int window_steps(struct diff *d)
{
    struct window from = {.ids = NULL}, to = {.ids = NULL};
    struct id_set changed = {.ids = NULL};
    struct view_ops ops = {.ops = NULL};
    int err = window_take(d, true, &from);
    if (!err) err = window_take(d, false, &to);
    if (!err) err = changed_ids(d, &changed);
    if (!err) err = view_diff(from.ids, from.n, to.ids, to.n, &changed, &ops);
    for (size_t i = 0; i < ops.n && !err; i++)
        err = add_step(d, ops.ops[i]);
    view_ops_free(&ops);
    id_set_free(&changed);
    free(from.ids);
    free(to.ids);
    return err;
}

int group_diff(struct group_view *g, const struct group_touches *touches, struct group_look *look, bool from_kept, struct lazy_steps *out)
{
    struct diff d = {.g = g, .touches = touches, .look = look, .out = out};
    const struct query *q = g->l.v.q;
    bool few = from_kept && !q->has_limit && q->offset == 0 && touches->n <= ROW_BY_ROW_MAX;
    return group_listed(g) && !few ? window_steps(&d) : row_steps(&d, group_listed(g));
}

// ---- all of it -----------------------------------------------------------------------------------------------------

static int show_row_of(struct group_view *g, struct group_look *look, struct uuid id, struct feed_sink *sink)
{
    struct bytes *json, *value = NULL;
    struct buf text;
    struct jw w;
    int err = group_look_row(look, group_row_find(g, id), &json);
    if (err) return err;
    buf_init(&text, QUERY_RESULT_MAX);
    jw_init(&w, &text);
    jw_object(&w);
    jw_key(&w, "key"), put_key(&w, id);
    jw_key(&w, "row"), jw_raw(&w, bytes_span(json));
    jw_end(&w);
    err = text.err;
    if (!err) value = bytes_new(buf_span(&text));
    if (!err) err = value ? sink->emit(sink, value) : ERR_NOMEM;
    bytes_unref(json);
    bytes_unref(value);
    buf_free(&text);
    return err;
}

// Of a result without an order they come by their keys: a run that is repeated is to say the same.
static int take_ids(const struct group_view *g, struct id_set *out)
{
    const struct query *q = g->l.v.q;
    int err = 0;
    if (group_listed(g)) {
        size_t end = q->has_limit ? q->offset + (size_t)q->limit : SIZE_MAX;
        for (size_t i = q->offset; i < g->list.n && i < end && !err; i++)
            err = id_set_add(out, sort_key_id(g->list.keys[i]));
        return err;
    }
    for (size_t i = 0; i < g->rows.size; i++)
        for (const struct hash_node *n = g->rows.slots[i]; n && !err; n = n->next)
            err = id_set_add(out, HASH_OWNER(n, const struct group_row, node)->id);
    id_set_sort(out);
    return err;
}

int group_show_all(struct group_view *g, struct group_look *look, struct feed_sink *sink)
{
    struct id_set ids = {.ids = NULL};
    int err = take_ids(g, &ids);
    for (size_t i = 0; i < ids.n && !err; i++)
        err = show_row_of(g, look, ids.ids[i], sink);
    id_set_free(&ids);
    return err;
}
