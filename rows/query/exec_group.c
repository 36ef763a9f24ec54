// Groups: one of each combination of what is grouped by, with what its aggregates have come to.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "exec.h"
#include "tally.h"

struct groups {
    struct run *run;
    const struct select *s;
    struct key_set keys;
    struct key_set seen; // of distinct aggregates: group, aggregate, value
    struct tally *tallies; // per group, one per aggregate
    size_t cap; // groups
    size_t held; // bytes, beside those of the tables
    struct value *values; // one per aggregate
    struct buf key;
};

static size_t held(const struct groups *g)
{
    return key_set_bytes(&g->keys) + key_set_bytes(&g->seen) + g->cap * g->s->aggregate_count * sizeof *g->tallies + g->held;
}

void value_key(struct buf *out, const struct type *type, const struct value *v)
{
    buf_put_u8(out, !v->null);
    if (!v->null) value_encode(out, type, v);
}

// ---- groups --------------------------------------------------------------------------------------------------------

static int reserve(struct groups *g, size_t groups)
{
    size_t each = g->s->aggregate_count;
    if (groups <= g->cap) return 0;
    size_t cap = g->cap > 0 ? g->cap * 2 : 4;
    struct tally *tallies = realloc(g->tallies, cap * (each + 1) * sizeof *tallies);
    if (!tallies) return ERR_NOMEM;
    memset(tallies + g->cap * each, 0, (cap - g->cap) * each * sizeof *tallies);
    g->tallies = tallies;
    g->cap = cap;
    return 0;
}

// The group of this key, made where it is not there.
static int find_group(struct groups *g, struct span key, size_t *at)
{
    int err = reserve(g, g->keys.n + 1);
    return err ? err : key_set_add(&g->keys, key, at, NULL);
}

int groups_new(struct run *run, const struct select *s, struct groups **out)
{
    struct groups *g = calloc(1, sizeof *g);
    if (!g) return ERR_NOMEM;
    g->run = run;
    g->s = s;
    key_set_init(&g->keys, QUERY_MEMORY_MAX);
    key_set_init(&g->seen, QUERY_MEMORY_MAX);
    buf_init(&g->key, QUERY_MEMORY_MAX);
    g->values = calloc(s->aggregate_count + 1, sizeof *g->values);
    size_t at;
    int err = g->values ? 0 : ERR_NOMEM;
    if (!err && s->group_count == 0) err = find_group(g, SPAN_NONE, &at); // there is one, though no row be in it
    int full = run_hold(run, 0, held(g));
    if (!err) err = full;
    if (err) {
        groups_free(g);
        return err;
    }
    *out = g;
    return 0;
}

void groups_free(struct groups *g)
{
    if (!g) return;
    run_hold(g->run, held(g), 0);
    for (size_t i = 0; i < g->cap * g->s->aggregate_count; i++)
        tally_free(&g->tallies[i]);
    free(g->tallies);
    free(g->values);
    key_set_free(&g->keys);
    key_set_free(&g->seen);
    buf_free(&g->key);
    free(g);
}

size_t groups_count(const struct groups *g)
{
    return g->keys.n;
}

bool groups_have_value(const struct groups *g)
{
    assert(g->keys.n == 1 && g->s->aggregate_count == 1);
    return g->tallies[0].count > 0;
}

// Everything that can fail or has to wait comes before anything is changed. Values of the row stay where they are meanwhile;
// what is made for an expression does not, so it is copied.
static int evaluate(struct groups *g)
{
    const struct select *s = g->s;
    buf_clear(&g->key);
    for (size_t i = 0; i < s->group_count; i++) {
        struct value v;
        int err = run_eval(g->run, s->group[i], &v);
        if (err) return err;
        value_key(&g->key, &s->group[i]->type, &v);
    }
    for (size_t i = 0; i < s->aggregate_count; i++) {
        const struct aggregate *a = &s->aggregates[i];
        struct value v = {.b = true};
        int err = a->arg ? run_eval(g->run, a->arg, &v) : 0;
        if (err) return err;
        g->values[i] = v;
    }
    return g->key.err;
}

static int is_distinct(struct groups *g, size_t group, size_t i, const struct value *v, bool *new)
{
    struct buf key;
    buf_init(&key, QUERY_MEMORY_MAX);
    buf_put_varint(&key, group);
    buf_put_varint(&key, i);
    value_key(&key, &g->s->aggregates[i].arg->type, v);
    int err = key.err ? key.err : key_set_add(&g->seen, buf_span(&key), NULL, new);
    buf_free(&key);
    return err;
}

static int tally_one(struct groups *g, size_t group, size_t i)
{
    const struct aggregate *a = &g->s->aggregates[i];
    struct value v = g->values[i];
    bool new = true;
    // Another expression may have taken the place of this one's text.
    int err = a->arg && type_is_span(&a->arg->type) ? run_eval(g->run, a->arg, &v) : 0;
    if (!err && a->distinct && !v.null) err = is_distinct(g, group, i, &v, &new);
    struct tally *t = &g->tallies[group * g->s->aggregate_count + i];
    if (err || !new) return err;
    g->held -= tally_bytes(t, a);
    err = tally_add(t, a, &v);
    g->held += tally_bytes(t, a);
    return err;
}

int groups_add(struct groups *g)
{
    size_t before = held(g), group;
    int err = evaluate(g);
    if (err) return err;
    err = find_group(g, buf_span(&g->key), &group);
    for (size_t i = 0; i < g->s->aggregate_count && !err; i++)
        err = tally_one(g, group, i);
    int full = run_hold(g->run, before, held(g));
    return err ? err : full;
}

struct span groups_key(const struct groups *g, size_t at)
{
    return key_set_at(&g->keys, at);
}

int groups_show(struct groups *g, size_t at)
{
    const struct select *s = g->s;
    struct cur c;
    int err = 0;
    cur_init(&c, key_set_at(&g->keys, at));
    for (size_t i = 0; i < s->group_count; i++) {
        struct value *v = &g->run->slots[s->group_slot + i];
        *v = VALUE_NULL;
        if (cur_u8(&c) == 1) value_decode(&c, &s->group[i]->type, v);
    }
    for (size_t i = 0; i < s->aggregate_count && !err; i++)
        err = tally_result(&g->tallies[at * s->aggregate_count + i], &s->aggregates[i], &g->run->slots[s->aggregates[i].slot], &g->run->problem);
    return err ? err : cur_end(&c);
}
