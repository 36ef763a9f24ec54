#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_lab.h"
#include "disk.h"
#include "err.h"
#include "json_read.h"
#include "sync.h"

#define SCHEMA "create table notes (title text not null)"

struct stage {
    struct app_lab lab;
    struct hub hub;
    struct auth *auth;
    struct sync *sync;
    struct buf said;  // a line for each message, its type and what it is about
    int room;         // -1: any number
    int ends, resumes;
    enum ws_code code;
};

static void note(struct stage *s, const struct jr *m, const char *key)
{
    const struct jr *v = jr_get(m, key);
    if (v == NULL) return;
    buf_printf(&s->said, " %s=", key);
    jr_canonical(v, &s->said);
}

static bool on_send(void *carrier, struct span message)
{
    struct stage *s = carrier;
    struct jr_tree *tree;
    assert_int_equal(s->ends, 0);
    assert_int_equal(jr_parse(&tree, message, NULL), 0);
    const struct jr *m = jr_root(tree);
    struct span type = jr_str(jr_get(m, "type"));
    static const char *const keys[] = {"snapshot", "changes", "id", "append", "upto", "fate", "name", "code", "again", "live", NULL};
    buf_printf(&s->said, "%.*s", SPAN_FMT(type));
    for (const char *const *key = keys; *key != NULL; key++)
        note(s, m, *key);
    buf_put_str(&s->said, "\n");
    jr_free(tree);
    if (s->room > 0) s->room--;
    return s->room != 0;
}

static void on_end(void *carrier, enum ws_code code, const char *reason)
{
    struct stage *s = carrier;
    (void)reason;
    s->ends++;
    s->code = code;
}

static void on_resume(void *carrier)
{
    ((struct stage *)carrier)->resumes++;
}

static void open_sync(struct stage *s)
{
    static const struct sync_carrier ops = {.send = on_send, .end = on_end, .resume = on_resume};
    struct sync_options options = {.app = s->lab.app, .hub = &s->hub, .auth = s->auth, .identity = identity_of(IDENTITY_ANONYMOUS_DEV)};
    assert_int_equal(sync_open(&s->sync, &options, &ops, s), 0);
    s->room = -1;
    s->ends = s->resumes = 0;
    buf_clear(&s->said);
}

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    app_lab_init(&s->lab);
    app_lab_wake(&s->lab, &s->hub);
    app_lab_open(&s->lab);
    assert_int_equal(lab_schema(&s->lab, SCHEMA), 0);
    assert_int_equal(auth_open(&s->auth, &(struct auth_options){.dev = true, .path = s->lab.folder}), 0);
    buf_init(&s->said, 16 * MIB);
    open_sync(s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    sync_close(s->sync);
    auth_close(s->auth);
    app_lab_free(&s->lab);
    buf_free(&s->said);
    free(s);
    return 0;
}

// With ' for ".
static void text(struct stage *s, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    char *json = lab_json(line);
    sync_text(s->sync, SPAN_STR(json));
    free(json);
}

static void hello(struct stage *s)
{
    text(s, "{'type':'hello','protocol':1}");
    hub_run(&s->hub);
    assert_true(sync_begun(s->sync));
    buf_clear(&s->said);
}

static void turn(struct stage *s)
{
    app_turn(s->lab.app);
    hub_run(&s->hub);
}

static void said(struct stage *s, const char *want)
{
    char *json = lab_json(want);
    if (!span_is(buf_span(&s->said), json)) fprintf(stderr, "wanted:\n%s\nsaid:\n%.*s\n", json, SPAN_FMT(buf_span(&s->said)));
    assert_true(span_is(buf_span(&s->said), json));
    free(json);
    buf_clear(&s->said);
}

static void what_was_submitted_is_answered_before_it_is_told(void **state)
{
    struct stage *s = *state;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    text(s, "{'type':'hello','protocol':1,'subscribe':{'s':{'stream':'s'}}}");
    hub_run(&s->hub);
    buf_clear(&s->said);
    text(s, "{'type':'append','stream':'s','text':'a'}");
    text(s, "{'type':'batch','id':'b','ops':[{'op':'append','stream':'s','text':'b'}]}");
    text(s, "{'type':'append','stream':'s','text':'c'}");
    said(s, "");
    turn(s);
    said(s, "fate id='b' fate='accepted'\n"
            "fate upto=2\n"
            "commit changes={'s':[{'offset':3,'text':'abc'}]}\n");
}

static void one_acknowledgement_stands_for_all_of_a_turn(void **state)
{
    struct stage *s = *state;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    for (int i = 0; i < 100; i++)
        text(s, "{'type':'append','stream':'s','text':'x'}");
    turn(s);
    said(s, "fate upto=100\n");
    turn(s);
    said(s, "");
    // Failures are named before they are counted, wherever they were found.
    text(s, "{'type':'append','stream':'s','text':'x'}");
    text(s, "{'type':'append','stream':'s'}");
    text(s, "{'type':'append','stream':'none','text':'x'}");
    text(s, "{'type':'append','stream':'s','text':'x'}");
    said(s, "error append=102 code='bad_batch'\n");
    turn(s);
    said(s, "fate append=103 fate='rejected' code='stream_not_found'\nfate upto=104\n");
    text(s, "{'type':'append','stream':'s'}");
    hub_run(&s->hub);
    said(s, "error append=105 code='bad_batch'\nfate upto=105\n");
}

