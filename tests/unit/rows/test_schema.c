#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "rows_rig.h"
#include "schema.h"
#include "sql.h"

static void assert_span_is(struct span s, const char *expected)
{
    if (!span_is(s, expected)) fail_msg("%.*s, not %s", SPAN_FMT(s), expected);
}

static int setup(void **state)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

static char *sql_of(struct rows_rig *g)
{
    struct buf text;
    buf_init(&text, MIB);
    rows_schema_sql(g->r, &text);
    buf_put_u8(&text, 0);
    char *s = strdup((char *)text.p);
    buf_free(&text);
    return s;
}

static const char canonical[] = "create table \"Order\" (\n"
                                "    id uuid primary key,\n"
                                "    a integer not null default -7,\n"
                                "    b text default 'it''s'\n"
                                ");\n"
                                "\n"
                                "create table t (\n"
                                "    id uuid primary key,\n"
                                "    big bigint default 9007199254740993,\n"
                                "    body stream,\n"
                                "    data jsonb default '{\"a\":[1,2]}',\n"
                                "    f boolean not null default false,\n"
                                "    file blob not null,\n"
                                "    key uuid default gen_random_uuid(),\n"
                                "    parent uuid references \"Order\",\n"
                                "    \"user\" text,\n"
                                "    w timestamptz default '2024-01-01T00:00:00.000Z',\n"
                                "    \"when\" timestamptz default now(),\n"
                                "    x double precision default 0.1\n"
                                ");\n";

static const char rich[] = "create type mood as enum ('sad', 'it''s ok');\n"
                           "create type \"time\" as enum ('am');\n"
                           "\n"
                           "create table t (\n"
                           "    id uuid primary key,\n"
                           "    best integer options (merge 'max') not null,\n"
                           "    bytes bytea default '\\x00ff',\n"
                           "    feeling mood default 'it''s ok',\n"
                           "    hits counter,\n"
                           "    \"like\" text,\n"
                           "    likes counter default 3,\n"
                           "    moods mood[],\n"
                           "    owner uuid references u on delete set null,\n"
                           "    tags text[] options (merge 'set') not null default '{\"a b\",\"c\"}',\n"
                           "    u uuid references u on delete cascade,\n"
                           "    zone \"time\",\n"
                           "    constraint few check (cardinality(tags) < 5),\n"
                           "    constraint t_best_check check (best > 0),\n"
                           "    constraint t_best_check1 check (best < 1000)\n"
                           ");\n"
                           "create index by_best on t (best desc, id) where feeling = 'sad';\n"
                           "create index t_feeling_idx on t (feeling);\n"
                           "create unique index t_like_key on t (\"like\");\n"
                           "\n"
                           "create table u (\n"
                           "    id uuid primary key\n"
                           ");\n";

static void canonical_text_has_all_that_a_schema_may_say(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, "create index on t (feeling); create table u (); create type mood as enum ('sad', 'it''s ok');"
                  "create table t (likes counter default 3, best integer options (merge 'max') not null check (best > 0) check (best < 1000),"
                  " tags text[] options (merge 'set') default '{c, \"a b\", c}'::text[] not null, moods mood array, \"like\" text unique,"
                  " bytes bytea default '\\x00FF'::bytea, owner uuid, foreign key (owner) references u on delete set null,"
                  " u uuid references u on delete cascade, hits counter options (merge 'counter') not null, zone \"time\","
                  " feeling mood default 'it''s ok'::mood, constraint few check (cardinality(tags) < 5), primary key (id));"
                  "create type \"time\" as enum ('am'); create index by_best on t (best desc, id) where feeling = 'sad';");
    char *sql = sql_of(g);
    assert_string_equal(sql, rich);
    rr_publish(g, sql);
    assert_int_equal(g->effects.n, 0);
    free(sql);
}

