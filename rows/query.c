#include "query.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "sql.h"

#define QUERY_BYTES_MAX (1 * MIB) // of one compiled query: constants may be long texts

struct compile {
    struct query *q;
    const struct table *t;
    const struct row_value *params;
    size_t param_count;
    struct problem *p;
};

struct query *query_ref(struct query *q)
{
    assert(q->refs > 0);
    q->refs++;
    return q;
}

void query_unref(struct query *q)
{
    if (!q) return;
    assert(q->refs > 0);
    if (--q->refs > 0) return;
    arena_free(q->arena);
    schema_unref(q->schema);
    free(q);
}

static int no_room(const struct compile *c)
{
    if (!arena_full(c->q->arena)) return ERR_NOMEM;
    return problem_set(c->p, ERR_TOO_LARGE, -1, "the constants of a query take at most %u bytes", QUERY_BYTES_MAX);
}

static int unsupported(const struct compile *c, int64_t position, struct span column, const char *what)
{
    return problem_set(c->p, ERR_UNSUPPORTED_SQL, position, "%.*s %s", SPAN_FMT(column), what);
}

// ---- names and constants -------------------------------------------------------------------------------------------

static int find_column(const struct compile *c, struct span name, int64_t position, int *column, struct type *type)
{
    int at = table_column(c->t, name);
    if (at == COLUMN_NONE)
        return problem_set(c->p, ERR_NO_SUCH_COLUMN, position, "%.*s has no column %.*s", SPAN_FMT(c->t->name), SPAN_FMT(name));
    *column = at;
    *type = at == COLUMN_ID ? TYPE(COL_UUID) : c->t->columns[at].type;
    return 0;
}

static int constant(const struct compile *c, const struct ast_const *in, struct row_value *out)
{
    switch (in->kind) {
    case AST_NULL: *out = (struct row_value){.kind = ROW_NULL}; return 0;
    case AST_BOOL: *out = (struct row_value){.kind = ROW_BOOL, .b = in->b}; return 0;
    case AST_INT: *out = (struct row_value){.kind = ROW_INT, .i = in->i}; return 0;
    case AST_REAL: *out = (struct row_value){.kind = ROW_REAL, .d = in->d}; return 0;
    case AST_TEXT: *out = (struct row_value){.kind = ROW_TEXT, .s = in->text}; return 0;
    case AST_PARAM:
        if (in->param < 1 || (size_t)in->param > c->param_count)
            return problem_set(c->p, ERR_BAD_PARAMETER, in->position, "the parameter $%d is not given", in->param);
        *out = c->params[in->param - 1];
        return 0;
    case AST_NOW:
    case AST_UUID: break;
    }
    // A live result has no now: what it shows may only follow from commits.
    return problem_set(c->p, ERR_UNSUPPORTED_SQL, in->position, "a query compares with constants and parameters only");
}

static int compile_columns(struct compile *c, const struct ast_select *ast)
{
    struct query *q = c->q;
    bool seen[COLUMNS_MAX] = {false};
    q->columns = arena_array(q->arena, c->t->column_count, sizeof *q->columns);
    if (!q->columns) return no_room(c);
    for (size_t i = 0; ast->star && i < c->t->column_count; i++)
        q->columns[q->column_count++] = (int)i;
    for (size_t i = 0; !ast->star && i < ast->column_count; i++) {
        struct type type;
        int at;
        int err = find_column(c, ast->columns[i], ast->column_positions ? ast->column_positions[i] : -1, &at, &type);
        if (err) return err;
        if (at == COLUMN_ID || seen[at]) continue;
        seen[at] = true;
        q->columns[q->column_count++] = at;
    }
    return 0;
}

static int compile_term(struct compile *c, const struct ast_term *in, struct term *out)
{
    struct row_value v = {.kind = ROW_NULL};
    bool tests_null = in->op == OP_IS_NULL || in->op == OP_NOT_NULL;
    out->op = in->op;
    out->v = VALUE_NULL;
    int err = find_column(c, in->column, in->position, &out->column, &out->type);
    if (err || tests_null) return err;
    if (out->type.kind == COL_STREAM) return unsupported(c, in->position, in->column, "is a stream and has no value to compare");
    if (in->op != OP_EQ && in->op != OP_NE && !type_ordered(&out->type))
        return unsupported(c, in->position, in->column, "has no order, only = and <>");
    err = constant(c, &in->value, &v);
    if (err) return err;
    enum value_source source = in->value.kind == AST_PARAM ? VALUE_PARAMETER : VALUE_LITERAL;
    struct value_target target = {.type = &out->type, .source = source, .column = in->column, .position = in->value.position};
    err = value_convert(&out->v, &target, &v, c->q->arena, c->p);
    return err == ERR_NOMEM ? no_room(c) : err;
}

