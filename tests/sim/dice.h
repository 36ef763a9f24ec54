// The one source of chance of a simulation: splitmix64, the same everywhere for the same seed.
#ifndef SEGUE_TEST_DICE_H
#define SEGUE_TEST_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_next(struct dice *d)
{
    uint64_t z = (d->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// One of 0 … n - 1.
static inline uint32_t dice_below(struct dice *d, uint32_t n)
{
    return n == 0 ? 0 : (uint32_t)((dice_next(d) >> 32) % n);
}

static inline bool dice_chance(struct dice *d, uint32_t percent)
{
    return dice_below(d, 100) < percent;
}

#endif
