#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub.h"

#define ITEMS 5

struct reader {
    struct hub_item item; // first
    int ran, at;
    struct reader *wakes, *drops; // when it runs
};

static struct hub hub;
static struct reader readers[ITEMS];
static int count;

static void on_run(struct hub_item *item)
{
    struct reader *r = (struct reader *)item;
    r->ran++;
    r->at = ++count;
    if (r->wakes != NULL) hub_wake(&hub, &r->wakes->item);
    if (r->drops != NULL) hub_drop(&r->drops->item);
    r->wakes = r->drops = NULL;
}

static int setup(void **state)
{
    (void)state;
    hub = (struct hub){0};
    count = 0;
    for (int i = 0; i < ITEMS; i++)
        readers[i] = (struct reader){.item = {.run = on_run}};
    return 0;
}

static void wake_all(void)
{
    for (int i = 0; i < ITEMS; i++)
        hub_wake(&hub, &readers[i].item);
}

static void each_runs_once_in_the_order_of_marking(void **state)
{
    (void)state;
    wake_all();
    wake_all();
    hub_run(&hub);
    for (int i = 0; i < ITEMS; i++) {
        assert_int_equal(readers[i].ran, 1);
        assert_int_equal(readers[i].at, i + 1);
    }
    hub_run(&hub);
    assert_int_equal(count, ITEMS);
}

static void one_that_is_dropped_does_not_run(void **state)
{
    (void)state;
    wake_all();
    hub_drop(&readers[0].item);
    hub_drop(&readers[2].item);
    hub_drop(&readers[ITEMS - 1].item);
    hub_drop(&readers[ITEMS - 1].item); // not marked: fine
    hub_run(&hub);
    assert_int_equal(count, ITEMS - 3);
    assert_int_equal(readers[0].ran + readers[2].ran + readers[ITEMS - 1].ran, 0);
    assert_null(hub.first);
    assert_null(hub.last);
    wake_all();
    hub_run(&hub);
    assert_int_equal(readers[2].ran, 1);
}

static void one_may_drop_others_and_mark_others(void **state)
{
    (void)state;
    wake_all();
    readers[0].drops = &readers[1];
    readers[2].wakes = &readers[0];
    readers[3].wakes = &readers[3];
    hub_run(&hub);
    assert_int_equal(readers[0].ran, 2);
    assert_int_equal(readers[1].ran, 0);
    assert_int_equal(readers[3].ran, 2);
    assert_int_equal(readers[4].ran, 1);
    assert_null(hub.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_runs_once_in_the_order_of_marking, setup),
        cmocka_unit_test_setup(one_that_is_dropped_does_not_run, setup),
        cmocka_unit_test_setup(one_may_drop_others_and_mark_others, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
