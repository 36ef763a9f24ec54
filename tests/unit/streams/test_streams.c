#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

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

static void a_stream_that_is_flushed_and_sealed_leaves_memory(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_append1(r, "a", "text");
    rig_create1(r, "empty");
    assert_int_equal(r->s->by_number.count, 2);
    rig_commit(r);
    assert_int_equal(r->s->by_number.count, 1); // the other one has bytes here
    rig_seal_all(r);
    assert_int_equal(r->s->by_number.count, 0);
    assert_int_equal(r->s->by_path.count, 0);
    assert_true(rig_holds(r, "a", "text"));
    assert_int_equal(r->s->by_number.count, 0); // looking loads nothing
    rig_append1(r, "a", " more");
    rig_seal_all(r);
    assert_int_equal(r->s->by_number.count, 1); // sealed, not flushed
    rig_commit(r);
    assert_int_equal(r->s->by_number.count, 0);
    assert_true(rig_holds(r, "a", "text more"));
}

static void many_short_streams_cost_no_memory_in_the_end(void **state)
{
    struct rig *r = *state;
    char path[32], text[1025] = {0};
    memset(text, 'x', 1024);
    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof path, "s/%d", i);
        rig_begin(r);
        assert_int_equal(rig_create(r, path, "text/plain", false), 0);
        assert_int_equal(rig_append(r, path, SPAN_STR(text), NULL), 0);
        assert_int_equal(rig_shut(r, path), 0);
        rig_end(r);
        if (i % 100 != 0) continue;
        rig_commit(r);
        rig_seal_all(r);
        assert_int_equal(r->s->by_number.count, 0);
    }
    rig_seal_all(r);
    rig_commit(r);
    assert_int_equal(r->s->by_number.count, 0);
    assert_true(rig_holds(r, "s/0", text));
    assert_true(rig_holds(r, "s/2999", text));
}

static void find_at_tells_what_was(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    r->now_ms = 5000;
    rig_create1(r, "a");        // 1
    rig_append1(r, "a", "ab");  // 2
    rig_create1(r, "other");    // 3
    rig_append1(r, "a", "cde"); // 4
    rig_shut1(r, "a");          // 5
    rig_delete1(r, "a");        // 6
    rig_create1(r, "a");        // 7
    rig_append1(r, "a", "z");   // 8
    static const struct {
        bool exists, closed;
        uint64_t number, offset, changed;
    } want[] = {
        {0}, {true, false, 1, 0, 1}, {true, false, 1, 2, 2}, {true, false, 1, 2, 2}, {true, false, 1, 5, 4}, {true, true, 1, 5, 5},
        {0}, {true, false, 3, 0, 7}, {true, false, 3, 1, 8}, {true, false, 3, 1, 8},
    };
    for (int pass = 0; pass < 4; pass++) { // in memory, flushed, sealed, recovered
        for (uint64_t seq = 0; seq < 10; seq++) {
            assert_int_equal(rig_find_at(r, "a", seq, &info), want[seq].exists);
            if (!want[seq].exists) continue;
            assert_int_equal(info.closed, want[seq].closed);
            assert_int_equal(info.number, want[seq].number);
            assert_int_equal(info.offset, want[seq].offset);
            assert_int_equal(info.changed_seq, want[seq].changed);
            assert_int_equal(info.created_ms, 5000);
            assert_string_equal(info.type, "text/plain");
        }
        if (pass == 0) rig_commit(r);
        if (pass == 1) rig_seal_all(r);
        if (pass == 2) rig_commit(r), rig_crash(r);
    }
}

static void find_at_crosses_sealed_records(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    static char text[300001];
    memset(text, 'y', 300000);
    rig_create1(r, "a");
    for (int i = 0; i < 20; i++) { // six megabytes, in records of one, and a tail
        rig_append1(r, "a", text);
        if (i == 9 || i == 17) rig_seal_all(r);
    }
    for (uint64_t seq = 1; seq <= 21; seq++) {
        assert_true(rig_find_at(r, "a", seq, &info));
        assert_int_equal(info.offset, (seq - 1) * 300000);
        assert_int_equal(info.changed_seq, seq);
    }
}

static void an_append_larger_than_a_record_is_one_append_still(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    struct buf b;
    char before[65], after[65];
    uint8_t *much = malloc(STREAM_APPEND_MAX);
    for (size_t i = 0; i < STREAM_APPEND_MAX; i++)
        much[i] = (uint8_t)(i * 2654435761u >> 13);
    rig_create1(r, "a");
    rig_append1(r, "a", "first");
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN(much, STREAM_APPEND_MAX), NULL), 0);
    rig_end(r);
    rig_append1(r, "a", "last");
    rig_hash(r, before);
    rig_seal_all(r);
    rig_hash(r, after);
    assert_string_equal(before, after);
    assert_true(rig_find_at(r, "a", 2, &info));
    assert_int_equal(info.offset, 5);
    assert_true(rig_find_at(r, "a", 3, &info));
    assert_int_equal(info.offset, 5 + STREAM_APPEND_MAX);
    buf_init(&b, 8 * MIB);
    assert_int_equal(rig_read(r, "a", 5, 100000, &b), 0);
    assert_int_equal(b.n, STREAM_APPEND_MAX + 4);
    assert_memory_equal(b.p, much, STREAM_APPEND_MAX);
    buf_free(&b);
    free(much);
}

static void reading_past_the_tail_is_refused(void **state)
{
    struct rig *r = *state;
    struct buf b;
    buf_init(&b, 100);
    rig_create1(r, "a");
    rig_append1(r, "a", "abc");
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("a"), 3, 10, &b), 0);
    assert_int_equal(b.n, 0);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("a"), 4, 10, &b), ERR_BAD_OFFSET);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("b"), 0, 10, &b), ERR_NO_SUCH_STREAM);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT(""), 0, 10, &b), ERR_NO_SUCH_STREAM);
    buf_free(&b);
}

static void paths_that_begin_alike_are_different_streams(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    rig_create1(r, "a");
    rig_create1(r, "ab");
    rig_create1(r, "a/b");
    rig_append1(r, "a", "1");
    rig_append1(r, "ab", "22");
    rig_delete1(r, "a");
    rig_commit(r);
    rig_seal_all(r);
    assert_false(rig_find(r, "a", &info));
    assert_true(rig_holds(r, "ab", "22"));
    assert_true(rig_holds(r, "a/b", ""));
    assert_false(rig_find_at(r, "a/", 7, &info));
}

static void the_hash_tells_states_apart(void **state)
{
    struct rig *r = *state;
    char h[5][65];
    rig_create1(r, "a");
    rig_hash(r, h[0]);
    rig_append1(r, "a", "xy");
    rig_hash(r, h[1]);
    rig_shut1(r, "a");
    rig_hash(r, h[2]);
    rig_delete1(r, "a");
    rig_hash(r, h[3]);
    rig_create1(r, "a");
    rig_hash(r, h[4]);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(h[i], h[j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stream_that_is_flushed_and_sealed_leaves_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(many_short_streams_cost_no_memory_in_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(find_at_tells_what_was, setup, teardown),
        cmocka_unit_test_setup_teardown(find_at_crosses_sealed_records, setup, teardown),
        cmocka_unit_test_setup_teardown(an_append_larger_than_a_record_is_one_append_still, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_past_the_tail_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(paths_that_begin_alike_are_different_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(the_hash_tells_states_apart, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
