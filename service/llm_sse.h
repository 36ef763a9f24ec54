// What a provider sends: server-sent events whose data are chat.completions chunks (the format that OpenAI documents and others
// follow), taken in pieces as they come. Pure and bounded: a line and an event have LLM_EVENT_MAX bytes, whatever else is kept has a
// size of its own.
//
//      data: {"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}        text
//      data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}                    the reply is complete
//      data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,…}}             usage, if the provider tells it
//      data: [DONE]                                                                         the stream is complete
//      data: {"error":{"message":"…"}}                                                      at any time: the reply has failed
//
// A reply is complete when it said so, by [DONE] or a finish reason; a stream that ends before is a reply that broke off.
#ifndef SEGUE_LLM_SSE_H
#define SEGUE_LLM_SSE_H

#include "buf.h"
#include "limits.h"
#include "problem.h"

#define LLM_WORD_MAX 128 // bytes of a model's name or a finish reason that are kept, terminator included

struct llm_sse {
    struct buf *text; // the caller's: text is appended
    struct buf line, data;
    bool begun, after_cr, has_data, is_error;
    struct problem problem; // why feeding failed
    // What was said so far.
    bool done;                 // [DONE]: whatever follows is not looked at
    char finish[LLM_WORD_MAX]; // empty: not said
    char model[LLM_WORD_MAX];
    bool has_usage;
    int64_t prompt_tokens, completion_tokens, total_tokens;
};

void llm_sse_init(struct llm_sse *s, struct buf *text);
void llm_sse_free(struct llm_sse *s);

// 0, or from then on always the same: ERR_PROVIDER_ERROR (the provider said so), ERR_PROVIDER_MALFORMED, ERR_NOMEM, or ERR_TOO_LARGE
// (of `text`), with its sentence in s->problem. Text that came before stays.
int llm_sse_feed(struct llm_sse *s, struct span piece);
// The stream has ended: looks at a last line without its end. True: the reply is complete.
bool llm_sse_end(struct llm_sse *s);
bool llm_sse_complete(const struct llm_sse *s);

// The usage as canonical JSON, {"completion_tokens":…,"finish_reason":…,"model":…,"prompt_tokens":…,"total_tokens":…}; nothing where
// it is not known.
void llm_sse_usage(const struct llm_sse *s, struct buf *out);

// The sentence in a provider's refusal: {"error":{"message":"…"}}, {"error":"…"}, {"message":"…"}. False: there is none in it.
bool llm_error_message(struct span json, char out[PROBLEM_TEXT_MAX]);

#endif
