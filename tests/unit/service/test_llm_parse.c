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
#include "file.h"
#include "llm_event.h"

static struct buf text;
static struct llm_parser *parser;
static struct llm_writer writer;

static void on_event(void *ctx, const struct llm_event *e)
{
    (void)ctx;
    writer.event(&writer, e, &text);
}

static int setup(void **state)
{
    (void)state;
    buf_init(&text, 4 * MIB);
    llm_writer_text(&writer);
    return llm_parser_new(&parser, LLM_CHAT, on_event, NULL);
}

static int teardown(void **state)
{
    (void)state;
    llm_parser_free(parser);
    llm_writer_free(&writer);
    buf_free(&text);
    return 0;
}

static int feed(const char *s)
{
    return llm_parser_feed(parser, SPAN_STR(s));
}

#define CONTENT(s) "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" s "\"},\"finish_reason\":null}]}\n\n"
#define FINISH(s) "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" s "\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

static void assert_text(const char *expected)
{
    assert_int_equal(text.n, strlen(expected));
    assert_memory_equal(text.p == NULL ? (const uint8_t *)"" : text.p, expected, text.n);
}

static void a_reply_is_its_deltas_one_after_the_other(void **state)
{
    (void)state;
    assert_int_equal(feed("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"), 0);
    assert_int_equal(feed(CONTENT("Hel") CONTENT("lo, \\u00e9\\n") CONTENT("\xf0\x9f\x8c\x8a")), 0);
    assert_text("Hello, \xc3\xa9\n\xf0\x9f\x8c\x8a");
    assert_false(llm_parser_reply(parser)->complete);
    assert_int_equal(feed(FINISH("stop")), 0);
    assert_true(llm_parser_reply(parser)->complete);
    assert_int_equal(feed(DONE), 0);
    assert_true(llm_parser_reply(parser)->ended);
    assert_string_equal(llm_parser_reply(parser)->reason, "stop");
    assert_string_equal(llm_parser_reply(parser)->model, "m");
}

static void pieces_may_end_anywhere(void **state)
{
    (void)state;
    static const char stream[] = "\xef\xbb\xbf: hello\r\n\r\n" CONTENT(
        "caf\xc3\xa9 ") "event: message\r\nid: 7\r\rretry: 10\r\ndata: "
                        "{\"choices\":[{\"delta\":\r\ndata:{\"content\":\"two\"}}]}\r\n\r\n" FINISH("stop");
    for (size_t step = 1; step < 20; step++) {
        teardown(state);
        setup(state);
        for (size_t at = 0; at < sizeof stream - 1; at += step)
            assert_int_equal(llm_parser_feed(parser, span_sub(SPAN(stream, sizeof stream - 1), at, step)), 0);
        assert_text("caf\xc3\xa9 two");
        assert_true(llm_parser_end(parser));
    }
}

static void half_a_character_is_no_reason_to_fail(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("a\\ud83c") CONTENT("\\udf0a") CONTENT("\\ud83c\\udf0a \\\\ud83c \\uD83Cx")), 0);
    assert_text("a\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x8c\x8a \\ud83c \xef\xbf\xbdx");
}

static void a_stream_that_ends_before_its_reply_is_not_complete(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("Hel")), 0);
    assert_false(llm_parser_end(parser));
}

static void a_half_event_at_the_end_is_no_event(void **state)
{
    (void)state;
    assert_int_equal(feed("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lost\"},\"finish_reason\":\"stop\"}]}\n"), 0);
    assert_false(llm_parser_end(parser));
    assert_text("");
}

static void the_last_line_may_lack_its_end(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("all") "data: [DONE]"), 0);
    assert_true(llm_parser_end(parser));
    assert_true(llm_parser_reply(parser)->ended);
}

static void nothing_behind_done_is_looked_at(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("a") DONE CONTENT("b") "data: {\n\n"), 0);
    assert_int_equal(feed("data: nonsense\n\n"), 0);
    assert_text("a");
}

