// Grouping: what a row of a grouped result can show. While the text is compiled, aggregates get slots; once all is compiled, what is
// grouped by is replaced by its slot wherever it stands, in selects within too.
#include <assert.h>

#include "err.h"
#include "select_impl.h"

// ---- aggregates ----------------------------------------------------------------------------------------------------

static bool whole(const struct type *t)
{
    return !t->array && (t->kind == COL_INTEGER || t->kind == COL_BIGINT || t->kind == COL_COUNTER);
}

static bool number(const struct type *t)
{
    return whole(t) || (!t->array && t->kind == COL_DOUBLE);
}

static enum aggregate_kind kind_of(struct span name)
{
    if (span_is(name, "count")) return AGG_COUNT;
    if (span_is(name, "sum")) return AGG_SUM;
    if (span_is(name, "avg")) return AGG_AVG;
    return span_is(name, "min") ? AGG_MIN : AGG_MAX;
}

static int type_of(const struct select_compile *s, const struct ast_expr *ast, struct aggregate *a)
{
    const struct type *t = a->arg ? &a->arg->type : NULL;
    switch (a->kind) {
    case AGG_COUNT: a->type = TYPE(COL_BIGINT); return 0;
    case AGG_SUM:
    case AGG_AVG:
        if (!number(t)) return problem_set(s->c.p, ERR_WRONG_TYPE, ast->position, "%.*s is for numbers", SPAN_FMT(ast->name));
        a->type = a->kind == AGG_SUM && whole(t) ? TYPE(COL_BIGINT) : TYPE(COL_DOUBLE);
        return 0;
    case AGG_MIN:
    case AGG_MAX:
        if (!type_ordered(t)) return problem_set(s->c.p, ERR_WRONG_TYPE, ast->position, "values of this type have no order");
        a->type = *t;
        return 0;
    case AGG_FIRST: break;
    }
    assert(!"an aggregate of SQL");
    return ERR_INTERNAL;
}

static int add_aggregate(const struct select_compile *s, struct aggregate *a, int64_t position, struct expr *e)
{
    if (s->s->aggregate_count == PLAN_PARTS_MAX) return problem_set(s->c.p, ERR_TOO_LARGE, position, "too many aggregates");
    a->slot = (uint32_t)s->of->plan->value_slots++;
    s->s->aggregates[s->s->aggregate_count++] = *a;
    e->kind = EX_SLOT;
    e->slot = a->slot;
    e->type = a->type;
    e->slots = true;
    return 0;
}

int group_aggregate(struct expr_compile *c, const struct ast_expr *ast, struct expr *e)
{
    struct select_compile *s = (struct select_compile *)c;
    struct aggregate a = {.kind = kind_of(ast->name), .distinct = ast->distinct};
    if (!s->aggregates_fit || s->in_aggregate)
        return problem_set(c->p, ERR_BAD_SQL, ast->position, "%.*s is an aggregate, which cannot stand here", SPAN_FMT(ast->name));
    if (ast->star ? a.kind != AGG_COUNT : ast->count != 1)
        return problem_set(c->p, ERR_BAD_SQL, ast->position, "%.*s takes one value", SPAN_FMT(ast->name));
    if (!ast->star) {
        s->in_aggregate = true;
        int err = expr_compile(c, ast->args[0], NULL, &a.arg);
        s->in_aggregate = false;
        if (err) return err;
        if (a.arg->type.kind == COL_STREAM && a.kind == AGG_COUNT && a.distinct)
            return problem_set(c->p, ERR_WRONG_TYPE, ast->position, "a stream has no value to count");
    }
    int err = type_of(s, ast, &a);
    return err ? err : add_aggregate(s, &a, ast->position, e);
}

// ---- resolving -----------------------------------------------------------------------------------------------------

static void become_slot(struct expr *e, uint32_t slot)
{
    e->kind = EX_SLOT;
    e->slot = slot;
    e->slots = true;
    e->count = 0;
}

// Of a table whose id is grouped by, each group has one row: its columns may be shown.
static bool id_is_grouped(const struct select *s, uint32_t slot)
{
    for (size_t i = 0; i < s->group_count; i++)
        if (s->group[i]->kind == EX_COLUMN && s->group[i]->slot == slot && s->group[i]->column == COLUMN_ID) return true;
    return false;
}

