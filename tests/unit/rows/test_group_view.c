// Live groups and distinct rows: what is said, what it costs, and where it ends. That it is right is test_live_diff's business.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "group_view.h"
#include "rows_rig.h"

#define SCHEMA "create table t (a integer, b text, x double precision); create table o (a integer, w text);"

static int setup(void **state)
{
    return rr_setup(state, SCHEMA);
}

struct reading {
    struct query *q;
    struct rows_reader reader;
};

static void begin(struct rows_rig *g, struct reading *r, const char *sql)
{
    r->q = rr_compile(g, sql);
    rr_attach(g, &r->reader, r->q, strstr(sql, "order by") != NULL);
    rr_snapshot(g, &r->reader, g->seq, 100);
}

static void end(struct reading *r)
{
    rr_detach(&r->reader);
    query_unref(r->q);
}

static struct group_view *view_of(const struct reading *r)
{
    return group_view_of(lazy_view_of((struct view *)r->reader.sub->feed));
}

// What the reader was told since last asked, without the keys.
static void expect_steps(struct rows_rig *g, struct reading *r, const char *steps)
{
    buf_clear(&r->reader.log);
    assert_int_equal(rr_read(g, &r->reader, g->seq), 0);
    buf_put_u8(&r->reader.log, 0);
    char *text = (char *)r->reader.log.p, *key;
    while ((key = strstr(text, "\"key\":\""))) {
        char *rest = strchr(key + 7, '"') + 1;
        if (*rest == ',') rest++;
        else key--; // and the comma in front
        memmove(key, rest, strlen(rest) + 1);
    }
    for (char *removed = text; (removed = strstr(removed, "\"removed\":\"")); removed += 11)
        memmove(removed + 11, strchr(removed + 11, '"'), strlen(strchr(removed + 11, '"')) + 1);
    assert_string_equal(text, steps);
}

static void expect_held(struct reading *r, const char *rows)
{
    char *held = rr_held(&r->reader);
    assert_string_equal(held, rows);
    free(held);
}

// ---- what is said --------------------------------------------------------------------------------------------------

static void a_group_comes_changes_and_goes(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select b, count(*) as n, sum(a) as s from t group by b");
    rr_insert(g, "t", 1, "{\"a\":2,\"b\":\"x\"}");
    expect_steps(g, &r, "{\"added\":{\"b\":\"x\",\"n\":1,\"s\":2}}\n");
    rr_insert(g, "t", 2, "{\"a\":null,\"b\":\"x\"}");
    expect_steps(g, &r, "{\"changed\":{\"b\":\"x\",\"n\":2,\"s\":2}}\n");
    rr_update(g, "t", 2, "{\"x\":1.5}");
    expect_steps(g, &r, "");
    rr_update(g, "t", 1, "{\"b\":null}");
    expect_steps(g, &r, "{\"changed\":{\"b\":\"x\",\"n\":1,\"s\":null}}\n{\"added\":{\"b\":null,\"n\":1,\"s\":2}}\n");
    rr_delete(g, "t", 2);
    expect_steps(g, &r, "{\"removed\":\"\"}\n");
    expect_held(&r, "{\"b\":null,\"n\":1,\"s\":2}\n");
    end(&r);
}

static void the_group_of_everything_is_always_there(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, within;
    begin(g, &r, "select count(*) as n, max(a) as m from t where b = 'x'");
    begin(g, &within, "select count(*) as n, (select count(*) from o) as others from t");
    expect_held(&r, "{\"n\":0,\"m\":null}\n");
    rr_insert(g, "t", 1, "{\"a\":2,\"b\":\"x\"}");
    expect_steps(g, &r, "{\"changed\":{\"n\":1,\"m\":2}}\n");
    rr_delete(g, "t", 1);
    expect_steps(g, &r, "{\"changed\":{\"n\":0,\"m\":null}}\n");
    rr_insert(g, "t", 3, "{\"b\":\"y\"}");
    expect_steps(g, &r, "");
    rr_delete(g, "t", 3);
    expect_steps(g, &within, "");
    rr_insert(g, "o", 1, "{\"a\":2}");
    expect_steps(g, &within, "{\"changed\":{\"n\":0,\"others\":1}}\n");
    end(&r);
    end(&within);
}

