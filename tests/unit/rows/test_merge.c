// Concurrent writes, and what a row was at every commit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "hlc.h"
#include "rows_rig.h"

static const char schema[] = "create table t (a integer, b integer, c integer);";

static int setup(void **state)
{
    return rr_setup(state, schema);
}

// A batch of one operation by a writer who had seen `base`.
static int write_as(struct rows_rig *g, uint8_t writer, uint64_t stamp, uint64_t base, enum row_op_kind kind, const char *json)
{
    rr_commit(g);
    g->c.stamp = stamp;
    g->c.base = base;
    g->c.writer = (struct uuid){{writer}};
    rr_begin(g);
    int err = rr_op(g, kind, "t", 1, json);
    if (!err) return rr_end(g);
    rr_drop(g);
    return err;
}

static void later_stamp_wins_whichever_comes_first(void **state)
{
    struct rows_rig *g = *state;
    uint64_t base = (rr_insert(g, "t", 1, "{\"a\":0,\"b\":0}"), g->seq), now = hlc_stamp(g->now_ms, 0);
    assert_int_equal(write_as(g, 1, now + 20, base, ROW_UPDATE, "{\"a\":20}"), 0);
    assert_int_equal(write_as(g, 2, now + 10, base, ROW_UPDATE, "{\"a\":10,\"b\":10}"), 0);
    rr_expect(g, "select a, b from t", "{\"id\":\"#1\",\"a\":20,\"b\":10}\n");
}

static void equal_stamps_go_to_the_greater_writer(void **state)
{
    struct rows_rig *g = *state;
    uint64_t base = (rr_insert(g, "t", 1, "{\"a\":0}"), g->seq), now = hlc_stamp(g->now_ms, 9);
    assert_int_equal(write_as(g, 2, now, base, ROW_UPDATE, "{\"a\":2}"), 0);
    assert_int_equal(write_as(g, 1, now, base, ROW_UPDATE, "{\"a\":1}"), 0);
    rr_expect(g, "select a from t", "{\"id\":\"#1\",\"a\":2}\n");
    assert_int_equal(write_as(g, 3, now, base, ROW_UPDATE, "{\"a\":3}"), 0);
    rr_expect(g, "select a from t", "{\"id\":\"#1\",\"a\":3}\n");
    assert_int_equal(write_as(g, 3, now, base, ROW_UPDATE, "{\"a\":4}"), 0); // one writer's later write
    rr_expect(g, "select a from t", "{\"id\":\"#1\",\"a\":4}\n");
}

static void a_write_that_loses_makes_no_version(void **state)
{
    struct rows_rig *g = *state;
    uint64_t base = (rr_insert(g, "t", 1, "{\"a\":0}"), g->seq);
    assert_int_equal(write_as(g, 2, 1, base, ROW_UPDATE, "{\"a\":2}"), 0);
    assert_int_equal(g->effects.n, 0);
}

static void losing_writes_are_checked_all_the_same(void **state)
{
    struct rows_rig *g = *state;
    uint64_t base = (rr_insert(g, "t", 1, "{\"a\":0}"), g->seq);
    assert_int_equal(write_as(g, 2, 1, base, ROW_UPDATE, "{\"a\":\"x\"}"), ERR_WRONG_TYPE);
    rr_delete(g, "t", 1);
    assert_int_equal(write_as(g, 2, 1, base, ROW_UPDATE, "{\"nope\":1}"), ERR_NO_SUCH_COLUMN);
}

static void delete_wins_over_a_concurrent_update(void **state)
{
    struct rows_rig *g = *state;
    uint64_t base = (rr_insert(g, "t", 1, "{\"a\":0}"), g->seq), now = hlc_stamp(g->now_ms + 1000, 0);
    assert_int_equal(write_as(g, 1, now + 1, base, ROW_UPDATE, "{\"a\":1}"), 0);
    assert_int_equal(write_as(g, 2, now, base, ROW_DELETE, NULL), 0); // though its stamp is earlier
    assert_int_equal(write_as(g, 3, now + 9, base, ROW_UPDATE, "{\"a\":3}"), 0);
    assert_int_equal(write_as(g, 3, now + 9, base, ROW_DELETE, NULL), 0);
    rr_expect(g, "select a from t", "");
    assert_int_equal(write_as(g, 3, now + 10, g->seq, ROW_UPDATE, "{\"a\":3}"), ERR_NO_SUCH_ROW); // it had seen the delete
    assert_int_equal(write_as(g, 3, now + 10, g->seq, ROW_DELETE, NULL), ERR_NO_SUCH_ROW);
}

