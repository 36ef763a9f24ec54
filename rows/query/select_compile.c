// From a parsed select to a compiled one.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "select_impl.h"

int select_no_room(const struct plan_compile *of)
{
    if (!arena_full(of->plan->arena)) return ERR_NOMEM;
    return problem_set(of->p, ERR_TOO_LARGE, -1, "a compiled query takes at most %u bytes", PLAN_BYTES_MAX);
}

static struct select_compile *of_expr(struct expr_compile *c)
{
    return (struct select_compile *)c;
}

// ---- parameters ----------------------------------------------------------------------------------------------------

static struct type type_of_param(const struct row_value *v)
{
    switch (v->kind) {
    case ROW_BOOL: return TYPE(COL_BOOLEAN);
    case ROW_INT: return TYPE(COL_BIGINT);
    case ROW_REAL: return TYPE(COL_DOUBLE);
    case ROW_JSON: return TYPE(COL_JSONB);
    default: return TYPE(COL_TEXT);
    }
}

static int add_param(const struct plan_compile *of, int n, int64_t position, const struct type *want, uint32_t *slot, struct type *type)
{
    struct plan *plan = of->plan;
    if (n < 1 || (size_t)n > of->param_count) return problem_set(of->p, ERR_BAD_PARAMETER, position, "the parameter $%d is not given", n);
    *type = want ? *want : type_of_param(&of->params[n - 1]);
    for (size_t i = 0; i < plan->param_count; i++) {
        if (plan->params[i].n != n || !type_same(&plan->params[i].type, type)) continue;
        *slot = (uint32_t)i;
        return 0;
    }
    if (!plan->params) plan->params = arena_array(plan->arena, PLAN_PARTS_MAX, sizeof *plan->params);
    if (!plan->params) return select_no_room(of);
    if (plan->param_count == PLAN_PARTS_MAX) return problem_set(of->p, ERR_TOO_LARGE, position, "parameters are used in too many ways");
    plan->params[plan->param_count] = (struct plan_param){.n = n, .type = *type, .position = position};
    *slot = (uint32_t)plan->param_count++;
    return 0;
}

static int param(struct expr_compile *c, int n, int64_t position, const struct type *want, struct expr *e)
{
    return add_param(of_expr(c)->of, n, position, want, &e->slot, &e->type);
}

// ---- selects within ------------------------------------------------------------------------------------------------

static void note_uses(const struct expr *e, uint64_t *uses, bool *slots)
{
    *uses |= e->uses;
    *slots = *slots || e->slots;
}

// What the whole select depends on; of that, what is not its own is what it depends on from outside.
static void sub_uses(const struct select *s, uint64_t *uses, bool *slots)
{
    for (size_t i = 0; i < s->where_count; i++)
        note_uses(s->where[i], uses, slots);
    for (size_t i = 0; i < s->level_count; i++)
        for (size_t k = 0; k < s->levels[i].on_count; k++)
            note_uses(s->levels[i].on[k], uses, slots);
    for (size_t i = 0; i < s->target_count; i++)
        note_uses(s->targets[i].expr, uses, slots);
    for (size_t i = 0; i < s->group_count; i++)
        note_uses(s->group[i], uses, slots);
    for (size_t i = 0; i < s->aggregate_count; i++)
        if (s->aggregates[i].arg) note_uses(s->aggregates[i].arg, uses, slots);
    for (size_t i = 0; i < s->order_count; i++)
        note_uses(s->order[i].expr, uses, slots);
    if (s->having) note_uses(s->having, uses, slots);
    *uses &= ~s->own;
}

static bool plain_type(const struct expr *e)
{
    return e->type.kind != COL_STREAM && e->type.kind != COL_BLOB;
}

static int in_type(const struct select_compile *s, const struct ast_expr *ast, const struct expr *left, const struct select *inner,
                   struct type *out)
{
    char a[TYPE_TEXT_MAX], b[TYPE_TEXT_MAX];
    const struct type *l = &left->type, *r = &inner->targets[0].expr->type;
    bool whole_left = !l->array && (l->kind == COL_INTEGER || l->kind == COL_BIGINT || l->kind == COL_COUNTER);
    bool whole_right = !r->array && (r->kind == COL_INTEGER || r->kind == COL_BIGINT || r->kind == COL_COUNTER);
    if (l->kind == COL_STREAM || (!type_same(l, r) && !(whole_left && whole_right)))
        return problem_set(s->c.p, ERR_WRONG_TYPE, ast->position, "%s and %s do not go together", type_text(l, a), type_text(r, b));
    *out = whole_left ? TYPE(COL_BIGINT) : *l;
    return 0;
}