static int compare_terms(const void *x, const void *y)
{
    const struct term *a = x, *b = y;
    if (a->column != b->column) return a->column < b->column ? -1 : 1;
    if (a->op != b->op) return a->op < b->op ? -1 : 1;
    if (a->v.null || b->v.null) return b->v.null - a->v.null;
    return value_compare(&a->type, &a->v, &b->v);
}

// Terms are sorted, so that `a = 1 and b = 2` and `b = 2 and a = 1` are one query.
static int compile_terms(struct compile *c, const struct ast_select *ast)
{
    struct query *q = c->q;
    if (ast->term_count > QUERY_TERMS_MAX) return problem_set(c->p, ERR_TOO_LARGE, -1, "more than %d comparisons", QUERY_TERMS_MAX);
    q->terms = arena_array(q->arena, ast->term_count, sizeof *q->terms);
    if (!q->terms) return no_room(c);
    for (size_t i = 0; i < ast->term_count; i++) {
        int err = compile_term(c, &ast->terms[i], &q->terms[i]);
        if (err) return err;
    }
    qsort(q->terms, ast->term_count, sizeof *q->terms, compare_terms);
    for (size_t i = 0; i < ast->term_count; i++) {
        const struct term *term = &q->terms[i];
        if (q->term_count > 0 && compare_terms(&q->terms[q->term_count - 1], term) == 0) continue;
        if (term->column == COLUMN_ID && term->op == OP_EQ && !term->v.null) {
            q->point = true;
            q->id = term->v.u;
        }
        q->terms[q->term_count++] = *term;
    }
    return 0;
}

static int compile_order(struct compile *c, const struct ast_select *ast)
{
    struct query *q = c->q;
    if (ast->order_count > QUERY_TERMS_MAX)
        return problem_set(c->p, ERR_TOO_LARGE, -1, "more than %d columns to order by", QUERY_TERMS_MAX);
    q->order = arena_array(q->arena, ast->order_count, sizeof *q->order);
    if (!q->order) return no_room(c);
    for (size_t i = 0; i < ast->order_count; i++) {
        const struct ast_order *in = &ast->order[i];
        struct order *out = &q->order[q->order_count++];
        *out = (struct order){.desc = in->desc, .nulls_first = in->nulls_first};
        int err = find_column(c, in->column, in->position, &out->column, &out->type);
        if (err) return err;
        if (!type_ordered(&out->type)) return unsupported(c, in->position, in->column, "has no order");
    }
    return 0;
}

static int compile_limit(struct compile *c, const struct ast_select *ast)
{
    struct row_value v;
    if (!ast->has_limit) return 0;
    int err = constant(c, &ast->limit, &v);
    if (err || v.kind == ROW_NULL) return err; // as in PostgreSQL: null is no limit
    if (v.kind != ROW_INT) return problem_set(c->p, ERR_WRONG_TYPE, ast->limit.position, "a limit is an integer");
    if (v.i < 0) return problem_set(c->p, ERR_BAD_VALUE, ast->limit.position, "a limit is not negative");
    // A result is bounded anyway; a limit beyond that bound says nothing.
    c->q->has_limit = v.i <= QUERY_ROWS_MAX;
    c->q->limit = c->q->has_limit ? (uint32_t)v.i : 0;
    return 0;
}

// ---- canonical form ------------------------------------------------------------------------------------------------

static void put_term(struct buf *out, const struct term *t)
{
    buf_put_svarint(out, t->column);
    buf_put_u8(out, (uint8_t)t->op);
    buf_put_u8(out, t->v.null);
    if (!t->v.null) value_encode(out, &t->type, &t->v);
}

