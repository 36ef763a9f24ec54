#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_internal.h"
#include "disk.h"
#include "err.h"
#include "session_impl.h"
#include "session_peer.h"

#define ID(n) "01890a5d-ac96-774b-bcce-00000000000" #n
#define SCHEMA "create table notes (title text not null, n bigint, body stream)"

struct stage {
    struct app_lab lab;
    struct hub hub;
    struct session_peer peer;
};

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    app_lab_init(&s->lab);
    app_lab_wake(&s->lab, &s->hub);
    app_lab_open(&s->lab);
    assert_int_equal(lab_schema(&s->lab, SCHEMA), 0);
    session_peer_init(&s->peer, &s->lab, &s->hub);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    session_peer_free(&s->peer);
    app_lab_free(&s->lab);
    free(s);
    return 0;
}

static void run(struct stage *s)
{
    while (s->hub.first != NULL)
        hub_run(&s->hub);
}

static void start(struct stage *s, const char *cursor)
{
    assert_int_equal(session_peer_start(&s->peer, cursor), 0);
    run(s);
}

// A batch whose readers are marked, and have not run.
static int app_turn_without(struct stage *s, const char *json)
{
    void (*visible)(void *, struct app *) = s->lab.app->options.visible;
    s->lab.app->options.visible = NULL;
    int err = lab_run(&s->lab, "%s", json);
    s->lab.app->options.visible = visible;
    return err;
}

static void insert(struct stage *s, unsigned n)
{
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'title':'t','n':%u}}]}", n, n), 0);
}

static char *text_of(size_t n, char c)
{
    char *text = malloc(n + 1);
    memset(text, c, n);
    text[n] = '\0';
    return text;
}

// ---- the beginning -------------------------------------------------------------------------------------------------

static void a_fresh_reader_gets_snapshots_and_goes_live(void **state)
{
    struct stage *s = *state;
    insert(s, 1);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'},{'op':'append','stream':'a','text':'hello'}]}"), 0);
    session_peer_query(&s->peer, "open", "select title, n from notes");
    session_peer_stream(&s->peer, "reply", "a", 2);
    session_peer_stream(&s->peer, "later", "not/there", 0);
    start(s, NULL);
    assert_true(s->peer.live);
    assert_int_equal(s->peer.to, 3);
    assert_int_equal(s->peer.subs[0].row_count, 1);
    assert_int_equal(s->peer.subs[1].bytes.n, 3);
    assert_false(s->peer.subs[2].exists);
    session_peer_check(&s->peer);
    assert_int_equal(s->peer.messages, 1 + 3 + 1);
    assert_int_not_equal(s->peer.cursor[0], 0);
}

static void a_large_snapshot_comes_in_pieces_as_of_one_seq(void **state)
{
    struct stage *s = *state;
    char *text = text_of(2000, 'x');
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'title':'%s','n':%u}}]}", i, text, i), 0);
    free(text);
    session_peer_query(&s->peer, "all", "select * from notes order by n desc");
    s->peer.room = 2;
    start(s, NULL);
    assert_false(s->peer.live);
    uint64_t at = s->peer.to;
    for (int i = 0; !s->peer.live; i++) {
        assert_true(i < 100);
        insert(s, 1000 + (unsigned)i); // the state goes on meanwhile
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'delete','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u'}]}", 100 + i), 0);
        assert_int_equal(s->peer.to, at);
        session_peer_drain(&s->peer, 1);
    }
    assert_true(s->peer.messages > 5);
    session_peer_drain(&s->peer, -1);
    assert_int_equal(s->peer.to, app_visible(s->lab.app));
}

