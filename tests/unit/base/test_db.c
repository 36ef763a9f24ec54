#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "db.h"
#include "disk.h"
#include "err.h"
#include "limits.h"
#include "log.h"
#include "tmp.h"

enum { ROWS, INDEX, TABLES };
static const char *const tables[] = {"rows", "index"};

struct fix {
    char *folder;
    char *path;
    struct db *db;
};

static struct db *open_sized(const char *path, uint64_t map_bytes)
{
    struct db *db = NULL;
    struct db_options o = {.path = path, .map_bytes = map_bytes, .tables = tables, .table_count = TABLES};
    assert_int_equal(db_open(&db, &o), 0);
    return db;
}

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    f->folder = tmp_make();
    f->path = tmp_path(f->folder, "deep/state");
    f->db = open_sized(f->path, 64 * MIB);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    disk_fail_clear();
    db_close(f->db);
    free(f->path);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

static void reopen(struct fix *f)
{
    db_close(f->db);
    f->db = open_sized(f->path, 64 * MIB);
}

static void put(struct db_txn *t, const char *key, const char *value)
{
    db_put(t, ROWS, SPAN_STR(key), SPAN_STR(value));
}

static void assert_value(struct db_txn *t, const char *key, const char *value)
{
    struct span v;
    assert_true(db_get(t, ROWS, SPAN_STR(key), &v));
    assert_true(span_is(v, value));
}

static void assert_absent(struct db_txn *t, const char *key)
{
    struct span v;
    assert_false(db_get(t, ROWS, SPAN_STR(key), &v));
}

static void committed_values_are_there_after_reopening(void **state)
{
    struct fix *f = *state;
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    put(t, "b", "");
    db_put(t, INDEX, SPAN_LIT("a"), SPAN_LIT("other table"));
    memcpy(db_put_reserve(t, ROWS, SPAN_LIT("c"), 5), "three", 5);
    assert_value(t, "c", "three");
    assert_int_equal(db_commit(t), 0);
    reopen(f);
    t = db_begin_read(f->db);
    assert_value(t, "a", "one");
    assert_value(t, "b", "");
    assert_value(t, "c", "three");
    assert_absent(t, "d");
    assert_int_equal(db_txn_err(t), 0);
    db_abort(t);
}

static void an_aborted_transaction_leaves_nothing(void **state)
{
    struct fix *f = *state;
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    db_abort(t);
    t = db_begin_read(f->db);
    assert_absent(t, "a");
    db_abort(t);
}

static void a_snapshot_does_not_see_later_commits(void **state)
{
    struct fix *f = *state;
    struct db_txn *r = db_begin_read(f->db);
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    assert_absent(r, "a");
    assert_int_equal(db_commit(t), 0);
    assert_absent(r, "a");
    db_abort(r);
    r = db_begin_read(f->db);
    assert_value(r, "a", "one");
    db_abort(r);
}

static void deleting_an_absent_key_is_fine(void **state)
{
    struct fix *f = *state;
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    db_del(t, ROWS, SPAN_LIT("nothing"));
    db_del(t, ROWS, SPAN_LIT("a"));
    assert_absent(t, "a");
    assert_int_equal(db_commit(t), 0);
}

static void a_full_map_is_sticky_and_commits_nothing(void **state)
{
    struct fix *f = *state;
    db_close(f->db);
    char *path = tmp_path(f->folder, "small");
    f->db = open_sized(path, 256 * KIB);
    static uint8_t large[20000];
    struct db_txn *t = db_begin_write(f->db);
    for (uint32_t i = 0; i < 100; i++)
        db_put(t, ROWS, SPAN(&i, sizeof i), SPAN(large, sizeof large));
    assert_int_equal(db_txn_err(t), ERR_MAP_FULL);
    uint32_t first = 0;
    struct span v;
    assert_false(db_get(t, ROWS, SPAN(&first, sizeof first), &v)); // it was put, but reads find nothing now
    assert_null(db_put_reserve(t, ROWS, SPAN_LIT("x"), 1));
    struct db_iter it;
    db_iter_init(&it, t, ROWS);
    assert_false(db_iter_first(&it));
    assert_false(db_iter_next(&it));
    assert_false(db_iter_seek(&it, SPAN_LIT("a")));
    db_iter_end(&it);
    assert_int_equal(db_commit(t), ERR_MAP_FULL);

    t = db_begin_write(f->db); // and the next transaction is fine again
    put(t, "a", "one");
    assert_false(db_get(t, ROWS, SPAN(&first, sizeof first), &v));
    assert_int_equal(db_commit(t), 0);
    free(path);
}

