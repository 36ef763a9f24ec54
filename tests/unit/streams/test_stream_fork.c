#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "err.h"
#include "stream_rig.h"

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    rig_open(r);
    rig_create1(r, "a");
    rig_append1(r, "a", "one ");
    rig_append1(r, "a", "two ");
    rig_append1(r, "a", "three");
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

static int make(struct rig *r, struct stream_create op, bool *created)
{
    struct problem p = PROBLEM_NONE;
    bool made = false;
    rig_begin(r);
    int err = streams_decide_create(r->batch, &op, &made, NULL, &p);
    assert_int_equal(err, p.err);
    rig_end(r);
    if (created != NULL) *created = made;
    return err;
}

static int fork_at(struct rig *r, const char *path, const char *of, uint64_t offset, uint64_t sub)
{
    return make(r, (struct stream_create){.path = SPAN_STR(path), .fork_of = SPAN_STR(of), .has_fork_offset = true, .fork_offset = offset, .fork_sub = sub}, NULL);
}

static int fork_whole(struct rig *r, const char *path, const char *of)
{
    return make(r, (struct stream_create){.path = SPAN_STR(path), .fork_of = SPAN_STR(of)}, NULL);
}

static int delete(struct rig *r, const char *path)
{
    rig_begin(r);
    int err = rig_delete(r, path);
    rig_end(r);
    return err;
}

// Everything goes to files, to the database, and out of memory; then a crash.
static void cool(struct rig *r)
{
    char before[65], after[65];
    rig_hash(r, before);
    rig_seal_all(r);
    rig_commit(r);
    rig_hash(r, after);
    assert_string_equal(before, after);
    rig_crash(r);
    rig_hash(r, after);
    assert_string_equal(before, after);
}

static void a_fork_begins_with_its_sources_bytes(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    assert_int_equal(fork_at(r, "f", "a", 4, 0), 0);
    assert_int_equal(fork_whole(r, "g", "a"), 0);
    rig_append1(r, "f", "2");
    rig_append1(r, "a", "!");
    rig_append1(r, "g", "?");
    for (int i = 0; i < 2; i++) {
        assert_true(rig_holds(r, "f", "one 2"));
        assert_true(rig_holds(r, "g", "one two three?"));
        assert_true(rig_holds(r, "a", "one two three!"));
        cool(r);
    }
    assert_true(rig_find(r, "f", &info));
    assert_string_equal(info.type, "text/plain");
    assert_true(rig_find_at(r, "f", info.created_seq, &info));
    assert_int_equal(info.offset, 4);
}

static void a_fork_may_begin_inside_the_next_append(void **state)
{
    struct rig *r = *state;
    assert_int_equal(fork_at(r, "f", "a", 4, 2), 0);
    assert_int_equal(fork_at(r, "g", "a", 4, 4), 0);
    assert_int_equal(fork_at(r, "h", "a", 4, 5), ERR_BAD_FORK); // beyond its end
    assert_int_equal(fork_at(r, "h", "a", 13, 1), ERR_BAD_FORK); // nothing follows
    assert_int_equal(fork_at(r, "h", "a", 14, 0), ERR_BAD_FORK);
    assert_true(rig_holds(r, "f", "one tw"));
    assert_true(rig_holds(r, "g", "one two "));
    cool(r);
    assert_int_equal(fork_at(r, "h", "a", 8, 1), 0); // the same of sealed bytes
    assert_true(rig_holds(r, "h", "one two t"));
    assert_int_equal(fork_at(r, "i", "h", 8, 1), 0); // the fork's share of the append ends where the fork does
    assert_int_equal(fork_at(r, "j", "h", 8, 2), ERR_BAD_FORK);
}

static void json_forks_count_messages(void **state)
{
    struct rig *r = *state;
    struct buf out;
    buf_init(&out, 1000);
    assert_int_equal(make(r, (struct stream_create){.path = SPAN_LIT("j"), .type = SPAN_LIT("application/json")}, NULL), 0);
    rig_begin(r);
    struct stream_append op = {.path = SPAN_LIT("j"), .data = rig_data(r, SPAN_LIT("1,\n2,\n3,\n")), .messages = true};
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), 0);
    rig_end(r);
    assert_int_equal(fork_at(r, "k", "j", 0, 2), 0);
    assert_int_equal(fork_at(r, "l", "j", 0, 4), ERR_BAD_FORK);
    assert_int_equal(fork_at(r, "l", "j", 1, 0), ERR_BAD_FORK);
    assert_int_equal(fork_at(r, "l", "j", 3, 1), 0);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("k"), 0, 100, &out), 0);
    assert_true(span_is(buf_span(&out), "1,\n2,\n"));
    buf_free(&out);
}

