#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "call.h"
#include "err.h"
#include "limits.h"

// A peer that takes one connection, and answers with fixed bytes once a request's end has come.
static struct {
    uv_loop_t loop;
    uv_tcp_t listener, socket;
    uv_timer_t tick;
    bool accepted, hang_up;
    const char *answer;
    const char *end_of_request;
    char asked[4096];
    size_t asked_bytes;
    struct calls *calls;
    struct call *call;
    char url[64];
    // What came of it.
    int heads, ends;
    bool refuse, hold, enough, tells_first;
    uint64_t connect_ms;
    char type[64], id[64];
    struct buf body;
    struct call_end end;
    char end_body[256];
} t;

static char piece[4096];

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
    (void)h, (void)n;
    *buf = uv_buf_init(piece, sizeof piece);
}

static void on_read(uv_stream_t *socket, ssize_t n, const uv_buf_t *buf)
{
    if (n <= 0) return;
    assert_true(t.asked_bytes + (size_t)n < sizeof t.asked);
    memcpy(t.asked + t.asked_bytes, buf->base, (size_t)n);
    t.asked_bytes += (size_t)n;
    if (t.answer == NULL || strstr(t.asked, t.end_of_request) == NULL) return;
    uv_buf_t out = uv_buf_init((char *)(uintptr_t)t.answer, (unsigned)strlen(t.answer));
    assert_int_equal(uv_try_write(socket, &out, 1), (int)out.len);
    t.answer = NULL;
    if (t.hang_up) uv_close((uv_handle_t *)socket, NULL);
}

static void on_connection(uv_stream_t *listener, int status)
{
    assert_int_equal(status, 0);
    uv_tcp_init(&t.loop, &t.socket);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&t.socket), 0);
    uv_read_start((uv_stream_t *)&t.socket, on_alloc, on_read);
    t.accepted = true;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    calls_tick(t.calls);
    if (t.hold && t.call != NULL) {
        t.hold = false;
        call_resume(t.call);
    }
}

static int setup(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int n = sizeof address;
    memset(&t, 0, sizeof t);
    t.end_of_request = "\r\n\r\n";
    t.connect_ms = 2000;
    buf_init(&t.body, MIB);
    uv_loop_init(&t.loop);
    uv_tcp_init(&t.loop, &t.listener);
    assert_int_equal(uv_tcp_bind(&t.listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&t.listener, 4, on_connection), 0);
    uv_tcp_getsockname(&t.listener, (struct sockaddr *)&address, &n);
    snprintf(t.url, sizeof t.url, "http://127.0.0.1:%d/path", ntohs(address.sin_port));
    uv_timer_init(&t.loop, &t.tick);
    uv_timer_start(&t.tick, on_tick, 5, 5);
    assert_int_equal(calls_open(&t.calls, &t.loop), 0);
    return 0;
}

static void on_walk(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(h)) uv_close(h, NULL);
}

static int teardown(void **state)
{
    (void)state;
    call_free(t.call);
    calls_close(t.calls);
    uv_run(&t.loop, UV_RUN_NOWAIT);
    uv_walk(&t.loop, on_walk, NULL);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    buf_free(&t.body);
    return 0;
}

static bool on_head(void *ctx, const struct call_head *head)
{
    (void)ctx;
    t.heads++;
    snprintf(t.type, sizeof t.type, "%.*s", SPAN_FMT(head->type));
    snprintf(t.id, sizeof t.id, "%.*s", SPAN_FMT(head->request_id));
    return !t.refuse;
}

static bool on_data(void *ctx, struct span data)
{
    (void)ctx;
    buf_put_span(&t.body, data);
    return !t.enough;
}

static bool on_full(void *ctx)
{
    (void)ctx;
    return t.hold;
}

static void on_ended(void *ctx, const struct call_end *end)
{
    (void)ctx;
    t.ends++;
    t.end = *end;
    snprintf(t.end_body, sizeof t.end_body, "%.*s", SPAN_FMT(end->body));
    call_free(t.call);
    t.call = NULL;
}

static void run(const char *method, enum reach reach, const char *body)
{
    static const char *const headers[] = {"Content-Type: text/x", "X-One: 1"};
    struct call_options o = {.method = method,
                             .url = t.url,
                             .headers = headers,
                             .header_count = 2,
                             .body = SPAN_STR(body),
                             .times = {t.connect_ms, 200, 200, 5000},
                             .tells_first = t.tells_first,
                             .reach = reach,
                             .head = on_head,
                             .data = on_data,
                             .full = on_full,
                             .ended = on_ended};
    assert_int_equal(call_new(&t.call, t.calls, &o), 0);
    assert_int_equal(call_start(t.call), 0);
    while (t.ends == 0)
        uv_run(&t.loop, UV_RUN_ONCE);
}

static void assert_body(const char *expected)
{
    assert_int_equal(t.body.n, strlen(expected));
    if (t.body.n > 0) assert_memory_equal(t.body.p, expected, t.body.n);
}

