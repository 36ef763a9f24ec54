// Content-addressed blobs of one app. This header is the table of contents of the folder.
//
// A blob is immutable bytes named by the SHA-256 of their content, cut by FastCDC into chunks; equal chunks are stored once, in
// append-only pack files. An upload goes through stages so that hashing and writing happen off the owner's thread:
//
//      owner: blobs_upload_open
//      pool:  blobs_upload_chunk  (cut and hash a window of bytes)
//      owner: blobs_upload_place  (look the chunks up, give the unknown ones a place)
//      pool:  blobs_upload_write  (write them)                         … repeated per window
//      pool:  blobs_upload_sync   (the last window, then one barrier)
//      owner: blobs_upload_manifest -> a batch with a blob operation -> blobs_decide … apply
//
// One stage of an upload at a time; different uploads in parallel. A blob exists from its commit on, whose entry holds the manifest.
#ifndef SEGUE_BLOBS_H
#define SEGUE_BLOBS_H

#include "buf.h"
#include "commit.h"
#include "digest.h"
#include "limits.h"
#include "problem.h"
#include "uuid.h"

struct db;
struct db_txn;
struct feed_sub;
struct blobs;

// Heads by digest, places and reference counts by chunk hash, uploads by id, chunk lists in pages, what is to be reclaimed.
#define BLOBS_TABLES "blobs", "blob_chunks", "uploads", "blob_pages", "blob_life"
#define BLOBS_TABLE_COUNT 5

struct blobs_options {
    int first_table;
    const char *path; // folder of the pack files; made where it is missing
    uint64_t pack_bytes; // of one pack; 0: BLOB_PACK_BYTES
};

// Pack bytes behind the last place that a commit in the database or journal names are garbage of broken uploads; they are left or cut, never trusted.
int blobs_open(struct blobs **out, const struct blobs_options *options, struct db_txn *txn);
void blobs_close(struct blobs *b); // no upload, no reader and no subscription is open; NULL is fine

// ---- chunking (also for clients: published and versioned, see README.md) --------------------------------------------

// Length of the first chunk of `s`: the cut rule of FastCDC (Xia et al., USENIX ATC 2016), normalisation level 1, at BLOB_CHUNK_MIN/AVG/MAX. If fewer than BLOB_CHUNK_MAX bytes are
// given and no cut is found, s.n: the caller knows whether more is to come. Pure; any thread.
size_t blobs_cut(struct span s);

// ---- looking -------------------------------------------------------------------------------------------------------

struct blob_info {
    struct sha256 digest;
    uint64_t size;
    uint64_t created_seq;
    char type[STREAM_TYPE_MAX + 1]; // the content type its upload named; "application/octet-stream" if none
    struct uuid pages;              // under which its chunk list lies
    bool linked;                    // some version of a row, as far back as history goes, names it
    bool pinned;
    uint32_t uploads; // that are done and made it, or found it there; and those that are being joined of it
    uint64_t free_ms; // since when none of these keeps it; 0: one does
};

bool blobs_find(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, struct blob_info *out);
// The same, with a reason: ERR_NO_SUCH_BLOB; ERR_CORRUPT: there is something that cannot be read.
int blobs_look(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, struct blob_info *out);

// A reader over a byte range. It holds no transaction between calls, but the files of what is planned: a chunk that moves is still read where
// it was found; and the chunk list of a blob, which is not swept before all its readers are closed. After an error it can only be closed.
//
//      owner: blobs_reader_next ─> blobs_reader_piece … while it gives something
//                                  else, if something is planned: any thread: blobs_reader_read, which takes all that is planned
//      … until blobs_reader_done
//
// A chunk is verified when it is read first after a start; then its bytes may leave as they lie.
struct blob_reader;
int blobs_reader_open(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, uint64_t offset, uint64_t length, struct blob_reader **out);
// Of a resumable upload, done or not: ends with it if `length` is UINT64_MAX. ERR_NO_SUCH_UPLOAD, also from next where it was dropped.
int blobs_reader_open_upload(struct blobs *b, struct db_txn *txn, struct uuid id, uint64_t offset, uint64_t length, struct blob_reader **out);
// Owner, with nothing planned: looks the next chunks' places up (about `budget` bytes). An upload's may be nothing yet.
int blobs_reader_next(struct blob_reader *r, struct db_txn *txn, size_t budget);
bool blobs_reader_planned(const struct blob_reader *r);
bool blobs_reader_done(const struct blob_reader *r); // the range is through
// From now on pieces and reads are zstd frames, one for each chunk. Before anything is given out, and at chunks' edges: the whole blob.
void blobs_reader_code(struct blob_reader *r);
// The first chunk that is planned is stored packed, so that a coded answer is one that goes as it lies.
bool blobs_reader_packed(const struct blob_reader *r);

