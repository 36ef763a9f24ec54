// What the blob surface's two halves share: api_blob.c (HEAD, GET) and api_blob_put.c (PUT).
#ifndef SEGUE_API_BLOB_H
#define SEGUE_API_BLOB_H

#include "api.h"
#include "digest.h"

// The digest that the path names. ERR_BAD_DIGEST.
int blob_path_digest(const struct request *r, struct sha256 *out, struct problem *p);

#endif
