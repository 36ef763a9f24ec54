#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "http_scan.h"
#include "limits.h"

#define HOST "Host: x\r\n"

// Scans `n` bytes of each piece size: the outcome has to be the same. Gives 1 for a whole message, 0 for one that needs
// more, or the error.
static int scan_cut(const char *text, size_t n, size_t step, struct http_scan *s, struct buf *body)
{
    http_scan_init(s);
    size_t at = 0;
    while (at < n) {
        size_t used, end = at + step < n ? at + step : n;
        while (at < end) {
            int event = http_scan_next(s, SPAN(text + at, end - at), &used, NULL);
            if (event < 0) return event;
            if (event == SCAN_BODY) buf_put(body, text + at, used);
            at += used;
            if (event == SCAN_END) return at == n ? 1 : 2;
        }
    }
    size_t used;
    return http_scan_next(s, SPAN_NONE, &used, NULL) == SCAN_END;
}

static int scan_n(const char *text, size_t n, struct http_scan *s)
{
    struct buf whole, cut;
    struct http_scan other;
    buf_init(&whole, 1 << 20);
    buf_init(&cut, 1 << 20);
    int outcome = scan_cut(text, n, n, s, &whole);
    for (size_t step = 1; step < 9; step++) {
        buf_clear(&cut);
        int again = scan_cut(text, n, step, &other, &cut);
        if (again != outcome) fail_msg("in pieces of %zu: %d, whole: %d: %s", step, again, outcome, text);
        if (outcome >= 0) assert_true(span_equal(buf_span(&whole), buf_span(&cut)));
    }
    buf_free(&whole);
    buf_free(&cut);
    return outcome;
}

static int scan(const char *text)
{
    struct http_scan s;
    return scan_n(text, strlen(text), &s);
}

#define is_taken(text) expect_outcome(text, 1)
#define is_refused(text, err) expect_outcome(text, err)
#define expect_outcome(text, want)                                                                                                         \
    do {                                                                                                                                   \
        int got_ = scan(text);                                                                                                             \
        if (got_ != (want)) fail_msg("%d instead of %d for: %s", got_, (want), text);                                                      \
    } while (0)

