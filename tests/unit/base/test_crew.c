// Helper threads: every task runs once, and is over when it is joined, whoever ran it.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "crew.h"

#define TASKS 64

struct sum {
    struct crew_task task;
    unsigned from;
    uint64_t result;
    int runs;
};

static void add_up(void *arg)
{
    struct sum *s = arg;
    for (unsigned i = 0; i < 20000; i++)
        s->result += s->from + i;
    s->runs++;
}

static void assert_summed(struct crew *c, struct sum *s)
{
    crew_join(c, &s->task);
    assert_int_equal(s->runs, 1);
    assert_int_equal(s->result, (uint64_t)20000 * s->from + (uint64_t)19999 * 20000 / 2);
}

static void every_task_has_run_once_when_it_is_joined(void **state)
{
    (void)state;
    struct crew *c = crew_new();
    assert_non_null(c);
    for (int order = 0; order < 2; order++) {
        struct sum sums[TASKS] = {0};
        for (unsigned i = 0; i < TASKS; i++) {
            sums[i].from = i;
            crew_offer(c, &sums[i].task, add_up, &sums[i]);
        }
        for (unsigned i = 0; i < TASKS; i++)
            assert_summed(c, &sums[order == 0 ? i : TASKS - 1 - i]);
    }
    crew_free(c);
}

static void joining_what_was_never_offered_does_nothing(void **state)
{
    (void)state;
    struct crew_task task = {0};
    struct crew *c = crew_new();
    crew_join(c, &task);
    crew_join(c, &task);
    crew_free(c);
    crew_free(NULL);
}

static void *offer_many(void *arg)
{
    struct crew *c = arg;
    for (unsigned i = 0; i < 200; i++) {
        struct sum s = {.from = i};
        crew_offer(c, &s.task, add_up, &s);
        assert_summed(c, &s);
    }
    return NULL;
}

static void threads_share_a_crew(void **state)
{
    (void)state;
    struct crew *c = crew_new();
    pthread_t threads[6];
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, offer_many, c), 0);
    for (size_t i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    crew_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_has_run_once_when_it_is_joined),
        cmocka_unit_test(joining_what_was_never_offered_does_nothing),
        cmocka_unit_test(threads_share_a_crew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