static void places_are_those_of_the_order(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, top;
    begin(g, &r, "select b, count(*) as n from t group by b having count(*) > 1 order by n desc, b");
    begin(g, &top, "select b, count(*) as n from t group by b order by n desc, b limit 1");
    for (unsigned i = 1; i <= 5; i++)
        rr_insert(g, "t", i, i <= 2 ? "{\"b\":\"x\"}" : "{\"b\":\"y\"}");
    assert_int_equal(rr_read(g, &r.reader, g->seq), 0);
    assert_int_equal(rr_read(g, &top.reader, g->seq), 0);
    expect_held(&r, "{\"b\":\"y\",\"n\":3}\n{\"b\":\"x\",\"n\":2}\n");
    rr_commit(g);
    rr_begin(g);
    rr_op(g, ROW_UPDATE, "t", 4, "{\"b\":\"x\"}");
    rr_op(g, ROW_UPDATE, "t", 5, "{\"b\":\"x\"}");
    assert_int_equal(rr_end(g), 0);
    expect_steps(g, &r, "{\"changed\":{\"b\":\"x\",\"n\":4},\"at\":0,\"was\":1}\n{\"removed\":\"\",\"was\":1}\n");
    expect_steps(g, &top, "{\"removed\":\"\",\"was\":0}\n{\"added\":{\"b\":\"x\",\"n\":4},\"at\":0}\n");
    end(&r);
    end(&top);
}

static void distinct_rows_stay_as_long_as_one_makes_them(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, sizes;
    rr_insert(g, "t", 1, "{\"a\":1,\"b\":\"x\"}");
    rr_insert(g, "t", 2, "{\"a\":2,\"b\":\"x\"}");
    begin(g, &r, "select distinct b from t");
    begin(g, &sizes, "select distinct count(*) as n from t group by a");
    rr_delete(g, "t", 1);
    expect_steps(g, &r, "");
    expect_steps(g, &sizes, "");
    rr_insert(g, "t", 3, "{\"a\":2,\"b\":\"y\"}");
    expect_steps(g, &r, "{\"added\":{\"b\":\"y\"}}\n");
    assert_int_equal(rr_read(g, &sizes.reader, g->seq), 0);
    expect_held(&sizes, "{\"n\":2}\n");
    rr_delete(g, "t", 2);
    expect_steps(g, &r, "{\"removed\":\"\"}\n");
    end(&r);
    end(&sizes);
}

static void sums_of_doubles_are_those_of_a_fresh_query(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select sum(x) as s, avg(x) as m from t");
    uint64_t random = 88172645463325252u;
    for (unsigned i = 0; i < 300; i++) {
        char json[64];
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        snprintf(json, sizeof json, "{\"x\":%.17g}", (double)(int64_t)random * (i % 3 == 0 ? 1e-25 : i % 3 == 1 ? 1e3 : 1e-9));
        if (i < 60) rr_insert(g, "t", i + 1, json);
        else rr_update(g, "t", i % 60 + 1, json);
        assert_int_equal(rr_read(g, &r.reader, g->seq), 0);
        char *fresh = rr_select(g, "select sum(x) as s, avg(x) as m from t");
        expect_held(&r, fresh);
        free(fresh);
    }
    end(&r);
}

static void what_is_distinct_has_no_stream(void **state)
{
    struct rows_rig *g = *state;
    struct rows_reader reader = {.sub = NULL};
    rr_publish(g, SCHEMA "create table s (body stream);");
    struct query *q = rr_compile(g, "select distinct body from s");
    assert_int_equal(rr_return(g, &reader, q), ERR_UNSUPPORTED_SQL);
    query_unref(q);
}

// ---- what it costs -------------------------------------------------------------------------------------------------

static void insert_many(struct rows_rig *g, unsigned from, unsigned n, unsigned groups)
{
    for (unsigned i = 0; i < n;) {
        rr_commit(g);
        rr_begin(g);
        for (unsigned k = 0; k < 1000 && i < n; k++, i++) {
            char json[64];
            snprintf(json, sizeof json, "{\"a\":%u,\"b\":\"group %u\"}", from + i, (from + i) % groups);
            assert_int_equal(rr_op(g, ROW_INSERT, "t", from + i, json), 0);
        }
        assert_int_equal(rr_end(g), 0);
    }
}

static uint64_t cost_of(struct rows_rig *g, struct reading *r, unsigned id, const char *json)
{
    uint64_t before = view_of(r)->looked_at;
    rr_update(g, "t", id, json);
    assert_int_equal(rr_read(g, &r->reader, g->seq), 0);
    return view_of(r)->looked_at - before;
}