static void canonical_text_does_not_depend_on_the_source(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, "-- a comment\ncreate table t (x float8 default 0.1, big int8 default 9007199254740993, body stream, file blob not null,"
                  " data jsonb default '{ \"a\" : [1, 2] }', f bool default false not null, key uuid default gen_random_uuid(),"
                  " parent uuid references \"Order\"(id), \"user\" text default null, \"when\" timestamptz default now(),"
                  " w timestamptz default '2024-01-01 01:00:00+01:00', id uuid primary key);"
                  "create table \"Order\" (b text default 'it''s', a int4 not null default -7);");
    char *sql = sql_of(g);
    assert_string_equal(sql, canonical);
    struct sha256 hash = rows_schema_hash(g->r), expected = sha256_of(SPAN_STR(canonical));
    assert_true(sha256_equal(&hash, &expected));
    free(sql);
}

static void canonical_text_is_the_same_schema_again(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, canonical);
    uint64_t seq = g->seq;
    char *sql = sql_of(g);
    rr_publish(g, sql);
    assert_int_equal(g->effects.n, 0);
    assert_int_equal(g->seq, seq + 1);
    free(sql);
}

static void columns_are_shown_in_the_order_of_their_birth(void **state)
{
    struct rows_rig *g = *state;
    struct buf json;
    rr_publish(g, "create table t (z text not null, b integer);");
    rr_publish(g, "create table t (a text default 'q', b integer, z text not null);");
    rr_insert(g, "t", 1, "{\"z\":\"x\"}");
    rr_expect(g, "select * from t", "{\"id\":\"#1\",\"z\":\"x\",\"b\":null,\"a\":\"q\"}\n");
    buf_init(&json, MIB);
    rows_schema_json(g->r, &json);
    buf_put_u8(&json, 0);
    const char *tables = strstr((char *)json.p, "\"tables\"");
    assert_string_equal(tables,
                        "\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"id\",\"type\":\"uuid\",\"not_null\":true},"
                        "{\"name\":\"z\",\"type\":\"text\",\"not_null\":true},{\"name\":\"b\",\"type\":\"integer\",\"not_null\":false},"
                        "{\"name\":\"a\",\"type\":\"text\",\"not_null\":false,\"default\":\"'q'\"}],\"indexes\":[],\"checks\":[]}]}");
    buf_free(&json);
}

static void old_rows_read_the_defaults_of_new_columns(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, "create table t (a integer);");
    rr_insert(g, "t", 1, "{\"a\":1}");
    rr_publish(g, "create table t (a integer, b text, c integer not null default 4, d timestamptz default now(), s stream);");
    uint64_t published = g->seq;
    const char *row = "{\"id\":\"#1\",\"a\":1,\"b\":null,\"c\":4,\"d\":\"2023-11-14T22:13:20.003Z\"}\n";
    rr_expect(g, "select a, b, c, d from t", row);
    rr_expect(g, "select a, b, c, d from t where c = 4 and b is null and s is not null", row);
    rr_update(g, "t", 1, "{\"a\":2}");
    rr_update(g, "t", 1, "{\"b\":\"x\",\"c\":5}");
    rr_publish(
        g,
        "create table t (a integer, b text, c integer not null default 4, d timestamptz default now(), s stream, e boolean default true);");
    rr_reopen(g);
    rr_expect(g, "select a, b, c, d, e from t",
              "{\"id\":\"#1\",\"a\":2,\"b\":\"x\",\"c\":5,\"d\":\"2023-11-14T22:13:20.003Z\",\"e\":true}\n");
    rr_expect_at(g, "select a, b, c, d from t", published, row);
}

