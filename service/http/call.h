// Calls outwards: HTTP over libcurl's multi interface, on the loop. The only user of curl/curl.h on this side.
//
//      new ──> start ──> head ──> data … data ──> ended        exactly once, unless the call was freed before
//                          │        │  ^
//                          │        └──┴ full: the call waits for call_resume, and so does the peer
//                          └ the body of an answer that is not 2xx is kept for `ended` instead, as far as CALL_REFUSAL_MAX
//
// Redirects are not followed, no proxy is used, nothing is sent that the caller did not name but Host, Accept and Content-Length, and a
// call that is freed closes its connection. One thread: the loop's.
#ifndef SEGUE_CALL_H
#define SEGUE_CALL_H

#include <uv.h>

#include "buf.h"
#include "problem.h"
#include "reach.h"

struct call;
struct calls;

struct call_times {
    uint64_t connect_ms, first_ms, idle_ms, total_ms; // to be connected; to the first byte of the answer's body; between two; for all of it
};

// The head of an answer. Spans live as long as the callback, and are printable ASCII: they may stand in a header again.
struct call_head {
    int status;             // 200 to 599; another one is ERR_PROVIDER_MALFORMED
    struct span type;       // Content-Type; empty: none
    struct span request_id; // request-id or x-request-id; empty: none
    bool has_retry_after;
    uint64_t retry_after_ms; // from now; at most CALL_RETRY_AFTER_MAX_MS
};

struct call_end {
    struct problem problem; // err 0: the answer came whole, whatever its status
    int status;             // 0: no head came
    struct span body;       // of an answer that is not 2xx, perhaps its beginning alone; lives as long as the callback
    bool has_retry_after;
    uint64_t retry_after_ms;
    bool sent; // a connection was there: the peer may have acted
};

struct call_options {
    const char *method; // "POST", …
    const char *url;
    const char *const *headers; // "Name: value"; copied
    size_t header_count;
    struct span body; // copied; a POST may have an empty one
    struct call_times times;
    bool tells_first; // what ends first_ms is not a byte, but call_first
    enum reach reach;
    void *ctx;
    // Inside the library, all three: must not start, resume or free a call; call_first is fine. NULL: head takes all, data drops, full is never.
    bool (*head)(void *ctx, const struct call_head *head); // false: not wanted, the call ends with ERR_CANCELED
    bool (*data)(void *ctx, struct span piece);            // of a 2xx answer; false: that is enough, ERR_CANCELED
    bool (*full)(void *ctx);                               // asked before each piece: wait?
    // ERR_PROVIDER_UNREACHABLE, _TIMEOUT, _MALFORMED, _CUT (after the head); ERR_FORBIDDEN: no address it has is within reach;
    // ERR_CANCELED; ERR_NOMEM. May free the call.
    void (*ended)(void *ctx, const struct call_end *end);
};

int calls_open(struct calls **out, uv_loop_t *loop);
// Every call was freed. What is left is given back once the loop has run.
void calls_close(struct calls *cs); // NULL is fine
// Ends the calls whose time is up; the server calls it now and then.
void calls_tick(struct calls *cs);

int call_new(struct call **out, struct calls *cs, const struct call_options *options);
int call_start(struct call *c);   // ERR_NOMEM: not started, `ended` is not called
void call_resume(struct call *c); // may call `data` and `ended`
void call_first(struct call *c);  // what was waited for has come
void call_free(struct call *c);   // NULL is fine

#endif