static int sub_type(const struct select_compile *s, const struct ast_expr *ast, struct sub *sub, struct expr *e)
{
    const struct select *inner = sub->select;
    e->type = TYPE(COL_BOOLEAN);
    if (sub->kind == SUB_EXISTS) return 0;
    if (sub->kind == SUB_IN) {
        if (inner->target_count != 1) return problem_set(s->c.p, ERR_BAD_SQL, ast->position, "IN takes a select of one column");
        return in_type(s, ast, e->args[0], inner, &sub->compared);
    }
    bool one = sub->kind == SUB_SCALAR && inner->target_count == 1 && plain_type(inner->targets[0].expr);
    e->type = one ? inner->targets[0].expr->type : TYPE(COL_JSONB);
    return 0;
}

static int select_within(struct expr_compile *c, const struct ast_expr *ast, struct expr *e)
{
    struct select_compile *s = of_expr(c);
    struct plan *plan = s->of->plan;
    struct sub *sub = arena_alloc(plan->arena, sizeof *sub);
    if (!sub) return select_no_room(s->of);
    sub->kind = ast->kind == AX_EXISTS ? SUB_EXISTS : ast->kind == AX_ARRAY ? SUB_ARRAY : ast->kind == AX_SCALAR ? SUB_SCALAR : SUB_IN;
    bool any_order = sub->kind == SUB_EXISTS || sub->kind == SUB_IN;
    int err = select_compile(s->of, ast->select, &s->scope, any_order && !ast->select->has_limit && !ast->select->has_offset, &sub->select);
    if (!err) err = sub_type(s, ast, sub, e);
    if (err) return err;
    if (!plan->subs) plan->subs = arena_array(plan->arena, PLAN_PARTS_MAX, sizeof *plan->subs);
    if (!plan->subs) return select_no_room(s->of);
    if (plan->sub_count == PLAN_PARTS_MAX) return problem_set(c->p, ERR_TOO_LARGE, ast->position, "too many selects within one query");
    sub->no = (uint32_t)plan->sub_count;
    plan->subs[plan->sub_count++] = sub;
    sub_uses(sub->select, &sub->uses, &sub->slots);
    e->slot = sub->no;
    e->uses = sub->uses;
    e->slots = sub->slots;
    e->sub = sub;
    return 0;
}

// ---- tables --------------------------------------------------------------------------------------------------------

static int add_table(struct select_compile *s, const struct ast_from *f, size_t i)
{
    struct plan *plan = s->of->plan;
    struct expr_table *t = &s->tables[i];
    struct level *level = &s->s->levels[i];
    t->table = schema_table(plan->schema, f->table);
    if (!t->table) return problem_set(s->c.p, ERR_NO_SUCH_TABLE, f->position, "there is no table %.*s", SPAN_FMT(f->table));
    if (plan->table_slots == EXPR_TABLES_MAX) return problem_set(s->c.p, ERR_TOO_LARGE, f->position, "more than %d tables", EXPR_TABLES_MAX);
    if (!arena_copy_span(plan->arena, f->alias.n > 0 ? f->alias : f->table, &t->name)) return select_no_room(s->of);
    for (size_t k = 0; k < i; k++)
        if (span_equal(s->tables[k].name, t->name))
            return problem_set(s->c.p, ERR_BAD_SQL, f->position, "two tables here are called %.*s", SPAN_FMT(t->name));
    t->slot = (uint32_t)plan->table_slots;
    plan->tables[plan->table_slots++] = t->table->no;
    s->s->own |= UINT64_C(1) << t->slot;
    *level = (struct level){.slot = t->slot, .table = t->table->no, .name = t->name, .left = f->join == JOIN_LEFT};
    return 0;
}

