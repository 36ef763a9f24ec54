// The pack files of a store: `<path>/NNNN.pack`, records one behind the other, only ever appended to.
//
// A place is given out once and never again, whatever becomes of the write, so that nothing that a commit names is ever
// overwritten. New places lie behind the end that a file had when the store was opened: what a broken upload left there
// stays as garbage, and what a journal entry names that is not applied yet is not touched.
//
// A pack whose barrier failed takes no more records and every later barrier on it fails too: the kernel reports a lost
// page once and may then call it clean, so a second barrier that succeeds proves nothing.
//
// A batch, which is PACK_BATCH_MIN bytes or more, begins and ends at whole pages and goes past the page cache (O_DIRECT) where the
// file system takes that: no copying twice, and nothing is left for the barrier to write. Less goes through the cache. No page
// belongs to both, but for a record that is written again.
#ifndef SEGUE_PACK_H
#define SEGUE_PACK_H

#include <sys/uio.h>

#include "limits.h"
#include "span.h"

#define PACK_PAGE 4096
#define PACK_BATCH_MIN (256 * KIB)
#define PACK_BATCH_MAX (BLOB_WINDOW + 2 * BLOB_CHUNK_MAX) // a window's records and what they are made up to

struct packs;
struct pack; // counted; its descriptor is opened on first use and shared by readers and writers

#define PACKS_IDLE_MAX 64 // descriptors kept open although nobody uses them

#define PACK_BYTES_MIN (2 * MIB)

// Makes the folder where it is missing. A pack takes `bytes` (0: BLOB_PACK_BYTES; PACK_BYTES_MIN at least) before the next one is begun.
// On success the caller owns *out.
int packs_open(struct packs **out, const char *path, uint64_t bytes);
void packs_close(struct packs *p); // every pack was given back; NULL is fine

// Owner: room for a record of `n` bytes, with a reference to its pack. NULL when memory is exhausted.
struct pack *packs_place(struct packs *p, size_t n, uint64_t *position);
// Owner: the pack that has room for the next `n` bytes, which are then taken by one packs_take before anything else is placed. NULL
// when memory is exhausted.
struct pack *packs_next(struct packs *p, size_t n);
// Owner: as many bytes or fewer of it: their position. Those of a batch have their pages for themselves.
uint64_t packs_take(struct packs *p, size_t n);
// The pack of this number, which need not exist, with a reference. NULL when memory is exhausted. Any thread.
struct pack *packs_get(struct packs *p, uint32_t number);
// Owner: bytes of all packs, garbage included.
uint64_t packs_bytes(const struct packs *p);

// ---- reclaiming: the owner --------------------------------------------------------------------------------------------
// The first pack behind the number `after` (0: the first of all) that has a file and takes no more records; false: there is none.
bool packs_file_after(const struct packs *p, uint32_t after, uint32_t *number, uint64_t *size);
// The pack that takes records, and how much of it is given out.
uint32_t packs_current(const struct packs *p, uint64_t *size);
void packs_roll(struct packs *p);                        // the next record begins a new one
bool packs_in_use(struct packs *p, uint32_t number);     // somebody has a reference
// Deletes the file of a pack that nobody has a reference to; ERR_BUSY if somebody has.
int packs_remove(struct packs *p, uint32_t number);

// Any thread from here on.
struct pack *pack_ref(struct pack *k);
void pack_unref(struct pack *k); // NULL is fine
uint32_t pack_number(const struct pack *k);
// Writes at a place; may change `iov`. The file is made if it is not there yet.
int pack_write(struct pack *k, struct iovec *iov, int count, uint64_t position);
// PACK_BATCH_MAX bytes in whole pages, for one write. *many: enough others are under way that it should not wait. NULL when
// memory is exhausted.
uint8_t *packs_batch_memory(struct packs *p, bool *many);
void packs_batch_done(struct packs *p, uint8_t *batch);
// Writes a batch of `n` bytes at its place, and fills its last page up with zeros in `batch`.
int pack_write_batch(struct pack *k, uint8_t *batch, size_t n, uint64_t position);
// Writes a record whose place was given to somebody else, who may be writing it, too: not while a batch is written.
int pack_write_again(struct pack *k, struct iovec *iov, int count, uint64_t position);
// ERR_CORRUPT where the file is missing or ends before.
int pack_read(struct pack *k, void *to, size_t n, uint64_t position);
// The descriptor, which is the pack's, and stays open as long as the caller has its reference, even if the file is unlinked. ERR_CORRUPT where it is missing.
int pack_open(struct pack *k);
// The barrier for everything written so far, and for the file's name. Callers that wait for one another share it.
int pack_sync(struct pack *k);
bool pack_failed(const struct pack *k); // a barrier on it has failed

#endif
