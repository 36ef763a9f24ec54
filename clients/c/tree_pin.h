// Pins of many blobs at once, and reading a tree.
#ifndef SEGUE_C_TREE_PIN_H
#define SEGUE_C_TREE_PIN_H

#include "client.h"
#include "tree.h"

// Pins the blobs, or lets them go, in as many requests as it takes. missing[i] tells of each whether the service has none. Gives what a
// call gives; missing is written on SEGUE_OK alone, and may be NULL.
int pins_set(struct segue *s, const struct sha256 *digests, size_t count, bool pinned, bool *missing);

// Reads the tree's text and takes it apart. `t` is to be freed in all cases.
int tree_fetch(struct segue *s, const char *digest, struct tree *t);

// Every content of it once, in the order of the digests; the caller frees it. NULL: no memory.
struct sha256 *tree_contents(const struct tree *t, size_t *count);

#endif