// Bytes as they lie: the caller's reference to some in memory, or else the caller's descriptor of a file that has them.
struct blob_piece {
    struct bytes *bytes;
    int fd;
    uint64_t position;
    size_t n;
};
// Owner: what is next in the plan, if it was verified, lies as it is wanted and is in the kernel's memory, so that nothing waits for the disk. 1: *out;
// 0: it has to be read, or nothing is planned; negative: ERR_NOMEM, ERR_IO.
int blobs_reader_piece(struct blob_reader *r, struct blob_piece *out);
// Owner: something is planned, and the next of it would be such a piece but for the kernel's memory.
bool blobs_reader_verified(const struct blob_reader *r);
int blobs_reader_read(struct blob_reader *r, struct buf *out); // ERR_CORRUPT: a chunk does not match its hash, logged with its place
void blobs_reader_close(struct blob_reader *r);                // NULL is fine

// ---- uploading -----------------------------------------------------------------------------------------------------

struct blob_upload;
int blobs_upload_open(struct blobs *b, struct blob_upload **out); // ERR_TOO_MANY beyond UPLOADS_MAX
// Pool: takes `data` (copied, at most BLOB_WINDOW) behind what came before; `last`: nothing follows. ERR_TOO_LARGE beyond BLOB_BYTES_MAX.
int blobs_upload_chunk(struct blob_upload *u, struct span data, bool last);
// Instead of it, of an upload of chunks that were cut elsewhere: takes as many of them as a window has room for, *taken; behind the last of them
// comes the barrier. ERR_CHECKSUM: one is not what its hash says.
struct blob_given {
    struct sha256 sha;
    struct span content; // 1 to BLOB_CHUNK_MAX bytes
};
int blobs_upload_give(struct blob_upload *u, const struct blob_given *given, size_t count, size_t *taken);
int blobs_upload_place(struct blob_upload *u, struct db_txn *txn);
int blobs_upload_write(struct blob_upload *u);
int blobs_upload_sync(struct blob_upload *u); // every pack file that this upload relies on, also for chunks that another upload wrote
// Owner: the digest and size of the whole, and the encoded manifest that goes into the batch. Its error is ERR_BUSY where a chunk that was known was
// found damaged meanwhile: the same bytes sent again repair it. So is that of a progress.
void blobs_upload_result(struct blob_upload *u, struct sha256 *digest, uint64_t *size, struct buf *manifest);
// It stored bytes that were not there, or were damaged: then its batch is worth making even if the blob exists. So it is for a free blob,
// whose grace begins anew.
bool blobs_upload_brought(const struct blob_upload *u);
void blobs_upload_close(struct blob_upload *u); // any outcome; NULL is fine

// ---- resumable uploads ---------------------------------------------------------------------------------------------
//
// A resumable upload is state like any other: made, moved forward, completed and dropped by operations in batches. Its
// offset is that of its last committed progress, and every byte before it is durable. What goes through the stages:
//
//      owner: blobs_upload_resume ─> pool: blobs_upload_load ─> windows as above, and from time to time one that ends in a pause:
//             blobs_upload_pause, chunk … write, blobs_upload_sync ─> owner: blobs_upload_progress -> a batch -> blobs_upload_kept
//      or the last one:    chunk(last) … sync ─> blobs_upload_progress and blobs_upload_complete -> one batch: the blob is there
//
// The bytes behind the last cut are written as a record of their own (at most one chunk's worth in a pause), and read back by load.

