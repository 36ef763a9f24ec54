// Entries of indexes, against a model that remembers every version of every row.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "err.h"
#include "index.h"
#include "rows_rig.h"

static const char schema[] = "create table t (a integer, b text);";

static struct index_column columns[] = {{.column = 0}, {.column = 1, .desc = true}};
static struct index both = {.no = 3, .columns = columns, .column_count = 2};

static int setup(void **state)
{
    return rr_setup(state, schema);
}

static const struct table *table_t(const struct rows_rig *g)
{
    return schema_table(g->r->schema, SPAN_LIT("t"));
}

// A row with these cells; a text of NULL is null.
struct image {
    struct row row;
    struct cell cells[2];
};

static const struct row *image(struct image *i, int64_t a, const char *b)
{
    *i = (struct image){.row = {.exists = true, .seq = 1, .version = 1, .count = 2}};
    i->cells[0].v = (struct value){.i = a};
    i->cells[1].v = b ? (struct value){.s = SPAN_STR(b)} : VALUE_NULL;
    i->row.cells = i->cells;
    return &i->row;
}

static const struct row nothing;

static void put(struct rows_rig *g, unsigned id, const struct row *old, const struct row *new, uint64_t seq)
{
    assert_int_equal(index_change(g->r, g->txn, table_t(g), &both, rr_id(id), old, new, seq), 0);
    g->r->seq = seq;
}

// The ids of a walk, as text: "3 1 2".
static const char *walk(struct rows_rig *g, struct span from, struct span to, bool desc, uint64_t at)
{
    static char text[256];
    struct index_iter it;
    struct uuid id;
    struct span key;
    size_t n = 0;
    text[0] = 0;
    index_open(&it, g->r, g->txn, table_t(g), &both, from, to, desc, at);
    while (index_next(&it, &id, &key) && n < sizeof text - 8)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%u", n ? " " : "", id.b[15]);
    assert_int_equal(index_end(&it), 0);
    return text;
}

static struct span key_of(struct rows_rig *g, struct buf *b, size_t count, int64_t a, const char *text)
{
    struct image i;
    buf_clear(b);
    image(&i, a, text);
    for (size_t k = 0; k < count; k++)
        index_key_value(b, table_t(g), &both, k, &i.cells[k].v);
    return buf_span(b);
}

static void rows_come_by_their_columns_then_by_id(void **state)
{
    struct rows_rig *g = *state;
    struct image i;
    put(g, 5, &nothing, image(&i, 2, "x"), 10);
    put(g, 4, &nothing, image(&i, -1, "x"), 11);
    put(g, 3, &nothing, image(&i, 2, "y"), 12);
    put(g, 2, &nothing, image(&i, 2, "x"), 13);
    put(g, 1, &nothing, image(&i, 2, NULL), 14);
    assert_string_equal(walk(g, SPAN_NONE, SPAN_NONE, false, UINT64_MAX), "4 1 3 2 5"); // descending: null is first
    assert_string_equal(walk(g, SPAN_NONE, SPAN_NONE, true, UINT64_MAX), "5 2 3 1 4");
}

static void a_walk_keeps_to_its_bounds(void **state)
{
    struct rows_rig *g = *state;
    struct image i;
    struct buf from, to;
    buf_init(&from, KIB);
    buf_init(&to, KIB);
    for (unsigned n = 1; n <= 6; n++)
        put(g, n, &nothing, image(&i, n / 2, "x"), n);
    struct span two = key_of(g, &from, 1, 2, NULL), three = key_of(g, &to, 1, 3, NULL);
    assert_string_equal(walk(g, two, three, false, UINT64_MAX), "4 5");
    assert_string_equal(walk(g, two, three, true, UINT64_MAX), "5 4");
    assert_string_equal(walk(g, three, SPAN_NONE, false, UINT64_MAX), "6");
    assert_string_equal(walk(g, SPAN_NONE, two, true, UINT64_MAX), "3 2 1");
    assert_string_equal(walk(g, three, two, false, UINT64_MAX), "");
    index_after(&from, key_of(g, &to, 2, 2, "x"), rr_id(4), false);
    assert_string_equal(walk(g, buf_span(&from), SPAN_NONE, false, UINT64_MAX), "5 6");
    index_after(&from, key_of(g, &to, 2, 2, "x"), rr_id(5), true);
    assert_string_equal(walk(g, SPAN_NONE, buf_span(&from), true, UINT64_MAX), "4 3 2 1");
    buf_free(&from);
    buf_free(&to);
}

