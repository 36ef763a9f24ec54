#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "err.h"
#include "stream_groups.h"
#include "stream_tail.h"

// A tail of `count` appends of growing length: append i has i + 1 bytes, seq 10 * i + 10, and bytes that tell their offset.
static void fill(struct tail *t, uint64_t start, int count)
{
    uint8_t data[4096];
    stream_tail_init(t, start);
    for (int i = 0; i < count; i++) {
        for (int j = 0; j <= i; j++)
            data[j] = (uint8_t)(t->end + (uint64_t)j);
        assert_int_equal(stream_tail_append(t, SPAN(data, (size_t)i + 1), 10 * (uint64_t)i + 10, 1), 0);
    }
}

static void expect_bytes(struct span got, uint64_t from, size_t n)
{
    assert_int_equal(got.n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(got.p[i], (uint8_t)(from + i));
}

static void bytes_read_back_from_any_offset(void **state)
{
    (void)state;
    struct tail t;
    struct buf b;
    fill(&t, 1000, 100);
    assert_int_equal(t.end, 1000 + 5050);
    assert_true(t.chunk_count > 3); // so that reads cross chunks
    buf_init(&b, 10000);
    for (uint64_t at = t.start; at <= t.end; at += 61) {
        buf_clear(&b);
        stream_tail_read(&t, at, 777, &b);
        expect_bytes(buf_span(&b), at, t.end - at < 777 ? t.end - at : 777);
    }
    buf_free(&b);
    stream_tail_free(&t);
}

static void a_long_append_takes_one_chunk(void **state)
{
    (void)state;
    struct tail t;
    uint8_t *data = calloc(1, 3 << 20);
    stream_tail_init(&t, 0);
    assert_int_equal(stream_tail_append(&t, SPAN(data, 3 << 20), 1, 1), 0);
    assert_int_equal(t.chunk_count, 1);
    stream_tail_free(&t);
    free(data);
}

static void dropping_keeps_the_rest(void **state)
{
    (void)state;
    for (uint64_t cut = 0; cut <= 5050; cut += 7) {
        struct tail t;
        struct buf b;
        fill(&t, 0, 100);
        stream_tail_drop(&t, cut);
        assert_int_equal(t.start, cut);
        assert_int_equal(t.end, 5050);
        buf_init(&b, 10000);
        stream_tail_read(&t, cut, 10000, &b);
        expect_bytes(buf_span(&b), cut, 5050 - cut);
        assert_true(t.bound_count == 0 ? cut == 5050 : t.bounds[0].end > cut);
        buf_free(&b);
        stream_tail_free(&t);
    }
}

static void pieces_outlive_the_tail(void **state)
{
    (void)state;
    struct tail t;
    fill(&t, 0, 100);
    struct tail_piece *pieces = calloc(t.chunk_count, sizeof *pieces);
    size_t n = stream_tail_pieces(&t, 100, 4000, pieces);
    stream_tail_drop(&t, 5050);
    stream_tail_free(&t);
    uint64_t at = 100;
    for (size_t i = 0; i < n; i++) {
        expect_bytes(SPAN(pieces[i].bytes->p + pieces[i].at, pieces[i].n), at, pieces[i].n);
        at += pieces[i].n;
        bytes_unref(pieces[i].bytes);
    }
    assert_int_equal(at, 4000);
    free(pieces);
}

static void boundaries_are_found_by_seq_and_offset(void **state)
{
    (void)state;
    struct tail t;
    fill(&t, 0, 4); // ends 1 3 6 10, seqs 10 20 30 40
    assert_int_equal(stream_tail_bounds_to_seq(&t, 9), 0);
    assert_int_equal(stream_tail_bounds_to_seq(&t, 10), 1);
    assert_int_equal(stream_tail_bounds_to_seq(&t, 39), 3);
    assert_int_equal(stream_tail_bounds_to_seq(&t, 1000), 4);
    assert_int_equal(stream_tail_bounds_to_offset(&t, 0), 0);
    assert_int_equal(stream_tail_bounds_to_offset(&t, 5), 2);
    assert_int_equal(stream_tail_bounds_to_offset(&t, 6), 3);
    assert_int_equal(stream_tail_bounds_to_offset(&t, 10), 4);
    stream_tail_free(&t);
}

static void the_oldest_group_is_exact(void **state)
{
    (void)state;
    struct groups g = {0};
    assert_true(stream_groups_oldest(&g) == UINT64_MAX);
    for (uint64_t i = 1; i <= 300; i++) {
        assert_int_equal(stream_groups_add(&g, i * 2), 0);
        assert_int_equal(stream_groups_add(&g, i * 2), 0);
    }
    stream_groups_drop(&g, 2);
    assert_int_equal(stream_groups_oldest(&g), 2);
    stream_groups_drop(&g, 4);
    stream_groups_drop(&g, 4);
    assert_int_equal(stream_groups_oldest(&g), 2); // one in the middle waits
    stream_groups_drop(&g, 2);
    assert_int_equal(stream_groups_oldest(&g), 6);
    for (uint64_t i = 3; i <= 300; i++) {
        stream_groups_drop(&g, i * 2);
        stream_groups_drop(&g, i * 2);
        assert_int_equal(stream_groups_add(&g, 1000 + i), 0); // the front's room is used again
        assert_int_equal(stream_groups_oldest(&g), i < 300 ? i * 2 + 2 : 1003);
    }
    stream_groups_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_read_back_from_any_offset),
        cmocka_unit_test(a_long_append_takes_one_chunk),
        cmocka_unit_test(dropping_keeps_the_rest),
        cmocka_unit_test(pieces_outlive_the_tail),
        cmocka_unit_test(boundaries_are_found_by_seq_and_offset),
        cmocka_unit_test(the_oldest_group_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
