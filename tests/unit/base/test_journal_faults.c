// The journal's contract where the disk fails, or the process ends, at any call.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "disk.h"
#include "err.h"
#include "journal_rig.h"
#include "log.h"
#include "tmp.h"

// ---- faults ----------------------------------------------------------------------------------------------------

static const unsigned fault_ops[] = {DISK_WRITE, DISK_SYNC, DISK_ALLOCATE, DISK_RENAME, DISK_OPEN, DISK_UNLINK};
#define FAULT_OPS (sizeof fault_ops / sizeof *fault_ops)
static const int fault_errnos[] = {EIO, ENOSPC};

// One life under a fault: what was acknowledged, and which number is in doubt.
struct life {
    uint64_t acked;
    uint64_t recycled;
    bool doubt;
};

static void live(struct journal *j, struct life *life)
{
    for (int i = 0; i < 40; i++) {
        bool unknown = false;
        uint64_t number = journal_next_group(j);
        int err = jrig_try_append(j, 200 + (size_t)i * 97 % 3000, &unknown);
        if (err == 0) {
            assert_false(unknown);
            life->acked = number;
        } else if (unknown) {
            assert_true(err == ERR_IO || err == ERR_NO_SPACE);
            life->doubt = true;
            assert_int_equal(jrig_try_append(j, 10, &unknown), err); // never retried
            assert_true(unknown);
            assert_int_equal(journal_next_group(j), number);
            return;
        } else {
            assert_int_equal(err, ERR_NO_SPACE);
            assert_int_equal(journal_next_group(j), number);
        }
        if (i % 3 == 0) journal_prepare(j);
        if (i % 10 == 9 && number > 5) journal_recycle(j, life->recycled = number - 5);
    }
}

static void each_fault_while_writing_keeps_the_contract(void **state)
{
    struct jrig *f = *state;
    int fired = 0, doubts = 0;
    struct jrig_replay r;
    journal_close(f->j);
    f->j = NULL;
    for (unsigned e = 0; e < 2; e++) {
        for (unsigned o = 0; o < FAULT_OPS; o++) {
            for (uint32_t nth = 1;; nth++) {
                char *path = tmp_path(f->folder, "faulty");
                struct life life = {0};
                struct journal *j;
                assert_int_equal(jrig_try_open(&j, path, JRIG_SEGMENT, &r, NULL), 0);
                disk_fail(fault_ops[o], "faulty", nth, fault_errnos[e], 1);
                live(j, &life);
                uint32_t failed = disk_failed();
                disk_fail_clear();
                bool unknown;
                if (!life.doubt) { // what failed for want of room can go on
                    assert_int_equal(jrig_try_append(j, 5000, &unknown), 0);
                    life.acked = journal_next_group(j) - 1;
                }
                journal_close(j);
                r = jrig_look(path);
                if (r.next == 0) r.first = r.next = 1; // not one group came
                assert_in_range(r.next, life.acked + 1, life.acked + 1 + life.doubt);
                assert_in_range(r.first, 1, life.recycled + 1);
                tmp_remove(path);
                if (failed == 0) break;
                fired++;
                doubts += life.doubt;
            }
        }
    }
    assert_true(fired > 100);
    assert_true(doubts > 50);
}

static void a_full_disk_at_the_end_of_a_segment_says_so_and_can_be_tried_again(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    bool unknown = true;
    disk_fail(DISK_ALLOCATE, "", 1, ENOSPC, DISK_FOREVER);
    int err;
    while ((err = jrig_try_append(f->j, 1000, &unknown)) == 0)
        continue;
    assert_int_equal(err, ERR_NO_SPACE);
    assert_false(unknown);
    uint64_t next = journal_next_group(f->j);
    assert_int_equal(jrig_try_append(f->j, 1000, &unknown), ERR_NO_SPACE);
    assert_int_equal(jrig_count_names(f->path, ".tmp"), 0); // nothing is left behind
    jrig_append(f->j, 10);                                  // what still fits goes on
    disk_fail_clear();
    jrig_append(f->j, 1000);
    assert_int_equal(journal_next_group(f->j), next + 2);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, next + 2);
}

static void a_failed_barrier_is_never_retried(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    bool unknown = false;
    jrig_append(f->j, 100);
    disk_fail(DISK_SYNC, "", 1, EIO, 1);
    assert_int_equal(jrig_try_append(f->j, 100, &unknown), ERR_IO);
    assert_true(unknown);
    disk_fail(DISK_SYNC | DISK_WRITE, "", DISK_FOREVER, EIO, 1);
    unknown = false;
    assert_int_equal(jrig_try_append(f->j, 100, &unknown), ERR_IO);
    assert_true(unknown);
    assert_int_equal(disk_calls(), 0);
    disk_fail_clear();
    jrig_reopen(f, &r); // finds out what is there: here, the page cache had it
    assert_int_equal(r.next, 3);
    jrig_append(f->j, 100);
}

