// Plans made of the parts of another one: what live views look for rows with, one table held to the rows that have changed.
#include <stdlib.h>

#include "err.h"
#include "select_impl.h"

static struct plan *derive(struct rows *r, struct plan *base, uint64_t at)
{
    struct plan *plan = plan_new(r->schema, at);
    if (!plan) return NULL;
    plan->base = plan_ref(base);
    plan->table_slots = base->table_slots;
    plan->value_slots = base->value_slots;
    memcpy(plan->tables, base->tables, sizeof plan->tables);
    plan->subs = base->subs;
    plan->sub_count = base->sub_count;
    plan->params = base->params;
    plan->param_count = base->param_count;
    return plan;
}

static int put_levels(struct select_compile *s, const struct level *tables)
{
    struct select *made = s->s;
    made->levels = arena_array(s->of->plan->arena, made->level_count, sizeof *made->levels);
    if (!made->levels) return select_no_room(s->of);
    for (size_t i = 0; i < made->level_count; i++) {
        const struct level *t = &tables[i];
        made->levels[i] = (struct level){
            .slot = t->slot, .table = t->table, .name = t->name, .left = t->left, .on = t->left ? t->on : NULL, .on_count = t->left ? t->on_count : 0};
        made->own |= UINT64_C(1) << t->slot;
        s->tables[i] = (struct expr_table){.name = t->name, .table = schema_table_no(s->of->plan->schema, t->table), .slot = t->slot};
    }
    return 0;
}

int plan_joined(struct rows *r, struct plan *base, const struct level *tables, size_t table_count, struct expr **where, size_t where_count,
                uint64_t at, struct plan **out, struct problem *p)
{
    if (table_count > QUERY_TABLES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "more than %d tables are looked through at once", QUERY_TABLES_MAX);
    struct plan_compile of = {.r = r, .at = at, .p = p, .plan = derive(r, base, at)};
    struct select_compile *s = calloc(1, sizeof *s);
    struct select *made = of.plan ? arena_alloc(of.plan->arena, sizeof *made) : NULL;
    int err = ERR_NOMEM;
    if (s && made) {
        *made = (struct select){.level_count = table_count,
                                .where = where,
                                .where_count = where_count,
                                .targets = base->top->targets,
                                .target_count = base->top->target_count,
                                .any_order = true};
        s->of = &of;
        s->s = of.plan->top = made;
        err = put_levels(s, tables);
        if (!err) err = plan_select(s);
    }
    free(s);
    if (err) {
        plan_unref(of.plan);
        return err;
    }
    *out = of.plan;
    return 0;
}