// Six concurrent updates in every order: always the same cells.
static void every_order_of_arrival_gives_the_same_cells(void **state)
{
    static const struct {
        uint8_t writer, stamp;
        const char *json;
    } writes[] = {
        {1, 5, "{\"a\":1,\"b\":1}"},         {2, 5, "{\"b\":2,\"c\":2}"}, {3, 7, "{\"a\":3}"},
        {4, 2, "{\"a\":4,\"b\":4,\"c\":4}"}, {5, 6, "{\"c\":5}"},         {6, 6, "{\"c\":6,\"b\":null}"},
    };
    struct rows_rig *g = *state;
    int order[6] = {0, 1, 2, 3, 4, 5}, turn[6] = {0};
    for (int n = 0, k = 0; k < 6;) { // Heap's permutations
        unsigned id = (unsigned)++n;
        rr_insert(g, "t", id, "{\"a\":0}");
        uint64_t base = g->seq, now = hlc_stamp(g->now_ms, 0);
        for (int i = 0; i < 6; i++) {
            rr_commit(g);
            g->c.stamp = now + writes[order[i]].stamp;
            g->c.base = base;
            g->c.writer = (struct uuid){{writes[order[i]].writer}};
            rr_begin(g);
            assert_int_equal(rr_op(g, ROW_UPDATE, "t", id, writes[order[i]].json), 0);
            assert_int_equal(rr_end(g), 0);
        }
        while (k < 6 && turn[k] >= k)
            turn[k++] = 0;
        if (k == 6) break;
        int other = k % 2 ? turn[k] : 0, swap = order[other];
        order[other] = order[k];
        order[k] = swap;
        turn[k]++;
        k = 1;
    }
    char *all = rr_select(g, "select a, b, c from t"), *different = rr_select(g, "select a, b, c from t where b is not null");
    char *same = rr_select(g, "select a, b, c from t where a = 3 and b is null and c = 6");
    assert_string_equal(different, "");
    assert_string_equal(all, same);
    size_t lines = 0;
    for (const char *s = all; *s; s++)
        lines += *s == '\n';
    assert_int_equal(lines, 720);
    free(all);
    free(same);
    free(different);
}

// ---- upsert, restore, and what a column may be told ----------------------------------------------------------------

static const char kinds[] = "create table t (a integer, b integer, c integer);"
                            "create table k (a integer default 7, n counter, hi integer options (merge 'max'), tags text[] options (merge 'set'), body stream);";

static void an_upsert_inserts_or_updates(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, kinds);
    assert_int_equal(rr_op1(g, ROW_UPSERT, "k", 1, "{\"hi\":3}"), 0);
    rr_expect(g, "select a, n, hi, tags from k", "{\"id\":\"#1\",\"a\":7,\"n\":0,\"hi\":3,\"tags\":null}\n");
    assert_int_equal(rr_op1(g, ROW_UPSERT, "k", 1, "{\"a\":1,\"hi\":2,\"n\":{\"increment\":4}}"), 0);
    rr_expect(g, "select a, n, hi from k", "{\"id\":\"#1\",\"a\":1,\"n\":4,\"hi\":3}\n");
    rr_delete(g, "k", 1);
    assert_int_equal(rr_op1(g, ROW_UPSERT, "k", 1, "{\"a\":1}"), ERR_NO_SUCH_ROW); // it had seen the delete
}

// Two replicas upsert one row: what one of them says stands over the other's default, whoever comes first.
static void a_default_of_an_upsert_is_nobodys(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, kinds);
    uint64_t base = g->seq, now = hlc_stamp(g->now_ms, 0);
    for (unsigned first = 0; first < 2; first++) {
        for (unsigned i = 0; i < 2; i++) {
            bool says = i == first;
            rr_commit(g);
            g->c.stamp = now + (says ? 1 : 2);
            g->c.base = base;
            g->c.writer = (struct uuid){{says ? 1 : 2}};
            rr_begin(g);
            assert_int_equal(rr_op(g, ROW_UPSERT, "k", 10 + first, says ? "{\"a\":5}" : "{\"hi\":1}"), 0);
            assert_int_equal(rr_end(g), 0);
        }
    }
    rr_expect(g, "select a, hi from k", "{\"id\":\"#10\",\"a\":5,\"hi\":1}\n{\"id\":\"#11\",\"a\":5,\"hi\":1}\n");
}

