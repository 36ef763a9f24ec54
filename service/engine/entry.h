// A journal entry: a batch as it was asked for, what the service added, its fate, and the complete effects of an accepted one.
// A group's payload is a head and its entries one after the other, each with its length before it. service/README.md has the layout.
//
// A token must not cost much more than its bytes, so an entry leaves out what its place says (times, seq, base), and the results and effects of
// a batch that is one append by number: they follow from the request and the offset.
#ifndef SEGUE_ENTRY_H
#define SEGUE_ENTRY_H

#include "fates.h"

#define ENTRY_MADE_MAX 96

struct entry {
    struct batch_name name;
    struct identity identity;
    struct commit commit; // request points into the entry; group is the caller's to fill. base is what the writer said, else the seq before
    uint64_t base_said, stamp_said; // what the writer said; 0: nothing
    struct fate fate;     // problem and results of it
    struct span rows, streams, blobs, jobs, subs, branches; // effects; empty where there are none
    uint8_t made[ENTRY_MADE_MAX]; // of an entry that was read: results and effects that were left out. So it is not to be moved while they are used
};

// What the entries before say about the next one. All zero: a group begins.
struct entry_place {
    bool begun;
    uint64_t arrival_ms, stamp, seq; // of the last entry, of the last accepted one
};

// Appends the entry with its length before it; the first one brings the group's head.
void entry_put(struct buf *out, struct entry_place *place, const struct entry *e);

struct entry_reader {
    struct span rest;
    struct entry_place place;
};
void entry_reader_init(struct entry_reader *r, struct span payload);
// Takes the next entry. 1: an entry, which points into the payload and into itself; 0: the end; ERR_CORRUPT.
int entry_read(struct entry_reader *r, struct entry *out);

#endif
