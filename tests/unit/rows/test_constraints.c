// What must hold when a batch ends: uniqueness, checks, references and what goes with a deleted row, keys that fit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "rows_rig.h"

static const char schema[] = "create table p (name text unique, a integer, b integer, unique (a, b), constraint small check (a < 100));"
                             "create table c (p uuid references p on delete cascade, q uuid references p on delete set null,"
                             " r uuid references p, body stream);"
                             "create table d (c uuid not null references c on delete cascade);";

static int setup(void **state)
{
    return rr_setup(state, schema);
}

static bool says(const struct rows_rig *g, const char *words)
{
    return strstr(problem_text(&g->p), words) != NULL;
}

#define ID(n) "00000000-0000-0000-0000-00000000000" #n

// ---- unique --------------------------------------------------------------------------------------------------------

static void a_value_that_is_taken_is_refused_by_name(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, "{\"name\":\"x\"}");
    assert_int_equal(rr_op1(g, ROW_INSERT, "p", 2, "{\"name\":\"x\"}"), ERR_NOT_UNIQUE);
    assert_true(says(g, ID(1)) && says(g, "name"));
    rr_insert(g, "p", 2, "{\"name\":\"y\"}");
    assert_int_equal(rr_op1(g, ROW_UPDATE, "p", 2, "{\"name\":\"x\"}"), ERR_NOT_UNIQUE);
    rr_update(g, "p", 1, "{\"name\":\"x\"}"); // itself
    rr_delete(g, "p", 1);
    rr_update(g, "p", 2, "{\"name\":\"x\"}");
    assert_int_equal(rr_op1(g, ROW_RESTORE, "p", 1, NULL), ERR_NOT_UNIQUE);
}

static void nulls_are_never_equal(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, "{\"a\":1}");
    rr_insert(g, "p", 2, "{\"a\":1}");
    rr_insert(g, "p", 3, "{\"a\":1,\"b\":2}");
    assert_int_equal(rr_op1(g, ROW_UPDATE, "p", 1, "{\"b\":2}"), ERR_NOT_UNIQUE);
    rr_update(g, "p", 1, "{\"b\":3}");
}

static void only_what_a_batch_leaves_counts(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, "{\"name\":\"x\"}");
    rr_insert(g, "p", 2, "{\"name\":\"y\"}");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_UPDATE, "p", 1, "{\"name\":\"y\"}"), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "p", 2, "{\"name\":\"x\"}"), 0);
    assert_int_equal(rr_end(g), 0);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "p", 3, "{\"name\":\"z\"}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "p", 4, "{\"name\":\"z\"}"), 0);
    assert_int_equal(rr_end(g), ERR_NOT_UNIQUE);
    rr_reopen(g);
    assert_int_equal(rr_op1(g, ROW_INSERT, "p", 5, "{\"name\":\"y\"}"), ERR_NOT_UNIQUE);
}

static void a_key_that_is_too_long_is_refused_by_name(void **state)
{
    struct rows_rig *g = *state;
    char json[600];
    snprintf(json, sizeof json, "{\"name\":\"%0450d\"}", 7);
    assert_int_equal(rr_op1(g, ROW_INSERT, "p", 1, json), ERR_TOO_LARGE);
    assert_true(says(g, "name"));
}

// ---- checks --------------------------------------------------------------------------------------------------------

static void a_check_is_held_against_the_merged_row(void **state)
{
    struct rows_rig *g = *state;
    assert_int_equal(rr_op1(g, ROW_INSERT, "p", 1, "{\"a\":100}"), ERR_CHECK_FAILED);
    assert_true(says(g, "small"));
    rr_insert(g, "p", 1, "{\"a\":99}");
    assert_int_equal(rr_op1(g, ROW_UPDATE, "p", 1, "{\"a\":1000,\"b\":1}"), ERR_CHECK_FAILED);
    rr_update(g, "p", 1, "{\"a\":null}"); // unknown is not false
}

