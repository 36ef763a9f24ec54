// Any bytes as the fields that select parts, tags and codings, and as names: a line each, the first letter says which. What comes out has to be
// what the contracts say, whatever went in.
#include <assert.h>
#include <stdint.h>

#include "fuzz_lines.h"
#include "disposition.h"
#include "err.h"
#include "http_select.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_ranges(struct span field, uint64_t size)
{
    struct byte_ranges r = {.count = 0};
    int got = http_ranges_parse(field, size, &r);
    assert(got == 1 || got == 0 || got == ERR_RANGE_NOT_SATISFIABLE);
    assert((got == 1) == (r.count > 0) && r.count <= HTTP_RANGES_MAX);
    for (size_t i = 0; i < r.count; i++) {
        const struct byte_range *a = &r.at[i];
        assert(a->n > 0 && a->from < size && a->n <= size - a->from);
        for (size_t k = 0; k < i; k++) // no byte is sent twice
            assert(a->from + a->n <= r.at[k].from || r.at[k].from + r.at[k].n <= a->from);
    }
}

static void try_tags(struct span list)
{
    static const char tag[] = "\"abc\"";
    bool strong = http_etag_listed(list, SPAN_LIT("\"abc\""), true), weak = http_etag_listed(list, SPAN_LIT("\"abc\""), false);
    assert(weak || !strong);
    bool there = false;
    for (size_t i = 0; i + sizeof tag - 1 <= list.n; i++)
        there = there || memcmp(list.p + i, tag, sizeof tag - 1) == 0;
    for (size_t i = 0; i < list.n; i++)
        there = there || list.p[i] == '*';
    assert(there || !weak);
}

static void try_name(struct span name)
{
    struct buf b;
    buf_init(&b, 2048);
    disposition_put(&b, true, name);
    assert(b.err == 0 && span_starts(buf_span(&b), "attachment"));
    size_t quotes = 0;
    for (size_t i = 0; i < b.n; i++) {
        assert(b.p[i] >= ' ' && b.p[i] <= '~');
        quotes += b.p[i] == '"';
    }
    assert(quotes == 0 || quotes == 2);
    buf_free(&b);
}

static void try_line(uint8_t field, struct span value)
{
    switch (field) {
    case 'r':
        try_ranges(value, 0), try_ranges(value, 1), try_ranges(value, 1000), try_ranges(value, BLOB_BYTES_MAX), try_ranges(value, INT64_MAX);
        break;
    case 'e': try_tags(value); break;
    case 'c': http_takes_coding(value, "zstd"), http_choose_coding(value), http_wants_sha256(value); break;
    case 'n': try_name(value); break;
    case 't': disposition_is_safe(value); break;
    default: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_lines(data, size, try_line);
    return 0;
}
