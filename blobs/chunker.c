#include "chunker.h"

#include <assert.h>

#include "blobs.h"

// A candidate is a hash below the limit: that many upper bits are zero.
#define LIMIT_STRICT (UINT64_C(1) << (64 - 17))
#define LIMIT_LENIENT (UINT64_C(1) << (64 - 15))

static_assert(BLOB_CHUNK_AVG == 1u << 16, "the limits above are those of an average of 2^16");
static_assert(BLOB_CHUNK_MIN >= CHUNK_GEAR_BYTES, "the hash is warm at the least length");

// The hash of what lies before the last byte of a chunk of length `n`, which the scan adds.
static uint64_t warm_up(const uint8_t *p, size_t n)
{
    uint64_t h = 0;
    for (size_t i = n - CHUNK_GEAR_BYTES; i < n - 1; i++)
        h = (h << 1) + chunk_gear[p[i]];
    return h;
}

// The first length in [n, end) whose hash is below `limit`, else `end`. The one hot loop: an addition and a table look-up
// a byte; unrolled, as the compiler does not do it by itself at -O2.
static size_t scan(const uint8_t *p, size_t n, size_t end, uint64_t limit, uint64_t *hash)
{
    uint64_t h = *hash;
#pragma GCC unroll 8
    for (; n < end; n++) {
        h = (h << 1) + chunk_gear[p[n - 1]];
        if (__builtin_expect(h < limit, 0)) break;
    }
    *hash = h;
    return n;
}

size_t chunk_cut(struct span s, size_t from)
{
    size_t end = s.n < BLOB_CHUNK_MAX ? s.n + 1 : BLOB_CHUNK_MAX; // at the maximum there is nothing to look for
    size_t n = from < BLOB_CHUNK_MIN ? BLOB_CHUNK_MIN : from;
    if (n < end) {
        uint64_t h = warm_up(s.p, n);
        size_t strict_end = end < BLOB_CHUNK_AVG ? end : BLOB_CHUNK_AVG;
        size_t found = n < strict_end ? scan(s.p, n, strict_end, LIMIT_STRICT, &h) : n;
        if (n < strict_end && found < strict_end) return found;
        n = scan(s.p, found, end, LIMIT_LENIENT, &h);
        if (n < end) return n;
    }
    return s.n >= BLOB_CHUNK_MAX ? BLOB_CHUNK_MAX : 0;
}

size_t blobs_cut(struct span s)
{
    size_t n = chunk_cut(s, 0);
    return n > 0 ? n : s.n;
}
