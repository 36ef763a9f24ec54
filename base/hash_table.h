// An intrusive hash table with chains: what it holds embeds a node, so linking allocates nothing and cannot fail.
#ifndef SEGUE_HASH_TABLE_H
#define SEGUE_HASH_TABLE_H

#include "span.h"

struct hash_node {
    struct hash_node *next;
    uint64_t hash;
};

struct hash_table {
    struct hash_node **slots;
    size_t size; // a power of two
    size_t count;
    size_t empty; // slots before this one hold nothing: so taking all is not looking through all each time
};

#define HASH_OWNER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

int hash_table_init(struct hash_table *t);  // ERR_NOMEM
void hash_table_free(struct hash_table *t); // the nodes are their owners' business

void hash_table_insert(struct hash_table *t, struct hash_node *n, uint64_t hash);
void hash_table_remove(struct hash_table *t, struct hash_node *n); // it is linked here (asserted)

// The nodes with this very hash, one after the other; the caller compares the keys.
struct hash_node *hash_table_first(const struct hash_table *t, uint64_t hash);
struct hash_node *hash_table_more(const struct hash_node *n);

// Unlinks and returns any node; NULL when the table is empty.
struct hash_node *hash_table_take(struct hash_table *t);

#endif