static void a_chain_of_forks_reads_through(void **state)
{
    struct rig *r = *state;
    char path[2][8], want[64] = "one two three";
    snprintf(path[0], sizeof path[0], "a");
    for (int i = 1; i <= STREAM_FORK_DEPTH_MAX; i++) {
        snprintf(path[i % 2], sizeof path[0], "f%d", i);
        assert_int_equal(fork_whole(r, path[i % 2], path[(i - 1) % 2]), 0);
        rig_append1(r, path[i % 2], "x");
        strcat(want, "x");
    }
    assert_int_equal(fork_whole(r, "deep", path[STREAM_FORK_DEPTH_MAX % 2]), ERR_BAD_FORK);
    assert_true(rig_holds(r, path[STREAM_FORK_DEPTH_MAX % 2], want));
    cool(r);
    assert_true(rig_holds(r, path[STREAM_FORK_DEPTH_MAX % 2], want));
}

static void a_source_stays_until_its_last_fork_goes(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    assert_int_equal(fork_whole(r, "f", "a"), 0);
    assert_int_equal(fork_whole(r, "g", "f"), 0);
    assert_int_equal(delete(r, "a"), 0);
    assert_true(rig_find(r, "a", &info) && info.gone);
    assert_int_equal(delete(r, "a"), ERR_STREAM_GONE);
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("x"), NULL), ERR_STREAM_GONE);
    assert_int_equal(rig_create(r, "a", "text/plain", false), ERR_STREAM_EXISTS);
    rig_end(r);
    assert_int_equal(fork_whole(r, "h", "a"), ERR_FORK_SOURCE_GONE);
    assert_int_equal(delete(r, "f"), 0);
    cool(r);
    assert_true(rig_holds(r, "g", "one two three"));
    assert_int_equal(delete(r, "g"), 0); // and with it all above
    assert_false(rig_find(r, "f", &info));
    assert_false(rig_find(r, "a", &info));
    rig_create1(r, "a");
    assert_true(rig_holds(r, "a", ""));
}

static void a_batch_forks_and_deletes_what_it_made(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    bool created;
    rig_begin(r);
    assert_int_equal(rig_create(r, "b", "text/plain", false), 0);
    assert_int_equal(rig_append(r, "b", SPAN_LIT("new"), NULL), 0);
    struct stream_create op = {.path = SPAN_LIT("c"), .fork_of = SPAN_LIT("b"), .data = rig_data(r, SPAN_LIT("er"))};
    assert_int_equal(streams_decide_create(r->batch, &op, &created, NULL, NULL), 0);
    assert_int_equal(streams_decide_create(r->batch, &op, &created, NULL, NULL), 0);
    assert_false(created);
    assert_int_equal(rig_delete(r, "b"), 0);
    rig_end(r);
    assert_true(rig_holds(r, "c", "newer"));
    assert_true(rig_find(r, "b", &info) && info.gone);
    rig_begin(r);
    op.path = SPAN_LIT("d");
    op.fork_of = SPAN_LIT("c");
    op.data = SPAN_NONE;
    assert_int_equal(streams_decide_create(r->batch, &op, &created, NULL, NULL), 0);
    assert_int_equal(rig_delete(r, "c"), 0);
    assert_int_equal(rig_delete(r, "d"), 0);
    rig_end(r);
    assert_false(rig_find(r, "b", &info) || rig_find(r, "c", &info) || rig_find(r, "d", &info));
}

