// What a transaction read is as it was, or the transaction conflicts: the same answer from the state, whoever asks, and when.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "index.h"
#include "read_set.h"
#include "rows_rig.h"

static const char schema[] = "create table t (a integer, b integer); create table u (a integer); create index by_a on t (a, b desc);";

struct reader {
    struct read_set *set;
    uint64_t base;
};

static int setup(void **state)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    rr_publish(g, schema);
    for (unsigned i = 1; i <= 5; i++)
        rr_insert(g, "t", i, "{\"a\":1}");
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

static struct reader begin(struct rows_rig *g)
{
    return (struct reader){.set = read_set_new(), .base = g->seq};
}

static void read_row(struct rows_rig *g, struct reader *r, const char *table, unsigned id)
{
    uint32_t no = rows_table_number(g->r, SPAN_STR(table));
    assert_true(no > 0);
    read_set_row(r->set, no, rr_id(id));
}

static void read_ids(struct rows_rig *g, struct reader *r, const char *table, unsigned from, unsigned to)
{
    struct uuid a = rr_id(from), b = rr_id(to);
    read_set_range(r->set, rows_table_number(g->r, SPAN_STR(table)), 0, SPAN(a.b, 16), to ? SPAN(b.b, 16) : SPAN_NONE);
}

static const struct table *table_t(struct rows_rig *g)
{
    return schema_table(g->r->schema, SPAN_LIT("t"));
}

// What a query by a index would have looked through: a in [from, to).
static void read_a(struct rows_rig *g, struct reader *r, int from, int to)
{
    const struct table *t = table_t(g);
    const struct index *ix = &t->indexes[0];
    struct buf low, high;
    buf_init(&low, INDEX_KEY_MAX);
    buf_init(&high, INDEX_KEY_MAX);
    index_key_value(&low, t, ix, 0, &(struct value){.i = from});
    index_key_value(&high, t, ix, 0, &(struct value){.i = to});
    read_set_range(r->set, t->no, ix->no, buf_span(&low), buf_span(&high));
    buf_free(&low);
    buf_free(&high);
}

// Begins a batch with what was read; what was decided, and the batch goes on if that is 0.
static int check(struct rows_rig *g, struct reader *r, struct rows_conflicts *conflicts)
{
    rr_commit(g);
    g->c.transaction = true;
    rr_begin(g);
    assert_int_equal(read_set_finish(r->set), 0);
    int err = rows_decide_reads(g->batch, r->base, r->set, conflicts, &g->p);
    if (err) rr_drop(g);
    return err;
}

// Commits an update of one row, if what was read is as it was.
static int commit(struct rows_rig *g, struct reader *r, const char *table, unsigned id, const char *json)
{
    struct rows_conflicts conflicts;
    int err = check(g, r, &conflicts);
    if (!err) err = rr_op(g, ROW_UPDATE, table, id, json);
    if (!err) err = rr_end(g);
    read_set_free(r->set);
    return err;
}

static int only_check(struct rows_rig *g, struct reader *r)
{
    struct rows_conflicts conflicts;
    int err = check(g, r, &conflicts);
    if (!err) rr_drop(g);
    return err;
}

static void what_nobody_changed_is_accepted(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g);
    read_row(g, &r, "t", 1);
    read_ids(g, &r, "t", 2, 4);
    rr_update(g, "t", 4, "{\"a\":2}");
    rr_insert(g, "u", 1, "{\"a\":2}");
    assert_int_equal(commit(g, &r, "t", 1, "{\"a\":5}"), 0);
    rr_expect(g, "select a from t where id = '00000000-0000-0000-0000-000000000001'", "{\"id\":\"#1\",\"a\":5}\n");
}

static void a_lost_update_is_refused(void **state)
{
    struct rows_rig *g = *state;
    struct reader one = begin(g), two = begin(g);
    read_row(g, &one, "t", 1);
    read_row(g, &two, "t", 1);
    assert_int_equal(commit(g, &one, "t", 1, "{\"a\":2}"), 0);
    assert_int_equal(commit(g, &two, "t", 1, "{\"a\":3}"), ERR_CONFLICT);
    rr_expect(g, "select a from t where id = '00000000-0000-0000-0000-000000000001'", "{\"id\":\"#1\",\"a\":2}\n");
}

// Each reads both and writes one: alone either is fine, together they break what each relied on.
static void write_skew_is_refused(void **state)
{
    struct rows_rig *g = *state;
    struct reader one = begin(g), two = begin(g);
    for (unsigned id = 1; id <= 2; id++) {
        read_row(g, &one, "t", id);
        read_row(g, &two, "t", id);
    }
    assert_int_equal(commit(g, &one, "t", 1, "{\"a\":0}"), 0);
    assert_int_equal(commit(g, &two, "t", 2, "{\"a\":0}"), ERR_CONFLICT);
}