static void a_request_is_what_was_asked_for_and_its_answer_comes_whole(void **state)
{
    (void)state;
    t.end_of_request = "hello";
    t.answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-Request-Id:  r-1 \r\nContent-Length: 3\r\n\r\nabc";
    run("PUT", REACH_ANY, "hello");
    assert_int_equal(t.end.problem.err, 0);
    assert_int_equal(t.end.status, 200);
    assert_int_equal(t.heads, 1);
    assert_string_equal(t.type, "a/b");
    assert_string_equal(t.id, "r-1");
    assert_body("abc");
    assert_non_null(strstr(t.asked, "PUT /path HTTP/1.1\r\n"));
    assert_non_null(strstr(t.asked, "\r\nContent-Type: text/x\r\n"));
    assert_non_null(strstr(t.asked, "\r\nX-One: 1\r\n"));
    assert_non_null(strstr(t.asked, "\r\nContent-Length: 5\r\n"));
    assert_null(strstr(t.asked, "Expect"));
}

static void a_refusal_has_its_body_and_when_to_come_again(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 429 Slow\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nslow";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, 0);
    assert_int_equal(t.end.status, 429);
    assert_string_equal(t.end_body, "slow");
    assert_true(t.end.has_retry_after);
    assert_int_equal(t.end.retry_after_ms, 2000);
    assert_body("");
    assert_non_null(strstr(t.asked, "GET /path"));
}

static void milliseconds_win_over_seconds_and_a_day_is_the_longest(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 503 Slow\r\nretry-after-ms: 1500\r\nRetry-After: 9999999999\r\nContent-Length: 0\r\n\r\n";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.retry_after_ms, 1500);
    t.ends = 0;
}

static void a_redirect_is_an_answer(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
    run("POST", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, 0);
    assert_int_equal(t.end.status, 302);
}

static void an_answer_that_breaks_off_is_cut(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc";
    t.hang_up = true;
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_PROVIDER_CUT);
    assert_body("abc");
}

static void a_head_can_be_refused(void **state)
{
    (void)state;
    t.refuse = true;
    t.answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_CANCELED);
    assert_body("");
}

static void a_held_call_goes_on_where_it_was(void **state)
{
    (void)state;
    t.hold = true;
    t.answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, 0);
    assert_body("abc");
}

static void a_held_call_whose_piece_is_enough_ends_at_once(void **state)
{
    (void)state;
    t.hold = t.enough = true;
    t.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"; // and then nothing more
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_CANCELED);
    assert_body("abc");
}

static void what_is_not_waited_for_does_not_count_as_the_first(void **state)
{
    (void)state;
    t.tells_first = true;
    t.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n: ping";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_PROVIDER_TIMEOUT);
    assert_body(": ping");
}

static void a_status_that_is_none_is_malformed(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 999 Odd\r\nContent-Length: 3\r\n\r\nabc";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_PROVIDER_MALFORMED);
    assert_int_equal(t.end.status, 0);
    assert_int_equal(t.heads, 0);
}

static void fields_that_could_end_a_line_are_not_told(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 200 OK\r\nContent-Type: a/b\rX: y\r\nX-Request-Id: a\rX: y\r\nContent-Length: 3\r\n\r\nabc";
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, 0);
    assert_string_equal(t.type, "a/b"); // the library ends it there
    assert_string_equal(t.id, "");
    assert_body("abc");
}

// The kernel drops what it is sent once nobody takes the connections that wait.
static void a_peer_that_takes_no_connection_is_given_up(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    int fds[4], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    for (size_t i = 0; i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(fds[i], (struct sockaddr *)&address, sizeof address);
    }
    snprintf(t.url, sizeof t.url, "http://127.0.0.1:%d/path", ntohs(address.sin_port));
    t.connect_ms = 100;
    run("POST", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_PROVIDER_TIMEOUT);
    assert_false(t.end.sent);
    for (size_t i = 0; i < 4; i++)
        close(fds[i]);
    close(listener);
}

static void silence_ends_a_call(void **state)
{
    (void)state;
    run("GET", REACH_ANY, "");
    assert_int_equal(t.end.problem.err, ERR_PROVIDER_TIMEOUT);
    assert_int_equal(t.end.status, 0);
}

static void an_address_out_of_reach_is_never_connected_to(void **state)
{
    (void)state;
    run("GET", REACH_PUBLIC, "");
    assert_int_equal(t.end.problem.err, ERR_FORBIDDEN);
    assert_false(t.end.sent);
    uv_run(&t.loop, UV_RUN_NOWAIT);
    assert_false(t.accepted);
}

static void loopback_is_reached_where_it_may_be(void **state)
{
    (void)state;
    t.answer = "HTTP/1.1 204 No Content\r\n\r\n";
    run("DELETE", REACH_PUBLIC_OR_LOOPBACK, "");
    assert_int_equal(t.end.problem.err, 0);
    assert_int_equal(t.end.status, 204);
    assert_non_null(strstr(t.asked, "DELETE /path"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_what_was_asked_for_and_its_answer_comes_whole),
        TEST(a_refusal_has_its_body_and_when_to_come_again),
        TEST(milliseconds_win_over_seconds_and_a_day_is_the_longest),
        TEST(a_redirect_is_an_answer),
        TEST(an_answer_that_breaks_off_is_cut),
        TEST(a_head_can_be_refused),
        TEST(a_held_call_goes_on_where_it_was),
        TEST(a_held_call_whose_piece_is_enough_ends_at_once),
        TEST(what_is_not_waited_for_does_not_count_as_the_first),
        TEST(a_status_that_is_none_is_malformed),
        TEST(fields_that_could_end_a_line_are_not_told),
        TEST(a_peer_that_takes_no_connection_is_given_up),
        TEST(silence_ends_a_call),
        TEST(an_address_out_of_reach_is_never_connected_to),
        TEST(loopback_is_reached_where_it_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
