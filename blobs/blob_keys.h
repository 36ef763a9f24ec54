// The bytes of this folder on disk and in journals: keys and values of both tables, manifests, effects, pack records.
// No other file knows a layout. Everything begins with a format version. Integers are little endian but in keys.
//
//   table "blobs"
//      digest (32)                  -> head: version, flags u8 (1 linked, 2 pinned, 4 its list is the commit's own), size, created_seq,
//                                      type blob (empty: TYPE_DEFAULT), pages (16) or, of such a list, its number, uploads, free_ms
//   table "blob_pages"
//      pages (16) + offset u64 be   -> page: version, then per chunk: sha256 (32), length u32
//                                      The chunks from that offset on, at most PAGE_CHUNKS. `pages`: the id of the upload that made
//                                      them, also when they are a blob's; or the commit's seq and a number, both u64 be
//   table "blob_chunks"
//      sha256 of the chunk (32)     -> version, flags u8 (the codec; 128 added: damaged), length, stored (not where the codec is raw),
//                                      pack, position / RECORD_ALIGN, references, free_ms
//                                      Numbers of both without a size are varints.
//   table "blob_life"
//      "c" + free_ms u64 be + sha256 (32) -> version: a chunk without references
//      "d" + pages (16)                   -> version: a chunk list that is swept
//      "p" + pack u32 be                  -> version, bytes of its records that live u64, how many of them are tails of open uploads u32
//      "t"                                -> version, u64: only so that a commit has something to write (blob_work.c)
//      "w" + free_ms u64 be + created_seq u64 be + digest (32) -> version: a free blob. New ones, which are the most, come in the order of these
//                                            keys and behind all others: pages that are filled at their end stay full when they are split
//   place: codec u8, length u32, stored u32, pack u32, position u64
//   manifest, in a batch: version, size u64, count u32, then per chunk: sha256 (32), place, whose codec has 128 added where the
//      chunk was known: it must be there when the manifest is decided
//   effects, in an entry: version, count varint, then per blob: digest (32), type blob, offset and length of its
//      manifest in the request (varints). Then those of uploads, if there are any (upload_keys.h); then links: count varint, digests (32);
//      then steps: count varint, then per step: offset and length of it in the request (varints); then, if there are any, blobs that no
//      row names any more: count varint, digests (32). Empty: nothing at all.
//   step, in a batch: version, kind u8, then what it is about: pin, unpin: digest (32); expire: digest (32), before_ms u64; sweep: pages (16);
//      forget: count u8, sha256s (32)
//   record, in a pack: magic u32, version u8, codec u8, zero u16, length u32, stored u32, sha256 (32), XXH3 u64 of
//      all before it and the payload; the payload; zeros up to a multiple of RECORD_ALIGN
#ifndef SEGUE_BLOB_KEYS_H
#define SEGUE_BLOB_KEYS_H

#include "blobs.h"
#include "cur.h"

#define BLOB_FORMAT 1
#define BLOB_HEAD_FORMAT 3  // of heads and chunks' entries
#define TYPE_DEFAULT "application/octet-stream"
#define PAGE_CHUNKS 224 // what fills two of the database's pages of 4 KiB
#define PAGE_ENTRY_BYTES (SHA256_BYTES + 4)
#define MANIFEST_ENTRY_BYTES (SHA256_BYTES + 1 + 4 + 4 + 4 + 8)
#define BLOB_CHUNKS_MAX (4ull * 1024 * MIB / BLOB_CHUNK_MIN + 1) // of one manifest, which is what a batch brings: a longer list comes in several
#define PLACE_BYTES (1 + 1 + 4 + 4 + 4 + 8) // of an encoded place, version included
#define RECORD_HEAD_BYTES 56
#define RECORD_ALIGN 8

enum codec { CODEC_RAW, CODEC_ZSTD };

// Where a chunk lies and how.
struct place {
    uint64_t position; // of its record in the pack
    uint32_t pack;     // from 1
    uint32_t length;   // of the chunk
    uint32_t stored;   // of the record's payload
    uint8_t codec;
};

struct chunk {
    struct sha256 sha;
    struct place place;
    bool known; // in a manifest: the index had it, nothing was written
};

// What the index knows of a chunk. Place and damage are this machine's, the rest is state.
struct chunk_entry {
    struct place place;
    uint32_t refs; // of chunk lists, each as often as it names it
    bool damaged;
    uint64_t free_ms; // since when it has none; 0: it has
};

// What lives in a pack.
struct pack_count {
    uint64_t live;  // bytes of the records that the index names, and of tails
    uint32_t tails; // of open uploads
};

// ---- tables ----------------------------------------------------------------------------------------------------

