#include "merge.h"

#include <assert.h>

#include "elements.h"
#include "err.h"
#include "json_read.h"

// ---- reading -------------------------------------------------------------------------------------------------------

static int bad(const struct column *c, struct problem *p, const char *why)
{
    return problem_set(p, ERR_BAD_VALUE, -1, "%.*s: %s", SPAN_FMT(c->name), why);
}

static int convert(struct value *out, const struct column *c, const struct row_value *in, struct arena *a, struct problem *p)
{
    struct value_target target = {.type = &c->type, .source = VALUE_WRITTEN, .column = c->name, .position = -1};
    return value_convert(out, &target, in, a, p);
}

static int read_increment(struct write *out, const struct column *c, const struct jr *change, struct arena *a, struct problem *p)
{
    const struct jr *n = jr_get(change, "increment");
    struct row_value v = {.kind = ROW_INT, .i = jr_int(n, 0)};
    if (jr_count(change) != 1 || (jr_type(n) != JR_INT && jr_type(n) != JR_STRING)) return bad(c, p, "a counter takes {\"increment\": n}");
    if (jr_type(n) == JR_STRING) v = (struct row_value){.kind = ROW_TEXT, .s = jr_str(n)};
    return convert(&out->v, c, &v, a, p);
}

static int read_list(struct value *out, const struct column *c, const struct jr *list, struct arena *a, struct problem *p)
{
    struct buf text;
    *out = (struct value){.s = SPAN_NONE};
    if (jr_type(list) == JR_ABSENT) return 0;
    if (jr_type(list) != JR_ARRAY) return bad(c, p, "\"add\" and \"remove\" are arrays");
    buf_init(&text, 2 * BATCH_BYTES_MAX);
    int err = jr_canonical(list, &text);
    if (!err) err = convert(out, c, &(struct row_value){.kind = ROW_JSON, .s = buf_span(&text)}, a, p);
    buf_free(&text);
    return err;
}

static int read_set_change(struct write *out, const struct column *c, const struct jr *change, struct arena *a, struct problem *p)
{
    const struct jr *add = jr_get(change, "add"), *remove = jr_get(change, "remove");
    if (jr_count(change) == 0 || jr_count(change) != (size_t)(add != NULL) + (remove != NULL))
        return bad(c, p, "a set takes an array, or {\"add\": [], \"remove\": []}");
    int err = read_list(&out->v, c, add, a, p);
    return err ? err : read_list(&out->removed, c, remove, a, p);
}

int merge_read(struct write *out, const struct column *c, const struct row_value *in, struct arena *a, struct problem *p)
{
    struct write w = {.change = false};
    struct jr_tree *tree;
    int err;
    bool changes = c->merge == MERGE_COUNTER || c->merge == MERGE_SET;
    if (!changes || in->kind != ROW_JSON || in->s.n == 0 || in->s.p[0] != '{') {
        err = convert(&w.v, c, in, a, p);
    } else if (jr_parse(&tree, in->s, NULL)) {
        err = bad(c, p, "not valid JSON");
    } else {
        w.change = true;
        err = c->merge == MERGE_COUNTER ? read_increment(&w, c, jr_root(tree), a, p) : read_set_change(&w, c, jr_root(tree), a, p);
        jr_free(tree);
    }
    if (!err) *out = w;
    return err;
}

// ---- one value -----------------------------------------------------------------------------------------------------

static int take(struct cell *have, const struct value *v, const struct merge_ctx *m)
{
    *have = (struct cell){.v = *v, .seq = m->seq};
    return 1;
}

static int merge_lww(struct cell *have, const struct write *w, const struct merge_ctx *m)
{
    bool wins;
    int err = m->wins(m->ctx, have->seq, &wins);
    if (err) return err;
    return wins ? take(have, &w->v, m) : 0;
}

static int merge_counter(const struct column *c, struct cell *have, const struct write *w, const struct merge_ctx *m)
{
    struct value sum = {.i = 0};
    if (!w->change && !m->made) return bad(c, m->p, "a counter that is there is changed by {\"increment\": n}");
    if (!w->change) return take(have, &w->v, m);
    if (__builtin_add_overflow(have->v.null ? 0 : have->v.i, w->v.i, &sum.i)) return bad(c, m->p, "the counter would leave 64 bits");
    return take(have, &sum, m);
}

