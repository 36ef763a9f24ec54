// A reading cursor over bytes that somebody else owns, with a sticky error: a read past the end gives zero or
// an empty span and sets `err` to ERR_CORRUPT, and one check at the end is enough. buf.h writes what this reads.
#ifndef SEGUE_CUR_H
#define SEGUE_CUR_H

#include "span.h"

struct cur {
    const uint8_t *p;
    const uint8_t *end;
    int err; // 0 or ERR_CORRUPT; sticky
};

void cur_init(struct cur *c, struct span s);

// Records a caller's own finding (a tag out of range): the sticky error becomes ERR_CORRUPT, nothing is left.
void cur_fail(struct cur *c);

// Bytes left; 0 after an error.
static inline size_t cur_left(const struct cur *c)
{
    return (size_t)(c->end - c->p);
}

// The next `n` bytes; the view lives as long as what the cursor was made over.
static inline struct span cur_span(struct cur *c, size_t n)
{
    if (n > cur_left(c)) {
        cur_fail(c);
        return SPAN_NONE;
    }
    struct span s = SPAN(c->p, n);
    c->p += n;
    return s;
}

static inline uint8_t cur_u8(struct cur *c)
{
    if (c->p < c->end) return *c->p++;
    cur_fail(c);
    return 0;
}

uint16_t cur_u16(struct cur *c);
uint32_t cur_u32(struct cur *c);
uint64_t cur_u64(struct cur *c);
uint16_t cur_u16_be(struct cur *c);
uint32_t cur_u32_be(struct cur *c);
uint64_t cur_u64_be(struct cur *c);

// Only the shortest form is taken, so that equal values are equal bytes.
uint64_t cur_varint_long(struct cur *c); // the slow half of cur_varint; call that one
static inline uint64_t cur_varint(struct cur *c)
{
    if (c->p < c->end && *c->p < 0x80) return *c->p++;
    return cur_varint_long(c);
}
int64_t cur_svarint(struct cur *c);

// A varint length and that many bytes.
struct span cur_blob(struct cur *c);

// 0 when everything was read and nothing failed, else ERR_CORRUPT.
int cur_end(const struct cur *c);

#endif
