// What a batch does to the streams, as its journal entry says it: a format version, then effects until the end.
//
//   1 create  number path type flags(1)       then, by the flags: ttl_s; expires_ms; source base depth fork_sub, and fork_offset
//   2 append  number offset at length         the bytes are request[at, at + length), and go to `offset`, the tail before
//   3 close   number offset                   the final tail
//   4 delete  number                          nothing reads it any longer
//   5 gone    number                          deleted, but forks read it
//   6 writer  number closing(1) epoch seq id  what is known of a producer from now on
//   7 seq     number text                     the last Stream-Seq
//   8 trim    number before snapshot(1) at length   it begins at `before`; request[at, at + length) stands for the rest
//   9 touch   number deadline_ms
//
// Flags of a creation: 1 owned, 2 TTL, 4 expires, 8 fork, 16 fork offset said, 32 expiry inherited.
//
// Integers are varints. A batch without effects has no bytes at all. Self-contained but for appended bytes, which the entry's
// request holds already. Numbers and offsets repeat what the state implies, so that effects applied to another state are found out.
#ifndef SEGUE_STREAM_EFFECTS_H
#define SEGUE_STREAM_EFFECTS_H

#include "buf.h"
#include "cur.h"

enum effect_kind {
    EFFECT_CREATE = 1,
    EFFECT_APPEND = 2,
    EFFECT_CLOSE = 3,
    EFFECT_DELETE = 4,
    EFFECT_GONE = 5,
    EFFECT_WRITER = 6,
    EFFECT_SEQ = 7,
    EFFECT_TRIM = 8,
    EFFECT_TOUCH = 9,
};

struct effect {
    enum effect_kind kind;
    uint64_t number;
    uint64_t offset;     // of an append, a close, a trim
    uint64_t at, length; // in the request
    struct span path, type;
    bool owned, has_ttl, has_expires, has_fork, has_fork_offset, inherits;
    uint64_t ttl_s, expires_ms;
    uint64_t source, base, fork_offset, fork_sub;
    uint8_t depth;
    struct span text; // a producer's id, a Stream-Seq
    uint64_t epoch, seq;
    bool closing;
    bool has_snapshot;
    uint64_t deadline_ms;
};

// Appends one effect; the first brings the version. `out` carries the error.
void stream_effect_put(struct buf *out, const struct effect *e);

// Takes the effects apart: stream_effects_begin once, then stream_effects_next until it is false; `c->err` tells an end from damage.
void stream_effects_begin(struct cur *c, struct span effects);
bool stream_effects_next(struct cur *c, struct effect *out);

#endif
