#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sql_help.h"

// ---- helpers ---------------------------------------------------------------------------------------------------

static struct ast_schema *schema_of(const char *sql)
{
    struct problem p = PROBLEM_NONE;
    struct ast_schema *s = NULL;
    int err = sql_parse_schema(SPAN_STR(sql), &s, &p);
    if (err != 0) fail_msg("%s: %s at %lld", sql, problem_text(&p), (long long)p.position);
    return s;
}

static void schema_refused(const char *sql, int err, const char *at, const char *part)
{
    struct problem p = PROBLEM_NONE;
    struct ast_schema *s = NULL;
    if (sql_parse_schema(SPAN_STR(sql), &s, &p) == 0) fail_msg("%s was taken", sql);
    assert_null(s);
    expect_problem(&p, sql, err, at == NULL ? -1 : strstr(sql, at) - sql, part);
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

// ---- bounds ----------------------------------------------------------------------------------------------------

static void a_name_that_the_parser_would_cut_off_is_refused(void **state)
{
    (void)state;
    char *name = nested("", "n", NAME_MAX_BYTES, "", "", 0);
    char sql[500];
    snprintf(sql, sizeof sql, "select %s, \"%.60s\"\"é\" from t", name, name);
    struct ast_select *s = select_of(sql);
    assert_span(s->targets[0].expr->name, name);
    assert_int_equal(s->targets[1].expr->name.n, NAME_MAX_BYTES);
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
    char *text = nested("select * from t", ", t", QUERY_TABLES_MAX - 1, "", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), 0);
    assert_int_equal(s->from_count, QUERY_TABLES_MAX);
    sql_select_free(s);
    free(text);
    text = nested("select * from t", ", t", QUERY_TABLES_MAX, "", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), ERR_UNSUPPORTED_SQL);
    free(text);
    text = nested("select a", ", a", COLUMNS_MAX, " from t", "", 0);
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
    text = nested("select * from t where a = 1", "+1", 80, "", "", 0);
    assert_int_equal(sql_parse_select(SPAN_STR(text), &s, NULL), 0);
    sql_select_free(s);
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
        wrong += s->where->args[1]->value.i != -i;
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
        cmocka_unit_test(a_name_that_the_parser_would_cut_off_is_refused),
        cmocka_unit_test(text_that_is_no_text_is_refused),
        cmocka_unit_test(counts_have_bounds),
        cmocka_unit_test(hostile_nesting_fits_a_small_stack),
        cmocka_unit_test(nesting_is_refused_by_depth),
        cmocka_unit_test(threads_parse_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
