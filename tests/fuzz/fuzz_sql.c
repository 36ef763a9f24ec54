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

static void check_select(const struct ast_select *s, size_t size)
{
    assert(s->table.n > 0 && s->table.n <= NAME_MAX_BYTES);
    assert(s->star == (s->column_count == 0));
    assert(s->term_count <= QUERY_TERMS_MAX);
    for (size_t i = 0; i < s->term_count; i++) {
        assert(s->terms[i].column.n > 0 && s->terms[i].column.n <= NAME_MAX_BYTES);
        assert(s->terms[i].position >= 0 && s->terms[i].position < (int64_t)size);
        assert(s->terms[i].value.kind != AST_NOW && s->terms[i].value.kind != AST_UUID);
    }
    assert(!s->has_limit || s->limit.kind == AST_PARAM || (s->limit.kind == AST_INT && s->limit.i >= 0));
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
