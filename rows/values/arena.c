#include "arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

#define CHUNK_FIRST 496 // many hold little: a query and its parameters, of which there are as many as subscriptions
#define CHUNK_BYTES 4096

struct chunk {
    struct chunk *next;
    size_t n, cap;
    alignas(max_align_t) uint8_t p[];
};

struct arena {
    struct chunk *chunks; // the newest first; only that one has room
    size_t used, max;
    bool full;
};

struct arena *arena_new(size_t max)
{
    struct arena *a = malloc(sizeof *a);
    if (a) *a = (struct arena){.max = max};
    return a;
}

static void free_chunks(struct chunk *c)
{
    while (c) {
        struct chunk *next = c->next;
        free(c);
        c = next;
    }
}

void arena_free(struct arena *a)
{
    if (!a) return;
    free_chunks(a->chunks);
    free(a);
}

void arena_clear(struct arena *a)
{
    struct chunk *c = a->chunks;
    if (c) {
        free_chunks(c->next);
        c->next = NULL;
        c->n = 0;
    }
    if (c && c->cap > CHUNK_BYTES) {
        free(c);
        a->chunks = NULL;
    }
    a->used = 0;
    a->full = false;
}

static struct chunk *add_chunk(struct arena *a, size_t n)
{
    size_t least = a->chunks ? CHUNK_BYTES : CHUNK_FIRST, cap = n > least ? n : least;
    struct chunk *c = malloc(sizeof *c + cap);
    if (!c) return NULL;
    c->next = a->chunks;
    c->n = 0;
    c->cap = cap;
    a->chunks = c;
    return c;
}

void *arena_alloc(struct arena *a, size_t n)
{
    const size_t align = alignof(max_align_t);
    assert(a);
    size_t rounded = n == 0 ? align : n > SIZE_MAX / 2 ? SIZE_MAX : (n + align - 1) / align * align;
    if (rounded > a->max - a->used) {
        a->full = true;
        return NULL;
    }
    struct chunk *c = a->chunks;
    if (!c || rounded > c->cap - c->n) c = add_chunk(a, rounded);
    if (!c) return NULL;
    void *p = c->p + c->n;
    c->n += rounded;
    a->used += rounded;
    memset(p, 0, rounded);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n)) return NULL;
    return arena_alloc(a, n);
}

bool arena_copy_span(struct arena *a, struct span s, struct span *out)
{
    uint8_t *p = arena_alloc(a, s.n);
    if (!p) return false;
    if (s.n > 0) memcpy(p, s.p, s.n);
    *out = SPAN(p, s.n);
    return true;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

bool arena_full(const struct arena *a)
{
    return a->full;
}