static void ordinary_requests_are_taken(void **state)
{
    (void)state;
    is_taken("GET / HTTP/1.1\r\n" HOST "\r\n");
    is_taken("GET /a?b=c&d=%20 HTTP/1.1\r\nhOsT:localhost:80\r\nAccept: */*\r\n\r\n");
    is_taken("GET / HTTP/1.0\r\n\r\n");
    is_taken("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n");
    is_taken("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    is_taken("POST / HTTP/1.1\r\n" HOST "Content-Length:\t 5 \t\r\n\r\nhello");
    is_taken("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    is_taken("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    is_taken("GET / HTTP/1.1\r\n" HOST "X:\r\nY: \t\r\nZ: a\tb \xc3\xa4\r\n\r\n");
}

static void what_was_found_is_told(void **state)
{
    (void)state;
    struct http_scan s;
    const char *text = "PUT /x HTTP/1.1\r\n" HOST "Content-Length: 7\r\nExpect: 100-Continue\r\n\r\n";
    assert_int_equal(scan_n(text, strlen(text), &s), 0);
    assert_int_equal(s.method, METHOD_PUT);
    assert_int_equal(s.minor, 1);
    assert_int_equal(s.content_length, 7);
    assert_true(s.expect_continue);
    assert_false(s.chunked);
}

static void every_method_we_know_is_found_and_no_other(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum method method;
    } methods[] = {{"GET", METHOD_GET},       {"HEAD", METHOD_HEAD},   {"POST", METHOD_POST},      {"PUT", METHOD_PUT},
                   {"DELETE", METHOD_DELETE}, {"PATCH", METHOD_PATCH}, {"OPTIONS", METHOD_OPTIONS}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char text[100];
        struct http_scan s;
        snprintf(text, sizeof text, "%s / HTTP/1.1\r\n" HOST "\r\n", methods[i].text);
        assert_int_equal(scan_n(text, strlen(text), &s), 1);
        assert_int_equal(s.method, methods[i].method);
    }
    is_refused("get / HTTP/1.1\r\n" HOST "\r\n", ERR_NOT_IMPLEMENTED);
    is_refused("CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n", ERR_NOT_IMPLEMENTED);
    is_refused("TRACE / HTTP/1.1\r\n" HOST "\r\n", ERR_NOT_IMPLEMENTED);
    is_refused("PROPFINDANDMOREOFIT / HTTP/1.1\r\n", ERR_NOT_IMPLEMENTED);
    is_refused("G@T / HTTP/1.1\r\n", ERR_BAD_REQUEST);
    is_refused(" GET / HTTP/1.1\r\n", ERR_BAD_REQUEST);
}

static void odd_request_lines_are_refused(void **state)
{
    (void)state;
    is_refused("GET  / HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET /  HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET\t/ HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1 \r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET /\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET /#top HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET /\x7f HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET /\x01 HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
}

static void only_versions_1_0_and_1_1_are_spoken(void **state)
{
    (void)state;
    is_refused("GET / HTTP/2.0\r\n" HOST "\r\n", ERR_BAD_VERSION);
    is_refused("GET / HTTP/1.2\r\n" HOST "\r\n", ERR_BAD_VERSION);
    is_refused("GET / HTTP/0.9\r\n" HOST "\r\n", ERR_BAD_VERSION);
    is_refused("GET / http/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.10\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/11\r\n" HOST "\r\n", ERR_BAD_REQUEST);
}

static void one_empty_line_is_forgiven_before_a_request(void **state)
{
    (void)state;
    is_taken("\r\nGET / HTTP/1.1\r\n" HOST "\r\n");
    is_refused("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("\nGET / HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST);
}

static void odd_fields_are_refused(void **state)
{
    (void)state;
    is_refused("GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A\t: b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A[]: b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "\xc3\xa4: b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n A: b\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A: b\nC: d\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A: \x01\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "A: \x7f\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST "\rX", ERR_BAD_REQUEST);
}

static void a_nul_is_refused_everywhere(void **state)
{
    (void)state;
    static const char text[] = "GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char with[sizeof text];
        struct http_scan s;
        memcpy(with, text, sizeof text);
        with[i] = '\0';
        if (scan_n(with, sizeof text - 1, &s) >= 0) fail_msg("a NUL at %zu was taken", i);
    }
}

static void host_has_to_be_there_once(void **state)
{
    (void)state;
    is_refused("GET / HTTP/1.1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\n" HOST HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.0\r\n" HOST HOST "\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", ERR_BAD_REQUEST);
    is_taken("GET / HTTP/1.1\r\nHost: [::1]:7420\r\n\r\n");
}

static void two_ways_to_tell_the_length_are_refused(void **state)
{
    (void)state;
#define POST "POST / HTTP/1.1\r\n" HOST
    is_refused(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 1\r\ncontent-length: 2\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_BAD_REQUEST);
    is_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_BAD_REQUEST);
}

static void odd_lengths_are_refused(void **state)
{
    (void)state;
    is_refused(POST "Content-Length:\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: +1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: -1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 1 1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 1, 1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 0x1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 1.0\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 1234567890123456789\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Content-Length: 99999999999999999999999999\r\n\r\n", ERR_BAD_REQUEST);
}

static void transfer_codings_but_chunked_are_refused(void **state)
{
    (void)state;
    is_refused(POST "Transfer-Encoding: gzip\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: chunked, identity\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: xchunked\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: \"chunked\"\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: chunked;a=b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding:\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(POST "Transfer-Encoding: \x0b"
                    "chunked\r\n\r\n",
               ERR_BAD_REQUEST);
}

static void only_100_continue_can_be_expected(void **state)
{
    (void)state;
    is_refused(POST "Expect: 200-ok\r\n\r\n", ERR_EXPECTATION_FAILED);
    is_refused(POST "Expect:\r\n\r\n", ERR_EXPECTATION_FAILED);
    is_taken("GET / HTTP/1.0\r\nExpect: 200-ok\r\n\r\n");
}

static void chunks_come_through_whole(void **state)
{
    (void)state;
    struct http_scan s;
    struct buf body;
    buf_init(&body, 1000);
    const char *text = POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00A;x=\"y z\"\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\n\r\n";
    assert_int_equal(scan(text), 1);
    assert_int_equal(scan_cut(text, strlen(text), 1000, &s, &body), 1);
    assert_true(span_is(buf_span(&body), "abc0123456789"));
    buf_free(&body);
}

static void odd_chunks_are_refused(void **state)
{
    (void)state;
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
    is_refused(CHUNKED "\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED " 3\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3 \r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3 ;a\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "+3\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "-3\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0x3\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "g\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3;a\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3;\x01\r\nabc\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3\r\nabcd\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3\r\nabc\n0\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "3\r\nabc0\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "00000000000000003\r\nabc\r\n", ERR_BAD_REQUEST);
}

static void trailers_are_scanned_like_headers(void **state)
{
    (void)state;
    is_refused(CHUNKED "0\r\nA : b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0\r\nA: b\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0\r\n A: b\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0\r\nContent-Length: 1\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0\r\n" HOST "\r\n", ERR_BAD_REQUEST);
    is_refused(CHUNKED "0\r\n\n", ERR_BAD_REQUEST);
}

static void a_chunked_body_beyond_its_limit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
    } cases[] = {{"a\r\n0123456789\r\n0\r\n\r\n", 1},
                 {"b\r\n", ERR_TOO_LARGE},
                 {"9\r\n012345678\r\n2\r\n", ERR_TOO_LARGE},
                 {"9\r\n012345678\r\nffffffffffffffff\r\n", ERR_TOO_LARGE},
                 {"9\r\n012345678\r\nfffffffffffffff8\r\n", ERR_TOO_LARGE}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_scan s;
        size_t used;
        http_scan_init(&s);
        assert_int_equal(http_scan_next(&s, SPAN_LIT(CHUNKED), &used, NULL), SCAN_HEAD);
        s.body_max = 10;
        struct span in = SPAN_STR(cases[i].text);
        int event = SCAN_MORE;
        while (in.n > 0 && event >= 0 && event != SCAN_END) {
            event = http_scan_next(&s, in, &used, NULL);
            in = span_sub(in, used, in.n);
        }
        assert_int_equal(event < 0 ? event : event == SCAN_END, cases[i].want);
    }
}

