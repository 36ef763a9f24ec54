#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "limits.h"
#include "ws_frames.h"

#define MESSAGE_MAX 1000

struct stage {
    struct ws_frames *frames;
    size_t partial;
    struct buf in;   // frames as a client makes them
    struct buf said; // events, as a line each
};

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    s->frames = ws_frames_new(MESSAGE_MAX, &s->partial, 4 * MESSAGE_MAX);
    buf_init(&s->in, 64 * MIB);
    buf_init(&s->said, 64 * MIB);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    ws_frames_free(s->frames);
    assert_int_equal(s->partial, 0);
    buf_free(&s->in);
    buf_free(&s->said);
    free(s);
    return 0;
}

static void restart(struct stage *s)
{
    ws_frames_free(s->frames);
    s->frames = ws_frames_new(MESSAGE_MAX, &s->partial, 4 * MESSAGE_MAX);
    buf_clear(&s->in);
    buf_clear(&s->said);
}

#define FIN 0x80
enum { CONT, TEXT, BINARY, CLOSE = 8, PING, PONG };

// The head of a masked frame that says it has `n` bytes.
static void head(struct stage *s, int first, uint64_t n, bool masked)
{
    buf_put_u8(&s->in, (uint8_t)first);
    uint8_t mask = masked ? 0x80 : 0;
    if (n < 126) {
        buf_put_u8(&s->in, (uint8_t)(mask | n));
    } else if (n <= UINT16_MAX) {
        buf_put_u8(&s->in, mask | 126);
        buf_put_u16_be(&s->in, (uint16_t)n);
    } else {
        buf_put_u8(&s->in, mask | 127);
        buf_put_u64_be(&s->in, n);
    }
    if (masked) buf_put(&s->in, "\x12\x34\x56\x78", 4);
}

static void frame(struct stage *s, int first, const void *payload, size_t n)
{
    head(s, first, n, true);
    for (size_t i = 0; i < n; i++)
        buf_put_u8(&s->in, ((const uint8_t *)payload)[i] ^ (uint8_t)"\x12\x34\x56\x78"[i & 3]);
}

static void text(struct stage *s, int first, const char *payload)
{
    frame(s, first, payload, strlen(payload));
}

static void say(struct stage *s, enum ws_event event, struct span payload)
{
    static const char *const names[] = {"more", "text", "binary", "ping", "pong", "close", "violation"};
    if (event == WS_CLOSE || event == WS_VIOLATION) buf_printf(&s->said, "%s %d\n", names[event], ws_frames_code(s->frames));
    else buf_printf(&s->said, "%s %.*s\n", names[event], SPAN_FMT(payload));
}

// Hands all of `in` over, `step` bytes at a time, and forgets it.
static void take(struct stage *s, size_t step)
{
    struct span rest = buf_span(&s->in), payload;
    while (rest.n > 0) {
        struct span piece = span_sub(rest, 0, step);
        rest = span_sub(rest, step, SIZE_MAX);
        for (;;) {
            enum ws_event event = ws_frames_take(s->frames, &piece, &payload);
            if (event == WS_MORE) break;
            say(s, event, payload);
        }
        assert_int_equal(piece.n, 0);
    }
    buf_clear(&s->in);
}

static void said(struct stage *s, const char *want)
{
    take(s, SIZE_MAX);
    if (!span_is(buf_span(&s->said), want)) fprintf(stderr, "wanted: %s\nsaid: %.*s\n", want, SPAN_FMT(buf_span(&s->said)));
    assert_true(span_is(buf_span(&s->said), want));
}

static void messages_come_whole_in_whatever_pieces(void **state)
{
    struct stage *s = *state;
    for (size_t step = 1; step < 40; step++) {
        restart(s);
        text(s, FIN | TEXT, "hello");
        text(s, TEXT, "gr\xc3");
        text(s, FIN | PING, "between");
        text(s, CONT, "\xbc\xc3\x9f");
        text(s, CONT, "");
        text(s, FIN | CONT, "e");
        frame(s, FIN | BINARY, "\xff\xfe", 2);
        text(s, FIN | PONG, "");
        text(s, FIN | TEXT, "");
        frame(s, FIN | CLOSE, "\x03\xe8 bye", 6);
        text(s, FIN | TEXT, "not read any more");
        take(s, step);
        assert_true(span_is(buf_span(&s->said), "text hello\nping between\ntext gr\xc3\xbc\xc3\x9f"
                                                "e\nbinary \xff\xfe\npong \ntext \nclose 1000\n"));
    }
}

