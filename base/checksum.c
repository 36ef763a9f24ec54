#include "checksum.h"

#define XXH_STATIC_LINKING_ONLY // for a hash state on the stack
#include <xxhash.h>

uint64_t checksum64(struct span s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.p, s.n, seed);
}

uint64_t checksum64_two(struct span a, struct span b, uint64_t seed)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, seed);
    XXH3_64bits_update(&state, a.p, a.n);
    XXH3_64bits_update(&state, b.p, b.n);
    return XXH3_64bits_digest(&state);
}

struct checksum128 checksum128(struct span s, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(s.p, s.n, seed);
    return (struct checksum128){.lo = h.low64, .hi = h.high64};
}
