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
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

// One append of producer "p" as a batch of its own; the batch is applied whether the append was refused or not.
static int produce(struct rig *r, const char *id, uint64_t epoch, uint64_t seq, const char *text, bool close, struct stream_appended *out,
                   uint64_t *number)
{
    struct problem p = PROBLEM_NONE;
    struct stream_appended done = {0};
    rig_begin(r);
    struct stream_append op = {.path = SPAN_LIT("a"), .data = rig_data(r, SPAN_STR(text)), .close = close, .producer = SPAN_STR(id), .epoch = epoch, .pseq = seq};
    int err = streams_decide_append(r->batch, &op, &done, &p);
    assert_int_equal(err, p.err);
    if (out != NULL) *out = done;
    if (number != NULL) *number = p.number;
    rig_end(r);
    return err;
}

static int order(struct rig *r, const char *seq)
{
    rig_begin(r);
    int err = streams_decide_append(r->batch, &(struct stream_append){.path = SPAN_LIT("a"), .data = rig_data(r, SPAN_LIT(".")), .seq = SPAN_STR(seq)}, NULL, NULL);
    rig_end(r);
    return err;
}

static void a_producer_counts_and_repetitions_are_told(void **state)
{
    struct rig *r = *state;
    struct stream_appended done;
    uint64_t number;
    assert_int_equal(produce(r, "p", 0, 1, "x", false, NULL, &number), ERR_PRODUCER_GAP);
    assert_int_equal(number, 0);
    assert_int_equal(produce(r, "p", 0, 0, "one", false, &done, NULL), 0);
    assert_true(done.has_producer && !done.duplicate && done.offset == 3);
    assert_int_equal(produce(r, "p", 0, 1, "two", false, &done, NULL), 0);
    assert_int_equal(produce(r, "p", 0, 0, "one", false, &done, NULL), 0);
    assert_true(done.duplicate && done.pseq == 1 && done.offset == 6);
    assert_int_equal(produce(r, "p", 0, 3, "x", false, NULL, &number), ERR_PRODUCER_GAP);
    assert_int_equal(number, 2);
    assert_int_equal(produce(r, "p", 2, 1, "x", false, NULL, NULL), ERR_PRODUCER_EPOCH);
    assert_int_equal(produce(r, "p", 2, 0, "six", false, NULL, NULL), 0);
    assert_int_equal(produce(r, "p", 1, 0, "x", false, NULL, &number), ERR_PRODUCER_FENCED);
    assert_int_equal(number, 2);
    assert_int_equal(produce(r, "q", 7, 0, "q", false, NULL, NULL), 0);
    assert_true(rig_holds(r, "a", "onetwosixq"));
}

static void what_closed_the_stream_may_come_again(void **state)
{
    struct rig *r = *state;
    struct stream_appended done;
    uint64_t number;
    assert_int_equal(produce(r, "p", 0, 0, "one", false, NULL, NULL), 0);
    assert_int_equal(produce(r, "p", 0, 1, "end", true, &done, NULL), 0);
    assert_true(done.closed && !done.duplicate);
    assert_int_equal(produce(r, "p", 0, 1, "end", true, &done, NULL), 0);
    assert_true(done.closed && done.duplicate);
    assert_int_equal(produce(r, "p", 0, 2, "x", false, NULL, &number), ERR_STREAM_CLOSED);
    assert_int_equal(number, 6);
    assert_int_equal(produce(r, "q", 0, 0, "x", true, NULL, NULL), ERR_STREAM_CLOSED);
    assert_true(rig_holds(r, "a", "oneend"));
}

static void a_sequence_goes_up_bytewise(void **state)
{
    struct rig *r = *state;
    assert_int_equal(order(r, "10"), 0);
    assert_int_equal(order(r, "9"), 0);
    assert_int_equal(order(r, "9"), ERR_STREAM_SEQ);
    assert_int_equal(order(r, "10"), ERR_STREAM_SEQ);
    rig_commit(r);
    rig_crash(r);
    assert_int_equal(order(r, "9"), ERR_STREAM_SEQ);
    assert_int_equal(order(r, "90"), 0);
}

