#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "stream_rig.h"
#include "stream_store.h"

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    rig_open(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

// Bytes of all segment files there are.
static uint64_t segment_bytes(const struct rig *r, uint32_t files)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < files; i++) {
        char name[SEGMENT_NAME_MAX];
        struct stat st;
        stream_segment_name(name, r->segments, i);
        if (stat(name, &st) == 0) sum += (uint64_t)st.st_size;
    }
    return sum;
}

static void only_what_is_due_is_planned(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "quiet");
    rig_create1(r, "busy");
    rig_create1(r, "closed");
    rig_append1(r, "quiet", "q");
    r->now_ms += STREAM_QUIET_MS;
    rig_append1(r, "busy", "b");
    rig_append1(r, "closed", "c");
    rig_shut1(r, "closed");
    assert_int_equal(streams_unsealed_bytes(r->s), 3);
    assert_true(rig_seal(r, false));
    assert_int_equal(streams_unsealed_bytes(r->s), 1);
    assert_false(rig_seal(r, false));
    assert_null(streams_seal_plan(r->s, r->txn, 0, false)); // a clock that went back makes nothing quiet
    assert_true(rig_seal(r, true));
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
    assert_false(rig_seal(r, true));
}

static void a_grown_stream_is_due_by_bytes_or_appends(void **state)
{
    struct rig *r = *state;
    static char text[300001];
    memset(text, 'y', 300000);
    rig_create1(r, "a");
    for (int i = 0; i < 4; i++) {
        assert_false(rig_seal(r, false));
        rig_append1(r, "a", text);
    }
    assert_true(rig_seal(r, false));
    for (uint32_t i = 0; i < SEGMENT_BOUNDS_MAX; i++) {
        if (i % 5000 == 0) assert_false(rig_seal(r, false));
        rig_append1(r, "a", "t");
    }
    assert_true(rig_seal(r, false));
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
}

static void the_oldest_unsealed_group_is_exact(void **state)
{
    struct rig *r = *state;
    assert_true(streams_unsealed_group(r->s) == UINT64_MAX);
    rig_create1(r, "a");
    rig_create1(r, "b");
    rig_append1(r, "a", "1"); // group 3
    rig_append1(r, "b", "2");
    rig_append1(r, "a", "3");
    assert_int_equal(streams_unsealed_group(r->s), 3);
    rig_shut1(r, "a");
    assert_true(rig_seal(r, false)); // a alone
    assert_int_equal(streams_unsealed_group(r->s), 4);
    rig_seal_all(r);
    assert_true(streams_unsealed_group(r->s) == UINT64_MAX);
    rig_append1(r, "b", "4"); // group 7
    assert_int_equal(streams_unsealed_group(r->s), 7);
}

static void appends_go_on_while_a_job_is_under_way(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_append1(r, "a", "one ");
    struct streams_seal *job = streams_seal_plan(r->s, r->txn, r->now_ms, true);
    assert_non_null(job);
    assert_null(streams_seal_plan(r->s, r->txn, r->now_ms, true)); // one at a time
    rig_append1(r, "a", "two ");
    rig_shut1(r, "a");
    assert_int_equal(streams_seal_write(job), 0);
    rig_delete1(r, "a");
    rig_create1(r, "a");
    rig_append1(r, "a", "other");
    rig_commit(r);
    streams_seal_done(r->s, r->txn, job, 0);
    assert_int_equal(streams_unsealed_bytes(r->s), 9);
    assert_int_equal(streams_unsealed_group(r->s), 3);
    assert_true(rig_holds(r, "a", "other"));
    rig_commit(r);
    rig_crash(r);
    assert_int_equal(streams_unsealed_bytes(r->s), 9);
    struct stream_info info;
    assert_true(rig_find_at(r, "a", 4, &info));
    assert_true(info.closed);
    assert_int_equal(info.offset, 8);
}

static void *write_job(void *job)
{
    return (void *)(intptr_t)streams_seal_write(job);
}

static void another_thread_may_write_while_the_owner_appends(void **state)
{
    struct rig *r = *state;
    struct buf want;
    buf_init(&want, 1 * MIB);
    rig_create1(r, "a");
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        char text[64];
        snprintf(text, sizeof text, "round %d;", round);
        rig_append1(r, "a", text);
        buf_put_str(&want, text);
        struct streams_seal *job = streams_seal_plan(r->s, r->txn, r->now_ms, true);
        assert_int_equal(pthread_create(&thread, NULL, write_job, job), 0);
        for (int i = 0; i < 50; i++) {
            rig_append1(r, "a", "more ");
            buf_put_str(&want, "more ");
        }
        void *err;
        pthread_join(thread, &err);
        streams_seal_done(r->s, r->txn, job, (int)(intptr_t)err);
    }
    buf_put_u8(&want, 0);
    assert_true(rig_holds(r, "a", (const char *)want.p));
    buf_free(&want);
}

