#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "rows_rig.h"

static const char schema[] =
    "create table t (n integer, b bigint, s text, x double precision, f boolean, w timestamptz, u uuid, j jsonb, body stream, file blob);";
#define HEX32 "abababababababababababababababababababababababababababababababab"

static int setup(void **state)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    rr_publish(g, schema);
    rr_insert(g, "t", 1, "{\"n\":1,\"s\":\"b\",\"x\":0.5,\"f\":true,\"j\":{\"a\":1},\"w\":\"2024-01-01T00:00:00Z\"}");
    rr_insert(g, "t", 2, "{\"n\":2,\"s\":\"a\",\"x\":-1,\"f\":false,\"j\":\"q\",\"file\":{\"blob\":\"" HEX32 "\"}}");
    rr_insert(g, "t", 3, "{\"n\":3,\"b\":\"9007199254740993\",\"u\":\"00000000-0000-0000-0000-000000000001\"}");
    rr_insert(g, "t", 4, "{\"n\":2,\"s\":\"c\"}");
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

// The ids that a query gives, as "1 2 3".
static void expect_ids(struct rows_rig *g, const char *sql, const char *expected)
{
    char *rows = rr_select(g, sql), found[256] = "";
    size_t n = 0;
    for (char *line = strtok(rows, "\n"); line; line = strtok(NULL, "\n"))
        n += (size_t)snprintf(found + n, sizeof found - n, "%s%lu", n > 0 ? " " : "", strtoul(line + strlen("{\"id\":\"") + 30, NULL, 16));
    free(rows);
    if (strcmp(found, expected) != 0) fail_msg("%s\n  gave     %s\n  expected %s", sql, found, expected);
}

