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
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

static void deciding_changes_nothing(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    char before[65], after[65];
    rig_create1(r, "a");
    rig_append1(r, "a", "one");
    rig_hash(r, before);
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("two"), NULL), 0);
    assert_int_equal(rig_create(r, "b", "text/plain", false), 0);
    assert_int_equal(rig_delete(r, "a"), 0);
    rig_drop(r);
    rig_hash(r, after);
    assert_string_equal(before, after);
    assert_true(rig_holds(r, "a", "one"));
    assert_false(rig_find(r, "b", &info));
}

static void a_batch_sees_its_own_operations(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    uint64_t at = 5;
    rig_begin(r);
    assert_false(rig_decided(r, "a", &info));
    assert_int_equal(rig_create(r, "a", "text/plain", true), 0);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("hello"), NULL), 0);
    assert_int_equal(rig_append(r, "a", SPAN_LIT(" world"), &at), 0);
    assert_true(rig_decided(r, "a", &info));
    assert_int_equal(info.offset, 11);
    assert_false(info.closed);
    assert_int_equal(rig_shut(r, "a"), 0);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("!"), NULL), ERR_STREAM_CLOSED);
    assert_true(rig_decided(r, "a", &info));
    assert_true(info.closed);
    rig_end(r);
    struct stream_info now;
    assert_true(rig_find(r, "a", &now));
    assert_memory_equal(&now, &info, sizeof now); // what was decided is what came to be
    assert_true(now.owned);
    assert_true(rig_holds(r, "a", "hello world"));
}

static void deleting_and_creating_in_one_batch_gives_a_new_number(void **state)
{
    struct rig *r = *state;
    struct stream_info before, decided, after;
    rig_create1(r, "a");
    rig_append1(r, "a", "old");
    assert_true(rig_find(r, "a", &before));
    rig_begin(r);
    assert_int_equal(rig_delete(r, "a"), 0);
    assert_false(rig_decided(r, "a", &decided));
    assert_int_equal(rig_append(r, "a", SPAN_LIT("x"), NULL), ERR_STREAM_NOT_FOUND);
    assert_int_equal(rig_create(r, "a", "text/markdown", false), 0);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("new"), NULL), 0);
    assert_true(rig_decided(r, "a", &decided));
    rig_end(r);
    assert_true(rig_find(r, "a", &after));
    assert_memory_equal(&after, &decided, sizeof after);
    assert_true(after.number > before.number);
    assert_string_equal(after.type, "text/markdown");
    assert_true(rig_holds(r, "a", "new"));
}

static void creating_again_is_no_error_with_the_same_settings_only(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    bool created = true;
    rig_create1(r, "a");
    rig_begin(r);
    assert_int_equal(streams_decide_create(r->batch, &(struct stream_create){.path = SPAN_LIT("a"), .type = SPAN_LIT("Text/Plain; charset=utf-8")}, &created, NULL, NULL), 0);
    assert_false(created);
    assert_int_equal(rig_create(r, "a", "text/html", false), ERR_STREAM_EXISTS);
    assert_int_equal(rig_create(r, "a", "text/plain", true), ERR_STREAM_EXISTS);
    assert_int_equal(streams_decide_create(r->batch, &(struct stream_create){.path = SPAN_LIT("b")}, &created, NULL, NULL), 0);
    assert_true(created);
    rig_end(r);
    assert_true(rig_find(r, "b", &info));
    assert_string_equal(info.type, "application/octet-stream");
}