static void a_failed_write_leaves_everything_unsealed(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_append1(r, "a", "sealed ");
    rig_seal_all(r);
    uint64_t before = segment_bytes(r, 4);
    rig_append1(r, "a", "not yet");
    struct streams_seal *job = streams_seal_plan(r->s, r->txn, r->now_ms, true);
    assert_int_equal(streams_seal_write(job), 0);
    streams_seal_done(r->s, r->txn, job, ERR_NO_SPACE);
    assert_int_equal(segment_bytes(r, 4), before); // it takes no room
    assert_int_equal(streams_unsealed_bytes(r->s), 7);
    assert_int_equal(streams_unsealed_group(r->s), 3);
    assert_true(rig_holds(r, "a", "sealed not yet"));
    assert_int_equal(r->s->alloc.file, 1); // its position is not used again
    rig_seal_all(r);
    assert_true(rig_holds(r, "a", "sealed not yet"));
    rig_commit(r);
    rig_crash(r);
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
    assert_true(rig_holds(r, "a", "sealed not yet"));
}

static void an_unwritable_folder_fails_the_job(void **state)
{
    struct rig *r = *state;
    char name[SEGMENT_NAME_MAX];
    rig_create1(r, "a");
    rig_append1(r, "a", "text");
    stream_segment_name(name, r->segments, 0);
    assert_int_equal(mkdir(name, 0700), 0); // where the file should be
    struct streams_seal *job = streams_seal_plan(r->s, r->txn, r->now_ms, true);
    int err = streams_seal_write(job);
    assert_true(err < 0);
    streams_seal_done(r->s, r->txn, job, err);
    assert_int_equal(streams_unsealed_bytes(r->s), 4);
    rig_seal_all(r);
    assert_true(rig_holds(r, "a", "text"));
}

static void a_sealing_that_a_crash_forgets_is_done_again(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_append1(r, "a", "one");
    rig_commit(r);
    rig_seal_all(r);
    uint64_t size = segment_bytes(r, 4);
    assert_true(size > 0);
    rig_crash(r); // the index was not committed
    assert_int_equal(segment_bytes(r, 4), 0);
    assert_int_equal(streams_unsealed_bytes(r->s), 3);
    assert_int_equal(streams_unsealed_group(r->s), 2);
    rig_seal_all(r);
    assert_int_equal(segment_bytes(r, 4), size);
    rig_commit(r);
    rig_crash(r);
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
    assert_true(rig_holds(r, "a", "one"));
}

static void jobs_are_bounded_and_files_roll(void **state)
{
    struct rig *r = *state;
    uint8_t *much = calloc(1, STREAM_APPEND_MAX);
    int jobs = 0;
    uint32_t x = 1;
    for (size_t i = 0; i < STREAM_APPEND_MAX; i++) // what does not pack
        much[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    rig_create1(r, "a");
    for (int i = 0; i < 20; i++) {
        rig_begin(r);
        assert_int_equal(rig_append(r, "a", SPAN(much, STREAM_APPEND_MAX), NULL), 0);
        rig_end(r);
    }
    while (rig_seal(r, false))
        jobs++;
    assert_int_equal(jobs, 10); // of 8 MiB
    assert_int_equal(r->s->alloc.file, 1);
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
    assert_true(segment_bytes(r, 1) >= STREAM_SEGMENT_BYTES);
    free(much);
}

static void a_damaged_record_is_told_not_returned(void **state)
{
    struct rig *r = *state;
    struct buf b;
    struct stream_info info;
    char name[SEGMENT_NAME_MAX];
    rig_create1(r, "a");
    rig_append1(r, "a", "precious");
    rig_append1(r, "a", " bytes");
    rig_seal_all(r); // a record of its own
    rig_create1(r, "b");
    rig_append1(r, "b", "unharmed");
    rig_seal_all(r);
    stream_segment_name(name, r->segments, 0);
    int fd = file_open(name, 2);
    assert_true(fd >= 0);
    assert_int_equal(file_write(fd, SPAN_LIT("P"), 56), 0);
    file_close(fd);
    buf_init(&b, 100);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("a"), 0, 100, &b), ERR_CORRUPT);
    assert_int_equal(b.n, 0);
    assert_false(rig_find_at(r, "a", 2, &info)); // it would have to look into the record
    assert_true(rig_find_at(r, "a", 3, &info));  // and this it knows without
    assert_true(rig_holds(r, "b", "unharmed"));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_is_due_is_planned, setup, teardown),
        cmocka_unit_test_setup_teardown(a_grown_stream_is_due_by_bytes_or_appends, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_unsealed_group_is_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(appends_go_on_while_a_job_is_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(another_thread_may_write_while_the_owner_appends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_leaves_everything_unsealed, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unwritable_folder_fails_the_job, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sealing_that_a_crash_forgets_is_done_again, setup, teardown),
        cmocka_unit_test_setup_teardown(jobs_are_bounded_and_files_roll, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_record_is_told_not_returned, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
