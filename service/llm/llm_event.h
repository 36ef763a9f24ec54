// A reply of a model as it comes, whoever the provider is: events, and the parsers that make them from pieces of bytes. Pure and bounded.
//
//      START? ─> { PART_BEGIN ─> { PART_DELTA | PART_SIGNATURE }* ─> PART_END }* ─> USAGE? ─> FINISH        a complete reply
//                                                                          └──────────> ERROR               the provider gave up
//                                                                                                 └─> END   the job's own, always last
//
// Parts are numbered from 0 in the order of their beginning; several may be open at once (tool calls that are made side by side), and
// each one that began is ended before USAGE, FINISH or ERROR. A stream that breaks off just stops: nobody ends its parts but the job.
// Spans live as long as the callback.
#ifndef SEGUE_LLM_EVENT_H
#define SEGUE_LLM_EVENT_H

#include "buf.h"
#include "limits.h"
#include "llm_kind.h"
#include "problem.h"
#include "uuid.h"

#define LLM_WORD_MAX 128 // bytes of a name, an id or a reason that are kept, terminator included

enum llm_part { LLM_TEXT, LLM_REASONING, LLM_REFUSAL, LLM_TOOL };
const char *llm_part_name(enum llm_part part); // "text", "reasoning", "refusal", "tool"

// Why the model stopped, for programs. What the provider called it is kept beside it.
enum llm_finish {
    LLM_FINISH_NONE,    // it has not said
    LLM_FINISH_STOP,    // stop, end_turn, stop_sequence, completed
    LLM_FINISH_LENGTH,  // length, max_tokens, max_output_tokens, model_context_window_exceeded
    LLM_FINISH_TOOL,    // tool_calls, function_call, tool_use; completed with a tool call in it
    LLM_FINISH_REFUSAL, // refusal; content_filter; a reply whose only part beside reasoning is a refusal
    LLM_FINISH_PAUSE,   // pause_turn
    LLM_FINISH_OTHER,
};
const char *llm_finish_name(enum llm_finish finish); // "stop", …; NULL for NONE

// Tokens; -1: the provider did not say.
struct llm_usage {
    int64_t input, output, total; // input has cached ones in it
    int64_t cached, reasoning;    // of input, of output
};
#define LLM_USAGE_UNKNOWN ((struct llm_usage){-1, -1, -1, -1, -1})
// Both sides were told.
static inline bool llm_usage_known(const struct llm_usage *u)
{
    return u->input >= 0 && u->output >= 0;
}

enum llm_event_kind {
    LLM_START,          // id, model: once, before all others; not after a resumption
    LLM_PART_BEGIN,     // index, part; tool_id and tool_name of a tool call (an id may be empty: the provider gave none)
    LLM_PART_DELTA,     // index, part, data: UTF-8, never empty; of a tool call pieces of its arguments' JSON (none at all: no arguments)
    LLM_PART_SIGNATURE, // index, part, data: opaque text that the provider wants back with this part
    LLM_PART_END,       // index, part
    LLM_USAGE,          // usage: as told last
    LLM_FINISH,         // finish, reason: the reply is complete
    LLM_ERROR,          // code, message: the provider's; the reply has failed
    LLM_END,            // the job's: state, and code and message where it is not "done". Open parts were not ended.
};

struct llm_event {
    enum llm_event_kind kind;
    struct span id, model;
    uint32_t index;
    enum llm_part part;
    struct span tool_id, tool_name;
    struct span data;
    struct llm_usage usage;
    enum llm_finish finish;
    struct span reason;
    struct span code, message;
    const char *state; // "done", "failed", "cancelled", "interrupted"
    bool has_sequence; // the provider numbers its events (responses)
    uint64_t sequence;
};

// What was said so far.
struct llm_reply {
    char id[LLM_WORD_MAX], model[LLM_WORD_MAX]; // empty: not said
    struct llm_usage usage;
    enum llm_finish finish;
    char reason[LLM_WORD_MAX]; // the provider's word
    bool has_sequence;
    uint64_t sequence; // of the last whole event, also of those that mean nothing here
    bool complete;     // the provider's own end came: chat [DONE] or a finish reason; responses completed or incomplete; message_stop
    bool ended;        // nothing that follows is looked at: complete, or an error
};

struct llm_parser;

// `event` is called inside llm_parser_feed and llm_parser_end.
int llm_parser_new(struct llm_parser **out, enum llm_api api, void (*event)(void *ctx, const struct llm_event *e), void *ctx);
void llm_parser_free(struct llm_parser *p); // NULL is fine

// 0, or from then on always the same: ERR_PROVIDER_ERROR (LLM_ERROR was told), ERR_PROVIDER_MALFORMED, ERR_NOMEM, with the sentence in
// llm_parser_problem. Events that came before stand. A line and an event have LLM_EVENT_MAX bytes, a reply LLM_PARTS_MAX parts.
int llm_parser_feed(struct llm_parser *p, struct span piece);
// The stream has ended: looks at a last line without its end. True: the reply is complete.
bool llm_parser_end(struct llm_parser *p);
const struct llm_reply *llm_parser_reply(const struct llm_parser *p);
const struct problem *llm_parser_problem(const struct llm_parser *p);
// Bytes that were fed and are not yet a whole event: a cut before them is between two events.
size_t llm_parser_partial(const struct llm_parser *p);

// The open parts and the number of the last event, to go on in another process with what the provider sends after that event. Loading
// goes into a parser that was fed nothing: ERR_CORRUPT.
void llm_parser_save(const struct llm_parser *p, struct buf *out);
int llm_parser_load(struct llm_parser *p, struct span saved);

// A refusal's sentence, or an answer's that is no stream: {"error":{"message":"…"}}, {"error":"…"}, {"message":"…"}. False: none in it.
bool llm_error_message(struct span json, char out[PROBLEM_TEXT_MAX]);

// ---- writing ---------------------------------------------------------------------------------------------------------

// One that writes. `state` is the form's own: all zero at first, and kept with a job that may be resumed, so that bytes after a restart
// go on where those before it ended. A fresh one that is told LLM_END writes the end of a reply whose beginning it has not seen.
struct llm_writer {
    void (*event)(struct llm_writer *w, const struct llm_event *e, struct buf *out); // appends; may append nothing
    void (*free)(struct llm_writer *w); // NULL: nothing to free
    void *own;                          // what `free` frees
    bool json;                          // what it appends are messages of a JSON stream: compact JSON and ",\n" each
    const char *type;                   // content type of a stream that a job makes for it
    uint8_t state[64];
};

// `id`: of the job; a form may name the message by it. ERR_NOMEM.
int llm_writer_init(struct llm_writer *w, enum llm_form form, struct uuid id);
void llm_writer_free(struct llm_writer *w); // one that is all zero is fine

void llm_writer_text(struct llm_writer *w);
void llm_writer_messages(struct llm_writer *w);
int llm_writer_ui(struct llm_writer *w, struct uuid id);
// The message's id instead of the job's: that of the one it goes on with. Before the first event; empty or too long: nothing.
void llm_writer_ui_name(struct llm_writer *w, struct span message);

#endif
