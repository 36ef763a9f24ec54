#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "err.h"
#include "http_parse.h"
#include "limits.h"

#define HOST "Host: x\r\n"

static struct http_parse *head_of(const char *text)
{
    struct http_parse *h = http_parse_new();
    struct problem p = PROBLEM_NONE;
    struct span in = SPAN_STR(text), piece;
    int event = http_parse_next(h, &in, &piece, &p);
    if (event != PARSE_HEAD) fail_msg("%s: %s", text, problem_text(&p));
    return h;
}

static void expect_field(struct http_parse *h, const char *name, const char *want)
{
    struct span value = SPAN_NONE;
    bool there = http_parse_field(h, name, &value);
    if (want == NULL)
        assert_false(there);
    else if (!there || !span_is(value, want))
        fail_msg("%s is \"%.*s\", not \"%s\"", name, SPAN_FMT(value), want);
}

static void fields_are_found_by_their_lower_case_names(void **state)
{
    (void)state;
    struct http_parse *h = head_of("GET / HTTP/1.1\r\n" HOST "X-One:  a b \t\r\nx-two:\r\nX-THREE:c\r\n\r\n");
    expect_field(h, "host", "x");
    expect_field(h, "x-one", "a b");
    expect_field(h, "x-two", "");
    expect_field(h, "x-three", "c");
    expect_field(h, "x-four", NULL);
    expect_field(h, "x-on", NULL);
    http_parse_free(h);
}

static void fields_of_one_name_are_joined(void **state)
{
    (void)state;
    struct http_parse *h = head_of("GET / HTTP/1.1\r\n" HOST "Accept: a\r\nVia: one\r\naccept: b\r\nACCEPT:\r\nVia: two\r\n\r\n");
    expect_field(h, "accept", "a, b, ");
    expect_field(h, "via", "one, two");
    expect_field(h, "host", "x");
    http_parse_free(h);
}

static void joining_many_long_fields_stays_within_bounds(void **state)
{
    (void)state;
    static char text[40000] = "GET / HTTP/1.1\r\n" HOST;
    char value[301];
    memset(value, 'v', 300);
    value[300] = '\0';
    for (int i = 0; i < 99; i++)
        sprintf(text + strlen(text), "A: %s\r\n", value);
    strcat(text, "\r\n");
    struct http_parse *h = head_of(text);
    struct span joined;
    assert_true(http_parse_field(h, "a", &joined));
    assert_int_equal(joined.n, 99 * 300 + 98 * 2);
    http_parse_free(h);
}

static void expect_target(const char *method, const char *target, const char *path, const char *query)
{
    char text[300];
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\n" HOST "\r\n", method, target);
    struct http_parse *h = http_parse_new();
    struct span in = SPAN_STR(text), piece;
    int event = http_parse_next(h, &in, &piece, NULL);
    if (path == NULL) {
        if (event != ERR_BAD_REQUEST) fail_msg("%s was taken", target);
    } else {
        assert_int_equal(event, PARSE_HEAD);
        const struct http_head *head = http_parse_head(h);
        if (!span_is(head->path, path) || !span_is(head->query, query))
            fail_msg("%s: %.*s ? %.*s", target, SPAN_FMT(head->path), SPAN_FMT(head->query));
    }
    http_parse_free(h);
}

static void targets_are_split(void **state)
{
    (void)state;
    expect_target("GET", "/", "/", "");
    expect_target("GET", "/a/b%20c", "/a/b%20c", "");
    expect_target("GET", "/a?b=c?d&e", "/a", "b=c?d&e");
    expect_target("GET", "/?", "/", "");
    expect_target("GET", "//x/y", "//x/y", "");
    expect_target("OPTIONS", "*", "*", "");
}

static void an_absolute_target_loses_its_authority(void **state)
{
    (void)state;
    expect_target("GET", "http://host:80/a/b?c", "/a/b", "c");
    expect_target("GET", "HTTP://host", "/", "");
    expect_target("GET", "http://host?q=1", "/", "q=1");
    expect_target("GET", "http://", NULL, NULL);
    expect_target("GET", "http:///a", NULL, NULL);
    expect_target("GET", "http://user@host/a", NULL, NULL);
    expect_target("GET", "https://host/a", NULL, NULL);
}

static void other_targets_are_refused(void **state)
{
    (void)state;
    expect_target("GET", "*", NULL, NULL);
    expect_target("GET", "a/b", NULL, NULL);
    expect_target("GET", "?a=b", NULL, NULL);
    expect_target("GET", "host:80", NULL, NULL);
}