static int merge_extreme(const struct column *c, struct cell *have, const struct write *w, const struct merge_ctx *m)
{
    if (w->v.null) return 0;
    if (have->v.null || have->seq == 0) return take(have, &w->v, m); // a default gives way to what is written
    int order = value_compare(&c->type, &w->v, &have->v);
    return (c->merge == MERGE_MAX ? order > 0 : order < 0) ? take(have, &w->v, m) : 0;
}

// ---- sets ----------------------------------------------------------------------------------------------------------

// A set being read in order: the element it is at, and the commit that added that.
struct walk {
    struct elements e;
    struct value at;
    uint64_t seq, cell_seq;
    bool on;
};

static void walk_next(struct walk *k)
{
    uint64_t behind = 0;
    k->on = k->on && elements_next(&k->e, &k->at, &behind);
    k->seq = k->cell_seq - (behind < k->cell_seq ? behind : k->cell_seq);
}

static void walk_begin(struct walk *k, const struct column *c, const struct value *v, uint64_t cell_seq)
{
    *k = (struct walk){.on = !v->null, .cell_seq = cell_seq};
    if (k->on) elements_open(&k->e, &c->type, v);
    walk_next(k);
}

struct set_merge {
    const struct column *c;
    const struct write *w;
    const struct merge_ctx *m;
    struct walk have, added, removed;
    struct buf out;
    size_t count;
    bool changed;
};

static void keep(struct set_merge *s, const struct value *v, uint64_t seq)
{
    elements_put(&s->out, &s->c->type, v, s->m->seq - seq);
    s->count++;
}

// An element that is there and is not added again: stays, unless it is taken away by who had seen it.
static int keep_or_drop(struct set_merge *s)
{
    bool named = !s->w->change, seen = false;
    while (s->w->change && s->removed.on && value_compare(&s->have.e.item, &s->removed.at, &s->have.at) < 0)
        walk_next(&s->removed);
    if (s->w->change && s->removed.on) named = value_compare(&s->have.e.item, &s->removed.at, &s->have.at) == 0;
    int err = named ? s->m->seen(s->m->ctx, s->have.seq, &seen) : 0;
    if (!seen) keep(s, &s->have.at, s->have.seq);
    s->changed |= seen;
    return err;
}

static int step(struct set_merge *s)
{
    int order = !s->have.on ? 1 : !s->added.on ? -1 : value_compare(&s->have.e.item, &s->have.at, &s->added.at);
    int err = 0;
    if (order < 0) {
        err = keep_or_drop(s);
    } else {
        s->changed |= order > 0 || s->have.seq != s->m->seq;
        keep(s, &s->added.at, s->m->seq);
    }
    if (order <= 0) walk_next(&s->have);
    if (order >= 0) walk_next(&s->added);
    return err;
}

static int finish_set(struct set_merge *s, struct cell *have)
{
    struct value v = {.null = false};
    if (s->out.err) return s->out.err;
    if (s->count > ARRAY_ELEMENTS_MAX)
        return problem_set(s->m->p, ERR_TOO_LARGE, -1, "%.*s: more than %d elements", SPAN_FMT(s->c->name), ARRAY_ELEMENTS_MAX);
    if (!s->changed && !(s->m->made && have->v.null)) return 0;
    return arena_copy_span(s->m->arena, buf_span(&s->out), &v.s) ? take(have, &v, s->m) : ERR_NOMEM;
}

static int merge_set(const struct column *c, struct cell *have, const struct write *w, const struct merge_ctx *m)
{
    struct set_merge s = {.c = c, .w = w, .m = m};
    int err = 0;
    if (m->made && w->v.null) return take(have, &w->v, m);
    buf_init(&s.out, 2 * BATCH_BYTES_MAX);
    walk_begin(&s.have, c, &have->v, have->seq);
    walk_begin(&s.added, c, &w->v, 0);
    walk_begin(&s.removed, c, w->change ? &w->removed : &VALUE_NULL, 0);
    while (!err && (s.have.on || s.added.on))
        err = step(&s);
    if (!err) err = finish_set(&s, have);
    buf_free(&s.out);
    return err;
}

int merge_cell(const struct column *c, struct cell *have, const struct write *w, const struct merge_ctx *m)
{
    assert(have->seq <= m->seq && c->type.kind != COL_STREAM);
    switch (c->merge) {
    case MERGE_LWW: return merge_lww(have, w, m);
    case MERGE_COUNTER: return merge_counter(c, have, w, m);
    case MERGE_MAX:
    case MERGE_MIN: return merge_extreme(c, have, w, m);
    case MERGE_SET: return merge_set(c, have, w, m);
    }
    assert(!"a strategy");
    return ERR_INTERNAL;
}
