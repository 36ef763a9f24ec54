// What is in flight, looked at between its beginning and its end, in one thread: nobody hears of it, nothing of it is lost, and every end is as good as on a quick disk.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "app_internal.h"
#include "app_lab.h"
#include "disk.h"
#include "err.h"
#include "flights.h"

#define APPEND(text) "{'ops':[{'op':'append','stream':'s','text':'" text "'}]}"

// From here on everything is flown, and held.
static void hold(struct app_lab *l)
{
    flights_hold(&l->app->options);
    l->app->slow = true;
}

static int setup(void **state)
{
    struct app_lab *l = calloc(1, sizeof *l);
    app_lab_init(l);
    app_lab_open(l);
    if (lab_schema(l, "create table n (t text)") != 0 || lab_run(l, "{'ops':[{'op':'create','stream':'s'}]}") != 0) abort();
    hold(l);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    disk_fail_clear();
    app_lab_free(*state);
    free(*state);
    return 0;
}

// A batch whose group is in flight.
static void launch(struct app_lab *l, struct lab_batch *b, const char *json)
{
    assert_int_equal(lab_submit(l, b, json), 0);
    app_turn(l->app);
    assert_true(app_in_flight(l->app));
}

static void land(struct app_lab *l)
{
    app_flight_run(l->app);
    app_flight_end(l->app);
}

// The database's commit is due; what flies for it lands.
static void commit(struct app_lab *l)
{
    l->app->dirty_since_ms = 0;
    app_tick(l->app);
    app_land(l->app);
}

// ---- a group -------------------------------------------------------------------------------------------------------

static void nothing_is_said_before_the_landing(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a, b;
    uint64_t visible = app_visible(l->app), groups = app_counts(l->app).groups;
    launch(l, &a, APPEND("a"));
    assert_int_equal(lab_submit(l, &b, APPEND("b")), 0);
    assert_false(app_pending(l->app)); // a turn would do nothing
    app_turn(l->app);
    app_tick(l->app);
    app_flight_run(l->app); // durable, and still not said
    assert_false(a.done || b.done);
    assert_int_equal(app_visible(l->app), visible);
    assert_int_equal(app_counts(l->app).groups, groups);
    app_flight_end(l->app);
    assert_true(a.done && a.readable);
    assert_false(b.done);
    assert_int_equal(app_visible(l->app), visible + 1);
    assert_true(lab_stream_is(l, "s", "a"));
    assert_true(app_pending(l->app));
    app_turn(l->app);
    land(l);
    assert_true(b.done);
    assert_true(lab_stream_is(l, "s", "ab"));
    lab_batch_free(&a);
    lab_batch_free(&b);
}

static void what_was_decided_before_is_answered_without_a_flight(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a, again;
    const char *json = "{'key':'k','ops':[{'op':'append','stream':'s','text':'a'}]}";
    launch(l, &a, json);
    land(l);
    assert_int_equal(lab_submit(l, &again, json), 0);
    app_turn(l->app);
    assert_false(app_in_flight(l->app));
    assert_true(again.done && again.fate.again);
    lab_batch_free(&a);
    lab_batch_free(&again);
}

// ---- waiting -------------------------------------------------------------------------------------------------------

struct waiter {
    struct app_wait wait; // first
    struct lab_batch *before;
    int *calls, at;
    struct app *flies; // has the app fly again
};

static void on_landed(struct app_wait *w)
{
    struct waiter *me = (struct waiter *)w;
    assert_true(me->before->done);
    me->at = ++*me->calls;
    if (me->flies != NULL) app_turn(me->flies);
}

static void who_waits_is_called_behind_the_answers_in_order(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a, b;
    int calls = 0;
    struct waiter w[4];
    for (int i = 0; i < 4; i++)
        w[i] = (struct waiter){.before = &a, .calls = &calls};
    assert_false(app_wait(l->app, &w[0].wait, on_landed)); // nothing to wait for
    launch(l, &a, APPEND("a"));
    for (int i = 0; i < 4; i++)
        assert_true(app_wait(l->app, &w[i].wait, on_landed));
    assert_true(app_wait(l->app, &w[0].wait, on_landed));
    app_wait_drop(&w[1].wait);
    app_wait_drop(&w[1].wait);
    assert_int_equal(lab_submit(l, &b, APPEND("b")), 0);
    w[2].flies = l->app;
    land(l);
    assert_int_equal(calls, 2);
    assert_int_equal(w[0].at, 1);
    assert_int_equal(w[1].at, 0);
    assert_int_equal(w[2].at, 2);
    assert_true(app_in_flight(l->app)); // so the last one waits on
    land(l);
    assert_int_equal(w[3].at, 3);
    assert_true(b.done);
    lab_batch_free(&a);
    lab_batch_free(&b);
}

// ---- bad ends ------------------------------------------------------------------------------------------------------