static void a_commit_costs_what_it_changes(void **state)
{
    struct rows_rig *g = *state;
    struct reading count, groups, most, within;
    insert_many(g, 1, 20000, 100);
    begin(g, &count, "select count(*) as n, sum(a) as s from t where a > 10");
    begin(g, &groups, "select b, count(distinct a) as n, avg(x) as m from t group by b order by n desc limit 3");
    begin(g, &most, "select max(a) as m from t");
    begin(g, &within, "select b, min(a) as m from t group by b");
    assert_true(view_of(&count)->looked_at >= 20000);
    assert_true(cost_of(g, &count, 7000, "{\"a\":7}") < 20);
    assert_true(cost_of(g, &groups, 7000, "{\"b\":\"group 9\"}") < 20);
    assert_true(cost_of(g, &most, 7000, "{\"a\":30000}") < 20);
    assert_true(cost_of(g, &within, 7000, "{\"a\":-1}") < 20);
    // The greatest goes: without an index all is gone through.
    assert_true(cost_of(g, &most, 7000, "{\"a\":8}") >= 20000);
    end(&most);
    end(&within);
    bool wrote;
    rr_publish(g, SCHEMA "create index t_a on t (a); create index t_b on t (b);");
    while (rows_busy(g->r))
        assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    begin(g, &most, "select max(a) as m from t");
    begin(g, &within, "select b, min(a) as m from t group by b");
    rr_update(g, "t", 7000, "{\"a\":30000}");
    assert_true(cost_of(g, &most, 7000, "{\"a\":-5}") < 20);
    assert_true(cost_of(g, &within, 7000, "{\"a\":5}") < 2000); // one group of a hundred
    end(&count);
    end(&groups);
    end(&most);
    end(&within);
}

static int count_value(struct feed_sink *sink, struct bytes *value)
{
    (void)sink, (void)value;
    return 0;
}

// And while it is filled, commits go on.
static void a_view_is_filled_in_steps_and_then_shown_to_all(void **state)
{
    struct rows_rig *g = *state;
    struct feed_sink sink = {.emit = count_value};
    struct reading r, second;
    static const char sql[] = "select b, count(*) as n, sum(a) as s from t group by b order by b";
    insert_many(g, 1, 40000, 50);
    r.q = rr_compile(g, sql);
    rr_attach(g, &r.reader, r.q, true);
    uint64_t at = g->seq;
    size_t steps = 0;
    for (bool done = false; !done && steps < 3; steps++) {
        assert_int_equal(r.reader.sub->feed->ops->snapshot(r.reader.sub, g->txn, at, 1000, &sink, &done), 0);
        assert_false(done);
        rr_update(g, "t", 5, steps % 2 ? "{\"a\":5}" : "{\"b\":\"another\"}");
    }
    rr_snapshot(g, &r.reader, at, 1000);
    char *then = rr_select_at(g, sql, at), *now = rr_select(g, sql);
    expect_held(&r, then);
    assert_int_equal(rr_read(g, &r.reader, g->seq), 0);
    expect_held(&r, now);
    uint64_t before = view_of(&r)->looked_at;
    begin(g, &second, sql);
    expect_held(&second, now);
    assert_true(view_of(&r)->looked_at == before);
    free(then);
    free(now);
    end(&r);
    end(&second);
}

static void a_reader_behind_pays_for_what_was_touched_since(void **state)
{
    struct rows_rig *g = *state;
    struct reading near, far;
    static const char sql[] = "select b, count(*) as n, sum(a) as s from t group by b order by s desc, b";
    insert_many(g, 1, 20000, 100);
    begin(g, &near, sql);
    begin(g, &far, sql);
    uint64_t from = g->seq;
    rr_leave(&far.reader);
    end(&near); // the view is gone with its ring
    for (unsigned i = 0; i < 10; i++)
        rr_update(g, "t", 100 * i + 1, "{\"a\":5}");
    begin(g, &near, sql);
    assert_int_equal(rr_return(g, &far.reader, far.q), 0);
    uint64_t before = view_of(&near)->looked_at;
    far.reader.seq = from;
    assert_int_equal(rr_read(g, &far.reader, g->seq), 0);
    assert_true(view_of(&near)->looked_at - before < 200);
    assert_int_equal(far.reader.changes, 1);
    char *fresh = rr_select(g, sql);
    expect_held(&far, fresh);
    free(fresh);
    end(&near);
    end(&far);
}