static int canonicalize(struct compile *c)
{
    struct query *q = c->q;
    struct buf out;
    buf_init(&out, QUERY_BYTES_MAX);
    buf_put_varint(&out, q->table);
    buf_put_varint(&out, q->column_count);
    for (size_t i = 0; i < q->column_count; i++)
        buf_put_varint(&out, (uint64_t)q->columns[i]);
    buf_put_varint(&out, q->term_count);
    for (size_t i = 0; i < q->term_count; i++)
        put_term(&out, &q->terms[i]);
    buf_put_varint(&out, q->order_count);
    for (size_t i = 0; i < q->order_count; i++) {
        buf_put_svarint(&out, q->order[i].column);
        buf_put_u8(&out, (uint8_t)(q->order[i].desc | q->order[i].nulls_first << 1));
    }
    buf_put_varint(&out, q->has_limit ? q->limit + 1ull : 0);
    int err = out.err;
    if (!err && !arena_copy_span(q->arena, buf_span(&out), &q->canonical)) err = no_room(c);
    buf_free(&out);
    return err;
}

// ---- compile -------------------------------------------------------------------------------------------------------

static int compile(struct compile *c, const struct ast_select *ast)
{
    int err = compile_columns(c, ast);
    if (!err) err = compile_terms(c, ast);
    if (!err) err = compile_order(c, ast);
    if (!err) err = compile_limit(c, ast);
    return err ? err : canonicalize(c);
}

static struct query *query_new(struct schema *schema, uint32_t table)
{
    struct query *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->refs = 1;
    q->table = table;
    q->arena = arena_new(QUERY_BYTES_MAX * 2);
    if (q->arena) {
        q->schema = schema_ref(schema);
        return q;
    }
    free(q);
    return NULL;
}

int query_compile(struct rows *r, struct span sql, const struct row_value *params, size_t param_count, struct query **out,
                  struct problem *p)
{
    struct ast_select *ast;
    struct compile c = {.params = params, .param_count = param_count, .p = p};
    assert(r && out);
    if (param_count > QUERY_PARAMS_MAX) return problem_set(p, ERR_BAD_PARAMETER, -1, "more than %d parameters", QUERY_PARAMS_MAX);
    int err = sql_parse_select(sql, &ast, p);
    if (err) return err;
    c.t = schema_table(r->schema, ast->table);
    if (!c.t) {
        err = problem_set(p, ERR_NO_SUCH_TABLE, ast->table_position, "there is no table %.*s", SPAN_FMT(ast->table));
    } else {
        c.q = query_new(r->schema, c.t->no);
        err = c.q ? compile(&c, ast) : ERR_NOMEM;
    }
    sql_select_free(ast);
    if (err) {
        query_unref(c.q);
        return err;
    }
    *out = c.q;
    return 0;
}

// ---- rows ----------------------------------------------------------------------------------------------------------

// SQL's three values, of which a `where` takes but one: a comparison with null is not true.
static bool term_holds(const struct term *t, const struct value *v)
{
    if (t->op == OP_IS_NULL) return v->null;
    if (t->op == OP_NOT_NULL) return !v->null;
    if (v->null || t->v.null) return false;
    int c = value_compare(&t->type, v, &t->v);
    switch (t->op) {
    case OP_EQ: return c == 0;
    case OP_NE: return c != 0;
    case OP_LT: return c < 0;
    case OP_LE: return c <= 0;
    case OP_GT: return c > 0;
    case OP_GE: return c >= 0;
    case OP_IS_NULL:
    case OP_NOT_NULL:
    case OP_DISTINCT:
    case OP_SAME: break;
    }
    assert(!"an operator");
    return false;
}

bool query_matches(const struct query *q, struct uuid id, const struct row *row)
{
    struct value id_value = {.u = id};
    if (!row_live(row)) return false;
    for (size_t i = 0; i < q->term_count; i++) {
        const struct term *t = &q->terms[i];
        assert(t->column < (int)row->count);
        if (!term_holds(t, t->column == COLUMN_ID ? &id_value : &row->cells[t->column].v)) return false;
    }
    return true;
}

void query_order_key(const struct query *q, struct uuid id, const struct row *row, struct buf *out)
{
    struct value id_value = {.u = id};
    for (size_t i = 0; i < q->order_count; i++) {
        const struct order *o = &q->order[i];
        const struct value *v = o->column == COLUMN_ID ? &id_value : &row->cells[o->column].v;
        value_order_key(out, &o->type, v, o->desc, o->nulls_first);
    }
    buf_put(out, id.b, sizeof id.b);
}
