#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "buf.h"
#include "err.h"
#include "limits.h"
#include "sql.h"

// ---- helpers ---------------------------------------------------------------------------------------------------

static struct ast_select *select_of(const char *sql)
{
    struct problem p = PROBLEM_NONE;
    struct ast_select *s = NULL;
    int err = sql_parse_select(SPAN_STR(sql), &s, &p);
    if (err != 0) fail_msg("%s: %s at %lld", sql, problem_text(&p), (long long)p.position);
    return s;
}

static struct ast_schema *schema_of(const char *sql)
{
    struct problem p = PROBLEM_NONE;
    struct ast_schema *s = NULL;
    int err = sql_parse_schema(SPAN_STR(sql), &s, &p);
    if (err != 0) fail_msg("%s: %s at %lld", sql, problem_text(&p), (long long)p.position);
    return s;
}

static void expect_problem(const struct problem *p, const char *sql, int err, int64_t position, const char *part)
{
    if (p->err != err || p->position != position || strstr(problem_text(p), part) == NULL)
        fail_msg("%s\n  gave %s at %lld: %s\n  expected %s at %lld: %s", sql, err_wire(p->err), (long long)p->position, problem_text(p),
                 err_wire(err), (long long)position, part);
}

// `part` is in the problem's text; the position is where `at` begins in the text (NULL: none).
static void select_refused(const char *sql, int err, const char *at, const char *part)
{
    struct problem p = PROBLEM_NONE;
    struct ast_select *s = NULL;
    assert_int_equal(sql_parse_select(SPAN_STR(sql), &s, &p), err);
    assert_null(s);
    expect_problem(&p, sql, err, at == NULL ? -1 : strstr(sql, at) - sql, part);
}

static void schema_refused(const char *sql, int err, const char *at, const char *part)
{
    struct problem p = PROBLEM_NONE;
    struct ast_schema *s = NULL;
    if (sql_parse_schema(SPAN_STR(sql), &s, &p) == 0) fail_msg("%s was taken", sql);
    assert_null(s);
    expect_problem(&p, sql, err, at == NULL ? -1 : strstr(sql, at) - sql, part);
}

static void assert_span(struct span s, const char *text)
{
    if (!span_is(s, text)) fail_msg("\"%.*s\" is not \"%s\"", SPAN_FMT(s), text);
}

static void put_const(struct buf *b, const struct ast_const *c)
{
    switch (c->kind) {
    case AST_NULL: buf_put_str(b, "null"); break;
    case AST_BOOL: buf_put_str(b, c->b ? "true" : "false"); break;
    case AST_INT: buf_printf(b, "%lld", (long long)c->i); break;
    case AST_REAL: buf_printf(b, "%.17gr", c->d); break;
    case AST_TEXT: buf_printf(b, "'%.*s'", SPAN_FMT(c->text)); break;
    case AST_PARAM: buf_printf(b, "$%d", c->param); break;
    case AST_NOW: buf_put_str(b, "now"); break;
    case AST_UUID: buf_put_str(b, "uuid"); break;
    }
}

// The terms of `select * from t where <where>` in a form of the test's own.
static void where_reads(const char *where, const char *expected)
{
    static const char *const ops[] = {"=", "<>", "<", "<=", ">", ">=", "null", "not null"};
    char sql[2000];
    struct buf b;
    buf_init(&b, 10000);
    snprintf(sql, sizeof sql, "select * from t where %s", where);
    struct ast_select *s = select_of(sql);
    for (size_t i = 0; i < s->term_count; i++) {
        buf_printf(&b, "%s%.*s %s", i > 0 ? "; " : "", SPAN_FMT(s->terms[i].column), ops[s->terms[i].op]);
        if (s->terms[i].op == OP_IS_NULL || s->terms[i].op == OP_NOT_NULL) continue;
        buf_put_u8(&b, ' ');
        put_const(&b, &s->terms[i].value);
    }
    assert_int_equal(b.err, 0);
    assert_span(buf_span(&b), expected);
    sql_select_free(s);
    buf_free(&b);
}

// `before`, `n` times `unit`, `middle`, `m` times `after`.
static char *nested(const char *before, const char *unit, size_t n, const char *middle, const char *after, size_t m)
{
    char *text = malloc(strlen(before) + strlen(unit) * n + strlen(middle) + strlen(after) * m + 1);
    assert_non_null(text);
    char *end = stpcpy(text, before);
    while (n-- > 0)
        end = stpcpy(end, unit);
    end = stpcpy(end, middle);
    while (m-- > 0)
        end = stpcpy(end, after);
    return text;
}

// ---- schemas ---------------------------------------------------------------------------------------------------