static void an_error_while_iterating_ends_the_iteration(void **state)
{
    struct fix *f = *state;
    db_close(f->db);
    char *path = tmp_path(f->folder, "small");
    f->db = open_sized(path, 256 * KIB);
    static uint8_t large[300000];
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    put(t, "b", "two");
    struct db_iter it;
    db_iter_init(&it, t, ROWS);
    assert_true(db_iter_first(&it));
    db_put(t, ROWS, SPAN_LIT("c"), SPAN(large, sizeof large));
    assert_false(db_iter_next(&it));
    assert_false(db_iter_prev(&it));
    db_iter_end(&it);
    assert_int_equal(db_commit(t), ERR_MAP_FULL);
    free(path);
}

static void each_failing_call_of_a_commit_loses_that_commit_alone(void **state)
{
    struct fix *f = *state;
    static const int errnums[] = {EIO, ENOSPC};
    struct db_txn *t = db_begin_write(f->db);
    put(t, "kept", "yes");
    assert_int_equal(db_commit(t), 0);
    for (unsigned e = 0; e < 2; e++) {
        for (uint32_t nth = 1;; nth++) {
            disk_fail(DISK_WRITE | DISK_SYNC, "data.mdb", nth, errnums[e], 1);
            t = db_begin_write(f->db);
            put(t, "lost", "no");
            int err = db_commit(t);
            uint32_t failed = disk_failed();
            disk_fail_clear();
            if (failed == 0) {
                assert_int_equal(err, 0);
                assert_true(nth > 2); // a write and a barrier at least
                break;
            }
            assert_int_equal(err, errnums[e] == EIO ? ERR_IO : ERR_NO_SPACE);
            reopen(f);
            t = db_begin_read(f->db);
            assert_value(t, "kept", "yes");
            assert_absent(t, "lost");
            db_abort(t);
        }
        t = db_begin_write(f->db);
        db_del(t, ROWS, SPAN_LIT("lost"));
        assert_int_equal(db_commit(t), 0);
    }
}

static void a_failing_sync_is_told(void **state)
{
    struct fix *f = *state;
    assert_int_equal(db_sync(f->db), 0);
    disk_fail(DISK_SYNC, "data.mdb", 1, EIO, DISK_FOREVER);
    assert_int_equal(db_sync(f->db), ERR_IO);
}

static void sync_reaches_the_disk(void **state)
{
    struct fix *f = *state;
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    assert_int_equal(db_commit(t), 0);
    disk_fail(DISK_SYNC, "data.mdb", DISK_FOREVER, EIO, 1); // counts only
    assert_int_equal(db_sync(f->db), 0);
    assert_int_equal(disk_calls(), 1);
}

static void a_commit_waits_for_its_data(void **state)
{
    struct fix *f = *state;
    disk_fail(DISK_SYNC, "data.mdb", DISK_FOREVER, EIO, 1);
    struct db_txn *t = db_begin_write(f->db);
    put(t, "a", "one");
    assert_int_equal(db_commit(t), 0);
    assert_int_equal(disk_calls(), 1); // the data; the meta page waits for the next one
}

static void opening_fails_where_the_disk_does(void **state)
{
    struct fix *f = *state;
    char *path = tmp_path(f->folder, "another");
    struct db_options o = {.path = path, .map_bytes = 16 * MIB, .tables = tables, .table_count = TABLES};
    for (uint32_t nth = 1;; nth++) {
        struct db *db = NULL;
        disk_fail(DISK_WRITE | DISK_SYNC | DISK_MKDIR, "another", nth, ENOSPC, 1);
        int err = db_open(&db, &o);
        uint32_t failed = disk_failed();
        disk_fail_clear();
        if (failed == 0) {
            assert_int_equal(err, 0);
            db_close(db);
            break;
        }
        assert_int_equal(err, ERR_NO_SPACE);
        assert_null(db);
    }
    free(path);
}

#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
static void a_refused_reservation_is_tried_smaller(void **state)
{
    struct fix *f = *state;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {8ull << 30, 8ull << 30};
        char *path = tmp_path(f->folder, "limited");
        struct db_options o = {.path = path, .map_bytes = 64ull << 30, .tables = tables, .table_count = TABLES};
        struct db *db = NULL;
        fclose(stderr);
        if (setrlimit(RLIMIT_AS, &limit) != 0 || db_open(&db, &o) != 0) _exit(1);
        struct db_txn *t = db_begin_write(db);
        put(t, "a", "one");
        _exit(db_commit(t) == 0 ? 0 : 2);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}
#endif

static void garbage_is_corrupt_not_a_crash(void **state)
{
    struct fix *f = *state;
    char *path = tmp_path(f->folder, "bad"), *file = tmp_path(f->folder, "bad/data.mdb");
    struct db_options o = {.path = path, .map_bytes = 16 * MIB, .tables = tables, .table_count = TABLES};
    struct db *db = NULL;
    db_close(open_sized(path, 16 * MIB));
    FILE *out = fopen(file, "r+b");
    for (int i = 0; i < 8192; i++)
        fputc('x', out);
    fclose(out);
    assert_int_equal(db_open(&db, &o), ERR_CORRUPT);
    free(path);
    free(file);
}