static void names_and_subscriptions_are_checked(void **state)
{
    struct stage *s = *state;
    struct session *session;
    struct problem p = PROBLEM_NONE;
    static const struct session_carrier none = {NULL, NULL};
    assert_int_equal(session_open(&session, &s->hub, s->lab.app, &none, NULL), 0);
    assert_int_equal(session_stream(session, SPAN_LIT(""), SPAN_LIT("a"), 0, &p), ERR_BAD_PARAMETER);
    assert_int_equal(session_stream(session, SPAN_LIT("a b"), SPAN_LIT("a"), 0, &p), ERR_BAD_PARAMETER);
    assert_int_equal(session_stream(session, SPAN_LIT("a"), SPAN_LIT(""), 0, &p), ERR_BAD_PARAMETER);
    assert_int_equal(session_stream(session, SPAN_LIT("a"), SPAN_LIT("a"), 0, &p), 0);
    assert_int_equal(session_stream(session, SPAN_LIT("a"), SPAN_LIT("b"), 0, &p), ERR_BAD_PARAMETER);
    p = PROBLEM_NONE;
    assert_int_equal(session_query(session, SPAN_LIT("q"), SPAN_LIT("select * from nowhere"), NULL, 0, &p), ERR_NO_SUCH_TABLE);
    assert_int_equal(p.err, ERR_NO_SUCH_TABLE);
    for (int i = 1; i < SUBSCRIPTIONS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(session_stream(session, SPAN_STR(name), SPAN_LIT("a"), 0, &p), 0);
    }
    assert_int_equal(session_stream(session, SPAN_LIT("more"), SPAN_LIT("a"), 0, &p), ERR_TOO_MANY);
    session_close(session);
}

static void an_offset_beyond_the_stream_is_refused(void **state)
{
    struct stage *s = *state;
    session_peer_stream(&s->peer, "reply", "a", 7);
    assert_int_equal(session_peer_start(&s->peer, NULL), ERR_BAD_OFFSET);
    assert_int_equal(s->peer.messages, 0);
}

// ---- live ----------------------------------------------------------------------------------------------------------

static void a_mixed_batch_arrives_as_one_message(void **state)
{
    struct stage *s = *state;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'}]}"), 0);
    session_peer_query(&s->peer, "all", "select title from notes");
    session_peer_query(&s->peer, "some", "select title from notes where n = 5 order by title");
    session_peer_stream(&s->peer, "a", "a", 0);
    session_peer_stream(&s->peer, "body", "rows/notes/" ID(1) "/body", 0);
    start(s, NULL);
    size_t before = s->peer.messages;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'notes','id':'" ID(1) "','values':{'title':'a','n':5}},{'op':'append','stream':'a','text':'x'},"
                                      "{'op':'append','table':'notes','id':'" ID(1) "','column':'body','text':'Hello'},{'op':'close','table':'notes','id':'" ID(1) "','column':'body'}]}"), 0);
    assert_int_equal(s->peer.messages, before + 1);
    assert_int_equal(s->peer.parts, 0);
    session_peer_check(&s->peer);
    assert_true(s->peer.subs[3].closed);
    assert_int_equal(s->peer.subs[0].row_count, 1);
    assert_int_equal(s->peer.subs[1].row_count, 1);
}

static void what_touches_nobody_is_not_told(void **state)
{
    struct stage *s = *state;
    session_peer_stream(&s->peer, "a", "a", 0);
    start(s, NULL);
    size_t before = s->peer.messages;
    for (unsigned i = 1; i < 20; i++)
        insert(s, i);
    assert_int_equal(s->peer.messages, before);
    // The next range begins where the last told one ended: they tile, which the peer checks.
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'}]}"), 0);
    assert_int_equal(s->peer.messages, before + 1);
    assert_int_equal(s->peer.to, app_visible(s->lab.app));
}

static void a_rejected_batch_is_not_told(void **state)
{
    struct stage *s = *state;
    session_peer_query(&s->peer, "all", "select * from notes");
    start(s, NULL);
    size_t before = s->peer.messages;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'notes','values':{'title':'a'}},{'op':'drop','stream':'no'}]}"), ERR_STREAM_NOT_FOUND);
    assert_int_equal(s->peer.messages, before);
}

static void a_large_commit_comes_in_parts(void **state)
{
    struct stage *s = *state;
    char *text = text_of(300000, 'p');
    session_peer_stream(&s->peer, "a", "a", 0);
    session_peer_query(&s->peer, "all", "select title from notes");
    start(s, NULL);
    size_t before = s->peer.messages;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'},{'op':'append','stream':'a','text':'%s'},{'op':'insert','table':'notes','values':{'title':'a'}}]}", text), 0);
    assert_true(s->peer.messages > before + 3);
    assert_int_equal(s->peer.parts, s->peer.messages - before - 1);
    session_peer_check(&s->peer);
    free(text);
}