static void a_barrier_that_fails_in_flight_has_unknown_fates(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a, b;
    launch(l, &a, APPEND("a"));
    assert_int_equal(lab_submit(l, &b, APPEND("b")), 0);
    disk_fail(DISK_SYNC, "/journal/", 1, EIO, 1);
    app_flight_run(l->app);
    assert_int_equal(disk_failed(), 1);
    app_flight_end(l->app);
    assert_int_equal(a.fate.err, ERR_FATE_UNKNOWN);
    assert_false(a.fate.journaled || a.readable);
    assert_int_equal(b.fate.err, ERR_BUSY);
    assert_int_equal(app_state(l->app), APP_RECOVERING);
    assert_null(app_txn(l->app));
    assert_true(lab_recover(l));
    assert_true(lab_stream_is(l, "s", "a") || lab_stream_is(l, "s", ""));
    lab_batch_free(&a);
    lab_batch_free(&b);
    launch(l, &a, APPEND("c"));
    land(l);
    assert_int_equal(a.fate.err, 0);
    lab_batch_free(&a);
}

static void a_kill_in_flight_leaves_all_or_nothing(void **state)
{
    struct app_lab *l = *state, copy;
    struct lab_batch a;
    launch(l, &a, APPEND("a"));
    for (int ran = 0; ran < 2; ran++) {
        if (ran == 1) app_flight_run(l->app);
        app_lab_fork(l, &copy);
        assert_true(lab_stream_is(&copy, "s", ran == 1 ? "a" : ""));
        app_lab_free(&copy);
    }
    app_flight_end(l->app);
    lab_batch_free(&a);
}

static void an_app_is_closed_behind_the_landing(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a, b;
    launch(l, &a, APPEND("a"));
    assert_int_equal(lab_submit(l, &b, APPEND("b")), 0);
    app_lab_close(l);
    assert_int_equal(a.fate.err, 0);
    assert_int_equal(b.fate.err, ERR_SHUTTING_DOWN);
    app_lab_open(l);
    assert_true(lab_stream_is(l, "s", "a"));
    lab_batch_free(&a);
    lab_batch_free(&b);
}

struct user {
    struct app_user user; // first
    int asked, err;
    bool readable;
};

static void on_reset(struct app_user *u, int err)
{
    struct user *me = (struct user *)u;
    me->asked++;
    me->err = err;
    me->readable = app_txn(u->app) != NULL;
    app_user_remove(u);
}

static void users_are_not_sent_away_in_flight(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a;
    struct user u = {0};
    app_user_add(l->app, &u.user, on_reset);
    launch(l, &a, APPEND("a"));
    app_dismiss(l->app);
    assert_int_equal(u.asked, 0);
    land(l);
    assert_int_equal(u.err, ERR_SHUTTING_DOWN);
    assert_true(u.readable && a.fate.err == 0);
    lab_batch_free(&a);
}

static void an_app_that_is_dropped_in_flight_still_says_what_is_durable(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a, b;
    struct user u = {0};
    app_user_add(l->app, &u.user, on_reset);
    launch(l, &a, APPEND("a"));
    assert_int_equal(lab_submit(l, &b, APPEND("b")), 0);
    app_discard(l->app);
    assert_int_equal(b.fate.err, ERR_NO_SUCH_APP);
    app_tick(l->app);
    assert_false(a.done || u.asked > 0 || app_discarded(l->app));
    land(l);
    assert_int_equal(a.fate.err, 0);
    app_tick(l->app);
    assert_int_equal(u.err, ERR_NO_SUCH_APP);
    assert_true(app_discarded(l->app));
    lab_batch_free(&a);
    lab_batch_free(&b);
}

// ---- the database --------------------------------------------------------------------------------------------------

static void commits_are_flown_by_whoever_began(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a;
    uint64_t before = app_counts(l->app).db_commits;
    launch(l, &a, APPEND("a"));
    land(l);
    assert_false(l->app->txn_away);
    l->app->dirty_since_ms = 0;
    app_tick(l->app); // the owner began this one, and ends it; the next one is the thread's
    assert_int_equal(app_counts(l->app).db_commits, before + 1);
    assert_true(app_in_flight(l->app));
    land(l);
    assert_true(l->app->txn_away);
    lab_batch_free(&a);
    launch(l, &a, APPEND("b"));
    land(l);
    l->app->dirty_since_ms = 0;
    app_tick(l->app);
    assert_true(app_in_flight(l->app));
    assert_int_equal(app_counts(l->app).db_commits, before + 1);
    land(l);
    assert_int_equal(app_counts(l->app).db_commits, before + 2);
    assert_true(l->app->txn_away && !app_in_flight(l->app));
    assert_true(lab_stream_is(l, "s", "ab"));
    lab_batch_free(&a);
    app_home(l->app);
    assert_false(l->app->txn_away);
    assert_int_equal(lab_run(l, APPEND("c")), 0); // at once
    assert_true(lab_stream_is(l, "s", "abc"));
}

