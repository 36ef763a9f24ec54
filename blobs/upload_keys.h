// The bytes of resumable uploads on disk and in journals: keys and values of table "uploads", and the operations. No other
// file knows them. Everything begins with a format version. Integers are little endian but in keys.
//
//   table "uploads"
//      "c" (1 byte)              -> version, number of open uploads that keep chunks (UPLOAD_CHUNKS) u32
//      "n" (1 byte)              -> the same of all others
//      id (16)                   -> head, below
// Its chunks stand in pages under its id (blob_keys.h), one or more for each progress; they tile up to the head's chunks_end. When it is
// done they are the blob's.
//   head: version, state u8, offset u64, chunks_end u64, created_ms u64, changed_ms u64, created_seq u64, changed_seq u64, make; then
//            open:    digest state blob, tail u8: 0, or 1 and sha256 (32), place
//            done:    sha256 (32)
//            expired: nothing
//   make: kind u8, length u64 (all ones: unknown), ttl_ms u64, owner blob, metadata blob, type blob, link blob, parts blob
//   operation, in a batch: version, kind u8, id (16); then
//            create:   make
//            progress: from u64, at u64, manifest blob (blob_keys.h), digest state blob, tail as in a head
//            complete: sha256 (32)
//            drop, expire: nothing
//            length:   u64
//            parts:    length u64, parts blob
//   effects, in an entry, behind those of blobs: count varint (0 only where something follows), then per operation: offset and length of it in the request (varints)
#ifndef SEGUE_UPLOAD_KEYS_H
#define SEGUE_UPLOAD_KEYS_H

#include "blob_keys.h"

#define UPLOAD_FORMAT 3

// ---- the table -------------------------------------------------------------------------------------------------

struct upload_key {
    uint8_t b[16];
    size_t n;
};
struct upload_key upload_count_key(bool chunks);
struct upload_key upload_head_key(struct uuid id);
static inline struct span upload_key_span(const struct upload_key *k)
{
    return SPAN(k->b, k->n);
}
bool upload_key_is_head(struct span key, struct uuid *id);

void upload_count_encode(struct buf *out, uint32_t count);
int upload_count_decode(struct span value, uint32_t *count);

// A head in memory; its spans point into what it was read from.
struct upload_head {
    struct upload_info info; // digest: once it is done
    uint64_t chunks_end;     // the chunks' bytes; what follows up to the offset is the tail
    struct span state;       // of the running digest, at the offset; empty: at the beginning
    struct chunk tail;       // length 0: none
};
void upload_head_encode(struct buf *out, const struct upload_head *h);
int upload_head_decode(struct span value, struct upload_head *h); // all but the id. ERR_CORRUPT, ERR_VERSION

// ---- operations ------------------------------------------------------------------------------------------------

enum upload_op_kind { UPLOAD_CREATE = 1, UPLOAD_PROGRESS = 2, UPLOAD_COMPLETE = 3, UPLOAD_DROP = 4, UPLOAD_SET_LENGTH = 5, UPLOAD_EXPIRE = 6, UPLOAD_SET_PARTS = 7 };

struct upload_op {
    enum upload_op_kind kind;
    struct uuid id;
    struct upload_new make; // create
    struct {
        uint64_t from; // the offset before
        uint64_t at;   // the chunks' end before
        struct span manifest;
        struct span state;
        struct chunk tail;
    } progress;
    struct sha256 digest; // complete
    uint64_t length;      // set length, set parts
    struct span parts;    // set parts
};
void upload_op_encode(struct buf *out, const struct upload_op *op);
// Strict: whatever can be judged without the upload's head is. ERR_BAD_VALUE.
int upload_op_decode(struct span s, struct upload_op *op, struct manifest *m);

// An operation's place in the request.
struct upload_effect {
    uint64_t at, n;
};
int upload_effects_open(struct cur *c, size_t *count); // 0 where nothing is left to read. ERR_CORRUPT
int upload_effects_next(struct cur *c, struct upload_effect *e);

#endif
