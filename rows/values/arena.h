// Memory that is freed all at once: one arena per parsed tree, per schema, per batch.
#ifndef SEGUE_ROWS_ARENA_H
#define SEGUE_ROWS_ARENA_H

#include "span.h"

struct arena;

// `max`: bytes that may be handed out in all. NULL: no memory.
struct arena *arena_new(size_t max);
void arena_free(struct arena *a); // NULL is fine

// Zeroed, aligned for any type; NULL: past the maximum, or no memory. Zero bytes is fine.
void *arena_alloc(struct arena *a, size_t n);
// The same for an array; NULL where the product overflows.
void *arena_array(struct arena *a, size_t count, size_t size);
// A copy of the bytes; *out is written only on success.
bool arena_copy_span(struct arena *a, struct span s, struct span *out);

// Takes back all that was handed out, and keeps a little memory for what comes next.
void arena_clear(struct arena *a);

// Was something refused because it would have gone past the maximum?
bool arena_full(const struct arena *a);
// Bytes handed out so far.
size_t arena_used(const struct arena *a);

#endif