// Two publications in one batch are one version, and a row that was written between them has what the second one brings.
static void a_batch_may_publish_twice(void **state)
{
    struct rows_rig *g = *state;
    struct buf list;
    rr_publish(g, "create table t (a integer);");
    rr_insert(g, "t", 1, "{\"a\":1}");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_UPDATE, "t", 1, "{\"a\":2}"), 0);
    assert_int_equal(rr_schema(g, "create table t (a integer, b integer default 5);"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "t", 2, "{\"a\":3}"), 0);
    assert_int_equal(rr_schema(g, "create table t (a integer, b integer default 5, c text default 'x'); create table u (r uuid);"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "t", 3, "{\"a\":4,\"b\":6,\"c\":\"y\"}"), 0);
    assert_int_equal(rr_end(g), 0);
    const char *rows = "{\"id\":\"#1\",\"a\":2,\"b\":5,\"c\":\"x\"}\n{\"id\":\"#2\",\"a\":3,\"b\":5,\"c\":\"x\"}\n"
                       "{\"id\":\"#3\",\"a\":4,\"b\":6,\"c\":\"y\"}\n";
    rr_expect(g, "select * from t", rows);
    rr_reopen(g);
    rr_expect(g, "select * from t", rows);
    buf_init(&list, MIB);
    assert_int_equal(rows_schemas_json(g->r, g->txn, 0, 10, &list), 0);
    buf_put_u8(&list, 0);
    assert_non_null(strstr((char *)list.p, "{\"schemas\":[{\"version\":2,"));
    assert_null(strstr((char *)list.p, "\"before\""));
    buf_free(&list);
    rr_publish(g, "create table t (a integer, b integer default 5, c text default 'x', d integer); create table u (r uuid);");
    rr_update(g, "t", 2, "{\"d\":1}");
    rr_expect(g, "select a, b, c, d from t where d = 1", "{\"id\":\"#2\",\"a\":3,\"b\":5,\"c\":\"x\",\"d\":1}\n");
}

static void only_additions_are_taken(void **state)
{
    static const char *const cases[][2] = {
        {"create table t (a integer, b text);", "the table u is gone"},
        {"create table t (b text); create table u ();", "t.a is gone"},
        {"create table t (a bigint, b text); create table u ();", "another type"},
        {"create table t (a integer not null, b text); create table u ();", "other constraints"},
        {"create table t (a integer default 1, b text); create table u ();", "another default"},
        {"create table t (a integer, b text, c uuid not null); create table u ();", "needs a default"},
        {"create table t (a integer, b text, c uuid default gen_random_uuid()); create table u ();", "one value"},
        {"create table t (a integer, b text, c blob not null); create table u ();", "needs a default"},
        {"create table t (a integer, b text, c uuid references u default '00000000-0000-0000-0000-000000000001'); create table u ();",
         "cannot have a default"},
    };
    struct rows_rig *g = *state;
    rr_publish(g, "create table t (a integer, b text); create table u ();");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int err = rr_schema1(g, cases[i][0]);
        if (err != ERR_SCHEMA_NOT_ADDITIVE || !strstr(problem_text(&g->p), cases[i][1]))
            fail_msg("%s gave %s: %s", cases[i][0], err_wire(err), problem_text(&g->p));
    }
    rr_publish(g, "create table v (r uuid references t not null); create table u (); create table t (a integer, b text, c uuid references "
                  "v, d stream not null);");
}

static void types_indexes_and_checks_grow_by_their_own_rules(void **state)
{
    static const char *const cases[][2] = {
        {"create table t (a integer, m mood, n counter, s text[]);", "type mood is not"},
        {"create type mood as enum ('ok', 'sad'); create table t (a integer, m mood, n counter, s text[]);", "'sad' is gone or has moved"},
        {"create type mood as enum ('sad'); create table t (a integer, m mood, n counter, s text[]);", "'ok' is gone or has moved"},
        {"create type mood as enum ('sad', 'ok'); create table t (a integer options (merge 'max'), m mood, n counter, s text[]);", "merges otherwise"},
        {"create type mood as enum ('sad', 'ok'); create table t (a integer, m mood[], n counter, s text[]);", "another type"},
        {"create type mood as enum ('sad', 'ok'); create table t (a integer, m mood, n counter, s text[] options (merge 'set'));",
         "merges otherwise"},
        {"create type mood as enum ('sad', 'ok'); create table t (a integer, m mood, n bigint, s text[]);", "another type"},
        {"create type mood as enum ('sad', 'ok'); create table t (a integer, m mood, n counter default 2, s text[]);", "another default"},
    };
    struct rows_rig *g = *state;
    rr_publish(g, "create type mood as enum ('sad', 'ok'); create table t (a integer check (a > 0) unique, m mood, n counter, s text[]);"
                  "create index i on t (m);");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int err = rr_schema1(g, cases[i][0]);
        bool expected = err == ERR_SCHEMA_NOT_ADDITIVE || (i == 0 && err == ERR_UNSUPPORTED_SQL);
        if (!expected || !strstr(problem_text(&g->p), cases[i][1]))
            fail_msg("%s gave %s: %s", cases[i][0], err_wire(err), problem_text(&g->p));
    }
    rr_publish(g, "create type mood as enum ('sad', 'ok', 'new'); create type other as enum ('x');"
                  "create table t (a integer check (a < 9), m mood, n counter, s text[], hits counter, o other); create index j on t (a);");
}

