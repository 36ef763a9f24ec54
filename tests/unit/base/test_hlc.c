#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hlc.h"

static void a_stamp_holds_time_and_counter(void **state)
{
    (void)state;
    uint64_t stamp = hlc_stamp(1795341600007, 65535);
    assert_int_equal(hlc_ms(stamp), 1795341600007);
    assert_int_equal(stamp & 0xffff, 65535);
}

static void stamps_follow_the_wall_clock(void **state)
{
    (void)state;
    struct hlc clock = {0};
    assert_int_equal(hlc_next(&clock, 1000), hlc_stamp(1000, 0));
    assert_int_equal(hlc_next(&clock, 2000), hlc_stamp(2000, 0));
}

static void stamps_rise_while_the_wall_clock_stands_or_goes_back(void **state)
{
    (void)state;
    struct hlc clock = {0};
    uint64_t last = hlc_next(&clock, 1000);
    assert_int_equal(hlc_next(&clock, 1000), last + 1);
    assert_int_equal(hlc_next(&clock, 500), last + 2);
    assert_int_equal(hlc_next(&clock, 0), last + 3);
}

static void a_full_counter_carries_into_the_time(void **state)
{
    (void)state;
    struct hlc clock = {.last = hlc_stamp(1000, 65535)};
    assert_int_equal(hlc_next(&clock, 1000), hlc_stamp(1001, 0));
    assert_int_equal(hlc_next(&clock, 1000), hlc_stamp(1001, 1));
}

static void a_stamp_comes_after_every_one_observed(void **state)
{
    (void)state;
    struct hlc clock = {0};
    hlc_observe(&clock, hlc_stamp(5000, 7));
    assert_int_equal(hlc_next(&clock, 1000), hlc_stamp(5000, 8));
    hlc_observe(&clock, hlc_stamp(4000, 0)); // older: changes nothing
    assert_int_equal(hlc_next(&clock, 1000), hlc_stamp(5000, 9));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stamp_holds_time_and_counter),
        cmocka_unit_test(stamps_follow_the_wall_clock),
        cmocka_unit_test(stamps_rise_while_the_wall_clock_stands_or_goes_back),
        cmocka_unit_test(a_full_counter_carries_into_the_time),
        cmocka_unit_test(a_stamp_comes_after_every_one_observed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