static void a_schema_names_tables_columns_and_constraints(void **state)
{
    (void)state;
    struct ast_schema *s =
        schema_of("-- the chat\n"
                  "create table chats (id uuid primary key default gen_random_uuid(), title text not null default 'new');\n"
                  "create table messages (chat uuid references chats, \"Reply To\" uuid references messages(id), body stream);");
    assert_int_equal(s->table_count, 2);
    const struct ast_table *chats = &s->tables[0], *messages = &s->tables[1];
    assert_span(chats->name, "chats");
    assert_int_equal(chats->position, 25);
    assert_int_equal(chats->column_count, 2);
    assert_true(chats->columns[0].primary_key);
    assert_false(chats->columns[0].not_null);
    assert_int_equal(chats->columns[0].def.kind, AST_UUID);
    assert_true(chats->columns[1].not_null);
    assert_false(chats->columns[1].primary_key);
    assert_int_equal(chats->columns[1].def.kind, AST_TEXT);
    assert_span(chats->columns[1].def.text, "new");
    assert_int_equal(messages->column_count, 3);
    assert_true(messages->columns[0].references);
    assert_span(messages->columns[0].ref_table, "chats");
    assert_int_equal(messages->columns[0].ref_column.n, 0);
    assert_span(messages->columns[1].name, "Reply To");
    assert_span(messages->columns[1].ref_column, "id");
    assert_false(messages->columns[2].references);
    assert_false(messages->columns[2].has_default);
    sql_schema_free(s);
}

static void a_schema_names_types_indexes_and_checks(void **state)
{
    (void)state;
    struct ast_schema *s = schema_of("create table t (a integer options (merge 'max') unique check (a > 0), b mood[] default '{}'::mood[],\n"
                                     " c uuid references t on delete cascade, d uuid, constraint pair unique (a, b),\n"
                                     " constraint small check (a < 9), foreign key (d) references t (id) on delete set null, primary key (id));\n"
                                     "create index on t (a, b desc) where a > 3; create unique index i on t (id);\n"
                                     "create type mood as enum ('sad', 'it''s ok');");
    const struct ast_table *t = &s->tables[0];
    assert_int_equal(t->column_count, 4);
    assert_span(t->columns[0].merge, "max");
    assert_int_equal(t->columns[0].merge_position, 35);
    assert_int_equal(t->columns[1].type.kind, COL_ENUM);
    assert_true(t->columns[1].type.array);
    assert_span(t->columns[1].type.name, "mood");
    assert_true(t->columns[1].def.cast.array);
    assert_int_equal(t->columns[2].on_delete, ACTION_CASCADE);
    assert_true(t->columns[3].references);
    assert_int_equal(t->columns[3].on_delete, ACTION_SET_NULL);
    assert_int_equal(t->check_count, 2);
    assert_span(t->checks[0].column, "a");
    assert_int_equal(t->checks[0].name.n, 0);
    assert_span(t->checks[1].name, "small");
    assert_int_equal(t->checks[1].column.n, 0);
    assert_int_equal(s->index_count, 4);
    assert_true(s->indexes[0].unique && s->indexes[1].unique && !s->indexes[2].unique && s->indexes[3].unique);
    assert_span(s->indexes[0].columns[0].name, "a");
    assert_span(s->indexes[1].name, "pair");
    assert_span(s->indexes[1].columns[1].name, "b");
    assert_true(s->indexes[2].columns[1].desc && !s->indexes[2].columns[0].desc);
    assert_non_null(s->indexes[2].where);
    assert_null(s->indexes[3].where);
    assert_span(s->indexes[3].name, "i");
    assert_int_equal(s->enum_count, 1);
    assert_span(s->enums[0].labels[1], "it's ok");
    sql_schema_free(s);
}

// Longer than any piece of SQL may be, were its parts not in a list.
static void an_enum_may_have_many_labels(void **state)
{
    (void)state;
    struct buf sql;
    buf_init(&sql, MIB);
    buf_put_str(&sql, "create type t as enum ('l0'");
    for (int i = 1; i < ENUM_LABELS_MAX; i++)
        buf_printf(&sql, ", 'l%d'", i);
    buf_put_str(&sql, ")");
    buf_put_u8(&sql, 0);
    struct ast_schema *s = schema_of((char *)sql.p);
    assert_int_equal(s->enums[0].label_count, ENUM_LABELS_MAX);
    sql_schema_free(s);
    buf_free(&sql);
}

static void every_type_is_read_in_all_its_spellings(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum col_type type;
    } types[] = {
        {"text", COL_TEXT},     {"integer", COL_INTEGER},
        {"int", COL_INTEGER},   {"int4", COL_INTEGER},
        {"bigint", COL_BIGINT}, {"int8", COL_BIGINT},
        {"double", COL_DOUBLE}, {"double precision", COL_DOUBLE},
        {"float8", COL_DOUBLE}, {"boolean", COL_BOOLEAN},
        {"bool", COL_BOOLEAN},  {"timestamptz", COL_TIMESTAMPTZ},
        {"uuid", COL_UUID},     {"timestamp with time zone", COL_TIMESTAMPTZ},
        {"jsonb", COL_JSONB},   {"TEXT", COL_TEXT},
        {"stream", COL_STREAM}, {"blob", COL_BLOB},
        {"bytea", COL_BYTEA},   {"counter", COL_COUNTER},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "create table t (c %s)", types[i].name);
        struct ast_schema *s = schema_of(sql);
        assert_int_equal(s->tables[0].columns[0].type.kind, types[i].type);
        sql_schema_free(s);
    }
}