static void a_bound_longer_than_any_key_still_parts_them(void **state)
{
    struct rows_rig *g = *state;
    struct image i;
    struct buf from;
    static char text[3000];
    buf_init(&from, 8 * KIB);
    memset(text, 'x', sizeof text - 1);
    put(g, 1, &nothing, image(&i, 1, "x"), 1);
    put(g, 2, &nothing, image(&i, 1, "xy"), 2);
    put(g, 3, &nothing, image(&i, 1, "w"), 3);
    assert_string_equal(walk(g, key_of(g, &from, 2, 1, text), SPAN_NONE, false, UINT64_MAX), "1 3"); // descending
    assert_string_equal(walk(g, SPAN_NONE, key_of(g, &from, 2, 1, text), false, UINT64_MAX), "2");
    buf_free(&from);
}

static void a_key_longer_than_the_limit_is_refused(void **state)
{
    struct rows_rig *g = *state;
    struct image i;
    static char text[INDEX_KEY_MAX + 1];
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(index_change(g->r, g->txn, table_t(g), &both, rr_id(1), &nothing, image(&i, 1, text), 5), ERR_TOO_LARGE);
    assert_string_equal(walk(g, SPAN_NONE, SPAN_NONE, false, UINT64_MAX), "");
}

static void a_row_the_index_does_not_have_is_damage(void **state)
{
    struct rows_rig *g = *state;
    struct image was, is;
    put(g, 1, &nothing, image(&was, 1, "x"), 5);
    assert_int_equal(index_change(g->r, g->txn, table_t(g), &both, rr_id(1), image(&was, 2, "x"), image(&is, 3, "x"), 6), ERR_CORRUPT);
}

// ---- every seq, against a model ------------------------------------------------------------------------------------

enum { IDS = 20, SEQS = 400, VALUES = 5 };

static int version[SEQS + 1][IDS + 1]; // a row's value at a seq; 0: it does not stand

static bool model_next(uint64_t at, bool desc, int *value, unsigned *id)
{
    for (;;) {
        int step = desc ? -1 : 1;
        *id = (unsigned)((int)*id + step);
        if (*id < 1 || *id > IDS) {
            *value += step;
            *id = desc ? IDS : 1;
            if (*value < 1 || *value > VALUES) return false;
        }
        if (version[at][*id] == *value) return true;
    }
}

static void expect_walk(struct rows_rig *g, uint64_t at, bool desc)
{
    struct index_iter it;
    struct uuid id;
    struct span key;
    int value = desc ? VALUES : 1;
    unsigned want = desc ? IDS + 1 : 0;
    index_open(&it, g->r, g->txn, table_t(g), &both, SPAN_NONE, SPAN_NONE, desc, at);
    while (index_next(&it, &id, &key)) {
        assert_true(model_next(at, desc, &value, &want));
        assert_memory_equal(id.b, rr_id(want).b, sizeof id.b);
    }
    assert_int_equal(index_end(&it), 0);
    assert_false(model_next(at, desc, &value, &want));
}

static void every_seq_is_read_as_it_was(void **state)
{
    struct rows_rig *g = *state;
    unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    memset(version, 0, sizeof version);
    for (uint64_t seq = 1; seq <= SEQS; seq++) {
        unsigned id = 1 + (unsigned)rand() % IDS;
        int was = version[seq - 1][id], is = rand() % (VALUES + 1);
        struct image old, new;
        memcpy(version[seq], version[seq - 1], sizeof version[seq]);
        version[seq][id] = is;
        put(g, id, was ? image(&old, was, "t") : &nothing, is ? image(&new, is, "t") : &nothing, seq);
    }
    for (uint64_t at = 0; at <= SEQS; at++) {
        expect_walk(g, at, false);
        expect_walk(g, at, true);
    }
}

// ---- indexes of a schema -------------------------------------------------------------------------------------------

#define PLAIN "create table t (a integer, b text)"

static const struct index *index_named(const struct rows_rig *g, const char *name)
{
    const struct table *t = table_t(g);
    for (size_t i = 0; i < t->index_count; i++)
        if (span_is(t->indexes[i].name, name)) return &t->indexes[i];
    return NULL;
}

static const char *walk_named(struct rows_rig *g, const char *name, uint64_t at)
{
    static char text[256];
    struct index_iter it;
    struct uuid id;
    struct span key;
    size_t n = 0;
    text[0] = 0;
    index_open(&it, g->r, g->txn, table_t(g), index_named(g, name), SPAN_NONE, SPAN_NONE, false, at);
    while (index_next(&it, &id, &key) && n < sizeof text - 8)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%u", n ? " " : "", id.b[15]);
    assert_int_equal(index_end(&it), 0);
    return text;
}

static size_t entries(struct rows_rig *g)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, g->txn, 1 + TABLE_INDEX);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        n++;
    db_iter_end(&it);
    return n;
}