static int add_where(struct select_compile *s, struct expr **more, size_t count)
{
    struct select *out = s->s;
    struct expr **all = arena_array(s->of->plan->arena, out->where_count + count, sizeof *all);
    if (!all) return select_no_room(s->of);
    if (out->where_count > 0) memcpy(all, out->where, out->where_count * sizeof *all);
    if (count > 0) memcpy(all + out->where_count, more, count * sizeof *all);
    out->where = all;
    out->where_count += count;
    return 0;
}

// What stands in ON sees the tables up to its own. Of an inner join it is a condition like any other.
static int compile_on(struct select_compile *s, size_t i)
{
    const struct ast_from *f = &s->ast->from[i];
    struct expr *e;
    struct expr **parts;
    size_t count;
    if (!f->on) return 0;
    s->scope.count = i + 1;
    int err = expr_compile_condition(&s->c, f->on, &e);
    if (!err) err = split_conjuncts(s->of, e, &parts, &count);
    if (err) return err;
    if (f->join != JOIN_LEFT) return add_where(s, parts, count);
    s->s->levels[i].on = parts;
    s->s->levels[i].on_count = count;
    return 0;
}

static int compile_from(struct select_compile *s)
{
    size_t count = s->ast->from_count;
    assert(count >= 1 && count <= QUERY_TABLES_MAX);
    s->s->levels = arena_array(s->of->plan->arena, count, sizeof *s->s->levels);
    if (!s->s->levels) return select_no_room(s->of);
    s->s->level_count = count;
    int err = 0;
    for (size_t i = 0; i < count && !err; i++)
        err = add_table(s, &s->ast->from[i], i);
    for (size_t i = 0; i < count && !err; i++)
        err = compile_on(s, i);
    s->scope.count = count;
    return err;
}

static int compile_where(struct select_compile *s)
{
    struct expr *e, **parts;
    size_t count;
    if (!s->ast->where) return 0;
    int err = expr_compile_condition(&s->c, s->ast->where, &e);
    if (!err) err = split_conjuncts(s->of, e, &parts, &count);
    return err ? err : add_where(s, parts, count);
}

// ---- columns of the result -----------------------------------------------------------------------------------------

// As PostgreSQL names them.
struct span target_name(const struct ast_expr *e)
{
    switch (e->kind) {
    case AX_COLUMN:
    case AX_CALL: return e->name;
    case AX_CASE: return SPAN_LIT("case");
    case AX_EXISTS: return SPAN_LIT("exists");
    case AX_ARRAY:
    case AX_ELEMENTS: return SPAN_LIT("array");
    case AX_CAST: return target_name(e->args[0]);
    case AX_SCALAR:
        if (e->select->targets[0].name.n > 0) return e->select->targets[0].name;
        return e->select->targets[0].expr->kind == AX_STAR ? SPAN_LIT("row") : target_name(e->select->targets[0].expr);
    default: return SPAN_LIT("?column?");
    }
}

static int add_target(struct select_compile *s, struct span name, struct expr *e, int64_t position)
{
    struct select *out = s->s;
    if (out->target_count == COLUMNS_MAX + 1) return problem_set(s->c.p, ERR_TOO_LARGE, position, "a query names at most %d columns", COLUMNS_MAX);
    struct target *t = &out->targets[out->target_count];
    for (size_t i = 0; i < out->target_count; i++)
        if (span_equal(out->targets[i].name, name))
            return problem_set(s->c.p, ERR_BAD_SQL, position, "two columns are called %.*s; call one something else with AS", SPAN_FMT(name));
    t->expr = e;
    if (!arena_copy_span(s->of->plan->arena, name, &t->name)) return select_no_room(s->of);
    out->target_count++;
    return 0;
}

static int column_of(struct select_compile *s, const struct expr_table *t, struct span name, int64_t position, struct expr **out)
{
    const struct ast_expr ast = {.kind = AX_COLUMN, .table = t->name, .name = name, .position = position};
    return expr_compile(&s->c, &ast, NULL, out);
}

// The columns of a table in the order of their birth, `id` before them.
static int add_table_columns(struct select_compile *s, const struct expr_table *t, int64_t position, bool id)
{
    struct expr *e;
    int err = id ? column_of(s, t, SPAN_LIT("id"), position, &e) : 0;
    if (!err && id) err = add_target(s, SPAN_LIT("id"), e, position);
    for (size_t i = 0; i < t->table->column_count && !err; i++) {
        struct span name = t->table->columns[i].name;
        err = column_of(s, t, name, position, &e);
        if (!err) err = add_target(s, name, e, position);
    }
    return err;
}

