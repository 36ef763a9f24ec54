// What the files of this folder share and its callers do not see.
#ifndef SEGUE_BLOB_STORE_H
#define SEGUE_BLOB_STORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "blob_verified.h"
#include "chunk_table.h"
#include "upload_feed.h"
#include "upload_keys.h"

struct crew;
struct packs;
struct blob_works;

// Chunks that somebody read and found damaged, until the owner has looked at them. Any thread.
#define DAMAGE_MAX 64
struct damage_list {
    pthread_mutex_t lock;
    struct chunk list[DAMAGE_MAX]; // lock; what does not fit is found again
    size_t count;                  // lock
};

// The open readers.
struct reading {
    pthread_mutex_t lock;
    struct blob_reader *first; // lock
};

struct blobs {
    int table_blobs;
    int table_chunks;
    int table_uploads;
    int table_pages;
    int table_life;
    struct packs *packs;
    struct crew *crew; // helps uploads
    struct buf entry; // the owner's: what is being written
    struct chunk_table chunks; // the owner's
    uint32_t uploads;          // open; the owner's
    struct verified verified;  // any thread's
    atomic_uint readers;       // open; a reader may be closed on any thread
    struct reading reading;
    struct upload_feeds feeds;
    struct damage_list damage;
    struct blob_works *works; // blob_work.c
    struct buf going; // struct sha256: chunks that a step on its way forgets: nobody relies on them any more
};

// A blob that a batch makes and that was not there, or one that it brings again.
struct stored {
    struct blob_info info;
    bool again;
    bool uploaded;  // of a resumable upload: its chunks are known
    uint64_t at, n; // else: its manifest in the request
};

struct upload_change; // uploads.c

struct blobs_batch {
    struct blobs *b;
    struct db_txn *txn;
    const struct commit *commit;
    struct stored *stored;
    size_t count, room;
    struct upload_change *uploads; // those that it touches, each once
    size_t upload_count;
    int64_t uploads_opened[2]; // by it, less those it ended; of chunks beside
    struct buf upload_effects; // struct upload_effect: its operations, in order
    struct buf links;          // struct sha256: blobs that rows name for the first time
    struct buf releases;       // struct sha256: blobs that no row names any more
    struct buf steps;          // struct upload_effect
};

// The head of a blob. False where there is none, or none that can be read: then *err says why.
bool blob_head_find(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, struct blob_info *out, int *err);

// The entry of a stored chunk. ERR_NOT_FOUND where it is not stored; ERR_CORRUPT, ERR_VERSION; the transaction's error.
int chunk_entry_find(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, struct chunk_entry *out);
// Its place; ERR_CORRUPT also for one that is known to be damaged.
int chunk_place_find(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, struct place *out);

// blob_refs.c: the counts. All of it while applying, so that equal batches leave equal counts.
// One more chunk list names the chunk. Bytes that an upload brought anew take the stead of those that were there: they were synced just
// now, and the others may be damaged. ERR_CORRUPT where it was to be known and is not.
int chunk_ref(struct blobs *b, struct db_txn *txn, const struct chunk *chunk);
// Its bytes came again without a further reference.
int chunk_renew(struct blobs *b, struct db_txn *txn, const struct chunk *chunk);
// One less; the last one leaves it free since `now_ms`.
int chunk_unref(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, uint64_t now_ms);
// Takes the entry of a free chunk out. Nothing where it is not free, or not there.
int chunk_forget(struct blobs *b, struct db_txn *txn, const struct sha256 *sha);
// Writes an entry that has changed in what is the machine's alone: place and damage.
int chunk_entry_move(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, const struct chunk_entry *was, const struct chunk_entry *is);
// The tail of an upload begins to count (+1), or no longer does (-1). Nothing for one of length 0.
int tail_count(struct blobs *b, struct db_txn *txn, const struct chunk *tail, int by);
int pack_count_find(struct blobs *b, struct db_txn *txn, uint32_t pack, struct pack_count *out); // zeros where nothing lives in it
// `was`: NULL where there is none; `is`: NULL takes it out. Keeps the counts of packs and the list of free chunks.
int chunk_entry_put(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, const struct chunk_entry *was, const struct chunk_entry *is);
// Every chunk that the manifest calls known is there: ERR_NOT_FOUND. And what the index has of any can be read: ERR_CORRUPT
int manifest_check_known(struct blobs *b, struct db_txn *txn, const struct manifest *m);

// blob_work.c
int works_open(struct blobs *b);
void works_close(struct blobs *b);
// Owner: the chunk at that very place is damaged, or is not any more. True: the index was changed.
bool chunk_mark(struct blobs *b, struct db_txn *txn, const struct chunk *chunk, bool damaged, int *err);
void damage_note(struct blobs *b, const struct chunk *chunk); // any thread

// blob_reader.c: somebody reads along this chunk list, which is not swept before they are through.
bool pages_are_read(struct blobs *b, struct uuid pages);

// blob_life.c
void life_decide_effects(struct blobs_batch *d, struct buf *effects);
int life_apply(struct blobs *b, struct db_txn *txn, const struct commit *c, struct cur *effects);
// The blob's references have changed: it becomes free, or no longer is. Puts the head.
int blob_settle(struct blobs *b, struct db_txn *txn, struct blob_info *info, uint64_t now_ms);
bool chunk_is_going(const struct blobs *b, const struct sha256 *sha);
// A chunk list that nobody names any more: swept in steps.
void pages_discard(struct blobs *b, struct db_txn *txn, struct uuid pages);
bool pages_exist(struct blobs *b, struct db_txn *txn, struct uuid pages);

// blob_apply.c: what uploads.c shares.
// Adds a blob to those that the batch makes, unless it is there.
int blob_batch_add(struct blobs_batch *d, const struct stored *s, struct problem *p);
int blob_set_type(struct blob_info *info, struct span type, struct problem *p);
void blob_apply_head(struct blobs *b, struct db_txn *txn, const struct blob_info *info, struct buf *scratch);
// Makes the page of the chunks from `first` on, and moves *offset behind them.
void blob_page_build(struct buf *page, const struct manifest *m, uint32_t first, uint64_t *offset);

// uploads.c
bool upload_head_find(struct blobs *b, struct db_txn *txn, struct uuid id, struct upload_head *out, int *err);
// The upload is open, and its tail lies at this very place. Else false, and *err where it cannot be read.
bool upload_tail_is(struct blobs *b, struct db_txn *txn, struct uuid id, const struct place *at, struct upload_head *out, int *err);
// The head names where the tail's bytes are now. Nothing where the upload has gone on meanwhile. No state: places are this machine's.
int upload_tail_move(struct blobs *b, struct db_txn *txn, struct uuid id, const struct place *from, const struct place *to);
void uploads_batch_free(struct blobs_batch *d);
void uploads_decide_effects(struct blobs_batch *d, struct buf *effects);
int uploads_apply(struct blobs *b, struct db_txn *txn, const struct commit *c, struct cur *effects);
int uploads_hash(struct blobs *b, struct db_txn *txn, struct digest *d);
// Reads back every open upload. ERR_CORRUPT, logged, where one is not what its offset promises.
int uploads_check(struct blobs *b, struct db_txn *txn);

// Reads a chunk into `content`, which it replaces, and verifies it; `scratch` is for the record, head and payload as they lie. ERR_CORRUPT
// is logged with the place. Any thread.
int chunk_read(struct blobs *b, const struct chunk *chunk, struct buf *scratch, struct buf *content);

#endif
