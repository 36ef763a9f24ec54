// Sorted sets of order keys: what a run that sorts, and a view that keeps positions, hold of their rows.
#ifndef SEGUE_ROWS_SORT_KEYS_H
#define SEGUE_ROWS_SORT_KEYS_H

#include "span.h"
#include "uuid.h"

// query_order_key's bytes; the id is the last 16 of them.
struct sort_key {
    uint32_t n;
    uint8_t b[];
};

static inline struct uuid sort_key_id(const struct sort_key *k)
{
    struct uuid id;
    memcpy(id.b, k->b + k->n - sizeof id.b, sizeof id.b);
    return id;
}

static inline struct span sort_key_span(const struct sort_key *k)
{
    return SPAN(k->b, k->n);
}

struct sort_keys {
    struct sort_key **keys;
    size_t n, cap;
    size_t bytes; // of all keys; at most QUERY_SORT_MAX
};

void sort_keys_free(struct sort_keys *s); // and leaves it empty
// What they take in memory, about.
static inline size_t sort_keys_held(const struct sort_keys *s)
{
    return s->bytes + s->n * (sizeof(struct sort_key *) + sizeof(struct sort_key) + 16);
}

// Collecting, in any order: at most the `keep` least are kept (SIZE_MAX: all). *dropped becomes true when one was not.
// ERR_QUERY_TOO_EXPENSIVE past QUERY_SORT_MAX, ERR_NOMEM.
int sort_keys_collect(struct sort_keys *s, struct span key, size_t keep, bool *dropped);
// Ends collecting: sorted from here on.
void sort_keys_finish(struct sort_keys *s, size_t keep, bool *dropped);

// In a sorted set: where the key is, or would be.
size_t sort_keys_find(const struct sort_keys *s, struct span key, bool *found);
int sort_keys_insert(struct sort_keys *s, size_t at, struct span key); // as sort_keys_collect
void sort_keys_remove(struct sort_keys *s, size_t at);

#endif
