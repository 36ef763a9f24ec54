// From SQL text to the parser's tree and on to ours. The only user of pg_query.h.
#include "sql.h"

#include <assert.h>
#include <stdlib.h>

#include <pg_query.h>

#include "sql_scan.h"
#include "sql_expr.h"
#include "utf8.h"

// What a parsed text may take: some columns of a table are a few bytes of text each.
#define SELECT_ARENA_MAX (1 * MIB)
#define SCHEMA_ARENA_MAX (64 * MIB)
// Levels of the parser's tree: an operator within another one takes two, a select within six.
#define TREE_DEPTH_MAX 200

static int check_text(struct span sql, size_t max, struct problem *p)
{
    if (sql.n > max) return problem_set(p, ERR_TOO_LARGE, -1, "the SQL text is longer than %zu bytes", max);
    size_t valid = utf8_valid_prefix(sql);
    if (valid < sql.n) return problem_set(p, ERR_BAD_UTF8, (int64_t)valid, "invalid UTF-8 in the SQL text");
    return sql_scan(sql, p);
}

// The parser counts characters from 1 in its errors, bytes from 0 in its tree.
static int64_t byte_of_character(struct span text, int cursorpos)
{
    if (cursorpos < 1) return -1;
    size_t at = 0;
    for (int i = 1; i < cursorpos && at < text.n; i++)
        do
            at++;
        while (at < text.n && (text.p[at] & 0xc0) == 0x80);
    return (int64_t)at;
}

static int parser_error(const struct sql_reader *r, const PgQueryError *e)
{
    if (strcmp(e->message, "out of memory") == 0) return sql_nomem(r);
    return problem_set(r->p, ERR_BAD_SQL, byte_of_character(r->text, e->cursorpos), "%s", e->message);
}

// The tree as JSON: `parse_tree` is a text of the parser's. Deeper than any statement that is supported: refused as such.
static int read_json(const struct sql_reader *r, const char *parse_tree, struct jr_tree **out)
{
    struct problem json = PROBLEM_NONE;
    int err = jr_parse_deep(out, SPAN_STR(parse_tree), TREE_DEPTH_MAX, &json);
    if (err == 0) return 0;
    if (err == ERR_NOMEM) return sql_nomem(r);
    if (err == ERR_TOO_DEEP) return sql_unsupported(r, -1, "SQL as nested as this is");
    return problem_set(r->p, ERR_INTERNAL, -1, "the parsed statement cannot be read: %s", problem_text(&json));
}

static int parse_text(const struct sql_reader *r, struct jr_tree **out)
{
    char *text = malloc(r->text.n + 1);
    if (text == NULL) return sql_nomem(r);
    if (r->text.n > 0) memcpy(text, r->text.p, r->text.n);
    text[r->text.n] = 0;
    PgQueryParseResult result = pg_query_parse(text);
    free(text);
    int err = result.error != NULL ? parser_error(r, result.error) : read_json(r, result.parse_tree, out);
    pg_query_free_parse_result(result);
    return err;
}

// The statements of a checked text. The caller frees *tree.
static int parse_statements(const struct sql_reader *r, struct jr_tree **tree, const struct jr **statements)
{
    int err = parse_text(r, tree);
    if (err != 0) return err;
    *statements = jr_get(jr_root(*tree), "stmts");
    assert(jr_type(*statements) == JR_ARRAY);
    return 0;
}

int sql_parse_schema(struct span sql, struct ast_schema **out, struct problem *p)
{
    assert(out != NULL);
    int err = check_text(sql, SQL_SCHEMA_MAX, p);
    if (err != 0) return err;
    struct sql_reader r = {sql, arena_new(SCHEMA_ARENA_MAX), p};
    struct ast_schema *schema = r.arena == NULL ? NULL : arena_alloc(r.arena, sizeof *schema);
    struct jr_tree *tree = NULL;
    const struct jr *statements;
    err = schema == NULL ? sql_nomem(&r) : parse_statements(&r, &tree, &statements);
    if (err == 0) err = sql_read_schema(&r, statements, schema);
    jr_free(tree);
    if (err != 0) {
        arena_free(r.arena);
        return err;
    }
    schema->arena = r.arena;
    *out = schema;
    return 0;
}

