#include "chunk_frames.h"

#include <assert.h>

#include "cur.h"
#include "err.h"

int chunk_frames_count(struct span body, size_t *count)
{
    struct cur c;
    size_t n = 0;
    cur_init(&c, body);
    while (cur_left(&c) > 0) {
        cur_span(&c, SHA256_BYTES);
        uint32_t length = cur_u32_be(&c);
        if (length == 0 || length > BLOB_CHUNK_MAX) return ERR_BAD_REQUEST; // also where the head is cut: that reads as 0
        cur_span(&c, length);
        n++;
    }
    if (n == 0 || cur_end(&c) != 0) return ERR_BAD_REQUEST;
    *count = n;
    return 0;
}

struct blob_given chunk_frames_next(struct span *body)
{
    struct cur c;
    struct blob_given out;
    cur_init(&c, *body);
    struct span sha = cur_span(&c, SHA256_BYTES);
    uint32_t length = cur_u32_be(&c);
    assert(sha.n == SHA256_BYTES && length > 0 && length <= cur_left(&c));
    memcpy(out.sha.b, sha.p, SHA256_BYTES);
    out.content = cur_span(&c, length);
    *body = span_sub(*body, CHUNK_FRAME_HEAD + length, body->n);
    return out;
}
