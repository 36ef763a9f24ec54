// A model's reply as the UI message stream of the Vercel AI SDK (version 1): server-sent events whose data are JSON chunks. Pure: what
// the provider's format was has been taken away before (llm_event.h), and what comes out goes into a durable stream.
//
//      start, start-step                                                  llm_ui_begin
//      text-start, text-delta …, text-end                                 llm_ui_text
//      reasoning-start, reasoning-delta …, reasoning-end                  llm_ui_reasoning
//      tool-input-start, tool-input-delta …, tool-input-available|-error  llm_ui_call, llm_ui_call_delta, llm_ui_call_end
//      finish-step, finish | error | abort, [DONE]                        llm_ui_finish, llm_ui_error, llm_ui_abort
//
// Text and reasoning are parts one after the other; calls of tools may run beside each other. An end closes what is open, so that whoever
// reads the stream from its beginning never stands inside a part. Only whole events are written: a stream that was cut by a restart is
// ended with llm_ui_close alone.
// llm_writer_ui.c feeds it with the events of a job; a job that a restart has cut ends with llm_ui_close.
// What cannot be written (no memory, a limit) is the sticky error of `out`, or of the writer itself: llm_ui_err.
#ifndef SEGUE_LLM_UI_H
#define SEGUE_LLM_UI_H

#include "buf.h"
#include "limits.h"
#include "llm_event.h"

#define LLM_UI_WORD_MAX 256 // bytes of a call's id or a tool's name

struct llm_ui_call {
    char id[LLM_UI_WORD_MAX], name[LLM_UI_WORD_MAX];
    struct buf input; // its JSON so far
    uint64_t index;   // the caller's name for it
    bool ended;
};

struct llm_ui {
    struct buf *out; // the caller's
    enum { LLM_UI_NOTHING, LLM_UI_TEXT, LLM_UI_REASONING } open;
    uint64_t parts; // begun so far: they are numbered
    struct llm_ui_call *calls;
    size_t call_count;
    bool begun, over;
    int err;
};

void llm_ui_init(struct llm_ui *u, struct buf *out);
void llm_ui_free(struct llm_ui *u);
// 0, or why the rest was not written: ERR_NOMEM, ERR_TOO_LARGE (of `out`, of a call's input), ERR_TOO_MANY (calls).
int llm_ui_err(const struct llm_ui *u);

// First, once. `message`: the id that the message is to have.
void llm_ui_begin(struct llm_ui *u, struct span message);

// Empty deltas are nothing.
void llm_ui_text(struct llm_ui *u, struct span delta);
void llm_ui_reasoning(struct llm_ui *u, struct span delta);
// The part is over: more of it would be another one. None is open: nothing.
void llm_ui_part_end(struct llm_ui *u);

// A call of a tool; `index` names it below. Begun twice, or without a name: nothing.
void llm_ui_call(struct llm_ui *u, uint64_t index, struct span id, struct span name);
void llm_ui_call_delta(struct llm_ui *u, uint64_t index, struct span json);
// The input is complete: told as JSON, or as an error where it is none. Ended already, or unknown: nothing.
void llm_ui_call_end(struct llm_ui *u, uint64_t index);

// The ends, one of them, last. `metadata`: JSON of the message, may be empty.
void llm_ui_finish(struct llm_ui *u, enum llm_finish finish, struct span metadata);
void llm_ui_error(struct llm_ui *u, struct span text);
void llm_ui_abort(struct llm_ui *u, struct span reason);
// The end of a stream that broke off, written by one who has not seen its beginning.
void llm_ui_close(struct buf *out, struct span error);

#endif