static void a_reader_cut_off_between_parts_resumes_before_them(void **state)
{
    struct stage *s = *state;
    char *text = text_of(400000, 'q');
    session_peer_stream(&s->peer, "a", "a", 0);
    session_peer_query(&s->peer, "all", "select title from notes");
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'},{'op':'append','stream':'a','text':'begin '}]}"), 0);
    start(s, NULL);
    for (int room = 1; room < 5; room++) {
        s->peer.room = room;
        uint64_t to = s->peer.to;
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'append','stream':'a','text':'%s'},{'op':'insert','table':'notes','values':{'title':'%d'}}]}", text, room), 0);
        assert_int_equal(s->peer.waiting_parts, room);
        assert_int_equal(s->peer.to, to);
        session_peer_stop(&s->peer);
        s->peer.room = -1;
        start(s, NULL);
        assert_int_equal(s->peer.resets, 0);
        assert_int_equal(s->peer.to, app_visible(s->lab.app));
        session_peer_check(&s->peer);
    }
    free(text);
}

static size_t in_line(const struct sub_list *l)
{
    size_t n = 0;
    for (const struct subscription *sub = l->first; sub != NULL; sub = sub->next)
        n++;
    return n;
}

static bool takes_all(void *carrier, struct span message, const char *cursor)
{
    (void)message, (void)cursor;
    ++*(size_t *)carrier;
    return true;
}

static void takes_the_end(void *carrier, int err)
{
    (void)carrier, (void)err;
}

static void a_commit_concerns_the_subscriptions_that_it_touched(void **state)
{
    struct stage *s = *state;
    struct session *session;
    size_t messages = 0;
    static const struct session_carrier all = {.send = takes_all, .end = takes_the_end};
    assert_int_equal(session_open(&session, &s->hub, s->lab.app, &all, &messages), 0);
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(session_stream(session, SPAN_STR(name), SPAN_STR(name), 0, NULL), 0);
    }
    assert_int_equal(session_start(session, SPAN_NONE, NULL), 0);
    run(s);
    assert_int_equal(session->state, SESSION_LIVE);
    assert_int_equal(in_line(&session->aside) + in_line(&session->touched), 0);
    size_t before = messages;
    assert_int_equal(app_turn_without(s, "{'ops':[{'op':'create','stream':'n7'},{'op':'create','stream':'n900'},{'op':'create','stream':'other'}]}"), 0);
    assert_int_equal(in_line(&session->touched), 2);
    run(s);
    assert_int_equal(messages, before + 1);
    assert_int_equal(in_line(&session->touched), 0);
    // One that was touched and leaves is out of line, too.
    assert_int_equal(app_turn_without(s, "{'ops':[{'op':'append','stream':'n7','text':'x'},{'op':'append','stream':'n900','text':'x'}]}"), 0);
    assert_int_equal(session_unsubscribe(session, SPAN_LIT("n7"), NULL), 0);
    assert_int_equal(in_line(&session->touched), 1);
    run(s);
    session_close(session);
}

// ---- a slow reader -------------------------------------------------------------------------------------------------

static void a_full_carrier_is_sent_nothing_and_misses_nothing(void **state)
{
    struct stage *s = *state;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'}]}"), 0);
    session_peer_query(&s->peer, "all", "select title, n from notes");
    session_peer_query(&s->peer, "top", "select n from notes order by n desc limit 5");
    session_peer_stream(&s->peer, "a", "a", 0);
    start(s, NULL);
    s->peer.room = 1;
    insert(s, 1); // fills it
    size_t before = s->peer.messages;
    for (unsigned i = 2; i < 1500; i++)
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'update','table':'notes','id':'" ID(1) "','values':{'n':%u}},{'op':'append','stream':'a','text':'token %u,'}]}", i, i), 0);
    assert_int_equal(s->peer.messages, before);
    session_peer_drain(&s->peer, -1);
    assert_int_equal(s->peer.to, app_visible(s->lab.app));
    assert_true(s->peer.messages < before + 20); // ranges of many commits, not one message for each
    session_peer_check(&s->peer);
}

