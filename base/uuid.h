// Row and replica ids: UUIDs, new ones of version 7 (RFC 9562), so that ids sort by birth.
#ifndef SEGUE_UUID_H
#define SEGUE_UUID_H

#include "span.h"

#define UUID_TEXT 36 // characters, without a terminator

struct uuid {
    uint8_t b[16];
};

// Version 7 from milliseconds since 1970 and 10 bytes of which 74 bits are used. Pure: the caller brings the
// randomness (uuid_random, or a hash of a batch's seed and an index).
struct uuid uuid_v7(uint64_t ms, const uint8_t random[10]);

// Version 7 of the wall clock and the system's randomness. Aborts if the system has none.
struct uuid uuid_new(void);

// Fills `p` from the system's randomness. Aborts if the system has none.
void random_bytes(void *p, size_t n);

// The canonical text of 36 characters, either case; anything else is ERR_BAD_VALUE.
int uuid_parse(struct uuid *u, struct span text);

// Lower-case canonical text, without a terminator.
void uuid_format(struct uuid u, char text[UUID_TEXT]);

static inline bool uuid_equal(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

static inline int uuid_compare(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b);
}

#endif
