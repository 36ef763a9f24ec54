#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <string.h>

#include "err.h"
#include "llm_ui.h"

static struct buf out;
static struct llm_ui ui;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 4 * MIB);
    llm_ui_init(&ui, &out);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    llm_ui_free(&ui);
    buf_free(&out);
    return 0;
}

static void begin(void)
{
    llm_ui_begin(&ui, SPAN_LIT("m1"));
    buf_clear(&out);
}

static void assert_out(const char *expected)
{
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p, expected);
    assert_int_equal(llm_ui_err(&ui), 0);
}

#define CHUNK(s) "data: {\"type\":" s "}\n\n"
#define DONE "data: [DONE]\n\n"

static void a_reply_is_one_message_with_its_text_in_a_part(void **state)
{
    (void)state;
    llm_ui_begin(&ui, SPAN_LIT("m1"));
    llm_ui_text(&ui, SPAN_LIT(""));
    llm_ui_text(&ui, SPAN_LIT("Hel"));
    llm_ui_text(&ui, SPAN_LIT("lo\n\"you\""));
    llm_ui_finish(&ui, SPAN_LIT("stop"), SPAN_LIT("{\"model\":\"x\"}"));
    assert_out(CHUNK("\"start\",\"messageId\":\"m1\"") CHUNK("\"start-step\"") CHUNK("\"text-start\",\"id\":\"1\"")
                   CHUNK("\"text-delta\",\"id\":\"1\",\"delta\":\"Hel\"") CHUNK("\"text-delta\",\"id\":\"1\",\"delta\":\"lo\\n\\\"you\\\"\"")
                       CHUNK("\"text-end\",\"id\":\"1\"") CHUNK("\"finish-step\"")
                           CHUNK("\"finish\",\"finishReason\":\"stop\",\"messageMetadata\":{\"model\":\"x\"}") DONE);
}

static void reasoning_and_text_are_parts_one_after_the_other(void **state)
{
    (void)state;
    begin();
    llm_ui_reasoning(&ui, SPAN_LIT("a"));
    llm_ui_text(&ui, SPAN_LIT("b"));
    llm_ui_reasoning(&ui, SPAN_LIT("c"));
    llm_ui_finish(&ui, SPAN_LIT("end_turn"), SPAN_NONE);
    assert_out(CHUNK("\"reasoning-start\",\"id\":\"1\"") CHUNK("\"reasoning-delta\",\"id\":\"1\",\"delta\":\"a\"")
                   CHUNK("\"reasoning-end\",\"id\":\"1\"") CHUNK("\"text-start\",\"id\":\"2\"")
                       CHUNK("\"text-delta\",\"id\":\"2\",\"delta\":\"b\"") CHUNK("\"text-end\",\"id\":\"2\"")
                           CHUNK("\"reasoning-start\",\"id\":\"3\"") CHUNK("\"reasoning-delta\",\"id\":\"3\",\"delta\":\"c\"")
                               CHUNK("\"reasoning-end\",\"id\":\"3\"") CHUNK("\"finish-step\"") CHUNK("\"finish\",\"finishReason\":\"stop\"") DONE);
}

static void calls_run_beside_each_other_and_end_with_their_input(void **state)
{
    (void)state;
    begin();
    llm_ui_call(&ui, 0, SPAN_LIT("c0"), SPAN_LIT("tide"));
    llm_ui_call(&ui, 1, SPAN_LIT("c1"), SPAN_LIT("moon"));
    llm_ui_call(&ui, 1, SPAN_LIT("again"), SPAN_LIT("again"));
    buf_clear(&out);
    llm_ui_call_delta(&ui, 0, SPAN_LIT("{\"at\":\n"));
    llm_ui_call_delta(&ui, 7, SPAN_LIT("of nobody"));
    llm_ui_call_delta(&ui, 0, SPAN_LIT("1}"));
    llm_ui_call_end(&ui, 0);
    llm_ui_call_end(&ui, 0);
    llm_ui_finish(&ui, SPAN_LIT("stop"), SPAN_NONE);
    assert_out(CHUNK("\"tool-input-delta\",\"toolCallId\":\"c0\",\"inputTextDelta\":\"{\\\"at\\\":\\n\"")
                   CHUNK("\"tool-input-delta\",\"toolCallId\":\"c0\",\"inputTextDelta\":\"1}\"")
                       CHUNK("\"tool-input-available\",\"toolCallId\":\"c0\",\"toolName\":\"tide\",\"input\":{\"at\": 1}")
                           CHUNK("\"tool-input-available\",\"toolCallId\":\"c1\",\"toolName\":\"moon\",\"input\":{}") CHUNK("\"finish-step\"")
                               CHUNK("\"finish\",\"finishReason\":\"tool-calls\"") DONE);
}

