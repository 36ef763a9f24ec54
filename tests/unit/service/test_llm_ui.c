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
    llm_ui_finish(&ui, LLM_FINISH_STOP, SPAN_LIT("{\"model\":\"x\"}"));
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
    llm_ui_finish(&ui, LLM_FINISH_STOP, SPAN_NONE);
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
    llm_ui_finish(&ui, LLM_FINISH_STOP, SPAN_NONE);
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
    static const struct {
        enum llm_finish finish;
        const char *word;
    } words[] = {{LLM_FINISH_NONE, "other"}, {LLM_FINISH_LENGTH, "length"}, {LLM_FINISH_REFUSAL, "content-filter"},
                 {LLM_FINISH_TOOL, "tool-calls"}, {LLM_FINISH_PAUSE, "stop"}, {LLM_FINISH_OTHER, "other"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        llm_ui_init(&ui, &out);
        begin();
        llm_ui_finish(&ui, words[i].finish, SPAN_NONE);
        buf_put_u8(&out, 0);
        assert_non_null(strstr((const char *)out.p, words[i].word));
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

// ---- a job's events ----

static struct llm_writer writer;

static int setup_writer(void **state)
{
    (void)state;
    buf_init(&out, 4 * MIB);
    int err = llm_writer_ui(&writer, uuid_new());
    if (err == 0) llm_writer_ui_name(&writer, SPAN_LIT("m1"));
    return err;
}

static int teardown_writer(void **state)
{
    (void)state;
    llm_writer_free(&writer);
    buf_free(&out);
    return 0;
}

static void tell(struct llm_event e)
{
    writer.event(&writer, &e, &out);
}

static void a_jobs_events_are_a_message(void **state)
{
    (void)state;
    tell((struct llm_event){.kind = LLM_START, .model = SPAN_LIT("made-up-1")});
    tell((struct llm_event){.kind = LLM_PART_BEGIN, .part = LLM_TEXT});
    tell((struct llm_event){.kind = LLM_PART_DELTA, .part = LLM_TEXT, .data = SPAN_LIT("a")});
    tell((struct llm_event){.kind = LLM_PART_END, .part = LLM_TEXT});
    tell((struct llm_event){.kind = LLM_PART_BEGIN, .index = 1, .part = LLM_TOOL, .tool_name = SPAN_LIT("tide")});
    tell((struct llm_event){.kind = LLM_PART_DELTA, .index = 1, .part = LLM_TOOL, .data = SPAN_LIT("[]")});
    tell((struct llm_event){.kind = LLM_PART_END, .index = 1, .part = LLM_TOOL});
    tell((struct llm_event){.kind = LLM_USAGE, .usage = {.input = 9, .output = 2, .total = 11, .cached = -1, .reasoning = -1}});
    tell((struct llm_event){.kind = LLM_FINISH, .finish = LLM_FINISH_TOOL});
    tell((struct llm_event){.kind = LLM_END, .state = "done"});
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p,
                        CHUNK("\"start\",\"messageId\":\"m1\"") CHUNK("\"start-step\"") CHUNK("\"text-start\",\"id\":\"1\"")
                            CHUNK("\"text-delta\",\"id\":\"1\",\"delta\":\"a\"") CHUNK("\"text-end\",\"id\":\"1\"")
                                CHUNK("\"tool-input-start\",\"toolCallId\":\"call_1\",\"toolName\":\"tide\"")
                                    CHUNK("\"tool-input-delta\",\"toolCallId\":\"call_1\",\"inputTextDelta\":\"[]\"")
                                        CHUNK("\"tool-input-available\",\"toolCallId\":\"call_1\",\"toolName\":\"tide\",\"input\":[]")
                                            CHUNK("\"finish-step\"") CHUNK("\"finish\",\"finishReason\":\"tool-calls\",\"messageMetadata\":{"
                                                                           "\"model\":\"made-up-1\",\"usage\":{\"inputTokens\":9,"
                                                                           "\"outputTokens\":2,\"totalTokens\":11}}") DONE);
}

static void a_job_that_fails_before_its_first_event_is_a_message_all_the_same(void **state)
{
    (void)state;
    tell((struct llm_event){.kind = LLM_END, .state = "failed", .message = SPAN_LIT("status 500")});
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p, CHUNK("\"start\",\"messageId\":\"m1\"") CHUNK("\"start-step\"")
                                                 CHUNK("\"error\",\"errorText\":\"status 500\"") DONE);
}

static void behind_a_restart_a_message_is_ended_and_nothing_else(void **state)
{
    (void)state;
    tell((struct llm_event){.kind = LLM_END, .state = "interrupted", .message = SPAN_LIT("restarted")});
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p, CHUNK("\"error\",\"errorText\":\"restarted\"") DONE);
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
        cmocka_unit_test_setup_teardown(a_jobs_events_are_a_message, setup_writer, teardown_writer),
        cmocka_unit_test_setup_teardown(a_job_that_fails_before_its_first_event_is_a_message_all_the_same, setup_writer, teardown_writer),
        cmocka_unit_test_setup_teardown(behind_a_restart_a_message_is_ended_and_nothing_else, setup_writer, teardown_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