static char *repeat(const char *before, char c, size_t n, const char *after)
{
    char *text = malloc(strlen(before) + n + strlen(after) + 1);
    assert_non_null(text);
    memcpy(text, before, strlen(before));
    memset(text + strlen(before), c, n);
    strcpy(text + strlen(before) + n, after);
    return text;
}

static void check_repeated(const char *before, size_t n, const char *after, int want)
{
    char *text = repeat(before, 'a', n, after);
    struct http_scan s;
    int got = scan_n(text, strlen(text), &s);
    if (got != want) fail_msg("%s…(%zu): %d instead of %d", before, n, got, want);
    free(text);
}

static void limits_are_met_exactly(void **state)
{
    (void)state;
    check_repeated("GET /", HTTP_TARGET_MAX - 1, " HTTP/1.1\r\n" HOST "\r\n", 1);
    check_repeated("GET /", HTTP_TARGET_MAX, " HTTP/1.1\r\n" HOST "\r\n", ERR_URI_TOO_LONG);
    // Everything of the fields counts: "Host: x", "A: …", and three times CRLF.
    size_t rest = strlen(HOST) + 3 + 2 + 2;
    check_repeated("GET / HTTP/1.1\r\n" HOST "A: ", HTTP_HEADERS_MAX - rest, "\r\n\r\n", 1);
    check_repeated("GET / HTTP/1.1\r\n" HOST "A: ", HTTP_HEADERS_MAX - rest + 1, "\r\n\r\n", ERR_HEADERS_TOO_LARGE);
    check_repeated(CHUNKED "0\r\nA: ", HTTP_TRAILER_MAX - 7, "\r\n\r\n", 1);
    check_repeated(CHUNKED "0\r\nA: ", HTTP_TRAILER_MAX - 6, "\r\n\r\n", ERR_HEADERS_TOO_LARGE);
    check_repeated(CHUNKED "0;", HTTP_CHUNK_LINE_MAX - 2, "\r\n\r\n", 1);
    check_repeated(CHUNKED "0;", HTTP_CHUNK_LINE_MAX - 1, "\r\n\r\n", ERR_BAD_REQUEST);
}

