#include "chunk_table.h"

#include <assert.h>
#include <stdlib.h>

#include "pack.h"

#define SLOTS_FIRST 256

void chunk_table_init(struct chunk_table *t)
{
    *t = (struct chunk_table){0};
}

void chunk_table_free(struct chunk_table *t)
{
    assert(t->count == 0);
    free(t->slots);
    *t = (struct chunk_table){0};
}

static struct placed **slot_of(const struct chunk_table *t, const struct sha256 *sha)
{
    uint64_t h; // a SHA-256 is as good a hash as any
    memcpy(&h, sha->b, sizeof h);
    return &t->slots[h & (t->slot_count - 1)];
}

struct placed *chunk_table_find(const struct chunk_table *t, const struct sha256 *sha)
{
    if (t->slot_count == 0) return NULL;
    struct placed *p = *slot_of(t, sha);
    while (p != NULL && !sha256_equal(&p->chunk.sha, sha))
        p = p->next;
    return p;
}

static void unlist(struct chunk_table *t, struct placed *p)
{
    struct placed **at = slot_of(t, &p->chunk.sha);
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->listed = false;
    t->count--;
}

// Room for one more at no more than one a slot.
static bool grow(struct chunk_table *t)
{
    if (t->count < t->slot_count) return true;
    struct chunk_table wider = {.slot_count = t->slot_count > 0 ? 2 * t->slot_count : SLOTS_FIRST, .count = t->count};
    wider.slots = calloc(wider.slot_count, sizeof *wider.slots);
    if (wider.slots == NULL) return false;
    for (size_t i = 0; i < t->slot_count; i++)
        for (struct placed *p = t->slots[i], *next; p != NULL; p = next) {
            struct placed **at = slot_of(&wider, &p->chunk.sha);
            next = p->next;
            p->next = *at;
            *at = p;
        }
    free(t->slots);
    *t = wider;
    return true;
}

struct placed *chunk_table_add(struct chunk_table *t, const struct chunk *chunk, struct pack *pack, uint64_t sum)
{
    struct placed *p = grow(t) ? calloc(1, sizeof *p) : NULL;
    if (p == NULL) {
        pack_unref(pack);
        return NULL;
    }
    struct placed *former = chunk_table_find(t, &chunk->sha);
    if (former != NULL) unlist(t, former);
    p->chunk = *chunk;
    p->pack = pack;
    p->sum = sum;
    p->refs = 1;
    p->listed = true;
    atomic_init(&p->written, pack == NULL);
    struct placed **at = slot_of(t, &chunk->sha);
    p->next = *at;
    *at = p;
    t->count++;
    return p;
}

void chunk_table_unlist(struct chunk_table *t, const struct sha256 *sha)
{
    struct placed *p = chunk_table_find(t, sha);
    if (p != NULL) unlist(t, p);
}

void chunk_table_unref(struct chunk_table *t, struct placed *p)
{
    assert(p->refs > 0);
    if (--p->refs > 0) return;
    if (p->listed) unlist(t, p);
    pack_unref(p->pack);
    free(p);
}
