// Any bytes as the header fields of an upload: a line each, the first letter says which field. What is taken has to be what the
// contract says: it goes into heads of replies and into rows.
#include <assert.h>
#include <stdint.h>

#include "fuzz_lines.h"
#include "err.h"
#include "tus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_printable(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~') return false;
    return true;
}

static void try_numbers(struct span value, struct problem *p)
{
    uint64_t n = UINT64_MAX;
    int err = tus_number(value, "Upload-Offset", &n, p);
    assert(err == 0 || err == ERR_BAD_REQUEST);
    assert((err == 0) == (n < UINT64_C(1000000000000000000)));
    n = UINT64_MAX;
    err = tus_length(value, SPAN_NONE, &n, NULL);
    assert(err == 0 || err == ERR_BAD_REQUEST || err == ERR_TOO_LARGE);
    assert((err == 0) == (n <= BLOB_BYTES_MAX));
    assert(tus_length(value, value, &n, NULL) == ERR_BAD_REQUEST);
}

static void try_metadata(struct span value, struct problem *p)
{
    char type[STREAM_TYPE_MAX + 1], again[STREAM_TYPE_MAX + 1];
    memset(type, 'x', sizeof type);
    int err = tus_metadata(value, type, p);
    assert(err == 0 || err == ERR_BAD_REQUEST);
    if (err != 0) return;
    assert(is_printable(value) && value.n <= UPLOAD_METADATA_MAX);
    assert(memchr(type, 0, sizeof type) != NULL && is_printable(SPAN_STR(type)));
    assert(tus_metadata(value, again, NULL) == 0 && strcmp(type, again) == 0);
}

static void try_link(struct span value, struct problem *p)
{
    struct tus_link l;
    int err = tus_link(value, &l, p);
    assert(err == 0 || err == ERR_BAD_REQUEST);
    if (err != 0) return;
    assert(l.table.n > 0 && l.table.n <= NAME_MAX_BYTES && is_printable(l.table));
    assert(l.column.n > 0 && l.column.n <= NAME_MAX_BYTES && is_printable(l.column));
}

static void try_checksum(struct span value, struct problem *p)
{
    struct tus_checksum c;
    int err = tus_checksum(value, &c, p);
    assert(err == 0 || err == ERR_BAD_REQUEST);
    assert(err != 0 || c.n == (c.kind == DIGEST_SHA1 ? SHA1_BYTES : SHA256_BYTES));
    tus_lists(value, "upload-checksum");
}

static void try_concat(struct span value, struct problem *p)
{
    struct tus_concat c;
    struct uuid id;
    int err = tus_concat(value, &c, p);
    assert(err == 0 || err == ERR_BAD_REQUEST);
    if (err != 0 || !c.final) return;
    size_t count = 0;
    while ((err = tus_concat_next(&c, SPAN_LIT("/apps/default/uploads"), &id, p)) > 0)
        count++;
    assert((err == 0 || err == ERR_BAD_REQUEST) && 58 * count <= value.n);
    assert(err != 0 || c.parts.n == 0);
}

static void try_line(uint8_t field, struct span value)
{
    struct problem p = PROBLEM_NONE;
    switch (field) {
    case 'n': try_numbers(value, &p); break;
    case 'm': try_metadata(value, &p); break;
    case 'l': try_link(value, &p); break;
    case 'c': try_checksum(value, &p); break;
    case 'p': try_concat(value, &p); break;
    case 't': assert((tus_check_type(value, &p) == 0) == (p.err == 0)); break;
    case 'v': assert((tus_check_version(value, &p) == 0) == span_is(value, TUS_SPOKEN)); break;
    default: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_lines(data, size, try_line);
    return 0;
}