static void fields_are_counted(void **state)
{
    (void)state;
    char text[4096] = "GET / HTTP/1.1\r\n" HOST;
    struct http_scan s;
    for (int i = 1; i < HTTP_HEADER_COUNT_MAX; i++)
        strcat(text, "A: b\r\n");
    size_t n = strlen(text);
    strcpy(text + n, "\r\n");
    assert_int_equal(scan_n(text, n + 2, &s), 1);
    strcpy(text + n, "A: b\r\n\r\n");
    assert_int_equal(scan_n(text, n + 8, &s), ERR_HEADERS_TOO_LARGE);
}

static void an_error_stays(void **state)
{
    (void)state;
    struct http_scan s;
    size_t used;
    http_scan_init(&s);
    assert_int_equal(http_scan_next(&s, SPAN_LIT("GET / HTTP/9.9\r\n"), &used, NULL), ERR_BAD_VERSION);
    assert_int_equal(http_scan_next(&s, SPAN_LIT("GET / HTTP/1.1\r\n"), &used, NULL), ERR_BAD_VERSION);
    assert_int_equal(used, 0);
}

static void the_next_request_is_left_alone(void **state)
{
    (void)state;
    struct http_scan s;
    size_t used;
    struct span in = SPAN_LIT(POST "Content-Length: 2\r\n\r\nabGET");
    http_scan_init(&s);
    assert_int_equal(http_scan_next(&s, in, &used, NULL), SCAN_HEAD);
    in = span_sub(in, used, in.n);
    assert_int_equal(http_scan_next(&s, in, &used, NULL), SCAN_BODY);
    assert_int_equal(used, 2);
    in = span_sub(in, used, in.n);
    assert_int_equal(http_scan_next(&s, in, &used, NULL), SCAN_END);
    assert_int_equal(used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_requests_are_taken),
        cmocka_unit_test(what_was_found_is_told),
        cmocka_unit_test(every_method_we_know_is_found_and_no_other),
        cmocka_unit_test(odd_request_lines_are_refused),
        cmocka_unit_test(only_versions_1_0_and_1_1_are_spoken),
        cmocka_unit_test(one_empty_line_is_forgiven_before_a_request),
        cmocka_unit_test(odd_fields_are_refused),
        cmocka_unit_test(a_nul_is_refused_everywhere),
        cmocka_unit_test(host_has_to_be_there_once),
        cmocka_unit_test(two_ways_to_tell_the_length_are_refused),
        cmocka_unit_test(odd_lengths_are_refused),
        cmocka_unit_test(transfer_codings_but_chunked_are_refused),
        cmocka_unit_test(only_100_continue_can_be_expected),
        cmocka_unit_test(chunks_come_through_whole),
        cmocka_unit_test(odd_chunks_are_refused),
        cmocka_unit_test(trailers_are_scanned_like_headers),
        cmocka_unit_test(a_chunked_body_beyond_its_limit_is_refused),
        cmocka_unit_test(limits_are_met_exactly),
        cmocka_unit_test(fields_are_counted),
        cmocka_unit_test(an_error_stays),
        cmocka_unit_test(the_next_request_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