static void comparisons_select_as_in_sql(void **state)
{
    static const char *const cases[][2] = {
        {"n = 2", "2 4"},
        {"n <> 2", "1 3"},
        {"n < 2", "1"},
        {"n <= 2", "1 2 4"},
        {"n > 2", "3"},
        {"n >= 2", "2 3 4"},
        {"n >= 2 and s = 'c'", "4"},
        {"s is null", "3"},
        {"s is not null", "1 2 4"},
        {"s <> 'a'", "1 4"},
        {"s = null", ""},
        {"s <> null", ""},
        {"x > 0", "1"},
        {"x = -1", "2"},
        {"x <= 0.5", "1 2"},
        {"f", "1"},
        {"not f", "2"},
        {"f = false", "2"},
        {"n > 1000000000000", ""},
        {"b = 9007199254740993", "3"},
        {"b = '9007199254740993'", "3"},
        {"w = '2024-01-01T01:00:00+01:00'", "1"},
        {"w < '2024-01-01T00:00:00Z'", ""},
        {"u = '00000000-0000-0000-0000-000000000001'", "3"},
        {"j = '{ \"a\": 1 }'", "1"},
        {"j = '\"q\"'", "2"},
        {"j <> '1'", "1 2"},
        {"file = '" HEX32 "'", "2"},
        {"file is null", "1 3 4"},
        {"body is null", ""},
        {"body is not null", "1 2 3 4"},
        {"id = '00000000-0000-0000-0000-000000000002'", "2"},
        {"id > '00000000-0000-0000-0000-000000000002'", "3 4"},
        {"id is null", ""},
        {"id = '00000000-0000-0000-0000-000000000002' and n = 1", ""},
        {"id = '00000000-0000-0000-0000-000000000009'", ""},
        {"2 < n", "3"},
        {"n between 2 and 3", "2 3 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char sql[256];
        snprintf(sql, sizeof sql, "select n from t where %s", cases[i][0]);
        expect_ids(*state, sql, cases[i][1]);
    }
}

static void results_are_ordered_as_asked_then_by_id(void **state)
{
    struct rows_rig *g = *state;
    expect_ids(g, "select n from t", "1 2 3 4");
    expect_ids(g, "select n from t order by n", "1 2 4 3");
    expect_ids(g, "select n from t order by n desc", "3 2 4 1");
    expect_ids(g, "select n from t order by s", "2 1 4 3");
    expect_ids(g, "select n from t order by s desc", "3 4 1 2");
    expect_ids(g, "select n from t order by s nulls first", "3 2 1 4");
    expect_ids(g, "select n from t order by n desc, s desc", "3 4 2 1");
    expect_ids(g, "select n from t order by id desc", "4 3 2 1");
    expect_ids(g, "select n from t order by x limit 2", "2 1");
    expect_ids(g, "select n from t limit 3", "1 2 3");
    expect_ids(g, "select n from t where n > 1 limit 2", "2 3");
    expect_ids(g, "select n from t order by n limit 0", "");
    expect_ids(g, "select n from t limit 0", "");
    expect_ids(g, "select n from t limit all", "1 2 3 4");
    expect_ids(g, "select n from t order by n limit 1000000000", "1 2 4 3");
}

static void named_columns_come_in_that_order(void **state)
{
    struct rows_rig *g = *state;
    rr_expect(g, "select s, n, id from t where n = 1", "{\"id\":\"#1\",\"s\":\"b\",\"n\":1}\n");
    rr_expect(g, "select id from t where n = 1", "{\"id\":\"#1\"}\n");
}

static void refused(struct rows_rig *g, const char *sql, int err, const char *at)
{
    struct query *q;
    struct problem p = PROBLEM_NONE;
    int found = query_compile(g->r, SPAN_STR(sql), NULL, 0, &q, &p);
    if (found != err) fail_msg("%s gave %s, not %s: %s", sql, err_wire(found), err_wire(err), problem_text(&p));
    if (p.position != strstr(sql, at) - sql) fail_msg("%s: at %lld: %s", sql, (long long)p.position, problem_text(&p));
}

static void what_the_schema_does_not_have_is_refused_with_its_place(void **state)
{
    struct rows_rig *g = *state;
    refused(g, "select * from nope", ERR_NO_SUCH_TABLE, "nope");
    refused(g, "select n, nope from t", ERR_NO_SUCH_COLUMN, "nope");
    refused(g, "select n from t where nope = 1", ERR_NO_SUCH_COLUMN, "nope");
    refused(g, "select n from t order by nope", ERR_NO_SUCH_COLUMN, "nope");
    refused(g, "select n from t where n = true", ERR_WRONG_TYPE, "true");
    refused(g, "select n from t where n = 1.5", ERR_WRONG_TYPE, "1.5");
    refused(g, "select n from t where s = 1", ERR_WRONG_TYPE, "1");
    refused(g, "select n from t where u = 'x'", ERR_BAD_VALUE, "'x'");
    refused(g, "select n from t where j < '1'", ERR_UNSUPPORTED_SQL, "j <");
    refused(g, "select n from t where body = 'x'", ERR_UNSUPPORTED_SQL, "body");
    refused(g, "select n from t order by j", ERR_UNSUPPORTED_SQL, "j");
    refused(g, "select n from t order by body", ERR_UNSUPPORTED_SQL, "body");
    refused(g, "select n from t where n = $1", ERR_BAD_PARAMETER, "$1");
    refused(g, "select n from t limit -1", ERR_BAD_SQL, "-1");
}

static void parameters_are_bound(void **state)
{
    struct rows_rig *g = *state;
    struct row_value params[] = {{.kind = ROW_INT, .i = 2}, {.kind = ROW_TEXT, .s = SPAN_LIT("c")}, {.kind = ROW_INT, .i = 1}};
    struct query *q;
    assert_int_equal(query_compile(g->r, SPAN_STR("select n, s from t where s = $2 and n = $1 limit $3"), params, 3, &q, &g->p), 0);
    char *rows = rr_rows(g, q, g->seq);
    assert_string_equal(rows, "{\"id\":\"00000000-0000-0000-0000-000000000004\",\"n\":2,\"s\":\"c\"}\n");
    free(rows);
    query_unref(q);
    params[0].kind = ROW_NULL;
    assert_int_equal(query_compile(g->r, SPAN_STR("select n from t where n = $1"), params, 1, &q, &g->p), 0);
    rows = rr_rows(g, q, g->seq);
    assert_string_equal(rows, ""); // nothing equals null
    free(rows);
    query_unref(q);
    params[1] = (struct row_value){.kind = ROW_BOOL, .b = true};
    assert_int_equal(query_compile(g->r, SPAN_STR("select n from t where s = $1"), params + 1, 1, &q, &g->p), ERR_WRONG_TYPE);
}

static void a_query_outlives_its_schema(void **state)
{
    struct rows_rig *g = *state;
    struct query *q = rr_compile(g, "select * from t where n = 1");
    char *before = rr_rows(g, q, g->seq);
    rr_publish(
        g,
        "create table aaa (n integer); create table t (aaa integer default 1, n integer, b bigint, s text, x double precision, f boolean,"
        " w timestamptz, u uuid, j jsonb, body stream, file blob);");
    char *after = rr_rows(g, q, g->seq);
    assert_string_equal(before, after);
    free(before);
    free(after);
    query_unref(q);
}

struct count_sink {
    struct feed_sink sink;
    size_t calls, stop_after;
};

static int count(struct feed_sink *sink, struct bytes *value)
{
    struct count_sink *s = (struct count_sink *)sink;
    (void)value;
    return ++s->calls == s->stop_after ? ERR_CANCELED : 0;
}

static void a_run_keeps_to_its_budget_and_passes_on_what_the_sink_says(void **state)
{
    struct rows_rig *g = *state;
    static const char *const sql[] = {"select n from t", "select n from t order by n"};
    for (int i = 0; i < 2; i++) {
        struct query *q = rr_compile(g, sql[i]);
        struct query_run *run;
        struct count_sink sink = {.sink.emit = count};
        bool done = false;
        assert_int_equal(query_open(g->r, g->txn, q, g->seq, &run, &g->p), 0);
        assert_int_equal(query_next(run, g->txn, 60, &sink.sink, &done), 0);
        assert_int_equal(sink.calls, 2); // 51 bytes each
        assert_false(done);
        sink.stop_after = 3;
        assert_int_equal(query_next(run, g->txn, 1000, &sink.sink, &done), ERR_CANCELED);
        query_close(run);
        query_unref(q);
    }
}

static void results_past_the_limit_are_refused(void **state)
{
    struct rows_rig *g = *state;
    static const char *const sql[] = {"select n from t", "select n from t order by n"};
    for (unsigned id = 100; id <= QUERY_ROWS_MAX + 100; id += BATCH_OPS_MAX) {
        rr_commit(g);
        rr_begin(g);
        for (unsigned i = 0; i < BATCH_OPS_MAX; i++)
            assert_int_equal(rr_op(g, ROW_INSERT, "t", id + i, "{\"n\":0}"), 0);
        assert_int_equal(rr_end(g), 0);
    }
    for (int i = 0; i < 2; i++) {
        struct query *q = rr_compile(g, sql[i]);
        struct query_run *run;
        struct count_sink sink = {.sink.emit = count};
        bool done = false;
        int err = 0;
        assert_int_equal(query_open(g->r, g->txn, q, g->seq, &run, &g->p), 0);
        while (!err && !done)
            err = query_next(run, g->txn, MIB, &sink.sink, &done);
        assert_int_equal(err, ERR_RESULT_TOO_LARGE);
        query_close(run);
        query_unref(q);
    }
    struct query *q = rr_compile(g, sql[1]);
    struct feed_sub *sub;
    assert_int_equal(rows_attach(g->r, g->txn, q, &sub, &g->p), ERR_RESULT_TOO_LARGE);
    query_unref(q);
    expect_ids(g, "select n from t where n > 0 order by n limit 2", "1 2");
}

// The row further out is a version that is over, and so is each one that is looked through for it: more of them than unpacked rows have room.
static void a_past_row_outlives_the_past_rows_met_for_it(void **state)
{
    struct rows_rig *g = *state;
    char sql[512], json[2048], long_name[1500];
    snprintf(sql, sizeof sql, "%s create table room (name text); create table seat (name text);", schema);
    rr_publish(g, sql);
    for (unsigned i = 0; i <= 20; i++) { // long enough to be packed once they are over
        memset(long_name, 'a' + (int)i, sizeof long_name - 1);
        long_name[sizeof long_name - 1] = 0;
        snprintf(json, sizeof json, "{\"name\":\"%s\"}", long_name);
        rr_insert(g, i == 0 ? "room" : "seat", 100 + i, json);
    }
    uint64_t at = g->seq;
    for (unsigned i = 0; i <= 20; i++)
        rr_update(g, i == 0 ? "room" : "seat", 100 + i, "{\"name\":\"short\"}");
    struct query *q = rr_compile(g, "select r.name from room r left join seat s on s.name is not null");
    struct rr_pieces pieces;
    rr_pieces_open(g, &pieces, q, at);
    while (rr_pieces_next(g, &pieces, 1 << 20)) // in one step, after which rows would be copied anyway
        continue;
    size_t n = 0;
    for (char *line = strtok((char *)pieces.rows.p, "\n"); line; line = strtok(NULL, "\n"), n++)
        assert_true(strncmp(line, "{\"name\":\"aaaaaaaa", 17) == 0);
    assert_int_equal(n, 20);
    rr_pieces_close(&pieces);
    query_unref(q);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(comparisons_select_as_in_sql),
        TEST(results_are_ordered_as_asked_then_by_id),
        TEST(named_columns_come_in_that_order),
        TEST(what_the_schema_does_not_have_is_refused_with_its_place),
        TEST(parameters_are_bound),
        TEST(a_query_outlives_its_schema),
        TEST(a_run_keeps_to_its_budget_and_passes_on_what_the_sink_says),
        TEST(a_past_row_outlives_the_past_rows_met_for_it),
        TEST(results_past_the_limit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
