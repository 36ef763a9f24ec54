#include "cur.h"

#include <endian.h>

#include "err.h"

void cur_init(struct cur *c, struct span s)
{
    // An empty span may have no address at all; arithmetic on NULL is undefined, on this it is not.
    static const uint8_t nothing[1];
    const uint8_t *p = s.p != NULL ? s.p : nothing;
    *c = (struct cur){.p = p, .end = p + s.n};
}

void cur_fail(struct cur *c)
{
    c->p = c->end;
    c->err = ERR_CORRUPT;
}

int cur_end(const struct cur *c)
{
    return c->err == 0 && c->p == c->end ? 0 : ERR_CORRUPT;
}

// Copies an integer of `n` bytes out; after a failure `to` keeps its zero.
static void take(struct cur *c, void *to, size_t n)
{
    struct span s = cur_span(c, n);
    if (s.n == n) memcpy(to, s.p, n);
}

uint16_t cur_u16(struct cur *c)
{
    uint16_t v = 0;
    take(c, &v, sizeof v);
    return le16toh(v);
}

uint32_t cur_u32(struct cur *c)
{
    uint32_t v = 0;
    take(c, &v, sizeof v);
    return le32toh(v);
}

uint64_t cur_u64(struct cur *c)
{
    uint64_t v = 0;
    take(c, &v, sizeof v);
    return le64toh(v);
}

uint16_t cur_u16_be(struct cur *c)
{
    uint16_t v = 0;
    take(c, &v, sizeof v);
    return be16toh(v);
}

uint32_t cur_u32_be(struct cur *c)
{
    uint32_t v = 0;
    take(c, &v, sizeof v);
    return be32toh(v);
}

uint64_t cur_u64_be(struct cur *c)
{
    uint64_t v = 0;
    take(c, &v, sizeof v);
    return be64toh(v);
}

uint64_t cur_varint_long(struct cur *c)
{
    uint64_t v = 0;
    const uint8_t *p = c->p;
    for (unsigned shift = 0; shift < 64 && p < c->end; shift += 7) {
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) break; // the tenth byte has room for one bit
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte >= 0x80) continue;
        if (byte == 0 && shift > 0) break; // a last byte of zero adds nothing: not the shortest form
        c->p = p;
        return v;
    }
    cur_fail(c);
    return 0;
}

int64_t cur_svarint(struct cur *c)
{
    uint64_t u = cur_varint(c);
    return (int64_t)(u >> 1 ^ (0 - (u & 1)));
}

struct span cur_blob(struct cur *c)
{
    uint64_t n = cur_varint(c);
    return cur_span(c, n);
}
