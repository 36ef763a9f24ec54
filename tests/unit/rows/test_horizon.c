// What goes when the horizon moves, and that nothing else does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "err.h"
#include "hlc.h"
#include "rows_rig.h"
#include "store.h"

static const char schema[] = "create table t (a integer, b text, tags text[] options (merge 'set'));"
                             "create table u (k text unique, t uuid references t on delete cascade);"
                             "create index t_a on t (a, b desc);";

static int setup(void **state)
{
    return rr_setup(state, schema);
}

// A batch of the service that moves the horizon, or a part of the way.
static void step_to(struct rows_rig *g, uint64_t upto)
{
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rows_decide_horizon(g->batch, upto, &g->p), 0);
    assert_int_equal(rr_end(g), 0);
}

static void move_to(struct rows_rig *g, uint64_t upto)
{
    while (rows_horizon(g->r) < upto)
        step_to(g, upto);
}

static size_t entries(struct rows_rig *g, int table, uint8_t space)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, g->txn, 1 + table);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        n += space == 0 || it.key.p[0] == space;
    db_iter_end(&it);
    return n;
}

static int query_at(struct rows_rig *g, const char *sql, uint64_t at)
{
    struct query *q = rr_compile(g, sql);
    struct query_run *run;
    int err = query_open(g->r, g->txn, q, at, &run, NULL);
    if (!err) query_close(run);
    query_unref(q);
    return err;
}

static void what_was_below_is_gone_and_says_so(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "t", 1, "{\"a\":1,\"b\":\"x\"}");
    uint64_t first = g->seq;
    for (int i = 2; i < 20; i++) {
        char json[40];
        snprintf(json, sizeof json, "{\"a\":%d}", i);
        rr_update(g, "t", 1, json);
    }
    rr_insert(g, "t", 2, "{\"a\":0}");
    rr_delete(g, "t", 2);
    uint64_t last = g->seq;
    assert_int_equal(entries(g, TABLE_HISTORY, 0), 19);
    assert_int_equal(entries(g, TABLE_INDEX, 2), 19);
    move_to(g, first + 9);
    assert_int_equal(entries(g, TABLE_HISTORY, 0), 10);
    assert_int_equal(entries(g, TABLE_INDEX, 2), 10);
    assert_int_equal(query_at(g, "select a from t", first + 8), ERR_TOO_OLD);
    rr_expect_at(g, "select a from t", first + 9, "{\"id\":\"#1\",\"a\":10}\n");
    move_to(g, last);
    assert_int_equal(entries(g, TABLE_HISTORY, 0), 0);
    assert_int_equal(entries(g, TABLE_INDEX, 2), 0);
    assert_int_equal(entries(g, TABLE_INDEX, 1), 1);
    rr_reopen(g);
    assert_int_equal(rows_horizon(g->r), last);
    rr_expect(g, "select a from t", "{\"id\":\"#1\",\"a\":19}\n");
    rr_insert(g, "t", 2, "{\"a\":7}"); // its tombstone went, too
    assert_int_equal(rr_op1(g, ROW_RESTORE, "t", 3, NULL), ERR_NO_SUCH_ROW);
}

static void a_step_is_bounded_and_takes_whole_commits(void **state)
{
    struct rows_rig *g = *state;
    for (unsigned n = 0; n < 3; n++) {
        rr_commit(g);
        rr_begin(g);
        for (unsigned i = 1; i <= HORIZON_ROWS_MAX; i++)
            assert_int_equal(rr_op(g, n == 0 ? ROW_INSERT : ROW_UPDATE, "t", i, n == 0 ? "{\"a\":0}" : n == 1 ? "{\"a\":1}" : "{\"a\":2}"), 0);
        assert_int_equal(rr_end(g), 0);
    }
    uint64_t last = g->seq;
    unsigned steps = 0;
    for (uint64_t before = 0; rows_horizon(g->r) < last; steps++) {
        step_to(g, last);
        assert_true(rows_horizon(g->r) > before);
        before = rows_horizon(g->r);
    }
    assert_in_range(steps, 3, 4);
    step_to(g, last); // nothing is left to do, and that is fine
    assert_int_equal(g->effects.n, 0);
}