static void a_reader_behind_the_views_memory_is_served_from_history(void **state)
{
    struct stage *s = *state;
    session_peer_query(&s->peer, "all", "select title, n from notes");
    session_peer_query(&s->peer, "top", "select n from notes where n > 3 order by n limit 4");
    start(s, NULL);
    s->peer.room = 1;
    insert(s, 1);
    for (unsigned i = 0; i < VIEW_RING_CHANGES_MAX + 100; i += 100) {
        struct buf json;
        buf_init(&json, MIB);
        buf_put_str(&json, "{'ops':[");
        for (unsigned k = 0; k < 100; k++)
            buf_printf(&json, "%s{'op':'update','table':'notes','id':'" ID(1) "','values':{'n':%u}}", k == 0 ? "" : ",", i + k);
        for (unsigned k = 0; k < 100; k++)
            buf_printf(&json, ",{'op':'insert','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'title':'t','n':%u}}", 10 + i + k, i + k);
        buf_put_str(&json, "]}");
        buf_put_u8(&json, 0);
        assert_int_equal(lab_run(&s->lab, "%s", (char *)json.p), 0);
        buf_free(&json);
    }
    session_peer_drain(&s->peer, -1);
    assert_int_equal(s->peer.to, app_visible(s->lab.app));
    session_peer_check(&s->peer);
}

// ---- cursors -------------------------------------------------------------------------------------------------------

static void a_cursor_outlives_service_and_reader(void **state)
{
    struct stage *s = *state;
    session_peer_query(&s->peer, "all", "select title, n from notes order by n");
    session_peer_stream(&s->peer, "a", "a", 0);
    start(s, NULL);
    for (unsigned i = 1; i < 9; i++) {
        insert(s, i);
        session_peer_stop(&s->peer);
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'%s','stream':'a'},{'op':'delete','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u'}]}", i % 2 ? "create" : "drop", i), 0);
        insert(s, 100 + i);
        app_lab_reopen(&s->lab);
        start(s, NULL);
        assert_int_equal(s->peer.resets, 0);
        assert_int_equal(s->peer.to, app_visible(s->lab.app));
        session_peer_check(&s->peer);
    }
}

static void a_cursor_that_does_not_fit_is_a_reset(void **state)
{
    struct stage *s = *state;
    char cursor[128];
    session_peer_query(&s->peer, "all", "select title from notes");
    start(s, NULL);
    insert(s, 1);
    snprintf(cursor, sizeof cursor, "%s", s->peer.cursor);
    session_peer_stop(&s->peer);
    char other[128];
    snprintf(other, sizeof other, "%s", cursor);
    other[4] = other[4] == '0' ? '1' : '0';
    start(s, other);
    assert_string_equal(s->peer.reset, "other_journal");
    session_peer_check(&s->peer);
    session_peer_stop(&s->peer);

    snprintf(other, sizeof other, "%.*s999.%s", 39, cursor, strrchr(cursor, '.') + 1);
    start(s, other);
    assert_string_equal(s->peer.reset, "seq_ahead");
    session_peer_check(&s->peer);
    session_peer_stop(&s->peer);

    session_peer_stream(&s->peer, "a", "a", 0);
    start(s, cursor);
    assert_string_equal(s->peer.reset, "other_subscriptions");
    session_peer_check(&s->peer);
    assert_int_equal(s->peer.resets, 3);
    assert_true(s->peer.live);
}

static void what_is_no_cursor_is_refused(void **state)
{
    struct stage *s = *state;
    static const char *const bad[] = {"x", "1", "1.2.3.4", "2." ID(1) ".1.0", "1." ID(1) "..0", "1." ID(1) ".-1.0", "1." ID(1) ".1.0.0", "1." ID(1) ".1x.0", "1." ID(1) ".1.g"};
    session_peer_query(&s->peer, "all", "select title from notes");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(session_peer_start(&s->peer, bad[i]), ERR_BAD_CURSOR);
    assert_int_equal(s->peer.messages, 0);
}

// ---- the end -------------------------------------------------------------------------------------------------------

