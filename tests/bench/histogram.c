#include "histogram.h"

#include <assert.h>

// Below 2 * STEPS each value has its own bucket; above, the leading bit picks the power and the next five bits the step.
static unsigned bucket_of(uint64_t ns)
{
    if (ns < 2 * HISTOGRAM_STEPS) return (unsigned)ns;
    unsigned power = 63u - (unsigned)__builtin_clzll(ns);
    unsigned shift = power - 5;
    return shift * HISTOGRAM_STEPS + (unsigned)(ns >> shift);
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_STEPS) return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t low = (uint64_t)(bucket - shift * HISTOGRAM_STEPS) << shift;
    return low + (UINT64_C(1) << shift) / 2;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    unsigned bucket = bucket_of(ns);
    assert(bucket < HISTOGRAM_BUCKETS);
    h->buckets[bucket]++;
    h->count++;
    if (ns > h->max) h->max = ns;
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)((double)h->count * share), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > wanted) return middle_of(i);
    }
    return h->max;
}
