// Anthropic's messages: a message of content blocks. Usage is cumulative, pings come anywhere, an error may follow a good beginning.
//
//      message_start        {"message":{"id":…,"model":…,"usage":{"input_tokens":9,…}}}
//      content_block_start  {"index":0,"content_block":{"type":"text" | "thinking" | "tool_use", …}}
//      content_block_delta  {"index":0,"delta":{"type":"text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta", …}}
//      content_block_stop   {"index":0}
//      message_delta        {"delta":{"stop_reason":…},"usage":{"output_tokens":2}}
//      message_stop         {}
#include <string.h>

#include "err.h"
#include "llm_parse.h"

static int index_of(struct llm_parser *p, const struct jr *root, uint32_t *out)
{
    int64_t n = jr_int(jr_get(root, "index"), -1);
    if (n < 0 || n > INT32_MAX) return llm_malformed(p, "a content block has no index");
    *out = (uint32_t)n;
    return 0;
}

static struct llm_parser_part *part_at(struct llm_parser *p, uint32_t index)
{
    for (uint32_t i = p->part_count; i-- > 0;)
        if (p->parts[i].outer == index) return &p->parts[i];
    return NULL;
}

static int block_start(struct llm_parser *p, const struct jr *root)
{
    const struct jr *block = jr_get(root, "content_block");
    struct span type = jr_str(jr_get(block, "type")), id = SPAN_NONE, name = SPAN_NONE;
    enum llm_part part;
    uint32_t index = 0;
    int err = index_of(p, root, &index);
    if (err != 0) return err;
    if (span_is(type, "text"))
        part = LLM_TEXT;
    else if (span_is(type, "thinking") || span_is(type, "redacted_thinking"))
        part = LLM_REASONING;
    else if (span_is(type, "tool_use"))
        part = LLM_TOOL;
    else
        return 0; // tools that the provider runs itself, and what they give: not for the client to act on
    if (part_at(p, index) != NULL) return llm_malformed(p, "a content block begins twice");
    if (part == LLM_TOOL) err = llm_text_of(p, block, "id", &id);
    if (err == 0 && part == LLM_TOOL) err = llm_text_of(p, block, "name", &name);
    if (err != 0) return err;
    if (part == LLM_TOOL && name.n == 0) return llm_malformed(p, "a tool call has no name");
    struct llm_parser_part *new = llm_part_begin(p, part, (uint8_t)part, index, 0, id, name);
    if (new == NULL) return p->problem.err;
    if (part == LLM_TEXT) llm_part_delta(p, new, jr_str(jr_get(block, "text")));
    if (part == LLM_REASONING) {
        llm_part_delta(p, new, jr_str(jr_get(block, "thinking")));
        llm_part_signature(p, new, jr_str(jr_get(block, span_is(type, "thinking") ? "signature" : "data")));
    }
    return 0;
}

static int block_delta(struct llm_parser *p, const struct jr *root)
{
    const struct jr *delta = jr_get(root, "delta");
    struct span type = jr_str(jr_get(delta, "type")), data;
    uint32_t index = 0;
    int err = index_of(p, root, &index);
    if (err != 0) return err;
    struct llm_parser_part *part = part_at(p, index);
    if (part == NULL) return 0; // of a block that is not told on
    const char *key = span_is(type, "text_delta") && part->part == LLM_TEXT                 ? "text"
                      : span_is(type, "thinking_delta") && part->part == LLM_REASONING      ? "thinking"
                      : span_is(type, "input_json_delta") && part->part == LLM_TOOL         ? "partial_json"
                      : span_is(type, "signature_delta") && part->part == LLM_REASONING     ? "signature"
                                                                                            : NULL;
    if (key == NULL) return 0; // citations, and what is still to be invented
    err = llm_text_of(p, delta, key, &data);
    if (err != 0) return err;
    if (key[0] == 's')
        llm_part_signature(p, part, data);
    else
        llm_part_delta(p, part, data);
    return 0;
}

static int block_stop(struct llm_parser *p, const struct jr *root)
{
    uint32_t index = 0;
    int err = index_of(p, root, &index);
    struct llm_parser_part *part = err == 0 ? part_at(p, index) : NULL;
    if (part != NULL) llm_part_end(p, part);
    return err;
}

// Cached input is told beside the rest of it. The beginning tells a count of output that means nothing yet.
static void take_usage(struct llm_parser *p, const struct jr *usage, bool with_output)
{
    struct llm_usage u = p->reply.usage;
    if (jr_type(usage) != JR_OBJECT) return;
    int64_t input = llm_count_of(usage, "input_tokens"), made = llm_count_of(usage, "cache_creation_input_tokens");
    int64_t cached = llm_count_of(usage, "cache_read_input_tokens"), output = llm_count_of(usage, "output_tokens");
    if (input >= 0) {
        u.input = llm_sum(llm_sum(input, made < 0 ? 0 : made), cached < 0 ? 0 : cached);
        u.cached = cached;
    }
    if (with_output && output >= 0) u.output = output;
    u.total = -1;
    llm_usage_told(p, &u);
}

static enum llm_finish finish_of(struct span reason)
{
    if (span_is(reason, "end_turn") || span_is(reason, "stop_sequence")) return LLM_FINISH_STOP;
    if (span_is(reason, "max_tokens") || span_is(reason, "model_context_window_exceeded")) return LLM_FINISH_LENGTH;
    if (span_is(reason, "tool_use")) return LLM_FINISH_TOOL;
    if (span_is(reason, "refusal")) return LLM_FINISH_REFUSAL;
    if (span_is(reason, "pause_turn")) return LLM_FINISH_PAUSE;
    return LLM_FINISH_OTHER;
}

static int message_delta(struct llm_parser *p, const struct jr *root)
{
    struct span reason;
    int err = llm_text_of(p, jr_get(root, "delta"), "stop_reason", &reason);
    if (err != 0) return err;
    take_usage(p, jr_get(root, "usage"), true);
    llm_keep_word(p->reply.reason, reason);
    if (reason.n > 0) p->reply.finish = finish_of(reason);
    return 0;
}

int llm_parse_messages(struct llm_parser *p, const struct jr *root)
{
    struct span type = jr_str(jr_get(root, "type"));
    const struct jr *message = jr_get(root, "message");
    if (span_is(type, "message_start")) {
        llm_started(p, jr_str(jr_get(message, "id")), jr_str(jr_get(message, "model")));
        take_usage(p, jr_get(message, "usage"), false);
    } else if (span_is(type, "content_block_start")) {
        return block_start(p, root);
    } else if (span_is(type, "content_block_delta")) {
        return block_delta(p, root);
    } else if (span_is(type, "content_block_stop")) {
        return block_stop(p, root);
    } else if (span_is(type, "message_delta")) {
        return message_delta(p, root);
    } else if (span_is(type, "message_stop")) {
        llm_finished(p, p->reply.finish != LLM_FINISH_NONE ? p->reply.finish : LLM_FINISH_OTHER, SPAN_NONE);
    }
    return 0; // a ping, or something new
}
