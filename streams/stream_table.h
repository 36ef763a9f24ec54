// An intrusive hash table with chains: what it holds embeds a node, so linking allocates nothing and cannot fail.
#ifndef SEGUE_STREAM_TABLE_H
#define SEGUE_STREAM_TABLE_H

#include "span.h"

struct table_node {
    struct table_node *next;
    uint64_t hash;
};

struct table {
    struct table_node **slots;
    size_t size; // a power of two
    size_t count;
};

#define TABLE_OWNER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

int stream_table_init(struct table *t);  // ERR_NOMEM
void stream_table_free(struct table *t); // the nodes are their owners' business

void stream_table_insert(struct table *t, struct table_node *n, uint64_t hash);
void stream_table_remove(struct table *t, struct table_node *n); // it is linked here (asserted)

// The nodes with this very hash, one after the other; the caller compares the keys.
struct table_node *stream_table_first(const struct table *t, uint64_t hash);
struct table_node *stream_table_more(const struct table_node *n);

// Unlinks and returns any node; NULL when the table is empty.
struct table_node *stream_table_take(struct table *t);

#endif
