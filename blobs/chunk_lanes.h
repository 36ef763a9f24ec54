// Three things in one pass over an upload's bytes: the SHA-256 of a chunk, that of the whole, and the search for the ends of later chunks.
//
//      window:   [ chunk to be hashed | …  where the search is ahead ─> ]
//                  both digests                gear hash, 64 bytes for each block of the digests
//
// The instructions for SHA-256 wait for one another most of the time. Another digest fits into that time nearly whole, and so does the search: the three
// cost what two digests would, one behind the other. OpenSSL has one lane, hence the rounds here; whatever is not a whole
// block is OpenSSL's, and so is everything on a processor that has no such instructions. Results are the same everywhere.
#ifndef SEGUE_CHUNK_LANES_H
#define SEGUE_CHUNK_LANES_H

#include "chunker.h"
#include "digest.h"

// Does this processor have them? Else the digests are better made by two threads.
bool chunk_lanes_fast(void);
extern bool chunk_lanes_off; // for tests: it has not
// Puts `content` behind what both digests have, and seeks on in `window` as far as that takes the time of it. Pure but for what it is given; any thread.
void chunk_lanes_update(struct digest *whole, struct digest *chunk, struct span content, struct chunk_scan *scan, struct span window);

#endif
