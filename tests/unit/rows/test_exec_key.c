// Keys of rows that have no id of their own: what they are made of, and that they, and the order they give, do not hang on the way a plan goes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "query.h"
#include "rows_rig.h"

#define TABLES "create table p (name text, k integer); create table c (p uuid references p, v integer);"

static int setup(void **state)
{
    int err = rr_setup(state, TABLES);
    for (unsigned i = 1; i <= 4; i++) {
        char json[64];
        snprintf(json, sizeof json, "{\"name\":\"%c\",\"k\":%u}", "bbaa"[i - 1], i % 3);
        rr_insert(*state, "p", i, json);
    }
    rr_insert(*state, "c", 0x11, "{\"p\":\"00000000-0000-0000-0000-000000000001\",\"v\":5}");
    rr_insert(*state, "c", 0x12, "{\"p\":\"00000000-0000-0000-0000-000000000001\",\"v\":5}");
    rr_insert(*state, "c", 0x13, "{\"p\":\"00000000-0000-0000-0000-000000000003\",\"v\":6}");
    return err;
}

// As a live query gives it.
static char *keyed(struct rows_rig *g, const char *sql)
{
    struct query *q = rr_compile(g, sql);
    assert_true(query_keyed(q));
    q->live = 1;
    char *rows = rr_rows(g, q, g->seq);
    query_unref(q);
    return rows;
}

static void expect(struct rows_rig *g, const char *sql, const char *rows)
{
    char *found = keyed(g, sql);
    assert_string_equal(found, rows);
    free(found);
}

#define ID(n) "00000000-0000-0000-0000-0000000000" #n

static void joined_rows_are_named_by_the_ids_of_their_tables(void **state)
{
    expect(*state, "select p.name, c.v from c join p on p.id = c.p order by c.v desc limit 2",
           "{\"key\":\"" ID(13) "." ID(03) "\",\"row\":{\"name\":\"a\",\"v\":6}}\n"
           "{\"key\":\"" ID(11) "." ID(01) "\",\"row\":{\"name\":\"b\",\"v\":5}}\n");
    expect(*state, "select p.name, c.v from p left join c on p.id = c.p where p.k = 2 order by 1",
           "{\"key\":\"" ID(02) ".\",\"row\":{\"name\":\"b\",\"v\":null}}\n");
}

static void distinct_rows_and_groups_of_equal_values_have_equal_keys(void **state)
{
    char *distinct = keyed(*state, "select distinct name from p order by 1"), *group = keyed(*state, "select name from p group by name order by 1");
    assert_string_equal(distinct, group);
    assert_non_null(strstr(distinct, "\"row\":{\"name\":\"a\"}"));
    free(distinct);
    free(group);
}

static void keys_and_their_order_do_not_hang_on_the_plan(void **state)
{
    static const char *const sql[] = {
        "select name, count(*) as n from p group by name order by n",
        "select name, count(*) as n from p where k >= 0 group by name limit 1",
        "select distinct k, name from p order by name limit 3 offset 1",
        "select p.name, c.v from c join p on p.k >= 0 order by v limit 5",
        "select p.name, c.v from c join p on p.k >= 0 limit 7",
        "select count(*) as n from p having count(*) > 1",
    };
    enum { QUERIES = sizeof sql / sizeof *sql };
    struct rows_rig *g = *state;
    char *before[QUERIES];
    bool wrote;
    for (size_t i = 0; i < QUERIES; i++)
        before[i] = keyed(g, sql[i]);
    rr_publish(g, TABLES "create index p_kn on p (k desc, name); create index p_n on p (name desc); create index c_v on c (v desc);");
    while (rows_busy(g->r))
        assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    for (size_t i = 0; i < QUERIES; i++) {
        expect(g, sql[i], before[i]);
        assert_true(strlen(before[i]) > 0);
        free(before[i]);
    }
}

static void a_query_that_nobody_follows_shows_its_rows_alone(void **state)
{
    rr_expect(*state, "select name, count(*) as n from p group by name order by name", "{\"name\":\"a\",\"n\":2}\n{\"name\":\"b\",\"n\":2}\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(joined_rows_are_named_by_the_ids_of_their_tables),
        TEST(distinct_rows_and_groups_of_equal_values_have_equal_keys),
        TEST(keys_and_their_order_do_not_hang_on_the_plan),
        TEST(a_query_that_nobody_follows_shows_its_rows_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