static void an_insert_into_a_scanned_range_is_seen(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g), other = begin(g);
    read_ids(g, &r, "t", 10, 20);
    read_ids(g, &other, "t", 10, 15);
    rr_insert(g, "t", 15, "{\"a\":1}");
    assert_int_equal(only_check(g, &r), ERR_CONFLICT);
    assert_int_equal(only_check(g, &other), 0); // the range ends before it
    read_set_free(r.set);
    read_set_free(other.set);
}

static void a_delete_out_of_a_scanned_range_is_seen(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g);
    read_ids(g, &r, "t", 0, 0);
    rr_delete(g, "t", 3);
    assert_int_equal(only_check(g, &r), ERR_CONFLICT);
    read_set_free(r.set);
}

static void a_row_that_was_not_there_and_comes_is_seen(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g), other = begin(g);
    read_row(g, &r, "t", 77);
    read_row(g, &other, "t", 78);
    rr_insert(g, "t", 77, "{\"a\":1}");
    assert_int_equal(only_check(g, &r), ERR_CONFLICT);
    assert_int_equal(only_check(g, &other), 0);
    read_set_free(r.set);
    read_set_free(other.set);
}

static void blind_writes_do_not_conflict(void **state)
{
    struct rows_rig *g = *state;
    struct reader one = begin(g), two = begin(g);
    assert_int_equal(commit(g, &one, "t", 1, "{\"a\":2}"), 0);
    assert_int_equal(commit(g, &two, "t", 1, "{\"b\":3}"), 0);
    rr_expect(g, "select a, b from t where id = '00000000-0000-0000-0000-000000000001'", "{\"id\":\"#1\",\"a\":2,\"b\":3}\n");
}

// What becomes of a transaction that looked at a in [5, 8) while rows of a = 1 were there, and one of a = 6.
static int after(struct rows_rig *g, enum row_op_kind kind, unsigned id, const char *json)
{
    struct reader r = begin(g);
    read_a(g, &r, 5, 8);
    assert_int_equal(rr_op1(g, kind, "t", id, json), 0);
    int err = only_check(g, &r);
    read_set_free(r.set);
    return err;
}

static void phantoms_in_an_index_are_seen(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "t", 6, "{\"a\":6}");
    assert_int_equal(after(g, ROW_INSERT, 20, "{\"a\":4}"), 0);
    assert_int_equal(after(g, ROW_INSERT, 21, "{\"a\":8}"), 0);
    assert_int_equal(after(g, ROW_INSERT, 22, "{\"b\":6}"), 0); // its a is null
    assert_int_equal(after(g, ROW_INSERT, 23, "{\"a\":5}"), ERR_CONFLICT);
    assert_int_equal(after(g, ROW_UPDATE, 1, "{\"b\":7}"), 0);
    assert_int_equal(after(g, ROW_UPDATE, 1, "{\"a\":9}"), 0);            // from outside to outside
    assert_int_equal(after(g, ROW_UPDATE, 1, "{\"a\":7}"), ERR_CONFLICT); // into it
    assert_int_equal(after(g, ROW_UPDATE, 1, "{\"a\":6}"), ERR_CONFLICT); // within it
    assert_int_equal(after(g, ROW_UPDATE, 1, "{\"b\":3}"), ERR_CONFLICT); // a row of it, elsewhere
    assert_int_equal(after(g, ROW_UPDATE, 1, "{\"a\":1}"), ERR_CONFLICT); // out of it
    assert_int_equal(after(g, ROW_DELETE, 2, NULL), 0);
    assert_int_equal(after(g, ROW_DELETE, 6, NULL), ERR_CONFLICT);
}

static void a_row_that_came_and_went_was_not_missed(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g);
    read_a(g, &r, 5, 8);
    rr_update(g, "t", 1, "{\"a\":6}");
    rr_update(g, "t", 1, "{\"a\":1}");
    rr_insert(g, "t", 30, "{\"a\":7}");
    rr_delete(g, "t", 30);
    assert_int_equal(only_check(g, &r), 0);
    read_set_free(r.set);
}