static int add_star(struct select_compile *s, const struct ast_target *target, bool id)
{
    bool found = false;
    int err = 0;
    for (size_t i = 0; i < s->scope.count && !err; i++) {
        if (target->expr->table.n > 0 && !span_equal(target->expr->table, s->tables[i].name)) continue;
        found = true;
        err = add_table_columns(s, &s->tables[i], target->position, id);
    }
    if (err || found) return err;
    return problem_set(s->c.p, ERR_BAD_SQL, target->position, "%.*s is not a table of this query", SPAN_FMT(target->expr->table));
}

// With `ids`, `id` stands first already.
static int add_targets(struct select_compile *s, bool ids)
{
    const struct ast_select *ast = s->ast;
    int err = 0;
    for (size_t i = 0; i < ast->target_count && !err; i++) {
        const struct ast_target *t = &ast->targets[i];
        struct expr *e;
        if (t->expr->kind == AX_STAR) {
            err = add_star(s, t, !ids);
            continue;
        }
        err = expr_compile(&s->c, t->expr, NULL, &e);
        bool is_id = !err && ids && t->name.n == 0 && e->kind == EX_COLUMN && e->column == COLUMN_ID;
        if (!err && !is_id) err = add_target(s, t->name.n > 0 ? t->name : target_name(t->expr), e, t->position);
    }
    return err;
}

// Is there an aggregate in this expression, outside of the selects within?
static bool has_aggregate(const struct ast_expr *e)
{
    static const char *const names[] = {"count", "sum", "min", "max", "avg"};
    for (size_t i = 0; e->kind == AX_CALL && i < sizeof names / sizeof *names; i++)
        if (span_is(e->name, names[i])) return true;
    for (size_t i = 0; i < e->count; i++)
        if (has_aggregate(e->args[i])) return true;
    return false;
}

static bool is_grouped(const struct ast_select *ast)
{
    if (ast->group_count > 0 || ast->having) return true;
    for (size_t i = 0; i < ast->target_count; i++)
        if (has_aggregate(ast->targets[i].expr)) return true;
    for (size_t i = 0; i < ast->order_count; i++)
        if (has_aggregate(ast->order[i].expr)) return true;
    return false;
}

// How many columns the list can come to: each * is at most all of all tables.
static size_t targets_at_most(const struct select_compile *s)
{
    size_t all = 0, n = 1;
    for (size_t i = 0; i < s->scope.count; i++)
        all += s->tables[i].table->column_count + 1;
    for (size_t i = 0; i < s->ast->target_count; i++)
        n += s->ast->targets[i].expr->kind == AX_STAR ? all : 1;
    return n < COLUMNS_MAX + 1 ? n : COLUMNS_MAX + 1;
}

// Rows of one table, as they are, keep their name: `id` stands first in them, asked for or not.
static int compile_targets(struct select_compile *s)
{
    struct select *out = s->s;
    bool ids = !s->scope.outer && s->ast->from_count == 1 && !out->grouped && !s->ast->distinct;
    struct expr *id;
    int err = 0;
    out->targets = arena_array(s->of->plan->arena, targets_at_most(s), sizeof *out->targets);
    if (!out->targets) return select_no_room(s->of);
    if (ids) err = column_of(s, &s->tables[0], SPAN_LIT("id"), -1, &id);
    if (!err && ids) err = add_target(s, SPAN_LIT("id"), id, -1);
    if (!err) err = add_targets(s, ids);
    if (!s->scope.outer) s->of->plan->rows_have_ids = ids;
    return err;
}

// ---- group, having, order ------------------------------------------------------------------------------------------

static int numbered_target(struct select_compile *s, const struct ast_expr *ast, struct expr **out)
{
    const struct ast_select *of = s->ast;
    if (ast->value.i < 1 || (uint64_t)ast->value.i > of->target_count || of->targets[ast->value.i - 1].expr->kind == AX_STAR)
        return problem_set(s->c.p, ERR_BAD_SQL, ast->position, "the query has no such column");
    return expr_compile(&s->c, of->targets[ast->value.i - 1].expr, NULL, out);
}

