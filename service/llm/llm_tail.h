// A durable stream as the body of an HTTP answer: its bytes as they are, from a place on, as they become durable. What a caller of the
// drop-in endpoints reads is this, and so is what somebody reads who comes later: nothing is shown that a restart could take back.
//
//      open ──> WAIT ── begin says so ──> SEND ──> … the stream is closed ──> OVER: the answer ends, or is cut where it is not whole
//                 └── the caller answers otherwise: llm_tail_close
//
// A tail keeps no bytes: when its socket is full it stays where it is. One thread: the loop's.
#ifndef SEGUE_LLM_TAIL_H
#define SEGUE_LLM_TAIL_H

#include "app.h"
#include "http.h"
#include "hub.h"
#include "limits.h"

struct llm_tail {
    struct app_user user; // first
    struct request *r;
    struct hub *hub;
    struct hub_item woken;
    struct feed_sub *sub;
    uint8_t path[STREAM_PATH_MAX];
    size_t path_n;
    uint64_t number; // of the stream: another one at the same path is not this one
    uint64_t offset; // sent up to here
    enum { TAIL_SHUT, TAIL_WAIT, TAIL_SEND, TAIL_OVER } state;
    // Asked whenever the stream has changed, until it says true: the caller has begun the reply, with reply_stream as its last word.
    // It may answer otherwise instead, and close the tail.
    bool (*begin)(struct llm_tail *t, const struct stream_info *info);
    // The stream is closed and all of it sent: is that all there should be? False: the answer is cut, as the provider's was.
    bool (*whole)(struct llm_tail *t);
};

// Takes the place `offset` of the stream; `begin` and `whole` are the caller's to set, then llm_tail_look. The request must stay until
// llm_tail_close. ERR_BUSY, ERR_NO_SUCH_STREAM, ERR_BAD_OFFSET, ERR_NOMEM: not open; ERR_CONTENT_TYPE_MISMATCH: messages, whose bytes are no body.
int llm_tail_open(struct llm_tail *t, struct request *r, struct span path, uint64_t offset);
// Looks at the stream now.
void llm_tail_look(struct llm_tail *t);
// The socket has room again.
void llm_tail_drain(struct llm_tail *t);
// Lets go; not open: fine.
void llm_tail_close(struct llm_tail *t);

static inline bool llm_tail_is_open(const struct llm_tail *t)
{
    return t->state == TAIL_WAIT || t->state == TAIL_SEND;
}

#endif
