// A set of short texts (paths of streams), in no order that stays: told apart by a hash, looked at by their place. Bounded at birth.
#ifndef SEGUE_PATH_SET_H
#define SEGUE_PATH_SET_H

#include "span.h"

struct path_set {
    struct path_item *items;
    size_t count, cap, max;
    uint32_t *slots; // 1 + place; a power of two of them
    size_t slot_count;
    uint64_t seed; // of the hash: nobody chooses what collides
};

void path_set_init(struct path_set *s, size_t max);
void path_set_free(struct path_set *s); // empty again, with the same maximum

// 0: it is in there now; ERR_TOO_MANY: the set is full; ERR_NOMEM.
int path_set_add(struct path_set *s, struct span path);
bool path_set_has(const struct path_set *s, struct span path);
// The one at this place, until it is removed.
struct span path_set_at(const struct path_set *s, size_t i);
// The last one takes its place.
void path_set_remove_at(struct path_set *s, size_t i);

#endif