// From the nth call on the disk does nothing any more: as a kill at that point, for what is in the folder.
static void an_opening_that_stops_anywhere_can_be_done_again(void **state)
{
    struct jrig *f = *state;
    int fired = 0;
    struct jrig_replay r;
    for (int i = 0; i < 37; i++)
        jrig_append(f->j, 700);
    journal_recycle(f->j, 12); // so that there are spares
    for (int i = 0; i < 2; i++)
        jrig_append(f->j, 700);
    journal_close(f->j);
    f->j = NULL;
    for (unsigned once = 0; once < 2; once++) {
        for (uint32_t nth = 1;; nth++) {
            char *copy = jrig_copy(f, f->path);
            struct journal *j;
            disk_fail(DISK_ALL & ~(unsigned)DISK_OPEN, copy, nth, nth % 2 == 0 ? EIO : ENOSPC, once ? 1 : DISK_FOREVER);
            int err = jrig_try_open(&j, copy, JRIG_SEGMENT, &r, NULL);
            uint32_t failed = disk_failed();
            disk_fail_clear();
            if (err != 0) assert_int_equal(err, nth % 2 == 0 ? ERR_IO : ERR_NO_SPACE);
            if (err != 0) assert_true(r.next <= 39); // the last group is not shown before it is durable
            if (err == 0) journal_close(j);
            r = jrig_look(copy);
            assert_true(r.first <= 13);
            assert_int_equal(r.next, 40);
            r = jrig_look(copy);
            assert_int_equal(r.next, 40);
            tmp_remove(copy);
            if (failed == 0) break;
            fired++;
        }
    }
    assert_true(fired > 10);
}

// A folder as it is when the copy is there and the old segment still is too, the epoch not raised.
static void a_kill_between_copy_and_epoch_is_harmless_twice(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    for (int i = 0; i < 3; i++)
        jrig_append(f->j, 100);
    uint64_t epoch = journal_epoch(f->j);
    journal_close(f->j);
    f->j = NULL;
    for (int i = 0; i < 3; i++) {
        struct journal *j;
        disk_fail(DISK_WRITE, "JOURNAL", 1, EIO, 1);
        assert_int_equal(jrig_try_open(&j, f->path, JRIG_SEGMENT, &r, NULL), ERR_IO);
        assert_int_equal(disk_failed(), 1);
        disk_fail_clear();
        assert_int_equal(jrig_count_names(f->path, ".seg"), 2 + i); // all of them hold the same groups
    }
    jrig_open(f, &r);
    assert_int_equal(r.first, 1);
    assert_int_equal(r.next, 4);
    assert_int_equal(journal_epoch(f->j), epoch + 1);
    assert_int_equal(jrig_count_names(f->path, ".seg"), 1);
    jrig_append(f->j, 100);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 5);
}

static void without_room_for_the_tail_reading_only_still_works(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    struct journal *j = NULL;
    for (int i = 0; i < 3; i++)
        jrig_append(f->j, 100);
    journal_close(f->j);
    f->j = NULL;
    disk_fail(DISK_ALLOCATE | DISK_WRITE, "", 1, ENOSPC, DISK_FOREVER);
    assert_int_equal(jrig_try_open(&j, f->path, JRIG_SEGMENT, &r, NULL), ERR_NO_SPACE);
    struct journal_options o = {.path = f->path, .segment_bytes = JRIG_SEGMENT, .read_only = true};
    memset(&r, 0, sizeof r);
    assert_int_equal(journal_open(&j, &o, jrig_replay_one, &r, NULL), 0);
    assert_int_equal(r.next, 4);
    journal_close(j);
    disk_fail_clear();
    jrig_open(f, &r);
    assert_int_equal(r.next, 4);
}

static void making_a_journal_can_stop_anywhere(void **state)
{
    struct jrig *f = *state;
    for (uint32_t nth = 1;; nth++) {
        char *path = tmp_path(f->folder, "newborn");
        struct journal *j;
        struct jrig_replay r;
        disk_fail(DISK_ALL & ~(unsigned)DISK_OPEN, "newborn", nth, EIO, DISK_FOREVER);
        int err = jrig_try_open(&j, path, JRIG_SEGMENT, &r, NULL);
        uint32_t failed = disk_failed();
        disk_fail_clear();
        if (err == 0) journal_close(j);
        assert_int_equal(jrig_try_open(&j, path, JRIG_SEGMENT, &r, NULL), 0);
        jrig_append(j, 100);
        journal_close(j);
        assert_int_equal(jrig_look(path).next, 2);
        tmp_remove(path);
        if (failed == 0) break;
    }
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define T(name) cmocka_unit_test_setup_teardown(name, jrig_setup, jrig_teardown)
    const struct CMUnitTest tests[] = {
        T(each_fault_while_writing_keeps_the_contract),
        T(a_full_disk_at_the_end_of_a_segment_says_so_and_can_be_tried_again),
        T(a_failed_barrier_is_never_retried),
        T(an_opening_that_stops_anywhere_can_be_done_again),
        T(a_kill_between_copy_and_epoch_is_harmless_twice),
        T(without_room_for_the_tail_reading_only_still_works),
        T(making_a_journal_can_stop_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