static void counters_are_changed_and_not_set(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, kinds);
    rr_insert(g, "k", 1, "{\"n\":5}");
    rr_update(g, "k", 1, "{\"n\":{\"increment\":-7}}");
    rr_expect(g, "select n from k", "{\"id\":\"#1\",\"n\":-2}\n");
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"n\":5}"), ERR_BAD_VALUE);
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"n\":{\"increment\":5,\"by\":1}}"), ERR_BAD_VALUE);
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"n\":{\"increment\":\"-9223372036854775807\"}}"), ERR_BAD_VALUE); // beyond 64 bits
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"n\":null}"), ERR_NOT_NULL);
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"a\":{\"increment\":1}}"), ERR_WRONG_TYPE);
}

static void sets_take_a_value_or_a_change(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, kinds);
    rr_insert(g, "k", 1, "{\"tags\":{\"add\":[\"b\",\"a\",\"b\"]}}");
    rr_expect(g, "select tags from k", "{\"id\":\"#1\",\"tags\":[\"a\",\"b\"]}\n");
    rr_update(g, "k", 1, "{\"tags\":{\"add\":[\"c\"],\"remove\":[\"a\",\"x\"]}}");
    rr_expect(g, "select tags from k", "{\"id\":\"#1\",\"tags\":[\"b\",\"c\"]}\n");
    rr_update(g, "k", 1, "{\"tags\":[\"z\"]}");
    rr_expect(g, "select tags from k", "{\"id\":\"#1\",\"tags\":[\"z\"]}\n");
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"tags\":{\"ad\":[]}}"), ERR_BAD_VALUE);
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"tags\":{\"add\":\"x\"}}"), ERR_BAD_VALUE);
    assert_int_equal(rr_op1(g, ROW_UPDATE, "k", 1, "{\"tags\":{\"add\":[null]}}"), ERR_BAD_VALUE);
}

// Whoever takes an element away ends the additions that they had seen, and no other.
static void an_addition_nobody_saw_outlives_a_removal(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, kinds);
    rr_insert(g, "k", 1, NULL);
    uint64_t base = g->seq, now = hlc_stamp(g->now_ms, 0);
    static const struct {
        uint8_t writer;
        const char *tags, *then;
    } steps[] = {
        {1, "{\"add\":[\"x\"]}", "[\"x\"]"}, {2, "{\"add\":[\"x\"]}", "[\"x\"]"}, {1, "{\"remove\":[\"x\"]}", "[\"x\"]"},
        {3, "{\"remove\":[\"x\"]}", "[\"x\"]"}, {2, "[]", "[]"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char json[100], row[100];
        rr_commit(g);
        g->c.stamp = now + i;
        g->c.base = base;
        g->c.writer = (struct uuid){{steps[i].writer}};
        rr_begin(g);
        snprintf(json, sizeof json, "{\"tags\":%s}", steps[i].tags);
        snprintf(row, sizeof row, "{\"id\":\"#1\",\"tags\":%s}\n", steps[i].then);
        assert_int_equal(rr_op(g, ROW_UPDATE, "k", 1, json), 0);
        assert_int_equal(rr_end(g), 0);
        rr_expect(g, "select tags from k", row);
    }
}

static void a_restore_brings_back_what_was_deleted(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, kinds);
    rr_insert(g, "k", 1, "{\"a\":1,\"tags\":[\"x\"]}");
    rr_update(g, "k", 1, "{\"a\":2,\"n\":{\"increment\":3}}");
    uint64_t before = g->seq;
    rr_delete(g, "k", 1);
    buf_clear(&g->calls);
    assert_int_equal(rr_op1(g, ROW_RESTORE, "k", 1, NULL), 0);
    rr_expect(g, "select a, n, tags from k", "{\"id\":\"#1\",\"a\":2,\"n\":3,\"tags\":[\"x\"]}\n");
    rr_expect_at(g, "select a from k", before + 1, "");
    assert_non_null(strstr((char *)g->calls.p, "+rows/k/")); // its stream comes to be anew
    assert_int_equal(rr_op1(g, ROW_RESTORE, "k", 1, NULL), ERR_ROW_EXISTS);
    assert_int_equal(rr_op1(g, ROW_RESTORE, "k", 2, NULL), ERR_NO_SUCH_ROW);
    rr_delete(g, "k", 1);
    rr_reopen(g);
    assert_int_equal(rr_op1(g, ROW_RESTORE, "k", 1, NULL), 0);
    rr_expect(g, "select a, n from k", "{\"id\":\"#1\",\"a\":2,\"n\":3}\n");
}

