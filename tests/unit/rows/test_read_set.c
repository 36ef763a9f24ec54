// What a transaction has read: ranges that merge, are found again, travel as bytes, and stay within their bound.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "limits.h"
#include "read_set.h"

static struct uuid id_of(uint32_t n)
{
    struct uuid id = {{0}};
    for (int i = 0; i < 4; i++)
        id.b[15 - i] = (uint8_t)(n >> i * 8);
    return id;
}

static void range(struct read_set *s, uint32_t table, uint32_t index, const char *from, const char *to)
{
    read_set_range(s, table, index, SPAN_STR(from), SPAN_STR(to));
}

// "1/2[a,c)[d,)" for a group of table 1 and index 2; a key alone is "[a]".
static void expect(struct read_set *s, const char *want)
{
    char text[1000];
    size_t n = 0, groups;
    assert_int_equal(read_set_finish(s), 0);
    const struct read_group *g = read_set_groups(s, &groups);
    text[0] = 0;
    for (size_t i = 0; i < groups; i++) {
        n += (size_t)sprintf(text + n, "%s%u/%u", i ? " " : "", g[i].table, g[i].index);
        for (size_t k = 0; k < g[i].n; k++) {
            const struct read_range *r = &g[i].ranges[k];
            bool alone = r->to.n == r->from.n + 1 && r->to.p[r->from.n] == 0;
            if (alone) n += (size_t)sprintf(text + n, "[%.*s]", SPAN_FMT(r->from));
            else n += (size_t)sprintf(text + n, "[%.*s,%.*s)", SPAN_FMT(r->from), SPAN_FMT(r->to));
        }
    }
    assert_string_equal(text, want);
}

static bool finds(struct read_set *s, uint32_t table, uint32_t index, const char *key)
{
    size_t n;
    assert_int_equal(read_set_finish(s), 0);
    const struct read_group *g = read_set_table(s, table, &n);
    for (size_t i = 0; i < n; i++)
        if (g[i].index == index) return read_group_find(&g[i], SPAN_STR(key)) != NULL;
    return false;
}

static void expect_same(struct read_set *s)
{
    struct read_set *other = read_set_new();
    struct buf bytes, again;
    buf_init(&bytes, READ_SET_MAX);
    buf_init(&again, READ_SET_MAX);
    assert_int_equal(read_set_finish(s), 0);
    read_set_encode(s, &bytes);
    assert_int_equal(bytes.err, 0);
    assert_int_equal(read_set_decode(other, buf_span(&bytes)), 0);
    assert_int_equal(read_set_finish(other), 0);
    read_set_encode(other, &again);
    assert_true(span_equal(buf_span(&bytes), buf_span(&again)));
    buf_free(&bytes);
    buf_free(&again);
    read_set_free(other);
}

static void what_meets_becomes_one_range(void **state)
{
    struct read_set *s = read_set_new();
    (void)state;
    expect(s, "");
    range(s, 1, 2, "d", "f");
    range(s, 1, 2, "a", "b");
    range(s, 1, 2, "b", "c");
    expect(s, "1/2[a,c)[d,f)");
    range(s, 1, 2, "e", "");
    range(s, 1, 2, "c1", "c1");
    range(s, 1, 2, "z", "y");
    expect(s, "1/2[a,c)[d,)");
    range(s, 1, 3, "", "b");
    range(s, 2, 2, "b", "d");
    expect(s, "1/2[a,c)[d,) 1/3[,b) 2/2[b,d)");
    expect_same(s);
    read_set_free(s);
}

static void a_key_is_found_in_its_range_alone(void **state)
{
    struct read_set *s = read_set_new();
    (void)state;
    range(s, 1, 2, "b", "d");
    range(s, 1, 2, "f", "");
    range(s, 3, 2, "", "b");
    assert_false(finds(s, 1, 2, "a"));
    assert_true(finds(s, 1, 2, "b"));
    assert_true(finds(s, 1, 2, "czzz"));
    assert_false(finds(s, 1, 2, "d"));
    assert_true(finds(s, 1, 2, "f"));
    assert_true(finds(s, 1, 2, "zz"));
    assert_true(finds(s, 3, 2, ""));
    assert_false(finds(s, 3, 2, "b"));
    assert_false(finds(s, 2, 2, "c"));
    assert_false(finds(s, 1, 1, "c"));
    read_set_free(s);
}

static void a_row_is_the_range_that_holds_its_id(void **state)
{
    struct read_set *s = read_set_new();
    struct uuid id;
    size_t n;
    (void)state;
    for (uint32_t i = 3; i > 0; i--)
        read_set_row(s, 7, id_of(i));
    read_set_row(s, 7, id_of(2));
    assert_int_equal(read_set_finish(s), 0);
    const struct read_group *g = read_set_groups(s, &n);
    assert_int_equal(n, 1);
    assert_int_equal(g->n, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(read_range_row(&g->ranges[i], &id));
        assert_memory_equal(id.b, id_of(i + 1).b, sizeof id.b);
    }
    assert_null(read_group_find(g, SPAN(id_of(4).b, 16)));
    assert_non_null(read_group_find(g, SPAN(id_of(2).b, 16)));
    expect_same(s);
    // A range by id swallows the rows in it, and that at its end.
    read_set_row(s, 7, id_of(9));
    read_set_range(s, 7, 0, SPAN(id_of(1).b, 16), SPAN(id_of(3).b, 16));
    assert_int_equal(read_set_finish(s), 0);
    g = read_set_groups(s, &n);
    assert_int_equal(g->n, 2);
    assert_non_null(read_group_find(g, SPAN(id_of(3).b, 16)));
    assert_false(read_range_row(&g->ranges[0], &id));
    expect_same(s);
    read_set_free(s);
}