static void the_horizon_is_decided_alone_and_never_ahead(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "t", 1, "{\"a\":1}");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rows_decide_horizon(g->batch, g->c.seq, &g->p), ERR_BASE_AHEAD);
    assert_int_equal(rows_decide_horizon(g->batch, g->seq, &g->p), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "t", 1, "{\"a\":2}"), 0);
    assert_int_equal(rr_end(g), ERR_BAD_BATCH);
}

// A write that is older than all that is known is not merged by guessing.
static void what_cannot_be_merged_any_more_is_refused(void **state)
{
    struct rows_rig *g = *state;
    static const struct uuid writer = {{7}};
    rr_insert(g, "t", 1, "{\"a\":1,\"tags\":[\"x\"]}");
    rr_insert(g, "t", 2, NULL);
    uint64_t base = g->seq, early = g->c.stamp;
    rr_update(g, "t", 1, "{\"a\":2,\"tags\":{\"add\":[\"y\"]}}");
    rr_delete(g, "t", 2);
    move_to(g, g->seq);
    static const struct {
        uint64_t stamp;
        unsigned id;
        enum row_op_kind kind;
        const char *json;
        int err;
    } cases[] = {
        {0, 1, ROW_UPDATE, "{\"a\":3}", ERR_TOO_OLD},
        {1, 1, ROW_UPDATE, "{\"a\":3}", 0},
        {1, 1, ROW_UPDATE, "{\"tags\":{\"remove\":[\"y\"]}}", ERR_TOO_OLD},
        {1, 1, ROW_UPDATE, "{\"tags\":{\"remove\":[\"x\"]}}", 0},
        {1, 2, ROW_UPDATE, "{\"a\":3}", ERR_TOO_OLD}, // was it deleted?
        {1, 2, ROW_UPSERT, "{\"a\":3}", ERR_TOO_OLD},
        {1, 2, ROW_INSERT, "{\"a\":3}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rr_commit(g);
        if (cases[i].stamp == 0) g->c.stamp = early;
        g->c.base = base;
        g->c.writer = writer;
        rr_begin(g);
        int err = rr_op(g, cases[i].kind, "t", cases[i].id, cases[i].json);
        if (!err) err = rr_end(g);
        else rr_drop(g);
        if (err != cases[i].err) fail_msg("%zu: %s", i, err_wire(err));
    }
    rr_commit(g);
    g->c.stamp = 5;
    g->c.transaction = true;
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_UPDATE, "t", 1, "{\"b\":\"tx\"}"), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select b from t where id = '00000000-0000-0000-0000-000000000001'", "{\"id\":\"#1\",\"b\":\"tx\"}\n");
}

#define BLOB(x) "{\"f\":{\"blob\":\"" x x x x x x x x "\"}}"
#define A "aaaaaaaa"
#define B "bbbbbbbb"

static const char *moved_to(struct rows_rig *g, uint64_t upto)
{
    buf_clear(&g->calls);
    move_to(g, upto);
    buf_put_u8(&g->calls, 0);
    return (const char *)g->calls.p;
}

static void a_blob_that_no_version_names_is_released(void **state)
{
    struct rows_rig *g = *state;
    char sql[600];
    snprintf(sql, sizeof sql, "%s create table v (f blob);", schema);
    rr_publish(g, sql);
    rr_insert(g, "v", 1, BLOB(A));
    rr_insert(g, "v", 2, BLOB(A));
    rr_update(g, "v", 1, BLOB(B));
    assert_string_equal(moved_to(g, g->seq), ""); // the other row has it
    rr_update(g, "v", 2, "{\"f\":null}");
    uint64_t cut = g->seq;
    rr_delete(g, "v", 1);
    assert_string_equal(moved_to(g, cut - 1), "");
    assert_string_equal(moved_to(g, cut), "~aa\n");
    assert_int_equal(rr_op1(g, ROW_RESTORE, "v", 1, NULL), 0);
    uint64_t back = g->seq;
    rr_update(g, "v", 1, "{\"f\":null}");
    assert_string_equal(moved_to(g, back), ""); // deleted meanwhile, and restored with it
    assert_string_equal(moved_to(g, g->seq), "~bb\n");
    rr_insert(g, "v", 3, BLOB(A));
    rr_delete(g, "v", 3);
    assert_string_equal(moved_to(g, g->seq), "~aa\n");
    assert_int_equal(entries(g, TABLE_ROWS, 5), 0);
}

