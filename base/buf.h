// A growable buffer that is told its maximum at birth, with a sticky error: after the first failure every
// put is a no-op, and one check at the end is enough. Also the writing half of the byte cursors (cur.h reads).
#ifndef SEGUE_BUF_H
#define SEGUE_BUF_H

#include <stdarg.h>

#include "bytes.h"

struct buf {
    uint8_t *p;
    size_t n;   // bytes in use
    size_t cap; // bytes allocated
    size_t max; // never more than this in use
    int err;    // 0, ERR_TOO_LARGE or ERR_NOMEM; sticky
};

// Empty, allocates nothing yet.
void buf_init(struct buf *b, size_t max);

// Frees; the buffer may be used again with the same maximum.
void buf_free(struct buf *b);

// Forgets the content and the error, keeps the memory.
void buf_clear(struct buf *b);

// Cuts back to `n` bytes (n <= b->n); the error stays.
void buf_truncate(struct buf *b, size_t n);

// Removes the first `n` bytes (n <= b->n), moving the rest to the front.
void buf_consume(struct buf *b, size_t n);

// The slow half of buf_reserve; call that one.
uint8_t *buf_grow(struct buf *b, size_t n);

// Room for `n` more bytes to be written at b->p + b->n by the caller, who then adds to b->n; NULL on failure.
static inline uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (b->err == 0 && b->p != NULL && n <= b->cap - b->n) return b->p + b->n;
    return buf_grow(b, n);
}

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    uint8_t *to = buf_reserve(b, n);
    if (to == NULL || n == 0) return;
    memcpy(to, p, n);
    b->n += n;
}

static inline void buf_put_span(struct buf *b, struct span s)
{
    buf_put(b, s.p, s.n);
}

void buf_put_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Integers, little endian. The _be forms sort bytewise and are for keys.
static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    uint8_t *to = buf_reserve(b, 1);
    if (to == NULL) return;
    *to = v;
    b->n++;
}

void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_u16_be(struct buf *b, uint16_t v);
void buf_put_u32_be(struct buf *b, uint32_t v);
void buf_put_u64_be(struct buf *b, uint64_t v);

// LEB128, at most 10 bytes. The signed form is zigzag.
void buf_put_long_varint(struct buf *b, uint64_t v); // the slow half of buf_put_varint; call that one
static inline void buf_put_varint(struct buf *b, uint64_t v)
{
    if (v < 0x80) buf_put_u8(b, (uint8_t)v);
    else buf_put_long_varint(b, v);
}
void buf_put_svarint(struct buf *b, int64_t v);

// A varint length and the bytes: what cur_blob reads.
void buf_put_blob(struct buf *b, struct span s);

static inline struct span buf_span(const struct buf *b)
{
    return SPAN(b->p, b->n);
}

// The content as refcounted bytes; the buffer is left empty with its memory. NULL on memory or a sticky error.
struct bytes *buf_take(struct buf *b);

#endif