static void a_whole_table_says_all_of_it(void **state)
{
    struct read_set *s = read_set_new();
    (void)state;
    range(s, 1, 2, "b", "d");
    range(s, 2, 1, "b", "d");
    range(s, 1, 0, "", "m");
    range(s, 1, 0, "k", "");
    expect(s, "1/0[,) 2/1[b,d)");
    expect_same(s);
    read_set_free(s);
}

static void sets_are_joined(void **state)
{
    struct read_set *a = read_set_new(), *b = read_set_new();
    (void)state;
    range(a, 1, 1, "a", "c");
    range(b, 1, 1, "b", "d");
    range(b, 1, 2, "x", "y");
    assert_int_equal(read_set_finish(a), 0);
    read_set_add(a, b);
    expect(a, "1/1[a,d) 1/2[x,y)");
    read_set_free(a);
    read_set_free(b);
}

static void a_set_beyond_its_bound_is_coarsened_and_loses_nothing(void **state)
{
    struct read_set *s = read_set_new();
    struct buf bytes;
    size_t n;
    (void)state;
    read_set_row(s, 1, id_of(5));
    // Twice as many rows as fit, in an order that no two of them meet in.
    for (uint32_t i = 0; i < 2 * READ_SET_MAX / 16; i++)
        read_set_row(s, 2, id_of(i * 2654435761u));
    assert_int_equal(read_set_finish(s), 0);
    const struct read_group *g = read_set_groups(s, &n);
    assert_int_equal(n, 2);
    assert_int_equal(g[0].n, 1);
    assert_int_equal(g[1].n, 1);
    assert_int_equal(g[1].ranges[0].from.n, 0);
    assert_int_equal(g[1].ranges[0].to.n, 0);
    assert_non_null(read_group_find(&g[0], SPAN(id_of(5).b, 16)));
    buf_init(&bytes, READ_SET_MAX);
    read_set_encode(s, &bytes);
    assert_int_equal(bytes.err, 0);
    buf_free(&bytes);
    expect_same(s);
    read_set_free(s);
}

static void damaged_bytes_are_refused_and_record_nothing(void **state)
{
    struct read_set *s = read_set_new(), *other = read_set_new();
    struct buf bytes;
    size_t n, taken = 0;
    (void)state;
    range(s, 1, 0, "a", "b");
    range(s, 1, 2, "d", "e");
    range(s, 1, 2, "f", "");
    read_set_row(s, 3, id_of(1));
    assert_int_equal(read_set_finish(s), 0);
    buf_init(&bytes, READ_SET_MAX);
    read_set_encode(s, &bytes);
    for (size_t i = 0; i < bytes.n; i++)
        assert_int_equal(read_set_decode(other, SPAN(bytes.p, i)), ERR_CORRUPT);
    for (size_t i = 0; i < bytes.n * 8; i++) {
        struct read_set *some = read_set_new();
        bytes.p[i / 8] ^= (uint8_t)(1 << i % 8);
        int err = read_set_decode(some, buf_span(&bytes));
        assert_true(err == 0 || err == ERR_CORRUPT);
        taken += err == 0;
        if (err == 0) expect_same(some);
        bytes.p[i / 8] ^= (uint8_t)(1 << i % 8);
        read_set_free(some);
    }
    assert_true(taken > 0);
    assert_int_equal(read_set_finish(other), 0);
    read_set_groups(other, &n);
    assert_int_equal(n, 0);
    buf_free(&bytes);
    read_set_free(s);
    read_set_free(other);
}

// Beside a plain list that is gone through from end to end.
static void random_ranges_find_what_a_list_finds(void **state)
{
    (void)state;
    uint32_t v = 20240601;
    for (int round = 0; round < 200; round++) {
        struct read_set *s = read_set_new();
        struct { char from, to; uint32_t group; } list[12];
        for (int i = 0; i < 12; i++) {
            v = v * 1664525 + 1013904223;
            list[i].group = 1 + (v >> 20) % 3;
            list[i].from = (char)('a' + (v >> 24) % 20);
            list[i].to = (char)(list[i].from + (v >> 16) % 5);
            char from[2] = {list[i].from, 0}, to[2] = {list[i].to, 0};
            range(s, 1, list[i].group, from, to);
        }
        for (uint32_t group = 1; group <= 3; group++) {
            for (char c = 'a'; c <= 'z'; c++) {
                bool want = false;
                char key[3] = {c, '5', 0};
                for (int i = 0; i < 12; i++)
                    want |= list[i].group == group && list[i].from <= c && c < list[i].to;
                assert_int_equal(finds(s, 1, group, key), want);
            }
        }
        expect_same(s);
        read_set_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_meets_becomes_one_range),
        cmocka_unit_test(a_key_is_found_in_its_range_alone),
        cmocka_unit_test(a_row_is_the_range_that_holds_its_id),
        cmocka_unit_test(a_whole_table_says_all_of_it),
        cmocka_unit_test(sets_are_joined),
        cmocka_unit_test(a_set_beyond_its_bound_is_coarsened_and_loses_nothing),
        cmocka_unit_test(damaged_bytes_are_refused_and_record_nothing),
        cmocka_unit_test(random_ranges_find_what_a_list_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
