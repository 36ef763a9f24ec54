// The cut rule, version 1. blobs/README.md publishes it, with test vectors.
//
// The gear hash of the 64 bytes before a place decides whether a chunk may end there: h = 2 * h + gear[byte] over those
// bytes, modulo 2^64. A chunk's length L, from BLOB_CHUNK_MIN on, is the first with
//
//      L <  BLOB_CHUNK_AVG and the upper 17 bits of h zero      (normalisation level 1: one bit more before the average,
//      L >= BLOB_CHUNK_AVG and the upper 15 bits of h zero       one less behind it)
//      L == BLOB_CHUNK_MAX
//
// Unlike the paper's pseudo-code the hash is warm at BLOB_CHUNK_MIN already: whether a place is a candidate depends on
// the 64 bytes before it and nothing else, so that candidates can be sought from anywhere, in lanes or in pieces.
#ifndef SEGUE_CHUNKER_H
#define SEGUE_CHUNKER_H

#include "limits.h"
#include "span.h"

#define CHUNK_GEAR_BYTES 64 // what one hash covers: a byte's part is shifted out after 64 steps

extern const uint64_t chunk_gear[256];

// The length of the first chunk of `s`; 0 where `s` ends before it does. No length below `from` is tried: a caller who got 0 and
// has more bytes now gives the former s.n + 1. Pure; any thread.
size_t chunk_cut(struct span s, size_t from);

// A candidate is a place whose hash is below the limit: that many upper bits are zero.
#define CHUNK_LIMIT_STRICT (UINT64_C(1) << (64 - 17))
#define CHUNK_LIMIT_LENIENT (UINT64_C(1) << (64 - 15))

// Chunks of a window, whose ends are sought further ahead than they are wanted: by chunk_scan_seek, or beside other work
// (chunk_lanes.h). All are offsets into the window; all zero at first.
#define CHUNK_SCAN_MAX (BLOB_WINDOW + BLOB_CHUNK_MAX) // bytes of a window
struct chunk_scan {
    size_t start; // of the chunk whose end is sought
    size_t at;    // where the seeking goes on
    size_t ends[CHUNK_SCAN_MAX / BLOB_CHUNK_MIN + 1]; // found, in order
    size_t count;
};
// Seeks the next end in the window: false where there is none, and all of it has been looked at.
bool chunk_scan_seek(struct chunk_scan *s, struct span window);
// The hash before s->at is added to: of the 63 bytes before, as far as there are any.
uint64_t chunk_scan_hash(const struct chunk_scan *s, const uint8_t *window);
void chunk_scan_found(struct chunk_scan *s, size_t at, uint64_t h); // of a place behind s->at: its hash is below CHUNK_LIMIT_LENIENT
void chunk_scan_passed(struct chunk_scan *s, size_t at);           // all candidates up to here were told
size_t chunk_scan_pop(struct chunk_scan *s);                       // the first end, which is there
void chunk_scan_shift(struct chunk_scan *s, size_t n);             // the window loses bytes at its front, of chunks that were popped

#endif
