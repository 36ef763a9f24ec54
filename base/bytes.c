#include "bytes.h"

#include <assert.h>
#include <stdlib.h>

struct bytes *bytes_alloc(size_t n)
{
    if (n > SIZE_MAX - sizeof(struct bytes)) return NULL;
    struct bytes *b = malloc(sizeof *b + n);
    if (b == NULL) return NULL;
    atomic_init(&b->refs, 1);
    b->reserved = 0;
    b->n = n;
    return b;
}

struct bytes *bytes_new(struct span s)
{
    struct bytes *b = bytes_alloc(s.n);
    if (b != NULL && s.n > 0) memcpy(b->p, s.p, s.n);
    return b;
}

struct bytes *bytes_ref(struct bytes *b)
{
    // Taking a reference needs no order: whoever calls holds one already.
    unsigned before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    return b;
}

void bytes_unref(struct bytes *b)
{
    if (b == NULL) return;
    // Release by all, acquire by the last: its free comes after everybody's last read.
    unsigned before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1) free(b);
}
