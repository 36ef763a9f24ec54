// OpenAI's chat/completions, and what is compatible with it: unnamed events, one chunk each.
//
//      data: {"id":…,"model":…,"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}
//      data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{\"a"}}]}}]}
//      data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
//      data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,…}}      behind the finish reason
//      data: [DONE]
#include <string.h>

#include "err.h"
#include "llm_parse.h"

#define SINGLE UINT32_MAX // the number of the one old-style function call

// A part of text goes on until another kind of part begins; tool calls until the finish.
static void end_others(struct llm_parser *p, const struct llm_parser_part *but)
{
    for (uint32_t i = 0; i < p->part_count; i++)
        if (&p->parts[i] != but && p->parts[i].part != LLM_TOOL) llm_part_end(p, &p->parts[i]);
}

static int take_text(struct llm_parser *p, enum llm_part kind, struct span text)
{
    if (text.n == 0) return 0;
    struct llm_parser_part *part = llm_part_find(p, (uint8_t)kind, 0, 0);
    if (part == NULL || !part->open) {
        end_others(p, NULL);
        part = llm_part_begin(p, kind, (uint8_t)kind, 0, 0, SPAN_NONE, SPAN_NONE);
        if (part == NULL) return p->problem.err;
    }
    llm_part_delta(p, part, text);
    return 0;
}

static uint64_t hash_of(struct span id)
{
    uint64_t h = 0xcbf29ce484222325; // FNV-1a
    for (size_t i = 0; i < id.n; i++)
        h = (h ^ id.p[i]) * 0x100000001b3;
    return h;
}

// A call begins with its name. One that has another id under the same number is another call.
static int take_call(struct llm_parser *p, uint32_t number, struct span id, const struct jr *function)
{
    struct span name, arguments;
    int err = llm_text_of(p, function, "name", &name);
    if (err == 0) err = llm_text_of(p, function, "arguments", &arguments);
    if (err != 0) return err;
    struct llm_parser_part *part = llm_part_find(p, LLM_TOOL, number, 0);
    if (part == NULL || (id.n > 0 && part->id_hash != hash_of(id))) {
        if (name.n == 0) return llm_malformed(p, "a tool call begins without a name");
        end_others(p, NULL);
        part = llm_part_begin(p, LLM_TOOL, LLM_TOOL, number, 0, id, name);
        if (part == NULL) return p->problem.err;
        part->id_hash = hash_of(id);
    }
    llm_part_delta(p, part, arguments);
    return 0;
}

static int take_calls(struct llm_parser *p, const struct jr *calls)
{
    int err = 0;
    if (calls != NULL && jr_type(calls) != JR_ARRAY && jr_type(calls) != JR_NULL) return llm_malformed(p, "tool_calls is not an array");
    for (size_t i = 0; err == 0 && i < jr_count(calls); i++) {
        const struct jr *call = jr_at(calls, i);
        int64_t number = jr_int(jr_get(call, "index"), (int64_t)i);
        if (jr_type(call) != JR_OBJECT || number < 0 || number >= SINGLE) return llm_malformed(p, "a tool call is malformed");
        err = take_call(p, (uint32_t)number, jr_str(jr_get(call, "id")), jr_get(call, "function"));
    }
    return err;
}

static enum llm_finish finish_of(struct span reason)
{
    if (span_is(reason, "stop")) return LLM_FINISH_STOP;
    if (span_is(reason, "length")) return LLM_FINISH_LENGTH;
    if (span_is(reason, "tool_calls") || span_is(reason, "function_call")) return LLM_FINISH_TOOL;
    if (span_is(reason, "content_filter")) return LLM_FINISH_REFUSAL;
    return LLM_FINISH_OTHER;
}

static int take_delta(struct llm_parser *p, const struct jr *delta)
{
    struct span reasoning, content, refusal;
    if (delta != NULL && jr_type(delta) != JR_OBJECT && jr_type(delta) != JR_NULL) return llm_malformed(p, "a delta is not an object");
    int err = llm_text_of(p, delta, "reasoning_content", &reasoning);
    // The same under another name; those who send both mean one.
    if (err == 0 && reasoning.n == 0 && jr_type(jr_get(delta, "reasoning")) == JR_STRING) reasoning = jr_str(jr_get(delta, "reasoning"));
    if (err == 0) err = llm_text_of(p, delta, "content", &content);
    if (err == 0) err = llm_text_of(p, delta, "refusal", &refusal);
    if (err == 0) err = take_text(p, LLM_REASONING, reasoning);
    if (err == 0) err = take_text(p, LLM_TEXT, content);
    if (err == 0) err = take_text(p, LLM_REFUSAL, refusal);
    if (err == 0) err = take_calls(p, jr_get(delta, "tool_calls"));
    const struct jr *function = jr_get(delta, "function_call");
    if (err == 0 && jr_type(function) == JR_OBJECT) err = take_call(p, SINGLE, SPAN_NONE, function);
    return err;
}

// Only the first choice is asked for.
static int take_choice(struct llm_parser *p, const struct jr *choice)
{
    struct span reason;
    if (jr_type(choice) != JR_OBJECT) return llm_malformed(p, "a choice is not an object");
    if (jr_int(jr_get(choice, "index"), 0) != 0) return 0;
    int err = take_delta(p, jr_get(choice, "delta"));
    if (err == 0) err = llm_text_of(p, choice, "finish_reason", &reason);
    if (err != 0 || reason.n == 0) return err;
    p->reply.finish = finish_of(reason);
    p->reply.complete = true;
    llm_keep_word(p->reply.reason, reason);
    llm_parts_end(p);
    return 0;
}

static void take_usage(struct llm_parser *p, const struct jr *usage)
{
    if (jr_type(usage) != JR_OBJECT) return;
    struct llm_usage u = {.input = llm_count_of(usage, "prompt_tokens"),
                          .output = llm_count_of(usage, "completion_tokens"),
                          .total = llm_count_of(usage, "total_tokens"),
                          .cached = llm_count_of(jr_get(usage, "prompt_tokens_details"), "cached_tokens"),
                          .reasoning = llm_count_of(jr_get(usage, "completion_tokens_details"), "reasoning_tokens")};
    if (u.input >= 0 || u.output >= 0) llm_usage_told(p, &u);
}

int llm_parse_chat(struct llm_parser *p, const struct jr *root)
{
    const struct jr *choices = jr_get(root, "choices");
    if (choices != NULL && jr_type(choices) != JR_ARRAY && jr_type(choices) != JR_NULL) return llm_malformed(p, "choices is not an array");
    llm_started(p, jr_str(jr_get(root, "id")), jr_str(jr_get(root, "model")));
    take_usage(p, jr_get(root, "usage"));
    int err = 0;
    for (size_t i = 0; err == 0 && i < jr_count(choices); i++)
        err = take_choice(p, jr_at(choices, i));
    return err;
}

void llm_parse_chat_done(struct llm_parser *p)
{
    enum llm_finish finish = p->reply.finish != LLM_FINISH_NONE ? p->reply.finish : LLM_FINISH_OTHER;
    bool refused = false, said = false;
    for (uint32_t i = 0; i < p->part_count; i++) {
        refused |= p->parts[i].part == LLM_REFUSAL;
        said |= p->parts[i].part == LLM_TEXT || p->parts[i].part == LLM_TOOL;
    }
    if (finish == LLM_FINISH_STOP && refused && !said) finish = LLM_FINISH_REFUSAL;
    llm_finished(p, finish, SPAN_NONE);
}
