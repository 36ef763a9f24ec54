#include "buf.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"

#define FIRST_CAP 64

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
    free(b->p);
    buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->err = 0;
}

void buf_truncate(struct buf *b, size_t n)
{
    assert(n <= b->n);
    b->n = n;
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (n == 0) return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

// Doubling keeps appends linear in all; the last step stops at the maximum, so cap <= max always holds and the
// fast path need not look at max.
static size_t next_cap(const struct buf *b, size_t need)
{
    size_t cap = b->cap < FIRST_CAP ? FIRST_CAP : b->cap;
    while (cap < need && cap <= b->max / 2)
        cap *= 2;
    if (cap < need || cap > b->max) cap = b->max;
    return cap;
}

uint8_t *buf_grow(struct buf *b, size_t n)
{
    assert(b->n <= b->cap && b->cap <= b->max);
    if (b->err != 0) return NULL;
    if (n > b->max - b->n) {
        b->err = ERR_TOO_LARGE;
        return NULL;
    }
    size_t cap = next_cap(b, b->n + n);
    uint8_t *p = realloc(b->p, cap > 0 ? cap : 1);
    if (p == NULL) {
        b->err = ERR_NOMEM;
        return NULL;
    }
    b->p = p;
    b->cap = cap;
    return p + b->n;
}

void buf_put_str(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[128];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    assert(n >= 0); // a broken format is a bug
    if ((size_t)n < sizeof small) {
        buf_put(b, small, (size_t)n);
    } else {
        // vsnprintf ends with a NUL that is not part of the content: format aside where the maximum has no room for it.
        char *large = malloc((size_t)n + 1);
        if (large != NULL) {
            vsnprintf(large, (size_t)n + 1, fmt, again);
            buf_put(b, large, (size_t)n);
            free(large);
        } else if (b->err == 0) {
            b->err = ERR_NOMEM;
        }
    }
    va_end(again);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    v = htole16(v);
    buf_put(b, &v, sizeof v);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    buf_put(b, &v, sizeof v);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    buf_put(b, &v, sizeof v);
}

void buf_put_u16_be(struct buf *b, uint16_t v)
{
    v = htobe16(v);
    buf_put(b, &v, sizeof v);
}

void buf_put_u32_be(struct buf *b, uint32_t v)
{
    v = htobe32(v);
    buf_put(b, &v, sizeof v);
}

void buf_put_u64_be(struct buf *b, uint64_t v)
{
    v = htobe64(v);
    buf_put(b, &v, sizeof v);
}

void buf_put_long_varint(struct buf *b, uint64_t v)
{
    size_t n = 1;
    for (uint64_t rest = v; rest >= 0x80; rest >>= 7)
        n++;
    uint8_t *p = buf_reserve(b, n);
    if (p == NULL) return;
    b->n += n;
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p = (uint8_t)v;
}

void buf_put_svarint(struct buf *b, int64_t v)
{
    // Zigzag: the sign goes to the lowest bit, so that small negative numbers are short too.
    uint64_t u = (uint64_t)v << 1;
    buf_put_varint(b, v < 0 ? ~u : u);
}

void buf_put_blob(struct buf *b, struct span s)
{
    buf_put_varint(b, s.n);
    buf_put_span(b, s);
}

struct bytes *buf_take(struct buf *b)
{
    if (b->err != 0) return NULL;
    struct bytes *taken = bytes_new(buf_span(b));
    if (taken != NULL) buf_clear(b);
    return taken;
}