static void usage_is_known_once_both_sides_are_told(void **state)
{
    (void)state;
    const struct llm_usage *usage = &llm_parser_reply(parser)->usage;
    assert_int_equal(feed("data: {\"model\":\"m\",\"choices\":[],\"usage\":null}\n\n"), 0);
    assert_false(llm_usage_known(usage));
    assert_int_equal(feed(FINISH("length") "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n"), 0);
    assert_true(llm_usage_known(usage));
    assert_int_equal(usage->total, 11);
    assert_int_equal(usage->cached, -1);
}

static void broken_usage_stays_unknown(void **state)
{
    (void)state;
    assert_int_equal(
        feed("data: {\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":2}}\n\ndata: {\"usage\":7}\n\ndata: {\"usage\":{}}\n\n"), 0);
    assert_false(llm_usage_known(&llm_parser_reply(parser)->usage));
}

static void only_the_first_choice_is_taken(void **state)
{
    (void)state;
    assert_int_equal(feed("data: "
                          "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"},\"finish_reason\":\"stop\"},{\"index\":0,\"delta\":{"
                          "\"content\":\"yes\"}}]}\n\n"),
                     0);
    assert_text("yes");
    assert_false(llm_parser_reply(parser)->complete);
}

static void a_refusal_is_text_too(void **state)
{
    (void)state;
    assert_int_equal(feed("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"refusal\":\"I can't.\"}}]}\n\n"), 0);
    assert_text("I can't.");
}

static void an_error_event_ends_the_reply_in_the_providers_words(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("a") "data: {\"error\":{\"message\":\"over\\u0007loaded\",\"type\":\"server_error\"}}\n\n" CONTENT("b")),
                     ERR_PROVIDER_ERROR);
    assert_string_equal(llm_parser_problem(parser)->text, "over?loaded");
    assert_text("a");
    assert_int_equal(feed(DONE), ERR_PROVIDER_ERROR);
    assert_false(llm_parser_end(parser));
}

static void errors_come_in_other_forms_too(void **state)
{
    static const char *const forms[] = {"event: error\ndata: {\"message\":\"words\"}\n\n", "data: {\"error\":\"words\"}\n\n",
                                        "data: {\"error\":{},\"message\":\"words\"}\n\n"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        teardown(state);
        setup(state);
        assert_int_equal(feed(forms[i]), ERR_PROVIDER_ERROR);
        assert_string_equal(llm_parser_problem(parser)->text, "words");
    }
}

static void an_error_behind_the_finish_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(feed(FINISH("stop") "data: {\"error\":{\"message\":\"late\"}}\n\n"), ERR_PROVIDER_ERROR);
    assert_false(llm_parser_reply(parser)->complete);
}

static void what_is_no_chunk_is_malformed(void **state)
{
    static const char *const streams[] = {
        "data: {\n\n",
        "data: [1]\n\n",
        "data: \"text\"\n\n",
        "data: {\"choices\":{}}\n\n",
        "data: {\"choices\":[7]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":7}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":[\"a\"]}}]}\n\n",
        "data: {\"a\":\"\xff\"}\n\n",
        "data:\n\n",
        "data: {}\ndata: {}\n\n",
    };
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        teardown(state);
        setup(state);
        assert_int_equal(feed(streams[i]), ERR_PROVIDER_MALFORMED);
        assert_true(strlen(llm_parser_problem(parser)->text) > 0);
        assert_int_equal(feed(CONTENT("more")), ERR_PROVIDER_MALFORMED);
        assert_text("");
    }
}

// Returns what feeding said at last, and how much was fed.
static int feed_without_end(const char *piece, size_t *fed)
{
    int err = 0;
    for (*fed = 0; err == 0 && *fed < 4 * MIB; *fed += strlen(piece))
        err = feed(piece);
    return err;
}

