// A view of bytes that somebody else owns.
#ifndef SEGUE_SPAN_H
#define SEGUE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *p;
    size_t n;
};

#define SPAN(ptr, len) ((struct span){(const uint8_t *)(ptr), (len)})
#define SPAN_STR(s) SPAN((s), strlen(s))
#define SPAN_LIT(s) SPAN("" s, sizeof(s) - 1)
#define SPAN_NONE ((struct span){NULL, 0})
// For printf's "%.*s".
#define SPAN_FMT(s) (int)(s).n, (const char *)(s).p

static inline bool span_equal(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool span_is(struct span a, const char *s)
{
    return span_equal(a, SPAN_STR(s));
}

static inline bool span_starts(struct span a, const char *s)
{
    size_t n = strlen(s);
    return a.n >= n && memcmp(a.p, s, n) == 0;
}

// Bytewise order, the shorter first where one begins the other: LMDB's order of keys.
static inline int span_compare(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

// The part of `s` from byte `from`, at most `n` bytes.
static inline struct span span_sub(struct span s, size_t from, size_t n)
{
    if (from > s.n) from = s.n;
    if (n > s.n - from) n = s.n - from;
    return SPAN(from == 0 ? s.p : s.p + from, n); // an empty span may have no address to add to
}

#endif
