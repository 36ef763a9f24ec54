// What the drop-in endpoints and the UI message stream share (api_llm_proxy.c, api_llm_ui.c): a request that makes a job, or finds one, and
// whose answer is what the job's durable stream has.
//
//      make ──> [batch: stream, job] ─durable─> the call begins; the answer is a reader of the stream (llm_tail.h)
//      attach ────────────────────────────────> the same, of a stream that is there
//
//      refused: the provider's own status and body, which the stream has        ended otherwise before a byte came: a problem
//
// The peer may go at any time: the job goes on.
#ifndef SEGUE_API_LLM_ASK_H
#define SEGUE_API_LLM_ASK_H

#include "api_llm_pass.h"
#include "app.h"
#include "call.h"
#include "http.h"
#include "llm.h"
#include "llm_tail.h"

// The type of a stream that holds an answer which is no event stream: its JSON, byte for byte. application/json would take it apart.
#define LLM_ANSWER_TYPE "text/json; charset=utf-8"

struct llm_ask {
    struct submission submission; // first
    struct llm_waiter waiter;
    struct llm_tail tail;
    struct llm_pass *pass; // this is no job, but a question that is passed on
    struct request *r; // NULL once the peer is gone
    struct llm_job *job; // until it begins
    struct buf encoded;
    uint8_t path_room[STREAM_PATH_MAX];
    struct span path;
    struct uuid id;
    bool has_id;    // of a job that is known
    enum llm_api api; // of one that is made here
    bool ui;        // the answer is a UI message stream
    struct span provider; // of the request's path, while another message is stopped
    bool submitted; // and its fate has not come
};

// The request's own: r->data. NULL: no memory, and answered.
struct llm_ask *llm_ask_new(struct request *r);
// ERR_BAD_REQUEST for a path that is too long.
int llm_ask_path(struct llm_ask *a, struct span path, struct problem *p);

// May who asks do this with the stream that a->path names? 0, or the refusal.
int llm_ask_may(const struct llm_ask *a, enum verb verb);

struct llm_ask_call {
    struct span provider;
    enum llm_api api;
    enum llm_form form;
    struct span body; // what the provider is sent
    struct llm_job_more more;
    bool drop; // a stream at the path goes first
};
// Makes the job a->id that writes a->path. What keeps it from being made is answered later, or told here.
int llm_ask_make(struct llm_ask *a, const struct llm_ask_call *call, struct problem *p);
// Answers with what the stream has from `offset` on.
int llm_ask_attach(struct llm_ask *a, uint64_t offset);

// A raw job whose stream has the provider's refusal.
bool llm_job_was_refused(const struct job *j);

// handler.drain, handler.done
void llm_ask_drain(struct request *r);
void llm_ask_done(struct request *r);

// A problem in a form that the providers' SDKs understand, too: {…problem, "error":{"message","type","code"}}
void llm_reply_problem(struct request *r, int err, const struct problem *p);

// What is behind "/apps/<app>/llm/<provider>/ui".
void llm_ui_post(struct request *r, struct span provider);
void llm_ui_get(struct request *r, struct span provider, struct span rest);
void llm_ui_delete(struct request *r, struct span provider, struct span rest);

#endif
