// Connections over a real loopback socket: the service has toy handlers (tests/lib/toy_http.h), the test is the peer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_peer.h"
#include "toy_http.h"

static int setup(void **state)
{
    *state = toy_start(CONN_LIMITS);
    return 0;
}

static int teardown(void **state)
{
    assert_true(toy_end(*state));
    return 0;
}

static struct peer *connect_to(void **state)
{
    struct toy *s = *state;
    struct peer *p = peer_open(s->port);
    assert_non_null(p);
    return p;
}

// Reads a reply and checks its status, and its body where one is given.
static void expect_reply(struct peer *p, int status, const char *body)
{
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_int_equal(r.status, status);
    assert_true(r.whole);
    if (body != NULL) assert_string_equal(r.body, body);
    peer_reply_free(&r);
}

#define HOST "Host: x\r\n"

// ---- plain requests ---------------------------------------------------------------------------------------------------

static void a_request_is_answered_and_the_connection_kept(void **state)
{
    struct peer *p = connect_to(state);
    for (int i = 0; i < 3; i++) {
        assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
        expect_reply(p, 200, "hello");
    }
    peer_close(p);
    assert_true(toy_reaches(&toy_done, 3));
}

static void a_reply_carries_the_standard_fields(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /later HTTP/1.1\r\n" HOST "\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_string_equal(peer_field(&r, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(peer_field(&r, "Access-Control-Allow-Origin"), "*");
    assert_string_equal(peer_field(&r, "Content-Type"), "text/plain");
    assert_string_equal(peer_field(&r, "X-Test"), "7");
    assert_int_equal(strlen(peer_field(&r, "Date")), strlen("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_string_equal(r.body, "later");
    peer_reply_free(&r);
    peer_close(p);
}

static void a_request_cut_into_single_bytes_is_answered(void **state)
{
    struct peer *p = connect_to(state);
    const char *text = "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (const char *c = text; *c != '\0'; c++) {
        assert_true(peer_send_n(p, c, 1));
        usleep(200);
    }
    expect_reply(p, 200, "abc");
    peer_close(p);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /later HTTP/1.1\r\n" HOST "\r\n"
                             "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                             "GET /nowhere HTTP/1.1\r\n" HOST "\r\n"
                             "GET /later HTTP/1.1\r\n" HOST "\r\n"
                             "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "later");
    expect_reply(p, 200, "abc");
    expect_reply(p, 404, NULL);
    expect_reply(p, 200, "later");
    expect_reply(p, 200, "hello");
    peer_close(p);
    assert_true(toy_reaches(&toy_done, 4)); // the refused one had no handler
}

static void a_flood_of_pipelined_requests_is_answered_whole(void **state)
{
    enum { COUNT = 5000 };
    const char *one = "GET /hello HTTP/1.1\r\n" HOST "\r\n";
    char *all = malloc(COUNT * strlen(one) + 1);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(all + i * strlen(one), one, strlen(one));
    struct peer *p = connect_to(state);
    assert_true(peer_send_n(p, all, COUNT * strlen(one)));
    for (int i = 0; i < COUNT; i++)
        expect_reply(p, 200, "hello");
    free(all);
    peer_close(p);
    assert_true(toy_reaches(&toy_done, COUNT));
}

static void head_tells_the_length_and_sends_no_body(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "HEAD /hello HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, true));
    assert_int_equal(r.status, 200);
    assert_string_equal(peer_field(&r, "Content-Length"), "5");
    peer_reply_free(&r);
    expect_reply(p, 200, "hello"); // the next bytes are the next reply's
    assert_true(peer_send(p, "HEAD /big?n=100000 HTTP/1.1\r\n" HOST "X-Length: 1\r\n\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_read(p, &r, true));
    assert_string_equal(peer_field(&r, "Content-Length"), "100000");
    peer_reply_free(&r);
    expect_reply(p, 200, "hello");
    peer_close(p);
}

static void a_reply_without_content_has_no_length(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /empty HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_int_equal(r.status, 204);
    assert_null(peer_field(&r, "Content-Length"));
    assert_null(peer_field(&r, "Transfer-Encoding"));
    peer_reply_free(&r);
    expect_reply(p, 200, "hello");
    peer_close(p);
}

static void close_is_honoured_and_said(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_string_equal(peer_field(&r, "Connection"), "close");
    peer_reply_free(&r);
    assert_true(peer_ended(p));
    peer_close(p);
}

static void http_1_0_is_closed_unless_it_asks_to_be_kept(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_string_equal(peer_field(&r, "Connection"), "keep-alive");
    peer_reply_free(&r);
    assert_true(peer_send(p, "GET /hello HTTP/1.0\r\n\r\n"));
    expect_reply(p, 200, "hello");
    assert_true(peer_ended(p));
    peer_close(p);
}

static void http_1_0_gets_a_stream_until_the_end_of_the_connection(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /big?n=100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_null(peer_field(&r, "Transfer-Encoding"));
    assert_null(peer_field(&r, "Content-Length"));
    assert_string_equal(peer_field(&r, "Connection"), "close");
    assert_int_equal(r.n, 100000);
    peer_reply_free(&r);
    peer_close(p);
}

// ---- bodies -----------------------------------------------------------------------------------------------------------

static void a_chunked_body_streams_in_and_out(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /stream HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n"));
    assert_true(peer_ready(p, 5000)); // the reply begins before the request ends
    assert_true(peer_send(p, "7\r\n, world\r\n0\r\nTrailer: x\r\n\r\n"));
    expect_reply(p, 200, "hello, world");
    assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    peer_close(p);
}

static void a_slow_reader_slows_the_writer_down(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /big?n=30000000 HTTP/1.1\r\n" HOST "\r\n"));
    usleep(100000);
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_true(r.whole);
    assert_int_equal(r.n, 30000000);
    peer_reply_free(&r);
    assert_true(toy_queued_max >= HTTP_OUTBOX_MAX);
    assert_true(toy_queued_max <= HTTP_OUTBOX_MAX + 50000);
    peer_close(p);
}

// A thread that sends what the test must not wait for.
struct sender {
    struct peer *peer;
    size_t n;
    bool sent;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    char *bytes = malloc(s->n);
    memset(bytes, 'y', s->n);
    s->sent = peer_send_n(s->peer, bytes, s->n);
    free(bytes);
    return NULL;
}

static void what_stands_around_a_piece_goes_with_it(void **state)
{
    for (int version = 0; version < 2; version++) {
        struct peer *p = connect_to(state);
        assert_true(peer_send(p, version == 0 ? "GET /around HTTP/1.0\r\n\r\n" : "GET /around HTTP/1.1\r\n" HOST "\r\n"));
        usleep(100000); // the socket is full by then
        struct peer_reply r;
        assert_true(peer_read(p, &r, false));
        const char *at = r.body;
        for (size_t i = 0; i < AROUND_PIECES; i++) {
            assert_true(at[0] == '<' && strspn(at + 1, "x") == i * 1001 && at[1 + i * 1001] == '>');
            at += i * 1001 + 2;
        }
        assert_true(r.whole && at == r.body + r.n);
        peer_reply_free(&r);
        peer_close(p);
    }
    assert_true(toy_queued_max < 2 * AROUND_PIECES * 1001); // one piece waits, not all
}

static void an_echo_is_bounded_by_its_reader(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /stream HTTP/1.1\r\n" HOST "Content-Length: 20000000\r\n\r\n"));
    struct sender s = {.peer = p, .n = 20000000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_all, &s), 0);
    usleep(100000);
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    pthread_join(thread, NULL);
    assert_true(s.sent);
    assert_true(r.whole);
    assert_int_equal(r.n, 20000000);
    assert_true(toy_queued_max <= HTTP_OUTBOX_MAX + HTTP_READ_MAX);
    peer_reply_free(&r);
    peer_close(p);
}

static void a_paused_handler_is_sent_nothing_more(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 20000000\r\n\r\n"));
    struct sender s = {.peer = p, .n = 20000000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_all, &s), 0);
    usleep(150000);
    assert_true(toy_body_seen > 0 && toy_body_seen <= HTTP_READ_MAX);
    toy_go_on = true;
    pthread_join(thread, NULL);
    expect_reply(p, 200, "20000000");
    peer_close(p);
}

static void a_100_is_sent_once_the_body_is_wanted(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
    expect_reply(p, 100, NULL);
    assert_true(peer_send(p, "abc"));
    expect_reply(p, 200, "abc");
    // A body that comes unasked needs no 100.
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"));
    expect_reply(p, 200, "abc");
    peer_close(p);
}

static void no_100_is_sent_for_a_body_that_nobody_wants(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_int_equal(r.status, 413);
    assert_string_equal(peer_field(&r, "Connection"), "close");
    peer_reply_free(&r);
    assert_true(peer_ended(p));
    peer_close(p);
    p = connect_to(state);
    assert_true(peer_send(p, "POST /reject HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
    expect_reply(p, 409, NULL);
    assert_true(peer_ended(p)); // nobody knows whether the body will come
    peer_close(p);
}

static void a_small_unwanted_body_does_not_cost_the_connection(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /reject HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\nunread"
                             "POST /nowhere HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"));
    expect_reply(p, 409, NULL);
    expect_reply(p, 404, NULL);
    assert_true(peer_send(p, "3\r\nabc\r\n0\r\n\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    assert_int_equal(toy_body_seen, 0);
    peer_close(p);
}

static void a_large_unwanted_body_ends_the_connection_after_the_reply_is_seen(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /reject HTTP/1.1\r\n" HOST "Content-Length: 2000000\r\n\r\n"));
    struct sender s = {.peer = p, .n = 2000000};
    send_all(&s); // all of it, before the reply is looked at
    assert_true(s.sent);
    expect_reply(p, 409, NULL);
    assert_true(peer_ended(p));
    assert_int_equal(toy_body_seen, 0);
    peer_close(p);
}

static void a_body_beyond_the_limit_is_refused(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n"));
    expect_reply(p, 413, NULL);
    assert_true(peer_ended(p));
    peer_close(p);
    p = connect_to(state);
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n100001\r\n"));
    expect_reply(p, 413, NULL);
    peer_close(p);
    p = connect_to(state);
    assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx"));
    expect_reply(p, 413, NULL);
    peer_close(p);
}

static void a_broken_reply_is_cut_short(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /break HTTP/1.1\r\n" HOST "\r\n"));
    struct peer_reply r;
    if (peer_read(p, &r, false)) {
        assert_false(r.whole);
        peer_reply_free(&r);
    }
    peer_close(p);
    assert_true(toy_reaches(&toy_done, 1));
}

static void a_cut_reply_is_all_there_but_its_end(void **state)
{
    struct peer *p = connect_to(state);
    struct peer_reply r;
    assert_true(peer_send(p, "GET /cut HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_read(p, &r, false));
    assert_false(r.whole);
    assert_string_equal(r.body, "0123456789");
    peer_reply_free(&r);
    assert_true(peer_ended(p));
    peer_close(p);
    assert_true(toy_reaches(&toy_done, 1));
}

// ---- refusals ---------------------------------------------------------------------------------------------------------

static void what_cannot_be_understood_is_refused_with_its_status(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET /hello HTTP/1.1\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\n" HOST "\r\n", 400},
        {"GET  /hello HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /hello HTTP/2.0\r\n" HOST "\r\n", 505},
        {"BREW /hello HTTP/1.1\r\n" HOST "\r\n", 501},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\n" HOST "Expect: tea\r\n\r\n", 417},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
        {"\x16\x03\x01\x02", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer *p = connect_to(state);
        assert_true(peer_send(p, cases[i].text));
        struct peer_reply r;
        assert_true(peer_read(p, &r, false));
        if (r.status != cases[i].status) fail_msg("%s: %d", cases[i].text, r.status);
        assert_string_equal(peer_field(&r, "Connection"), "close");
        assert_string_equal(peer_field(&r, "Content-Type"), "application/problem+json");
        peer_reply_free(&r);
        assert_true(peer_ended(p));
        peer_close(p);
    }
}

static void a_head_beyond_the_limits_is_refused(void **state)
{
    static char long_text[200000] = "GET /";
    memset(long_text + 5, 'a', 40000);
    strcpy(long_text + 40005, " HTTP/1.1\r\n" HOST "\r\n");
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, long_text));
    expect_reply(p, 414, NULL);
    peer_close(p);
    strcpy(long_text, "GET /hello HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 120; i++)
        sprintf(long_text + strlen(long_text), "F%d: x\r\n", i);
    strcat(long_text, "\r\n");
    p = connect_to(state);
    assert_true(peer_send(p, long_text));
    expect_reply(p, 431, NULL);
    peer_close(p);
}

static int setup_narrow(void **state)
{
    struct conn_limits limits = CONN_LIMITS;
    limits.bodies = 100;
    *state = toy_start(limits);
    return 0;
}

static void bodies_of_all_share_one_limit(void **state)
{
    static const char head[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 80\r\n\r\n", half[] = "0123456789012345678901234567890123456789";
    struct peer *first = connect_to(state), *second = connect_to(state);
    assert_true(peer_send(first, head) && peer_send(first, half));
    usleep(50000); // what the first has sent is taken by then
    assert_true(peer_send(second, head) && peer_send(second, half) && peer_send(second, half));
    expect_reply(second, 503, NULL);
    peer_close(second);
    assert_true(peer_send(first, half));
    struct peer_reply r;
    assert_true(peer_read(first, &r, false));
    assert_int_equal(r.status, 200);
    assert_int_equal(strlen(r.body), 80);
    peer_reply_free(&r);
    second = connect_to(state);
    assert_true(peer_send(second, head) && peer_send(second, half) && peer_send(second, half));
    expect_reply(second, 200, NULL);
    peer_close(first);
    peer_close(second);
}

// ---- time, and peers that vanish ----------------------------------------------------------------------------------------

static int setup_hasty(void **state)
{
    struct conn_limits limits = CONN_LIMITS;
    limits.request_ms = 100;
    limits.body_idle_ms = 100;
    limits.idle_ms = 200;
    limits.send_idle_ms = 200;
    limits.linger_ms = 100;
    limits.connections = 4;
    *state = toy_start(limits);
    return 0;
}

static void a_head_that_does_not_end_is_timed_out(void **state)
{
    struct peer *p = connect_to(state);
    for (int i = 0; i < 100; i++) {
        if (!peer_send(p, i == 0 ? "GET /hello HTTP/1.1\r\nX: " : "x") || peer_ready(p, 10)) break;
    }
    expect_reply(p, 408, NULL);
    assert_true(peer_ended(p));
    peer_close(p);
}

static void a_body_that_stops_is_timed_out(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\na"));
    expect_reply(p, 408, NULL);
    peer_close(p);
    p = connect_to(state);
    assert_true(peer_send(p, "POST /stream HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\na"));
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_false(r.whole); // the reply was under way
    peer_reply_free(&r);
    peer_close(p);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    assert_true(peer_ended(p));
    peer_close(p);
}

static void a_reader_that_takes_nothing_is_cut_off(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /big?n=100000000 HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(toy_reaches(&toy_done, 1));
    peer_close(p);
}

// A timer that is due when the reply has ended, and the request has not yet.
static void no_timer_fires_behind_the_end_of_a_reply(void **state)
{
    struct peer *p[2] = {connect_to(state), connect_to(state)};
    struct peer_reply r[2];
    for (int i = 0; i < 2; i++)
        assert_true(peer_send(p[i], "GET /tied HTTP/1.1\r\n" HOST "\r\n"));
    for (int i = 0; i < 2; i++)
        assert_true(peer_read(p[i], &r[i], false) && r[i].whole);
    assert_int_equal(r[0].n + r[1].n, strlen("first"));
    for (int i = 0; i < 2; i++) {
        peer_reply_free(&r[i]);
        peer_close(p[i]);
    }
}

static void a_handler_may_think_for_longer_than_any_deadline(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /never HTTP/1.1\r\n" HOST "\r\n"));
    assert_false(peer_ready(p, 500));
    assert_int_equal(toy_done, 0);
    peer_close(p);
}

static void one_connection_too_many_is_told_so(void **state)
{
    struct peer *kept[4];
    for (int i = 0; i < 4; i++) {
        kept[i] = connect_to(state);
        assert_true(peer_send(kept[i], "GET /never HTTP/1.1\r\n" HOST "\r\n"));
    }
    assert_true(toy_reaches(&toy_begun, 4));
    struct peer *p = connect_to(state);
    expect_reply(p, 503, NULL);
    peer_close(p);
    for (int i = 0; i < 4; i++)
        peer_reset(kept[i]);
    assert_true(toy_reaches(&toy_done, 4));
}

static void a_peer_that_ends_its_side_still_gets_its_reply(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /later HTTP/1.1\r\n" HOST "\r\nGET /later HTTP/1.1\r\n" HOST "\r\n"));
    peer_end(p);
    expect_reply(p, 200, "later");
    expect_reply(p, 200, "later");
    assert_true(peer_ended(p));
    peer_close(p);
}

static void a_body_cut_off_by_its_peer_reaches_nobody(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc"));
    peer_end(p);
    assert_true(peer_ended(p));
    peer_close(p);
    assert_true(toy_reaches(&toy_done, 1));
    assert_int_equal(toy_begun, 0);
}

static void a_vanished_peer_ends_its_request_once(void **state)
{
    struct peer *p = connect_to(state);
    assert_true(peer_send(p, "GET /never HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(toy_reaches(&toy_begun, 1));
    peer_reset(p);
    assert_true(toy_reaches(&toy_done, 1));
    p = connect_to(state);
    assert_true(peer_send(p, "GET /drip HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_ready(p, 5000));
    peer_close(p); // without a reset: found by writing
    assert_true(toy_reaches(&toy_done, 2));
    p = connect_to(state);
    assert_true(peer_send(p, "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc"));
    assert_true(toy_reaches(&toy_begun, 2));
    peer_reset(p);
    toy_go_on = true;
    assert_true(toy_reaches(&toy_done, 3));
}

// ---- stopping -----------------------------------------------------------------------------------------------------------

static void stopping_ends_idle_connections_and_finishes_replies(void **state)
{
    struct toy *s = *state;
    struct peer *idle = connect_to(state), *busy = connect_to(state);
    assert_true(peer_send(idle, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(idle, 200, "hello");
    assert_true(peer_send(busy, "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n"));
    assert_true(toy_reaches(&toy_begun, 2));
    toy_go_on = true;
    toy_stop(s);
    assert_true(peer_ended(idle));
    assert_null(peer_open(s->port));
    assert_true(peer_send(busy, "abc"));
    struct peer_reply r;
    assert_true(peer_read(busy, &r, false));
    assert_string_equal(peer_field(&r, "Connection"), "close");
    assert_string_equal(r.body, "3");
    peer_reply_free(&r);
    assert_true(peer_ended(busy));
    peer_close(idle);
    peer_close(busy);
}

static void closing_with_requests_under_way_ends_each_once(void **state)
{
    struct toy *s = toy_start(CONN_LIMITS);
    *state = s;
    struct peer *never = connect_to(state), *drip = connect_to(state), *hold = connect_to(state);
    assert_true(peer_send(never, "GET /never HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_send(drip, "GET /drip HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_send(hold, "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc"));
    assert_true(toy_reaches(&toy_begun, 2));
    assert_true(peer_ready(drip, 5000));
    assert_true(toy_end(s));
    assert_int_equal(toy_done, 3);
    peer_close(never);
    peer_close(drip);
    peer_close(hold);
}

// ---- held -------------------------------------------------------------------------------------------------------------

static void what_is_held_waits_and_goes_on_in_its_order(void **state)
{
    struct toy *s = *state;
    struct peer *timed = connect_to(state);
    assert_true(peer_send(timed, "GET /later HTTP/1.1\r\n" HOST "\r\n"));
    usleep(20000); // its timer runs, if all goes well; else it waits from the beginning
    toy_held = true;
    struct peer *line = connect_to(state), *body = connect_to(state), *ended = connect_to(state), *gone = connect_to(state);
    assert_true(peer_send(line, "GET /hello HTTP/1.1\r\n" HOST "\r\n"
                                "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                                "GET /nowhere HTTP/1.1\r\n" HOST "\r\n"
                                "GET /empty HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_send(body, "POST /stream HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 6\r\n\r\n"));
    assert_true(peer_send(body, "abc"));
    assert_true(peer_send(ended, "POST /stream HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi"));
    peer_end(ended);
    assert_true(peer_send(gone, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    struct peer *all[] = {timed, line, body, ended, gone};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_false(peer_ready(all[i], 50));
    peer_close(gone);
    assert_true(peer_send(body, "def"));
    assert_int_equal(toy_begun, 0);
    assert_int_equal(toy_body_seen, 0);
    toy_release(s);
    expect_reply(timed, 200, "later");
    expect_reply(line, 200, "hello");
    expect_reply(line, 200, "abc");
    expect_reply(line, 404, NULL);
    expect_reply(line, 204, NULL);
    expect_reply(body, 200, "abcdef"); // and no 100: its body had come
    expect_reply(ended, 200, "hi");
    for (size_t i = 0; i < 4; i++)
        peer_close(all[i]);
}

static void a_body_that_is_held_is_not_timed_out(void **state)
{
    struct toy *s = *state;
    struct peer *p = connect_to(state);
    toy_held = true;
    assert_true(peer_send(p, "POST /stream HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\nabc"));
    assert_false(peer_ready(p, 600)); // longer than any deadline
    toy_release(s);
    assert_true(peer_send(p, "def"));
    expect_reply(p, 200, "abcdef");
    peer_close(p);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define HASTY(test) cmocka_unit_test_setup_teardown(test, setup_hasty, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_request_is_answered_and_the_connection_kept),
        WITH(a_reply_carries_the_standard_fields),
        WITH(a_request_cut_into_single_bytes_is_answered),
        WITH(pipelined_requests_are_answered_in_order),
        WITH(a_flood_of_pipelined_requests_is_answered_whole),
        WITH(head_tells_the_length_and_sends_no_body),
        WITH(a_reply_without_content_has_no_length),
        WITH(close_is_honoured_and_said),
        WITH(http_1_0_is_closed_unless_it_asks_to_be_kept),
        WITH(http_1_0_gets_a_stream_until_the_end_of_the_connection),
        WITH(a_chunked_body_streams_in_and_out),
        WITH(a_slow_reader_slows_the_writer_down),
        WITH(what_stands_around_a_piece_goes_with_it),
        WITH(an_echo_is_bounded_by_its_reader),
        WITH(a_paused_handler_is_sent_nothing_more),
        WITH(a_100_is_sent_once_the_body_is_wanted),
        WITH(no_100_is_sent_for_a_body_that_nobody_wants),
        WITH(a_small_unwanted_body_does_not_cost_the_connection),
        WITH(a_large_unwanted_body_ends_the_connection_after_the_reply_is_seen),
        WITH(a_body_beyond_the_limit_is_refused),
        WITH(a_broken_reply_is_cut_short),
        WITH(a_cut_reply_is_all_there_but_its_end),
        WITH(what_cannot_be_understood_is_refused_with_its_status),
        WITH(a_head_beyond_the_limits_is_refused),
        cmocka_unit_test_setup_teardown(bodies_of_all_share_one_limit, setup_narrow, teardown),
        HASTY(a_head_that_does_not_end_is_timed_out),
        HASTY(a_body_that_stops_is_timed_out),
        HASTY(an_idle_connection_is_closed_without_a_word),
        HASTY(a_reader_that_takes_nothing_is_cut_off),
        HASTY(a_handler_may_think_for_longer_than_any_deadline),
        WITH(no_timer_fires_behind_the_end_of_a_reply),
        HASTY(one_connection_too_many_is_told_so),
        WITH(what_is_held_waits_and_goes_on_in_its_order),
        HASTY(a_body_that_is_held_is_not_timed_out),
        WITH(a_peer_that_ends_its_side_still_gets_its_reply),
        WITH(a_body_cut_off_by_its_peer_reaches_nobody),
        WITH(a_vanished_peer_ends_its_request_once),
        WITH(stopping_ends_idle_connections_and_finishes_replies),
        cmocka_unit_test(closing_with_requests_under_way_ends_each_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