static void a_killed_readers_slot_is_cleared_at_open(void **state)
{
    struct fix *f = *state;
    // More killed readers than LMDB has slots: without clearing, reading would fail at the end.
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct db_options o = {.path = f->path, .map_bytes = 64 * MIB, .tables = tables, .table_count = TABLES};
            struct db *db = NULL;
            if (db_open(&db, &o) != 0) _exit(1);
            struct db_txn *t = db_begin_read(db);
            _exit(db_txn_err(t) == 0 ? 0 : 2);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
}

static void *abort_elsewhere(void *t)
{
    db_abort(t);
    return NULL;
}

static void a_transaction_used_on_another_thread_is_a_bug(void **state)
{
    struct fix *f = *state;
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        fclose(stderr); // the assertion's words
        if (pthread_create(&thread, NULL, abort_elsewhere, db_begin_read(f->db)) == 0) pthread_join(thread, NULL);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

// ---- iteration -------------------------------------------------------------------------------------------------

static void fill(struct fix *f, int n, int step)
{
    struct db_txn *t = db_begin_write(f->db);
    for (int i = 0; i < n; i++) {
        char key[16];
        snprintf(key, sizeof key, "%06d", i * step);
        put(t, key, key);
    }
    assert_int_equal(db_commit(t), 0);
}

static int key_number(const struct db_iter *it)
{
    char text[16] = "";
    assert_true(it->key.n < sizeof text);
    memcpy(text, it->key.p, it->key.n);
    return atoi(text);
}

static void iteration_goes_both_ways_in_order(void **state)
{
    struct fix *f = *state;
    struct db_iter it;
    fill(f, 1000, 10);
    struct db_txn *t = db_begin_read(f->db);
    db_iter_init(&it, t, ROWS);
    int n = 0;
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        assert_int_equal(key_number(&it), 10 * n++);
    assert_int_equal(n, 1000);
    for (bool more = db_iter_last(&it); more; more = db_iter_prev(&it))
        assert_int_equal(key_number(&it), 10 * --n);
    assert_int_equal(n, 0);
    assert_true(db_iter_seek(&it, SPAN_LIT("000055")));
    assert_int_equal(key_number(&it), 60);
    assert_true(db_iter_seek(&it, SPAN_LIT("000060")));
    assert_int_equal(key_number(&it), 60);
    assert_false(db_iter_seek(&it, SPAN_LIT("999999")));
    assert_true(db_iter_seek_before(&it, SPAN_LIT("000060")));
    assert_int_equal(key_number(&it), 50);
    assert_true(db_iter_seek_before(&it, SPAN_LIT("999999")));
    assert_int_equal(key_number(&it), 9990);
    assert_false(db_iter_seek_before(&it, SPAN_LIT("000000")));
    db_iter_end(&it);
    db_iter_init(&it, t, INDEX);
    assert_false(db_iter_first(&it));
    assert_false(db_iter_last(&it));
    assert_false(db_iter_seek_before(&it, SPAN_LIT("x")));
    db_iter_end(&it);
    db_abort(t);
}

static void deleting_the_current_key_skips_and_repeats_nothing(void **state)
{
    struct fix *f = *state;
    fill(f, 3000, 1);
    struct db_txn *t = db_begin_write(f->db);
    struct db_iter it;
    db_iter_init(&it, t, ROWS);
    int expect = 0;
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        char key[16];
        assert_int_equal(key_number(&it), expect++);
        memcpy(key, it.key.p, it.key.n);
        if (expect % 3 != 0) db_del(t, ROWS, SPAN(key, it.key.n));
    }
    assert_int_equal(expect, 3000);
    expect = 2999;
    for (bool more = db_iter_last(&it); more; more = db_iter_prev(&it)) { // backwards over what is left
        assert_int_equal(key_number(&it), expect);
        expect -= 3;
        db_del(t, ROWS, it.key);
    }
    assert_int_equal(expect, -1);
    assert_false(db_iter_first(&it));
    db_iter_end(&it);
    assert_int_equal(db_commit(t), 0);
}

static void a_key_put_behind_a_deleted_current_one_is_met(void **state)
{
    struct fix *f = *state;
    fill(f, 10, 10);
    struct db_txn *t = db_begin_write(f->db);
    struct db_iter it;
    db_iter_init(&it, t, ROWS);
    assert_true(db_iter_seek(&it, SPAN_LIT("000050")));
    db_del(t, ROWS, SPAN_LIT("000050"));
    put(t, "000055", "new");
    put(t, "000045", "new");
    assert_true(db_iter_next(&it));
    assert_int_equal(key_number(&it), 55);
    assert_true(db_iter_prev(&it));
    assert_int_equal(key_number(&it), 45);
    db_iter_end(&it);
    db_abort(t);
}