// ---- where it ends -------------------------------------------------------------------------------------------------

static char *large_json(unsigned i)
{
    size_t n = 900 * KIB;
    char *json = malloc(n + 64);
    int head = sprintf(json, "{\"a\":%u,\"b\":\"%u", i, i);
    memset(json + head, 'x', n);
    strcpy(json + head + n, "\"}");
    return json;
}

static void insert_large(struct rows_rig *g, unsigned from, unsigned to)
{
    for (unsigned i = from; i <= to; i++) {
        char *json = large_json(i);
        rr_insert(g, "t", i, json);
        free(json);
    }
}

static void what_groups_hold_is_bounded(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    struct rows_reader other = {.sub = NULL};
    insert_large(g, 1, 25);
    begin(g, &r, "select distinct b from t");
    size_t held = view_of(&r)->state.bytes;
    assert_in_range(held, 25 * 900 * KIB, QUERY_MEMORY_MAX);
    rr_delete(g, "t", 25);
    assert_int_equal(rr_read(g, &r.reader, g->seq), 0);
    assert_true(view_of(&r)->state.bytes < held - 800 * KIB);
    insert_large(g, 26, 80);
    assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_TOO_OLD); // a snapshot says why
    assert_int_equal(rr_try_snapshot(g, &r.reader, g->seq, 1000), ERR_QUERY_TOO_EXPENSIVE);
    struct query *q = rr_compile(g, "select b, count(*) as n from t group by b");
    assert_int_equal(rr_return(g, &other, q), 0);
    assert_int_equal(rr_try_snapshot(g, &other, g->seq, 1000), ERR_QUERY_TOO_EXPENSIVE);
    rr_leave(&other);
    end(&r);
    query_unref(q);
    assert_int_equal(g->r->views.group_bytes, 0);
}

static void what_all_views_hold_is_bounded(void **state)
{
    struct rows_rig *g = *state;
    struct rows_reader reader = {.sub = NULL};
    struct query *q = rr_compile(g, "select b, count(*) as n from t group by b");
    insert_many(g, 1, 10, 3);
    g->r->views.group_bytes += VIEW_GROUPS_BYTES_MAX - 100;
    reader.keyed = true;
    assert_int_equal(rr_return(g, &reader, q), 0);
    assert_int_equal(rr_try_snapshot(g, &reader, g->seq, 1000), ERR_QUERY_TOO_EXPENSIVE);
    g->r->views.group_bytes -= VIEW_GROUPS_BYTES_MAX - 100;
    assert_int_equal(rr_try_snapshot(g, &reader, g->seq, 1000), 0);
    assert_int_equal(reader.n, 3);
    rr_detach(&reader);
    query_unref(q);
    assert_int_equal(g->r->views.group_bytes, 0);
}

static void a_sum_that_is_too_large_ends_the_reading_until_it_is_not(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    rr_publish(g, SCHEMA "create table big (n bigint);");
    rr_insert(g, "big", 1, "{\"n\":9223372036854775807}");
    begin(g, &r, "select sum(n) as s from big");
    rr_insert(g, "big", 2, "{\"n\":1}");
    assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_TOO_OLD);
    assert_int_equal(rr_try_snapshot(g, &r.reader, g->seq, 1000), ERR_BAD_VALUE);
    rr_delete(g, "big", 1);
    rr_snapshot(g, &r.reader, g->seq, 1000);
    expect_held(&r, "{\"s\":1}\n");
    rr_insert(g, "big", 3, "{\"n\":5}");
    expect_steps(g, &r, "{\"changed\":{\"s\":6}}\n");
    end(&r);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_group_comes_changes_and_goes),
        TEST(the_group_of_everything_is_always_there),
        TEST(places_are_those_of_the_order),
        TEST(distinct_rows_stay_as_long_as_one_makes_them),
        TEST(sums_of_doubles_are_those_of_a_fresh_query),
        TEST(what_is_distinct_has_no_stream),
        TEST(a_commit_costs_what_it_changes),
        TEST(a_view_is_filled_in_steps_and_then_shown_to_all),
        TEST(a_reader_behind_pays_for_what_was_touched_since),
        TEST(what_groups_hold_is_bounded),
        TEST(what_all_views_hold_is_bounded),
        TEST(a_sum_that_is_too_large_ends_the_reading_until_it_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
