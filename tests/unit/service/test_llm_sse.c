#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "err.h"
#include "llm_sse.h"

static struct buf text;
static struct llm_sse sse;

static int setup(void **state)
{
    (void)state;
    buf_init(&text, 4 * MIB);
    llm_sse_init(&sse, &text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    llm_sse_free(&sse);
    buf_free(&text);
    return 0;
}

static int feed(const char *s)
{
    return llm_sse_feed(&sse, SPAN_STR(s));
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
    assert_false(llm_sse_complete(&sse));
    assert_int_equal(feed(FINISH("stop")), 0);
    assert_true(llm_sse_complete(&sse));
    assert_int_equal(feed(DONE), 0);
    assert_true(sse.done);
    assert_string_equal(sse.finish, "stop");
    assert_string_equal(sse.model, "m");
}

static void pieces_may_end_anywhere(void **state)
{
    (void)state;
    static const char stream[] = "\xef\xbb\xbf: hello\r\n\r\n" CONTENT(
        "caf\xc3\xa9 ") "event: message\r\nid: 7\r\rretry: 10\r\ndata: "
                        "{\"choices\":[{\"delta\":\r\ndata:{\"content\":\"two\"}}]}\r\n\r\n" FINISH("stop");
    for (size_t step = 1; step < 20; step++) {
        llm_sse_free(&sse);
        buf_clear(&text);
        llm_sse_init(&sse, &text);
        for (size_t at = 0; at < sizeof stream - 1; at += step)
            assert_int_equal(llm_sse_feed(&sse, span_sub(SPAN(stream, sizeof stream - 1), at, step)), 0);
        assert_text("caf\xc3\xa9 two");
        assert_true(llm_sse_end(&sse));
    }
}

static void a_stream_that_ends_before_its_reply_is_not_complete(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("Hel")), 0);
    assert_false(llm_sse_end(&sse));
}

static void a_half_event_at_the_end_is_no_event(void **state)
{
    (void)state;
    assert_int_equal(feed("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lost\"},\"finish_reason\":\"stop\"}]}\n"), 0);
    assert_false(llm_sse_end(&sse));
    assert_text("");
}

static void the_last_line_may_lack_its_end(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("all") "data: [DONE]"), 0);
    assert_true(llm_sse_end(&sse));
    assert_true(sse.done);
}

static void nothing_behind_done_is_looked_at(void **state)
{
    (void)state;
    assert_int_equal(feed(CONTENT("a") DONE CONTENT("b") "data: {\n\n"), 0);
    assert_int_equal(feed("data: nonsense\n\n"), 0);
    assert_text("a");
}

static void usage_is_told_in_canonical_json(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, KIB);
    assert_int_equal(feed("data: {\"model\":\"m\",\"choices\":[],\"usage\":null}\n\n"), 0);
    llm_sse_usage(&sse, &out);
    assert_int_equal(out.n, 0);
    assert_int_equal(
        feed(FINISH("length") "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n"), 0);
    llm_sse_usage(&sse, &out);
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p,
                        "{\"completion_tokens\":2,\"finish_reason\":\"length\",\"model\":\"m\",\"prompt_tokens\":9,\"total_tokens\":11}");
    buf_free(&out);
}

static void broken_usage_stays_unknown(void **state)
{
    (void)state;
    assert_int_equal(
        feed("data: {\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":2}}\n\ndata: {\"usage\":7}\n\ndata: {\"usage\":{}}\n\n"), 0);
    assert_false(sse.has_usage);
}

static void only_the_first_choice_is_taken(void **state)
{
    (void)state;
    assert_int_equal(feed("data: "
                          "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"},\"finish_reason\":\"stop\"},{\"index\":0,\"delta\":{"
                          "\"content\":\"yes\"}}]}\n\n"),
                     0);
    assert_text("yes");
    assert_false(llm_sse_complete(&sse));
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
    assert_string_equal(sse.problem.text, "over?loaded");
    assert_text("a");
    assert_int_equal(feed(DONE), ERR_PROVIDER_ERROR);
    assert_false(llm_sse_end(&sse));
}

static void errors_come_in_other_forms_too(void **state)
{
    static const char *const forms[] = {"event: error\ndata: {\"message\":\"words\"}\n\n", "data: {\"error\":\"words\"}\n\n",
                                        "data: {\"error\":{},\"message\":\"words\"}\n\n"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        teardown(state);
        setup(state);
        assert_int_equal(feed(forms[i]), ERR_PROVIDER_ERROR);
        assert_string_equal(sse.problem.text, "words");
    }
}

static void an_error_behind_the_finish_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(feed(FINISH("stop") "data: {\"error\":{\"message\":\"late\"}}\n\n"), ERR_PROVIDER_ERROR);
    assert_false(llm_sse_complete(&sse));
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
        assert_true(strlen(sse.problem.text) > 0);
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
    assert_in_range(sse.line.cap, 0, 4 * KIB);
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
    assert_int_equal(strlen(sse.finish), LLM_WORD_MAX - 1);
    assert_memory_equal(sse.finish, "x\xc3\xa9", 3);
    snprintf(stream, sizeof stream, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n", word);
    assert_int_equal(feed(stream), 0);
    assert_int_equal(strlen(sse.finish), LLM_WORD_MAX - 2);
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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_reply_is_its_deltas_one_after_the_other),
        T(pieces_may_end_anywhere),
        T(a_stream_that_ends_before_its_reply_is_not_complete),
        T(a_half_event_at_the_end_is_no_event),
        T(the_last_line_may_lack_its_end),
        T(nothing_behind_done_is_looked_at),
        T(usage_is_told_in_canonical_json),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