// Random writes under a standing iterator, compared with a plain array.
static void random_writes_do_not_lead_an_iterator_astray(void **state)
{
    struct fix *f = *state;
    enum { SPACE = 2000 };
    static bool there[SPACE];
    static const char padding[80];
    uint32_t x = 1;
    fill(f, SPACE, 1);
    memset(there, 1, sizeof there);
    struct db_txn *t = db_begin_write(f->db);
    struct db_iter it;
    db_iter_init(&it, t, ROWS);
    assert_true(db_iter_first(&it));
    int at = 0;
    for (int step = 0; step < 20000; step++) {
        x = x * 1664525 + 1013904223;
        int i = (int)(x >> 8) % SPACE;
        if (step % 4 == 0) i = at; // often the current one itself
        char key[16];
        snprintf(key, sizeof key, "%06d", i);
        there[i] = (x >> 28) >= 9;
        if (there[i])
            db_put(t, ROWS, SPAN_STR(key), SPAN(padding, x % sizeof padding));
        else
            db_del(t, ROWS, SPAN_STR(key));
        if (step % 3 != 0) continue;
        bool forward = (x & 0x1000) != 0;
        int expect = forward ? at + 1 : at - 1;
        while (expect >= 0 && expect < SPACE && !there[expect])
            expect += forward ? 1 : -1;
        bool found = forward ? db_iter_next(&it) : db_iter_prev(&it);
        assert_int_equal(found, expect >= 0 && expect < SPACE);
        if (!found) found = db_iter_first(&it);
        if (!found) break;
        at = key_number(&it);
        if (expect >= 0 && expect < SPACE) assert_int_equal(at, expect);
    }
    db_iter_end(&it);
    db_abort(t);
}

// ---- the estimate ----------------------------------------------------------------------------------------------

static uint64_t dirty_after(struct fix *f, int n, bool random, size_t value_bytes)
{
    static uint8_t value[100000];
    struct db_txn *t = db_begin_write(f->db);
    uint32_t x = 7;
    for (int i = 0; i < n; i++) {
        char key[16];
        x = x * 1664525 + 1013904223;
        snprintf(key, sizeof key, "%06d", random ? (int)(x >> 8) % 100000 : 200000 + i);
        db_put(t, ROWS, SPAN_STR(key), SPAN(value, value_bytes));
    }
    uint64_t dirty = db_dirty_bytes(t);
    assert_int_equal(db_commit(t), 0);
    return dirty;
}

static void dirty_bytes_follow_pages_not_puts(void **state)
{
    struct fix *f = *state;
    struct db_txn *t = db_begin_write(f->db);
    assert_int_equal(db_dirty_bytes(t), 0);
    db_abort(t);
    fill(f, 100000, 1);
    uint64_t dense = dirty_after(f, 1000, false, 20); // about 12 pages
    uint64_t sparse = dirty_after(f, 1000, true, 6);  // most of the table's 500 or so
    assert_in_range(dense, 8 * 4096, 60 * 4096);
    assert_in_range(sparse, 300 * 4096, 2200 * 4096);
    uint64_t large = dirty_after(f, 3, false, 50000);
    assert_in_range(large, 150000, 250000);
    t = db_begin_write(f->db);
    db_del(t, ROWS, SPAN_LIT("000001"));
    assert_true(db_dirty_bytes(t) > 0);
    db_abort(t);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(committed_values_are_there_after_reopening),
        T(an_aborted_transaction_leaves_nothing),
        T(a_snapshot_does_not_see_later_commits),
        T(deleting_an_absent_key_is_fine),
        T(a_full_map_is_sticky_and_commits_nothing),
        T(an_error_while_iterating_ends_the_iteration),
        T(each_failing_call_of_a_commit_loses_that_commit_alone),
        T(a_failing_sync_is_told),
        T(sync_reaches_the_disk),
        T(a_commit_waits_for_its_data),
        T(opening_fails_where_the_disk_does),
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ // they reserve far more themselves
        T(a_refused_reservation_is_tried_smaller),
#endif
        T(garbage_is_corrupt_not_a_crash),
        T(a_killed_readers_slot_is_cleared_at_open),
        T(a_transaction_used_on_another_thread_is_a_bug),
        T(iteration_goes_both_ways_in_order),
        T(deleting_the_current_key_skips_and_repeats_nothing),
        T(a_key_put_behind_a_deleted_current_one_is_met),
        T(random_writes_do_not_lead_an_iterator_astray),
        T(dirty_bytes_follow_pages_not_puts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
