#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdlib.h>

#include "wheel.h"

struct entry {
    struct wheel_entry wheel; // first
    uint64_t fired_at;
    int fired;
};

static uint64_t now;

static void fire(struct wheel_entry *w)
{
    struct entry *e = (struct entry *)w;
    e->fired++;
    e->fired_at = now;
}

static void run_to(struct wheel *w, uint64_t end, uint64_t step)
{
    while (now < end) {
        now += step;
        wheel_run(w, now);
    }
}

static void an_entry_fires_once_never_early_and_soon_after(void **state)
{
    (void)state;
    struct wheel w;
    now = 1000000;
    wheel_init(&w, now);
    struct entry e[200] = {0};
    for (uint64_t i = 0; i < 200; i++)
        wheel_set(&w, &e[i].wheel, now + i * i * 7, fire);
    run_to(&w, now + 200 * 200 * 7 + 1000, 5);
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t due = 1000000 + i * i * 7;
        assert_int_equal(e[i].fired, 1);
        assert_true(e[i].fired_at >= due && e[i].fired_at <= due + 2 * WHEEL_TICK_MS);
    }
    assert_int_equal(w.count, 0);
}

static void a_deadline_that_moves_fires_at_its_last_place(void **state)
{
    (void)state;
    struct wheel w;
    now = 500;
    wheel_init(&w, now);
    struct entry later = {0}, sooner = {0};
    wheel_set(&w, &later.wheel, now + 100, fire);
    wheel_set(&w, &later.wheel, now + 90000, fire);
    wheel_set(&w, &sooner.wheel, now + 90000, fire);
    wheel_set(&w, &sooner.wheel, now + 100, fire);
    run_to(&w, 700, 10);
    assert_int_equal(sooner.fired, 1);
    assert_int_equal(later.fired, 0);
    run_to(&w, 90600, 10);
    assert_int_equal(sooner.fired, 1);
    assert_int_equal(later.fired, 1);
    assert_true(later.fired_at >= 90500);
}

static void an_unset_entry_does_not_fire(void **state)
{
    (void)state;
    struct wheel w;
    now = 0;
    wheel_init(&w, now);
    struct entry a = {0}, b = {0}, c = {0};
    wheel_set(&w, &a.wheel, 100, fire);
    wheel_set(&w, &b.wheel, 100, fire);
    wheel_set(&w, &c.wheel, 100, fire);
    wheel_unset(&w, &b.wheel);
    wheel_unset(&w, &b.wheel);
    assert_false(wheel_is_set(&b.wheel));
    run_to(&w, 300, 10);
    assert_int_equal(a.fired + c.fired, 2);
    assert_int_equal(b.fired, 0);
}

static struct wheel *again_in;
static void fire_again(struct wheel_entry *e)
{
    fire(e);
    if (((struct entry *)e)->fired < 5) wheel_set(again_in, e, now + 50, fire_again);
}

static void an_entry_may_be_set_again_while_it_fires(void **state)
{
    (void)state;
    struct wheel w;
    now = 0;
    wheel_init(&w, now);
    again_in = &w;
    struct entry e = {0};
    wheel_set(&w, &e.wheel, 50, fire_again);
    run_to(&w, 1000, 5);
    assert_int_equal(e.fired, 5);
    assert_true(e.fired_at >= 250 && e.fired_at <= 250 + 10 * WHEEL_TICK_MS);
}

static void the_wait_never_oversleeps(void **state)
{
    (void)state;
    struct wheel w;
    now = 12345;
    wheel_init(&w, now);
    assert_int_equal(wheel_wait(&w, now), -1);
    struct entry e = {0};
    uint64_t due = now + 100000;
    wheel_set(&w, &e.wheel, due, fire);
    int sleeps = 0;
    while (e.fired == 0) {
        int64_t wait = wheel_wait(&w, now);
        assert_true(wait >= 0);
        now += (uint64_t)wait;
        wheel_run(&w, now);
        sleeps++;
    }
    assert_true(now >= due && now <= due + 2 * WHEEL_TICK_MS);
    assert_true(sleeps < 10);
}

static void a_long_sleep_loses_nothing(void **state)
{
    (void)state;
    struct wheel w;
    now = 0;
    wheel_init(&w, now);
    struct entry e[50] = {0};
    for (uint64_t i = 0; i < 50; i++)
        wheel_set(&w, &e[i].wheel, 1000 * i, fire);
    now = 3600000;
    wheel_run(&w, now);
    for (int i = 0; i < 50; i++)
        assert_int_equal(e[i].fired, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_fires_once_never_early_and_soon_after),
        cmocka_unit_test(a_deadline_that_moves_fires_at_its_last_place),
        cmocka_unit_test(an_unset_entry_does_not_fire),
        cmocka_unit_test(an_entry_may_be_set_again_while_it_fires),
        cmocka_unit_test(the_wait_never_oversleeps),
        cmocka_unit_test(a_long_sleep_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