static void an_index_of_a_new_table_is_ready_at_once(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, PLAIN "; create index by_a on t (a desc); create table u (x integer); create index by_x on u (x);");
    const struct table *u = schema_table(g->r->schema, SPAN_LIT("u"));
    assert_true(index_ready(g->r, u, &u->indexes[0], g->seq));
    assert_true(index_ready(g->r, table_t(g), index_named(g, "by_a"), g->seq)); // its table had no rows
    assert_false(index_ready(g->r, table_t(g), index_named(g, "by_a"), g->seq - 1));
    rr_insert(g, "t", 1, "{\"a\":1}");
    rr_insert(g, "t", 2, "{\"a\":2}");
    assert_string_equal(walk_named(g, "by_a", UINT64_MAX), "2 1");
    rr_update(g, "t", 1, "{\"a\":3}");
    rr_delete(g, "t", 2);
    assert_string_equal(walk_named(g, "by_a", UINT64_MAX), "1");
    assert_string_equal(walk_named(g, "by_a", g->seq - 2), "2 1");
}

// Filled some rows at a time, while rows before and behind the place change, and over a restart.
static void an_index_of_rows_that_are_there_is_filled_in_steps(void **state)
{
    struct rows_rig *g = *state;
    bool more = true, wrote;
    char json[40];
    for (unsigned id = 1; id <= 60; id++) {
        snprintf(json, sizeof json, "{\"a\":%u}", id % 7);
        rr_insert(g, "t", id, json);
    }
    rr_publish(g, PLAIN "; create index by_a on t (a);");
    assert_true(rows_busy(g->r));
    assert_false(index_ready(g->r, table_t(g), index_named(g, "by_a"), g->seq));
    for (unsigned i = 1; more; i++) {
        assert_int_equal(index_step(g->r, g->txn, 5, &more), 0);
        snprintf(json, sizeof json, "{\"a\":%u}", i % 5 + 10);
        if (i <= 8) rr_update(g, "t", 60 - i * 7, json);
        if (i == 2) rr_delete(g, "t", 3), rr_delete(g, "t", 50);
        if (i == 5) rr_reopen(g);
        if (i == 6) rr_insert(g, "t", 61, "{\"a\":1}");
    }
    assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    assert_false(rows_busy(g->r));
    assert_true(index_ready(g->r, table_t(g), index_named(g, "by_a"), g->seq));
    char indexed[256];
    snprintf(indexed, sizeof indexed, "%s", walk_named(g, "by_a", UINT64_MAX));
    // The same as of one that is made now, whole.
    rr_publish(g, PLAIN "; create index by_a on t (a); create unique index again on t (a, id);");
    assert_true(index_ready(g->r, table_t(g), index_named(g, "again"), g->seq));
    assert_string_equal(walk_named(g, "again", UINT64_MAX), indexed);
}

static void an_index_that_is_dropped_leaves_nothing(void **state)
{
    struct rows_rig *g = *state;
    bool wrote;
    rr_publish(g, PLAIN "; create index by_a on t (a); create index by_b on t (b);");
    for (unsigned id = 1; id <= 20; id++) {
        rr_insert(g, "t", id, "{\"a\":1,\"b\":\"x\"}");
        rr_update(g, "t", id, "{\"a\":2}");
    }
    assert_int_equal(entries(g), 2 + 3 * 20);
    rr_publish(g, PLAIN "; create index by_b on t (b);");
    while (rows_busy(g->r))
        assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    assert_int_equal(entries(g), 1 + 20);
    rr_update(g, "t", 1, "{\"a\":3}");
    assert_int_equal(entries(g), 1 + 20);
}

static void a_partial_index_is_about_some_rows_alone(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, PLAIN "; create unique index part on t (b) where a > 10;");
    rr_insert(g, "t", 1, "{\"a\":11,\"b\":\"x\"}");
    rr_insert(g, "t", 2, "{\"a\":1,\"b\":\"x\"}");
    assert_string_equal(walk_named(g, "part", UINT64_MAX), "1");
    assert_int_equal(rr_op1(g, ROW_UPDATE, "t", 2, "{\"a\":12}"), ERR_NOT_UNIQUE);
    rr_update(g, "t", 1, "{\"a\":null}");
    rr_update(g, "t", 2, "{\"a\":12}");
    assert_string_equal(walk_named(g, "part", UINT64_MAX), "2");
    assert_string_equal(walk_named(g, "part", g->seq - 1), "");
    assert_string_equal(walk_named(g, "part", g->seq - 2), "1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(rows_come_by_their_columns_then_by_id),
        TEST(a_walk_keeps_to_its_bounds),
        TEST(a_bound_longer_than_any_key_still_parts_them),
        TEST(a_key_longer_than_the_limit_is_refused),
        TEST(a_row_the_index_does_not_have_is_damage),
        TEST(every_seq_is_read_as_it_was),
        TEST(an_index_of_a_new_table_is_ready_at_once),
        TEST(an_index_of_rows_that_are_there_is_filled_in_steps),
        TEST(an_index_that_is_dropped_leaves_nothing),
        TEST(a_partial_index_is_about_some_rows_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
