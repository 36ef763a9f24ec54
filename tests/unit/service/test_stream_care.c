#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "app_lab.h"
#include "err.h"
#include "file.h"
#include "stream_care.h"

struct care_lab {
    struct app_lab app;
    struct stream_care care;
};

static int setup(void **state)
{
    struct care_lab *l = calloc(1, sizeof *l);
    app_lab_init(&l->app);
    app_lab_open(&l->app);
    stream_care_init(&l->care, l->app.app);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    struct care_lab *l = *state;
    app_lab_close(&l->app);
    app_lab_free(&l->app);
    free(l);
    return 0;
}

static void create(struct care_lab *l, const char *path, bool has_ttl, uint64_t ttl_s)
{
    struct batch_op op = {.kind = BATCH_CREATE, .stream = {.path = SPAN_STR(path), .has_ttl = has_ttl, .ttl_s = ttl_s}};
    assert_int_equal(lab_ops(&l->app, &op, 1, NULL), 0);
}

static bool find(struct care_lab *l, const char *path, struct stream_info *info)
{
    return streams_find(app_streams(l->app.app), app_txn(l->app.app), SPAN_STR(path), info);
}

static void a_read_moves_the_deadline_once_it_is_flushed(void **state)
{
    struct care_lab *l = *state;
    struct stream_info before, after;
    create(l, "s", true, 100);
    assert_true(find(l, "s", &before));
    uint64_t later = before.deadline_ms - 1;
    assert_false(stream_care_past(&l->care, &before, later));
    assert_true(stream_care_past(&l->care, &before, later + 1));
    stream_care_note(&l->care, &before, later);
    assert_false(stream_care_past(&l->care, &before, later + 1)); // a note counts at once …
    stream_care_flush(&l->care);
    assert_false(stream_care_past(&l->care, &before, later + 1)); // … and under way
    app_turn(l->app.app);
    assert_true(find(l, "s", &after));
    assert_int_equal(after.deadline_ms, later + 100000); // … and is kept then
    assert_null(l->care.flushes);
    assert_int_equal(l->care.count, 0);
}

static void many_reads_are_one_note_and_streams_without_a_ttl_none(void **state)
{
    struct care_lab *l = *state;
    struct stream_info ttl, plain;
    create(l, "s", true, 100);
    create(l, "plain", false, 0);
    assert_true(find(l, "s", &ttl) && find(l, "plain", &plain));
    for (int i = 0; i < 1000; i++) {
        stream_care_note(&l->care, &ttl, ttl.created_ms + (uint64_t)i);
        stream_care_note(&l->care, &plain, ttl.created_ms);
    }
    assert_int_equal(l->care.count, 1);
    assert_false(stream_care_past(&l->care, &plain, UINT64_MAX));
    stream_care_flush(&l->care);
    app_turn(l->app.app);
}

static void what_nobody_reads_is_deleted_when_its_time_is_over(void **state)
{
    struct care_lab *l = *state;
    struct stream_info info;
    create(l, "over", true, 0);
    create(l, "stays", true, 100);
    assert_true(find(l, "over", &info));
    assert_true(stream_care_past(&l->care, &info, clock_wall_ms()));
    streams_flush(app_streams(l->app.app), app_txn(l->app.app)); // as every commit of the database does: deadlines are found from there on
    stream_care_tick(&l->care, clock_wall_ms() + 1);
    app_turn(l->app.app);
    assert_false(find(l, "over", &info));
    assert_true(find(l, "stays", &info));
}

// As many streams that are over as `n`, and one that is followed.
static struct feed_sub *follow_among(struct care_lab *l, int n, struct stream_info *info)
{
    struct feed_sub *sub;
    char path[16];
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "over/%d", i);
        create(l, path, true, 0);
    }
    create(l, "followed", true, 100);
    assert_true(find(l, "followed", info));
    assert_int_equal(streams_attach(app_streams(l->app.app), app_txn(l->app.app), SPAN_LIT("followed"), 0, false, 0, &sub, NULL), 0);
    streams_flush(app_streams(l->app.app), app_txn(l->app.app));
    return sub;
}

static void tick(struct care_lab *l, uint64_t now_ms)
{
    stream_care_tick(&l->care, now_ms);
    app_turn(l->app.app);
    streams_flush(app_streams(l->app.app), app_txn(l->app.app));
}

static void who_is_followed_is_saved_however_many_others_are_over(void **state)
{
    struct care_lab *l = *state;
    struct stream_info before, after;
    struct feed_sub *sub = follow_among(l, 600, &before);
    tick(l, before.deadline_ms - 1000);
    assert_true(find(l, "followed", &after));
    assert_int_equal(after.deadline_ms, before.deadline_ms - 1000 + 100000);
    assert_true(stream_care_busy(&l->care));
    sub->feed->ops->detach(sub);
}

static void all_that_is_over_goes_in_shares_beside_one_that_is_saved_each_time(void **state)
{
    struct care_lab *l = *state;
    struct stream_info info;
    struct feed_sub *sub = follow_among(l, 600, &info);
    int ticks = 0;
    do {
        assert_true(find(l, "followed", &info));
        tick(l, info.deadline_ms - 1000);
        ticks++;
    } while (stream_care_busy(&l->care));
    assert_in_range(ticks, 2, 4); // not all at once
    assert_false(find(l, "over/0", &info) || find(l, "over/599", &info));
    assert_true(find(l, "followed", &info));
    sub->feed->ops->detach(sub);
}

static void more_notes_than_there_is_room_for_go_in_several_batches(void **state)
{
    struct care_lab *l = *state;
    struct stream_info info = {.has_ttl = true, .ttl_s = 1};
    for (uint64_t i = 0; i < 3 * CARE_NOTES_MAX; i++) {
        info.number = 1000 + i; // there are no such streams: nothing happens to them
        stream_care_note(&l->care, &info, 1);
    }
    assert_int_equal(l->care.flush_count, 2);
    stream_care_flush(&l->care);
    app_turn(l->app.app);
    assert_int_equal(l->care.flush_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_read_moves_the_deadline_once_it_is_flushed, setup, teardown),
        cmocka_unit_test_setup_teardown(many_reads_are_one_note_and_streams_without_a_ttl_none, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_reads_is_deleted_when_its_time_is_over, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_followed_is_saved_however_many_others_are_over, setup, teardown),
        cmocka_unit_test_setup_teardown(all_that_is_over_goes_in_shares_beside_one_that_is_saved_each_time, setup, teardown),
        cmocka_unit_test_setup_teardown(more_notes_than_there_is_room_for_go_in_several_batches, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
