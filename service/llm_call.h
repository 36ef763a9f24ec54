// Calls to LLM providers: HTTP over libcurl's multi interface, on the loop. The only user of curl/curl.h on this side.
//
//      new ──> start ──> data … data ──> ended        exactly once, unless the call was freed before
//                          │  ^
//                          └──┴ full: the call waits for llm_call_resume, and so does the provider
//
// `data` is called for the body of a 2xx answer of type text/event-stream alone; every other answer ends the call with its reason.
// Redirects are not followed, no proxy is used, and a call that is freed closes its connection. One thread: the loop's.
#ifndef SEGUE_LLM_CALL_H
#define SEGUE_LLM_CALL_H

#include <uv.h>

#include "buf.h"
#include "problem.h"

struct llm_call;
struct llm_calls;

struct llm_times {
    uint64_t connect_ms, first_ms, idle_ms, total_ms;
};

struct llm_call_options {
    const char *url;
    const char *key;  // NULL: none
    struct span body; // JSON; copied
    struct llm_times times;
    void *ctx;
    // Inside the library: must not start, resume or free a call. False: that is enough, the call ends with ERR_CANCELED.
    bool (*data)(void *ctx, struct span piece);
    bool (*full)(void *ctx); // asked before each piece: wait?
    // p->err: 0, the answer is complete; ERR_PROVIDER_UNREACHABLE, _TIMEOUT, _REFUSED, _MALFORMED, _CUT; ERR_CANCELED; ERR_NOMEM. May
    // free the call.
    void (*ended)(void *ctx, const struct problem *p);
};

int llm_calls_open(struct llm_calls **out, uv_loop_t *loop);
// Every call was freed. What is left is given back once the loop has run.
void llm_calls_close(struct llm_calls *cs); // NULL is fine
// Ends the calls whose time is up; call it now and then.
void llm_calls_tick(struct llm_calls *cs);

int llm_call_new(struct llm_call **out, struct llm_calls *cs, const struct llm_call_options *options);
int llm_call_start(struct llm_call *c);   // ERR_NOMEM: not started, `ended` is not called
void llm_call_resume(struct llm_call *c); // may call `data`
void llm_call_free(struct llm_call *c);   // NULL is fine

#endif
