// Sealed bytes: records in segment files. A record holds parts, each a run of one stream's bytes: a long stream fills records of its
// own, many short ones share one, so that they are compressed together. Writing a record is pure (into a buffer).
//
// A record, all integers little endian, at a multiple of 8 in its file:
//
//     0 checksum(8)  XXH3 over all that follows, seeded by file and position: a record elsewhere is no record
//     8 magic(4) version(1) codec(1) flags(2)
//    16 raw length(4) stored length(4) of the payload
//    24 raw length(4) stored length(4) of the directory
//    32 part count(4) zero(4)
//    40 directory, with flag 1 a zstd frame; three columns, all varints:
//         per part: number, first offset, raw length, append count, cut (0, 1), bytes it takes of each further column,
//                   seq of its first append; numbers and seqs as signed differences to the part before
//         lengths: per append, where it ends since the one before, or since the first offset
//         seqs:    per append, its seq since the one before, or since the part's first
//       payload: the parts' bytes one after the other; codec 0 stores them as they are, codec 1 as one zstd frame
//       zeroes up to a multiple of 8
//
// With `cut` a part's last append goes on in the stream's next part, and its boundary here is where this one ends.
// Boundaries are read without unpacking the payload. Thread: any; each value is used by one at a time.
#ifndef SEGUE_STREAM_SEGMENT_H
#define SEGUE_STREAM_SEGMENT_H

#include "buf.h"
#include "cur.h"
#include "stream_keys.h"

#define SEGMENT_RAW_MAX (1 * MIB)     // stream bytes in a record
#define SEGMENT_SHARED_RAW (64 * KIB) // parts smaller than this share records of about this size: larger ones compress no better
#define SEGMENT_BOUNDS_MAX (16 * KIB) // appends of a part
#define SEGMENT_PARTS_MAX 4096u       // in a record
#define SEGMENT_SECTOR 512u           // a job begins at a multiple of it: what is synced is never written to again
#define SEGMENT_HEAD 40u
#define SEGMENT_DIRECTORY_MAX (4 * MIB)
#define SEGMENT_TOTAL_MAX (SEGMENT_HEAD + SEGMENT_DIRECTORY_MAX + SEGMENT_RAW_MAX + 8u)
#define SEGMENT_NAME_MAX 4096

enum segment_codec { SEGMENT_PLAIN = 0, SEGMENT_ZSTD = 1 };

// ---- writing -------------------------------------------------------------------------------------------------------

// A record in the making. Carries its error.
struct segment_writer {
    struct buf payload, table, lengths, seqs, work;
    uint32_t parts;
    uint64_t last_number, last_seq; // of the part before
    uint64_t number, first, end, first_seq, seq;
    uint32_t count;
    size_t payload_at, lengths_at, seqs_at;
};

void stream_segment_writer_init(struct segment_writer *w);
void stream_segment_writer_free(struct segment_writer *w);
// Begins a part; then its bytes and its boundaries (at least one; ends and seqs ascend), in any interleaving; then its end, asserted to be
// where its bytes end.
void stream_segment_part_begin(struct segment_writer *w, uint64_t number, uint64_t first);
void stream_segment_part_bytes(struct segment_writer *w, struct span s);
void stream_segment_part_append(struct segment_writer *w, uint64_t end, uint64_t seq);
void stream_segment_part_end(struct segment_writer *w, bool cut);
static inline size_t stream_segment_raw(const struct segment_writer *w)
{
    return w->payload.n;
}
// Appends the record of all parts, which will be written to `file` at `start` + out->n as of now, and empties the writer. 0, or an
// error (also out's).
int stream_segment_encode(struct segment_writer *w, struct buf *out, uint32_t file, uint64_t start);

// The path of a segment file.
void stream_segment_name(char out[SEGMENT_NAME_MAX], const char *folder, uint32_t file);
// Writes and syncs `bytes` at `position`; a position of 0 makes the file anew. After a failure the file is as long as before, or gone.
int stream_segment_write(const char *folder, uint32_t file, uint64_t position, struct span bytes);
// Takes such a write back.
void stream_segment_cut(const char *folder, uint32_t file, uint64_t position);

// ---- reading -------------------------------------------------------------------------------------------------------

// A record that has been verified; views the bytes it was made of.
struct segment_block {
    uint8_t codec;
    bool packed; // the directory
    uint32_t parts;
    uint32_t raw, directory_raw; // unpacked lengths
    struct span directory, payload; // as stored
};

// One part of it.
struct segment_record {
    uint64_t number, first;
    uint32_t raw;
    bool cut; // the last append goes on in the next part
    uint32_t bound_count;
    uint64_t first_seq;
    struct span lengths, seqs;
    size_t at;           // of its bytes in the unpacked payload
    struct span payload; // its bytes; set by stream_segments_read alone
};

// The bytes of a record from its head: how long it is in the file. ERR_CORRUPT for no head.
int stream_segment_length(struct span head, uint32_t *total);
// ERR_CORRUPT unless `bytes` is the whole record of that file and position; ERR_VERSION for another format.
int stream_segment_decode(struct span bytes, uint32_t file, uint64_t position, struct segment_block *out);
// The unpacked directory or payload: a view of the stored one, or of `room`, where it was unpacked to.
int stream_segment_directory(const struct segment_block *b, struct buf *room, struct span *out);
int stream_segment_payload(const struct segment_block *b, struct buf *room, struct span *out);

// Walks the parts of an unpacked directory. `err` tells why it ended.
struct segment_parts {
    struct cur c;
    struct cur lengths, seqs;
    uint32_t left;
    size_t at;
    uint32_t raw;
    uint64_t number, first_seq;
    int err;
};
void stream_segment_parts_init(struct segment_parts *p, const struct segment_block *b, struct span directory);
bool stream_segment_parts_next(struct segment_parts *p, struct segment_record *out);

// Walks the boundaries: true while there is one more, with its `end` and `seq`.
struct segment_bounds {
    struct cur lengths, seqs;
    uint32_t left;
    uint64_t end, seq, limit;
};
void stream_segment_bounds_init(struct segment_bounds *b, const struct segment_record *r);
bool stream_segment_bounds_next(struct segment_bounds *b);
static inline int stream_segment_bounds_err(const struct segment_bounds *b)
{
    return b->lengths.err != 0 ? b->lengths.err : b->seqs.err;
}

#endif