struct blob_key {
    uint8_t b[1 + 8 + 8 + SHA256_BYTES];
    size_t n;
};
struct blob_key blob_head_key(const struct sha256 *digest);
struct blob_key blob_page_key(struct uuid pages, uint64_t offset);
static inline struct span blob_key_span(const struct blob_key *k)
{
    return SPAN(k->b, k->n);
}
// Takes keys apart; false where it is none of the kind.
bool blob_key_is_head(struct span key, struct sha256 *digest);
bool blob_key_is_page(struct span key, struct uuid *pages, uint64_t *offset);
// Of a list of a commit's own.
struct uuid blob_pages_id(uint64_t seq, uint64_t number);

#define LIFE_BLOB "w"  // what the keys of free blobs begin with
#define LIFE_CHUNK "c" // and of free chunks
struct blob_key life_blob_key(const struct blob_info *info);
struct blob_key life_chunk_key(uint64_t free_ms, const struct sha256 *sha);
struct blob_key life_trash_key(struct uuid pages);
struct blob_key life_pack_key(uint32_t pack);
struct blob_key life_tick_key(void);
bool life_key_is_blob(struct span key, uint64_t *free_ms, struct sha256 *digest);
bool life_key_is_chunk(struct span key, uint64_t *free_ms, struct sha256 *sha);
bool life_key_is_trash(struct span key, struct uuid *pages);
bool life_key_is_pack(struct span key, uint32_t *pack);

void blob_head_encode(struct buf *out, const struct blob_info *info);
int blob_head_decode(struct span value, struct blob_info *info); // all but the digest. ERR_CORRUPT, ERR_VERSION

void blob_page_begin(struct buf *out);
void blob_page_put(struct buf *out, const struct sha256 *sha, uint32_t length);
// ERR_CORRUPT, ERR_VERSION; *count entries, which blob_page_at reads from the same value.
int blob_page_decode(struct span value, size_t *count);
void blob_page_at(struct span value, size_t i, struct sha256 *sha, uint32_t *length);

void blob_place_encode(struct buf *out, const struct place *place);
int blob_place_decode(struct span value, struct place *place); // ERR_CORRUPT, ERR_VERSION

void chunk_entry_encode(struct buf *out, const struct chunk_entry *e);
int chunk_entry_decode(struct span value, struct chunk_entry *e); // ERR_CORRUPT, ERR_VERSION
void pack_count_encode(struct buf *out, const struct pack_count *c);
int pack_count_decode(struct span value, struct pack_count *c); // ERR_CORRUPT, ERR_VERSION

// ---- manifests and effects -------------------------------------------------------------------------------------

struct manifest {
    uint64_t size;
    uint32_t count;
    struct span entries;
};
void blob_manifest_begin(struct buf *out, uint64_t size, uint32_t count);
void blob_manifest_put(struct buf *out, const struct chunk *chunk);
// Strict: every length and place is possible, the lengths are those of chunks and add up, nothing trails. ERR_BAD_VALUE.
int blob_manifest_decode(struct span s, struct manifest *m);
void blob_manifest_at(const struct manifest *m, uint32_t i, struct chunk *chunk);

// One stored blob of a batch.
struct blob_effect {
    struct sha256 digest;
    struct span type;
    uint64_t at, n; // its manifest in the request
};
void blob_effects_begin(struct buf *out, size_t count);
void blob_effects_put(struct buf *out, const struct blob_effect *e);
int blob_effects_open(struct cur *c, size_t *count); // ERR_CORRUPT, ERR_VERSION
int blob_effects_next(struct cur *c, struct blob_effect *e);

// ---- steps -----------------------------------------------------------------------------------------------------

enum blob_step_kind { STEP_PIN = 1, STEP_UNPIN, STEP_EXPIRE, STEP_SWEEP, STEP_FORGET };

#define STEP_FORGET_MAX 64 // chunks of one step

struct blob_step {
    enum blob_step_kind kind;
    struct sha256 digest; // pin, unpin, expire
    uint64_t before_ms;   // expire: it must have been free since then or before
    struct uuid pages;    // sweep
    struct span chunks;   // forget: digests one behind the other
};
void blob_step_encode(struct buf *out, const struct blob_step *s);
int blob_step_decode(struct span value, struct blob_step *s); // strict. ERR_BAD_VALUE

// ---- pack records ----------------------------------------------------------------------------------------------

static inline uint64_t blob_record_align(uint64_t n)
{
    return (n + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}
static inline size_t blob_record_bytes(uint32_t stored)
{
    return blob_record_align(RECORD_HEAD_BYTES + stored);
}
// Writes the head of a record and gives back its checksum.
uint64_t blob_record_encode(uint8_t head[RECORD_HEAD_BYTES], const struct chunk *chunk, struct span payload);
// Reads a head: codec, length and stored length are possible ones. The payload may be missing or damaged still. ERR_CORRUPT, ERR_VERSION
int blob_record_head_decode(struct span head, struct chunk *chunk);
// Head and payload belong together: the checksum.
bool blob_record_verify(struct span head, struct span payload);

#endif
