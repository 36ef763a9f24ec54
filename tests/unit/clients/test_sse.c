// Server-sent events as a client of libsegue meets them: in any pieces, with any line ends.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "err.h"
#include "sse.h"

// What came out, as "data|id;" for each event.
struct seen {
    struct buf text;
    int end_after; // events; 0: never
};

static int note(void *ctx, struct span data, struct span id)
{
    struct seen *s = ctx;
    buf_put_span(&s->text, data);
    buf_put_u8(&s->text, '|');
    buf_put_span(&s->text, id);
    buf_put_u8(&s->text, ';');
    return s->end_after > 0 && --s->end_after == 0 ? ERR_CANCELED : 0;
}

static void expect(struct seen *s, const char *text)
{
    assert_int_equal(s->text.n, strlen(text));
    assert_memory_equal(s->text.p, text, s->text.n);
    buf_clear(&s->text);
}

// The whole of it in pieces of `step` bytes.
static void feed(const char *text, size_t step, const char *expected)
{
    struct sse sse;
    struct seen seen = {0};
    buf_init(&seen.text, 4096);
    sse_init(&sse);
    for (size_t at = 0; at < strlen(text); at += step) {
        size_t n = strlen(text) - at < step ? strlen(text) - at : step;
        assert_int_equal(sse_feed(&sse, SPAN(text + at, n), note, &seen), 0);
    }
    expect(&seen, expected);
    sse_free(&sse);
    buf_free(&seen.text);
}

static void pieces_and_line_ends_make_no_difference(void **state)
{
    (void)state;
    for (size_t step = 1; step < 12; step++) {
        feed("id: 1\ndata: a\n\ndata:b\ndata: c\n\n", step, "a|1;b\nc|1;");
        feed("id: 1\r\ndata: a\r\n\r\ndata: b\r\n\r\n", step, "a|1;b|1;");
        feed("id: 1\rdata: a\r\rdata: b\r\r", step, "a|1;b|1;");
    }
}

static void comments_and_what_is_not_known_are_passed_over(void **state)
{
    (void)state;
    feed(": still there\n\nevent: x\nretry: 5\ndata: a\nmore\n\n", 7, "a|;");
    feed("data\n\n", 3, "|;");
    feed("\n\n\nid: 7\n\n", 3, ""); // an id alone is no event
}

static void an_unfinished_event_is_dropped_with_its_connection_and_the_id_stays(void **state)
{
    (void)state;
    struct sse sse;
    struct seen seen = {0};
    buf_init(&seen.text, 4096);
    sse_init(&sse);
    assert_int_equal(sse_feed(&sse, SPAN_LIT("id: 1\ndata: a\n\ndata: half\nda"), note, &seen), 0);
    expect(&seen, "a|1;");
    sse_restart(&sse);
    assert_int_equal(sse_feed(&sse, SPAN_LIT("data: b\n\n"), note, &seen), 0);
    expect(&seen, "b|1;");
    sse_free(&sse);
    buf_free(&seen.text);
}

static void a_callback_ends_the_piece_with_what_it_gives(void **state)
{
    (void)state;
    struct sse sse;
    struct seen seen = {.end_after = 2};
    buf_init(&seen.text, 4096);
    sse_init(&sse);
    assert_int_equal(sse_feed(&sse, SPAN_LIT("data: a\n\ndata: b\n\ndata: c\n\n"), note, &seen), ERR_CANCELED);
    expect(&seen, "a|;b|;");
    sse_free(&sse);
    buf_free(&seen.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_and_line_ends_make_no_difference),
        cmocka_unit_test(comments_and_what_is_not_known_are_passed_over),
        cmocka_unit_test(an_unfinished_event_is_dropped_with_its_connection_and_the_id_stays),
        cmocka_unit_test(a_callback_ends_the_piece_with_what_it_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
