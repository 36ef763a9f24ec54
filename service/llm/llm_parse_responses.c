// OpenAI's responses: named events that carry their number and the place of what they speak of.
//
//      response.created                        {"response":{"id":…,"model":…},"sequence_number":0}
//      response.output_item.added              {"output_index":0,"item":{"type":"function_call","call_id":…,"name":…}}
//      response.content_part.added             {"output_index":0,"content_index":0,"part":{"type":"output_text"}}
//      response.output_text.delta, …           {"output_index":0,"content_index":0,"delta":"Hel"}
//      response.output_item.done               {"output_index":0}
//      response.completed | .incomplete | .failed, or error: the end. There is no [DONE].
#include <string.h>

#include "err.h"
#include "llm_parse.h"

#define SUMMARY 4 // family of the summary of a reasoning, whose parts have numbers of their own

// Where the parts are that an event speaks of, and its member that holds the whole of them.
struct family {
    const char *delta, *done, *whole;
    enum llm_part part;
    uint8_t family;
    const char *inner; // NULL: the item is one part
};

static const struct family families[] = {
    {"response.output_text.delta", "response.output_text.done", "text", LLM_TEXT, LLM_TEXT, "content_index"},
    {"response.refusal.delta", "response.refusal.done", "refusal", LLM_REFUSAL, LLM_REFUSAL, "content_index"},
    {"response.reasoning_text.delta", "response.reasoning_text.done", "text", LLM_REASONING, LLM_REASONING, "content_index"},
    {"response.reasoning_summary_text.delta", "response.reasoning_summary_text.done", "text", LLM_REASONING, SUMMARY, "summary_index"},
    {"response.function_call_arguments.delta", "response.function_call_arguments.done", "arguments", LLM_TOOL, LLM_TOOL, NULL},
    {"response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "input", LLM_TOOL, LLM_TOOL, NULL},
};

static int place_of(struct llm_parser *p, const struct jr *root, const char *key, uint32_t *out)
{
    int64_t n = key == NULL ? 0 : jr_int(jr_get(root, key), -1);
    if (n < 0 || n > INT32_MAX) return llm_malformed(p, "an event has no place");
    *out = (uint32_t)n;
    return 0;
}

// The part of these numbers, begun if it has not. Tool calls begin with their item alone, for its name is there.
static struct llm_parser_part *part_of(struct llm_parser *p, const struct family *f, uint32_t outer, uint32_t inner)
{
    struct llm_parser_part *part = llm_part_find(p, f->family, outer, inner);
    if (part != NULL) return part;
    if (f->part != LLM_TOOL) return llm_part_begin(p, f->part, f->family, outer, inner, SPAN_NONE, SPAN_NONE);
    llm_malformed(p, "arguments belong to no tool call");
    return NULL;
}

// `done`: the whole of a part is told again; it is news if nothing of it came before.
static int take_text(struct llm_parser *p, const struct jr *root, const struct family *f, bool done)
{
    uint32_t outer = 0, inner = 0;
    struct span text;
    int err = place_of(p, root, "output_index", &outer);
    if (err == 0) err = place_of(p, root, f->inner, &inner);
    if (err == 0) err = llm_text_of(p, root, done ? f->whole : "delta", &text);
    if (err != 0) return err;
    struct llm_parser_part *part = part_of(p, f, outer, inner);
    if (part == NULL) return p->problem.err;
    if (!done || !part->has_data) llm_part_delta(p, part, text);
    return 0;
}

// A content part or a part of a summary begins or ends.
static int take_part(struct llm_parser *p, const struct jr *root, bool summary, bool begins)
{
    uint32_t outer = 0, inner = 0;
    struct span type = jr_str(jr_get(jr_get(root, "part"), "type"));
    const struct family *f = summary                           ? &families[3]
                             : span_is(type, "output_text")    ? &families[0]
                             : span_is(type, "refusal")        ? &families[1]
                             : span_is(type, "reasoning_text") ? &families[2]
                                                               : NULL;
    if (f == NULL) return 0; // something that is not told on
    int err = place_of(p, root, "output_index", &outer);
    if (err == 0) err = place_of(p, root, f->inner, &inner);
    if (err != 0) return err;
    struct llm_parser_part *part = part_of(p, f, outer, inner);
    if (part == NULL) return p->problem.err;
    if (!begins) llm_part_end(p, part);
    return 0;
}

static int item_added(struct llm_parser *p, const struct jr *root)
{
    const struct jr *item = jr_get(root, "item");
    struct span type = jr_str(jr_get(item, "type")), id, name;
    uint32_t outer = 0;
    if (!span_is(type, "function_call") && !span_is(type, "custom_tool_call")) return 0;
    int err = place_of(p, root, "output_index", &outer);
    if (err == 0) err = llm_text_of(p, item, "call_id", &id);
    if (err == 0) err = llm_text_of(p, item, "name", &name);
    if (err != 0) return err;
    if (name.n == 0) return llm_malformed(p, "a tool call has no name");
    if (llm_part_find(p, LLM_TOOL, outer, 0) != NULL) return 0;
    return llm_part_begin(p, LLM_TOOL, LLM_TOOL, outer, 0, id, name) != NULL ? 0 : p->problem.err;
}

// What only the finished item has: the sealed reasoning that the provider wants back.
static int item_done(struct llm_parser *p, const struct jr *root)
{
    const struct jr *item = jr_get(root, "item");
    struct span sealed = jr_str(jr_get(item, "encrypted_content"));
    uint32_t outer = 0;
    int err = place_of(p, root, "output_index", &outer);
    if (err == 0) err = item_added(p, root);
    if (err != 0) return err;
    struct llm_parser_part *tool = llm_part_find(p, LLM_TOOL, outer, 0), *last = NULL;
    if (tool != NULL && !tool->has_data) llm_part_delta(p, tool, jr_str(jr_get(item, "arguments")));
    if (sealed.n > 0 && span_is(jr_str(jr_get(item, "type")), "reasoning")) {
        for (uint32_t i = 0; i < p->part_count; i++)
            if (p->parts[i].outer == outer && p->parts[i].open) last = &p->parts[i];
        if (last == NULL) last = llm_part_begin(p, LLM_REASONING, LLM_REASONING, outer, UINT32_MAX, SPAN_NONE, SPAN_NONE);
        if (last == NULL) return p->problem.err;
        llm_part_signature(p, last, sealed);
    }
    for (uint32_t i = 0; i < p->part_count; i++)
        if (p->parts[i].outer == outer) llm_part_end(p, &p->parts[i]);
    return 0;
}

static void take_usage(struct llm_parser *p, const struct jr *response)
{
    const struct jr *usage = jr_get(response, "usage");
    if (jr_type(usage) != JR_OBJECT) return;
    struct llm_usage u = {.input = llm_count_of(usage, "input_tokens"),
                          .output = llm_count_of(usage, "output_tokens"),
                          .total = llm_count_of(usage, "total_tokens"),
                          .cached = llm_count_of(jr_get(usage, "input_tokens_details"), "cached_tokens"),
                          .reasoning = llm_count_of(jr_get(usage, "output_tokens_details"), "reasoning_tokens")};
    if (u.input >= 0 || u.output >= 0) llm_usage_told(p, &u);
}

static void completed(struct llm_parser *p)
{
    bool refused = false, said = false, called = false;
    for (uint32_t i = 0; i < p->part_count; i++) {
        refused |= p->parts[i].part == LLM_REFUSAL;
        said |= p->parts[i].part == LLM_TEXT && p->parts[i].has_data;
        called |= p->parts[i].part == LLM_TOOL;
    }
    llm_finished(p, called ? LLM_FINISH_TOOL : refused && !said ? LLM_FINISH_REFUSAL : LLM_FINISH_STOP, SPAN_LIT("completed"));
}

static void incomplete(struct llm_parser *p, const struct jr *response)
{
    struct span reason = jr_str(jr_get(jr_get(response, "incomplete_details"), "reason"));
    if (reason.n == 0) reason = SPAN_LIT("incomplete");
    llm_finished(p,
                 span_is(reason, "max_output_tokens") ? LLM_FINISH_LENGTH
                 : span_is(reason, "content_filter")  ? LLM_FINISH_REFUSAL
                                                      : LLM_FINISH_OTHER,
                 reason);
}

// A life step of the response itself. True: it was one.
static bool take_response(struct llm_parser *p, const struct jr *root, struct span type)
{
    const struct jr *response = jr_get(root, "response"), *error = jr_get(response, "error");
    if (jr_type(response) != JR_OBJECT) return false;
    if (span_is(type, "response.completed") || span_is(type, "response.incomplete") || span_is(type, "response.failed") ||
        span_is(type, "response.cancelled")) {
        llm_started(p, jr_str(jr_get(response, "id")), jr_str(jr_get(response, "model")));
        take_usage(p, response);
    }
    if (span_is(type, "response.created"))
        llm_started(p, jr_str(jr_get(response, "id")), jr_str(jr_get(response, "model")));
    else if (span_is(type, "response.completed"))
        completed(p);
    else if (span_is(type, "response.incomplete"))
        incomplete(p, response);
    else if (span_is(type, "response.failed"))
        llm_failed(p, jr_str(jr_get(error, "code")), jr_str(jr_get(error, "message")));
    else if (span_is(type, "response.cancelled"))
        llm_failed(p, SPAN_LIT("cancelled"), SPAN_LIT("the response was cancelled"));
    else
        return false;
    return true;
}

int llm_parse_responses(struct llm_parser *p, const struct jr *root)
{
    struct span type = jr_str(jr_get(root, "type"));
    int64_t sequence = jr_int(jr_get(root, "sequence_number"), -1);
    // A resumption may begin a little before the place that was asked for.
    if (sequence >= 0 && p->reply.has_sequence && (uint64_t)sequence <= p->reply.sequence) return 0;
    if (sequence >= 0) {
        p->reply.has_sequence = true;
        p->reply.sequence = (uint64_t)sequence;
    }
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (span_is(type, families[i].delta)) return take_text(p, root, &families[i], false);
        if (span_is(type, families[i].done)) return take_text(p, root, &families[i], true);
    }
    if (span_is(type, "response.output_item.added")) return item_added(p, root);
    if (span_is(type, "response.output_item.done")) return item_done(p, root);
    if (span_is(type, "response.content_part.added")) return take_part(p, root, false, true);
    if (span_is(type, "response.content_part.done")) return take_part(p, root, false, false);
    if (span_is(type, "response.reasoning_summary_part.added")) return take_part(p, root, true, true);
    if (span_is(type, "response.reasoning_summary_part.done")) return take_part(p, root, true, false);
    take_response(p, root, type); // all others mean nothing here
    return p->problem.err;
}
