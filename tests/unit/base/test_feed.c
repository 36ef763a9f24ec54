#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "feed.h"

static int wakes;

static void count_wake(struct feed_sub *sub)
{
    (void)sub;
    wakes++;
}

static size_t count_subs(const struct feed *feed)
{
    size_t n = 0;
    for (const struct feed_sub *s = feed->subs, *prev = NULL; s != NULL; prev = s, s = s->next) {
        assert_ptr_equal(s->prev, prev);
        assert_ptr_equal(s->feed, feed);
        n++;
    }
    return n;
}

static void subs_leave_in_any_order(void **state)
{
    (void)state;
    // Each of the six orders in which three subs can leave.
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int o = 0; o < 6; o++) {
        struct feed feed = {0};
        struct feed_sub subs[3] = {0};
        for (int i = 0; i < 3; i++)
            feed_link(&feed, &subs[i]);
        for (size_t left = 3; left > 0; left--) {
            assert_int_equal(count_subs(&feed), left);
            feed_unlink(&subs[orders[o][3 - left]]);
        }
        assert_null(feed.subs);
    }
}

static void a_touch_marks_and_wakes_each_sub(void **state)
{
    (void)state;
    struct feed feed = {0};
    struct feed_sub a = {.wake = count_wake}, b = {.wake = count_wake}, silent = {0};
    feed_link(&feed, &a);
    feed_link(&feed, &b);
    feed_link(&feed, &silent);
    wakes = 0;
    feed_touch(&feed, 7);
    assert_int_equal(wakes, 2);
    assert_int_equal(a.changed, 7);
    assert_int_equal(b.changed, 7);
    assert_int_equal(silent.changed, 7);
}

static void who_left_is_not_woken(void **state)
{
    (void)state;
    struct feed feed = {0};
    struct feed_sub a = {.wake = count_wake}, b = {.wake = count_wake};
    feed_link(&feed, &a);
    feed_link(&feed, &b);
    feed_unlink(&a);
    wakes = 0;
    feed_touch(&feed, 8);
    assert_int_equal(wakes, 1);
    assert_int_equal(a.changed, 0);
    feed_unlink(&b);
    feed_touch(&feed, 9);
    assert_int_equal(wakes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subs_leave_in_any_order),
        cmocka_unit_test(a_touch_marks_and_wakes_each_sub),
        cmocka_unit_test(who_left_is_not_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
