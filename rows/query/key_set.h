// Byte strings, each once, numbered from 0 in the order in which they came: groups, distinct rows, the values of an `in`.
#ifndef SEGUE_ROWS_KEY_SET_H
#define SEGUE_ROWS_KEY_SET_H

#include "buf.h"

struct key_set {
    struct buf bytes;
    size_t *ends; // of each key in `bytes`
    size_t n, cap;
    uint32_t *buckets; // a key's number + 1
    size_t bucket_count;
};

void key_set_init(struct key_set *s, size_t bytes_max);
void key_set_free(struct key_set *s); // and leaves it empty, with its maximum
size_t key_set_bytes(const struct key_set *s); // of memory in use

// SIZE_MAX: it is not there.
size_t key_set_find(const struct key_set *s, struct span key);
// *added (may be NULL): it was not there. ERR_NOMEM, ERR_TOO_LARGE.
int key_set_add(struct key_set *s, struct span key, size_t *at, bool *added);
struct span key_set_at(const struct key_set *s, size_t i); // until the next key_set_add

#endif