// One whose time is over has no bytes any more, and is remembered as long again.
enum upload_state { UPLOAD_OPEN = 1, UPLOAD_DONE = 2, UPLOAD_EXPIRED = 3 };


enum upload_kind {
    UPLOAD_WHOLE,   // becomes a blob
    UPLOAD_PARTIAL, // becomes one that is a part of another
    UPLOAD_JOINED,  // is made of others: its progress is made by blobs_join_*
    UPLOAD_ONCE,    // the body of one request, which nobody goes on with
    UPLOAD_CHUNKS,  // chunks that a client cut, in any order: it keeps them until a blob names them, and is never done
};

#define UPLOAD_OWNER_MAX 80
#define UPLOAD_LINK_MAX 200
#define UPLOAD_LENGTH_UNKNOWN UINT64_MAX
#define UPLOAD_PART_BYTES (16 + SHA256_BYTES)

// What an upload is made with. Printable ASCII but for the owner, which is the service's own bytes.
struct upload_new {
    enum upload_kind kind;
    uint64_t length;      // or unknown
    uint64_t ttl_ms;      // it expires this long after its last change; 0: never
    struct span parts;    // of a joined one, UPLOAD_PART_BYTES each: id (16) and digest of an upload that is done, in their order; while one is not done, zeros in
                          // its digest's stead, and the length is unknown
    struct span owner;
    struct span metadata; // as the client gave it
    struct span type;     // of the blob; empty: not said
    struct span link;     // where the blob goes when it is done, in the service's own words; may be empty
};

struct upload_info {
    struct uuid id;
    enum upload_state state;
    struct upload_new made;
    uint64_t offset;
    uint64_t created_ms, changed_ms, created_seq, changed_seq;
    struct sha256 digest; // of one that is done
};

// Its spans live until the next write in the transaction.
bool blobs_upload_find(struct blobs *b, struct db_txn *txn, struct uuid id, struct upload_info *out);
// How many are not done: of UPLOAD_CHUNKS, which are many and small, or of all others.
uint32_t blobs_uploads_open(struct blobs *b, struct db_txn *txn, bool chunks);
// Is its time over? It is treated so from then on, whether or not somebody has come by to say so in a batch.
static inline bool blobs_upload_past(const struct upload_info *i, uint64_t now_ms)
{
    return i->state == UPLOAD_EXPIRED || (i->made.ttl_ms > 0 && now_ms >= i->changed_ms + i->made.ttl_ms);
}
// Calls `fn` for the `max` uploads behind *cursor, in the order of ids, and moves it; begins anew behind the last. The info is as with find.
int blobs_uploads_scan(struct blobs *b, struct db_txn *txn, struct uuid *cursor, size_t max, void (*fn)(void *ctx, const struct upload_info *i), void *ctx);

// The operations that need no stages, encoded for a batch.
void blobs_upload_put_create(struct buf *op, struct uuid id, const struct upload_new *make);
void blobs_upload_put_complete(struct buf *op, struct uuid id, const struct sha256 *digest);
void blobs_upload_put_drop(struct buf *op, struct uuid id);
void blobs_upload_put_length(struct buf *op, struct uuid id, uint64_t length); // it was unknown
// Of a joined one that was made before all its parts were done, as they are now: the same ids, every digest, and the sum of their sizes.
void blobs_upload_put_parts(struct buf *op, struct uuid id, uint64_t length, struct span parts);
// One whose time is over loses its bytes, or is forgotten where it had none; nothing happens to others.
void blobs_upload_put_expire(struct buf *op, struct uuid id);

