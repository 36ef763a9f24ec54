// Superseded versions: whole, as differences, packed; and read again through chains of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "err.h"
#include "past.h"
#include "rows_rig.h"
#include "store.h"

static const char schema[] = "create table t (a integer, b text, c text, n counter, tags text[] options (merge 'set'), j jsonb, u uuid, s stream);";

static int setup(void **state)
{
    return rr_setup(state, schema);
}

static uint64_t history_bytes(struct rows_rig *g)
{
    struct db_iter it;
    uint64_t bytes = 0;
    db_iter_init(&it, g->txn, 2); // rows_rig: "other", rows, row_history …
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        bytes += it.value.n;
    db_iter_end(&it);
    return bytes;
}

// Every seq's row is kept as text and read again in the end, from the newest to the oldest and the other way.
static void every_version_of_a_row_is_read_as_it_was(void **state)
{
    enum { VERSIONS = 300 };
    struct rows_rig *g = *state;
    static char *was[VERSIONS + 8];
    unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    uint64_t first = g->seq + 1;
    rr_insert(g, "t", 1, "{\"a\":0}");
    was[0] = rr_select(g, "select a, b, c, n, tags, j, u from t");
    for (int i = 1; i <= VERSIONS; i++) {
        static char json[8000];
        int n = 0;
        n += snprintf(json, sizeof json, "{\"n\":{\"increment\":%d}", rand() % 9 - 4);
        if (rand() % 2) n += snprintf(json + n, sizeof json - (size_t)n, ",\"a\":%d", rand());
        if (rand() % 3 == 0) n += snprintf(json + n, sizeof json - (size_t)n, ",\"b\":\"%0*d\"", 1 + rand() % 3000, rand());
        if (rand() % 3 == 0) n += snprintf(json + n, sizeof json - (size_t)n, ",\"tags\":{\"add\":[\"%c\"],\"remove\":[\"%c\"]}", 'a' + rand() % 5, 'f' - rand() % 5);
        if (rand() % 5 == 0) n += snprintf(json + n, sizeof json - (size_t)n, rand() % 2 ? ",\"c\":null" : ",\"c\":\"text\"");
        snprintf(json + n, sizeof json - (size_t)n, "}");
        if (i % 97 == 0) rr_delete(g, "t", 1);
        else if (i % 97 == 1 && i > 1) assert_int_equal(rr_op1(g, ROW_RESTORE, "t", 1, NULL), 0);
        else rr_update(g, "t", 1, json);
        was[i] = rr_select(g, "select a, b, c, n, tags, j, u from t");
    }
    rr_reopen(g);
    for (int i = VERSIONS; i >= 0; i--)
        rr_expect_at(g, "select a, b, c, n, tags, j, u from t", first + (uint64_t)i, was[i]);
    for (int i = 0; i <= VERSIONS; i++) {
        char *again = rr_select_at(g, "select a, b, c, n, tags, j, u from t where id = '00000000-0000-0000-0000-000000000001'", first + (uint64_t)i);
        assert_string_equal(again, was[i]);
        free(again);
        free(was[i]);
    }
}

static void a_version_that_differs_little_takes_little(void **state)
{
    struct rows_rig *g = *state;
    char json[500];
    snprintf(json, sizeof json, "{\"a\":0,\"b\":\"%0300d\"}", 1);
    rr_insert(g, "t", 1, json);
    for (int i = 1; i <= 160; i++) {
        snprintf(json, sizeof json, "{\"a\":%d}", i);
        rr_update(g, "t", 1, json);
    }
    assert_in_range(history_bytes(g), 160 * 5, 160 * 40); // one in sixteen is whole
}

static void large_versions_are_packed(void **state)
{
    struct rows_rig *g = *state;
    static char json[50000];
    for (int i = 1; i <= 4; i++) {
        snprintf(json, sizeof json, "{\"b\":\"%040000d\"}", i);
        if (i == 1) rr_insert(g, "t", 1, json);
        else rr_update(g, "t", 1, json);
    }
    assert_in_range(history_bytes(g), 3 * 20, 4000);
    char *text = rr_select_at(g, "select b from t", g->seq - 2);
    assert_non_null(strstr(text, "00002\"}"));
    free(text);
}

// ---- damage --------------------------------------------------------------------------------------------------------

static void damage_is_told(void **state)
{
    struct rows_rig *g = *state;
    const struct table *t = schema_table(g->r->schema, SPAN_LIT("t"));
    struct row_space row;
    struct arena *room = arena_new(MIB);
    struct span body;
    bool whole;
    static const char *const stored[] = {"", "\x03", "\x80", "\x81nonsense", "\x82"};
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++)
        assert_int_equal(past_open(SPAN_STR(stored[i]), room, &body, &whole), ERR_CORRUPT);
    rr_insert(g, "t", 1, "{\"a\":1}");
    static const struct {
        const char *bytes;
        size_t n;
        int err;
    } bodies[] = {
        {"\1\0", 2, 0},                 // the same cells, another seq
        {"\1\1\0\1", 4, 0},             // the first column is null
        {"\1\2\0\1\0\1", 6, 0},
        {"\1\1\0", 3, ERR_CORRUPT},
        {"\1\0x", 3, ERR_CORRUPT},
        {"\7\0", 2, ERR_CORRUPT},       // of a later schema
        {"\1\x20", 2, ERR_CORRUPT},     // more columns than there are
        {"\1\1\x08\1", 4, ERR_CORRUPT}, // past the last one
        {"\1\1\0\x7f", 4, ERR_CORRUPT}, // a cell older than all
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_int_equal(row_current(g->r, g->txn, t, rr_id(1), &row), 0);
        int err = past_apply(&row, t, 2, SPAN(bodies[i].bytes, bodies[i].n));
        if (err != bodies[i].err) fail_msg("%zu: %s", i, err_wire(err));
    }
    arena_free(room);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_version_of_a_row_is_read_as_it_was),
        TEST(a_version_that_differs_little_takes_little),
        TEST(large_versions_are_packed),
        TEST(damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
