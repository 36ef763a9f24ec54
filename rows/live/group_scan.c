// Going through joined rows: all of a query's, or those of one group, to which the plan is held by what is grouped by, so that an index may find them.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "group_view.h"
#include "query_run.h"

#define PINS_BYTES_MAX (256 * KIB)

// ---- all rows ------------------------------------------------------------------------------------------------------

typedef int joined_fn(void *ctx, struct run *run);


static int each_joined(const struct plan *plan, const struct row_source *src, const struct value *params, size_t *budget, joined_fn *fn, void *ctx)
{
    struct run run;
    bool row = true;
    int err = run_open(&run, plan, src, params);
    if (err) return err;
    run.step_end_us = view_deadline(src->r->views.fill_us);
    err = run_begin_step(&run, src->txn, *budget);
    while (!err && row) {
        err = run_next(&run, &row);
        if (err || !row) break;
        err = fn(ctx, &run);
        if (!err) run_taken(&run);
    }
    *budget -= run.given - run.budget;
    run_close(&run);
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

// The plan as if nothing were grouped, distinct, put in order or limited.
static void make_joined(struct plan *plan, struct select *top, const struct plan *of)
{
    *plan = *of;
    *top = *of->top;
    plan->top = top;
    top->grouped = top->distinct = top->extreme = false;
    top->having = NULL;
    top->order_count = 0;
    top->sorted = top->any_order = true;
    top->limit.is = top->offset.is = false;
}

struct group_scan {
    struct plan plan;
    struct select top;
    struct plan *of; // whose parts they are
    struct run run;
    struct group_shift *shift;
};

int group_scan_new(struct group_view *g, const struct row_source *src, struct group_shift *shift, struct group_scan **out)
{
    struct group_scan *scan = calloc(1, sizeof *scan);
    if (!scan) return ERR_NOMEM;
    scan->of = plan_ref(g->l.plan);
    scan->shift = shift;
    make_joined(&scan->plan, &scan->top, scan->of);
    int err = run_open(&scan->run, &scan->plan, src, g->l.params);
    if (err) {
        plan_unref(scan->of);
        free(scan);
        return err;
    }
    *out = scan;
    return 0;
}

void group_scan_free(struct group_scan *scan)
{
    if (!scan) return;
    run_close(&scan->run);
    plan_unref(scan->of);
    free(scan);
}

static int take_rows(struct group_scan *scan)
{
    bool row = true;
    int err = 0;
    while (!err && row) {
        err = run_next(&scan->run, &row);
        if (err || !row) break;
        err = group_shift_row(scan->shift, &scan->run, false);
        if (!err) run_taken(&scan->run);
    }
    return err;
}

int group_scan_step(struct group_scan *scan, struct db_txn *txn, size_t keys, uint64_t end_us)
{
    struct run *run = &scan->run;
    run->step_end_us = end_us;
    int err = run_begin_step(run, txn, keys);
    if (!err) err = take_rows(scan);
    if (err == EXEC_MORE && run->given == 0) err = ERR_QUERY_TOO_EXPENSIVE;
    int held = run_end_step(run);
    return held && (!err || err == EXEC_MORE) ? held : err;
}

uint64_t group_scan_looked_at(const struct group_scan *scan)
{
    return scan->run.looked_at;
}

// ---- one group -----------------------------------------------------------------------------------------------------

static bool can_pin(const struct expr *e)
{
    return !e->subs && !e->slots && !e->type.array && type_ordered(&e->type);
}

static struct value value_at(struct cur *c, const struct type *type)
{
    struct value v = VALUE_NULL;
    if (cur_u8(c) == 1) value_decode(c, type, &v);
    return v;
}

// What is grouped by has this value: a parameter that stands behind those of the query; or it is null.
static struct expr *make_pin(struct arena *a, const struct expr *by, size_t param, bool null)
{
    struct expr *e = arena_alloc(a, sizeof *e), *value = arena_alloc(a, sizeof *value);
    struct expr **args = arena_array(a, 2, sizeof *args);
    if (!e || !value || !args) return NULL;
    *value = (struct expr){.kind = EX_PARAM, .type = by->type, .position = -1, .slot = (uint32_t)param};
    *e = (struct expr){.kind = null ? EX_IS_NULL : EX_COMPARE, .type = TYPE(COL_BOOLEAN), .compared = by->type, .op = OP_EQ, .position = -1, .args = args, .count = null ? 1 : 2, .uses = by->uses};
    args[0] = (struct expr *)by;
    args[1] = value;
    return e;
}

static int pin_all(struct group_view *g, struct expr ***where, size_t *count)
{
    const struct select *s = group_select(g);
    const struct expr *e;
    size_t n = group_by(s, SIZE_MAX, &e);
    *count = s->where_count;
    *where = arena_array(g->again_exprs, s->where_count + n, sizeof **where);
    if (!*where) return ERR_NOMEM;
    for (size_t i = 0; i < s->where_count; i++)
        (*where)[i] = s->where[i];
    for (size_t i = 0; i < n; i++) {
        group_by(s, i, &e);
        if (!can_pin(e)) continue;
        struct expr *pin = make_pin(g->again_exprs, e, g->l.plan->param_count + i, i < 64 && g->again_nulls >> i & 1);
        if (!pin) return ERR_NOMEM;
        if (i < 64) (*where)[(*count)++] = pin;
    }
    return 0;
}

// In the order of the text, which is that of the slots.
static void tables_of(const struct select *s, struct level tables[QUERY_TABLES_MAX])
{
    size_t n = 0;
    for (uint32_t slot = 0; slot < EXPR_TABLES_MAX; slot++)
        for (size_t i = 0; i < s->level_count; i++)
            if (s->levels[i].slot == slot) tables[n++] = s->levels[i];
}

void group_again_forget(struct group_view *g)
{
    plan_unref(g->again);
    plan_unref(g->again_of);
    arena_free(g->again_exprs);
    g->again = g->again_of = NULL;
    g->again_exprs = NULL;
}

static int make_plan(struct group_view *g, uint64_t at, uint64_t nulls)
{
    struct level tables[QUERY_TABLES_MAX];
    struct expr **where;
    size_t count;
    if (g->again && g->again_of == g->l.plan && g->again_nulls == nulls && plan_holds(g->again, g->l.v.r, at)) return 0;
    group_again_forget(g);
    g->again_nulls = nulls;
    g->again_exprs = arena_new(PINS_BYTES_MAX);
    if (!g->again_exprs) return ERR_NOMEM;
    tables_of(group_select(g), tables);
    int err = pin_all(g, &where, &count);
    if (!err) err = plan_joined(g->l.v.r, g->l.plan, tables, group_select(g)->level_count, where, count, at, &g->again, NULL);
    if (!err) g->again_of = plan_ref(g->l.plan);
    return err;
}

struct again {
    const struct select *s;
    struct group *group;
    struct buf key;
};

// What a group is held to may be looser than what it is.
static int tally_again(void *ctx, struct run *run)
{
    struct again *a = ctx;
    buf_clear(&a->key);
    int err = group_key(a->s, run, &a->key);
    bool is = !err && span_equal(buf_span(&a->key), SPAN(a->group->key, a->group->key_n));
    return is ? group_tally_again(a->group, a->s, run) : err;
}

// The query's parameters, and behind them what the group has; *nulls: as bits, which of that is null.
static int group_params(const struct group_view *g, const struct group *group, struct value **out, uint64_t *nulls)
{
    const struct plan *plan = g->l.plan;
    const struct expr *e;
    struct cur c;
    size_t n = group_by(plan->top, SIZE_MAX, &e);
    *out = calloc(plan->param_count + n + 1, sizeof **out);
    *nulls = 0;
    if (!*out) return ERR_NOMEM;
    if (plan->param_count > 0) memcpy(*out, g->l.params, plan->param_count * sizeof **out);
    cur_init(&c, SPAN(group->key, group->key_n));
    for (size_t i = 0; i < n; i++) {
        group_by(plan->top, i, &e);
        struct value v = value_at(&c, &e->type);
        if (v.null && i < 64) *nulls |= UINT64_C(1) << i;
        (*out)[plan->param_count + i] = v;
    }
    return cur_end(&c);
}

static int go_through(struct group_view *g, const struct row_source *src, size_t *budget, struct group *group)
{
    struct again again = {.s = group_select(g), .group = group};
    struct value *params;
    uint64_t nulls;
    int err = group_params(g, group, &params, &nulls);
    buf_init(&again.key, QUERY_MEMORY_MAX);
    if (!err) err = make_plan(g, src->at, nulls);
    if (!err) err = each_joined(g->again, src, params, budget, tally_again, &again);
    buf_free(&again.key);
    free(params);
    return err;
}

// Of one min or max alone that stands at an end of an index, the query's own plan knows.
static int go_to_end(struct group_view *g, const struct row_source *src, size_t *budget, struct group *group)
{
    struct plan plan = *g->l.plan;
    struct select top = *plan.top;
    struct run run;
    bool row;
    plan.top = &top;
    top.having = NULL;
    top.order_count = 0;
    top.limit.is = top.offset.is = false;
    int err = run_open(&run, &plan, src, g->l.params);
    if (err) return err;
    err = run_begin_step(&run, src->txn, *budget);
    if (!err) err = run_next(&run, &row);
    if (!err) assert(row);
    struct tally *t = &group->tallies[0];
    uint64_t count = t->count;
    const struct value *v = &run.slots[top.aggregates[0].slot];
    if (!err) tally_free(t);
    if (!err && !v->null) err = tally_add(t, &top.aggregates[0], v);
    if (!err) t->count = count;
    *budget -= run.given - run.budget;
    run_close(&run);
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

int group_look_again(struct group_view *g, const struct row_source *src, size_t *budget, struct group *group)
{
    const struct select *s = group_select(g);
    if (s->extreme) return go_to_end(g, src, budget, group);
    group_again_begin(group, s);
    int err = go_through(g, src, budget, group);
    group_again_end(group, s);
    return err;
}