static void a_range_of_an_index_is_named_by_it(void **state)
{
    struct rows_rig *g = *state;
    struct rows_conflicts conflicts;
    struct reader r = begin(g);
    read_a(g, &r, 5, 8);
    rr_update(g, "t", 1, "{\"a\":6}");
    rr_update(g, "t", 1, "{\"b\":6}");
    assert_int_equal(check(g, &r, &conflicts), ERR_CONFLICT);
    assert_int_equal(conflicts.n, 1);
    assert_int_equal(conflicts.list[0].read, ROWS_READ_RANGE);
    assert_true(span_is(conflicts.list[0].index, "by_a"));
    assert_int_equal(conflicts.list[0].seq, r.base + 1);
    read_set_free(r.set);
}

static void what_was_read_in_an_index_that_is_gone_may_be_anything(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g), quiet = begin(g);
    read_a(g, &r, 5, 8);
    read_a(g, &quiet, 5, 8);
    rr_publish(g, "create table t (a integer, b integer); create table u (a integer);");
    assert_int_equal(only_check(g, &quiet), 0);
    rr_update(g, "t", 1, "{\"b\":1}");
    assert_int_equal(only_check(g, &r), ERR_CONFLICT);
    read_set_free(r.set);
    read_set_free(quiet.set);
}

// Beside a model that knows each row's a at the base and now.
static void random_changes_conflict_as_a_model_says(void **state)
{
    struct rows_rig *g = *state;
    uint32_t v = 4711;
    for (int round = 0; round < 60; round++) {
        int was[12], is[12];
        bool touched[12] = {false};
        for (unsigned i = 0; i < 12; i++) {
            v = v * 1664525 + 1013904223;
            was[i] = is[i] = (int)(v >> 24) % 10;
            char json[40];
            snprintf(json, sizeof json, "{\"a\":%d}", was[i]);
            if (round == 0) rr_insert(g, "t", 100 + i, json);
            else rr_update(g, "t", 100 + i, json);
        }
        struct reader r = begin(g);
        v = v * 1664525 + 1013904223;
        int from = (int)(v >> 24) % 10, to = from + 1 + (int)(v >> 16) % 4;
        read_a(g, &r, from, to);
        for (int n = 0; n < 4; n++) {
            v = v * 1664525 + 1013904223;
            unsigned i = (v >> 24) % 12;
            char json[40];
            is[i] = (int)(v >> 12) % 10;
            touched[i] = true;
            snprintf(json, sizeof json, "{\"a\":%d}", is[i]);
            rr_update(g, "t", 100 + i, json);
        }
        bool want = false;
        for (int i = 0; i < 12; i++)
            want |= touched[i] && ((was[i] >= from && was[i] < to) || (is[i] >= from && is[i] < to));
        assert_int_equal(only_check(g, &r), want ? ERR_CONFLICT : 0);
        read_set_free(r.set);
    }
}

static void rejections_name_the_rows(void **state)
{
    struct rows_rig *g = *state;
    struct rows_conflicts conflicts;
    struct reader r = begin(g);
    read_row(g, &r, "t", 2);
    read_ids(g, &r, "t", 4, 6);
    read_ids(g, &r, "u", 0, 0);
    rr_update(g, "t", 2, "{\"a\":7}");
    uint64_t first = g->seq;
    rr_update(g, "t", 2, "{\"a\":8}");
    rr_update(g, "t", 5, "{\"a\":7}");
    rr_insert(g, "u", 1, "{\"a\":7}");
    assert_int_equal(check(g, &r, &conflicts), ERR_CONFLICT);
    assert_int_equal(conflicts.n, 3);
    const struct rows_conflict *c = conflicts.list;
    assert_true(span_is(c[0].table, "t") && uuid_equal(c[0].id, rr_id(2)));
    assert_int_equal(c[0].seq, first);
    assert_int_equal(c[0].read, ROWS_READ_ROW);
    assert_true(span_is(c[1].table, "t") && uuid_equal(c[1].id, rr_id(5)));
    assert_int_equal(c[1].read, ROWS_READ_RANGE);
    assert_true(span_is(c[2].table, "u") && uuid_equal(c[2].id, rr_id(1)));
    assert_int_equal(c[2].seq, first + 3);
    assert_string_equal(problem_text(&g->p), "row 00000000-0000-0000-0000-000000000002 of t was read, and commit 7 changed it");
    read_set_free(r.set);
}

static void no_more_rows_are_named_than_the_limit(void **state)
{
    struct rows_rig *g = *state;
    struct rows_conflicts conflicts;
    struct reader r = begin(g);
    read_ids(g, &r, "t", 0, 0);
    for (unsigned i = 0; i < 3 * ROWS_CONFLICTS_MAX; i++)
        rr_insert(g, "t", 100 + i, "{\"a\":7}");
    assert_int_equal(check(g, &r, &conflicts), ERR_CONFLICT);
    assert_int_equal(conflicts.n, ROWS_CONFLICTS_MAX);
    read_set_free(r.set);
}