static void refusals_name_their_reason(void **state)
{
    struct rig *r = *state;
    struct problem p = PROBLEM_NONE;
    rig_create1(r, "a");
    rig_append1(r, "a", "one");
    rig_begin(r);
    assert_int_equal(rig_append(r, "none", SPAN_LIT("x"), NULL), ERR_STREAM_NOT_FOUND);
    assert_int_equal(rig_append(r, "", SPAN_LIT("x"), NULL), ERR_STREAM_NOT_FOUND);
    assert_int_equal(rig_shut(r, "none"), ERR_STREAM_NOT_FOUND);
    assert_int_equal(rig_delete(r, "none"), ERR_STREAM_NOT_FOUND);
    struct stream_append op = {.path = SPAN_LIT("a"), .type = SPAN_LIT("text/html"), .data = rig_data(r, SPAN_LIT("x"))};
    struct stream_appended done;
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), ERR_CONTENT_TYPE_MISMATCH);
    op = (struct stream_append){.path = SPAN_LIT("a"), .type = SPAN_LIT("TEXT/plain;v=2")};
    assert_int_equal(streams_decide_append(r->batch, &op, &done, NULL), 0);
    assert_int_equal(done.offset, 3);
    op = (struct stream_append){.path = SPAN_LIT("a"), .has_expect = true, .expect = 2};
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, &p), ERR_OFFSET_MISMATCH);
    assert_int_equal(p.number, 3);
    assert_string_equal(p.text, "the stream ends at offset 3, not 2");
    uint8_t *much = calloc(1, STREAM_APPEND_MAX + 1);
    assert_int_equal(rig_append(r, "a", SPAN(much, STREAM_APPEND_MAX + 1), NULL), ERR_TOO_LARGE);
    free(much);
    char path[STREAM_PATH_MAX + 2] = {0}, type[STREAM_TYPE_MAX + 2] = {0};
    memset(path, 'p', STREAM_PATH_MAX + 1);
    memset(type, 't', STREAM_TYPE_MAX + 1);
    assert_int_equal(rig_create(r, path, "text/plain", false), ERR_BAD_VALUE);
    assert_int_equal(rig_create(r, "", "text/plain", false), ERR_BAD_VALUE);
    assert_int_equal(rig_create(r, "b", type, false), ERR_BAD_VALUE);
    assert_int_equal(rig_create(r, "\xff", "text/plain", false), ERR_BAD_UTF8);
    assert_int_equal(rig_create(r, "b", "text/plain\r\nSet-Cookie: a", false), ERR_BAD_VALUE); // it goes into HTTP heads
    assert_int_equal(rig_create(r, "b", "text/pl\u00e4in", false), ERR_BAD_VALUE);
    struct stream_create late = {.path = SPAN_LIT("b"), .expires_ms = STREAM_EXPIRES_MS_MAX + 1};
    assert_int_equal(streams_decide_create(r->batch, &late, &(bool){false}, NULL, &p), ERR_BAD_VALUE);
    path[STREAM_PATH_MAX] = type[STREAM_TYPE_MAX] = '\0';
    assert_int_equal(rig_create(r, path, type, false), 0);
    rig_end(r);
    struct stream_info info;
    assert_true(rig_find(r, path, &info));
    assert_string_equal(info.type, type);
    assert_true(rig_holds(r, "a", "one"));
}

static void an_append_of_nothing_is_no_change(void **state)
{
    struct rig *r = *state;
    struct buf effects;
    rig_create1(r, "a");
    rig_shut1(r, "a");
    buf_init(&effects, 1000);
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_NONE, NULL), ERR_STREAM_CLOSED);
    assert_int_equal(rig_shut(r, "a"), 0); // closed already
    streams_decide_effects(r->batch, &effects);
    assert_int_equal(effects.n, 0);
    rig_end(r);
    buf_free(&effects);
}

static void a_batch_of_many_streams_is_decided_quickly_enough(void **state)
{
    struct rig *r = *state;
    char path[32];
    rig_begin(r);
    for (int i = 0; i < BATCH_OPS_MAX / 2; i++) {
        snprintf(path, sizeof path, "s/%d", i);
        assert_int_equal(rig_create(r, path, "text/plain", false), 0);
        assert_int_equal(rig_append(r, path, SPAN_STR(path), NULL), 0);
    }
    rig_end(r);
    assert_true(rig_holds(r, "s/0", "s/0"));
    assert_true(rig_holds(r, "s/4999", "s/4999"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(deciding_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_sees_its_own_operations, setup, teardown),
        cmocka_unit_test_setup_teardown(deleting_and_creating_in_one_batch_gives_a_new_number, setup, teardown),
        cmocka_unit_test_setup_teardown(creating_again_is_no_error_with_the_same_settings_only, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_name_their_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(an_append_of_nothing_is_no_change, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_of_many_streams_is_decided_quickly_enough, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
