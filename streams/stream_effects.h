// What a batch does to the streams, as its journal entry says it: a format version, then effects until the end.
//
//   1 create  number path type owned
//   2 append  number offset at length      the bytes are request[at, at + length), and go to `offset`, the tail before
//   3 close   number offset                 the final tail
//   4 delete  number
//
// Integers are varints. A batch without effects has no bytes at all. Self-contained but for appended bytes, which the entry's
// request holds already. Numbers and offsets repeat what the state implies, so that effects applied to another state are found out.
#ifndef SEGUE_STREAM_EFFECTS_H
#define SEGUE_STREAM_EFFECTS_H

#include "buf.h"
#include "cur.h"

enum effect_kind { EFFECT_CREATE = 1, EFFECT_APPEND = 2, EFFECT_CLOSE = 3, EFFECT_DELETE = 4 };

struct effect {
    enum effect_kind kind;
    uint64_t number;
    uint64_t offset;
    uint64_t at, length; // in the request
    struct span path, type;
    bool owned;
};

// Appends one effect; the first brings the version. `out` carries the error.
void stream_effect_put(struct buf *out, const struct effect *e);

// Takes the effects apart: stream_effects_begin once, then stream_effects_next until it is false; `c->err` tells an end from damage.
void stream_effects_begin(struct cur *c, struct span effects);
bool stream_effects_next(struct cur *c, struct effect *out);

#endif
