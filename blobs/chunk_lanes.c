#include "chunk_lanes.h"

bool chunk_lanes_off;

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>

#define TARGET __attribute__((target("sha,avx")))
#define INLINE static inline __attribute__((always_inline)) TARGET

// FIPS 180-4, 4.2.2.
static const uint32_t round_constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// A digest on its way: its words in the order that the instructions want, a to h, and the sixteen words of the message that the next rounds need.
struct lane {
    __m128i abef, cdgh, abef_before, cdgh_before;
    __m128i message[4];
    const uint8_t *p;
};

INLINE void lane_load(struct lane *l, const uint32_t words[8], const uint8_t *p)
{
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)words), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(words + 4)), 0x1b);
    l->abef = _mm_alignr_epi8(badc, hgfe, 8);
    l->cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);
    l->p = p;
}

INLINE void lane_store(const struct lane *l, uint32_t words[8])
{
    __m128i feba = _mm_shuffle_epi32(l->abef, 0x1b), dchg = _mm_shuffle_epi32(l->cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)words, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(words + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Rounds 4i to 4i+3.
INLINE void lane_rounds(struct lane *l, int i)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *m = &l->message[i & 3];
    if (i < 4) {
        *m = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(l->p + 16 * i)), big_endian);
    } else {
        __m128i next = l->message[(i + 1) & 3], later = l->message[(i + 2) & 3], last = l->message[(i + 3) & 3];
        *m = _mm_add_epi32(_mm_sha256msg1_epu32(*m, next), _mm_alignr_epi8(last, later, 4));
        *m = _mm_sha256msg2_epu32(*m, last);
    }
    __m128i k = _mm_add_epi32(*m, _mm_load_si128((const __m128i *)(const void *)(round_constants + 4 * i)));
    l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, k);
    l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(k, 0x0e));
}

INLINE void lane_begin(struct lane *l)
{
    l->abef_before = l->abef;
    l->cdgh_before = l->cdgh;
}

INLINE void lane_end(struct lane *l)
{
    l->abef = _mm_add_epi32(l->abef, l->abef_before);
    l->cdgh = _mm_add_epi32(l->cdgh, l->cdgh_before);
    l->p += SHA256_BLOCK;
}

// Both lanes `blocks` further; with `scan` so many bytes of the search, too. The lanes are copied, so that they stay in registers.
INLINE void lanes_run(struct lane lanes[2], size_t blocks, struct chunk_scan *scan, const uint8_t *window)
{
    struct lane one = lanes[0], two = lanes[1];
    uint64_t h = scan != NULL ? chunk_scan_hash(scan, window) : 0;
    const uint8_t *at = scan != NULL ? window + scan->at : window;
    for (; blocks > 0; blocks--) {
        lane_begin(&one);
        lane_begin(&two);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            lane_rounds(&one, i);
            lane_rounds(&two, i);
#pragma GCC unroll 4
            for (int k = 0; k < 4 && scan != NULL; k++) {
                h = (h << 1) + chunk_gear[at[4 * i + k]];
                if (__builtin_expect(h < CHUNK_LIMIT_LENIENT, 0)) chunk_scan_found(scan, (size_t)(at - window) + 4 * (size_t)i + (size_t)k + 1, h);
            }
        }
        lane_end(&one);
        lane_end(&two);
        if (scan != NULL) at += SHA256_BLOCK;
    }
    if (scan != NULL) chunk_scan_passed(scan, (size_t)(at - window));
    lanes[0] = one;
    lanes[1] = two;
}

static TARGET __attribute__((noinline)) void run_two(struct lane lanes[2], size_t blocks)
{
    lanes_run(lanes, blocks, NULL, NULL);
}

static TARGET __attribute__((noinline)) void run_three(struct lane lanes[2], size_t blocks, struct chunk_scan *scan, const uint8_t *window)
{
    lanes_run(lanes, blocks, scan, window);
}

static TARGET void update_blocks(struct digest *whole, const uint8_t *p, struct digest *chunk, const uint8_t *q, size_t blocks, struct chunk_scan *scan,
                                 struct span window)
{
    struct lane lanes[2];
    uint32_t *words = digest_blocks(whole, blocks), *words2 = digest_blocks(chunk, blocks);
    size_t sought = (window.n - scan->at) / SHA256_BLOCK;
    if (sought > blocks) sought = blocks;
    lane_load(&lanes[0], words, p);
    lane_load(&lanes[1], words2, q);
    run_three(lanes, sought, scan, window.p);
    run_two(lanes, blocks - sought);
    lane_store(&lanes[0], words);
    lane_store(&lanes[1], words2);
}

// Not every compiler knows "sha" as a name to ask for; and a virtual machine takes long over the question, so it is asked once.
static bool has_sha(void)
{
    static atomic_int known; // 1: no, 2: yes
    int is = atomic_load_explicit(&known, memory_order_relaxed);
    if (is != 0) return is == 2;
    unsigned a, b, c, d;
    is = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) ? 2 : 1;
    atomic_store_explicit(&known, is, memory_order_relaxed);
    return is == 2;
}

bool chunk_lanes_fast(void)
{
    return !chunk_lanes_off && has_sha() && __builtin_cpu_supports("avx");
}

#else

bool chunk_lanes_fast(void)
{
    return false;
}

static void update_blocks(struct digest *whole, const uint8_t *p, struct digest *chunk, const uint8_t *q, size_t blocks, struct chunk_scan *scan,
                          struct span window)
{
    (void)scan, (void)window;
    digest_update(whole, SPAN(p, blocks * SHA256_BLOCK));
    digest_update(chunk, SPAN(q, blocks * SHA256_BLOCK));
}

#endif

// The digests' blocks begin at different places of the content: each is brought to the beginning of one first.
void chunk_lanes_update(struct digest *whole, struct digest *chunk, struct span content, struct chunk_scan *scan, struct span window)
{
    size_t p = digest_gap(whole), q = digest_gap(chunk), more = p > q ? p : q;
    size_t blocks = chunk_lanes_fast() && content.n > more ? (content.n - more) / SHA256_BLOCK : 0;
    if (blocks == 0) p = q = 0;
    digest_update(whole, span_sub(content, 0, p));
    digest_update(chunk, span_sub(content, 0, q));
    if (blocks > 0) update_blocks(whole, content.p + p, chunk, content.p + q, blocks, scan, window);
    p += blocks * SHA256_BLOCK;
    q += blocks * SHA256_BLOCK;
    digest_update(whole, span_sub(content, p, content.n - p));
    digest_update(chunk, span_sub(content, q, content.n - q));
}