static void a_commit_that_fails_in_flight_has_the_app_built_again(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a;
    launch(l, &a, APPEND("a"));
    land(l);
    commit(l);
    lab_batch_free(&a);
    launch(l, &a, APPEND("b"));
    land(l);
    disk_fail(DISK_WRITE | DISK_SYNC, "/db/", 1, EIO, 1);
    commit(l);
    assert_int_equal(disk_failed(), 1);
    assert_int_equal(app_state(l->app), APP_RECOVERING);
    assert_true(lab_recover(l));
    assert_true(lab_stream_is(l, "s", "ab"));
    lab_batch_free(&a);
}

// The app's thread is let go behind this, and a transaction ends on the thread that began it.
static void whoever_comes_home_has_nothing_with_the_thread_also_where_the_commit_fails(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a;
    launch(l, &a, APPEND("a"));
    land(l);
    commit(l);
    lab_batch_free(&a);
    launch(l, &a, APPEND("b"));
    land(l);
    assert_true(l->app->txn_away);
    disk_fail(DISK_WRITE | DISK_SYNC, "/db/", 1, ENOSPC, 1);
    app_home(l->app);
    assert_int_equal(disk_failed(), 1);
    assert_false(l->app->txn_away);
    assert_null(app_txn(l->app));
    assert_true(lab_recover(l));
    assert_true(lab_stream_is(l, "s", "ab"));
    lab_batch_free(&a);
}

static void what_the_journal_forgets_it_forgets_in_flight(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch a;
    char json[2000], text[1500];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    snprintf(json, sizeof json, "{'ops':[{'op':'insert','table':'n','values':{'t':'%s'}}]}", text);
    for (int i = 0; i < 400; i++) { // ten segments
        launch(l, &a, json);
        land(l);
        lab_batch_free(&a);
        if (i % 20 == 0) commit(l);
        for (app_tick(l->app); l->app->flight.task != FLIGHT_NONE; app_tick(l->app))
            app_land(l->app);
    }
    assert_true(app_counts(l->app).group_bytes > 400ul * 1500);
    assert_true(app_counts(l->app).journal_disk_bytes < 400ul * 1500 / 2);
}

// ---- which way -----------------------------------------------------------------------------------------------------

// One group, whose barrier is said to have taken so long. True: it was flown.
static bool group(struct app_lab *l, uint64_t took_us)
{
    struct lab_batch a;
    assert_int_equal(lab_submit(l, &a, APPEND("a")), 0);
    app_turn(l->app);
    bool flown = app_in_flight(l->app);
    if (flown) {
        app_flight_run(l->app);
        l->app->flight.took_us = took_us;
        app_flight_end(l->app);
    }
    assert_true(a.done);
    lab_batch_free(&a);
    return flown;
}

static void a_disk_that_turns_slow_or_quick_is_noticed(void **state)
{
    struct app_lab *l = *state;
    l->app->options.barrier = APP_BARRIER_AUTO;
    assert_true(group(l, 100000)); // one of a tenth of a second says it
    assert_true(group(l, 300));
    assert_int_equal(app_counts(l->app).slow, 1);
    int flown = 0;
    for (; flown < 200 && l->app->slow; flown++) // not one more, whose barrier takes what it takes
        assert_true(group(l, 300));
    assert_in_range(flown, 10, 60);
    assert_int_equal(app_counts(l->app).slow, 0);
    assert_in_range(app_counts(l->app).barrier_us, 300, 2000);
    disk_slow(20, "/journal/");
    group(l, 0);
    group(l, 0);
    disk_slow(0, "");
    assert_int_equal(app_counts(l->app).slow, 1);
}

static void where_nobody_flies_everything_is_at_once(void **state)
{
    struct app_lab *l = *state;
    l->app->options.barrier = APP_BARRIER_AUTO;
    l->app->options.fly = NULL;
    l->app->slow = false;
    disk_slow(20, "/journal/");
    assert_int_equal(lab_run(l, APPEND("a")), 0);
    assert_int_equal(lab_run(l, APPEND("b")), 0);
    disk_slow(0, "");
    assert_int_equal(app_counts(l->app).slow, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_said_before_the_landing),
        TEST(what_was_decided_before_is_answered_without_a_flight),
        TEST(who_waits_is_called_behind_the_answers_in_order),
        TEST(a_barrier_that_fails_in_flight_has_unknown_fates),
        TEST(a_kill_in_flight_leaves_all_or_nothing),
        TEST(an_app_is_closed_behind_the_landing),
        TEST(users_are_not_sent_away_in_flight),
        TEST(an_app_that_is_dropped_in_flight_still_says_what_is_durable),
        TEST(commits_are_flown_by_whoever_began),
        TEST(a_commit_that_fails_in_flight_has_the_app_built_again),
        TEST(whoever_comes_home_has_nothing_with_the_thread_also_where_the_commit_fails),
        TEST(what_the_journal_forgets_it_forgets_in_flight),
        TEST(a_disk_that_turns_slow_or_quick_is_noticed),
        TEST(where_nobody_flies_everything_is_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