static void expect_keep_alive(const char *head, bool want)
{
    struct http_parse *h = head_of(head);
    if (http_parse_head(h)->keep_alive != want) fail_msg("%s", head);
    http_parse_free(h);
}

static void keeping_alive_follows_version_and_connection(void **state)
{
    (void)state;
    expect_keep_alive("GET / HTTP/1.1\r\n" HOST "\r\n", true);
    expect_keep_alive("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", false);
    expect_keep_alive("GET / HTTP/1.1\r\n" HOST "Connection: te , Close\r\n\r\n", false);
    expect_keep_alive("GET / HTTP/1.1\r\n" HOST "Connection: closed\r\n\r\n", true);
    expect_keep_alive("GET / HTTP/1.1\r\n" HOST "Connection: te\r\nConnection: close\r\n\r\n", false);
    expect_keep_alive("GET / HTTP/1.0\r\n\r\n", false);
    expect_keep_alive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true);
}

// Writes a transcript of the events, so that two runs can be compared.
static void transcribe(struct buf *out, const char *text, size_t n, size_t step)
{
    struct http_parse *h = http_parse_new();
    for (size_t at = 0; at < n;) {
        struct span in = SPAN(text + at, n - at < step ? n - at : step), piece;
        at += in.n;
        for (int event = PARSE_HEAD; event != PARSE_MORE;) {
            struct problem p = PROBLEM_NONE;
            event = http_parse_next(h, &in, &piece, &p);
            if (event < 0) {
                buf_printf(out, "!%s", err_wire(event));
                http_parse_free(h);
                return;
            }
            if (event == PARSE_HEAD) buf_printf(out, "[%.*s]", SPAN_FMT(http_parse_head(h)->path));
            if (event == PARSE_PIECE) buf_put_span(out, piece);
            if (event == PARSE_END) buf_put_str(out, "."), http_parse_reset(h);
        }
    }
    http_parse_free(h);
}

static void requests_in_a_row_are_the_same_however_cut(void **state)
{
    (void)state;
    const char *text = "GET /a HTTP/1.1\r\n" HOST "\r\n"
                       "POST /b HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
                       "\r\nPOST /c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\nT: x\r\n\r\n"
                       "GET /d HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                       "POST /e HTTP/1.1\r\n" HOST "Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi"
                       "GET /f HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
                       "BREW /g HTTP/1.1\r\n";
    for (size_t step = 1; step <= strlen(text); step++) {
        struct buf out;
        buf_init(&out, 4096);
        transcribe(&out, text, strlen(text), step);
        if (!span_is(buf_span(&out), "[/a].[/b]hello.[/c]abcde.[/d].[/e]hi.[/f].!not_implemented"))
            fail_msg("%zu: %.*s", step, SPAN_FMT(buf_span(&out)));
        buf_free(&out);
    }
}

static void a_head_that_comes_again_is_the_same_however_cut(void **state)
{
    (void)state;
#define A "POST /a?q=1 HTTP/1.1\r\n" HOST "X: 1\r\nx: 2\r\nContent-Length: 2\r\n\r\n"
#define C "POST /c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
    static const char text[] = A "h1" A "h2" A "h3" "POST /a?q=2 HTTP/1.1\r\n" HOST "X: 1\r\nx: 2\r\nContent-Length: 2\r\n\r\n" "h4" A "h5" A "h6"
                               C "1\r\na\r\n0\r\n\r\n" C "0\r\n\r\n" C "2\r\nbb\r\n0\r\nT: x\r\n\r\n" C "1\r\nc\r\n0\r\n\r\n"
                               "GET /d HTTP/1.1\r\n" HOST "\r\n" "GET /d HTTP/1.1\r\n" HOST "\r\n" "GET /d HTTP/1.1\r\n" HOST "\r\n"
                               A "h7" C "1\r\nd!";
    for (size_t step = 1; step < sizeof text; step++) {
        struct buf out;
        buf_init(&out, 4096);
        transcribe(&out, text, sizeof text - 1, step);
        if (!span_is(buf_span(&out), "[/a]h1.[/a]h2.[/a]h3.[/a]h4.[/a]h5.[/a]h6.[/c]a.[/c].[/c]bb.[/c]c.[/d].[/d].[/d].[/a]h7.[/c]d!bad_request"))
            fail_msg("%zu: %.*s", step, SPAN_FMT(buf_span(&out)));
        buf_free(&out);
    }
    struct http_parse *h = http_parse_new();
    for (int i = 0; i < 4; i++) { // fields, and what is joined of them, too
        struct span in = SPAN_LIT(A "hi"), piece, value;
        assert_int_equal(http_parse_next(h, &in, &piece, NULL), PARSE_HEAD);
        assert_true(http_parse_field(h, "x", &value) && span_is(value, "1, 2"));
        assert_true(span_is(http_parse_head(h)->query, "q=1"));
        http_parse_body_max(h, 10);
        assert_int_equal(http_parse_next(h, &in, &piece, NULL), PARSE_PIECE);
        assert_int_equal(http_parse_next(h, &in, &piece, NULL), PARSE_END);
        http_parse_reset(h);
    }
    http_parse_free(h);
}

