// The chunks that open uploads rely on: found by hash, counted. Thread: the owner, but for the two marked members.
//
// It is what makes two uploads of the same bytes at the same time store them once. A chunk that is in the database stands
// here too, without a pack. For one that is not, the first upload that meets it gives it a place, and every upload
// that has the bytes in its window may write them there, the first or the fifth, as they are the same bytes for the same
// place; each leaves the write out only after it has seen `written`. So nobody waits for somebody else's write, and
// nobody relies on bytes that somebody else failed to write. Durability is each upload's own barrier (pack_sync).
#ifndef SEGUE_CHUNK_TABLE_H
#define SEGUE_CHUNK_TABLE_H

#include <stdatomic.h>

#include "blob_keys.h"

struct pack;

struct placed {
    struct placed *next;
    struct pack *pack;  // holds a reference; NULL: the database names the place, it is durable. Read by the pool
    struct chunk chunk; // read by the pool
    uint64_t sum;       // of the record: another packing of the same chunk must not be written over it
    uint32_t refs;
    bool listed;         // in the table; one that was replaced only waits for its last upload
    atomic_bool written; // any thread: the record is in the file, perhaps not on the disk
};

struct chunk_table {
    struct placed **slots;
    size_t slot_count; // 0 or a power of two
    size_t count;
};

void chunk_table_init(struct chunk_table *t);
void chunk_table_free(struct chunk_table *t); // everything was given back
// The one listed under `sha`, without a further reference, or NULL.
struct placed *chunk_table_find(const struct chunk_table *t, const struct sha256 *sha);
// Lists a new one with one reference, in the stead of one of the same hash. Takes the reference to `pack`, also on
// failure. NULL: no memory.
struct placed *chunk_table_add(struct chunk_table *t, const struct chunk *chunk, struct pack *pack, uint64_t sum);
// What is listed under `sha` is not to be found any more: it is damaged. Those who rely on it already keep it.
void chunk_table_unlist(struct chunk_table *t, const struct sha256 *sha);
void chunk_table_unref(struct chunk_table *t, struct placed *p);

#endif