static void a_session_ends_when_the_app_asks(void **state)
{
    struct stage *s = *state;
    session_peer_query(&s->peer, "all", "select title from notes");
    start(s, NULL);
    app_dismiss(s->lab.app);
    assert_int_equal(s->peer.ends, 1);
    assert_int_equal(s->peer.ended, ERR_SHUTTING_DOWN);
    insert(s, 1); // tells it nothing: on_send would object
    session_drain(s->peer.session);
    assert_int_equal(s->peer.ends, 1);
    session_peer_stop(&s->peer);
    start(s, NULL);
    session_peer_check(&s->peer);
}

static void what_is_not_durable_is_shown_to_nobody(void **state)
{
    struct stage *s = *state;
    session_peer_query(&s->peer, "all", "select title, n from notes");
    session_peer_stream(&s->peer, "a", "a", 0);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'}]}"), 0);
    start(s, NULL);
    insert(s, 1);
    for (unsigned i = 2; i < 6; i++) {
        size_t before = s->peer.messages;
        disk_fail(i % 2 ? DISK_SYNC : DISK_WRITE, "/journal/", 1, EIO, 1);
        assert_int_equal(lab_run(&s->lab, "{'key':'k%u','ops':[{'op':'insert','table':'notes','values':{'title':'lost'}},{'op':'append','stream':'a','text':'lost'}]}", i), ERR_FATE_UNKNOWN);
        disk_fail_clear();
        assert_int_equal(s->peer.messages, before);
        assert_int_equal(s->peer.ends, 1);
        assert_int_equal(s->peer.ended, ERR_BUSY);
        assert_int_equal(session_query(s->peer.session, SPAN_LIT("late"), SPAN_LIT("select * from notes"), NULL, 0, NULL), ERR_BUSY);
        session_peer_stop(&s->peer);
        assert_int_equal(session_peer_start(&s->peer, NULL), ERR_BUSY);
        // What came of it is told once it is certain, and from the cursor on.
        assert_true(lab_recover(&s->lab));
        start(s, NULL);
        assert_int_equal(s->peer.resets, 0);
        session_peer_check(&s->peer);
        insert(s, i);
    }
}

// ---- while it runs ---------------------------------------------------------------------------------------------------

static void a_late_subscription_joins_beside_live_ranges(void **state)
{
    struct stage *s = *state;
    for (unsigned i = 0; i < 3000; i++)
        insert(s, i);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'}]}"), 0);
    session_peer_stream(&s->peer, "a", "a", 0);
    start(s, NULL);
    s->peer.room = 1;
    assert_int_equal(session_peer_late(&s->peer, "rows", "select title, n from notes order by n", NULL), 0);
    assert_int_equal(session_peer_late(&s->peer, "b", NULL, "b"), 0);
    session_peer_drain(&s->peer, 1);
    size_t joined = 0;
    for (unsigned i = 0; joined < 2 && i < 200; i++) {
        uint64_t to = s->peer.to;
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'append','stream':'a','text':'%u;'},{'op':'update','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'n':7}}]}", i, i), 0);
        // A token waits for one piece of the snapshot at most.
        session_peer_drain(&s->peer, 2);
        assert_true(s->peer.to > to || s->peer.waiting_parts > 0);
        joined = s->peer.joined;
    }
    assert_int_equal(joined, 2);
    session_peer_drain(&s->peer, -1);
    session_peer_check(&s->peer);
}

static void what_a_late_subscription_missed_is_told_beside_the_ranges_if_it_is_much(void **state)
{
    struct stage *s = *state;
    char *text = text_of(1000000, 'x');
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'create','stream':'a'},{'op':'append','stream':'a','text':'%s'},{'op':'create','stream':'b'}]}", text), 0);
    session_peer_stream(&s->peer, "b", "b", 0);
    start(s, NULL);
    s->peer.room = 1;
    assert_int_equal(session_peer_late(&s->peer, "a", NULL, "a"), 0);
    session_peer_drain(&s->peer, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'append','stream':'a','text':'%s'},{'op':'append','stream':'b','text':'x'}]}", text), 0);
        session_peer_drain(&s->peer, 1);
    }
    session_peer_drain(&s->peer, -1);
    assert_true(s->peer.catchups > 0);
    assert_int_equal(s->peer.joined, 1);
    session_peer_check(&s->peer);
    free(text);
}

