// Sums of doubles that are exact: beside sums in wider numbers, in any order, and with parts taken out again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "exact_sum.h"

static uint64_t chance = 88172645463325252u;

static uint64_t next_random(void)
{
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return chance;
}

static double any_double(int exponents)
{
    double d = (double)(int64_t)next_random() / 9223372036854775808.0;
    return ldexp(d, (int)(next_random() % (unsigned)exponents) - exponents / 2);
}

static double sum_of(const double *all, size_t n)
{
    struct exact_sum s = {.limbs = NULL};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(exact_sum_add(&s, all[i]), 0);
    double d = exact_sum_value(&s);
    exact_sum_free(&s);
    return d;
}

#define expect_same(a, b) assert_true((a) == (b))

static void sums_are_rounded_once(void **state)
{
    (void)state;
    expect_same(sum_of(NULL, 0), 0);
    expect_same(sum_of((const double[]){1e100, 1, -1e100}, 3), 1);
    expect_same(sum_of((const double[]){0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}, 10), 1);
    expect_same(sum_of((const double[]){DBL_MAX, DBL_MAX, -DBL_MAX}, 3), DBL_MAX);
    expect_same(sum_of((const double[]){DBL_TRUE_MIN, DBL_TRUE_MIN, DBL_TRUE_MIN}, 3), 3 * DBL_TRUE_MIN);
    expect_same(sum_of((const double[]){DBL_MIN, -DBL_TRUE_MIN}, 2), DBL_MIN - DBL_TRUE_MIN);
    expect_same(sum_of((const double[]){-1, DBL_TRUE_MIN}, 2), -1);
    assert_true(isinf(sum_of((const double[]){DBL_MAX, DBL_MAX}, 2)));
    // Half way between two: the even one; and a breath more.
    expect_same(sum_of((const double[]){1, DBL_EPSILON / 2}, 2), 1);
    expect_same(sum_of((const double[]){1 + DBL_EPSILON, DBL_EPSILON / 2}, 2), 1 + 2 * DBL_EPSILON);
    expect_same(sum_of((const double[]){1, DBL_EPSILON / 2, DBL_TRUE_MIN}, 3), 1 + DBL_EPSILON);
    expect_same(sum_of((const double[]){-1, -DBL_EPSILON / 2, -DBL_TRUE_MIN}, 3), -1 - DBL_EPSILON);
}

// Numbers of 53 bits within some 70 binary places: 128 bits hold their sum.
static void sums_are_those_of_whole_numbers(void **state)
{
    (void)state;
    for (int round = 0; round < 20000; round++) {
        double all[40];
        __int128 whole = 0;
        size_t n = 1 + next_random() % 40;
        for (size_t i = 0; i < n; i++) {
            int shift = (int)(next_random() % 64);
            int64_t m = (int64_t)(next_random() >> 11) * (next_random() % 2 ? 1 : -1);
            all[i] = ldexp((double)m, shift);
            whole += (__int128)m * ((__int128)1 << shift);
        }
        expect_same(sum_of(all, n), (double)whole);
    }
}

static void neither_order_nor_what_has_left_shows(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        enum { N = 60 };
        static const int spans[] = {4, 100, 600, 2000};
        double all[N];
        struct exact_sum s = {.limbs = NULL};
        for (size_t i = 0; i < N; i++)
            all[i] = any_double(spans[round % 4]);
        double forwards = sum_of(all, N / 2);
        for (size_t i = N; i-- > 0;)
            assert_int_equal(exact_sum_add(&s, all[i]), 0);
        for (size_t i = N / 2; i < N; i++)
            assert_int_equal(exact_sum_subtract(&s, all[i]), 0);
        expect_same(exact_sum_value(&s), forwards);
        for (size_t i = 0; i < N / 2; i++)
            assert_int_equal(exact_sum_subtract(&s, all[i]), 0);
        expect_same(exact_sum_value(&s), 0);
        exact_sum_free(&s);
    }
}

static void many_of_the_greatest_stay_exact(void **state)
{
    struct exact_sum s = {.limbs = NULL};
    (void)state;
    for (int i = 0; i < 100000; i++)
        assert_int_equal(exact_sum_add(&s, i % 3 == 2 ? -DBL_MAX : DBL_MAX), 0);
    assert_true(isinf(exact_sum_value(&s)));
    assert_true(exact_sum_bytes(&s) <= 36 * 8);
    for (int i = 0; i < 33332; i++)
        assert_int_equal(exact_sum_subtract(&s, DBL_MAX), 0);
    assert_int_equal(exact_sum_subtract(&s, DBL_MAX / 2), 0);
    assert_true(exact_sum_value(&s) > 0);
    exact_sum_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_rounded_once),
        cmocka_unit_test(sums_are_those_of_whole_numbers),
        cmocka_unit_test(neither_order_nor_what_has_left_shows),
        cmocka_unit_test(many_of_the_greatest_stay_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