static struct schema *grow(const char *sql, const struct schema *before)
{
    struct ast_schema *ast;
    struct schema *s;
    struct problem p = PROBLEM_NONE;
    assert_int_equal(sql_parse_schema(SPAN_STR(sql), &ast, &p), 0);
    int err = schema_build(&s, ast, before, 1700000000000, &p);
    if (err) fail_msg("%s: %s", sql, problem_text(&p));
    sql_schema_free(ast);
    return s;
}

static void an_index_keeps_its_number_for_good(void **state)
{
    (void)state;
    struct schema *empty = schema_empty();
    struct schema *a = grow("create table t (x integer, y integer); create index i on t (x); create index j on t (y);", empty);
    struct schema *b = grow("create table t (x integer, y integer); create index j on t (y);", a);
    struct schema *c = grow("create table t (x integer, y integer); create index i on t (x); create index j on t (y desc);", b);
    assert_int_equal(a->tables[0].index_last, 2);
    assert_int_equal(b->tables[0].index_count, 1);
    assert_int_equal(b->tables[0].indexes[0].no, 2);
    assert_span_is(b->tables[0].indexes[0].name, "j");
    assert_int_equal(c->tables[0].index_last, 4);
    assert_int_equal(c->tables[0].indexes[0].no, 3);
    assert_int_equal(c->tables[0].indexes[1].no, 4);
    assert_null(table_index_no(&c->tables[0], 2));
    assert_true(schema_extends(c, b) && schema_extends(b, a));
    c->tables[0].indexes[0].no = 2; // a number that was another's
    assert_false(schema_extends(c, b));
    schema_unref(a);
    schema_unref(b);
    schema_unref(c);
    schema_unref(empty);
}