static void a_schema_is_held_against_the_rows_that_are_there(void **state)
{
    static const char rows[] = "create table t (v integer, w text%s);%s";
    struct rows_rig *g = *state;
    char sql[400], kept[1000];
    static const struct {
        const char *inside, *behind;
        int err;
    } cases[] = {
        {", unique (v)", "", ERR_NOT_UNIQUE},
        {", check (v < 5)", "", ERR_CHECK_FAILED},
        {", constraint c check (10 / v > 0)", "", ERR_BAD_VALUE},
        {"", "create index w on t (w);", ERR_TOO_LARGE},
        {"", "create unique index v on t (v) where v > 5;", 0},
        {", unique (v, w)", "", 0},
        {", check (v < 50)", "", 0},
        {"", "create index v on t (v) where w is null;", 0},
    };
    snprintf(sql, sizeof sql, rows, "", "");
    snprintf(kept, sizeof kept, "%s%s", schema, sql);
    rr_publish(g, kept);
    rr_insert(g, "t", 1, "{\"v\":5,\"w\":\"a\"}");
    rr_insert(g, "t", 2, "{\"v\":5,\"w\":\"b\"}");
    rr_insert(g, "t", 3, "{\"v\":9}");
    char json[600];
    snprintf(json, sizeof json, "{\"v\":0,\"w\":\"%0450d\"}", 7);
    rr_insert(g, "t", 4, json);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i == 4) rr_delete(g, "t", 4);
        snprintf(sql, sizeof sql, rows, cases[i].inside, cases[i].behind);
        snprintf(kept, sizeof kept, "%s%s", schema, sql);
        int err = rr_schema1(g, kept);
        if (err != cases[i].err) fail_msg("%zu: %s: %s", i, err_wire(err), problem_text(&g->p));
    }
}

// Rows of a batch that publishes are held to what it publishes.
static void a_batch_is_held_to_the_schema_that_it_brings(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, "{\"b\":3}");
    rr_commit(g);
    rr_begin(g);
    char sql[2000];
    snprintf(sql, sizeof sql, "%screate unique index only_b on p (b);", schema);
    assert_int_equal(rr_op(g, ROW_INSERT, "p", 2, "{\"b\":3}"), 0);
    assert_int_equal(rr_schema(g, sql), 0);
    assert_int_equal(rr_end(g), ERR_NOT_UNIQUE);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_UPDATE, "p", 1, "{\"b\":4}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "p", 2, "{\"b\":3}"), 0);
    assert_int_equal(rr_schema(g, sql), 0);
    assert_int_equal(rr_end(g), 0);
    assert_int_equal(rr_op1(g, ROW_INSERT, "p", 3, "{\"b\":4}"), ERR_NOT_UNIQUE);
}

// ---- references ----------------------------------------------------------------------------------------------------

static void a_cascade_takes_what_refers_and_what_refers_to_that(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_insert(g, "c", 2, "{\"p\":\"" ID(1) "\"}");
    rr_insert(g, "c", 3, NULL);
    rr_insert(g, "d", 4, "{\"c\":\"" ID(2) "\"}");
    rr_insert(g, "d", 5, "{\"c\":\"" ID(3) "\"}");
    buf_clear(&g->calls);
    rr_delete(g, "p", 1);
    rr_expect(g, "select id from c", "{\"id\":\"#3\"}\n");
    rr_expect(g, "select id from d", "{\"id\":\"#5\"}\n");
    assert_memory_equal(g->calls.p, "-rows/c/" ID(2) "/body\n", g->calls.n); // its stream goes, too
}

static void a_reference_set_null_is_cut_off(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_insert(g, "p", 2, NULL);
    rr_insert(g, "c", 3, "{\"q\":\"" ID(1) "\",\"p\":\"" ID(2) "\"}");
    rr_delete(g, "p", 1);
    rr_expect(g, "select p, q from c", "{\"id\":\"#3\",\"p\":\"#2\",\"q\":null}\n");
    rr_delete(g, "p", 2);
    rr_expect(g, "select id from c", "");
}

