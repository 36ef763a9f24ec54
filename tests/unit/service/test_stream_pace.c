#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limits.h"
#include "stream_pace.h"

#define NOW_US 5000000u

static struct stream_pace pace_of(uint32_t speed)
{
    return (struct stream_pace){.speed = speed, .gap_ms = STREAM_PACE_GAP_MS};
}

static void a_speed_is_a_plain_decimal(void **state)
{
    (void)state;
    static const struct { const char *text; uint32_t speed; } good[] = {{"1", 1000}, {"0.1", 100}, {"100", 100000}, {"2.5", 2500}, {"0.125", 125}, {"100.000", 100000}, {"4.05", 4050}};
    static const char *const bad[] = {"", "0", "0.09", "100.001", "101", "-1", "+1", "1.", ".5", "1.2345", "1e1", "1,5", "01", "0x1", " 1", "1 ", "1.5.2", "NaN", "99999999999999999999"};
    uint32_t speed;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(stream_pace_speed(SPAN_STR(good[i].text), &speed));
        assert_int_equal(speed, good[i].speed);
    }
    speed = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (stream_pace_speed(SPAN_STR(bad[i]), &speed)) fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(speed, 7);
}

static void each_piece_waits_as_it_did_then(void **state)
{
    (void)state;
    struct stream_pace p = pace_of(STREAM_PACE_UNIT);
    stream_pace_next(&p, true, 1000, NOW_US);
    assert_int_equal(p.due_us, NOW_US); // the first one at once
    stream_pace_next(&p, true, 1400, NOW_US + 30000);
    assert_int_equal(p.due_us, NOW_US + 400000); // whatever the timer was late by
    stream_pace_next(&p, true, 1450, NOW_US + 900000);
    assert_int_equal(p.due_us, NOW_US + 450000);
    stream_pace_next(&p, true, 1450, NOW_US + 900000);
    assert_int_equal(p.due_us, NOW_US + 450000); // of the same moment
}

static void a_speed_stretches_time(void **state)
{
    (void)state;
    struct stream_pace slow = pace_of(STREAM_PACE_SPEED_MIN), fast = pace_of(STREAM_PACE_SPEED_MAX);
    stream_pace_next(&slow, true, 0, 0);
    stream_pace_next(&slow, true, 300, 0);
    assert_int_equal(slow.due_us, 3000000);
    stream_pace_next(&fast, true, 0, 0);
    stream_pace_next(&fast, true, 300, 0);
    assert_int_equal(fast.due_us, 3000);
    assert_int_equal(stream_pace_span_ms(&fast), 100 * SEQ_TIME_MS); // and no more pieces a second
    assert_true(stream_pace_span_ms(&slow) >= 1 && stream_pace_span_ms(&slow) <= SEQ_TIME_MS);
}

static void a_long_gap_is_shortened(void **state)
{
    (void)state;
    struct stream_pace p = pace_of(2 * STREAM_PACE_UNIT);
    stream_pace_next(&p, true, 0, 0);
    stream_pace_next(&p, true, 2 * STREAM_PACE_GAP_MS, 0);
    assert_int_equal(p.due_us, 1000ull * STREAM_PACE_GAP_MS); // just not
    stream_pace_next(&p, true, 40ull * STREAM_PACE_GAP_MS, 0);
    assert_int_equal(p.due_us, 2000ull * STREAM_PACE_GAP_MS);
    stream_pace_next(&p, true, UINT64_MAX, 0);
    assert_int_equal(p.due_us, 3000ull * STREAM_PACE_GAP_MS);
    p = (struct stream_pace){.speed = STREAM_PACE_UNIT, .gap_ms = 0};
    stream_pace_next(&p, true, 0, NOW_US);
    stream_pace_next(&p, true, 1000, NOW_US);
    assert_int_equal(p.due_us, NOW_US);
}

static void what_is_not_known_waits_for_nothing(void **state)
{
    (void)state;
    struct stream_pace p = pace_of(STREAM_PACE_UNIT);
    stream_pace_next(&p, false, 0, NOW_US);
    stream_pace_next(&p, true, 90000, NOW_US);
    assert_int_equal(p.due_us, NOW_US); // nor the first that is known
    stream_pace_next(&p, true, 90100, NOW_US);
    assert_int_equal(p.due_us, NOW_US + 100000);
    stream_pace_next(&p, true, 90050, NOW_US); // a time before: as if it were the same
    assert_int_equal(p.due_us, NOW_US + 100000);
}

static void a_reader_who_was_late_is_not_hurried(void **state)
{
    (void)state;
    struct stream_pace p = pace_of(STREAM_PACE_UNIT);
    stream_pace_late(&p, NOW_US); // nothing has begun
    stream_pace_next(&p, true, 0, NOW_US);
    stream_pace_late(&p, NOW_US + 700000);
    stream_pace_next(&p, true, 100, NOW_US + 700000);
    assert_int_equal(p.due_us, NOW_US + 800000);
    stream_pace_late(&p, NOW_US + 750000); // before it is due
    assert_int_equal(p.due_us, NOW_US + 800000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_speed_is_a_plain_decimal),
        cmocka_unit_test(each_piece_waits_as_it_did_then),
        cmocka_unit_test(a_speed_stretches_time),
        cmocka_unit_test(a_long_gap_is_shortened),
        cmocka_unit_test(what_is_not_known_waits_for_nothing),
        cmocka_unit_test(a_reader_who_was_late_is_not_hurried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