// Owner: goes on where the upload's last progress ended. ERR_NO_SUCH_UPLOAD, ERR_EXISTS (it is done), ERR_TOO_MANY.
int blobs_upload_resume(struct blobs *b, struct db_txn *txn, struct uuid id, struct blob_upload **out);
// One from blobs_upload_open becomes a resumable one, of which no progress was made yet: the batch of its first one creates it, if none did before.
void blobs_upload_adopt(struct blob_upload *u, struct uuid id);
// The same, and nobody will go on with it but this one: a progress tells of whole chunks alone, and no bytes are written twice (where both digests are
// made in one pass; else it has tails as well).
void blobs_upload_adopt_once(struct blob_upload *u, struct uuid id);
// Pool: after resume, before the first window.
int blobs_upload_load(struct blob_upload *u);
// Between two windows, from the place of the one before on: the next one ends in a pause; its sync makes all bytes so far durable.
void blobs_upload_pause(struct blob_upload *u);
// Owner, behind a sync: the operation that moves the offset; nothing (op stays empty) where no byte has come since the last.
void blobs_upload_progress(struct blob_upload *u, struct buf *op);
// Owner, behind the last sync: the operation that makes it a blob, for behind the progress in the same batch.
void blobs_upload_complete(struct blob_upload *u, struct buf *op, struct sha256 *digest);
// Owner: that operation was committed; the upload goes on.
void blobs_upload_kept(struct blob_upload *u);
uint64_t blobs_upload_size(const struct blob_upload *u); // bytes taken so far

// A joined upload goes forward by steps of its own (blob_join.c): owner: open ─> { next ─> pool: read ─> owner: progress into a
// batch, with complete behind the last one's ─> kept } …
struct blob_join;
#define BLOB_JOIN_CHUNKS 1024                                                                               // of one step
// ERR_NO_SUCH_UPLOAD, ERR_EXISTS (it is done, or no such one), ERR_BUSY (a part is not done).
int blobs_join_open(struct blobs *b, struct db_txn *txn, struct uuid id, struct blob_join **out);
// Of an UPLOAD_ONCE that lists stored chunks: `list` has BLOB_LISTED_BYTES for each, its hash and its length (4, little-endian), and stays the caller's
// until close; `length` is the sum. The upload need not exist yet.
#define BLOB_LISTED_BYTES (SHA256_BYTES + 4)
int blobs_join_open_listed(struct blobs *b, struct uuid id, uint64_t length, struct span list, struct blob_join **out);
// Of an upload that is there, and whose bytes may come by lists, too: what follows `offset`, at which it must be (ERR_UPLOAD_OFFSET), a page of the list of all; `bytes`
// is the sum of its lengths. ERR_BAD_VALUE: it is longer than what is missing, the upload's length is not said, or the last bytes that were sent are no chunk yet.
int blobs_join_open_page(struct blobs *b, struct db_txn *txn, struct uuid id, uint64_t offset, uint64_t bytes, struct span list, struct blob_join **out);
bool blobs_join_listed(const struct blob_join *j); // nothing of the list is left
// ERR_NOT_FOUND: a listed chunk is not stored, or is damaged; ERR_BAD_VALUE: it has another length.
int blobs_join_next(struct blob_join *j, struct db_txn *txn);
int blobs_join_read(struct blob_join *j); // ERR_CORRUPT: a chunk does not match its hash
void blobs_join_progress(struct blob_join *j, struct buf *op); // nothing, where all is empty
bool blobs_join_last(const struct blob_join *j);               // this step is the last
uint64_t blobs_join_bytes(const struct blob_join *j);          // of this step
void blobs_join_complete(struct blob_join *j, struct buf *op, struct sha256 *digest);
void blobs_join_kept(struct blob_join *j);
void blobs_join_close(struct blob_join *j); // NULL is fine
// Is there a chunk of this hash, undamaged? One that no list names may be gone soon.
bool blobs_chunk_stored(struct blobs *b, struct db_txn *txn, const struct sha256 *sha);

