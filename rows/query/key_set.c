#include "key_set.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"

void key_set_init(struct key_set *s, size_t bytes_max)
{
    *s = (struct key_set){.n = 0};
    buf_init(&s->bytes, bytes_max);
}

void key_set_free(struct key_set *s)
{
    size_t max = s->bytes.max;
    buf_free(&s->bytes);
    free(s->ends);
    free(s->buckets);
    key_set_init(s, max);
}

size_t key_set_bytes(const struct key_set *s)
{
    return s->bytes.cap + s->cap * sizeof *s->ends + s->bucket_count * sizeof *s->buckets;
}

struct span key_set_at(const struct key_set *s, size_t i)
{
    assert(i < s->n);
    size_t from = i > 0 ? s->ends[i - 1] : 0;
    return SPAN(s->bytes.p + from, s->ends[i] - from);
}

// Where the key is, or the free bucket where it would be.
static size_t bucket_of(const struct key_set *s, struct span key)
{
    size_t at = checksum64(key, 0) & (s->bucket_count - 1);
    while (s->buckets[at] != 0 && !span_equal(key_set_at(s, s->buckets[at] - 1), key))
        at = (at + 1) & (s->bucket_count - 1);
    return at;
}

size_t key_set_find(const struct key_set *s, struct span key)
{
    if (s->n == 0) return SIZE_MAX;
    uint32_t found = s->buckets[bucket_of(s, key)];
    return found == 0 ? SIZE_MAX : found - 1;
}

// Half of the buckets stay free.
static int grow(struct key_set *s)
{
    if (s->n == s->cap) {
        size_t cap = s->cap > 0 ? s->cap * 2 : 16;
        size_t *ends = realloc(s->ends, cap * sizeof *ends);
        if (!ends) return ERR_NOMEM;
        s->ends = ends;
        s->cap = cap;
    }
    if (s->bucket_count >= (s->n + 1) * 2) return 0;
    size_t count = s->bucket_count > 0 ? s->bucket_count * 2 : 32;
    uint32_t *buckets = calloc(count, sizeof *buckets);
    if (!buckets) return ERR_NOMEM;
    free(s->buckets);
    s->buckets = buckets;
    s->bucket_count = count;
    for (size_t i = 0; i < s->n; i++)
        s->buckets[bucket_of(s, key_set_at(s, i))] = (uint32_t)(i + 1);
    return 0;
}

int key_set_add(struct key_set *s, struct span key, size_t *at, bool *added)
{
    if (s->n >= UINT32_MAX - 1) return ERR_TOO_LARGE;
    int err = grow(s);
    if (err) return err;
    size_t bucket = bucket_of(s, key);
    bool there = s->buckets[bucket] != 0;
    if (!there) {
        buf_put_span(&s->bytes, key);
        if (s->bytes.err) return s->bytes.err;
        s->ends[s->n++] = s->bytes.n;
        s->buckets[bucket] = (uint32_t)s->n;
    }
    if (at) *at = s->buckets[bucket] - 1;
    if (added) *added = !there;
    return 0;
}