// A number names a column of the text by its place, from 1; a name alone one of the result that is called so.
static int named_target(struct select_compile *s, const struct ast_expr *ast, struct expr **out)
{
    const struct select *sel = s->s;
    *out = NULL;
    if (ast->kind == AX_CONST && ast->value.kind == AST_INT) return numbered_target(s, ast, out);
    for (size_t i = 0; ast->kind == AX_COLUMN && ast->table.n == 0 && i < sel->target_count; i++)
        if (span_equal(sel->targets[i].name, ast->name)) *out = sel->targets[i].expr;
    return 0;
}

static int no_order(const struct select_compile *s, const struct expr *e, int64_t position)
{
    struct span name = e->kind == EX_COLUMN ? e->name : SPAN_LIT("this");
    return problem_set(s->c.p, ERR_UNSUPPORTED_SQL, position, "%.*s has no order", SPAN_FMT(name));
}

static int compile_order(struct select_compile *s)
{
    const struct ast_select *ast = s->ast;
    struct select *out = s->s;
    out->order = arena_array(s->of->plan->arena, ast->order_count, sizeof *out->order);
    if (!out->order) return select_no_room(s->of);
    for (size_t i = 0; i < ast->order_count; i++) {
        struct order_term *o = &out->order[i];
        *o = (struct order_term){.desc = ast->order[i].desc, .nulls_first = ast->order[i].nulls_first};
        int err = named_target(s, ast->order[i].expr, &o->expr);
        if (!err && !o->expr) err = expr_compile(&s->c, ast->order[i].expr, NULL, &o->expr);
        if (err) return err;
        if (!type_ordered(&o->expr->type)) return no_order(s, o->expr, ast->order[i].position);
        out->order_count++;
    }
    return 0;
}

static int check_group_type(const struct select_compile *s, const struct expr *e, int64_t position)
{
    if (e->type.kind != COL_STREAM) return 0;
    return problem_set(s->c.p, ERR_UNSUPPORTED_SQL, position, "a stream has no value to group by");
}

// A name is a column before it is what a column of the result is called: as PostgreSQL has it.
static int group_expr(struct select_compile *s, const struct ast_expr *ast, struct expr **out)
{
    const struct ast_select *of = s->ast;
    if (ast->kind == AX_CONST && ast->value.kind == AST_INT) return numbered_target(s, ast, out);
    bool column = false;
    for (size_t i = 0; i < s->scope.count; i++)
        column = column || table_column(s->tables[i].table, ast->name) != COLUMN_NONE;
    for (size_t i = 0; ast->kind == AX_COLUMN && ast->table.n == 0 && !column && i < of->target_count; i++)
        if (of->targets[i].name.n > 0 && span_equal(of->targets[i].name, ast->name))
            return expr_compile(&s->c, of->targets[i].expr, NULL, out);
    return expr_compile(&s->c, ast, NULL, out);
}

static int compile_group(struct select_compile *s)
{
    struct select *out = s->s;
    struct plan *plan = s->of->plan;
    out->group = arena_array(plan->arena, s->ast->group_count, sizeof *out->group);
    out->aggregates = arena_array(plan->arena, PLAN_PARTS_MAX, sizeof *out->aggregates);
    if (!out->group || !out->aggregates) return select_no_room(s->of);
    for (size_t i = 0; i < s->ast->group_count; i++) {
        int err = group_expr(s, s->ast->group[i], &out->group[i]);
        if (!err) err = check_group_type(s, out->group[i], s->ast->group[i]->position);
        if (err) return err;
        out->group_count++;
    }
    out->group_slot = (uint32_t)plan->value_slots;
    plan->value_slots += out->group_count;
    return 0;
}

// ---- the whole -----------------------------------------------------------------------------------------------------

