// XXH3, for records on disk and hash tables. The only user of xxhash.h. Not for secrets' sake: a seed keeps
// user-made bytes from posing as a record, nothing more.
#ifndef SEGUE_CHECKSUM_H
#define SEGUE_CHECKSUM_H

#include "span.h"

uint64_t checksum64(struct span s, uint64_t seed);

// Over two pieces as if they were one.
uint64_t checksum64_two(struct span a, struct span b, uint64_t seed);

struct checksum128 {
    uint64_t lo, hi;
};
struct checksum128 checksum128(struct span s, uint64_t seed);

#endif
