// Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): stamps that follow the wall clock
// and never go back, so that a write made after another was seen carries the greater stamp.
//
// A stamp is 64 bits: milliseconds since 1970 in the upper 48, a counter in the lower 16.
#ifndef SEGUE_HLC_H
#define SEGUE_HLC_H

#include <stdint.h>

#define HLC_COUNTER_BITS 16

struct hlc {
    uint64_t last; // the greatest stamp given out or observed
};

static inline uint64_t hlc_stamp(uint64_t ms, uint16_t counter)
{
    return ms << HLC_COUNTER_BITS | counter;
}

static inline uint64_t hlc_ms(uint64_t stamp)
{
    return stamp >> HLC_COUNTER_BITS;
}

// The next stamp, greater than all given out or observed. Pure: the caller brings the wall clock.
uint64_t hlc_next(struct hlc *clock, uint64_t wall_ms);

// Takes note of a stamp seen elsewhere.
void hlc_observe(struct hlc *clock, uint64_t stamp);

#endif