static void damaged_moves_change_nothing(void **state)
{
    struct rows_rig *g = *state;
    rr_insert(g, "t", 1, "{\"a\":1}");
    struct commit c = {.seq = g->seq + 1, .arrival_ms = g->now_ms, .stamp = 1};
    const uint8_t ahead[] = {1, 0, 0, 0, (uint8_t)(g->seq + 1)}, zero[] = {1, 0, 0, 0, 0}, more[] = {1, 0, 0, 0, 1, 1};
    assert_int_equal(rows_apply(g->r, g->txn, &c, SPAN(ahead, sizeof ahead)), ERR_CORRUPT);
    assert_int_equal(rows_apply(g->r, g->txn, &c, SPAN(zero, sizeof zero)), ERR_CORRUPT);
    assert_int_equal(rows_apply(g->r, g->txn, &c, SPAN(more, sizeof more)), ERR_CORRUPT);
    assert_int_equal(rows_horizon(g->r), 0);
}

// Random batches on rows that refer to each other; the horizon follows behind, and every seq from there on reads as it was.
static void every_seq_above_reads_as_it_was(void **state)
{
    enum { STEPS = 200, IDS = 10 };
    static const char *const queries[] = {"select a, b, tags from t", "select a from t order by a, b desc", "select k, t from u", "select b from t where a = 2"};
    enum { QUERIES = sizeof queries / sizeof *queries };
    static char *was[STEPS + 8][QUERIES];
    struct rows_rig *g = *state;
    unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    uint64_t first = g->seq + 1;
    for (int i = 0; i < STEPS; i++) {
        char json[200];
        unsigned id = 1 + (unsigned)rand() % IDS;
        rr_commit(g);
        rr_begin(g);
        snprintf(json, sizeof json, "{\"a\":%d,\"b\":\"%0*d\",\"tags\":{\"add\":[\"%c\"],\"remove\":[\"%c\"]}}", rand() % 4, 1 + rand() % 90, i, 'a' + rand() % 3, 'd' - rand() % 2);
        static const enum row_op_kind kinds[] = {ROW_INSERT, ROW_UPDATE, ROW_UPDATE, ROW_UPDATE, ROW_UPSERT, ROW_DELETE, ROW_RESTORE};
        enum row_op_kind kind = kinds[rand() % 7];
        if (rand() % 12 == 0) {
            assert_int_equal(rows_decide_horizon(g->batch, g->seq - (uint64_t)rand() % (g->seq < 6 ? g->seq : 6), &g->p), 0);
        } else if (rand() % 4 == 0) {
            snprintf(json, sizeof json, "{\"k\":\"%d\",\"t\":\"00000000-0000-0000-0000-%012x\"}", rand() % 20, 1 + (unsigned)rand() % IDS);
            rr_op(g, kind, "u", id, kind == ROW_DELETE || kind == ROW_RESTORE ? NULL : json);
        } else {
            rr_op(g, kind, "t", id, kind == ROW_DELETE || kind == ROW_RESTORE ? NULL : json);
        }
        if (g->p.err) rr_drop(g), rr_commit(g), rr_begin(g);
        if (rr_end(g)) rr_commit(g), rr_begin(g), assert_int_equal(rr_end(g), 0);
        if (i % 50 == 49) rr_reopen(g);
        for (int k = 0; k < QUERIES; k++)
            was[i][k] = rr_select(g, queries[k]);
        for (int n = 0; n < 6; n++) {
            uint64_t at = first + (uint64_t)rand() % (uint64_t)(i + 1);
            int k = rand() % QUERIES;
            if (at < rows_horizon(g->r)) assert_int_equal(query_at(g, queries[k], at), ERR_TOO_OLD);
            else rr_expect_at(g, queries[k], at, was[at - first][k]);
        }
    }
    for (uint64_t at = rows_horizon(g->r) < first ? first : rows_horizon(g->r); at <= g->seq; at++)
        for (int k = 0; k < QUERIES; k++)
            rr_expect_at(g, queries[k], at, was[at - first][k]);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < QUERIES; k++)
            free(was[i][k]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_below_is_gone_and_says_so),
        TEST(a_step_is_bounded_and_takes_whole_commits),
        TEST(the_horizon_is_decided_alone_and_never_ahead),
        TEST(what_cannot_be_merged_any_more_is_refused),
        TEST(a_blob_that_no_version_names_is_released),
        TEST(damaged_moves_change_nothing),
        TEST(every_seq_above_reads_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
