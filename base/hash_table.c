#include "hash_table.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

#define TABLE_SIZE_FIRST 8 // small: every batch that is decided has a table, and few of them name more streams

int hash_table_init(struct hash_table *t)
{
    *t = (struct hash_table){.slots = calloc(TABLE_SIZE_FIRST, sizeof *t->slots), .size = TABLE_SIZE_FIRST};
    return t->slots == NULL ? ERR_NOMEM : 0;
}

void hash_table_free(struct hash_table *t)
{
    free(t->slots);
    *t = (struct hash_table){0};
}

static void table_link(struct hash_table *t, struct hash_node *n)
{
    size_t at = n->hash & (t->size - 1);
    n->next = t->slots[at];
    t->slots[at] = n;
    if (at < t->empty) t->empty = at;
}

// Doubles the slots. Without the memory for it the chains grow longer, and that is all.
static void table_grow(struct hash_table *t)
{
    struct hash_node **slots = calloc(t->size * 2, sizeof *slots);
    if (slots == NULL) return;
    struct hash_table old = *t;
    t->slots = slots;
    t->size *= 2;
    t->empty = t->size;
    for (size_t i = 0; i < old.size; i++) {
        for (struct hash_node *n = old.slots[i], *next; n != NULL; n = next) {
            next = n->next;
            table_link(t, n);
        }
    }
    free(old.slots);
}

void hash_table_insert(struct hash_table *t, struct hash_node *n, uint64_t hash)
{
    if (t->count >= t->size) table_grow(t);
    n->hash = hash;
    table_link(t, n);
    t->count++;
}

void hash_table_remove(struct hash_table *t, struct hash_node *n)
{
    struct hash_node **at = &t->slots[n->hash & (t->size - 1)];
    while (*at != n) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = n->next;
    n->next = NULL;
    t->count--;
}

static struct hash_node *table_match(struct hash_node *n, uint64_t hash)
{
    while (n != NULL && n->hash != hash)
        n = n->next;
    return n;
}

struct hash_node *hash_table_first(const struct hash_table *t, uint64_t hash)
{
    return table_match(t->slots[hash & (t->size - 1)], hash);
}

struct hash_node *hash_table_more(const struct hash_node *n)
{
    return table_match(n->next, n->hash);
}

struct hash_node *hash_table_take(struct hash_table *t)
{
    for (size_t i = t->empty; t->count > 0 && i < t->size; i++) {
        struct hash_node *n = t->slots[i];
        t->empty = i;
        if (n == NULL) continue;
        t->slots[i] = n->next;
        t->count--;
        return n;
    }
    return NULL;
}