static void the_same_fork_again_is_no_change(void **state)
{
    struct rig *r = *state;
    bool created;
    struct stream_create op = {.path = SPAN_LIT("f"), .fork_of = SPAN_LIT("a"), .has_fork_offset = true, .fork_offset = 4};
    assert_int_equal(make(r, op, &created), 0);
    assert_true(created);
    assert_int_equal(make(r, op, &created), 0);
    assert_false(created);
    op.fork_offset = 8;
    assert_int_equal(make(r, op, NULL), ERR_STREAM_EXISTS);
    op = (struct stream_create){.path = SPAN_LIT("f"), .type = SPAN_LIT("text/plain")};
    assert_int_equal(make(r, op, NULL), ERR_STREAM_EXISTS);
    char path[STREAM_PATH_MAX + 2] = {0};
    memset(path, 'p', STREAM_PATH_MAX + 1);
    op = (struct stream_create){.path = SPAN_LIT("f"), .fork_of = SPAN_STR(path), .has_fork_offset = true, .fork_offset = 4};
    assert_int_equal(make(r, op, NULL), ERR_STREAM_EXISTS);
    op.path = SPAN_LIT("new");
    assert_int_equal(make(r, op, NULL), ERR_STREAM_NOT_FOUND);
    op = (struct stream_create){.path = SPAN_LIT("g"), .type = SPAN_LIT("text/html"), .fork_of = SPAN_LIT("a")};
    assert_int_equal(make(r, op, NULL), ERR_CONTENT_TYPE_MISMATCH);
    op = (struct stream_create){.path = SPAN_LIT("g"), .fork_of = SPAN_LIT("none")};
    assert_int_equal(make(r, op, NULL), ERR_STREAM_NOT_FOUND);
}

static void a_fork_of_a_closed_stream_is_open_and_knows_no_writer(void **state)
{
    struct rig *r = *state;
    struct stream_producer p;
    rig_begin(r);
    struct stream_append op = {.path = SPAN_LIT("a"), .close = true, .seq = SPAN_LIT("9"), .producer = SPAN_LIT("p")};
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), 0);
    rig_end(r);
    assert_int_equal(fork_whole(r, "f", "a"), 0);
    assert_false(streams_producer(r->s, r->txn, SPAN_LIT("f"), SPAN_LIT("p"), &p));
    rig_begin(r);
    op = (struct stream_append){.path = SPAN_LIT("f"), .data = rig_data(r, SPAN_LIT("!")), .seq = SPAN_LIT("1")};
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), 0);
    rig_end(r);
    assert_true(rig_holds(r, "f", "one two three!"));
}

// ---- when bytes came -------------------------------------------------------------------------------------------------

static uint64_t seq_at(struct rig *r, const char *path, uint64_t offset)
{
    struct stream_info info;
    uint64_t seq = 0;
    assert_true(rig_find(r, path, &info));
    assert_int_equal(streams_seq_at(r->s, r->txn, info.number, offset, &seq), 0);
    return seq;
}

static uint64_t reach_at(struct rig *r, const char *path, uint64_t offset, uint64_t seq)
{
    struct stream_info info;
    uint64_t to = 0;
    assert_true(rig_find(r, path, &info));
    assert_int_equal(streams_reach_at(r->s, r->txn, info.number, offset, seq, &to), 0);
    return to;
}

static void what_a_fork_inherits_came_when_its_source_got_it(void **state)
{
    struct rig *r = *state; // seqs: 1 made, 2 "one ", 3 "two ", 4 "three"
    assert_int_equal(fork_at(r, "f", "a", 4, 2), 0); // 5
    rig_append1(r, "a", "!");                        // 6
    rig_append1(r, "f", "ice");                      // 7
    for (int i = 0; i < 2; i++) {
        assert_int_equal(seq_at(r, "a", 0), 2);
        assert_int_equal(seq_at(r, "a", 3), 2);
        assert_int_equal(seq_at(r, "a", 4), 3);
        assert_int_equal(seq_at(r, "a", 13), 6);
        assert_int_equal(reach_at(r, "a", 0, 2), 4);
        assert_int_equal(reach_at(r, "a", 2, 3), 8);
        assert_int_equal(reach_at(r, "a", 0, 5), 13);
        assert_int_equal(reach_at(r, "a", 0, UINT64_MAX - 1), 14);
        assert_int_equal(seq_at(r, "f", 1), 2);
        assert_int_equal(seq_at(r, "f", 5), 3);
        assert_int_equal(seq_at(r, "f", 6), 7);
        assert_int_equal(reach_at(r, "f", 0, 2), 4);
        assert_int_equal(reach_at(r, "f", 0, 3), 6);  // its share of that append
        assert_int_equal(reach_at(r, "f", 0, 99), 6); // up to where its own begin
        assert_int_equal(reach_at(r, "f", 6, 99), 9);
        cool(r);
    }
}

