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
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    rr_publish(g, schema);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
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
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(later_stamp_wins_whichever_comes_first),
        TEST(equal_stamps_go_to_the_greater_writer),
        TEST(a_write_that_loses_makes_no_version),
        TEST(losing_writes_are_checked_all_the_same),
        TEST(delete_wins_over_a_concurrent_update),
        TEST(every_order_of_arrival_gives_the_same_cells),
        TEST(every_seq_reads_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
