// Refcounted immutable bytes: what fans out to many readers is stored once.
#ifndef SEGUE_BYTES_H
#define SEGUE_BYTES_H

#include <stdatomic.h>

#include "span.h"

struct bytes {
    atomic_uint refs;
    uint32_t reserved;
    size_t n;
    uint8_t p[];
};

// A copy of `s` with one reference, or NULL when memory is exhausted.
struct bytes *bytes_new(struct span s);

// Room for `n` bytes to be filled before anyone else sees it; one reference, or NULL.
struct bytes *bytes_alloc(size_t n);

// One more reference; returns `b`. Any thread.
struct bytes *bytes_ref(struct bytes *b);

// Drops a reference and frees at zero. NULL is fine. Any thread.
void bytes_unref(struct bytes *b);

static inline struct span bytes_span(const struct bytes *b)
{
    return SPAN(b->p, b->n);
}

#endif
