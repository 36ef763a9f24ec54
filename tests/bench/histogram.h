// Durations, counted in buckets of about three percent: any quantile of any number of them in constant memory.
#ifndef SEGUE_HISTOGRAM_H
#define SEGUE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 32 // buckets per power of two
#define HISTOGRAM_BUCKETS (60 * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

// The smallest bucket's middle below which `share` (0 to 1) of all lie, in nanoseconds; 0 when nothing was counted.
uint64_t histogram_quantile(const struct histogram *h, double share);

#endif
