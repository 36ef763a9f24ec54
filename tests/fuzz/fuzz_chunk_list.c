// Any bytes as the JSON that speaks of chunks: what is taken is what the contracts say, and not more than was there.
#include <assert.h>
#include <stdint.h>

#include "chunk_list.h"
#include "cur.h"
#include "err.h"

#define ROOM (64 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_list(struct span text)
{
    struct chunk_list list = {0};
    struct problem p = PROBLEM_NONE;
    uint64_t sum = 0;
    buf_init(&list.chunks, ROOM);
    int err = chunk_list_parse(&list, text, &p);
    assert(err == 0 || err == ERR_BAD_JSON || err == ERR_TOO_DEEP || err == ERR_BAD_VALUE || err == ERR_TOO_LARGE);
    struct cur c;
    cur_init(&c, buf_span(&list.chunks));
    while (err == 0 && cur_left(&c) > 0) {
        cur_span(&c, SHA256_BYTES);
        uint32_t length = cur_u32(&c);
        assert(length > 0 && length <= BLOB_CHUNK_MAX && (length >= BLOB_CHUNK_MIN || cur_left(&c) == 0));
        sum += length;
    }
    assert(c.err == 0);
    assert(err != 0 || (sum == list.size && sum <= BLOB_BYTES_MAX));
    assert(err != 0 || memchr(list.type, 0, sizeof list.type) != NULL);
    assert(list.chunks.n <= text.n);
    buf_free(&list.chunks);
}

static void try_names(struct span text)
{
    struct problem p = PROBLEM_NONE;
    struct buf names;
    buf_init(&names, CHUNKS_ASK_MAX * SHA256_BYTES);
    int err = chunk_names_parse(&names, text, &p);
    assert(err == 0 || err == ERR_BAD_JSON || err == ERR_TOO_DEEP || err == ERR_BAD_VALUE || err == ERR_TOO_LARGE);
    assert(names.n % SHA256_BYTES == 0 && 2 * names.n <= text.n);
    buf_free(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > ROOM) return 0;
    try_list(SPAN(data, size));
    try_names(SPAN(data, size));
    return 0;
}
