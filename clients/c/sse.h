// Server-sent events (the WHATWG standard's text/event-stream), as they come in pieces.
#ifndef SEGUE_C_SSE_H
#define SEGUE_C_SSE_H

#include "buf.h"

struct sse {
    struct buf line, data, id;
    bool after_cr; // the next newline belongs to the line before
    bool has_data;
    bool named; // the event that is being given has an id of its own
};

void sse_init(struct sse *s);
void sse_free(struct sse *s);
// A new connection begins: what was begun on the old one is forgotten, the last id stays.
void sse_restart(struct sse *s);

// Calls `on_event` for each event that is complete; `id` is the last one named so far. Stops at its first non-zero and gives
// it back. ERR_TOO_LARGE for an event beyond all bounds.
int sse_feed(struct sse *s, struct span piece, int (*on_event)(void *ctx, struct span data, struct span id), void *ctx);

#endif
