// Any bytes as an operation on an upload, as a head in the database, and as effects: what is read is written again in the same bytes.
#include <assert.h>
#include <stdint.h>

#include "err.h"
#include "upload_keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_same(struct buf *again, struct span input)
{
    assert(again->err == 0 && span_equal(buf_span(again), input));
    buf_clear(again);
}

static void try_op(struct span input, struct buf *again)
{
    struct upload_op op;
    struct manifest m = {0};
    int err = upload_op_decode(input, &op, &m);
    assert(err == 0 || err == ERR_BAD_VALUE);
    if (err != 0) return;
    assert(op.kind != UPLOAD_PROGRESS || op.progress.at + m.size + op.progress.tail.place.length <= BLOB_BYTES_MAX);
    upload_op_encode(again, &op);
    assert_same(again, input);
}

static void try_head(struct span input, struct buf *again)
{
    struct upload_head head = {0};
    int err = upload_head_decode(input, &head);
    assert(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    if (err != 0) return;
    assert(head.info.offset <= BLOB_BYTES_MAX && head.chunks_end <= head.info.offset && head.info.offset <= head.info.made.length);
    upload_head_encode(again, &head);
    assert_same(again, input);
}

static void try_effects(struct span input)
{
    struct upload_effect e;
    struct cur c;
    size_t count = 0;
    cur_init(&c, input);
    int err = upload_effects_open(&c, &count);
    assert(err == 0 || err == ERR_CORRUPT);
    for (size_t i = 0; i < count && err == 0; i++)
        err = upload_effects_next(&c, &e);
    assert(err == 0 || err == ERR_CORRUPT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf again;
    buf_init(&again, 2 * MIB);
    if (size <= MIB) {
        try_op(SPAN(data, size), &again);
        try_head(SPAN(data, size), &again);
        try_effects(SPAN(data, size));
    }
    buf_free(&again);
    return 0;
}
