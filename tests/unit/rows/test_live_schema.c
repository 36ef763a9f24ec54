// Queries that are followed while the schema grows under them: they were compiled by what was there then, and meet rows of what is there now.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "err.h"
#include "query.h"
#include "rows_rig.h"

#define REST "create table t (name text, s state, n integer); create table u (t uuid, s state, many state[])"
static const char schema[] = "create type state as enum ('new', 'done');" REST;
static const char grown[] = "create type state as enum ('new', 'done', 'gone', 'lost');" REST;

static int setup(void **state)
{
    int err = rr_setup(state, schema);
    rr_insert(*state, "t", 0x11, "{\"name\":\"a\",\"s\":\"new\",\"n\":1}");
    rr_insert(*state, "t", 0x12, "{\"name\":\"b\",\"s\":\"done\",\"n\":2}");
    rr_insert(*state, "u", 0x21, "{\"t\":\"00000000-0000-0000-0000-000000000011\",\"s\":\"done\",\"many\":[\"new\"]}");
    return err;
}

static const char *const queries[] = {
    "select name, s from t",
    "select s, name from t order by s desc, name",
    "select s from t order by s limit 3",
    "select s from t where s > 'new'",
    "select name from t where s in (select s from u)",
    "select t.s, u.s as other, u.many from t join u on u.t = t.id order by u.s",
    "select t.name, array(select u.s from u where u.t = t.id) as states from t",
    "select s, count(*) from t group by s",
    "select s, count(*) from t group by s order by s desc limit 2",
    "select distinct s from t order by s",
    "select distinct s from t",
    "select max(s), min(s), count(distinct s) from t",
    "select n, max(s) from t group by n",
    "select many from u group by many",
};
#define QUERIES (sizeof queries / sizeof *queries)

// Whoever came before holds what one who comes now is shown.
static void expect_fresh(struct rows_rig *g, const char *sql, struct rows_reader *reader)
{
    struct rows_reader other;
    struct query *q = rr_compile(g, sql);
    assert_int_equal(rr_read(g, reader, g->seq), 0);
    rr_attach(g, &other, q, reader->ordered);
    rr_snapshot(g, &other, g->seq, 1000);
    char *held = rr_held(reader), *fresh = rr_held(&other), *once = rr_rows(g, q, g->seq);
    if (strcmp(held, fresh) != 0) fail_msg("%s\n  holds\n%s\n  and is shown\n%s", sql, held, fresh);
    free(held);
    free(fresh);
    free(once);
    rr_detach(&other);
    query_unref(q);
}

static void follow_through_growth(struct rows_rig *g, const char *sql)
{
    struct query *q = rr_compile(g, sql);
    struct rows_reader reader;
    rr_attach(g, &reader, q, query_ordered(q));
    rr_snapshot(g, &reader, g->seq, 1000);
    rr_publish(g, grown);
    rr_insert(g, "t", 0x13, "{\"name\":\"c\",\"s\":\"gone\",\"n\":1}");
    rr_insert(g, "u", 0x22, "{\"t\":\"00000000-0000-0000-0000-000000000012\",\"s\":\"lost\",\"many\":[\"gone\",\"lost\"]}");
    expect_fresh(g, sql, &reader);
    rr_update(g, "t", 0x11, "{\"s\":\"lost\"}");
    rr_delete(g, "t", 0x13);
    expect_fresh(g, sql, &reader);
    rr_update(g, "t", 0x11, "{\"s\":\"new\"}");
    expect_fresh(g, sql, &reader);
    rr_detach(&reader);
    query_unref(q);
}

static void an_enum_gets_labels(void **state)
{
    (void)state;
    for (size_t i = 0; i < QUERIES; i++) {
        void *rig;
        assert_int_equal(setup(&rig), 0);
        follow_through_growth(rig, queries[i]);
        rr_teardown(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_enum_gets_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
