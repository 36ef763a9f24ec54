// The end of a stream that is not sealed yet: bytes in shared chunks, and where each append ended.
//
//      start                                              end
//        |  chunk 256  |   chunk 512   |  chunk 1024 …      |
//        '--a--'----b----'--c--'----------d-----------------'     one boundary per append: end, seq, group
//
// A chunk is refcounted and its bytes never change once written, so a seal job on another thread reads what it took a reference to
// while the owner writes behind it into the same chunk. The start may lie inside an append (a long one that was sealed in part).
#ifndef SEGUE_STREAM_TAIL_H
#define SEGUE_STREAM_TAIL_H

#include "buf.h"

struct boundary {
    uint64_t end;   // the offset behind the append
    uint64_t seq;   // its commit
    uint64_t group; // the journal group that holds it
};

struct tail_chunk {
    struct bytes *bytes; // as large as it may grow
    uint64_t start;      // the offset of its first byte
    size_t n;            // bytes written
};

struct tail {
    uint64_t start, end;
    struct tail_chunk *chunks;
    size_t chunk_count, chunk_cap;
    struct boundary *bounds;
    size_t bound_count, bound_cap;
};

// A part of a chunk, with a reference of its own.
struct tail_piece {
    struct bytes *bytes;
    size_t at, n;
};

void stream_tail_init(struct tail *t, uint64_t start);
void stream_tail_free(struct tail *t);

// Appends a copy of `data` (not empty) as one append. All or ERR_NOMEM.
int stream_tail_append(struct tail *t, struct span data, uint64_t seq, uint64_t group);

// Appends bytes from `offset` (start <= offset <= end), at most `max`, to `out`; `out` carries the error.
void stream_tail_read(const struct tail *t, uint64_t offset, size_t max, struct buf *out);

// Fills `out` (room for chunk_count) with the pieces that make up [from, to), and returns how many. The caller unrefs each.
size_t stream_tail_pieces(const struct tail *t, uint64_t from, uint64_t to, struct tail_piece *out);

// The piece that begins at `offset` (start <= offset < end), as long as it goes.
struct tail_piece stream_tail_piece(const struct tail *t, uint64_t offset);

// Forgets everything before `offset`, and the appends that end there or before.
void stream_tail_drop(struct tail *t, uint64_t offset);

// How many leading boundaries have a seq <= `seq`, or an end <= `offset`.
size_t stream_tail_bounds_to_seq(const struct tail *t, uint64_t seq);
size_t stream_tail_bounds_to_offset(const struct tail *t, uint64_t offset);

static inline uint64_t stream_tail_bytes(const struct tail *t)
{
    return t->end - t->start;
}

#endif
