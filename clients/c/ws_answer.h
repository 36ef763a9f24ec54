// What a service answers to the upgrade to WebSocket (RFC 6455, section 4): an answer of HTTP, of which little matters.
#ifndef SEGUE_C_WS_ANSWER_H
#define SEGUE_C_WS_ANSWER_H

#include "span.h"

struct ws_answer {
    int status;         // 0: this is no HTTP
    struct span accept; // of Sec-WebSocket-Accept; refers to the text
    struct span body;   // of a refusal, whole; else what came behind the head: messages
    size_t head_n;      // bytes of the head
};

// Reads what has come so far. False: the head, or the body of a refusal, is not whole yet.
bool ws_answer_read(struct ws_answer *out, struct span text);

#endif
