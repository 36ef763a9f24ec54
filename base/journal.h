// The journal: the truth of an app. A chain of preallocated segment files that holds groups; a group is written
// with one barrier and is there whole or not at all.
//
// On disk (all integers little endian): base/README.md has the layout. Thread: one at a time; whoever hands it over sees to the order.
//
// Promise: when journal_append returns 0 the group survives a power cut. Opening verifies every group by its
// checksum (XXH3 over header and payload, seeded by the journal's secret and the segment's life). The first
// bad group ends the journal, unless a group of its number or a higher one verifies behind it: that is
// ERR_CORRUPT, reported and never skipped. The verified tail is copied to a fresh segment and synced before
// journal_open returns, and the epoch is raised.
#ifndef SEGUE_JOURNAL_H
#define SEGUE_JOURNAL_H

#include "problem.h"
#include "span.h"
#include "uuid.h"

struct journal;

struct journal_options {
    const char *path;       // a folder; made where it is missing
    uint64_t segment_bytes; // 0: JOURNAL_SEGMENT_BYTES; a multiple of 4096
    bool keep_all;          // never recycle (for replays from the beginning)
    bool read_only;         // verify and replay only; append is ERR_READ_ONLY, the files are not touched
};

// Called for each retained group in order while opening, the last one only once it is durable; `payload` lives during the
// call. Non-zero stops the opening and is returned by it.
typedef int journal_replay_fn(void *ctx, uint64_t group, struct span payload);

// Opens or creates. ERR_NO_SPACE when there is no room to copy the tail: the caller may open again with read_only.
// On success the caller owns *out.
int journal_open(struct journal **out, const struct journal_options *options, journal_replay_fn *fn, void *ctx, struct problem *p);
void journal_close(struct journal *j); // NULL is fine

// Names this journal for ever; another one (a restored backup, a new folder) has another id.
struct uuid journal_id(const struct journal *j);
uint64_t journal_epoch(const struct journal *j);
uint64_t journal_first_group(const struct journal *j); // the oldest retained; == journal_next_group when empty
uint64_t journal_next_group(const struct journal *j);  // the number the next append gets; the first of all is 1

// Writes one group and waits for its barrier. 0: durable.
//   ERR_NO_SPACE, with *fate_unknown false: no room for a further segment, nothing was written, later appends may be tried again.
//   ERR_IO or ERR_NO_SPACE with *fate_unknown true: the write or its barrier failed. Never retried: every later append fails, and
//   the journal has to be closed and opened again, which finds out what is there.
int journal_append(struct journal *j, struct span payload, bool *fate_unknown);

// There is something for journal_prepare to do.
bool journal_wants_room(const struct journal *j);
// Prepares room ahead of need, a bounded step at a time, so that no append pays for a preallocation. True: call again soon.
bool journal_prepare(struct journal *j);

// Groups up to and including `group` are no longer needed: segments that hold nothing later are kept as room or removed.
void journal_recycle(struct journal *j, uint64_t group);

// Bytes in groups that are still retained, and on disk in all.
uint64_t journal_live_bytes(const struct journal *j);
uint64_t journal_disk_bytes(const struct journal *j);
// Bytes that the groups appended since it was opened have taken.
uint64_t journal_written_bytes(const struct journal *j);

#endif