static void a_line_without_end_is_malformed_at_the_limit(void **state)
{
    (void)state;
    size_t fed;
    assert_int_equal(feed_without_end("data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &fed), ERR_PROVIDER_MALFORMED);
    assert_in_range(fed, LLM_EVENT_MAX, LLM_EVENT_MAX + 200);
}

static void an_event_without_end_is_malformed_at_the_limit(void **state)
{
    (void)state;
    size_t fed;
    assert_int_equal(feed_without_end("data: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n", &fed), ERR_PROVIDER_MALFORMED);
    assert_in_range(fed, LLM_EVENT_MAX, LLM_EVENT_MAX + LLM_EVENT_MAX / 2);
}

static void comments_without_end_keep_nothing(void **state)
{
    (void)state;
    size_t fed;
    assert_int_equal(feed_without_end(": still here\n\n", &fed), 0);
    assert_int_equal(llm_parser_partial(parser), 0);
}

static void long_words_are_cut_at_a_character(void **state)
{
    (void)state;
    char stream[1000];
    char word[400] = "";
    for (size_t i = 0; i < 130; i++)
        memcpy(word + 2 * i, "\xc3\xa9", 3);
    snprintf(stream, sizeof stream, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"x%s\"}]}\n\n", word);
    assert_int_equal(feed(stream), 0);
    assert_int_equal(strlen(llm_parser_reply(parser)->reason), LLM_WORD_MAX - 1);
    assert_memory_equal(llm_parser_reply(parser)->reason, "x\xc3\xa9", 3);
    snprintf(stream, sizeof stream, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n", word);
    assert_int_equal(feed(stream), 0);
    assert_int_equal(strlen(llm_parser_reply(parser)->reason), LLM_WORD_MAX - 2);
}

static void a_refusal_tells_its_message(void **state)
{
    (void)state;
    char message[PROBLEM_TEXT_MAX];
    assert_true(llm_error_message(SPAN_LIT("{\"error\":{\"message\":\"no\",\"code\":\"x\"}}"), message));
    assert_string_equal(message, "no");
    assert_false(llm_error_message(SPAN_LIT("<html>502</html>"), message));
    assert_false(llm_error_message(SPAN_LIT("{\"error\":{}}"), message));
    assert_false(llm_error_message(SPAN_LIT(""), message));
}

// ---- transcripts -----------------------------------------------------------------------------------------------------

// The body of a transcript: behind the empty line, without the lines that are for the stand-in.
static void load(struct buf *body, const char *name)
{
    struct buf file;
    char path[200];
    bool in_head = true;
    buf_init(&file, MIB);
    snprintf(path, sizeof path, "tests/fixtures/provider/%s.http", name);
    assert_int_equal(file_slurp(&file, path), 0);
    for (size_t at = 0; at < file.n;) {
        const uint8_t *end = memchr(file.p + at, '\n', file.n - at);
        size_t n = end != NULL ? (size_t)(end - file.p) - at + 1 : file.n - at;
        if (!in_head && file.p[at] != '~') buf_put(body, file.p + at, n);
        in_head = in_head && n > 1;
        at += n;
    }
    buf_free(&file);
}

// What a transcript comes to, as messages, stands beside it. SEGUE_MAKE_EVENTS=1 writes it anew: look at the difference then.
static void compare(const char *name)
{
    struct buf expected;
    char path[200];
    snprintf(path, sizeof path, "tests/fixtures/provider/%s.events", name);
    if (getenv("SEGUE_MAKE_EVENTS") != NULL) {
        FILE *f = fopen(path, "w");
        assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
        fclose(f);
    }
    buf_init(&expected, MIB);
    assert_int_equal(file_slurp(&expected, path), 0);
    if (!span_equal(buf_span(&expected), buf_span(&text))) fail_msg("%s: %.*s", name, SPAN_FMT(buf_span(&text)));
    buf_free(&expected);
}

static const struct {
    const char *name;
    enum llm_api api;
    bool complete;
} transcripts[] = {
    {"happy", LLM_CHAT, true},
    {"refusal", LLM_CHAT, true},
    {"chat-tool", LLM_CHAT, true},
    {"chat-reasoning", LLM_CHAT, true},
    {"error-event", LLM_CHAT, false},
    {"responses-text", LLM_RESPONSES, true},
    {"responses-tool", LLM_RESPONSES, true},
    {"responses-refusal", LLM_RESPONSES, true},
    {"responses-incomplete", LLM_RESPONSES, true},
    {"responses-failed", LLM_RESPONSES, false},
    {"responses-error", LLM_RESPONSES, false},
    {"responses-cut", LLM_RESPONSES, false},
    {"messages-text", LLM_MESSAGES, true},
    {"messages-tool", LLM_MESSAGES, true},
    {"messages-refusal", LLM_MESSAGES, true},
    {"messages-error", LLM_MESSAGES, false},
    {"messages-cut", LLM_MESSAGES, false},
};

static void begin(void **state, enum llm_api api)
{
    teardown(state);
    setup(state);
    llm_parser_free(parser);
    assert_int_equal(llm_parser_new(&parser, api, on_event, NULL), 0);
    llm_writer_free(&writer);
    llm_writer_messages(&writer);
}

static void every_transcript_comes_to_its_events(void **state)
{
    struct buf body;
    buf_init(&body, MIB);
    for (size_t i = 0; i < sizeof transcripts / sizeof *transcripts; i++) {
        begin(state, transcripts[i].api);
        buf_clear(&body);
        load(&body, transcripts[i].name);
        llm_parser_feed(parser, buf_span(&body));
        assert_int_equal(llm_parser_end(parser), transcripts[i].complete);
        compare(transcripts[i].name);
    }
    buf_free(&body);
}

// The stream is cut behind every event, and goes on in a new parser behind the number that the old one had seen.
static void a_resumed_reply_comes_to_the_same_events(void **state)
{
    struct buf body, saved;
    struct llm_writer kept;
    static const char *const names[] = {"responses-text", "responses-tool", "responses-refusal"};
    buf_init(&body, MIB);
    buf_init(&saved, 64 * KIB);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        buf_clear(&body);
        load(&body, names[i]);
        for (size_t cut = 1; cut < body.n; cut++) {
            if (body.p[cut - 1] != '\n' || body.p[cut] != '\n') continue;
            begin(state, LLM_RESPONSES);
            assert_int_equal(llm_parser_feed(parser, span_sub(buf_span(&body), 0, cut + 1)), 0);
            assert_int_equal(llm_parser_partial(parser), 0);
            buf_clear(&saved);
            llm_parser_save(parser, &saved);
            kept = writer;
            llm_parser_free(parser);
            assert_int_equal(llm_parser_new(&parser, LLM_RESPONSES, on_event, NULL), 0);
            assert_int_equal(llm_parser_load(parser, buf_span(&saved)), 0);
            writer = kept;
            // The provider sends what follows, and this one a little more: what was seen is not looked at.
            if (cut + 2 < body.n) {
                llm_parser_feed(parser, buf_span(&body));
                assert_true(llm_parser_end(parser));
                compare(names[i]);
            }
        }
    }
    buf_free(&body);
    buf_free(&saved);
}

static void the_end_of_a_call_tells_all_of_it_unless_another_process_began_it(void **state)
{
#define FRAGMENT(s) "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"" s "\"}}\n\n"
    begin(state, LLM_MESSAGES);
    assert_int_equal(feed("data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\"}}\n\n"), 0);
    assert_int_equal(feed(FRAGMENT("[1,") FRAGMENT("2]")), 0);
    buf_clear(&text);
    assert_int_equal(feed("data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"), 0);
    assert_text("{\"type\":\"end\",\"index\":0,\"part\":\"tool\",\"id\":\"t\",\"name\":\"f\",\"arguments\":\"[1,2]\"},\n");
    buf_clear(&text);
    llm_writer_free(&writer);
    llm_writer_messages(&writer);
    writer.event(&writer, &(struct llm_event){.kind = LLM_PART_END, .part = LLM_TOOL}, &text);
    assert_text("{\"type\":\"end\",\"index\":0,\"part\":\"tool\"},\n");
}

static void what_was_not_saved_by_a_parser_is_not_loaded(void **state)
{
    (void)state;
    assert_int_equal(llm_parser_load(parser, SPAN_LIT("")), ERR_CORRUPT);
    begin(state, LLM_RESPONSES);
    assert_int_equal(llm_parser_load(parser, SPAN_LIT("\x01\x01\x01\x00\x00\xff\xff\xff\x7f")), ERR_CORRUPT);
}

static void tool_calls_of_one_number_are_told_apart_by_their_ids(void **state)
{
    (void)state;
#define CALL(id, name, arguments) \
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"" id "\",\"function\":{\"name\":\"" name \
    "\",\"arguments\":\"" arguments "\"}}]}}]}\n\n"
    begin(state, LLM_CHAT);
    assert_int_equal(feed(CALL("a", "f", "1") CALL("a", "f", "2") CALL("b", "g", "3")), 0);
    assert_text("{\"type\":\"begin\",\"index\":0,\"part\":\"tool\",\"id\":\"a\",\"name\":\"f\"},\n"
                "{\"type\":\"delta\",\"index\":0,\"part\":\"tool\",\"text\":\"1\"},\n"
                "{\"type\":\"delta\",\"index\":0,\"part\":\"tool\",\"text\":\"2\"},\n"
                "{\"type\":\"begin\",\"index\":1,\"part\":\"tool\",\"id\":\"b\",\"name\":\"g\"},\n"
                "{\"type\":\"delta\",\"index\":1,\"part\":\"tool\",\"text\":\"3\"},\n");
}

static void a_reply_of_too_many_parts_is_malformed(void **state)
{
    char event[200];
    int err = 0;
    begin(state, LLM_MESSAGES);
    for (int i = 0; i <= LLM_PARTS_MAX && err == 0; i++) {
        snprintf(event, sizeof event, "data: {\"type\":\"content_block_start\",\"index\":%d,\"content_block\":{\"type\":\"text\"}}\n\n", i);
        err = feed(event);
        assert_int_equal(err, i < LLM_PARTS_MAX ? 0 : ERR_PROVIDER_MALFORMED);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_reply_is_its_deltas_one_after_the_other),
        T(pieces_may_end_anywhere),
        T(half_a_character_is_no_reason_to_fail),
        T(a_stream_that_ends_before_its_reply_is_not_complete),
        T(a_half_event_at_the_end_is_no_event),
        T(the_last_line_may_lack_its_end),
        T(nothing_behind_done_is_looked_at),
        T(usage_is_known_once_both_sides_are_told),
        T(broken_usage_stays_unknown),
        T(only_the_first_choice_is_taken),
        T(a_refusal_is_text_too),
        T(an_error_event_ends_the_reply_in_the_providers_words),
        T(errors_come_in_other_forms_too),
        T(an_error_behind_the_finish_is_an_error),
        T(what_is_no_chunk_is_malformed),
        T(a_line_without_end_is_malformed_at_the_limit),
        T(an_event_without_end_is_malformed_at_the_limit),
        T(comments_without_end_keep_nothing),
        T(long_words_are_cut_at_a_character),
        T(a_refusal_tells_its_message),
        T(every_transcript_comes_to_its_events),
        T(a_resumed_reply_comes_to_the_same_events),
        T(the_end_of_a_call_tells_all_of_it_unless_another_process_began_it),
        T(what_was_not_saved_by_a_parser_is_not_loaded),
        T(tool_calls_of_one_number_are_told_apart_by_their_ids),
        T(a_reply_of_too_many_parts_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
