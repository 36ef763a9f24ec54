// From a text to a query: parsed and planned once for a text and kinds of parameters, bound anew each time.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "index.h"
#include "query_run.h"
#include "sql.h"

#define QUERY_BYTES_MAX (2 * MIB) // of one query: parameters may be long texts
#define CACHE_PLACES 512          // a text has one place, and the last one that came has it

struct query *query_ref(struct query *q)
{
    assert(q->refs > 0);
    q->refs++;
    return q;
}

bool query_keyed(const struct query *q)
{
    return !q->plan->rows_have_ids;
}

static const struct expr *shown_as(const struct select *s, struct span name, struct span *kept)
{
    for (size_t i = 0; i < s->target_count; i++) {
        if (!span_equal(s->targets[i].name, name)) continue;
        *kept = s->targets[i].name;
        return s->targets[i].expr;
    }
    return NULL;
}

int query_stream_column(const struct query *q, struct span name, struct rows_stream_column *out, struct problem *p)
{
    const struct select *s = q->plan->top;
    struct span kept;
    const struct expr *e = shown_as(s, name, &kept);
    if (!e) return problem_set(p, ERR_NO_SUCH_COLUMN, -1, "the result has no column %.*s", SPAN_FMT(span_sub(name, 0, NAME_MAX_BYTES)));
    if (s->grouped || s->distinct)
        return problem_set(p, ERR_UNSUPPORTED_SQL, e->position, "streams of grouped or distinct rows cannot be followed: nobody knows whose they are");
    if (e->kind != EX_COLUMN || e->type.kind != COL_STREAM)
        return problem_set(p, ERR_BAD_PARAMETER, e->position, "the column %.*s is no stream", SPAN_FMT(kept));
    const struct table *t = schema_table_no(q->plan->schema, q->plan->tables[e->slot]);
    *out = (struct rows_stream_column){.name = kept, .table = t->name, .column = t->columns[e->column].name};
    // Slots are given in the order of the text, and a key has its tables' ids in that order.
    for (uint32_t slot = 0; slot < e->slot; slot++)
        out->piece += s->own >> slot & 1;
    return 0;
}

void query_unref(struct query *q)
{
    if (!q) return;
    assert(q->refs > 0);
    if (--q->refs > 0) return;
    arena_free(q->arena);
    plan_unref(q->plan);
    free(q);
}

// ---- plans of before -----------------------------------------------------------------------------------------------

struct place {
    uint8_t *text; // the SQL, and behind it the kinds of the parameters
    size_t n, sql_n;
    uint64_t ready; // the indexes that could be used then
    struct plan *plan;
};

struct plan_cache {
    struct place places[CACHE_PLACES];
};

static void place_clear(struct place *place)
{
    free(place->text);
    plan_unref(place->plan);
    *place = (struct place){.text = NULL};
}

void plan_cache_free(struct plan_cache *plans)
{
    for (size_t i = 0; plans && i < CACHE_PLACES; i++)
        place_clear(&plans->places[i]);
    free(plans);
}

// What would make another plan of the same text: an index that has become ready since.
static uint64_t ready_now(const struct rows *r, const struct plan *plan)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < plan->table_slots; i++) {
        const struct table *t = schema_table_no(r->schema, plan->tables[i]);
        for (size_t k = 0; k < t->index_count; k++)
            sum = sum * 31 + (index_ready(r, t, &t->indexes[k], UINT64_MAX) ? t->indexes[k].no : 0);
    }
    return sum;
}

struct asked {
    struct span sql;
    const struct row_value *params;
    size_t param_count;
    uint8_t kinds[QUERY_PARAMS_MAX];
};

static bool is_place_of(const struct place *place, const struct asked *a, const struct rows *r)
{
    return place->plan && place->sql_n == a->sql.n && place->n == a->sql.n + a->param_count && place->plan->schema == r->schema &&
           memcmp(place->text, a->sql.p, a->sql.n) == 0 &&
           (a->param_count == 0 || memcmp(place->text + a->sql.n, a->kinds, a->param_count) == 0) && place->ready == ready_now(r, place->plan);
}

static struct place *place_of(struct rows *r, const struct asked *a)
{
    if (!r->plans) r->plans = calloc(1, sizeof *r->plans);
    if (!r->plans) return NULL;
    return &r->plans->places[checksum64_two(a->sql, SPAN(a->kinds, a->param_count), 0) % CACHE_PLACES];
}