static void a_restricting_reference_counts_when_all_is_done(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_insert(g, "p", 2, NULL);
    rr_insert(g, "c", 3, "{\"r\":\"" ID(1) "\",\"p\":\"" ID(2) "\"}");
    assert_int_equal(rr_op1(g, ROW_DELETE, "p", 1, NULL), ERR_STILL_REFERENCED);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_DELETE, "p", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "p", 2, NULL), 0); // takes the row that refers to 1
    assert_int_equal(rr_end(g), 0);
}

static void rows_of_the_batch_itself_go_with_what_it_deletes(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "c", 2, "{\"p\":\"" ID(1) "\"}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "c", 3, "{\"q\":\"" ID(1) "\"}"), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "p", 1, NULL), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select q from c", "{\"id\":\"#3\",\"q\":null}\n");
}

static void who_refers_to_what_it_has_deleted_is_refused(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_DELETE, "p", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "c", 2, "{\"p\":\"" ID(1) "\"}"), 0);
    assert_int_equal(rr_end(g), ERR_NO_SUCH_REFERENCE);
}

static void a_restored_row_needs_what_it_refers_to(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_insert(g, "c", 2, "{\"p\":\"" ID(1) "\"}");
    rr_delete(g, "p", 1);
    assert_int_equal(rr_op1(g, ROW_RESTORE, "c", 2, NULL), ERR_NO_SUCH_REFERENCE);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_RESTORE, "c", 2, NULL), 0);
    assert_int_equal(rr_op(g, ROW_RESTORE, "p", 1, NULL), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select p from c", "{\"id\":\"#2\",\"p\":\"#1\"}\n");
    assert_int_equal(rr_op1(g, ROW_INSERT, "d", 5, "{\"c\":\"" ID(2) "\"}"), 0);
}

static void what_a_batch_restores_and_deletes_is_as_it_was(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    rr_insert(g, "c", 2, "{\"p\":\"" ID(1) "\"}");
    rr_delete(g, "p", 1); // and the other row with it
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_RESTORE, "p", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_RESTORE, "c", 2, NULL), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "p", 1, NULL), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select p from c", "");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_RESTORE, "p", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_RESTORE, "c", 2, NULL), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select p from c", "{\"id\":\"#2\",\"p\":\"#1\"}\n");
}

static void a_cascade_is_bounded(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "p", 1, NULL);
    for (unsigned i = 0; i <= CASCADE_ROWS_MAX;) {
        rr_commit(g);
        rr_begin(g);
        for (unsigned k = 0; k < 1000 && i <= CASCADE_ROWS_MAX; k++, i++)
            assert_int_equal(rr_op(g, ROW_INSERT, "c", 10 + i, "{\"q\":\"" ID(1) "\"}"), 0);
        assert_int_equal(rr_end(g), 0);
    }
    assert_int_equal(rr_op1(g, ROW_DELETE, "p", 1, NULL), ERR_BATCH_TOO_LARGE);
    rr_delete(g, "c", 10);
    rr_delete(g, "p", 1);
    rr_expect(g, "select id from c where q is not null", "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_value_that_is_taken_is_refused_by_name),
        TEST(nulls_are_never_equal),
        TEST(only_what_a_batch_leaves_counts),
        TEST(a_key_that_is_too_long_is_refused_by_name),
        TEST(a_check_is_held_against_the_merged_row),
        TEST(a_schema_is_held_against_the_rows_that_are_there),
        TEST(a_batch_is_held_to_the_schema_that_it_brings),
        TEST(a_cascade_takes_what_refers_and_what_refers_to_that),
        TEST(a_reference_set_null_is_cut_off),
        TEST(a_restricting_reference_counts_when_all_is_done),
        TEST(rows_of_the_batch_itself_go_with_what_it_deletes),
        TEST(who_refers_to_what_it_has_deleted_is_refused),
        TEST(a_restored_row_needs_what_it_refers_to),
        TEST(what_a_batch_restores_and_deletes_is_as_it_was),
        TEST(a_cascade_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