static void a_full_window_stops_the_reading_until_a_turn(void **state)
{
    struct stage *s = *state;
    hello(s);
    int n = 0;
    for (; !sync_busy(s->sync) && n < 10000; n++)
        text(s, "{'type':'batch','ops':[{'op':'insert','table':'notes','values':{'title':'t'}}]}");
    assert_int_equal(n, WS_WINDOW);
    assert_int_equal(s->resumes, 0);
    turn(s);
    assert_int_equal(s->resumes, 1);
    assert_false(sync_busy(s->sync));
}

static void a_window_is_full_of_bytes_too(void **state)
{
    struct stage *s = *state;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    struct buf b;
    buf_init(&b, 8 * MIB);
    buf_put_str(&b, "{\"stream\":\"s\"}\n");
    memset(buf_reserve(&b, 3 * MIB), 'x', 3 * MIB);
    b.n += 3 * MIB;
    int n = 0;
    for (; !sync_busy(s->sync) && n < 100; n++)
        sync_binary(s->sync, buf_span(&b));
    assert_int_equal(n, 3);
    turn(s);
    said(s, "fate upto=3\n");
    assert_false(sync_busy(s->sync));
    buf_free(&b);
}

static void what_the_app_does_not_take_yet_waits_in_its_order(void **state)
{
    struct stage *s = *state;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    struct lab_batch *others = calloc(SUBMITTED_MAX, sizeof *others);
    size_t n = 0;
    while (n < SUBMITTED_MAX && lab_submit(&s->lab, &others[n], "{'ops':[{'op':'append','stream':'s','text':'.'}]}") == 0)
        n++;
    assert_int_equal(n, SUBMITTED_MAX);
    text(s, "{'type':'append','stream':'s','text':'mine'}");
    assert_true(sync_busy(s->sync));
    assert_int_equal(s->resumes, 1);
    sync_retry(s->sync);
    assert_true(sync_busy(s->sync));
    hub_run(&s->hub);
    said(s, "");
    turn(s);
    sync_retry(s->sync);
    assert_false(sync_busy(s->sync));
    while (app_pending(s->lab.app))
        turn(s);
    said(s, "fate upto=1\n");
    for (size_t i = 0; i < n; i++)
        lab_batch_free(&others[i]);
    free(others);
}

static void an_end_waits_for_the_fates(void **state)
{
    struct stage *s = *state;
    hello(s);
    text(s, "{'type':'batch','id':1,'ops':[{'op':'insert','table':'notes','values':{'title':'t'}}]}");
    text(s, "{'type':'nonsense'}");
    text(s, "{'type':'batch','id':2,'ops':[{'op':'insert','table':'notes','values':{'title':'t'}}]}"); // is not read any more
    assert_int_equal(s->ends, 0);
    turn(s);
    said(s, "fate id=1 fate='accepted'\nerror code='bad_request'\n");
    assert_int_equal(s->ends, 1);
    assert_int_equal(s->code, WS_POLICY);
    turn(s);
    assert_int_equal(app_visible(s->lab.app), 2); // the schema, and the one that counted
}

static void what_was_submitted_goes_on_when_the_connection_is_gone(void **state)
{
    struct stage *s = *state;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    for (int i = 0; i < 5; i++)
        text(s, "{'type':'append','stream':'s','text':'%d'}", i);
    sync_close(s->sync);
    s->sync = NULL;
    turn(s);
    assert_true(lab_stream_is(&s->lab, "s", "01234"));
    assert_int_equal(s->ends, 0);
}

static void a_full_carrier_stops_the_reading_until_it_drains(void **state)
{
    struct stage *s = *state;
    hello(s);
    s->room = 1;
    text(s, "{'type':'ping','id':1}");
    assert_true(sync_busy(s->sync));
    s->room = -1;
    sync_drain(s->sync);
    assert_false(sync_busy(s->sync));
    said(s, "pong id=1\n");
}

static void an_app_that_recovers_says_what_is_unknown_and_asks_to_come_back(void **state)
{
    struct stage *s = *state;
    hello(s);
    text(s, "{'type':'batch','id':'b','key':'k','ops':[{'op':'insert','table':'notes','values':{'title':'t'}}]}");
    disk_fail(DISK_SYNC, "/journal/", 1, EIO, 1);
    turn(s);
    disk_fail_clear();
    said(s, "error id='b' code='fate_unknown'\nerror code='busy'\n");
    assert_int_equal(s->ends, 1);
    assert_int_equal(s->code, WS_RESTART);
    sync_close(s->sync);
    s->sync = NULL;
    assert_true(lab_recover(&s->lab));
    open_sync(s);
    hello(s);
    text(s, "{'type':'batch','id':'b','key':'k','ops':[{'op':'insert','table':'notes','values':{'title':'t'}}]}");
    turn(s);
    buf_put_u8(&s->said, 0);
    assert_non_null(strstr((char *)s->said.p, "fate id=\"b\" fate=\"accepted\""));
}

