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

#include "span.h"

#define CHUNK_GEAR_BYTES 64 // what one hash covers: a byte's part is shifted out after 64 steps

extern const uint64_t chunk_gear[256];

// The length of the first chunk of `s`; 0 where `s` ends before it does. No length below `from` is tried: a caller who got 0 and
// has more bytes now gives the former s.n + 1. Pure; any thread.
size_t chunk_cut(struct span s, size_t from);

#endif