static void two_restores_that_had_not_seen_each_other_are_both_fine(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "t", 1, "{\"a\":1}");
    rr_delete(g, "t", 1);
    uint64_t base = g->seq, now = hlc_stamp(g->now_ms, 0);
    assert_int_equal(write_as(g, 1, now, base, ROW_RESTORE, NULL), 0);
    assert_int_equal(write_as(g, 2, now, base, ROW_RESTORE, NULL), 0);
    assert_int_equal(g->effects.n, 0);
    assert_int_equal(write_as(g, 2, now, g->seq, ROW_RESTORE, NULL), ERR_ROW_EXISTS);
}

// A transaction has seen what it writes over, however far ahead that one's stamp is.
static void a_transaction_shows_over_what_it_writes_over(void **state)
{
    struct rows_rig *g = *state;
    uint64_t ahead = hlc_stamp(g->now_ms + 50000, 3);
    rr_insert(g, "t", 1, "{\"a\":0,\"b\":0}");
    assert_int_equal(write_as(g, 1, ahead, g->seq, ROW_UPDATE, "{\"a\":1}"), 0);
    rr_commit(g);
    g->c.transaction = true;
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_UPDATE, "t", 1, "{\"a\":2,\"b\":2}"), 0);
    assert_int_equal(rows_decide_stamp(g->batch), ahead + 1);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select a, b from t", "{\"id\":\"#1\",\"a\":2,\"b\":2}\n");
}

// ---- history -------------------------------------------------------------------------------------------------------

// Random batches; after each the whole table as the model knows it is kept, and in the end every seq is read again.
static void every_seq_reads_as_it_was(void **state)
{
    enum { STEPS = 150, IDS = 12 };
    struct rows_rig *g = *state;
    static char *past[STEPS + 2];
    uint64_t random = 88172645463325252u, first = g->seq;
    int state_of[IDS + 1] = {0}, value[IDS + 1] = {0}; // 0: never there, 1: stands, 2: deleted
    for (int step = 1; step <= STEPS; step++) {
        rr_commit(g);
        rr_begin(g);
        for (int k = 0; k < 3; k++) {
            char json[64];
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            unsigned id = 1 + (unsigned)(random % IDS);
            snprintf(json, sizeof json, "{\"a\":%d}", step * 10 + k);
            if (state_of[id] == 0) {
                assert_int_equal(rr_op(g, ROW_INSERT, "t", id, json), 0);
                state_of[id] = 1;
            } else if (state_of[id] == 1 && random >> 60 == 0) {
                assert_int_equal(rr_op(g, ROW_DELETE, "t", id, NULL), 0);
                state_of[id] = 2;
            } else if (state_of[id] == 1) {
                assert_int_equal(rr_op(g, ROW_UPDATE, "t", id, json), 0);
            }
            value[id] = step * 10 + k;
        }
        assert_int_equal(rr_end(g), 0);
        struct buf text;
        buf_init(&text, MIB);
        for (unsigned id = 1; id <= IDS; id++)
            if (state_of[id] == 1) buf_printf(&text, "{\"id\":\"#%u\",\"a\":%d}\n", id, value[id]);
        buf_put_u8(&text, 0);
        past[step] = strdup((char *)text.p);
        buf_free(&text);
        g->seq = first + (uint64_t)step; // a batch without effects is a commit too
    }
    rr_reopen(g);
    for (int step = 1; step <= STEPS; step++) {
        rr_expect_at(g, "select a from t", first + (uint64_t)step, past[step]);
        free(past[step]);
    }
    rr_expect_at(g, "select a from t", first, "");
    rr_expect_at(g, "select a from t where id = '00000000-0000-0000-0000-000000000001'", 0, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(later_stamp_wins_whichever_comes_first),
        TEST(equal_stamps_go_to_the_greater_writer),
        TEST(a_write_that_loses_makes_no_version),
        TEST(losing_writes_are_checked_all_the_same),
        TEST(delete_wins_over_a_concurrent_update),
        TEST(every_order_of_arrival_gives_the_same_cells),
        TEST(an_upsert_inserts_or_updates),
        TEST(a_default_of_an_upsert_is_nobodys),
        TEST(counters_are_changed_and_not_set),
        TEST(sets_take_a_value_or_a_change),
        TEST(an_addition_nobody_saw_outlives_a_removal),
        TEST(a_restore_brings_back_what_was_deleted),
        TEST(two_restores_that_had_not_seen_each_other_are_both_fine),
        TEST(a_transaction_shows_over_what_it_writes_over),
        TEST(every_seq_reads_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
