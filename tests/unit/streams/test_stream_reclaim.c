#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "err.h"
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

static uint64_t file_bytes(const struct rig *r, uint32_t file)
{
    char name[SEGMENT_NAME_MAX];
    struct stat st;
    stream_segment_name(name, r->segments, file);
    return stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static size_t index_entries(const struct rig *r)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, r->txn, r->s->table_index);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        n++;
    db_iter_end(&it);
    return n;
}

static void commit(struct rig *r)
{
    rig_commit(r);
    streams_committed(r->s);
}

// Everything that can be given back, is.
static void settle(struct rig *r)
{
    for (int i = 0; i < 1000 && streams_reclaiming(r->s); i++) {
        streams_reclaim(r->s, r->txn);
        rig_seal(r, false);
        commit(r);
    }
    assert_false(streams_reclaiming(r->s));
}

static void fill(struct rig *r, const char *path, size_t n, uint32_t x)
{
    uint8_t *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    rig_create1(r, path);
    for (size_t at = 0; at < n; at += 1 * MIB) {
        rig_begin(r);
        assert_int_equal(rig_append(r, path, SPAN(p + at, n - at < 1 * MIB ? n - at : 1 * MIB), NULL), 0);
        rig_end(r);
        if (at % (8 * MIB) == 0) rig_seal_all(r);
    }
    free(p);
    rig_seal_all(r);
}

static void a_quiet_stream_that_grows_slowly_has_few_parts(void **state)
{
    struct rig *r = *state;
    char text[8];
    struct buf want;
    buf_init(&want, 1 * MIB);
    rig_create1(r, "a");
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "%03d ", i);
        rig_append1(r, "a", text);
        buf_put_str(&want, text);
        rig_seal_all(r);
    }
    assert_true(index_entries(r) <= 10);
    buf_put_u8(&want, 0);
    assert_true(rig_holds(r, "a", (const char *)want.p));
    struct stream_info info;
    assert_true(rig_find_at(r, "a", 500, &info)); // the boundaries are all there
    assert_int_equal(info.offset, 499 * 4);
    commit(r);
    rig_crash(r);
    assert_true(rig_holds(r, "a", (const char *)want.p));
    buf_free(&want);
}

static void a_deleted_streams_bytes_are_given_back(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    fill(r, "a", 70 * MIB, 1);
    rig_create1(r, "small");
    rig_append1(r, "small", "kept");
    rig_seal_all(r);
    commit(r);
    assert_true(file_bytes(r, 0) >= STREAM_SEGMENT_BYTES);
    uint64_t seq = r->seq - 10;
    rig_delete1(r, "a");
    assert_true(rig_find_at(r, "a", seq, &info));
    assert_true(streams_reclaiming(r->s));
    assert_true(streams_reclaim(r->s, r->txn));
    while (streams_reclaim(r->s, r->txn) && file_bytes(r, 0) > 0)
        commit(r);
    assert_int_equal(file_bytes(r, 0), 0);
    assert_int_equal(index_entries(r), 1);
    assert_true(rig_find_at(r, "a", seq, &info)); // it was there; where it ended then is not known any more
    assert_int_equal(info.offset, 70 * MIB);
    assert_false(rig_find(r, "a", &info));
    rig_create1(r, "a");
    assert_true(rig_find(r, "a", &info));
    assert_int_equal(info.offset, 0);
    assert_true(rig_holds(r, "small", "kept"));
    commit(r);
    rig_crash(r);
    assert_true(rig_holds(r, "small", "kept"));
}

static void a_file_goes_two_commits_after_it_was_given_up(void **state)
{
    struct rig *r = *state;
    fill(r, "a", 65 * MIB, 1);
    commit(r);
    rig_delete1(r, "a");
    while (r->s->leftover_count == 0)
        assert_true(streams_reclaim(r->s, r->txn));
    assert_true(file_bytes(r, 0) > 0);
    commit(r);
    assert_true(file_bytes(r, 0) > 0); // this commit may be lost
    commit(r);
    assert_int_equal(file_bytes(r, 0), 0);
}

static void a_crash_before_the_file_is_removed_leaves_nothing_behind(void **state)
{
    struct rig *r = *state;
    fill(r, "a", 65 * MIB, 1);
    commit(r);
    rig_delete1(r, "a");
    while (r->s->leftover_count == 0)
        streams_reclaim(r->s, r->txn);
    rig_crash(r); // not committed: the marks and counts are as they were
    assert_true(file_bytes(r, 0) > 0);
    while (r->s->leftover_count == 0)
        assert_true(streams_reclaim(r->s, r->txn));
    commit(r);
    rig_crash(r); // committed, and forgotten before the second
    assert_true(file_bytes(r, 0) > 0);
    assert_int_equal(r->s->leftover_count, 1);
    settle(r);
    assert_int_equal(file_bytes(r, 0), 0);
}

