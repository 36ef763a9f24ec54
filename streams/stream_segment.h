// Sealed bytes: records in segment files. Writing a record is pure (into a buffer); reading goes through a few open files
// and a few verified records that are kept, so that small reads in a row do not read the same record again and again.
//
// A record, all integers little endian, at a multiple of 8 in its file:
//
//     0 checksum(8)  XXH3 over all that follows, seeded by file and position: a record elsewhere is no record
//     8 magic(4) version(1) codec(1) flags(2)
//    16 stream number(8)
//    24 first offset(8)
//    32 raw length(4) stored length(4)
//    40 boundary count(4) boundary bytes(4)
//    48 boundaries, each two varints: the append's end since the one before (or the first offset), its seq since the one before (or 0)
//       payload: the stream's bytes; codec 0 stores them as they are
//       zeroes up to a multiple of 8
//
// With flag 1 the last append goes on in the stream's next record, and its boundary here is where this one ends.
// Thread: the owner, but for stream_segment_encode, stream_segment_name and stream_segment_write.
#ifndef SEGUE_STREAM_SEGMENT_H
#define SEGUE_STREAM_SEGMENT_H

#include "buf.h"
#include "cur.h"
#include "stream_keys.h"
#include "stream_tail.h"

#define SEGMENT_RAW_MAX (1 * MIB)     // stream bytes in a record
#define SEGMENT_BOUNDS_MAX (16 * KIB) // and appends
#define SEGMENT_SECTOR 512u           // a job begins at a multiple of it: what is synced is never written to again
#define SEGMENT_NAME_MAX 4096

struct segment_record {
    uint64_t number, first;
    uint32_t raw;
    bool cut; // the last append goes on in the next record
    uint32_t bound_count;
    struct span bounds; // encoded
    struct span payload;
};

// What becomes one record.
struct segment_source {
    uint64_t number, first;
    uint32_t raw;
    bool cut;
    const struct boundary *bounds; // of appends that end in it; the last one may end behind it, if `cut`
    uint32_t bound_count;
    const struct tail_piece *pieces;
    size_t piece_count;
};

// Appends the record; `out` will be written to `file` at `start`. `out` carries the error.
void stream_segment_encode(struct buf *out, const struct segment_source *src, uint32_t file, uint64_t start);
// The record in `bytes`, which views them; ERR_CORRUPT unless it is the one that `number` and `ix` mean, whole.
int stream_segment_decode(struct span bytes, uint64_t number, const struct stream_index *ix, struct segment_record *out);

// Walks the boundaries: true while there is one more, with its `end` and `seq`.
struct segment_bounds {
    struct cur c;
    uint32_t left;
    uint64_t end, seq, limit;
};
void stream_segment_bounds_init(struct segment_bounds *b, const struct segment_record *r);
bool stream_segment_bounds_next(struct segment_bounds *b);

// The path of a segment file.
void stream_segment_name(char out[SEGMENT_NAME_MAX], const char *folder, uint32_t file);
// Writes and syncs `bytes` at `position`; a position of 0 makes the file anew. After a failure the file is as long as before, or gone.
int stream_segment_write(const char *folder, uint32_t file, uint64_t position, struct span bytes);
// Takes such a write back.
void stream_segment_cut(const char *folder, uint32_t file, uint64_t position);

#define SEGMENT_FILES 8   // open for reading
#define SEGMENT_RECORDS 4 // verified and kept

struct segment_file {
    int fd; // -1: unused
    uint32_t file;
    uint64_t used;
};

struct segment_kept {
    uint32_t file;
    uint64_t position;
    uint64_t used;
    struct buf bytes; // empty: unused
    struct segment_record record;
};

struct segments {
    char *folder;
    uint64_t tick;
    struct segment_file files[SEGMENT_FILES];
    struct segment_kept kept[SEGMENT_RECORDS];
};

// Makes the folder; cuts the file that is written to back to `a->position` and removes later ones: nothing indexes them. Where the
// file is shorter than that (sealed bytes are lost, which is logged), `a` moves on to the next file.
int stream_segments_open(struct segments *g, const char *folder, struct stream_alloc *a);
void stream_segments_close(struct segments *g);

// The verified record that `ix` points to; views live until the next call. ERR_CORRUPT is logged.
int stream_segments_read(struct segments *g, uint64_t number, const struct stream_index *ix, const struct segment_record **out);

#endif
