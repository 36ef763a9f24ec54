// What clients send to speak of chunks by their hashes: JSON into bytes. Pure; any thread.
#ifndef SEGUE_CHUNK_LIST_H
#define SEGUE_CHUNK_LIST_H

#include "blobs.h"

#define CHUNK_LIST_TYPE "application/vnd.segue.manifest+json"

// A blob as a list of its chunks: {"size":n,"type"?:text,"chunks":[[hex,length],…]}.
struct chunk_list {
    uint64_t size;
    char type[STREAM_TYPE_MAX + 1]; // empty: not said
    struct buf chunks;              // BLOB_LISTED_BYTES each; the caller's, made for as many as may come
};

// ERR_BAD_JSON, ERR_TOO_DEEP, ERR_BAD_VALUE: no hash, a length that the cut rule never gives, or lengths that are not the size; ERR_TOO_LARGE.
int chunk_list_parse(struct chunk_list *out, struct span text, struct problem *p);
// {"chunks":[hex,…]}, at most CHUNKS_ASK_MAX: SHA256_BYTES each into `out`. ERR_BAD_JSON, ERR_TOO_DEEP, ERR_BAD_VALUE, ERR_TOO_LARGE.
int chunk_names_parse(struct buf *out, struct span text, struct problem *p);

#endif
