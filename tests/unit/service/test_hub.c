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
    bool later;                   // it has more to do
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
    if (r->later) hub_later(&hub, &r->item);
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

static void one_with_more_to_do_ends_the_run_and_comes_last(void **state)
{
    (void)state;
    readers[1].later = true;
    wake_all();
    hub_run_some(&hub, ITEMS);
    assert_int_equal(count, 2);
    hub_run_some(&hub, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(readers[i].ran, i == 1 ? 2 : 1);
    assert_int_equal(readers[1].at, ITEMS + 1);
    hub_run(&hub);
    assert_int_equal(readers[1].ran, 3);
    readers[1].later = false;
    hub_run(&hub);
    assert_null(hub.first);
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

static void a_run_serves_some_and_keeps_the_order(void **state)
{
    (void)state;
    wake_all();
    hub_run_some(&hub, 2);
    assert_int_equal(count, 2);
    hub_wake(&hub, &readers[0].item); // behind those who wait
    hub_wake(&hub, &readers[4].item);
    hub_run_some(&hub, 3);
    assert_int_equal(readers[2].at + readers[3].at + readers[4].at, 3 + 4 + 5);
    assert_int_equal(readers[0].ran, 1);
    hub_run_some(&hub, 3);
    assert_int_equal(readers[0].ran, 2);
    assert_null(hub.first);
}

static void answers_go_first_and_are_not_counted(void **state)
{
    (void)state;
    hub_wake(&hub, &readers[0].item);
    hub_wake(&hub, &readers[1].item);
    for (int i = 2; i < ITEMS; i++)
        hub_wake_answer(&hub, &readers[i].item);
    hub_run_some(&hub, 1);
    assert_int_equal(count, ITEMS - 1);
    assert_int_equal(readers[0].at, ITEMS - 1);
    assert_int_equal(readers[1].ran, 0);
    hub_run_some(&hub, 1);
    assert_int_equal(readers[1].ran, 1);
}

static void on_run_many(struct hub_item *item)
{
    struct reader *r = (struct reader *)item;
    do {
        r->ran++;
    } while (hub_serve(&hub));
}

static void an_item_may_stand_for_many_readers(void **state)
{
    (void)state;
    readers[0].item.run = on_run_many;
    hub_wake(&hub, &readers[0].item);
    hub_wake(&hub, &readers[1].item);
    hub_run_some(&hub, 10);
    assert_int_equal(readers[0].ran, 10);
    assert_int_equal(readers[1].ran, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_runs_once_in_the_order_of_marking, setup),
        cmocka_unit_test_setup(one_that_is_dropped_does_not_run, setup),
        cmocka_unit_test_setup(one_with_more_to_do_ends_the_run_and_comes_last, setup),
        cmocka_unit_test_setup(one_may_drop_others_and_mark_others, setup),
        cmocka_unit_test_setup(a_run_serves_some_and_keeps_the_order, setup),
        cmocka_unit_test_setup(answers_go_first_and_are_not_counted, setup),
        cmocka_unit_test_setup(an_item_may_stand_for_many_readers, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