static void a_name_that_is_taken_gets_a_number(void **state)
{
    (void)state;
    struct schema *empty = schema_empty();
    struct schema *s = grow("create table t (x integer unique check (x > 1), y integer, constraint t_x_check check (x > 2), check (y > 3));"
                            "create index t_x_key on t (y); create index on t (x, y); create index on t (x, y desc);",
                            empty);
    const struct table *t = &s->tables[0];
    static const char *const indexes[] = {"t_x_key", "t_x_key1", "t_x_y_idx", "t_x_y_idx1"}, *const checks[] = {"t_check", "t_x_check", "t_x_check1"};
    assert_int_equal(t->index_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_span_is(t->indexes[t->indexes_by_name[i]].name, indexes[i]);
    assert_int_equal(t->check_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_span_is(t->checks[i].name, checks[i]);
    schema_unref(s);
    schema_unref(empty);
}

static void schemas_that_cannot_be_are_refused(void **state)
{
    static const struct {
        const char *sql;
        int err;
        const char *at; // where the problem is
    } cases[] = {
        {"create table t (id text);", ERR_BAD_SCHEMA, "id text"},
        {"create table t (a integer primary key);", ERR_BAD_SCHEMA, "a integer"},
        {"create table t (a integer, a text);", ERR_BAD_SCHEMA, "a text"},
        {"create table t (a uuid references u);", ERR_BAD_SCHEMA, "a uuid"},
        {"create table t (a integer references t);", ERR_BAD_SCHEMA, "a integer"},
        {"create table t (a uuid references t(b), b uuid);", ERR_BAD_SCHEMA, "a uuid"},
        {"create table t (\"a/b\" text);", ERR_BAD_SCHEMA, "\"a/b\""},
        {"create table t (a stream default 'x');", ERR_BAD_SCHEMA, "a stream"},
        {"create table t (a integer default 'x');", ERR_BAD_VALUE, "'x'"},
        {"create table t (a integer default now());", ERR_BAD_SCHEMA, "now"},
        {"create table t (a integer default 3000000000);", ERR_BAD_SCHEMA, "3000000000"},
        {"create table t (a boolean default 1);", ERR_WRONG_TYPE, "1"},
        {"create table t (a jsonb default '{');", ERR_BAD_VALUE, "'{'"},
        {"create table t (a integer", ERR_BAD_SQL, NULL},
        {"create index i on t (a);", ERR_BAD_SCHEMA, "t (a)"},
        {"create table t (a integer); create index i on t (a, b);", ERR_BAD_SCHEMA, "t (a, b)"},
        {"create table t (a integer); create index i on t (a, a);", ERR_BAD_SCHEMA, "t (a, a)"},
        {"create table t (a jsonb unique);", ERR_BAD_SCHEMA, "unique"},
        {"create table t (a integer); create index i on t (a); create index i on t (a desc);", ERR_BAD_SCHEMA, "t (a desc)"},
        {"create table t (a integer check (a > 'x'));", ERR_BAD_VALUE, "'x'"},
        {"create table t (a integer check (b > 1));", ERR_BAD_SCHEMA, "b > 1"},
        {"create table t (a integer, constraint c check (a > 1), constraint c check (a > 2));", ERR_BAD_SCHEMA, "constraint c check (a > 2)"},
        {"create table t (a timestamptz check (a < now()));", ERR_UNSUPPORTED_SQL, "now()"},
        {"create table t (a integer check (exists (select * from t)));", ERR_UNSUPPORTED_SQL, "exists"},
        {"create type m as enum ('a', 'a');", ERR_BAD_SCHEMA, "create"},
        {"create type m as enum ('');", ERR_BAD_SCHEMA, "create"},
        {"create type m as enum ('a'); create type m as enum ('b');", ERR_BAD_SCHEMA, "create type m as enum ('b')"},
        {"create type m as enum ('a'); create table t (a m default 'b');", ERR_BAD_VALUE, "'b'"},
        {"create type m as enum ('a'); create type n as enum ('a'); create table t (a m default 'a'::n);", ERR_WRONG_TYPE, "'a'::n"},
        {"create table t (a text options (merge 'best'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a text options (merge 'set'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a jsonb[] options (merge 'set'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a blob options (merge 'max'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a integer options (merge 'counter'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a counter options (merge 'lww'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a stream options (merge 'lww'));", ERR_BAD_SCHEMA, "merge"},
        {"create table t (a uuid not null references t on delete set null);", ERR_BAD_SCHEMA, "a uuid"},
        {"create table t (a text[] default '{a');", ERR_BAD_VALUE, "'{a'"},
        {"create table t (a uuid[] references t);", ERR_BAD_SCHEMA, "a uuid"},
        {"create table t (a uuid[] default gen_random_uuid());", ERR_BAD_SCHEMA, "gen_"},
        {"create table t (a bytea default 'AA==');", ERR_BAD_VALUE, "'AA=='"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct problem p = PROBLEM_NONE;
        int err = rows_schema_check(SPAN_STR(cases[i].sql), &p);
        if (err != cases[i].err) fail_msg("%s gave %s: %s", cases[i].sql, err_wire(err), problem_text(&p));
        if (cases[i].at && p.position != strstr(cases[i].sql, cases[i].at) - cases[i].sql)
            fail_msg("%s: position %lld", cases[i].sql, (long long)p.position);
    }
    (void)state;
    assert_int_equal(rows_schema_check(SPAN_STR("create table a (r uuid references b); create table b (r uuid references a);"), NULL), 0);
}

static void two_tables_of_one_name_are_refused(void **state)
{
    struct rows_rig *g = *state;
    assert_int_equal(rr_schema1(g, "create table t (a integer); create table t (b integer);"), ERR_BAD_SCHEMA);
}

static void before_the_first_publication_the_hash_is_zero(void **state)
{
    static const struct sha256 zero;
    struct rows_rig *g = *state;
    struct sha256 hash = rows_schema_hash(g->r);
    assert_true(sha256_equal(&hash, &zero));
    char *sql = sql_of(g);
    assert_string_equal(sql, "");
    free(sql);
}

// ---- stored form ---------------------------------------------------------------------------------------------------

static struct schema *build(const char *sql)
{
    struct ast_schema *ast;
    struct schema *before = schema_empty(), *s;
    assert_int_equal(sql_parse_schema(SPAN_STR(sql), &ast, NULL), 0);
    assert_int_equal(schema_build(&s, ast, before, 1700000000000, NULL), 0);
    sql_schema_free(ast);
    schema_unref(before);
    return s;
}

static void stored_form_decodes_to_itself(void **state)
{
    static const char *const texts[] = {canonical, rich};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct schema *s = build(texts[i]), *again;
        struct buf a, b;
        buf_init(&a, MIB);
        buf_init(&b, MIB);
        schema_encode(s, &a);
        assert_int_equal(schema_decode(&again, buf_span(&a)), 0);
        schema_encode(again, &b);
        assert_true(span_equal(buf_span(&a), buf_span(&b)));
        assert_true(sha256_equal(&s->hash, &again->hash));
        schema_unref(s);
        schema_unref(again);
        buf_free(&a);
        buf_free(&b);
    }
}

static void cut_stored_forms_are_corrupt(void **state)
{
    static const char *const texts[] = {canonical, rich};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct schema *s = build(texts[i]), *again = NULL;
        struct buf a;
        buf_init(&a, MIB);
        schema_encode(s, &a);
        for (size_t n = 0; n < a.n; n++)
            assert_int_equal(schema_decode(&again, SPAN(a.p, n)), ERR_CORRUPT);
        buf_put_u8(&a, 0);
        assert_int_equal(schema_decode(&again, buf_span(&a)), ERR_CORRUPT);
        schema_unref(s);
        buf_free(&a);
    }
}

static void a_condition_that_is_not_written_canonically_is_corrupt(void **state)
{
    struct schema *s = build("create table t (a integer check (a > 1));"), *again = NULL;
    struct buf a;
    (void)state;
    buf_init(&a, MIB);
    schema_encode(s, &a);
    uint8_t *at = memmem(a.p, a.n, "a > 1", 5);
    assert_non_null(at);
    memcpy(at, "A > 1", 5); // means the same, and is not how it is written
    assert_int_equal(schema_decode(&again, buf_span(&a)), ERR_CORRUPT);
    schema_unref(s);
    buf_free(&a);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(canonical_text_has_all_that_a_schema_may_say),
        TEST(canonical_text_does_not_depend_on_the_source),
        TEST(canonical_text_is_the_same_schema_again),
        TEST(columns_are_shown_in_the_order_of_their_birth),
        TEST(old_rows_read_the_defaults_of_new_columns),
        TEST(a_batch_may_publish_twice),
        TEST(only_additions_are_taken),
        TEST(types_indexes_and_checks_grow_by_their_own_rules),
        TEST(an_index_keeps_its_number_for_good),
        TEST(a_name_that_is_taken_gets_a_number),
        TEST(schemas_that_cannot_be_are_refused),
        TEST(two_tables_of_one_name_are_refused),
        TEST(before_the_first_publication_the_hash_is_zero),
        TEST(stored_form_decodes_to_itself),
        TEST(cut_stored_forms_are_corrupt),
        TEST(a_condition_that_is_not_written_canonically_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
