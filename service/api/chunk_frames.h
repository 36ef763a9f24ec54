// A body of many chunks: for each its SHA-256 (32 bytes), its length (4, big-endian, 1 to BLOB_CHUNK_MAX) and its bytes. Pure.
#ifndef SEGUE_CHUNK_FRAMES_H
#define SEGUE_CHUNK_FRAMES_H

#include "blobs.h"

#define CHUNK_FRAME_HEAD (SHA256_BYTES + 4)

// How many there are; ERR_BAD_REQUEST where the body is empty, ends early, or a length is out of bounds. Hashes are not looked at.
int chunk_frames_count(struct span body, size_t *count);
// The first one of a body that was counted, which is taken off its front.
struct blob_given chunk_frames_next(struct span *body);

#endif
