#include "blob_verified.h"

#include <stdlib.h>

#include "err.h"

#define BUCKETS ((size_t)64 * KIB) // a power of two
#define BUCKET_SLOTS 8             // one line of the processor's cache: 4 MiB in all, for 32 GiB of chunks of average length

// A place is never given out twice, so it alone names the record. 0: there is no such place. Packs count from 1.
static uint64_t key_of(const struct place *place)
{
    if (place->position >= BLOB_PACK_BYTES) return 0;
    return (uint64_t)place->pack << 32 | (uint32_t)(place->position / RECORD_ALIGN);
}
_Static_assert(BLOB_PACK_BYTES / RECORD_ALIGN <= UINT32_MAX, "a position fits");

static atomic_ullong *bucket_of(const struct verified *v, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9e3779b97f4a7c15);
    return v->slots + BUCKET_SLOTS * ((h >> 40) & (BUCKETS - 1));
}

int verified_init(struct verified *v)
{
    v->slots = calloc(BUCKETS * BUCKET_SLOTS, sizeof *v->slots);
    return v->slots == NULL ? ERR_NOMEM : 0;
}

void verified_free(struct verified *v)
{
    free(v->slots);
    v->slots = NULL;
}

static atomic_ullong *slot_find(const struct verified *v, uint64_t key, uint64_t wanted)
{
    atomic_ullong *bucket = bucket_of(v, key);
    for (size_t i = 0; i < BUCKET_SLOTS; i++)
        if (atomic_load_explicit(&bucket[i], memory_order_relaxed) == wanted) return &bucket[i];
    return NULL;
}

bool verified_has(const struct verified *v, const struct place *place)
{
    uint64_t key = key_of(place);
    return key != 0 && slot_find(v, key, key) != NULL;
}

void verified_add(struct verified *v, const struct place *place)
{
    uint64_t key = key_of(place);
    if (key == 0 || slot_find(v, key, key) != NULL) return;
    atomic_ullong *slot = slot_find(v, key, 0);
    // Whose place it takes does not matter much; the position's bits spread it.
    if (slot == NULL) slot = bucket_of(v, key) + (key >> 4) % BUCKET_SLOTS;
    atomic_store_explicit(slot, key, memory_order_relaxed);
}

void verified_forget(struct verified *v, const struct place *place)
{
    uint64_t key = key_of(place);
    for (atomic_ullong *slot; key != 0 && (slot = slot_find(v, key, key)) != NULL;)
        atomic_store_explicit(slot, 0, memory_order_relaxed);
}
