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

// An element is there as long as one addition of it is. Who adds it again, or takes it away, ends the additions that they had seen; so
// those of others stay, in whatever order all of it arrives.

// A set being read in order.
struct walk {
    struct elements e;
    struct value at;
    uint64_t cell_seq;
    bool on;
};

static void walk_next(struct walk *k)
{
    k->on = k->on && elements_next(&k->e, &k->at, NULL);
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

static int too_many(const struct set_merge *s, const char *what, int max)
{
    return problem_set(s->m->p, ERR_TOO_LARGE, -1, "%.*s: more than %d %s", SPAN_FMT(s->c->name), max, what);
}

// Puts the element with its additions, newest first: this commit's, and those that stand of what it had.
static int put_element(struct set_merge *s, const struct value *v, bool add, bool had, bool ends)
{
    uint64_t behind[SET_WRITERS_MAX + 1];
    size_t n = 0, kept = 0, before = had ? s->have.e.behind_count : 0;
    if (add) behind[n++] = 0;
    for (size_t i = 0; i < before; i++) {
        uint64_t age = s->have.e.behind[i], seq = age < s->have.cell_seq ? s->have.cell_seq - age : 0;
        bool seen = false;
        int err = ends ? s->m->seen(s->m->ctx, seq, &seen) : 0;
        if (err) return err;
        if (seen) continue;
        behind[n++] = s->m->seq - seq;
        kept++;
    }
    bool same = before == 1 && kept == 0 && add && s->have.cell_seq == s->m->seq && s->have.e.behind[0] == 0; // added by this very batch before
    s->changed |= !same && (add || kept < before);
    if (n == 0) return 0;
    if (n > SET_WRITERS_MAX) return too_many(s, "writers have added one element without seeing each other", SET_WRITERS_MAX);
    elements_put_added(&s->out, &s->c->type, v, behind, n);
    s->count++;
    return 0;
}

// Is the element that is there taken away?
static bool taken_away(struct set_merge *s)
{
    if (!s->w->change) return true; // a new value takes away all that it does not name
    while (s->removed.on && value_compare(&s->have.e.item, &s->removed.at, &s->have.at) < 0)
        walk_next(&s->removed);
    return s->removed.on && value_compare(&s->have.e.item, &s->removed.at, &s->have.at) == 0;
}

static int step(struct set_merge *s)
{
    int order = !s->have.on ? 1 : !s->added.on ? -1 : value_compare(&s->have.e.item, &s->have.at, &s->added.at);
    bool add = order >= 0, had = order <= 0;
    int err = put_element(s, add ? &s->added.at : &s->have.at, add, had, add || taken_away(s));
    if (had) walk_next(&s->have);
    if (add) walk_next(&s->added);
    return err;
}

static int finish_set(struct set_merge *s, struct cell *have)
{
    struct value v = {.null = false};
    if (s->out.err) return s->out.err;
    if (s->count > ARRAY_ELEMENTS_MAX) return too_many(s, "elements", ARRAY_ELEMENTS_MAX);
    bool first = have->v.null && !s->w->change && !s->w->v.null; // of all that leaves null and an empty set apart, this alone says "empty"
    if (!s->changed && !first) return 0;
    return arena_copy_span(s->m->arena, buf_span(&s->out), &v.s) ? take(have, &v, s->m) : ERR_NOMEM;
}

static int merge_set(const struct column *c, struct cell *have, const struct write *w, const struct merge_ctx *m)
{
    struct set_merge s = {.c = c, .w = w, .m = m};
    int err = 0;
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