int sql_parse_select(struct span sql, struct ast_select **out, struct problem *p)
{
    assert(out != NULL);
    int err = check_text(sql, SQL_QUERY_MAX, p);
    if (err != 0) return err;
    struct sql_reader r = {sql, arena_new(SELECT_ARENA_MAX), p};
    struct ast_select *select = r.arena == NULL ? NULL : arena_alloc(r.arena, sizeof *select);
    struct jr_tree *tree = NULL;
    const struct jr *statements;
    err = select == NULL ? sql_nomem(&r) : parse_statements(&r, &tree, &statements);
    if (err == 0) err = sql_read_select(&r, statements, select);
    jr_free(tree);
    if (err != 0) {
        arena_free(r.arena);
        return err;
    }
    select->arena = r.arena;
    *out = select;
    return 0;
}

// ---- expressions -----------------------------------------------------------------------------------------------

#define BEFORE_EXPR "select " // the parser knows no expression outside of a statement

// The one target of a select that says nothing else.
static int only_target(const struct sql_reader *r, const struct jr *statements, const struct jr **out)
{
    static const struct sql_member members[] = {{"targetList", NULL}, {"limitOption", NULL}, {"op", NULL}, SQL_MEMBERS_END};
    static const struct sql_member target[] = {{"val", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    const struct jr *select = jr_get(jr_get(jr_at(statements, 0), "stmt"), "SelectStmt");
    const struct jr *targets = jr_get(select, "targetList");
    if (jr_count(statements) != 1 || jr_count(targets) != 1) return sql_bad(r, sizeof BEFORE_EXPR - 1, "this is not one expression");
    int err = sql_members(r, select, members, -1);
    if (err == 0) err = sql_members(r, jr_get(jr_at(targets, 0), "ResTarget"), target, -1);
    if (err == 0) *out = jr_get(jr_get(jr_at(targets, 0), "ResTarget"), "val");
    return err;
}

static int parse_expr(struct span sql, struct arena *arena, struct ast_expr **out, struct problem *p)
{
    struct sql_reader r = {sql, arena, p};
    struct jr_tree *tree = NULL;
    const struct jr *statements, *target = NULL;
    int err = check_text(sql, SQL_SCHEMA_MAX, p);
    if (err == 0) err = parse_statements(&r, &tree, &statements);
    if (err == 0) err = only_target(&r, statements, &target);
    if (err == 0) err = sql_expr(&r, target, out);
    jr_free(tree);
    return err;
}

int sql_parse_expr(struct span text, struct arena *arena, struct ast_expr **out, struct problem *p)
{
    const size_t before = sizeof BEFORE_EXPR - 1;
    struct problem found = PROBLEM_NONE;
    struct buf sql;
    buf_init(&sql, SQL_SCHEMA_MAX + before);
    buf_put_str(&sql, BEFORE_EXPR);
    buf_put_span(&sql, text);
    int err = sql.err != 0 ? sql.err : parse_expr(buf_span(&sql), arena, out, &found);
    buf_free(&sql);
    if (err == 0) return 0;
    int64_t position = found.position < (int64_t)before ? -1 : found.position - (int64_t)before;
    return problem_set(p, err, position, "%s", found.err != 0 ? problem_text(&found) : err_text(err));
}

// The tree itself lies in its arena.
void sql_schema_free(struct ast_schema *schema)
{
    if (schema != NULL) arena_free(schema->arena);
}

void sql_select_free(struct ast_select *select)
{
    if (select != NULL) arena_free(select->arena);
}