static void writers_outlive_memory_and_crashes(void **state)
{
    struct rig *r = *state;
    struct stream_producer p;
    char before[65], after[65];
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(produce(r, "p", 0, i, "x", false, NULL, NULL), 0);
    rig_hash(r, before);
    rig_seal_all(r);
    rig_commit(r); // cold now
    rig_hash(r, after);
    assert_string_equal(before, after);
    assert_true(streams_producer(r->s, r->txn, SPAN_LIT("a"), SPAN_LIT("p"), &p));
    assert_int_equal(p.seq, 4);
    assert_int_equal(produce(r, "p", 0, 5, "x", false, NULL, NULL), 0);
    assert_int_equal(produce(r, "q", 0, 0, "x", false, NULL, NULL), 0);
    rig_hash(r, before);
    rig_crash(r); // what came after the commit comes back from the journal
    rig_hash(r, after);
    assert_string_equal(before, after);
    assert_int_equal(produce(r, "p", 0, 7, "x", false, NULL, NULL), ERR_PRODUCER_GAP);
    assert_int_equal(produce(r, "q", 0, 1, "x", false, NULL, NULL), 0);
}

static void a_new_stream_knows_no_producer_of_the_old_one(void **state)
{
    struct rig *r = *state;
    struct stream_producer p;
    assert_int_equal(produce(r, "p", 3, 0, "x", false, NULL, NULL), 0);
    rig_commit(r);
    rig_delete1(r, "a");
    assert_false(streams_producer(r->s, r->txn, SPAN_LIT("a"), SPAN_LIT("p"), &p));
    rig_create1(r, "a");
    assert_int_equal(produce(r, "p", 0, 0, "y", false, NULL, NULL), 0);
    assert_int_equal(order(r, "0"), 0);
}

static void a_batch_sees_its_own_producers(void **state)
{
    struct rig *r = *state;
    struct stream_appended done;
    rig_begin(r);
    for (uint64_t i = 0; i < 3; i++) {
        for (int w = 0; w < 3; w++) {
            struct span id = SPAN("pqr" + w, 1);
            struct stream_append op = {.path = SPAN_LIT("a"), .data = rig_data(r, id), .producer = id, .pseq = i};
            assert_int_equal(streams_decide_append(r->batch, &op, &done, NULL), 0);
            assert_false(done.duplicate);
            assert_int_equal(streams_decide_append(r->batch, &op, &done, NULL), 0);
            assert_true(done.duplicate);
        }
    }
    rig_end(r);
    assert_true(rig_holds(r, "a", "pqrpqrpqr"));
}

static void a_stream_has_so_many_producers_and_no_more(void **state)
{
    struct rig *r = *state;
    char id[32];
    rig_begin(r);
    for (int i = 0; i < STREAM_PRODUCERS_MAX; i++) {
        snprintf(id, sizeof id, "%d", i);
        struct stream_append op = {.path = SPAN_LIT("a"), .producer = rig_data(r, SPAN_STR(id))};
        assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), 0);
    }
    rig_end(r);
    assert_int_equal(produce(r, "one more", 0, 0, "x", false, NULL, NULL), ERR_TOO_MANY);
    assert_int_equal(produce(r, "7", 0, 1, "x", false, NULL, NULL), 0);
}

static void json_streams_take_messages_and_nothing_else(void **state)
{
    struct rig *r = *state;
    struct buf out;
    buf_init(&out, 1000);
    rig_begin(r);
    assert_int_equal(rig_create(r, "j", "application/JSON; charset=utf-8", false), 0);
    assert_int_equal(rig_append(r, "j", SPAN_LIT("{}"), NULL), ERR_CONTENT_TYPE_MISMATCH);
    struct stream_append op = {.path = SPAN_LIT("j"), .data = rig_data(r, SPAN_LIT("1,\n[2],\n\"three\",\n")), .messages = true};
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), 0);
    op.path = SPAN_LIT("a");
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), ERR_CONTENT_TYPE_MISMATCH);
    rig_end(r);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("j"), 1, 100, &out), ERR_BAD_OFFSET);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("j"), 0, 1, &out), 0); // one at least
    assert_true(span_is(buf_span(&out), "1,\n"));
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("j"), 3, 10, &out), 0); // whole ones
    assert_true(span_is(buf_span(&out), "1,\n[2],\n"));
    rig_seal_all(r);
    rig_commit(r);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("j"), 8, 100, &out), 0);
    assert_true(span_is(buf_span(&out), "1,\n[2],\n\"three\",\n"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_producer_counts_and_repetitions_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_closed_the_stream_may_come_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sequence_goes_up_bytewise, setup, teardown),
        cmocka_unit_test_setup_teardown(writers_outlive_memory_and_crashes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_stream_knows_no_producer_of_the_old_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_sees_its_own_producers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_has_so_many_producers_and_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(json_streams_take_messages_and_nothing_else, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