static void an_end_is_told_and_nothing_comes_after(void **state)
{
    struct stage *s = *state;
    insert(s, 1);
    session_peer_query(&s->peer, "one", "select n from notes");
    session_peer_query(&s->peer, "two", "select title from notes");
    start(s, NULL);
    session_peer_leave(&s->peer, "one");
    assert_int_equal(session_unsubscribe(s->peer.session, SPAN_LIT("one"), NULL), ERR_BAD_PARAMETER);
    run(s);
    assert_int_equal(s->peer.leaves, 1);
    insert(s, 2);
    session_peer_check(&s->peer);
    // The cursor stands for what is left.
    session_peer_stop(&s->peer);
    insert(s, 3);
    start(s, NULL);
    assert_int_equal(s->peer.resets, 0);
    session_peer_check(&s->peer);
    session_peer_leave(&s->peer, "two");
    run(s);
    assert_int_equal(s->peer.sub_count, 0);
    insert(s, 4);
    assert_int_equal(session_peer_late(&s->peer, "three", "select n from notes", NULL), 0);
    run(s);
    assert_int_equal(s->peer.joined, 1);
    session_peer_check(&s->peer);
}

static void ends_that_nobody_reads_are_bounded(void **state)
{
    struct stage *s = *state;
    struct problem p = PROBLEM_NONE;
    start(s, NULL);
    s->peer.room = 0;
    session_query(s->peer.session, SPAN_LIT("q"), SPAN_LIT("select n from notes"), NULL, 0, &p);
    int err = 0;
    for (int i = 0; i < 20000 && err == 0; i++) {
        char name[80];
        snprintf(name, sizeof name, "%060d", i);
        assert_int_equal(session_stream(s->peer.session, SPAN_STR(name), SPAN_LIT("x"), 0, &p), 0);
        err = session_unsubscribe(s->peer.session, SPAN_STR(name), &p);
    }
    assert_int_equal(err, ERR_TOO_MANY);
}

// ---- anything ------------------------------------------------------------------------------------------------------

#define PEERS 4

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x >> 11;
}

static void random_op(struct buf *json, uint64_t *x)
{
    unsigned id = (unsigned)(next(x) % 12), path = (unsigned)(next(x) % 3), n = (unsigned)(next(x) % 20);
    switch (next(x) % 9) {
    case 0:
    case 1: buf_printf(json, "{'op':'insert','table':'notes','values':{'title':'made','n':%u}}", n); break;
    case 2: buf_printf(json, "{'op':'insert','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'title':'t%u','n':%u}}", (unsigned)(next(x) % 60), n, n); break;
    case 3: buf_printf(json, "{'op':'update','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'n':%u}}", (unsigned)(next(x) % 60), n); break;
    case 4: buf_printf(json, "{'op':'delete','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u'}", (unsigned)(next(x) % 60)); break;
    case 5: buf_printf(json, "{'op':'create','stream':'s%u'}", path); break;
    case 6:
        if (next(x) % 4 == 0) buf_printf(json, "{'op':'%s','stream':'s%u'}", id % 3 == 0 ? "close" : "drop", path);
        else buf_printf(json, "{'op':'append','stream':'s%u','base64':'%s'}", path, id % 2 ? "4oKs" : "/wA=");
        break;
    case 7: buf_printf(json, "{'op':'append','stream':'s%u','text':'token %u '}", path, n); break;
    default:
        buf_printf(json, "{'op':'append','stream':'s%u','text':'", path);
        for (unsigned i = next(x) % 16 == 0 ? 4000 : 10; i > 0; i--)
            buf_put_str(json, "long append \xe2\x82\xac ");
        buf_put_str(json, "'}");
    }
}

static void random_batch(struct stage *s, uint64_t *x)
{
    struct buf json;
    buf_init(&json, 4 * MIB);
    buf_put_str(&json, "{'ops':[");
    for (uint64_t n = 1 + next(x) % 3; n > 0; n--) {
        random_op(&json, x);
        if (n > 1) buf_put_str(&json, ",");
    }
    buf_put_str(&json, "]}");
    buf_put_u8(&json, 0);
    int err = lab_run(&s->lab, "%s", (char *)json.p);
    assert_true(err == 0 || s->lab.last.fate.journaled);
    buf_free(&json);
}