static void a_restart_changes_no_answer(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g), other = begin(g);
    read_row(g, &r, "t", 1);
    read_row(g, &other, "t", 2);
    rr_update(g, "t", 1, "{\"a\":9}");
    rr_reopen(g);
    assert_int_equal(commit(g, &r, "t", 3, "{\"a\":2}"), ERR_CONFLICT);
    assert_int_equal(commit(g, &other, "t", 3, "{\"a\":2}"), 0);
}

static void a_base_that_was_not_given_out_is_refused(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g);
    r.base = g->seq + 1;
    assert_int_equal(only_check(g, &r), ERR_BASE_AHEAD);
    r.base = g->seq;
    assert_int_equal(only_check(g, &r), 0);
    read_set_free(r.set);
}

static void move_horizon(struct rows_rig *g, uint64_t upto)
{
    while (rows_horizon(g->r) < upto) {
        rr_commit(g);
        rr_begin(g);
        assert_int_equal(rows_decide_horizon(g->batch, upto, &g->p), 0);
        assert_int_equal(rr_end(g), 0);
    }
}

static void a_base_below_what_is_kept_is_too_old(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g), at_it, blind = begin(g);
    read_row(g, &r, "t", 1);
    rr_update(g, "t", 2, "{\"a\":2}");
    at_it = begin(g);
    read_row(g, &at_it, "t", 1);
    rr_update(g, "t", 3, "{\"a\":2}");
    move_horizon(g, at_it.base);
    assert_int_equal(only_check(g, &r), ERR_TOO_OLD);
    assert_int_equal(only_check(g, &at_it), 0);
    assert_int_equal(only_check(g, &blind), 0); // nothing was read that could have changed
    rr_update(g, "t", 1, "{\"a\":2}");
    assert_int_equal(only_check(g, &at_it), ERR_CONFLICT);
    read_set_free(r.set);
    read_set_free(at_it.set);
    read_set_free(blind.set);
}

static void write_many(struct rows_rig *g, unsigned first, unsigned count)
{
    rr_commit(g);
    rr_begin(g);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(rr_op(g, ROW_UPSERT, "t", first + i, "{\"a\":1}"), 0);
    assert_int_equal(rr_end(g), 0);
}

static void more_rows_than_can_be_looked_at_are_too_old(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g), by_id = begin(g);
    read_a(g, &r, 5, 8);
    read_row(g, &by_id, "t", 1);
    for (unsigned i = 0; i < 5; i++)
        write_many(g, 1000, TRANSACTION_MOVED_MAX / 2); // the same rows count once
    assert_int_equal(only_check(g, &r), 0);
    write_many(g, 1000 + TRANSACTION_MOVED_MAX / 2, TRANSACTION_MOVED_MAX / 2 + 1);
    assert_int_equal(only_check(g, &r), ERR_TOO_OLD);
    assert_int_equal(only_check(g, &by_id), 0);
    read_set_free(r.set);
    read_set_free(by_id.set);
}

// A write that lost to a later one has changed nothing that anybody could have read.
static void a_write_that_loses_is_no_conflict(void **state)
{
    struct rows_rig *g = *state;
    struct reader r = begin(g);
    read_row(g, &r, "t", 1);
    rr_commit(g);
    g->c.stamp = 1;
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_UPDATE, "t", 1, "{\"a\":99}"), 0);
    assert_int_equal(rr_end(g), 0);
    assert_int_equal(commit(g, &r, "t", 1, "{\"a\":2}"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_nobody_changed_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_update_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(write_skew_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_insert_into_a_scanned_range_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(a_delete_out_of_a_scanned_range_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_was_not_there_and_comes_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(blind_writes_do_not_conflict, setup, teardown),
        cmocka_unit_test_setup_teardown(rejections_name_the_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(phantoms_in_an_index_are_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_came_and_went_was_not_missed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_of_an_index_is_named_by_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_read_in_an_index_that_is_gone_may_be_anything, setup, teardown),
        cmocka_unit_test_setup_teardown(random_changes_conflict_as_a_model_says, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_rows_are_named_than_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_changes_no_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_base_that_was_not_given_out_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_base_below_what_is_kept_is_too_old, setup, teardown),
        cmocka_unit_test_setup_teardown(more_rows_than_can_be_looked_at_are_too_old, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_that_loses_is_no_conflict, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
