// Connections that go from one loop to another with a request of theirs: in order, with all their bytes, and to where the request belongs. The two services are
// toys (tests/lib/toy_http.h): what begins with /2/ is the second one's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_peer.h"
#include "toy_http.h"

struct rig {
    struct toy *pair[2];
};

static int setup(void **state)
{
    struct rig *g = malloc(sizeof *g);
    toy_start_pair(CONN_LIMITS, g->pair);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    struct rig *g = *state;
    assert_true(toy_end_pair(g->pair));
    free(g);
    return 0;
}

static struct peer *connect_to(void **state, int which)
{
    struct rig *g = *state;
    struct peer *p = peer_open(g->pair[which]->port);
    assert_non_null(p);
    return p;
}

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

static void a_request_is_answered_wherever_it_arrives(void **state)
{
    for (int which = 0; which < 2; which++) {
        struct peer *p = connect_to(state, which);
        for (int i = 0; i < 20; i++) {
            assert_true(peer_send(p, "GET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
            expect_reply(p, 200, "hello");
            assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
            expect_reply(p, 200, "hello");
        }
        peer_close(p);
    }
    assert_true(toy_reaches(&toy_done, 80));
}

static void pipelined_requests_stay_in_order_across_loops(void **state)
{
    struct peer *p = connect_to(state, 0);
    assert_true(peer_send(p, "GET /later HTTP/1.1\r\n" HOST "\r\n"
                             "POST /2/echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                             "GET /2/later HTTP/1.1\r\n" HOST "\r\n"
                             "GET /nowhere HTTP/1.1\r\n" HOST "\r\n"
                             "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
                             "GET /2/hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
    expect_reply(p, 200, "later");
    expect_reply(p, 200, "abc");
    expect_reply(p, 200, "later");
    expect_reply(p, 404, NULL);
    expect_reply(p, 200, "de");
    expect_reply(p, 200, "hello");
    assert_true(peer_ended(p));
    peer_close(p);
}

static void a_flood_of_pipelined_requests_to_both_is_answered_whole(void **state)
{
    enum { COUNT = 1500 };
    struct peer *p = connect_to(state, 0);
    char one[80], want[16];
    for (int i = 0; i < COUNT; i++) {
        int n = snprintf(want, sizeof want, "%d", i);
        snprintf(one, sizeof one, "POST %s/echo HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n%s", i % 3 == 0 ? "/2" : "", n, want);
        assert_true(peer_send(p, one));
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(want, sizeof want, "%d", i);
        expect_reply(p, 200, want);
    }
    peer_close(p);
}

static void a_head_in_single_bytes_goes_where_it_belongs(void **state)
{
    struct peer *p = connect_to(state, 0);
    const char *text = "POST /2/echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (const char *c = text; *c != '\0'; c++) {
        assert_true(peer_send_n(p, c, 1));
        usleep(200);
    }
    expect_reply(p, 200, "abc");
    peer_close(p);
}

static void a_long_body_is_whole(void **state)
{
    enum { BYTES = 900000 };
    char *body = malloc(BYTES + 1), head[120];
    for (int i = 0; i < BYTES; i++)
        body[i] = (char)('a' + i % 23);
    body[BYTES] = '\0';
    struct peer *p = connect_to(state, 0);
    snprintf(head, sizeof head, "POST /2/echo HTTP/1.1\r\n" HOST "Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", BYTES);
    assert_true(peer_send(p, head));
    expect_reply(p, 100, NULL);
    assert_true(peer_send_n(p, body, BYTES));
    expect_reply(p, 200, body);
    free(body);
    peer_close(p);
}

// The next set has nothing to say before this one has said everything, however slowly it is read.
static void a_long_reply_is_out_before_the_connection_goes(void **state)
{
    enum { BYTES = 8000000 };
    struct peer *p = connect_to(state, 0);
    assert_true(peer_send(p, "GET /big?n=8000000 HTTP/1.1\r\n" HOST "X-Length: 1\r\n\r\nGET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
    usleep(50000);
    struct peer_reply r;
    assert_true(peer_read(p, &r, false));
    assert_true(r.whole);
    assert_int_equal(r.n, BYTES);
    peer_reply_free(&r);
    expect_reply(p, 200, "hello");
    peer_close(p);
}

static void a_peer_that_has_ended_its_side_is_answered(void **state)
{
    struct peer *p = connect_to(state, 0);
    assert_true(peer_send(p, "GET /2/later HTTP/1.1\r\n" HOST "\r\n"));
    peer_end(p);
    expect_reply(p, 200, "later");
    assert_true(peer_ended(p));
    peer_close(p);
}

static void peers_that_go_meanwhile_leave_nothing(void **state)
{
    for (int i = 0; i < 200; i++) {
        struct peer *p = connect_to(state, i % 2);
        assert_true(peer_send(p, "GET /2/hello HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\nGET /2/never HTTP/1.1\r\n" HOST "\r\n"));
        if (i % 3 == 0) peer_reset(p);
        else peer_close(p);
    }
    struct peer *p = connect_to(state, 0);
    assert_true(peer_send(p, "GET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    peer_close(p);
}

// What is malformed is refused where it arrives; what follows it is never looked at.
static void nothing_malformed_goes_anywhere(void **state)
{
    struct peer *p = connect_to(state, 0);
    assert_true(peer_send(p, "GET /2/hello HTTP/1.1\r\n" HOST "\r\nGET /2/hello HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "GET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    expect_reply(p, 400, NULL);
    assert_true(peer_ended(p));
    peer_close(p);
}

static void a_connection_is_counted_once(void **state)
{
    (void)state;
    struct conn_limits limits = CONN_LIMITS;
    limits.idle_ms = 300;
    struct toy *pair[2];
    toy_start_pair(limits, pair);
    struct peer *p = peer_open(pair[0]->port);
    assert_true(peer_send(p, "GET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    assert_true(peer_ended(p)); // the second one's time-out, as the first one's would have been
    peer_close(p);
    assert_true(toy_end_pair(pair));
    assert_int_equal(atomic_load(&toy_total), 0);
}

static bool total_reaches(unsigned want)
{
    for (int i = 0; i < 1000 && toy_total != want; i++)
        usleep(5000);
    return toy_total == want;
}

// A loop that is busy for long takes nothing: what is on its way to it still counts, so that no more come than there may be.
static void connections_on_their_way_are_counted(void **state)
{
    (void)state;
    struct conn_limits limits = CONN_LIMITS;
    limits.connections = 4;
    struct toy *pair[2];
    struct peer *p[5];
    toy_start_pair(limits, pair);
    for (int i = 0; i < 4; i++) {
        p[i] = peer_open(pair[0]->port);
        assert_true(peer_send(p[i], i == 0 ? "GET /2/block HTTP/1.1\r\n" HOST "\r\n" : "GET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
        if (i == 0) assert_true(toy_reaches(&toy_begun, 1));
        assert_true(total_reaches((unsigned)i + 1));
    }
    usleep(50000); // all of them have left the first one
    assert_int_equal(toy_total, 4);
    p[4] = peer_open(pair[0]->port);
    expect_reply(p[4], 503, NULL);
    toy_go_on = true;
    expect_reply(p[0], 200, "through");
    for (int i = 1; i < 4; i++)
        expect_reply(p[i], 200, "hello");
    for (int i = 0; i < 5; i++)
        peer_close(p[i]);
    assert_true(total_reaches(0));
    assert_true(toy_end_pair(pair));
}

static void a_set_that_stops_takes_no_request(void **state)
{
    struct rig *g = *state;
    struct peer *p = connect_to(state, 0);
    assert_true(peer_send(p, "GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    expect_reply(p, 200, "hello");
    toy_stop(g->pair[1]);
    usleep(20000);
    assert_true(peer_send(p, "GET /2/hello HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(peer_ended(p));
    peer_close(p);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); // as the service does
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_answered_wherever_it_arrives),
        TEST(pipelined_requests_stay_in_order_across_loops),
        TEST(a_flood_of_pipelined_requests_to_both_is_answered_whole),
        TEST(a_head_in_single_bytes_goes_where_it_belongs),
        TEST(a_long_body_is_whole),
        TEST(a_long_reply_is_out_before_the_connection_goes),
        TEST(a_peer_that_has_ended_its_side_is_answered),
        TEST(peers_that_go_meanwhile_leave_nothing),
        TEST(nothing_malformed_goes_anywhere),
        cmocka_unit_test(a_connection_is_counted_once),
        cmocka_unit_test(connections_on_their_way_are_counted),
        TEST(a_set_that_stops_takes_no_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
