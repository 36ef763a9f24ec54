#include "group_state.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "limits.h"

struct counted {
    struct hash_node node;
    int64_t n;
    uint32_t key_n;
    uint8_t key[]; // group, aggregate, value
};

size_t group_by(const struct select *s, size_t i, const struct expr **e)
{
    size_t n = s->grouped ? s->group_count : s->target_count;
    if (i < n) *e = s->grouped ? s->group[i] : s->targets[i].expr;
    return n;
}

int group_key(const struct select *s, struct run *run, struct buf *out)
{
    const struct expr *e;
    int err = 0;
    for (size_t i = 0; i < group_by(s, i, &e) && !err; i++) {
        struct value v;
        err = run_eval(run, e, &v);
        if (!err) value_key(out, &e->type, &v);
    }
    return err ? err : out->err;
}

// ---- groups --------------------------------------------------------------------------------------------------------

// Not to be foreseen from outside.
static uint64_t hash_of(const struct group_state *g, struct span key)
{
    return checksum64(key, (uint64_t)(uintptr_t)g);
}

static struct group *group_new(struct group_state *g, const struct select *s, struct span key)
{
    struct group *group = calloc(1, sizeof *group + key.n);
    if (!group) return NULL;
    group->tallies = calloc(s->aggregate_count + 1, sizeof *group->tallies);
    if (!group->tallies) {
        free(group);
        return NULL;
    }
    group->no = ++g->last_no;
    group->key_n = (uint32_t)key.n;
    if (key.n > 0) memcpy(group->key, key.p, key.n);
    return group;
}

static void group_free(struct group *group, const struct select *s)
{
    if (!group) return;
    for (size_t i = 0; i < s->aggregate_count; i++)
        tally_free(&group->tallies[i]);
    free(group->tallies);
    free(group);
}

static struct group *group_copy(struct group_state *g, const struct select *s, const struct group *base)
{
    struct group *group = group_new(g, s, SPAN(base->key, base->key_n));
    if (!group) return NULL;
    group->no = base->no;
    group->rows = base->rows;
    for (size_t i = 0; i < s->aggregate_count; i++) {
        if (tally_copy(&group->tallies[i], &base->tallies[i], &s->aggregates[i]) == 0) continue;
        group_free(group, s);
        return NULL;
    }
    return group;
}

static size_t group_bytes(const struct group *group, const struct select *s)
{
    size_t bytes = sizeof *group + group->key_n + (s->aggregate_count + 1) * sizeof *group->tallies;
    for (size_t i = 0; i < s->aggregate_count; i++)
        bytes += tally_bytes(&group->tallies[i], &s->aggregates[i]);
    return bytes;
}

static struct group *find_group(const struct group_state *g, struct span key, uint64_t hash)
{
    for (struct hash_node *n = hash_table_first(&g->groups, hash); n; n = hash_table_more(n)) {
        struct group *group = HASH_OWNER(n, struct group, node);
        if (span_equal(SPAN(group->key, group->key_n), key)) return group;
    }
    return NULL;
}

// ---- values of distinct aggregates ---------------------------------------------------------------------------------

static struct counted *find_counted(const struct hash_table *t, struct span key, uint64_t hash)
{
    for (struct hash_node *n = hash_table_first(t, hash); n; n = hash_table_more(n)) {
        struct counted *c = HASH_OWNER(n, struct counted, node);
        if (span_equal(SPAN(c->key, c->key_n), key)) return c;
    }
    return NULL;
}

static struct counted *counted_new(struct hash_table *t, struct span key, uint64_t hash)
{
    struct counted *c = malloc(sizeof *c + key.n);
    if (!c) return NULL;
    c->n = 0;
    c->key_n = (uint32_t)key.n;
    memcpy(c->key, key.p, key.n);
    hash_table_insert(t, &c->node, hash);
    return c;
}

static void free_counted(struct hash_table *t)
{
    for (struct hash_node *n = hash_table_take(t); n; n = hash_table_take(t))
        free(HASH_OWNER(n, struct counted, node));
    hash_table_free(t);
}

static bool counts_values(const struct aggregate *a)
{
    return a->distinct && a->kind != AGG_MIN && a->kind != AGG_MAX;
}

// ---- state ---------------------------------------------------------------------------------------------------------

int group_state_init(struct group_state *g, struct rows *r)
{
    *g = (struct group_state){.r = r};
    int err = hash_table_init(&g->groups);
    if (err) return err;
    err = hash_table_init(&g->counted);
    if (err) hash_table_free(&g->groups);
    return err;
}

static void count_bytes(struct group_state *g, size_t bytes)
{
    g->r->views.group_bytes += bytes - g->bytes;
    g->bytes = bytes;
}