static void the_head_stays_while_the_body_comes(void **state)
{
    (void)state;
    struct http_parse *h = http_parse_new();
    struct span in = SPAN_LIT("POST /b?q HTTP/1.1\r\n" HOST "A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: trailer\r\n\r\n"),
                piece;
    assert_false(http_parse_begun(h));
    assert_int_equal(http_parse_next(h, &in, &piece, NULL), PARSE_HEAD);
    assert_true(http_parse_begun(h));
    while (http_parse_next(h, &in, &piece, NULL) != PARSE_END)
        ;
    expect_field(h, "a", "b"); // a trailer is not a header
    assert_true(span_is(http_parse_head(h)->query, "q"));
    http_parse_reset(h);
    assert_false(http_parse_begun(h));
    http_parse_free(h);
}

static void trailers_are_kept_until_the_next_request(void **state)
{
    (void)state;
    static const char text[] = "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n";
    static const char *const behind[] = {"Sum: \t sha1 x= \r\nEmpty:\r\nSUM: second\r\n\r\n", "\r\n", "other: y\r\nsum:z\r\n\r\n"};
    static const char *const sums[] = {"sha1 x=", NULL, "z"};
    struct http_parse *h = http_parse_new();
    for (size_t cut = 1; cut < 9; cut++) {
        for (size_t i = 0; i < 6; i++) { // the same head again and again, too
            char all[400];
            size_t n = (size_t)snprintf(all, sizeof all, "%s%s", text, behind[i % 3]);
            int event = PARSE_MORE;
            for (size_t at = 0; at < n;) {
                struct span in = SPAN(all + at, n - at < cut ? n - at : cut), piece, value;
                at += in.n;
                while (in.n > 0) {
                    event = http_parse_next(h, &in, &piece, NULL);
                    assert_true(event >= 0);
                    assert_true(event != PARSE_HEAD || !http_parse_trailer(h, "sum", &value));
                }
            }
            assert_int_equal(event, PARSE_END);
            struct span value;
            assert_int_equal(http_parse_trailer(h, "sum", &value), sums[i % 3] != NULL);
            if (sums[i % 3] != NULL) assert_true(span_is(value, sums[i % 3]));
            if (i % 3 == 0) assert_true(http_parse_trailer(h, "empty", &value) && value.n == 0);
            assert_false(http_parse_trailer(h, "host", &value));
            http_parse_reset(h);
        }
    }
    http_parse_free(h);
}

static void a_body_limit_holds_for_chunks(void **state)
{
    (void)state;
    struct http_parse *h = head_of("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    http_parse_body_max(h, 3);
    struct span in = SPAN_LIT("4\r\n"), piece;
    assert_int_equal(http_parse_next(h, &in, &piece, NULL), ERR_TOO_LARGE);
    assert_int_equal(http_parse_next(h, &in, &piece, NULL), ERR_TOO_LARGE);
    http_parse_free(h);
}

static void a_refusal_says_why(void **state)
{
    (void)state;
    struct http_parse *h = http_parse_new();
    struct problem p = PROBLEM_NONE;
    struct span in = SPAN_LIT("GET / HTTP/1.1\r\nA : b\r\n\r\n"), piece;
    assert_int_equal(http_parse_next(h, &in, &piece, &p), ERR_BAD_REQUEST);
    assert_string_equal(problem_text(&p), "white space before a header's colon");
    http_parse_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_found_by_their_lower_case_names),
        cmocka_unit_test(fields_of_one_name_are_joined),
        cmocka_unit_test(joining_many_long_fields_stays_within_bounds),
        cmocka_unit_test(targets_are_split),
        cmocka_unit_test(an_absolute_target_loses_its_authority),
        cmocka_unit_test(other_targets_are_refused),
        cmocka_unit_test(keeping_alive_follows_version_and_connection),
        cmocka_unit_test(requests_in_a_row_are_the_same_however_cut),
        cmocka_unit_test(a_head_that_comes_again_is_the_same_however_cut),
        cmocka_unit_test(the_head_stays_while_the_body_comes),
        cmocka_unit_test(trailers_are_kept_until_the_next_request),
        cmocka_unit_test(a_body_limit_holds_for_chunks),
        cmocka_unit_test(a_refusal_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