static void a_fault_of_framing_is_1002(void **state)
{
    struct stage *s = *state;
    static const struct {
        const char *bytes;
        size_t n;
    } faults[] = {
        {"\x81\x01x", 3},                                         // not masked
        {"\xc1\x80....", 6},                                      // a reserved bit
        {"\xb1\x80....", 6},          {"\xa1\x80....", 6},        // the others
        {"\x83\x80....", 6},          {"\x87\x80....", 6},        // no such opcodes
        {"\x8b\x80....", 6},          {"\x8f\x80....", 6},        // nor these for control
        {"\x80\x80....", 6},                                      // a continuation of nothing
        {"\x09\x80....", 6},                                      // a fragmented ping
        {"\x89\xfe\x00\x7e", 4},                                  // a long ping
        {"\x81\xfe\x00\x05....hello", 13},                        // a length longer than it needs to be
        {"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff....", 14},     // that, too
        {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00....", 14},     // a length of 64 bits
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        restart(s);
        text(s, FIN | PING, "before");
        buf_put(&s->in, faults[i].bytes, faults[i].n);
        text(s, FIN | PING, "behind");
        said(s, "ping before\nviolation 1002\n");
        assert_true(strlen(ws_frames_reason(s->frames)) > 0);
    }
}

static void a_message_within_a_message_is_1002(void **state)
{
    struct stage *s = *state;
    text(s, TEXT, "a");
    text(s, FIN | TEXT, "b");
    said(s, "violation 1002\n");
}

static void what_is_above_the_limit_is_1009_before_it_has_come(void **state)
{
    struct stage *s = *state;
    char full[MESSAGE_MAX + 1];
    memset(full, 'x', sizeof full);
    head(s, FIN | BINARY, (uint64_t)1 << 62, true);
    buf_put_str(&s->in, "x");
    said(s, "violation 1009\n");
    restart(s);
    frame(s, BINARY, full, MESSAGE_MAX);
    text(s, FIN | CONT, "x");
    said(s, "violation 1009\n");
    restart(s);
    frame(s, FIN | BINARY, full, MESSAGE_MAX + 1);
    said(s, "violation 1009\n");
    restart(s);
    frame(s, FIN | BINARY, full, MESSAGE_MAX);
    take(s, SIZE_MAX);
    assert_int_equal(s->said.n, strlen("binary \n") + MESSAGE_MAX);
}

static void a_declared_length_costs_nothing(void **state)
{
    struct stage *s = *state;
    head(s, FIN | BINARY, MESSAGE_MAX, true);
    said(s, "");
    assert_int_equal(s->partial, 0);
    buf_put_str(&s->in, "12345");
    said(s, "");
    assert_int_equal(s->partial, 5);
}

static void a_flood_of_fragments_is_1008(void **state)
{
    struct stage *s = *state;
    text(s, TEXT, "");
    for (int i = 1; i < WS_FRAGMENTS_MAX; i++)
        text(s, CONT, "");
    said(s, "");
    text(s, CONT, "");
    said(s, "violation 1008\n");
}

static void unfinished_messages_are_bounded_together(void **state)
{
    struct stage *s = *state;
    struct ws_frames *others[4];
    char full[MESSAGE_MAX];
    memset(full, 'x', sizeof full);
    frame(s, BINARY, full, MESSAGE_MAX);
    for (int i = 0; i < 4; i++) {
        struct span in = buf_span(&s->in), payload;
        others[i] = ws_frames_new(MESSAGE_MAX, &s->partial, 4 * MESSAGE_MAX);
        assert_int_equal(ws_frames_take(others[i], &in, &payload), WS_MORE);
    }
    said(s, "violation 1013\n");
    ws_frames_free(others[0]);
    restart(s);
    text(s, FIN | TEXT, "there is room again");
    said(s, "text there is room again\n");
    for (int i = 1; i < 4; i++)
        ws_frames_free(others[i]);
}

static void text_that_is_not_utf8_is_1007(void **state)
{
    struct stage *s = *state;
    static const char *const faults[] = {"\xff", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        restart(s);
        text(s, FIN | TEXT, faults[i]);
        said(s, "violation 1007\n");
        restart(s);
        text(s, TEXT, "so far so good");
        text(s, FIN | CONT, faults[i]);
        said(s, "violation 1007\n");
    }
}

static void close_frames_are_checked(void **state)
{
    struct stage *s = *state;
    static const struct {
        const char *payload;
        size_t n;
        const char *said;
    } cases[] = {
        {"", 0, "close 1005\n"},
        {"\x03\xe8", 2, "close 1000\n"},
        {"\x0b\xb8", 2, "close 3000\n"},
        {"\x13\x87", 2, "close 4999\n"},
        {"\x03\xf6", 2, "close 1014\n"},
        {"x", 1, "violation 1002\n"},
        {"\x03\xe7", 2, "violation 1002\n"}, // 999
        {"\x03\xec", 2, "violation 1002\n"}, // 1004
        {"\x03\xed", 2, "violation 1002\n"}, // 1005
        {"\x03\xee", 2, "violation 1002\n"}, // 1006
        {"\x03\xf7", 2, "violation 1002\n"}, // 1015
        {"\x07\xd0", 2, "violation 1002\n"}, // 2000
        {"\x13\x88", 2, "violation 1002\n"}, // 5000
        {"\x03\xe8\xff", 3, "violation 1007\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        restart(s);
        frame(s, FIN | CLOSE, cases[i].payload, cases[i].n);
        said(s, cases[i].said);
    }
}

static void frames_go_out_in_the_shortest_form(void **state)
{
    struct stage *s = *state;
    static const struct {
        size_t n;
        const char *head;
        size_t head_n;
    } cases[] = {{0, "\x81\x00", 2}, {125, "\x81\x7d", 2}, {126, "\x81\x7e\x00\x7e", 4}, {65535, "\x81\x7e\xff\xff", 4}, {65536, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10}};
    char *payload = malloc(65536);
    memset(payload, 'x', 65536);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out;
        buf_init(&out, MIB);
        ws_frames_put_text(s->frames, &out, SPAN(payload, cases[i].n));
        assert_int_equal(out.n, cases[i].head_n + cases[i].n);
        assert_memory_equal(out.p, cases[i].head, cases[i].head_n);
        buf_clear(&out);
        ws_frames_put_text_head(&out, cases[i].n);
        assert_int_equal(out.n, cases[i].head_n);
        assert_memory_equal(out.p, cases[i].head, cases[i].head_n);
        buf_free(&out);
    }
    free(payload);
}

static void control_frames_go_out(void **state)
{
    struct stage *s = *state;
    struct buf out;
    char reason[400];
    memset(reason, 'r', sizeof reason);
    memcpy(reason + 122, "\xe2\x82\xac", 3); // the cut would split it
    reason[399] = '\0';
    buf_init(&out, MIB);
    ws_frames_put_ping(s->frames, &out);
    ws_frames_put_pong(s->frames, &out, SPAN_LIT("x"));
    ws_frames_put_close(s->frames, &out, WS_POLICY, "no");
    ws_frames_put_close(s->frames, &out, WS_NO_CODE, "");
    assert_int_equal(out.n, 2 + 3 + 6 + 2);
    assert_memory_equal(out.p, "\x89\x00\x8a\x01x\x88\x04\x03\xf0no\x88\x00", out.n);
    buf_clear(&out);
    ws_frames_put_close(s->frames, &out, WS_POLICY, reason);
    assert_int_equal(out.n, 2 + 2 + 122);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_come_whole_in_whatever_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fault_of_framing_is_1002, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_within_a_message_is_1002, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_above_the_limit_is_1009_before_it_has_come, setup, teardown),
        cmocka_unit_test_setup_teardown(a_declared_length_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood_of_fragments_is_1008, setup, teardown),
        cmocka_unit_test_setup_teardown(unfinished_messages_are_bounded_together, setup, teardown),
        cmocka_unit_test_setup_teardown(text_that_is_not_utf8_is_1007, setup, teardown),
        cmocka_unit_test_setup_teardown(close_frames_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_go_out_in_the_shortest_form, setup, teardown),
        cmocka_unit_test_setup_teardown(control_frames_go_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
