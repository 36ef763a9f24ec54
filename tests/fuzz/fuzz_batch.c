// Three readers of bytes that others made. As JSON: what is taken can be read back as encoded, operation by operation, and encodes to the same.
// As an encoded batch and as journal entries: what is read can be written, and then reads the same.
#include <assert.h>

#include "entry.h"
#include "err.h"
#include "limits.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Reads all operations and writes them anew.
static int again(struct span request, struct buf *out, size_t *count)
{
    struct batch_reader r;
    struct batch_op op;
    int got;
    *count = 0;
    batch_reader_init(&r, request);
    while ((got = batch_read(&r, &op)) > 0) {
        batch_put_op(out, &op);
        ++*count;
    }
    batch_reader_free(&r);
    assert(got == 0 || got == ERR_CORRUPT || got == ERR_NOMEM);
    return got;
}

static void check_json(struct span text)
{
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    struct buf encoded, second;
    size_t count;
    buf_init(&encoded, 2 * BATCH_BYTES_MAX);
    buf_init(&second, 2 * BATCH_BYTES_MAX);
    int err = batch_from_json(text, &head, &encoded, &p);
    assert(err == p.err);
    if (err == 0) {
        err = again(buf_span(&encoded), &second, &count);
        // What a transaction read comes first and is none of its operations; what is written to a branch is one.
        size_t want = encoded.p[0] == BATCH_BRANCH ? 1 : head.ops + head.transaction;
        assert(err == 0 && count == want && count >= 1 && head.ops <= BATCH_OPS_MAX);
        assert(span_equal(buf_span(&encoded), buf_span(&second)));
        assert(head.name.kind != BATCH_REPLICA || head.name.counter > 0);
        assert(head.name.kind != BATCH_KEY || head.name.key[0] != '\0');
    } else {
        assert(utf8_valid(SPAN_STR(p.text)) && p.position >= -1);
    }
    buf_free(&encoded);
    buf_free(&second);
}

static void check_encoded(struct span request)
{
    struct buf first, second;
    size_t n, m;
    buf_init(&first, 2 * BATCH_BYTES_MAX);
    buf_init(&second, 2 * BATCH_BYTES_MAX);
    again(request, &first, &n);
    if (first.err == 0) {
        int err = again(buf_span(&first), &second, &m);
        assert(err == 0 && n == m && span_equal(buf_span(&first), buf_span(&second)));
    }
    buf_free(&first);
    buf_free(&second);
}

static void check_entries(struct span payload)
{
    struct entry e;
    struct buf first, second;
    struct result r;
    struct entry_place place = {0};
    struct entry_reader reader;
    int got;
    entry_reader_init(&reader, payload);
    buf_init(&first, GROUP_BYTES_MAX);
    buf_init(&second, GROUP_BYTES_MAX);
    while ((got = entry_read(&reader, &e)) > 0) {
        struct span results = e.fate.results;
        while (result_read(&results, &r) > 0)
            assert(r.kind >= RESULT_ID && r.kind <= RESULT_CONFLICT);
        entry_put(&first, &place, &e);
    }
    assert(got == 0 || got == ERR_CORRUPT);
    place = (struct entry_place){0};
    entry_reader_init(&reader, buf_span(&first));
    while (entry_read(&reader, &e) > 0)
        entry_put(&second, &place, &e);
    assert(span_equal(buf_span(&first), buf_span(&second)));
    buf_free(&first);
    buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span s = SPAN(data, size);
    check_json(s);
    check_encoded(s);
    check_entries(s);
    return 0;
}
