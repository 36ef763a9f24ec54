// Subscriptions in an app: a part of its state, decided the same wherever they are decided.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdlib.h>

#include "app_lab.h"
#include "err.h"
#include "journal.h"
#include "tmp.h"

static struct uuid uuid(uint8_t fill)
{
    struct uuid u;
    memset(u.b, fill, sizeof u.b);
    return u;
}

static struct sha256 token(uint8_t fill)
{
    struct sha256 t;
    memset(t.b, fill, sizeof t.b);
    return t;
}

static struct sub_op claim(const char *holder, const char *stream, uint8_t fill)
{
    return (struct sub_op){.step = SUB_CLAIM, .holder = SPAN_STR(holder), .stream = SPAN_STR(stream), .wake = uuid(fill), .token = token(fill)};
}

static int lab_step(struct app_lab *l, struct sub_op op)
{
    struct buf text;
    buf_init(&text, MIB);
    op.id = SPAN_LIT("s");
    sub_op_put(&text, &op);
    int err = lab_ops(l, &(struct batch_op){.kind = BATCH_SUBSCRIPTION, .subscription = buf_span(&text)}, 1, NULL);
    buf_free(&text);
    return err;
}

static struct sub lab_sub(struct app_lab *l)
{
    struct sub s;
    assert_int_equal(app_sub(l->app, SPAN_LIT("s"), &s), 1);
    return s;
}

// All of it once: streams, a wake by its stream, a claim, an answer, rejections.
static void lab_story(struct app_lab *l)
{
    struct sub_op create = {.step = SUB_CREATE, .type = SUB_PULL, .pattern = SPAN_LIT("events/*"), .wake_stream = SPAN_LIT("wake/pool"), .lease_ttl_ms = 5000};
    struct buf acks;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'wake/pool','type':'application/json'},{'op':'create','stream':'events/a','type':'text/plain'}]}"), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'events/a','text':'before'}]}"), 0);
    assert_int_equal(lab_step(l, create), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'events/a','text':' and after'}]}"), 0);
    struct sub s = lab_sub(l);
    struct sub_op op = {.step = SUB_WAKE, .born = s.born, .wake = uuid(1), .stream = SPAN_LIT("events/a"), .event = SPAN_LIT("{\"type\":\"wake\"},\n"), .jitter = 1000};
    assert_int_equal(lab_step(l, op), 0);
    assert_int_equal(lab_step(l, op), ERR_FENCED);
    assert_int_equal(lab_step(l, claim("w1", "", 5)), 0);
    assert_int_equal(lab_step(l, claim("w2", "", 6)), ERR_ALREADY_CLAIMED);
    buf_init(&acks, KIB);
    buf_put_blob(&acks, SPAN_LIT("events/a"));
    buf_put_varint(&acks, 16);
    assert_int_equal(lab_step(l, (struct sub_op){.step = SUB_ACK, .generation = 1, .wake = uuid(1), .token = token(5), .acks = buf_span(&acks), .done = true}), 0);
    buf_free(&acks);
}

static void subscriptions_are_part_of_the_state_and_survive_kill_9(void **state)
{
    (void)state;
    struct app_lab l, copy;
    char before[65], after[65], copied[65];
    app_lab_init(&l);
    app_lab_open(&l);
    lab_hash(&l, before);
    lab_story(&l);
    assert_true(lab_stream_is(&l, "wake/pool", "{\"type\":\"wake\"},\n"));
    lab_hash(&l, after);
    assert_string_not_equal(before, after);
    app_lab_fork(&l, &copy);
    lab_hash(&copy, copied);
    assert_string_equal(after, copied);
    struct sub s = lab_sub(&copy);
    struct sub_cursor c;
    assert_true(s.state == SUB_IDLE && s.generation == 1);
    assert_int_equal(app_sub_cursor(copy.app, &s, SPAN_LIT("events/a"), &c), 0);
    assert_true(c.acked == 16 && c.tail == 16);
    app_lab_free(&copy);
    app_lab_free(&l);
}

static int redecide_group(void *ctx, uint64_t group, struct span payload)
{
    struct problem p = PROBLEM_NONE;
    (void)group;
    int err = app_redecide(ctx, payload, &p);
    if (err != 0) print_message("%s\n", problem_text(&p));
    return err;
}

static void subscriptions_are_decided_the_same_again(void **state)
{
    (void)state;
    struct app_lab l, fresh;
    char was[65], is[65];
    app_lab_init(&l);
    l.options.journal_keep_all = true;
    app_lab_open(&l);
    lab_story(&l);
    lab_hash(&l, was);
    app_lab_close(&l);
    app_lab_init(&fresh);
    app_lab_open(&fresh);
    struct journal *j;
    struct problem p = PROBLEM_NONE;
    char *path = tmp_path(l.path, "journal");
    assert_int_equal(journal_open(&j, &(struct journal_options){.path = path, .segment_bytes = LAB_SEGMENT, .read_only = true}, redecide_group, fresh.app, &p), 0);
    journal_close(j);
    free(path);
    lab_hash(&fresh, is);
    assert_string_equal(was, is);
    app_lab_free(&fresh);
    app_lab_free(&l);
}

static void streams_under_the_reserved_name_are_refused(void **state)
{
    (void)state;
    struct app_lab l;
    app_lab_init(&l);
    app_lab_open(&l);
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'create','stream':'__ds/x','type':'text/plain'}]}"), ERR_RESERVED_PATH);
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'create','stream':'__ds','type':'text/plain'}]}"), ERR_RESERVED_PATH);
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'create','stream':'__dsx/x','type':'text/plain'}]}"), 0);
    app_lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subscriptions_are_part_of_the_state_and_survive_kill_9),
        cmocka_unit_test(subscriptions_are_decided_the_same_again),
        cmocka_unit_test(streams_under_the_reserved_name_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
