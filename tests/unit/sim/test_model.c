// The model of merging on batches made by hand, where it is plain what they must come to.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model.h"

static struct cell_write writes[8];
static size_t count;

static struct cell_op *add(uint64_t seq, uint64_t base, uint64_t stamp, uint32_t writer)
{
    writes[count] = (struct cell_write){.seq = seq, .base = base, .stamp = stamp, .writer = writer};
    return &writes[count++].op;
}

static int begin(void **state)
{
    (void)state;
    count = 0;
    return 0;
}

// In whatever order the writes are given, as of any commit behind all of them.
static struct cell_row row(void)
{
    struct cell_row first = model_row(writes, count, 0, UINT64_MAX);
    for (size_t turn = 0; turn < count; turn++) {
        struct cell_write kept = writes[0];
        for (size_t i = 1; i < count; i++)
            writes[i - 1] = writes[i];
        writes[count - 1] = kept;
        struct cell_row other = model_row(writes, count, 0, UINT64_MAX);
        assert_true(first.there == other.there && first.l == other.l && first.n == other.n && first.hi == other.hi && first.lo == other.lo && first.tags == other.tags);
    }
    return first;
}

static void set_l(uint64_t seq, uint64_t stamp, uint32_t writer, int64_t l)
{
    struct cell_op *op = add(seq, 0, stamp, writer);
    op->has_l = true;
    op->l = l;
}

static void change_tags(uint64_t seq, uint64_t base, uint32_t writer, unsigned letters, unsigned removed)
{
    struct cell_op *op = add(seq, base, seq, writer);
    op->has_tags = true;
    op->add = letters;
    op->remove = removed;
}

static void the_last_writer_wins_by_stamp_then_by_id_then_by_order(void **state)
{
    (void)state;
    set_l(1, 50, 1, 10);
    set_l(2, 40, 9, 20);
    assert_int_equal(row().l, 10);
    set_l(3, 50, 2, 30);
    assert_int_equal(row().l, 30);
    set_l(4, 50, 2, 40);
    assert_int_equal(row().l, 40);
    assert_int_equal(model_row(writes, count, 0, 1).l, 10);
}

static void counters_add_up_and_extremes_stay(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        struct cell_op *op = add((uint64_t)i, 0, 7, 1);
        op->has_n = op->has_hi = op->has_lo = true;
        op->n = i, op->hi = op->lo = 10 * i % 25;
    }
    assert_int_equal(row().n, 6);
    assert_int_equal(row().hi, 20);
    assert_int_equal(row().lo, 5);
}

static void an_addition_that_a_remover_had_not_seen_stays(void **state)
{
    (void)state;
    change_tags(5, 1, 1, 3, 0);
    change_tags(6, 4, 2, 0, 1);
    assert_int_equal(row().tags, 3);
    change_tags(7, 5, 2, 0, 1);
    assert_int_equal(row().tags, 2);
    change_tags(8, 2, 1, 0, 2); // its own: it knows of it
    assert_int_equal(row().tags, 0);
}

static void a_new_set_replaces_what_its_writer_had_seen(void **state)
{
    (void)state;
    change_tags(5, 1, 1, 1, 0);
    change_tags(6, 1, 2, 2, 0);
    struct cell_op *op = add(7, 5, 7, 3);
    op->has_tags = op->absolute = true;
    op->add = 8;
    assert_int_equal(row().tags, 2 | 8);
}

static void who_adds_again_takes_over(void **state)
{
    (void)state;
    change_tags(5, 1, 1, 1, 0);
    change_tags(6, 5, 2, 1, 0); // had seen it: one addition is left
    change_tags(7, 6, 3, 0, 1);
    assert_int_equal(row().tags, 0);
}

static void a_row_that_anybody_deleted_is_gone(void **state)
{
    (void)state;
    set_l(5, 50, 1, 10);
    assert_true(row().there);
    add(6, 1, 1, 2)->delete = true;
    set_l(7, 60, 1, 10);
    assert_false(row().there);
    assert_true(model_row(writes, count, 0, 5).there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_last_writer_wins_by_stamp_then_by_id_then_by_order, begin),
        cmocka_unit_test_setup(counters_add_up_and_extremes_stay, begin),
        cmocka_unit_test_setup(an_addition_that_a_remover_had_not_seen_stays, begin),
        cmocka_unit_test_setup(a_new_set_replaces_what_its_writer_had_seen, begin),
        cmocka_unit_test_setup(who_adds_again_takes_over, begin),
        cmocka_unit_test_setup(a_row_that_anybody_deleted_is_gone, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