void group_state_hold(struct group_state *g, size_t before, size_t now)
{
    count_bytes(g, g->bytes + now - before);
}

void group_state_free(struct group_state *g, const struct select *s)
{
    count_bytes(g, 0);
    for (struct hash_node *n = hash_table_take(&g->groups); n; n = hash_table_take(&g->groups))
        group_free(HASH_OWNER(n, struct group, node), s);
    hash_table_free(&g->groups);
    free_counted(&g->counted);
}

// ---- shifts --------------------------------------------------------------------------------------------------------

int group_shift_init(struct group_shift *shift, struct group_state *of, const struct select *s)
{
    *shift = (struct group_shift){.of = of, .s = s};
    buf_init(&shift->key, QUERY_MEMORY_MAX);
    int err = hash_table_init(&shift->groups);
    if (err) return err;
    err = hash_table_init(&shift->counted);
    if (err) hash_table_free(&shift->groups);
    return err;
}

void group_shift_free(struct group_shift *shift)
{
    for (size_t i = 0; i < shift->n; i++) {
        group_free(shift->all[i]->now, shift->s);
        free(shift->all[i]);
    }
    free(shift->all);
    hash_table_free(&shift->groups);
    free_counted(&shift->counted);
    buf_free(&shift->key);
}

static int check_bytes(const struct group_shift *shift)
{
    bool over = shift->of->bytes + shift->bytes > QUERY_MEMORY_MAX || shift->of->r->views.group_bytes + shift->bytes > VIEW_GROUPS_BYTES_MAX;
    return over ? ERR_QUERY_TOO_EXPENSIVE : 0;
}

static struct shifted *find_shifted(const struct group_shift *shift, struct span key, uint64_t hash)
{
    for (struct hash_node *n = hash_table_first(&shift->groups, hash); n; n = hash_table_more(n)) {
        struct shifted *x = HASH_OWNER(n, struct shifted, node);
        if (span_equal(SPAN(x->now->key, x->now->key_n), key)) return x;
    }
    return NULL;
}

static int reserve(struct group_shift *shift)
{
    if (shift->n < shift->cap) return 0;
    size_t cap = shift->cap > 0 ? 2 * shift->cap : 8;
    struct shifted **all = realloc(shift->all, cap * sizeof(struct shifted *));
    if (!all) return ERR_NOMEM;
    shift->all = all;
    shift->cap = cap;
    return 0;
}

int group_shift_meet(struct group_shift *shift, struct span key, struct shifted **out)
{
    uint64_t hash = hash_of(shift->of, key);
    *out = find_shifted(shift, key, hash);
    if (*out) return 0;
    int err = reserve(shift);
    struct shifted *x = err ? NULL : calloc(1, sizeof *x);
    if (!x) return ERR_NOMEM;
    x->base = find_group(shift->of, key, hash);
    x->now = x->base ? group_copy(shift->of, shift->s, x->base) : group_new(shift->of, shift->s, key);
    if (!x->now) {
        free(x);
        return ERR_NOMEM;
    }
    hash_table_insert(&shift->groups, &x->node, hash);
    shift->all[shift->n++] = x;
    shift->bytes += sizeof *x + sizeof(struct shifted *) + group_bytes(x->now, shift->s);
    *out = x;
    return check_bytes(shift);
}

// *turns: the value comes to be in the group, or is in it no more.
static int count_value(struct group_shift *shift, const struct group *group, size_t i, const struct value *v, bool remove, bool *turns)
{
    struct buf key;
    buf_init(&key, QUERY_MEMORY_MAX);
    buf_put_varint(&key, group->no);
    buf_put_varint(&key, i);
    value_key(&key, &shift->s->aggregates[i].arg->type, v);
    if (key.err) {
        int err = key.err == ERR_TOO_LARGE ? ERR_QUERY_TOO_EXPENSIVE : key.err;
        buf_free(&key);
        return err;
    }
    uint64_t hash = hash_of(shift->of, buf_span(&key));
    const struct counted *base = find_counted(&shift->of->counted, buf_span(&key), hash);
    struct counted *more = find_counted(&shift->counted, buf_span(&key), hash);
    int64_t before = (base ? base->n : 0) + (more ? more->n : 0);
    if (!more) {
        more = counted_new(&shift->counted, buf_span(&key), hash);
        shift->bytes += sizeof *more + key.n;
    }
    buf_free(&key);
    if (!more) return ERR_NOMEM;
    if (before <= 0 && remove) return ERR_INTERNAL;
    more->n += remove ? -1 : 1;
    *turns = before == (remove ? 1 : 0);
    return 0;
}

