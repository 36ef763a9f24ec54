#include "path_set.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "uuid.h"

#define SLOTS_MIN 16

struct path_item {
    uint64_t hash;
    size_t n;
    uint8_t *p;
};

void path_set_init(struct path_set *s, size_t max)
{
    assert(max < UINT32_MAX / 4);
    *s = (struct path_set){.max = max};
    random_bytes(&s->seed, sizeof s->seed);
}

void path_set_free(struct path_set *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i].p);
    free(s->items);
    free(s->slots);
    *s = (struct path_set){.max = s->max, .seed = s->seed};
}

// The slot that has it, or the free one where it would be.
static size_t slot_of(const struct path_set *s, uint64_t hash, struct span path)
{
    size_t at = hash & (s->slot_count - 1);
    for (; s->slots[at] != 0; at = (at + 1) & (s->slot_count - 1)) {
        const struct path_item *item = &s->items[s->slots[at] - 1];
        if (item->hash == hash && span_equal(SPAN(item->p, item->n), path)) break;
    }
    return at;
}

static int grow(struct path_set *s)
{
    size_t slot_count = s->slot_count == 0 ? SLOTS_MIN : 2 * s->slot_count, cap = slot_count / 2;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    struct path_item *items = realloc(s->items, cap * sizeof *items);
    if (items != NULL) s->items = items;
    if (items == NULL || slots == NULL) {
        free(slots);
        return ERR_NOMEM;
    }
    free(s->slots);
    s->slots = slots;
    s->slot_count = slot_count;
    s->cap = cap;
    for (size_t i = 0; i < s->count; i++)
        s->slots[slot_of(s, s->items[i].hash, SPAN(s->items[i].p, s->items[i].n))] = (uint32_t)i + 1;
    return 0;
}

int path_set_add(struct path_set *s, struct span path)
{
    uint64_t hash = checksum64(path, s->seed);
    if (s->count > 0 && s->slots[slot_of(s, hash, path)] != 0) return 0;
    if (s->count == s->max) return ERR_TOO_MANY;
    if (s->count == s->cap && grow(s) != 0) return ERR_NOMEM;
    uint8_t *p = malloc(path.n + 1);
    if (p == NULL) return ERR_NOMEM;
    if (path.n > 0) memcpy(p, path.p, path.n);
    s->slots[slot_of(s, hash, path)] = (uint32_t)s->count + 1;
    s->items[s->count++] = (struct path_item){.hash = hash, .n = path.n, .p = p};
    return 0;
}

bool path_set_has(const struct path_set *s, struct span path)
{
    return s->count > 0 && s->slots[slot_of(s, checksum64(path, s->seed), path)] != 0;
}

struct span path_set_at(const struct path_set *s, size_t i)
{
    assert(i < s->count);
    return SPAN(s->items[i].p, s->items[i].n);
}

// Those behind a hole that could have been in it move up, so that no search ends at it too early.
static void slot_clear(struct path_set *s, size_t hole)
{
    size_t mask = s->slot_count - 1;
    for (size_t at = (hole + 1) & mask; s->slots[at] != 0; at = (at + 1) & mask) {
        size_t home = s->items[s->slots[at] - 1].hash & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        s->slots[hole] = s->slots[at];
        hole = at;
    }
    s->slots[hole] = 0;
}

void path_set_remove_at(struct path_set *s, size_t i)
{
    assert(i < s->count);
    struct path_item *item = &s->items[i], *last = &s->items[s->count - 1];
    slot_clear(s, slot_of(s, item->hash, SPAN(item->p, item->n)));
    free(item->p);
    if (item != last) {
        s->slots[slot_of(s, last->hash, SPAN(last->p, last->n))] = (uint32_t)i + 1;
        *item = *last;
    }
    s->count--;
}