static int compile_count(struct select_compile *s, bool has, const struct ast_const *in, const char *what, struct select_count *out)
{
    *out = (struct select_count){.is = has, .param = -1, .position = in->position};
    if (!has) return 0;
    if (in->kind != AST_PARAM) {
        out->n = (uint64_t)in->i;
        return 0;
    }
    uint32_t slot;
    struct type type, want = TYPE(COL_BIGINT);
    size_t n = (size_t)in->param;
    if (n >= 1 && n <= s->of->param_count) {
        enum row_value_kind kind = s->of->params[n - 1].kind;
        if (kind != ROW_INT && kind != ROW_TEXT && kind != ROW_NULL)
            return problem_set(s->c.p, ERR_WRONG_TYPE, in->position, "%s is an integer", what);
    }
    int err = add_param(s->of, in->param, in->position, &want, &slot, &type);
    if (!err) out->param = (int)slot;
    return err;
}

// DISTINCT rows are sorted by what is shown of them.
static int check_distinct(const struct select_compile *s)
{
    const struct select *sel = s->s;
    for (size_t i = 0; sel->distinct && i < sel->order_count; i++) {
        bool shown = false;
        for (size_t k = 0; k < sel->target_count; k++)
            shown = shown || expr_same(sel->order[i].expr, sel->targets[k].expr);
        if (!shown) return problem_set(s->c.p, ERR_BAD_SQL, s->ast->order[i].position, "SELECT DISTINCT is ordered by its own columns only");
    }
    return 0;
}

static int compile_parts(struct select_compile *s)
{
    struct select *out = s->s;
    int err = compile_from(s);
    if (!err) err = compile_where(s);
    out->grouped = is_grouped(s->ast);
    if (!err && out->grouped) err = compile_group(s);
    s->aggregates_fit = out->grouped;
    if (!err) err = compile_targets(s);
    if (!err && s->ast->having) err = expr_compile_condition(&s->c, s->ast->having, &out->having);
    if (!err) err = compile_order(s);
    s->aggregates_fit = false;
    if (!err && out->grouped) err = group_resolve(s);
    if (!err) err = check_distinct(s);
    if (!err) err = compile_count(s, s->ast->has_limit, &s->ast->limit, "a limit", &out->limit);
    return err ? err : compile_count(s, s->ast->has_offset, &s->ast->offset, "an offset", &out->offset);
}

int select_compile(struct plan_compile *of, const struct ast_select *ast, const struct expr_scope *outer, bool any_order, struct select **out)
{
    struct select_compile *s = calloc(1, sizeof *s); // too large for a stack that selects within nest on
    struct select *made = arena_alloc(of->plan->arena, sizeof *made);
    if (!s || !made) {
        free(s);
        return select_no_room(of);
    }
    made->distinct = ast->distinct;
    made->any_order = any_order;
    made->position = ast->position;
    s->of = of;
    s->s = made;
    s->ast = ast;
    s->scope = (struct expr_scope){.tables = s->tables, .outer = outer};
    s->c = (struct expr_compile){.arena = of->plan->arena,
                                 .scope = &s->scope,
                                 .p = of->p,
                                 .param = param,
                                 .select = select_within,
                                 .aggregate = group_aggregate};
    int err = compile_parts(s);
    if (!err) err = plan_select(s);
    free(s);
    if (!err) *out = made;
    return err;
}

struct plan *plan_new(struct schema *schema, uint64_t at)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan) return NULL;
    plan->refs = 1;
    plan->at = at;
    plan->schema = schema_ref(schema);
    plan->arena = arena_new(PLAN_BYTES_MAX);
    if (plan->arena) return plan;
    plan_unref(plan);
    return NULL;
}

int plan_compile(struct rows *r, struct schema *schema, const struct ast_select *ast, const struct row_value *params, size_t param_count, uint64_t at,
                 struct plan **out, struct problem *p)
{
    struct plan_compile of = {.r = r, .params = params, .param_count = param_count, .at = at, .p = p};
    of.plan = plan_new(schema, at);
    if (!of.plan) return ERR_NOMEM;
    int err = select_compile(&of, ast, NULL, false, &of.plan->top);
    if (err) {
        plan_unref(of.plan);
        return err;
    }
    *out = of.plan;
    return 0;
}

struct plan *plan_ref(struct plan *plan)
{
    assert(plan->refs > 0);
    plan->refs++;
    return plan;
}

void plan_unref(struct plan *plan)
{
    if (!plan) return;
    assert(plan->refs > 0);
    if (--plan->refs > 0) return;
    arena_free(plan->arena);
    schema_unref(plan->schema);
    plan_unref(plan->base);
    free(plan);
}