static void when_bytes_came_is_not_told_of_what_is_not_there(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    uint64_t seq, to;
    assert_true(rig_find(r, "a", &info));
    assert_int_equal(streams_seq_at(r->s, r->txn, info.number, 13, &seq), ERR_BAD_OFFSET); // the tail
    assert_int_equal(streams_seq_at(r->s, r->txn, info.number + 1, 0, &seq), ERR_NO_SUCH_STREAM);
    rig_begin(r);
    assert_int_equal(streams_decide_trim(r->batch, SPAN_LIT("a"), 4, false, SPAN_NONE, false, false, NULL, NULL), 0);
    rig_end(r);
    assert_int_equal(streams_seq_at(r->s, r->txn, info.number, 0, &seq), ERR_STREAM_TRIMMED);
    assert_int_equal(streams_reach_at(r->s, r->txn, info.number, 0, 9, &to), ERR_STREAM_TRIMMED);
    assert_int_equal(seq_at(r, "a", 4), 3);
    assert_int_equal(fork_whole(r, "f", "a"), 0);
    assert_int_equal(delete(r, "a"), 0);
    assert_int_equal(streams_seq_at(r->s, r->txn, info.number, 4, &seq), ERR_STREAM_GONE);
    assert_int_equal(seq_at(r, "f", 4), 3); // a gone source still knows
    assert_int_equal(delete(r, "f"), 0);
    assert_int_equal(streams_reach_at(r->s, r->txn, info.number, 4, 9, &to), ERR_NO_SUCH_STREAM);
}

// ---- expiry --------------------------------------------------------------------------------------------------------

static uint64_t expired(struct rig *r)
{
    uint64_t numbers[8];
    rig_commit(r);
    size_t n = streams_expired(r->s, r->txn, NULL, r->now_ms, numbers, 8);
    assert_true(n <= 1);
    return n == 1 ? numbers[0] : 0;
}

static void a_ttl_slides_with_writes_and_touches(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    r->now_ms = 1000;
    assert_int_equal(make(r, (struct stream_create){.path = SPAN_LIT("t"), .has_ttl = true, .ttl_s = 10}, NULL), 0);
    assert_true(rig_find(r, "t", &info) && info.deadline_ms == 11000);
    r->now_ms = 5000;
    rig_append1(r, "t", "x");
    assert_true(rig_find(r, "t", &info) && info.deadline_ms == 15000);
    assert_int_equal(expired(r), 0);
    rig_begin(r);
    assert_int_equal(streams_decide_touch(r->batch, info.number, 9000), 0);
    assert_int_equal(streams_decide_touch(r->batch, info.number, 8000), 0);
    assert_int_equal(streams_decide_touch(r->batch, 12345, 8000), 0);
    rig_end(r);
    assert_true(rig_find(r, "t", &info) && info.deadline_ms == 19000);
    r->now_ms = 18999;
    assert_int_equal(expired(r), 0);
    r->now_ms = 19000;
    assert_int_equal(expired(r), info.number);
    rig_crash(r);
    assert_int_equal(expired(r), info.number);
    rig_begin(r);
    assert_int_equal(rig_append(r, "t", SPAN_LIT("x"), NULL), ERR_STREAM_NOT_FOUND);
    assert_int_equal(streams_decide_touch(r->batch, info.number, 19000), 0); // too late
    assert_int_equal(streams_decide_expire(r->batch, info.number), 0);
    rig_end(r);
    assert_false(rig_find(r, "t", &info));
    assert_int_equal(expired(r), 0);
}

static void what_is_past_its_time_may_be_created_again(void **state)
{
    struct rig *r = *state;
    struct stream_info was, is;
    bool created;
    struct stream_create op = {.path = SPAN_LIT("t"), .expires_ms = 5000};
    r->now_ms = 1000;
    assert_int_equal(make(r, op, NULL), 0);
    assert_true(rig_find(r, "t", &was) && was.expires_ms == 5000 && was.deadline_ms == 5000);
    assert_int_equal(make(r, op, &created), 0);
    assert_false(created);
    r->now_ms = 5000;
    op.expires_ms = 9000;
    assert_int_equal(make(r, op, &created), 0);
    assert_true(created && rig_find(r, "t", &is) && is.number > was.number);
    op.has_ttl = true;
    assert_int_equal(make(r, op, NULL), ERR_BAD_VALUE);
}