// A feed of an upload's state, which emits {"offset":n,"length":m}, {"done":true,"blob":digest} or {"deleted":true}: the newest
// one that a range covers. Of one that does not exist: nothing, or {"deleted":true} to a reader that resumes.
int blobs_attach_upload(struct blobs *b, struct db_txn *txn, struct uuid id, bool resume, struct feed_sub **out);
// Everything applied up to `seq` is durable: readers are woken.
void blobs_publish(struct blobs *b, uint64_t seq);

// ---- deciding and applying -----------------------------------------------------------------------------------------

// The blob part of one batch: blobs it stores can be linked later in the same batch.
struct blobs_batch;
struct blobs_batch *blobs_decide(struct blobs *b, struct db_txn *txn, const struct commit *c); // NULL: no memory
void blobs_batch_free(struct blobs_batch *d);
// A finished upload's manifest, which lies inside c->request. A blob that exists already is no error and no change.
int blobs_decide_store(struct blobs_batch *d, const struct sha256 *digest, struct span type, struct span manifest, struct problem *p);
// The blob as the batch would leave it; false: not stored.
bool blobs_decide_find(struct blobs_batch *d, const struct sha256 *digest, struct blob_info *out);
// An operation on a resumable upload, which lies inside c->request. A blob that it completes can be linked later in the same batch.
int blobs_decide_upload(struct blobs_batch *d, struct span op, struct problem *p);
// A row is to name this blob. ERR_BLOB_NOT_FOUND
int blobs_decide_link(struct blobs_batch *d, const struct sha256 *digest, struct problem *p);
// No version of any row names it any more.
int blobs_decide_release(struct blobs_batch *d, const struct sha256 *digest, struct problem *p);
// A step in a blob's life (below), which lies inside c->request.
int blobs_decide_step(struct blobs_batch *d, struct span step, struct problem *p);
void blobs_decide_effects(struct blobs_batch *d, struct buf *effects);
int blobs_apply(struct blobs *b, struct db_txn *txn, const struct commit *c, struct span effects);

// ---- life ----------------------------------------------------------------------------------------------------------
//
// A blob lives while a row has named it, while it is pinned, while an upload that made it is remembered, and while one is joined of it. Without any of these it is
// free, and goes after a grace time. Everything that ends something is a step in a batch of the service, and small:
//
//      blob, free ──grace──> expire: the head goes, its chunk list is trash ──> sweep: a few pages of it, each chunk one reference less
//           chunk without references, that no upload under way relies on ──> forget: its index entry goes, its bytes are garbage
//
// What becomes of garbage is no state: see blobs_work_plan.

// Pins a blob, or lets it go.
void blobs_step_put_pin(struct buf *step, const struct sha256 *digest, bool pinned);
// Owner: a step that is due: the 0th sweeps, the 1st forgets chunks, the nth ends the (n-2)th blob whose grace is over. All of these fit into one
// batch, and one batch is on its way at a time: to ask again is to say that the one before is decided. False: there is no nth.
bool blobs_step_due(struct blobs *b, struct db_txn *txn, uint64_t now_ms, uint64_t grace_ms, size_t n, struct buf *step);

// Garbage is what packs hold and the index does not name. Where it is more than half of a pack, what lives is copied to where new records go,
// synced, and the index is moved there; the file goes when no place in it can come back: two commits of the database later. Nothing
// of this is state. The work is done in small pieces, one at a time:
//
//      owner: blobs_work_plan ─> pool: blobs_work_run ─> owner: blobs_work_done
//
// So is the scrub, which reads every chunk again and again, as fast as it may.
struct blobs_pace {
    uint64_t compact_bytes_s, scrub_bytes_s; // 0: not at all
    bool no_copies; // there is no room for any: only files in which nothing lives are looked for
};
struct blobs_work;
struct blobs_work *blobs_work_plan(struct blobs *b, struct db_txn *txn, const struct blobs_pace *pace, uint64_t now_ms); // NULL: nothing to do now
void blobs_work_run(struct blobs_work *w);
// Frees it. `txn`: NULL when the store is about to go. True: something was written.
bool blobs_work_done(struct blobs *b, struct db_txn *txn, struct blobs_work *w);
// Owner, from time to time: what readers found damaged is remembered, files without anything that lives are deleted. True: something was written.
bool blobs_tend(struct blobs *b, struct db_txn *txn);
bool blobs_tending(const struct blobs *b); // call it soon
void blobs_committed(struct blobs *b); // the database was committed

