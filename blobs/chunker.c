#include "chunker.h"

#include <assert.h>

#include "blobs.h"

// What is sought in one go: long enough that warming up is little beside it, short enough that what lies behind a cut and was
// looked at for nothing is, too.
#define LANE_BYTES 2048
#define LANES_BYTES (4 * LANE_BYTES)

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

// The first length in [n, end) whose hash is below `limit`, else `end`.
static size_t scan(const uint8_t *p, size_t n, size_t end, uint64_t limit)
{
    uint64_t h = n < end ? warm_up(p, n) : 0;
    for (; n < end; n++) {
        h = (h << 1) + chunk_gear[p[n - 1]];
        if (h < limit) break;
    }
    return n;
}

// One step of a lane, whose bytes begin LANE_BYTES behind those of the lane before it.
#define STEP(lane)                                                         \
    h##lane = (h##lane << 1) + chunk_gear[at[(lane) * LANE_BYTES]];        \
    if (__builtin_expect(h##lane < limit, 0)) return rest_of_lanes(p, n, at, lane, limit)

// Lane `found` has a cut at its byte `at`; the one that counts may still lie in what the lanes before it have not seen.
static __attribute__((noinline)) size_t rest_of_lanes(const uint8_t *p, size_t n, const uint8_t *at, size_t found, uint64_t limit)
{
    size_t seen = (size_t)(at - p) + 1 - n; // steps that each lane before it has done, and this one's is among them
    for (size_t lane = 0; lane < found; lane++) {
        size_t end = n + (lane + 1) * LANE_BYTES;
        size_t cut = scan(p, n + lane * LANE_BYTES + seen + 1, end, limit);
        if (cut < end) return cut;
    }
    return n + found * LANE_BYTES + seen;
}

// The same for the LANES_BYTES lengths from `n` on. One lane waits for its own last addition at every byte; four of them,
// which know nothing of one another, fill that time. (Where an addition takes one cycle, one lane is as fast: then the look-ups decide.)
static size_t scan_lanes(const uint8_t *p, size_t n, uint64_t limit)
{
    uint64_t h0 = warm_up(p, n), h1 = warm_up(p, n + LANE_BYTES), h2 = warm_up(p, n + 2 * LANE_BYTES), h3 = warm_up(p, n + 3 * LANE_BYTES);
    const uint8_t *end = p + n - 1 + LANE_BYTES;
    for (const uint8_t *at = p + n - 1; at < end; at++) {
        STEP(0);
        STEP(1);
        STEP(2);
        STEP(3);
    }
    return n + LANES_BYTES;
}

// As scan, fast.
static size_t scan_fast(const uint8_t *p, size_t n, size_t end, uint64_t limit)
{
    while (n + LANES_BYTES <= end) {
        size_t stop = n + LANES_BYTES;
        n = scan_lanes(p, n, limit);
        if (n < stop) return n;
    }
    return scan(p, n, end, limit);
}

size_t chunk_cut(struct span s, size_t from)
{
    size_t end = s.n < BLOB_CHUNK_MAX ? s.n + 1 : BLOB_CHUNK_MAX; // at the maximum there is nothing to look for
    size_t n = from < BLOB_CHUNK_MIN ? BLOB_CHUNK_MIN : from;
    size_t strict_end = end < BLOB_CHUNK_AVG ? end : BLOB_CHUNK_AVG;
    if (n < strict_end) {
        n = scan_fast(s.p, n, strict_end, CHUNK_LIMIT_STRICT);
        if (n < strict_end) return n;
    }
    if (n < end) {
        n = scan_fast(s.p, n, end, CHUNK_LIMIT_LENIENT);
        if (n < end) return n;
    }
    return s.n >= BLOB_CHUNK_MAX ? BLOB_CHUNK_MAX : 0;
}

size_t blobs_cut(struct span s)
{
    size_t n = chunk_cut(s, 0);
    return n > 0 ? n : s.n;
}

// ---- ahead ---------------------------------------------------------------------------------------------------------

static void put_end(struct chunk_scan *s, size_t end)
{
    assert(s->count < sizeof s->ends / sizeof *s->ends);
    s->ends[s->count++] = end;
    s->start = end;
}

bool chunk_scan_seek(struct chunk_scan *s, struct span window)
{
    size_t n = chunk_cut(span_sub(window, s->start, window.n), s->at - s->start + 1);
    s->at = n > 0 ? s->start + n : window.n;
    if (n > 0) put_end(s, s->at);
    return n > 0;
}

uint64_t chunk_scan_hash(const struct chunk_scan *s, const uint8_t *window)
{
    uint64_t h = 0;
    for (size_t i = s->at < CHUNK_GEAR_BYTES ? 0 : s->at - CHUNK_GEAR_BYTES + 1; i < s->at; i++)
        h = (h << 1) + chunk_gear[window[i]];
    return h;
}

void chunk_scan_found(struct chunk_scan *s, size_t at, uint64_t h)
{
    chunk_scan_passed(s, at - 1);
    size_t n = at - s->start;
    if (n >= BLOB_CHUNK_AVG || (n >= BLOB_CHUNK_MIN && h < CHUNK_LIMIT_STRICT)) put_end(s, at);
}

void chunk_scan_passed(struct chunk_scan *s, size_t at)
{
    while (at - s->start >= BLOB_CHUNK_MAX)
        put_end(s, s->start + BLOB_CHUNK_MAX);
    s->at = at;
}

size_t chunk_scan_pop(struct chunk_scan *s)
{
    assert(s->count > 0);
    size_t first = s->ends[0];
    memmove(s->ends, s->ends + 1, --s->count * sizeof *s->ends);
    return first;
}

void chunk_scan_shift(struct chunk_scan *s, size_t n)
{
    assert(n <= s->start && n <= s->at);
    s->start -= n;
    s->at -= n;
    for (size_t i = 0; i < s->count; i++)
        s->ends[i] -= n;
}