static int resolve_column(const struct select_compile *s, struct expr *e)
{
    if (!id_is_grouped(s->s, e->slot))
        return problem_set(s->c.p, ERR_BAD_SQL, e->position, "%.*s must be grouped by, or stand in an aggregate", SPAN_FMT(e->name));
    struct expr *copy = arena_alloc(s->of->plan->arena, sizeof *copy);
    if (!copy) return select_no_room(s->of);
    *copy = *e;
    const struct aggregate *known = NULL;
    for (size_t i = 0; i < s->s->aggregate_count && !known; i++)
        if (s->s->aggregates[i].kind == AGG_FIRST && expr_same(s->s->aggregates[i].arg, e)) known = &s->s->aggregates[i];
    if (known) {
        become_slot(e, known->slot);
        return 0;
    }
    return add_aggregate(s, &(struct aggregate){.kind = AGG_FIRST, .arg = copy, .type = e->type}, e->position, e);
}

static int resolve_select(const struct select_compile *s, struct select *inner);

static int resolve(const struct select_compile *s, struct expr *e)
{
    // The group expressions are their own copies by now: those that stand elsewhere are replaced, they are not.
    for (size_t i = 0; i < s->s->group_count; i++) {
        if (!expr_same(s->s->group[i], e)) continue;
        become_slot(e, s->s->group_slot + (uint32_t)i);
        return 0;
    }
    if (e->kind == EX_COLUMN && (s->s->own >> e->slot & 1)) return resolve_column(s, e);
    int err = 0;
    for (size_t i = 0; i < e->count && !err; i++)
        err = resolve(s, e->args[i]);
    if (err || e->kind != EX_SUB) return err;
    struct sub *sub = e->sub;
    if (!(sub->uses & s->s->own)) return 0;
    sub->slots = e->slots = true;
    if (sub->resolved == s->s) return 0; // what it shows may be what it is ordered by: nested ones would be met twice as often with each level
    sub->resolved = s->s;
    return resolve_select(s, sub->select);
}

static int resolve_all(const struct select_compile *s, struct expr **all, size_t count)
{
    int err = 0;
    for (size_t i = 0; i < count && !err; i++)
        err = resolve(s, all[i]);
    return err;
}

// A select within has its ways to the tables already; they are made of the same expressions.
static int resolve_select(const struct select_compile *s, struct select *inner)
{
    int err = resolve_all(s, inner->where, inner->where_count);
    for (size_t i = 0; i < inner->level_count && !err; i++)
        err = resolve_all(s, inner->levels[i].on, inner->levels[i].on_count);
    for (size_t i = 0; i < inner->target_count && !err; i++)
        err = resolve(s, inner->targets[i].expr);
    if (!err) err = resolve_all(s, inner->group, inner->group_count);
    for (size_t i = 0; i < inner->aggregate_count && !err; i++)
        if (inner->aggregates[i].arg) err = resolve(s, inner->aggregates[i].arg);
    for (size_t i = 0; i < inner->order_count && !err; i++)
        err = resolve(s, inner->order[i].expr);
    return !err && inner->having ? resolve(s, inner->having) : err;
}

// A copy deep enough to keep what `resolve` replaces elsewhere.
static struct expr *copy_expr(struct arena *a, const struct expr *e)
{
    struct expr *copy = arena_alloc(a, sizeof *copy);
    if (!copy) return NULL;
    *copy = *e;
    copy->args = arena_array(a, e->count, sizeof *copy->args);
    for (size_t i = 0; copy->args && i < e->count; i++) {
        copy->args[i] = copy_expr(a, e->args[i]);
        if (!copy->args[i]) return NULL;
    }
    return copy->args ? copy : NULL;
}

int group_resolve(struct select_compile *s)
{
    struct select *sel = s->s;
    for (size_t i = 0; i < sel->group_count; i++) {
        sel->group[i] = copy_expr(s->of->plan->arena, sel->group[i]);
        if (!sel->group[i]) return select_no_room(s->of);
    }
    int err = 0;
    for (size_t i = 0; i < sel->target_count && !err; i++)
        err = resolve(s, sel->targets[i].expr);
    if (!err && sel->having) err = resolve(s, sel->having);
    for (size_t i = 0; i < sel->order_count && !err; i++)
        err = resolve(s, sel->order[i].expr);
    return err;
}
