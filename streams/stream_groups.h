// Counts, per journal group, the appends whose bytes are not sealed yet: so that the oldest such group is known
// exactly at any time, without a walk over the streams.
//
// Appends come in the order of the groups and are sealed in any order. A deque, oldest group first, holds one counter per
// group; a counter that reaches zero at the front goes away, one in the middle waits there.
#ifndef SEGUE_STREAM_GROUPS_H
#define SEGUE_STREAM_GROUPS_H

#include "span.h"

struct group_count {
    uint64_t group;
    uint64_t appends;
};

struct groups {
    struct group_count *p;
    size_t head, n, cap; // p[head] to p[head + n - 1] are in use
};

int stream_groups_add(struct groups *g, uint64_t group);   // not below the last one (asserted); ERR_NOMEM
void stream_groups_drop(struct groups *g, uint64_t group); // one append of it; it was counted (asserted)
uint64_t stream_groups_oldest(const struct groups *g);     // UINT64_MAX when there is none
void stream_groups_free(struct groups *g);

#endif