static void input_that_is_no_json_is_an_error_of_that_call(void **state)
{
    (void)state;
    begin();
    llm_ui_call(&ui, 3, SPAN_LIT("c3"), SPAN_LIT("tide"));
    llm_ui_call_delta(&ui, 3, SPAN_LIT("{\"at\":"));
    buf_clear(&out);
    llm_ui_call_end(&ui, 3);
    assert_out(CHUNK("\"tool-input-error\",\"toolCallId\":\"c3\",\"toolName\":\"tide\",\"input\":\"{\\\"at\\\":\",\"errorText\":\"the model's "
                     "input for this tool is no JSON\""));
}

static void an_error_closes_the_text_and_leaves_a_half_call_alone(void **state)
{
    (void)state;
    begin();
    llm_ui_call(&ui, 0, SPAN_LIT("c0"), SPAN_LIT("tide"));
    llm_ui_call_delta(&ui, 0, SPAN_LIT("{\"a"));
    llm_ui_text(&ui, SPAN_LIT("b"));
    buf_clear(&out);
    llm_ui_error(&ui, SPAN_LIT("Overloaded"));
    assert_out(CHUNK("\"text-end\",\"id\":\"1\"") CHUNK("\"error\",\"errorText\":\"Overloaded\"") DONE);
}

static void a_stop_is_an_abort(void **state)
{
    (void)state;
    begin();
    llm_ui_text(&ui, SPAN_LIT("b"));
    buf_clear(&out);
    llm_ui_abort(&ui, SPAN_LIT("cancelled"));
    assert_out(CHUNK("\"text-end\",\"id\":\"1\"") CHUNK("\"abort\",\"reason\":\"cancelled\"") DONE);
}

static void every_providers_word_for_the_end_has_one_of_the_sdk(void **state)
{
    (void)state;
    static const char *const words[][2] = {{"length", "length"},         {"max_tokens", "length"},  {"content_filter", "content-filter"},
                                           {"refusal", "content-filter"}, {"tool_use", "tool-calls"}, {"martian", "other"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        llm_ui_init(&ui, &out);
        begin();
        llm_ui_finish(&ui, SPAN_STR(words[i][0]), SPAN_NONE);
        buf_put_u8(&out, 0);
        assert_non_null(strstr((const char *)out.p, words[i][1]));
        buf_clear(&out);
    }
}

static void too_many_calls_and_too_long_words_are_errors(void **state)
{
    (void)state;
    begin();
    for (uint64_t i = 0; i <= LLM_UI_CALLS_MAX; i++) {
        assert_int_equal(llm_ui_err(&ui), 0);
        llm_ui_call(&ui, i, SPAN_LIT("c"), SPAN_LIT("n"));
    }
    assert_int_equal(llm_ui_err(&ui), ERR_TOO_MANY);
    llm_ui_free(&ui);
    llm_ui_init(&ui, &out);
    begin();
    char word[LLM_UI_WORD_MAX];
    memset(word, 'x', sizeof word);
    llm_ui_call(&ui, 0, SPAN(word, sizeof word), SPAN_LIT("n"));
    assert_int_equal(llm_ui_err(&ui), ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reply_is_one_message_with_its_text_in_a_part, setup, teardown),
        cmocka_unit_test_setup_teardown(reasoning_and_text_are_parts_one_after_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(calls_run_beside_each_other_and_end_with_their_input, setup, teardown),
        cmocka_unit_test_setup_teardown(input_that_is_no_json_is_an_error_of_that_call, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_closes_the_text_and_leaves_a_half_call_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stop_is_an_abort, setup, teardown),
        cmocka_unit_test_setup_teardown(every_providers_word_for_the_end_has_one_of_the_sdk, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_calls_and_too_long_words_are_errors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