static void a_stopping_service_tells_its_fates_first(void **state)
{
    struct stage *s = *state;
    hello(s);
    text(s, "{'type':'batch','id':'b','ops':[{'op':'insert','table':'notes','values':{'title':'t'}}]}");
    app_dismiss(s->lab.app);
    assert_int_equal(s->ends, 0);
    turn(s);
    said(s, "fate id='b' fate='accepted'\nerror code='shutting_down'\n");
    assert_int_equal(s->code, WS_GOING_AWAY);
}

static void binary_messages_begin_with_a_line(void **state)
{
    struct stage *s = *state;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    sync_binary(s->sync, SPAN_LIT("{\"stream\":\"s\",\"expect\":0}\n\0\xff\n"));
    sync_binary(s->sync, SPAN_LIT("{\"stream\":\"s\",\"expect\":0}\nx"));
    sync_binary(s->sync, SPAN_LIT("{\"stream\":\"s\",\"text\":\"x\"}\nx"));
    said(s, "error append=3 code='bad_batch'\n");
    turn(s);
    said(s, "fate append=2 fate='rejected' code='offset_mismatch'\nfate upto=3\n");
    struct buf b;
    buf_init(&b, 64);
    assert_int_equal(lab_stream(&s->lab, "s", &b), 0);
    assert_true(span_equal(buf_span(&b), SPAN_LIT("\0\xff\n")));
    buf_free(&b);
    sync_binary(s->sync, SPAN_LIT("no line"));
    assert_int_equal(s->code, WS_UNSUPPORTED);
}

static void records_are_appends_of_their_own(void **state)
{
    struct stage *s = *state;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    sync_binary(s->sync, SPAN_LIT("\1\1\0s\3\0\0\0one\0\0\3\0\0\0two\1\0t\1\0\0\0x\1\0s\1\0\0\0!"));
    turn(s);
    said(s, "fate append=3 fate='rejected' code='stream_not_found'\nfate upto=4\n"); // one that fails holds up none
    struct buf b;
    buf_init(&b, 64);
    assert_int_equal(lab_stream(&s->lab, "s", &b), 0);
    assert_true(span_is(buf_span(&b), "onetwo!"));
    buf_free(&b);
    sync_binary(s->sync, SPAN_LIT("\1\1\0s\3\0\0\0one\1\0s\3\0\0\0on")); // none of it is taken
    assert_int_equal(s->code, WS_UNSUPPORTED);
    assert_false(app_pending(s->lab.app));
}

static void records_that_the_app_does_not_take_yet_wait_in_their_order(void **state)
{
    struct stage *s = *state;
    struct buf b, all;
    hello(s);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    struct lab_batch *others = calloc(SUBMITTED_MAX, sizeof *others);
    for (size_t n = 0; n < SUBMITTED_MAX - 2; n++)
        assert_int_equal(lab_submit(&s->lab, &others[n], "{'ops':[{'op':'append','stream':'s','text':'.'}]}"), 0);
    buf_init(&b, KIB);
    buf_init(&all, MIB);
    buf_put_u8(&b, 1);
    for (char c = 'a'; c <= 'e'; c++)
        buf_put(&b, "\1\0s\1\0\0\0", 7), buf_put_u8(&b, (uint8_t)c);
    sync_binary(s->sync, buf_span(&b));
    assert_true(sync_busy(s->sync));
    turn(s);
    sync_retry(s->sync);
    while (app_pending(s->lab.app))
        turn(s);
    assert_false(sync_busy(s->sync));
    assert_int_equal(lab_stream(&s->lab, "s", &all), 0);
    assert_true(span_is(span_sub(buf_span(&all), all.n - 5, 5), "abcde"));
    for (size_t n = 0; n < SUBMITTED_MAX - 2; n++)
        lab_batch_free(&others[n]);
    buf_free(&b);
    buf_free(&all);
    free(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_submitted_is_answered_before_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(one_acknowledgement_stands_for_all_of_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_window_stops_the_reading_until_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_window_is_full_of_bytes_too, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_app_does_not_take_yet_waits_in_its_order, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_waits_for_the_fates, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_submitted_goes_on_when_the_connection_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_carrier_stops_the_reading_until_it_drains, setup, teardown),
        cmocka_unit_test_setup_teardown(an_app_that_recovers_says_what_is_unknown_and_asks_to_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stopping_service_tells_its_fates_first, setup, teardown),
        cmocka_unit_test_setup_teardown(records_are_appends_of_their_own, setup, teardown),
        cmocka_unit_test_setup_teardown(records_that_the_app_does_not_take_yet_wait_in_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(binary_messages_begin_with_a_line, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