static void a_default_is_a_constant_or_one_of_two_functions(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *expected;
    } defaults[] = {
        {"0", "0"},
        {"-1", "-1"},
        {"- /* a */ 7", "-7"},
        {"(-(-(-8)))", "-8"},
        {"2147483647", "2147483647"},
        {"-2147483648", "-2147483648"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"9223372036854775808", "9.2233720368547758e+18r"},
        {"1.5", "1.5r"},
        {"-1.5e3", "-1500r"},
        {"3::double precision", "3r"},
        {"'a''b'", "'a'b'"},
        {"''", "''"},
        {"$$it's$$", "'it's'"},
        {"'{}'::jsonb", "'{}'"},
        {"timestamptz '2026-01-01'", "'2026-01-01'"},
        {"true", "true"},
        {"false", "false"},
        {"null", "null"},
        {"null::text", "null"},
        {"now()", "now"},
        {"current_timestamp", "now"},
        {"gen_random_uuid()", "uuid"},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        char sql[200];
        struct buf b;
        buf_init(&b, 1000);
        snprintf(sql, sizeof sql, "create table t (c text default %s)", defaults[i].sql);
        struct ast_schema *s = schema_of(sql);
        assert_true(s->tables[0].columns[0].has_default);
        put_const(&b, &s->tables[0].columns[0].def);
        assert_span(buf_span(&b), defaults[i].expected);
        sql_schema_free(s);
        buf_free(&b);
    }
}

static void a_schema_may_be_empty(void **state)
{
    (void)state;
    static const char *const empty[] = {"", "  \n", ";;", "-- nothing\n/* at /* all */ */"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        struct ast_schema *s = schema_of(empty[i]);
        assert_int_equal(s->table_count, 0);
        sql_schema_free(s);
    }
    struct ast_schema *s = schema_of("create table t ()");
    assert_int_equal(s->tables[0].column_count, 0);
    sql_schema_free(s);
}

