// Which loop has which app: entered once, placed where least is done, whatever threads ask.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "directory.h"
#include "err.h"

static struct directory *open_directory(unsigned loops)
{
    struct directory *d;
    assert_int_equal(directory_open(&d, loops), 0);
    return d;
}

static const unsigned idle[LOOPS_MAX];

static void an_app_is_found_where_it_was_entered(void **state)
{
    (void)state;
    struct directory *d = open_directory(3);
    assert_int_equal(directory_find(d, SPAN_LIT("a")), -1);
    assert_int_equal(directory_enter(d, SPAN_LIT("a"), 2), 0);
    assert_int_equal(directory_enter(d, SPAN_LIT("ab"), 1), 0);
    assert_int_equal(directory_find(d, SPAN_LIT("a")), 2);
    assert_int_equal(directory_find(d, SPAN_LIT("ab")), 1);
    assert_int_equal(directory_find(d, SPAN_LIT("b")), -1);
    assert_int_equal(directory_enter(d, SPAN_LIT("a"), 2), 0); // again
    assert_int_equal(directory_enter(d, SPAN_LIT("a"), 0), ERR_BUSY);
    directory_leave(d, SPAN_LIT("a"));
    directory_leave(d, SPAN_LIT("never"));
    assert_int_equal(directory_find(d, SPAN_LIT("a")), -1);
    assert_int_equal(directory_find(d, SPAN_LIT("ab")), 1);
    directory_close(d);
}

static void a_new_app_goes_where_the_fewest_are(void **state)
{
    (void)state;
    struct directory *d = open_directory(3);
    char name[16];
    for (int i = 0; i < 30; i++) {
        int n = snprintf(name, sizeof name, "app%d", i);
        int loop = directory_place(d, SPAN(name, (size_t)n), idle);
        assert_int_equal(loop, i % 3);
        assert_int_equal(directory_enter(d, SPAN(name, (size_t)n), (unsigned)loop), 0);
    }
    directory_leave(d, SPAN_LIT("app7"));
    assert_int_equal(directory_place(d, SPAN_LIT("new"), idle), 1);
    directory_close(d);
}

static void a_busy_loop_gets_no_new_app_while_another_has_less_to_do(void **state)
{
    (void)state;
    struct directory *d = open_directory(3);
    for (unsigned i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        assert_int_equal(directory_enter(d, SPAN_STR(name), 1 + i % 2), 0);
    }
    assert_int_equal(directory_place(d, SPAN_LIT("new"), (const unsigned[]){900, 20, 60}), 1);
    assert_int_equal(directory_place(d, SPAN_LIT("new"), (const unsigned[]){900, 400, 60}), 2);
    assert_int_equal(directory_place(d, SPAN_LIT("new"), (const unsigned[]){90, 20, 60}), 0); // as good as equal: the fewest
    assert_int_equal(directory_place(d, SPAN_LIT("a"), (const unsigned[]){0, 990, 0}), 1);    // it is there
    directory_close(d);
}

static void there_are_so_many_apps_and_no_more(void **state)
{
    (void)state;
    struct directory *d = open_directory(2);
    char name[16];
    for (int i = 0; i < APPS_MAX; i++)
        assert_int_equal(directory_enter(d, SPAN(name, (size_t)snprintf(name, sizeof name, "app%d", i)), (unsigned)i % 2), 0);
    assert_int_equal(directory_enter(d, SPAN_LIT("more"), 0), ERR_TOO_MANY);
    directory_leave(d, SPAN_LIT("app3"));
    assert_int_equal(directory_enter(d, SPAN_LIT("more"), 0), 0);
    for (int i = 0; i < APPS_DROPPED_MAX; i++)
        assert_int_equal(directory_drop(d), 0);
    assert_int_equal(directory_drop(d), ERR_TOO_MANY);
    directory_close(d);
    directory_close(NULL);
}

static void each_loop_learns_its_own_in_order(void **state)
{
    (void)state;
    struct directory *d = open_directory(2);
    char name[NAME_MAX_BYTES + 1], longest[NAME_MAX_BYTES + 1];
    memset(longest, 'x', NAME_MAX_BYTES);
    longest[NAME_MAX_BYTES] = '\0';
    const char *all[] = {"default", "a", "b", longest};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(directory_enter(d, SPAN_STR(all[i]), i % 2), 0);
    for (unsigned loop = 0; loop < 2; loop++) {
        size_t at = 0;
        for (unsigned i = loop; i < 4; i += 2) {
            assert_true(directory_next(d, loop, &at, name));
            assert_string_equal(name, all[i]);
        }
        assert_false(directory_next(d, loop, &at, name));
    }
    directory_close(d);
}

// ---- threads -------------------------------------------------------------------------------------------------------------------

struct claimer {
    pthread_t thread;
    struct directory *d;
    unsigned loop, got;
};

// Each loop tries to have every name.
static void *claim_all(void *arg)
{
    struct claimer *c = arg;
    char name[16];
    for (int i = 0; i < 200; i++) {
        int n = snprintf(name, sizeof name, "app%d", i);
        c->got += directory_enter(c->d, SPAN(name, (size_t)n), c->loop) == 0;
        directory_place(c->d, SPAN(name, (size_t)n), idle);
    }
    return NULL;
}

static void one_of_several_loops_gets_a_name(void **state)
{
    (void)state;
    struct directory *d = open_directory(4);
    struct claimer c[4];
    unsigned got = 0;
    for (unsigned i = 0; i < 4; i++) {
        c[i] = (struct claimer){.d = d, .loop = i};
        assert_int_equal(pthread_create(&c[i].thread, NULL, claim_all, &c[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(c[i].thread, NULL);
        got += c[i].got;
    }
    assert_int_equal(got, 200);
    directory_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_app_is_found_where_it_was_entered),
        cmocka_unit_test(a_new_app_goes_where_the_fewest_are),
        cmocka_unit_test(a_busy_loop_gets_no_new_app_while_another_has_less_to_do),
        cmocka_unit_test(there_are_so_many_apps_and_no_more),
        cmocka_unit_test(each_loop_learns_its_own_in_order),
        cmocka_unit_test(one_of_several_loops_gets_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