static void a_file_that_is_mostly_dead_is_emptied(void **state)
{
    struct rig *r = *state;
    char path[32];
    rig_create1(r, "keep");
    rig_append1(r, "keep", "these few bytes stay");
    for (int i = 0; i < 20; i++) { // many small ones in shared records, half of which will go
        snprintf(path, sizeof path, "some/%d", i);
        rig_create1(r, path);
        rig_append1(r, path, path);
    }
    fill(r, "a", 66 * MIB, 1);
    commit(r);
    rig_delete1(r, "a");
    for (int i = 0; i < 20; i += 2) {
        snprintf(path, sizeof path, "some/%d", i);
        rig_delete1(r, path);
    }
    settle(r);
    assert_int_equal(file_bytes(r, 0), 0);
    assert_true(file_bytes(r, 1) < 2 * MIB + 65536);
    for (int turn = 0; turn < 2; turn++) {
        assert_true(rig_holds(r, "keep", "these few bytes stay"));
        for (int i = 1; i < 20; i += 2) {
            snprintf(path, sizeof path, "some/%d", i);
            assert_true(rig_holds(r, path, path));
        }
        rig_crash(r);
    }
}

static void what_is_deleted_unsealed_is_never_written(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_append1(r, "a", "not for long");
    rig_delete1(r, "a");
    assert_true(streams_reclaim(r->s, r->txn));
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
    assert_true(streams_unsealed_group(r->s) == UINT64_MAX);
    assert_false(rig_seal(r, true));
    commit(r);
    rig_crash(r);
    settle(r); // the journal still had it
    assert_int_equal(streams_unsealed_bytes(r->s), 0);
    assert_int_equal(index_entries(r), 0);
}

static void giving_back_does_not_change_the_state(void **state)
{
    struct rig *r = *state;
    char before[65], after[65];
    for (int i = 0; i < 3; i++) {
        char path[8];
        snprintf(path, sizeof path, "s%d", i);
        rig_create1(r, path);
        rig_append1(r, path, "bytes ");
        rig_seal_all(r);
        rig_append1(r, path, "and more");
    }
    rig_delete1(r, "s1");
    rig_hash(r, before);
    settle(r);
    rig_hash(r, after);
    assert_string_equal(before, after);
    rig_seal_all(r);
    commit(r);
    rig_crash(r);
    rig_hash(r, after);
    assert_string_equal(before, after);
}

static void a_trimmed_beginning_is_given_back(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    struct buf b;
    uint64_t end;
    fill(r, "a", 66 * MIB, 1);
    rig_append1(r, "a", "unsealed ");
    rig_append1(r, "a", "the end");
    commit(r);
    rig_begin(r);
    assert_int_equal(streams_decide_trim(r->batch, SPAN_LIT("a"), 66 * MIB + 9, false, SPAN_NONE, false, false, &end, NULL), 0);
    rig_end(r);
    settle(r);
    assert_int_equal(index_entries(r), 0);
    assert_int_equal(streams_unsealed_bytes(r->s), 7);
    assert_int_equal(file_bytes(r, 0), 0);
    buf_init(&b, 100);
    for (int turn = 0; turn < 3; turn++) {
        buf_clear(&b);
        assert_true(rig_find(r, "a", &info));
        assert_int_equal(info.first, 66 * MIB + 9);
        assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("a"), 5, 100, &b), ERR_STREAM_TRIMMED);
        assert_int_equal(rig_read(r, "a", info.first, 100, &b), 0);
        assert_true(span_is(buf_span(&b), "the end"));
        if (turn == 0) rig_crash(r);
        if (turn == 1) rig_seal_all(r);
    }
    assert_true(rig_find_at(r, "a", 5, &info)); // before all that is kept
    buf_free(&b);
}

static void what_a_fork_reads_is_kept_until_the_fork_goes(void **state)
{
    struct rig *r = *state;
    bool created;
    struct buf b;
    fill(r, "source", 65 * MIB, 1);
    rig_begin(r);
    struct stream_create op = {.path = SPAN_LIT("fork"), .fork_of = SPAN_LIT("source"), .has_fork_offset = true, .fork_offset = 1 * MIB};
    assert_int_equal(streams_decide_create(r->batch, &op, &created, NULL, NULL), 0);
    rig_end(r);
    rig_delete1(r, "source");
    settle(r);
    assert_true(file_bytes(r, 0) > 0);
    buf_init(&b, 2 * MIB);
    assert_int_equal(rig_read(r, "fork", 0, 1 * MIB, &b), 0);
    assert_int_equal(b.n, 1 * MIB);
    buf_free(&b);
    rig_delete1(r, "fork");
    settle(r);
    assert_int_equal(index_entries(r), 0);
    assert_int_equal(file_bytes(r, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_quiet_stream_that_grows_slowly_has_few_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_streams_bytes_are_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_goes_two_commits_after_it_was_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_crash_before_the_file_is_removed_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_mostly_dead_is_emptied, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_deleted_unsealed_is_never_written, setup, teardown),
        cmocka_unit_test_setup_teardown(giving_back_does_not_change_the_state, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trimmed_beginning_is_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_fork_reads_is_kept_until_the_fork_goes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