static void place_fill(struct place *place, const struct asked *a, const struct rows *r, struct plan *plan)
{
    place_clear(place);
    place->text = malloc(a->sql.n + a->param_count + 1);
    if (!place->text) return;
    memcpy(place->text, a->sql.p, a->sql.n);
    if (a->param_count > 0) memcpy(place->text + a->sql.n, a->kinds, a->param_count);
    place->sql_n = a->sql.n;
    place->n = a->sql.n + a->param_count;
    place->ready = ready_now(r, plan);
    place->plan = plan_ref(plan);
}

// ---- compiling -----------------------------------------------------------------------------------------------------

static int make_plan(struct rows *r, struct schema *schema, const struct asked *a, uint64_t at, struct plan **out, struct problem *p)
{
    struct ast_select *ast;
    int err = sql_parse_select(a->sql, &ast, p);
    if (err) return err;
    err = plan_compile(r, schema, ast, a->params, a->param_count, at, out, p);
    sql_select_free(ast);
    return err;
}

static int find_plan(struct rows *r, const struct asked *a, struct plan **out, struct problem *p)
{
    struct place *place = place_of(r, a);
    if (place && is_place_of(place, a, r)) {
        *out = plan_ref(place->plan);
        return 0;
    }
    int err = make_plan(r, r->schema, a, UINT64_MAX, out, p);
    if (!err && place) place_fill(place, a, r, *out);
    return err;
}

int query_replan(struct rows *r, const struct query *q, uint64_t at, struct plan **out, struct problem *p)
{
    const struct asked a = {.sql = q->sql, .params = q->given, .param_count = q->given_count};
    return make_plan(r, q->plan->schema, &a, at, out, p);
}

int query_bind(const struct query *q, const struct plan *plan, struct arena *arena, struct value **out, struct problem *p)
{
    struct value *values = arena_array(arena, plan->param_count, sizeof *values);
    int err = values ? 0 : ERR_NOMEM;
    for (size_t i = 0; i < plan->param_count && !err; i++) {
        const struct plan_param *param = &plan->params[i];
        char name[16];
        struct value_target target = {.type = &param->type, .source = VALUE_PARAMETER, .position = param->position};
        target.column = SPAN(name, (size_t)snprintf(name, sizeof name, "$%d", param->n));
        err = value_convert(&values[i], &target, &q->given[param->n - 1], arena, p);
    }
    if (err == ERR_NOMEM && arena_full(arena)) err = problem_set(p, ERR_TOO_LARGE, -1, "the parameters of a query take too much memory");
    if (!err) *out = values;
    return err;
}

// What another plan of the same query will need.
static int keep_given(struct query *q, const struct asked *a)
{
    q->given = arena_array(q->arena, a->param_count, sizeof *q->given);
    if (!q->given || !arena_copy_span(q->arena, a->sql, &q->sql)) return ERR_NOMEM;
    for (size_t i = 0; i < a->param_count; i++) {
        q->given[i] = a->params[i];
        bool text = a->params[i].kind == ROW_TEXT || a->params[i].kind == ROW_JSON;
        if (text && !arena_copy_span(q->arena, a->params[i].s, &q->given[i].s)) return ERR_NOMEM;
    }
    q->given_count = a->param_count;
    return 0;
}

static struct query *query_new(void)
{
    struct query *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->refs = 1;
    q->arena = arena_new(QUERY_BYTES_MAX);
    if (q->arena) return q;
    free(q);
    return NULL;
}

int query_compile(struct rows *r, struct span sql, const struct row_value *params, size_t param_count, struct query **out,
                  struct problem *p)
{
    struct asked a = {.sql = sql, .params = params, .param_count = param_count};
    assert(r && out);
    if (param_count > QUERY_PARAMS_MAX) return problem_set(p, ERR_BAD_PARAMETER, -1, "more than %d parameters", QUERY_PARAMS_MAX);
    if (sql.n > SQL_QUERY_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "the SQL text is longer than %u bytes", SQL_QUERY_MAX);
    for (size_t i = 0; i < param_count; i++)
        a.kinds[i] = (uint8_t)params[i].kind;
    struct query *q = query_new();
    if (!q) return ERR_NOMEM;
    int err = find_plan(r, &a, &q->plan, p);
    if (!err) err = keep_given(q, &a);
    if (err == ERR_NOMEM && arena_full(q->arena)) err = problem_set(p, ERR_TOO_LARGE, -1, "the parameters of a query take too much memory");
    if (!err) err = query_bind(q, q->plan, q->arena, &q->params, p);
    if (err) {
        query_unref(q);
        return err;
    }
    *out = q;
    return 0;
}
