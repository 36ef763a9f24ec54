#include "hlc.h"

#include <assert.h>

uint64_t hlc_next(struct hlc *clock, uint64_t wall_ms)
{
    assert(wall_ms < UINT64_C(1) << (64 - HLC_COUNTER_BITS));
    assert(clock->last < UINT64_MAX);
    // A counter that runs over carries into the milliseconds: the stamp is then a little ahead, and still greater.
    uint64_t now = hlc_stamp(wall_ms, 0);
    clock->last = now > clock->last ? now : clock->last + 1;
    return clock->last;
}

void hlc_observe(struct hlc *clock, uint64_t stamp)
{
    if (stamp > clock->last) clock->last = stamp;
}
