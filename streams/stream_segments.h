// The segment files of a store, for reading: a few that are open, and a few verified records that are kept unpacked, so that small
// reads in a row do not read and unpack the same record again and again. A seal job has one of its own for what it copies.
// Thread: whoever owns it.
#ifndef SEGUE_STREAM_SEGMENTS_H
#define SEGUE_STREAM_SEGMENTS_H

#include "stream_segment.h"

#define SEGMENT_FILES 8      // open for reading
#define SEGMENT_RECORDS 8    // verified and kept
#define SEGMENT_SEEN 4096u   // records of which it is remembered that they verified; a power of two

struct segment_file {
    int fd; // -1: unused
    uint32_t file;
    uint64_t used;
};

struct segment_kept {
    bool set;
    uint32_t file;
    uint64_t position;
    uint64_t used;
    struct buf bytes, directory_room, payload_room;
    struct segment_block block;
    struct span directory, payload; // payload.p NULL: not unpacked yet
};

// What is remembered of a record of one part that verified: where its payload lies.
struct segment_seen {
    bool set;
    uint8_t codec;
    uint32_t file;
    uint64_t position;
    uint32_t payload_at, payload; // in the record
};

struct segments {
    char *folder;
    uint64_t tick;
    struct segment_file files[SEGMENT_FILES];
    struct segment_kept kept[SEGMENT_RECORDS];
    struct segment_record record;
    struct segment_seen *seen; // SEGMENT_SEEN places; made with the first
};

int stream_segments_init(struct segments *g, const char *folder); // ERR_NOMEM, ERR_BAD_PARAMETER: a folder's name too long
// Makes the folder; cuts the file that is written to back to `a->position` and removes later ones: nothing indexes them. Where the
// file is shorter than that (sealed bytes are lost, which is logged), `a` moves on to the next file.
int stream_segments_open(struct segments *g, const char *folder, struct stream_alloc *a);
void stream_segments_close(struct segments *g); // of zeroes is fine
// Calls `fn` for each segment file there is.
int stream_segments_each(const char *folder, void (*fn)(void *ctx, uint32_t file), void *ctx);

// The part that `ix` points to, verified, its bytes too; views live until the next call. ERR_CORRUPT is logged.
int stream_segments_read(struct segments *g, uint64_t number, const struct stream_index *ix, const struct segment_record **out);
// The same without its bytes, which are not unpacked for it.
int stream_segments_bounds(struct segments *g, uint64_t number, const struct stream_index *ix, const struct segment_record **out);
// The whole record at a place, verified, and its directory unpacked; views live until the next call.
int stream_segments_block(struct segments *g, uint32_t file, uint64_t position, uint32_t total, const struct segment_kept **out);
// Where the payload of a record lies that holds `ix` alone; the record is verified the first time. False: it holds more, or does not verify.
bool stream_segments_alone(struct segments *g, uint64_t number, const struct stream_index *ix, struct segment_seen *out);
// An open file; it stays the store's.
int stream_segments_fd(struct segments *g, uint32_t file);
// The file is about to be removed: lets go of it and of what is kept of it.
void stream_segments_forget(struct segments *g, uint32_t file);

#endif