static void what_a_schema_cannot_have_is_refused_by_name_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *at, *part;
    } refused[] = {
        {"create table t (a int references u on delete set default)", "references", "ON DELETE SET DEFAULT is"},
        {"create table t (a int references u on delete set null (a))", "references", "ON DELETE of named columns is"},
        {"create table t (a int, b int, foreign key (a, b) references u (a, b))", "foreign", "of several columns is"},
        {"create table t (a int, foreign key (a) references u not valid)", "foreign", "NOT VALID is"},
        {"create table t (a int check (a > 1) no inherit)", "check", "NO INHERIT is"},
        {"create table t (a int, unique (a) deferrable)", "unique", "DEFERRABLE is"},
        {"create table t (a int, unique nulls not distinct (a))", "unique", "NULLS NOT DISTINCT is"},
        {"create table t (a int, unique (a) include (a))", "unique", "INCLUDE is"},
        {"create table t (a int, exclude (a with =))", "exclude", "EXCLUDE is"},
        {"create table t (a int options (color 'red'))", "color", "the option color is not supported"},
        {"create table t (a textdoc)", "textdoc", "the type textdoc is not supported yet"},
        {"create table t (a int default 'x'::mood)", "mood", "the type mood is not supported"},
        {"create table t (a int[][])", "int[", "more than one dimension"},
        {"create table t (a int[3])", "int[", "the length of an array"},
        {"create table t (a stream[])", "stream[", "arrays of stream"},
        {"create table t (a counter[])", "counter[", "arrays of counter"},
        {"create type s.m as enum ('a')", "create", "in front of a type"},
        {"create type m as (a int)", "m as", "CREATE TYPE but for enums"},
        {"create type m", "create", "CREATE TYPE but for enums"},
        {"create domain m as int", "int", "CREATE DOMAIN"},
        {"alter type m add value 'b'", "alter", "ALTER TYPE"},
        {"create index i on t using hash (a)", "t using", "USING is"},
        {"create index i on t (lower(a))", "lower", "an index of expressions"},
        {"create index i on t (a collate \"C\")", "t (", "COLLATE is"},
        {"create index i on t (a text_ops)", "t (", "operator classes"},
        {"create index i on t (a nulls first)", "t (", "NULLS FIRST without DESC"},
        {"create index i on t (a desc nulls last)", "t (", "NULLS LAST behind DESC"},
        {"create index if not exists i on t (a)", "t (", "IF NOT EXISTS"},
        {"create index concurrently i on t (a)", "t (", "CONCURRENTLY"},
        {"create table t (a int references u on update set null)", "references", "ON UPDATE is"},
        {"create table t (a int references u match full)", "references", "MATCH FULL"},
        {"create table t (a int references u deferrable)", "deferrable", "DEFERRABLE"},
        {"create table t (a int references s.u)", "s.u", "names of schemas"},
        {"create table t (a int constraint nn not null)", "constraint", "names of these constraints"},
        {"create table t (a int generated always as identity)", "generated", "IDENTITY is"},
        {"create table t (a int generated always as (1) stored)", "generated", "GENERATED is"},
        {"create table t (a text collate \"C\")", "collate", "COLLATE is"},
        {"create table t (a text compression lz4)", "a text", "COMPRESSION is"},
        {"create table t (a text default 1 + 1)", "+", "expressions"},
        {"create table t (a text default f())", "f()", "function f is not supported"},
        {"create table t (a text default now(1))", "1))", "with arguments"},
        {"create table t (a text default pg_catalog.now())", "pg_catalog", "function"},
        {"create table t (a text default current_date)", "current_date", "function"},
        {"create table t (a text default current_timestamp(3))", "current_timestamp", "function"},
        {"create table t (a text default $1)", "$1", "a parameter here"},
        {"create table t (a text default b'1')", "b'1'", "bit strings"},
        {"create table t (a int default '1'::int)", "'1'", "a cast that changes"},
        {"create table t (a int default 1.5::int)", "1.5", "a cast that changes"},
        {"create table t (a int default 5000000000::int)", "5000000000", "a cast that changes"},
        {"create table t (a int default -5::int)", "-5", "expressions"},
        {"create table t (a varchar(3))", "3)", "length"},
        {"create table t (a varchar)", "varchar", "the type varchar is not supported"},
        {"create table t (a timestamp)", "timestamp", "the type timestamp is"},
        {"create table t (a timestamptz(3))", "3)", "precision"},
        {"create table t (a s.x)", "s.x", "in front of a type"},
        {"create table if not exists t (a int)", "t (", "IF NOT EXISTS"},
        {"create temp table t (a int)", "t (", "TEMPORARY is"},
        {"create unlogged table t (a int)", "t (", "UNLOGGED is"},
        {"create table s.t (a int)", "s.t", "names of schemas"},
        {"create table t (a int) inherits (u)", "u)", "INHERITS is"},
        {"create table t (a int) with (x = 1)", "x =", "WITH is"},
        {"create table t (a int) tablespace x", "t (", "TABLESPACE is"},
        {"create table t (a int) using x", "t (", "USING is"},
        {"create table t (a int) partition by hash (a)", "partition", "PARTITION BY is"},
        {"create table t (like u)", "u)", "LIKE in a table"},
        {"create table t as select 1", "1", "CREATE TABLE AS is"},
        {"create table t (a int); drop table t", "drop", "DROP is"},
        {"insert into t values (1)", "t values", "INSERT"},
        {"select * from t", "* from", "SELECT is here"},
        {"vacuum", "vacuum", "VacuumStmt is not supported"},
        {"create table t (a text default e'x')", "e'x'", "strings with E"},
        {"create table t (a text default U&'x')", "U&'x'", "U& in front"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        schema_refused(refused[i].sql, ERR_UNSUPPORTED_SQL, refused[i].at, refused[i].part);
}

static void what_contradicts_itself_is_refused(void **state)
{
    (void)state;
    schema_refused("create table t (a int not null null)", ERR_BAD_SQL, "null)", "twice");
    schema_refused("create table t (a int not null not null)", ERR_BAD_SQL, "not null)", "twice");
    schema_refused("create table t (a int null null)", ERR_BAD_SQL, "null)", "twice");
    schema_refused("create table t (a int default 1 default 2)", ERR_BAD_SQL, "default 2", "twice");
    schema_refused("create table t (a int references u references v)", ERR_BAD_SQL, "references v", "twice");
    schema_refused("create table t (a int options (merge 'max', merge 'min'))", ERR_BAD_SQL, "merge 'min'", "twice");
    schema_refused("create table t (a uuid references u, foreign key (a) references v)", ERR_BAD_SQL, "foreign", "twice");
    schema_refused("create table t (a int, foreign key (b) references v)", ERR_BAD_SQL, "foreign", "t has no column b");
    schema_refused("create table t (a int, primary key (a))", ERR_BAD_SCHEMA, "primary", "only id");
    schema_refused("create table t (); create type counter as enum ('a')", ERR_BAD_SCHEMA, "create type", "always there");
    schema_refused("create table t (a int primary key primary key)", ERR_BAD_SQL, "primary key)", "twice");
}

// ---- queries ---------------------------------------------------------------------------------------------------

static void a_query_names_its_table_columns_order_and_limit(void **state)
{
    (void)state;
    struct ast_select *s = select_of("select b, t.\"A\" from t order by a, b desc, c asc nulls first, d desc nulls last limit 10;");
    assert_span(s->table, "t");
    assert_int_equal(s->table_position, 21);
    assert_false(s->star);
    assert_int_equal(s->column_count, 2);
    assert_span(s->columns[0], "b");
    assert_span(s->columns[1], "A");
    assert_int_equal(s->column_positions[1], 10);
    assert_int_equal(s->order_count, 4);
    assert_false(s->order[0].desc || s->order[0].nulls_first);
    assert_true(s->order[1].desc && s->order[1].nulls_first);
    assert_true(!s->order[2].desc && s->order[2].nulls_first);
    assert_true(s->order[3].desc && !s->order[3].nulls_first);
    assert_true(s->has_limit);
    assert_int_equal(s->limit.i, 10);
    assert_int_equal(s->term_count, 0);
    sql_select_free(s);
}

static void star_is_all_columns(void **state)
{
    (void)state;
    static const char *const queries[] = {"select * from t", "select t.* from t", "table t", "SELECT * FROM T -- all"};
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct ast_select *s = select_of(queries[i]);
        assert_true(s->star);
        assert_int_equal(s->column_count, 0);
        assert_false(s->has_limit);
        assert_span(s->table, "t");
        sql_select_free(s);
    }
}