// ---- checks --------------------------------------------------------------------------------------------------------

// Feeds the logical state (heads, chunk lists, which chunks there are and how often they are named; not where they lie, nor whether they are
// damaged) into `d`, in one order.
int blobs_hash(struct blobs *b, struct db_txn *txn, struct digest *d);
// Reads and verifies every chunk of every blob and upload; logs each that fails. Returns ERR_CORRUPT if any did; *checked counts blobs.
int blobs_check(struct blobs *b, struct db_txn *txn, uint64_t *checked);
// The check of a store at work, in pieces: every chunk is read and verified, then counts and lists are compared.
//
//      owner: blobs_audit_plan ─> pool: blobs_audit_run ─> owner: blobs_audit_done     … until plan returns false
//      pool, in a transaction that reads: blobs_audit_finish
struct blobs_audit;
struct blobs_damage {
    struct sha256 chunk;
    uint32_t pack, length;
    uint64_t position;
};
struct blobs_usage {
    uint64_t blobs, logical;    // all blobs and their bytes
    uint64_t chunks, content;   // all chunks that are referred to, and their bytes: each once
    uint64_t stored;            // bytes of their records
    uint64_t files;             // of all packs; what is not stored is garbage
};
#define BLOBS_DAMAGE_MAX 1000 // that are told one by one
int blobs_audit_open(struct blobs *b, struct blobs_audit **out);
bool blobs_audit_plan(struct blobs_audit *a, struct db_txn *txn, size_t bytes_max); // false: all have been read
void blobs_audit_run(struct blobs_audit *a);
// *err: what ended the check, or 0. True: something was written.
bool blobs_audit_done(struct blobs_audit *a, struct db_txn *txn, int *err);
// `user` is called for each blob that has damaged chunks. *wrong: see blobs_mark.
typedef void blobs_damage_user(void *ctx, const struct sha256 *blob, const struct blobs_damage *d, uint64_t offset);
int blobs_audit_finish(struct blobs_audit *a, struct db_txn *txn, uint64_t *wrong, blobs_damage_user *user, void *ctx);
uint64_t blobs_audit_damage(const struct blobs_audit *a, const struct blobs_damage **list, size_t *listed); // how many chunks
void blobs_audit_counts(const struct blobs_audit *a, uint64_t *chunks, uint64_t *bytes);                    // that were read
void blobs_audit_close(struct blobs_audit *a); // NULL is fine
// Any transaction, any thread that may read through it. out->files is the caller's (blobs_pack_bytes is the owner's).
int blobs_usage(struct blobs *b, struct db_txn *txn, struct blobs_usage *out);

// Looks at every entry of the index, and at the lists: *damaged counts those that cannot be read, or lack something. `user` is called for each that has a
// name; it may be NULL. As with blobs_mark.
typedef void blobs_index_user(void *ctx, const char *table, struct span key);
int blobs_index_check(struct blobs *b, struct db_txn *txn, uint64_t *damaged, blobs_index_user *user, void *ctx);

// Owner, before anything else is done: makes the index of chunks anew, from the chunk lists and the records of the packs, which are all read. What it
// does not bring back: heads and chunk lists that are damaged themselves.
struct blobs_rebuilt {
    uint64_t placed;  // chunks whose record was found
    uint64_t missing; // that are named, and have none: damaged, until the same bytes come again
};
int blobs_rebuild(struct blobs *b, struct db_txn *txn, struct blobs_rebuilt *out);

// Compares the counts of references, of free chunks and of what lives in packs with what lists and uploads say; logs each difference. Any
// transaction, any thread that may read through it.
int blobs_mark(struct blobs *b, struct db_txn *txn, uint64_t *wrong);
uint64_t blobs_pack_bytes(const struct blobs *b);

#endif
