// SQL text from strangers: as a schema and as a query. Whatever comes, the two give a tree or a problem with a place in the text;
// and a schema that is taken is the same schema again, as text and as stored bytes, and may follow itself.
#include <assert.h>
#include <stddef.h>

#include "err.h"
#include "limits.h"
#include "schema.h"
#include "sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_problem(const struct problem *p, int err, size_t size)
{
    assert(p->err == err);
    assert(err != ERR_INTERNAL && err != ERR_NOMEM);
    assert(p->position >= -1 && p->position <= (int64_t)size);
}

static void check_select(const struct ast_select *s, size_t size);

static void check_expr(const struct ast_expr *e, size_t size)
{
    assert(e->position >= -1 && e->position < (int64_t)size);
    assert(e->kind != AX_CONST || (e->value.kind != AST_NOW && e->value.kind != AST_UUID));
    assert(e->kind != AX_COLUMN || (e->name.n > 0 && e->name.n <= NAME_MAX_BYTES));
    assert((e->kind >= AX_EXISTS) == (e->select != NULL));
    for (size_t i = 0; i < e->count; i++)
        check_expr(e->args[i], size);
    if (e->select != NULL) check_select(e->select, size);
}

static void check_count(bool has, const struct ast_const *c)
{
    assert(!has || c->kind == AST_PARAM || (c->kind == AST_INT && c->i >= 0));
}

static void check_select(const struct ast_select *s, size_t size)
{
    assert(s->from_count >= 1 && s->from_count <= QUERY_TABLES_MAX);
    assert(s->target_count >= 1 && s->target_count <= COLUMNS_MAX);
    for (size_t i = 0; i < s->from_count; i++) {
        assert(s->from[i].table.n > 0 && s->from[i].table.n <= NAME_MAX_BYTES && s->from[i].alias.n <= NAME_MAX_BYTES);
        if (s->from[i].on != NULL) check_expr(s->from[i].on, size);
    }
    for (size_t i = 0; i < s->target_count; i++)
        check_expr(s->targets[i].expr, size);
    if (s->where != NULL) check_expr(s->where, size);
    for (size_t i = 0; i < s->group_count; i++)
        check_expr(s->group[i], size);
    if (s->having != NULL) check_expr(s->having, size);
    for (size_t i = 0; i < s->order_count; i++)
        check_expr(s->order[i].expr, size);
    check_count(s->has_limit, &s->limit);
    check_count(s->has_offset, &s->offset);
}

static void check_schema(const struct ast_schema *s, size_t size)
{
    assert(s->table_count <= TABLES_MAX);
    for (size_t i = 0; i < s->table_count; i++) {
        const struct ast_table *t = &s->tables[i];
        assert(t->name.n > 0 && t->name.n <= NAME_MAX_BYTES && t->column_count <= COLUMNS_MAX);
        assert(t->position >= 0 && t->position < (int64_t)size);
        for (size_t k = 0; k < t->column_count; k++) {
            assert(t->columns[k].type.kind >= COL_TEXT && t->columns[k].type.kind <= COL_TYPE_LAST);
            assert(t->columns[k].def.kind != AST_PARAM);
            assert(t->columns[k].references == (t->columns[k].ref_table.n > 0));
        }
    }
}

static struct schema *parse_and_build(struct span text, const struct schema *before)
{
    struct ast_schema *ast;
    struct schema *s;
    int err = sql_parse_schema(text, &ast, NULL);
    assert(err == 0);
    err = schema_build(&s, ast, before, 0, NULL);
    assert(err == 0);
    sql_schema_free(ast);
    return s;
}

static void build(const struct ast_schema *ast, size_t size)
{
    struct problem p = PROBLEM_NONE;
    struct schema *empty = schema_empty(), *s;
    int err = schema_build(&s, ast, empty, 0, &p);
    if (err != 0) {
        check_problem(&p, err, size);
    } else {
        struct buf text;
        buf_init(&text, 2 * SQL_SCHEMA_MAX);
        schema_sql(s, &text);
        if (text.n <= SQL_SCHEMA_MAX) { // longer than it came, for it has names that were derived
            struct schema *again = parse_and_build(buf_span(&text), empty), *next = parse_and_build(buf_span(&text), s);
            assert(sha256_equal(&again->hash, &s->hash) && sha256_equal(&next->hash, &s->hash));
            assert(schema_extends(next, s));
            schema_unref(again);
            schema_unref(next);
        }
        buf_free(&text);
        schema_unref(s);
    }
    schema_unref(empty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = SPAN(data, size);
    struct problem p = PROBLEM_NONE;
    struct ast_select *select = NULL;
    struct ast_schema *schema = NULL;
    int err = sql_parse_select(text, &select, &p);
    if (err == 0)
        check_select(select, size);
    else
        check_problem(&p, err, size);
    sql_select_free(select);

    p = PROBLEM_NONE;
    err = sql_parse_schema(text, &schema, &p);
    if (err == 0) {
        check_schema(schema, size);
        build(schema, size);
    } else {
        check_problem(&p, err, size);
    }
    sql_schema_free(schema);
    return 0;
}