static void a_limit_is_a_number_a_parameter_or_none(void **state)
{
    (void)state;
    struct ast_select *s = select_of("select * from t limit 0");
    assert_true(s->has_limit && s->limit.kind == AST_INT && s->limit.i == 0);
    sql_select_free(s);
    s = select_of("select * from t limit $2");
    assert_true(s->has_limit && s->limit.kind == AST_PARAM && s->limit.param == 2);
    sql_select_free(s);
    s = select_of("select * from t limit all");
    assert_false(s->has_limit);
    sql_select_free(s);
    s = select_of("select * from t fetch first row only");
    assert_true(s->has_limit && s->limit.i == 1);
    sql_select_free(s);
    select_refused("select * from t limit -1", ERR_BAD_SQL, "-1", "negative");
    select_refused("select * from t limit 1.5", ERR_UNSUPPORTED_SQL, "1.5", "whole number");
}

static void a_where_is_a_list_of_comparisons(void **state)
{
    (void)state;
    where_reads("a = 1 and b <> 'x' and c != -2 and d < 1.5 and e <= $1 and f > true and g >= null",
                "a = 1; b <> 'x'; c <> -2; d < 1.5r; e <= $1; f > true; g >= null");
    where_reads("(a = 1) and ((b = 2) and (c = 3))", "a = 1; b = 2; c = 3");
    where_reads("a is null and b is not null and not c is null", "a null; b not null; c not null");
    where_reads("t.id = 'f6bd7fd0-2c6c-4a5c-8d0b-9f8a0c7b5a11'::uuid", "id = 'f6bd7fd0-2c6c-4a5c-8d0b-9f8a0c7b5a11'");
    where_reads("a >= '2026-01-01' ::timestamptz and a < cast('2027-01-01' as timestamptz)", "a >= '2026-01-01'; a < '2027-01-01'");
    where_reads("\"Größe\" = 'ä'", "Größe = 'ä'");
    where_reads("a = 0 and b = -0", "a = 0; b = 0");
}

static void a_constant_on_the_left_turns_the_operator_round(void **state)
{
    (void)state;
    where_reads("1 = a and 2 <> b and 3 < c and 4 <= d and $5 > e and 'x' >= f", "a = 1; b <> 2; c > 3; d >= 4; e < $5; f <= 'x'");
}

static void between_is_two_comparisons(void **state)
{
    (void)state;
    where_reads("a between -1 and $1 and b = 2", "a >= -1; a <= $1; b = 2");
}

static void a_boolean_column_stands_for_itself(void **state)
{
    (void)state;
    where_reads("done", "done = true");
    where_reads("not done and t.open", "done = false; open = true");
    where_reads("not not done", "done = true");
    where_reads("done is true and open is false", "done = true; open = false");
    where_reads("not (a < 1) and not (2 <= b) and not a = 3", "a >= 1; b < 2; a <> 3");
}