static void random_reader(struct stage *s, struct session_peer *p, uint64_t *x)
{
    char name[32];
    size_t i;
    switch (next(x) % 16) {
    case 0:
        session_peer_stop(p);
        p->room = (int)(next(x) % 4) - 1;
        if (p->room == 0) p->room = 3;
        assert_int_equal(session_peer_start(p, NULL), 0);
        run(s);
        break;
    case 1:
    case 2:
    case 3: session_peer_drain(p, 1 + (int)(next(x) % 3)); break;
    case 4: session_peer_drain(p, -1); break;
    case 5:
        if (p->sub_count == PEER_SUBS_MAX || p->session == NULL) break;
        snprintf(name, sizeof name, "late%llu", (unsigned long long)next(x));
        assert_int_equal(session_peer_late(p, name, next(x) % 2 ? "select title, n from notes order by n limit 7" : NULL, "s2"), 0);
        break;
    case 6:
        if (p->sub_count < 2) break;
        i = (size_t)(next(x) % p->sub_count);
        if (!p->subs[i].leaving) session_peer_leave(p, p->subs[i].name);
        break;
    default: break;
    }
}

static void random_service(struct stage *s, struct session_peer *peers, uint64_t *x)
{
    switch (next(x) % 40) {
    case 0: lab_seal(&s->lab); break;
    case 1: lab_commit_db(&s->lab); break;
    case 2:
        if (next(x) % 4 != 0) break;
        for (int i = 0; i < PEERS; i++)
            session_peer_stop(&peers[i]);
        app_lab_reopen(&s->lab);
        for (int i = 0; i < PEERS; i++)
            assert_int_equal(session_peer_start(&peers[i], NULL), 0);
        run(s);
        break;
    default: break;
    }
}

static void check_readers(struct session_peer *peers)
{
    for (int i = 0; i < PEERS; i++) {
        session_peer_drain(&peers[i], -1);
        assert_int_equal(peers[i].resets, 0);
        assert_int_equal(peers[i].ends, 0);
        session_peer_check(&peers[i]);
    }
}

static void whatever_happens_readers_come_to_the_same_state(void **state)
{
    struct stage *s = *state;
    struct session_peer peers[PEERS];
    static const char *const queries[PEERS] = {"select title, n from notes", "select title, n from notes where n > 9 order by n, title limit 4", "select n from notes order by n desc",
                                               "select title from notes where title = 'made' limit 3"};
    uint64_t x = getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : 88172645463325252u;
    for (int i = 0; i < PEERS; i++) {
        session_peer_init(&peers[i], &s->lab, &s->hub);
        session_peer_query(&peers[i], "rows", queries[i]);
        session_peer_stream(&peers[i], "s0", "s0", 0);
        session_peer_stream(&peers[i], "s1", "s1", 0);
        if (i % 2) session_peer_query(&peers[i], "more", queries[0]);
        assert_int_equal(session_peer_start(&peers[i], NULL), 0);
    }
    for (int step = 1; step <= 1200; step++) {
        random_batch(s, &x);
        for (int i = 0; i < PEERS; i++)
            random_reader(s, &peers[i], &x);
        random_service(s, peers, &x);
        if (step % 100 == 0) check_readers(peers);
    }
    for (int i = 0; i < PEERS; i++)
        session_peer_free(&peers[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fresh_reader_gets_snapshots_and_goes_live, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_snapshot_comes_in_pieces_as_of_one_seq, setup, teardown),
        cmocka_unit_test_setup_teardown(names_and_subscriptions_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(an_offset_beyond_the_stream_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mixed_batch_arrives_as_one_message, setup, teardown),
        cmocka_unit_test_setup_teardown(what_touches_nobody_is_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rejected_batch_is_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_commit_comes_in_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_cut_off_between_parts_resumes_before_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_concerns_the_subscriptions_that_it_touched, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_carrier_is_sent_nothing_and_misses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_behind_the_views_memory_is_served_from_history, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cursor_outlives_service_and_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cursor_that_does_not_fit_is_a_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_cursor_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_ends_when_the_app_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_durable_is_shown_to_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_subscription_joins_beside_live_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_late_subscription_missed_is_told_beside_the_ranges_if_it_is_much, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_is_told_and_nothing_comes_after, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_that_nobody_reads_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(whatever_happens_readers_come_to_the_same_state, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
