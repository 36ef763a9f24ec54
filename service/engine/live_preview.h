// What a live preview lays over the state: operations on rows that nobody has committed, as a client that subscribes gives them (PROTOCOL.md, section 7, "Previews").
#ifndef SEGUE_LIVE_PREVIEW_H
#define SEGUE_LIVE_PREVIEW_H

#include "batch.h"

struct jr;

// As a merge batch of a writer who had seen `base` (0: all that there is, at any time), for whom now() is `now_ms`.
struct live_preview {
    struct span ops; // encoded by batch.h: of rows, inserts with their ids
    uint64_t base, now_ms;
};

// From {"ops":[…],"base":seq?,"now":ms?}; without the last, now() is the present. The operations are encoded into `ops`, which *out refers to. ERR_BAD_PARAMETER,
// or what batches of JSON are refused with.
int live_preview_from_json(const struct jr *json, size_t text_bytes, struct buf *ops, struct live_preview *out, struct problem *p);

#endif