static void what_a_query_cannot_have_is_refused_by_name_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *at, *part;
    } refused[] = {
        {"select * from t, u", "u", "joins are not supported yet"},
        {"select * from t join u on true", "t join", "joins are"},
        {"select * from (select 1) x", "1)", "subqueries are"},
        {"select * from f()", "f()", "functions in FROM"},
        {"select * from t as x", "t as", "aliases are"},
        {"select * from only x", "x", "ONLY is"},
        {"select * from s.t", "s.t", "names of schemas"},
        {"select distinct a from t", NULL, "DISTINCT is"},
        {"select a from t group by x", "x", "GROUP BY is"},
        {"select a from t having b", "b", "HAVING is"},
        {"select a from t window w as ()", "()", "WINDOW is"},
        {"select a into u from t", "u", "SELECT INTO is"},
        {"with x as (select 1) select a from t", "x as", "WITH is"},
        {"select a from t for update", NULL, "FOR UPDATE"},
        {"select a from t offset 0", "0", "OFFSET is"},
        {"select a from t order by a fetch first 1 rows with ties", "1", "WITH TIES"},
        {"select a from t union select b from u", "b from", "UNION"},
        {"values (1)", "1", "VALUES is"},
        {"select a as b from t", "a as", "AS is"},
        {"select a + 1 from t", "+", "expressions here"},
        {"select count(*) from t", "count", "function calls"},
        {"select *, a from t", "*", "* beside columns"},
        {"select a, a from t", "a from", "twice"},
        {"select a.b.c from t", "a.b", "fields of columns"},
        {"select 1", NULL, "without FROM"},
        {"select * from t where a = 1 or b = 2", "or", "OR is"},
        {"select * from t where not (a = 1 and b = 2)", "and", "NOT in front of AND"},
        {"select * from t where a in (1)", "in", "IN is"},
        {"select * from t where a like 'x'", "like", "LIKE is"},
        {"select * from t where a = any ('{}')", "=", "ANY is"},
        {"select * from t where a is distinct from 1", "is", "IS DISTINCT"},
        {"select * from t where a not between 1 and 2", "not", "NOT BETWEEN"},
        {"select * from t where not a between 1 and 2", "between", "NOT BETWEEN"},
        {"select * from t where a is not true", "is", "IS NOT TRUE"},
        {"select * from t where not a is true", "is", "IS NOT TRUE"},
        {"select * from t where a = b", "=", "comparing two columns"},
        {"select * from t where 1 = 1", "1", "a constant here"},
        {"select * from t where true", "true", "a constant here"},
        {"select * from t where $1", "$1", "a parameter here"},
        {"select * from t where a ~ 'x'", "~", "the operator ~"},
        {"select * from t where a operator(pg_catalog.=) 1", "operator", "operator"},
        {"select * from t where a = now()", "now", "function calls"},
        {"select * from t where lower(a) = 'x'", "lower", "function calls"},
        {"select * from t where a = (select 1)", "(select", "subqueries"},
        {"select * from t where exists (select 1)", "exists", "subqueries"},
        {"select * from t where a = 'x' collate \"C\"", "collate", "COLLATE"},
        {"select * from t where a[1] = 2", "a[1]", "subscripts"},
        {"select * from t where (a, b) = (1, 2)", "(a", "row values"},
        {"select * from t where a = $1::uuid", "$1", "a cast of a parameter"},
        {"select * from t where a = '1'::text::uuid", "::uuid", "a cast of a cast"},
        {"select * from t where a->'b' = 1", "->", "expressions"},
        {"select * from t order by 1", "1", "ORDER BY anything but"},
        {"select * from t order by a using <", "a using", "USING is"},
        {"delete from x", "x", "DELETE"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        select_refused(refused[i].sql, ERR_UNSUPPORTED_SQL, refused[i].at, refused[i].part);
}

static void what_is_not_sql_is_refused_with_the_parsers_words(void **state)
{
    (void)state;
    select_refused("selec * from t", ERR_BAD_SQL, "selec", "syntax error at or near \"selec\"");
    select_refused("select 'äöü' frm ä x y", ERR_BAD_SQL, "ä x", "syntax error");
    select_refused("select * from t where a = 'x", ERR_BAD_SQL, "'x", "unterminated");
    select_refused("select * from t where a = 0x1F", ERR_BAD_SQL, "0x", "junk");
    select_refused("", ERR_BAD_SQL, NULL, "there is none");
    select_refused(" ; -- nothing", ERR_BAD_SQL, NULL, "there is none");
    select_refused("select * from t; select * from u", ERR_BAD_SQL, " select * from u", "there are more");
    select_refused("select * from t where u.a = 1", ERR_BAD_SQL, "u.a", "not the table of this query");
    select_refused("select from t", ERR_BAD_SQL, NULL, "names * or columns");
    select_refused("select * from t where a = $0", ERR_BAD_SQL, "$0", "$1 to $64");
    select_refused("select * from t where a = $65", ERR_BAD_SQL, "$65", "$1 to $64");
    select_refused("select * from t where a = $4294967297", ERR_BAD_SQL, "$42", "$1 to $64");
    select_refused("select * from t where a = 1e999", ERR_BAD_SQL, "1e999", "out of range");
}

// ---- bounds ----------------------------------------------------------------------------------------------------

static void a_name_that_the_parser_would_cut_off_is_refused(void **state)
{
    (void)state;
    char *name = nested("", "n", NAME_MAX_BYTES, "", "", 0);
    char sql[500];
    snprintf(sql, sizeof sql, "select %s, \"%.60s\"\"é\" from t", name, name);
    struct ast_select *s = select_of(sql);
    assert_span(s->columns[0], name);
    assert_int_equal(s->columns[1].n, NAME_MAX_BYTES);
    sql_select_free(s);
    snprintf(sql, sizeof sql, "select a%s from t", name);
    select_refused(sql, ERR_UNSUPPORTED_SQL, "ann", "longer than 63 bytes");
    snprintf(sql, sizeof sql, "select \"%.61sé!\" from t", name);
    select_refused(sql, ERR_UNSUPPORTED_SQL, "\"", "longer than 63 bytes");
    snprintf(sql, sizeof sql, "select * from t where a = '%sn' and b = $q%.20s$%s%s$q%.20s$ -- %sn", name, name, name, name, name, name);
    sql_select_free(select_of(sql));
    free(name);
}

static void text_that_is_no_text_is_refused(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    struct ast_select *s;
    struct ast_schema *schema;
    assert_int_equal(sql_parse_select(SPAN_LIT("select \0 from t"), &s, &p), ERR_BAD_SQL);
    assert_int_equal(p.position, 7);
    p = PROBLEM_NONE;
    assert_int_equal(sql_parse_schema(SPAN_LIT("create \xff"), &schema, &p), ERR_BAD_UTF8);
    assert_int_equal(p.position, 7);
    char *text = nested("", " ", SQL_QUERY_MAX - 15, "select * from t", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), 0);
    sql_select_free(s);
    free(text);
    text = nested("", " ", SQL_QUERY_MAX - 14, "select * from t", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), ERR_TOO_LARGE);
    assert_int_equal(sql_parse_schema(SPAN_STR(text), &schema, NULL), ERR_UNSUPPORTED_SQL);
    free(text);
    text = nested("", " ", SQL_SCHEMA_MAX + 1, "", "", 0);
    assert_int_equal(sql_parse_schema(SPAN_STR(text), &schema, NULL), ERR_TOO_LARGE);
    free(text);
}