static void forks_inherit_expiry_or_have_their_own(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    bool created;
    r->now_ms = 1000;
    assert_int_equal(make(r, (struct stream_create){.path = SPAN_LIT("t"), .has_ttl = true, .ttl_s = 10}, NULL), 0);
    r->now_ms = 2000;
    assert_int_equal(fork_whole(r, "f", "t"), 0);
    assert_true(rig_find(r, "f", &info) && info.has_ttl && info.ttl_s == 10 && info.deadline_ms == 12000);
    assert_int_equal(make(r, (struct stream_create){.path = SPAN_LIT("f"), .fork_of = SPAN_LIT("t")}, &created), 0);
    assert_false(created);
    assert_int_equal(make(r, (struct stream_create){.path = SPAN_LIT("g"), .fork_of = SPAN_LIT("t"), .expires_ms = 90000}, NULL), 0);
    assert_true(rig_find(r, "g", &info) && !info.has_ttl && info.deadline_ms == 90000);
    r->now_ms = 11000; // the source is over, but read
    assert_int_equal(fork_whole(r, "h", "t"), ERR_STREAM_NOT_FOUND);
    rig_find(r, "t", &info);
    assert_int_equal(expired(r), info.number);
    rig_begin(r);
    assert_int_equal(streams_decide_expire(r->batch, info.number), 0);
    rig_end(r);
    assert_true(rig_find(r, "t", &info) && info.gone);
    assert_int_equal(expired(r), 0);
}

// ---- trims ---------------------------------------------------------------------------------------------------------

static int trim(struct rig *r, const char *path, uint64_t before, const char *snapshot, bool close)
{
    rig_begin(r);
    int err = streams_decide_trim(r->batch, SPAN_STR(path), before, false, rig_data(r, SPAN_STR(snapshot)), false, close, NULL, NULL);
    rig_end(r);
    return err;
}

static void a_trimmed_stream_begins_later(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    struct buf out;
    buf_init(&out, 1000);
    assert_int_equal(trim(r, "a", 14, "", false), ERR_BAD_OFFSET);
    assert_int_equal(trim(r, "a", 5, "ONE t", false), 0);
    assert_int_equal(trim(r, "a", 4, "", false), ERR_BAD_OFFSET);
    for (int i = 0; i < 2; i++) {
        assert_true(rig_find(r, "a", &info) && info.first == 5 && info.offset == 13 && info.has_snapshot);
        assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("a"), 4, 100, &out), ERR_STREAM_TRIMMED);
        assert_int_equal(rig_read(r, "a", 5, 100, &out), 0);
        assert_int_equal(streams_snapshot(r->s, r->txn, SPAN_LIT("a"), &out), 0);
        assert_true(span_is(buf_span(&out), "wo threeONE t"));
        buf_clear(&out);
        cool(r);
    }
    assert_int_equal(fork_at(r, "f", "a", 4, 0), ERR_BAD_FORK);
    assert_int_equal(fork_at(r, "f", "a", 8, 0), 0);
    assert_int_equal(trim(r, "a", 8, "", false), ERR_STILL_REFERENCED);
    assert_int_equal(streams_snapshot(r->s, r->txn, SPAN_LIT("f"), &out), 0);
    assert_true(span_is(buf_span(&out), "ONE t"));
    assert_int_equal(delete(r, "f"), 0);
    assert_int_equal(trim(r, "a", 13, "final", true), 0);
    assert_true(rig_find(r, "a", &info) && info.first == 13 && info.closed);
    cool(r);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fork_begins_with_its_sources_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fork_may_begin_inside_the_next_append, setup, teardown),
        cmocka_unit_test_setup_teardown(json_forks_count_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(a_chain_of_forks_reads_through, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_stays_until_its_last_fork_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_forks_and_deletes_what_it_made, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_fork_again_is_no_change, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fork_of_a_closed_stream_is_open_and_knows_no_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_fork_inherits_came_when_its_source_got_it, setup, teardown),
        cmocka_unit_test_setup_teardown(when_bytes_came_is_not_told_of_what_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ttl_slides_with_writes_and_touches, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_past_its_time_may_be_created_again, setup, teardown),
        cmocka_unit_test_setup_teardown(forks_inherit_expiry_or_have_their_own, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trimmed_stream_begins_later, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
