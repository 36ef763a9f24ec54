// What operations that nobody has committed would make of an earlier state.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "preview.h"
#include "rows_rig.h"
#include "source.h"

static int setup(void **state)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    rr_publish(g, "create table t (a integer not null, b integer default 7, c counter); create table u (a integer);");
    for (unsigned i = 1; i <= 3; i++)
        rr_insert(g, "t", i * 10, "{\"a\":1,\"c\":5}");
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

static int lay(struct rows_rig *g, struct rows_preview *v, enum row_op_kind kind, const char *table, unsigned id, const char *column, struct row_value value)
{
    struct row_column c = {.name = SPAN_STR(column ? column : ""), .value = value};
    struct row_op op = {.kind = kind, .table = SPAN_STR(table), .has_id = true, .id = rr_id(id), .columns = &c, .column_count = column ? 1 : 0};
    g->p = PROBLEM_NONE;
    return rows_preview_op(v, g->txn, &op, &g->p);
}

#define INT(n) ((struct row_value){.kind = ROW_INT, .i = (n)})

// All of a table's rows that lie over it: "10:1,7 20:-" with a and b, '-' for one that is deleted.
static const char *over(struct rows_rig *g, struct rows_preview *v, const char *table)
{
    static char text[200];
    const struct overlay *o = rows_preview_overlay(v);
    uint32_t no = rows_table_number(g->r, SPAN_STR(table));
    struct uuid id, last;
    size_t n = 0;
    text[0] = 0;
    for (const struct row *r = o->next(o->ctx, no, NULL, &id); r; last = id, r = o->next(o->ctx, no, &last, &id)) {
        assert_ptr_equal(o->find(o->ctx, no, id), r);
        n += (size_t)sprintf(text + n, "%s%u:", n ? " " : "", id.b[15]);
        if (row_live(r)) n += (size_t)sprintf(text + n, "%d,%d", (int)r->cells[0].v.i, r->cells[1].v.null ? -1 : (int)r->cells[1].v.i);
        else n += (size_t)sprintf(text + n, "-");
    }
    return text;
}

static void operations_lie_over_the_state_they_are_of(void **state)
{
    struct rows_rig *g = *state;
    uint64_t at = g->seq;
    rr_update(g, "t", 10, "{\"a\":99,\"b\":99}");
    rr_delete(g, "t", 20);
    struct rows_preview *v = rows_preview_new(g->r, g->txn, at, at, g->now_ms);
    assert_string_equal(over(g, v, "t"), "");
    assert_int_equal(lay(g, v, ROW_UPDATE, "t", 20, "b", INT(5)), 0); // it is there, as of then
    assert_int_equal(lay(g, v, ROW_UPDATE, "t", 10, "b", INT(6)), 0);
    assert_int_equal(lay(g, v, ROW_INSERT, "t", 15, "a", INT(3)), 0);
    assert_int_equal(lay(g, v, ROW_DELETE, "t", 30, NULL, INT(0)), 0);
    assert_int_equal(lay(g, v, ROW_INSERT, "u", 1, "a", INT(1)), 0);
    assert_string_equal(over(g, v, "t"), "10:1,6 15:3,7 20:1,5 30:-");
    assert_int_equal(lay(g, v, ROW_UPDATE, "t", 15, "b", INT(8)), 0);
    assert_int_equal(lay(g, v, ROW_DELETE, "t", 10, NULL, INT(0)), 0);
    assert_string_equal(over(g, v, "t"), "10:- 15:3,8 20:1,5 30:-");
    const struct overlay *o = rows_preview_overlay(v);
    assert_null(o->find(o->ctx, rows_table_number(g->r, SPAN_LIT("t")), rr_id(11)));
    rows_preview_free(v);
    rr_expect(g, "select a, b from t", "{\"id\":\"#10\",\"a\":99,\"b\":99}\n{\"id\":\"#30\",\"a\":1,\"b\":7}\n");
}

static void operations_are_checked_one_by_one(void **state)
{
    struct rows_rig *g = *state;
    const struct { int err; enum row_op_kind kind; const char *table; unsigned id; const char *column; struct row_value value; } bad[] = {
        {ERR_NO_SUCH_TABLE, ROW_UPDATE, "nowhere", 10, "a", INT(1)},
        {ERR_NO_SUCH_COLUMN, ROW_UPDATE, "t", 10, "nope", INT(1)},
        {ERR_WRONG_TYPE, ROW_UPDATE, "t", 10, "a", {.kind = ROW_BOOL}},
        {ERR_NOT_NULL, ROW_UPDATE, "t", 10, "a", {.kind = ROW_NULL}},
        {ERR_NO_SUCH_ROW, ROW_UPDATE, "t", 11, "a", INT(1)},
        {ERR_NO_SUCH_ROW, ROW_DELETE, "t", 11, NULL, INT(1)},
        {ERR_ROW_EXISTS, ROW_INSERT, "t", 10, "a", INT(1)},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct rows_preview *v = rows_preview_new(g->r, g->txn, g->seq, g->seq, g->now_ms);
        assert_int_equal(lay(g, v, bad[i].kind, bad[i].table, bad[i].id, bad[i].column, bad[i].value), bad[i].err);
        rows_preview_free(v);
    }
}

static void a_row_born_later_is_not_there_yet(void **state)
{
    struct rows_rig *g = *state;
    uint64_t at = g->seq;
    rr_insert(g, "t", 40, "{\"a\":1}");
    struct rows_preview *v = rows_preview_new(g->r, g->txn, at, at, g->now_ms);
    assert_int_equal(lay(g, v, ROW_UPDATE, "t", 40, "a", INT(2)), ERR_NO_SUCH_ROW);
    rows_preview_free(v);
    v = rows_preview_new(g->r, g->txn, 0, 0, g->now_ms); // before everything
    assert_int_equal(lay(g, v, ROW_INSERT, "t", 10, "a", INT(2)), 0);
    assert_string_equal(over(g, v, "t"), "10:2,7");
    rows_preview_free(v);
}

static void over_a_later_state_they_merge_with_what_came_since(void **state)
{
    struct rows_rig *g = *state;
    uint64_t base = g->seq;
    rr_delete(g, "t", 20);
    rr_update(g, "t", 10, "{\"a\":4}");
    struct rows_preview *v = rows_preview_new(g->r, g->txn, g->seq, base, g->now_ms);
    assert_int_equal(lay(g, v, ROW_UPDATE, "t", 20, "b", INT(5)), 0); // its writer had not seen that it went
    assert_int_equal(lay(g, v, ROW_UPDATE, "t", 10, "b", INT(6)), 0);
    assert_string_equal(over(g, v, "t"), "10:4,6");
    rows_preview_free(v);
}

static void a_preview_knows_when_its_schema_is_an_older_one(void **state)
{
    struct rows_rig *g = *state;
    struct rows_preview *v = rows_preview_new(g->r, g->txn, g->seq, g->seq, g->now_ms);
    assert_true(rows_preview_current(v));
    rr_publish(g, "create table t (a integer not null, b integer default 7, c counter, d text); create table u (a integer);");
    assert_false(rows_preview_current(v));
    rows_preview_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operations_lie_over_the_state_they_are_of, setup, teardown),
        cmocka_unit_test_setup_teardown(operations_are_checked_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_born_later_is_not_there_yet, setup, teardown),
        cmocka_unit_test_setup_teardown(over_a_later_state_they_merge_with_what_came_since, setup, teardown),
        cmocka_unit_test_setup_teardown(a_preview_knows_when_its_schema_is_an_older_one, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