static void counts_have_bounds(void **state)
{
    (void)state;
    struct ast_select *s;
    struct ast_schema *schema;
    char *text = nested("select * from t where a=1", " and a=1", QUERY_TERMS_MAX - 1, "", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), 0);
    assert_int_equal(s->term_count, QUERY_TERMS_MAX);
    sql_select_free(s);
    free(text);
    text = nested("select * from t where a=1", " and a=1", QUERY_TERMS_MAX, "", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), ERR_UNSUPPORTED_SQL);
    free(text);
    text = nested("create table t (a text", ", a text not null default 'x'", COLUMNS_MAX - 1, ");", "", 0);
    assert_int_equal(sql_parse_schema(SPAN_STR(text), &schema, NULL), 0);
    assert_int_equal(schema->tables[0].column_count, COLUMNS_MAX);
    sql_schema_free(schema);
    free(text);
    text = nested("create table t (a text", ", a text", COLUMNS_MAX, ");", "", 0);
    assert_int_equal(sql_parse_schema(SPAN_STR(text), &schema, NULL), ERR_BAD_SCHEMA);
    free(text);
    text = nested("", "create table t (a text);", TABLES_MAX, "", "", 0);
    assert_int_equal(sql_parse_schema(SPAN_STR(text), &schema, NULL), 0);
    assert_int_equal(schema->table_count, TABLES_MAX);
    sql_schema_free(schema);
    free(text);
    text = nested("", "create table t (a text);", TABLES_MAX + 1, "", "", 0);
    assert_int_equal(sql_parse_schema(SPAN_STR(text), &schema, NULL), ERR_BAD_SCHEMA);
    free(text);
}

// Texts of which the tree is as deep as the text is long, or on which the parser's time is quadratic.
static const struct {
    const char *before, *unit, *middle, *after;
} hostile[] = {
    {"select * from t where a = ", "(", "1", ")"},
    {"select * from t where a = ", "- ", "1", ""},
    {"select * from t where a = ", "+ ", "1", ""},
    {"select * from t where ", "not ", "a", ""},
    {"select * from t where ", "(a and ", "a", ")"},
    {"select ARRAY", "[", "1", "]"},
    {"", "(", "select 1", ")"},
    {"select 1", " union select 1", "", ""},
    {"select 1 where a", " isnull", "", ""},
    {"select 1 where a", " between 1 and b is null", "", ""},
    {"select 1 where a", "::int", "", ""},
    {"select 1 where a", "||b", "", ""},
    {"select 1 where a = 1", "+1", "", ""},
    {"select 1 where a = 1", " and a=1", "", ""},
    {"select 1 where a = 1", " or a=1", "", ""},
    {"select 1 from a", " join b on x and y", "", ""},
    {"select ", "/*", "", "*/"},
    {"select ", "/*", "", ""},
    {"select 1 ", "+", " 1", ""},
    {"select ", "f(", "1", ")"},
    {"select ", "case when ", "1", " then 1 end"},
    {"select 1 where ", "exists (select ", "1", ")"},
    {"create table t (a int", "[]", ")", ""},
    {"create table t (a int", " not null", ")", ""},
    {"create table t (a int default 1", "+1", ")", ""},
    {"create table t (a int", ",a int default f(1+1", ")", ""},
    {"create table t (a int", ",a int", ")", ""},
    {"create table t (a int) as select 1", ",1 union select 1", "", ""},
    {"", "create table t (a int);", "", ""},
    {"", "select 1;", "", ""},
    {"select $a$", "$a$ $a$", "", ""},
    {"select '", "''", "'", ""},
    {"select \"", "\"\"", "\"", ""},
};

