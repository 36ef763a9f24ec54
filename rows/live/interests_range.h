// Ranges, found by a point that lies in them: a search tree by their beginnings, balanced by chance (a treap), in which each node knows the greatest end below it.
#ifndef SEGUE_ROWS_INTERESTS_RANGE_H
#define SEGUE_ROWS_INTERESTS_RANGE_H

#include <stdbool.h>
#include <stdint.h>

// The beginning of a value's order key, as a number: keys that differ further on are one point, so a range may be found that ends shortly before.
typedef unsigned __int128 range_point;

// Embedded in what lies in the tree. low and high belong to it.
struct range {
    range_point low, high;
    range_point greatest; // private from here on: of all ends in this subtree
    struct range *left, *right;
    uint64_t weight; // no node's is greater than its parent's
};

// Ranges of equal beginnings stand by their addresses, so a range stays where it is.
void range_insert(struct range **root, struct range *n, uint64_t weight);
void range_remove(struct range **root, struct range *n); // it is in the tree (asserted)
// Calls for each range that the point lies in; the tree stays as it is meanwhile.
void range_find(struct range *root, range_point point, void (*found)(void *ctx, struct range *n), void *ctx);

#endif
