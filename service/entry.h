// A journal entry: a batch as it was asked for, what the service added, its fate, and the complete effects of an accepted one.
// A group's payload is its entries one after the other, each with its length before it. service/README.md has the layout.
#ifndef SEGUE_ENTRY_H
#define SEGUE_ENTRY_H

#include "fates.h"

struct entry {
    struct batch_name name;
    struct identity identity;
    struct commit commit; // request points into the entry; group is the caller's to fill
    uint64_t base_said, stamp_said; // what the writer said; 0: nothing
    struct fate fate;     // problem and results of it
    struct span rows, streams, blobs, jobs; // effects; empty where there are none
};

// Appends the entry with its length before it.
void entry_put(struct buf *out, const struct entry *e);

// Takes the next entry off the front of *rest. 1: an entry, which points into the payload; 0: the end; ERR_CORRUPT.
int entry_read(struct span *rest, struct entry *out);

#endif