static void *parse_hostile(void *arg)
{
    size_t i = (size_t)(uintptr_t)arg, unit = strlen(hostile[i].unit) + strlen(hostile[i].after);
    static const size_t sizes[] = {SQL_QUERY_MAX, SQL_SCHEMA_MAX};
    for (size_t k = 0; k < 2; k++) {
        for (size_t n = 100; n < sizes[k] / unit; n = n * 2 < sizes[k] / unit ? n * 2 : n + n / 2) {
            char *text =
                nested(hostile[i].before, hostile[i].unit, n, hostile[i].middle, hostile[i].after, hostile[i].after[0] != 0 ? n : 0);
            struct ast_select *s = NULL;
            struct ast_schema *schema = NULL;
            if (strlen(text) <= SQL_QUERY_MAX && sql_parse_select(SPAN_STR(text), &s, NULL) == 0) sql_select_free(s);
            if (sql_parse_schema(SPAN_STR(text), &schema, NULL) == 0) sql_schema_free(schema);
            free(text);
        }
    }
    return NULL;
}

// 512 KiB is what sql.h asks for; sanitizers take more of it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK (4 * MIB)
#else
#define STACK (512 * KIB)
#endif

static void hostile_nesting_fits_a_small_stack(void **state)
{
    (void)state;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK), 0);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        pthread_t t;
        assert_int_equal(pthread_create(&t, &attr, parse_hostile, (void *)(uintptr_t)i), 0);
        assert_int_equal(pthread_join(t, NULL), 0);
    }
    pthread_attr_destroy(&attr);
}

static void nesting_is_refused_by_depth(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    struct ast_select *s;
    char *text = nested("select * from t where a = ", "(", SQL_DEPTH_MAX, "1", ")", SQL_DEPTH_MAX);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), 0);
    sql_select_free(s);
    free(text);
    text = nested("select * from t where a = ", "(", SQL_DEPTH_MAX + 1, "1", ")", SQL_DEPTH_MAX + 1);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, &p), ERR_TOO_DEEP);
    assert_int_equal(p.position, 26 + SQL_DEPTH_MAX);
    free(text);
    text = nested("select * from t where a = 1", "+1", 100, "", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), ERR_UNSUPPORTED_SQL);
    free(text);
}

// ---- threads ---------------------------------------------------------------------------------------------------

static void *parse_much(void *arg)
{
    uintptr_t wrong = 0;
    for (int i = 0; i < 300; i++) {
        char sql[100];
        struct ast_select *s;
        struct problem p = PROBLEM_NONE;
        snprintf(sql, sizeof sql, "select * from t%d where a = %d", (int)(uintptr_t)arg, -i);
        if (sql_parse_select(SPAN_STR(sql), &s, &p) != 0) return (void *)(uintptr_t)1;
        wrong += s->terms[0].value.i != -i;
        sql_select_free(s);
        wrong += sql_parse_select(SPAN_LIT("select * frm t"), &s, &p) != ERR_BAD_SQL;
    }
    return (void *)wrong;
}

static void threads_parse_side_by_side(void **state)
{
    (void)state;
    pthread_t t[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, parse_much, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < 4; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(t[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_schema_names_tables_columns_and_constraints),
        cmocka_unit_test(a_schema_names_types_indexes_and_checks),
        cmocka_unit_test(an_enum_may_have_many_labels),
        cmocka_unit_test(every_type_is_read_in_all_its_spellings),
        cmocka_unit_test(a_default_is_a_constant_or_one_of_two_functions),
        cmocka_unit_test(a_schema_may_be_empty),
        cmocka_unit_test(what_a_schema_cannot_have_is_refused_by_name_and_place),
        cmocka_unit_test(what_contradicts_itself_is_refused),
        cmocka_unit_test(a_query_names_its_table_columns_order_and_limit),
        cmocka_unit_test(star_is_all_columns),
        cmocka_unit_test(a_limit_is_a_number_a_parameter_or_none),
        cmocka_unit_test(a_where_is_a_list_of_comparisons),
        cmocka_unit_test(a_constant_on_the_left_turns_the_operator_round),
        cmocka_unit_test(between_is_two_comparisons),
        cmocka_unit_test(a_boolean_column_stands_for_itself),
        cmocka_unit_test(what_a_query_cannot_have_is_refused_by_name_and_place),
        cmocka_unit_test(what_is_not_sql_is_refused_with_the_parsers_words),
        cmocka_unit_test(a_name_that_the_parser_would_cut_off_is_refused),
        cmocka_unit_test(text_that_is_no_text_is_refused),
        cmocka_unit_test(counts_have_bounds),
        cmocka_unit_test(hostile_nesting_fits_a_small_stack),
        cmocka_unit_test(nesting_is_refused_by_depth),
        cmocka_unit_test(threads_parse_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