static int tally_one(struct group_shift *shift, struct group *group, size_t i, struct run *run, bool remove)
{
    const struct aggregate *a = &shift->s->aggregates[i];
    struct tally *t = &group->tallies[i];
    struct value v = {.b = true};
    bool turns = true;
    int err = a->arg ? run_eval(run, a->arg, &v) : 0;
    if (!err && counts_values(a) && !v.null) err = count_value(shift, group, i, &v, remove, &turns);
    if (err || !turns) return err;
    shift->bytes -= tally_bytes(t, a);
    err = remove ? tally_remove(t, a, &v) : tally_add(t, a, &v);
    shift->bytes += tally_bytes(t, a);
    return err;
}

// Selects within are run before anything is counted: what may have to wait, waits here.
static int run_subs(const struct select *s, struct run *run)
{
    int err = 0;
    for (size_t i = 0; i < s->aggregate_count && !err; i++) {
        struct value v;
        if (s->aggregates[i].arg && s->aggregates[i].arg->subs) err = run_eval(run, s->aggregates[i].arg, &v);
    }
    return err;
}

int group_shift_row(struct group_shift *shift, struct run *run, bool remove)
{
    struct shifted *x;
    buf_clear(&shift->key);
    int err = group_key(shift->s, run, &shift->key);
    if (!err) err = run_subs(shift->s, run);
    if (!err) err = group_shift_meet(shift, buf_span(&shift->key), &x);
    if (err) return err;
    if (remove && x->now->rows == 0) return ERR_INTERNAL; // what is kept and what a difference tells are not of the same rows
    for (size_t i = 0; i < shift->s->aggregate_count && !err; i++)
        err = tally_one(shift, x->now, i, run, remove);
    x->now->rows += remove ? UINT64_MAX : 1;
    return err ? err : check_bytes(shift);
}

// ---- what has to be looked for -------------------------------------------------------------------------------------

bool group_is_lost(const struct group *g, const struct select *s)
{
    bool lost = false;
    for (size_t i = 0; i < s->aggregate_count; i++)
        lost |= g->tallies[i].lost;
    return lost;
}

void group_again_begin(struct group *g, const struct select *s)
{
    for (size_t i = 0; i < s->aggregate_count; i++)
        if (g->tallies[i].lost) tally_free(&g->tallies[i]), g->tallies[i].lost = true;
}

void group_again_end(struct group *g, const struct select *s)
{
    for (size_t i = 0; i < s->aggregate_count; i++)
        g->tallies[i].lost = false;
}

int group_tally_again(struct group *g, const struct select *s, struct run *run)
{
    int err = 0;
    for (size_t i = 0; i < s->aggregate_count && !err; i++) {
        const struct aggregate *a = &s->aggregates[i];
        struct tally *t = &g->tallies[i];
        struct value v;
        if (!t->lost) continue;
        err = run_eval(run, a->arg, &v);
        if (err) return err;
        t->lost = false; // while it is added to: what it has is all that was met so far
        err = tally_add(t, a, &v);
        t->lost = true;
    }
    return err;
}

// ---- applying ------------------------------------------------------------------------------------------------------

static void apply_counted(struct group_shift *shift, size_t *bytes)
{
    struct hash_table *to = &shift->of->counted;
    for (struct hash_node *n = hash_table_take(&shift->counted); n; n = hash_table_take(&shift->counted)) {
        struct counted *more = HASH_OWNER(n, struct counted, node), *base = find_counted(to, SPAN(more->key, more->key_n), n->hash);
        size_t size = sizeof *more + more->key_n;
        if (!base && more->n != 0) {
            hash_table_insert(to, n, n->hash);
            *bytes += size;
            continue;
        }
        if (base) base->n += more->n;
        if (base && base->n == 0) {
            hash_table_remove(to, &base->node);
            free(base);
            *bytes -= size;
        }
        free(more);
    }
}

void group_shift_apply(struct group_shift *shift)
{
    struct group_state *g = shift->of;
    const struct select *s = shift->s;
    size_t bytes = g->bytes;
    for (size_t i = 0; i < shift->n; i++) {
        struct shifted *x = shift->all[i];
        bool stays = x->now->rows > 0 || (s->grouped && s->group_count == 0);
        if (x->base) {
            bytes -= group_bytes(x->base, s);
            hash_table_remove(&g->groups, &x->base->node);
            group_free(x->base, s);
            x->base = NULL;
        }
        if (!stays) continue;
        bytes += group_bytes(x->now, s);
        hash_table_insert(&g->groups, &x->now->node, x->node.hash);
        x->base = x->now;
        x->now = NULL;
    }
    apply_counted(shift, &bytes);
    count_bytes(g, bytes);
}
