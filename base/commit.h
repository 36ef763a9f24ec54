// What the service adds to a batch before it is decided, and what its commit is called: the part of a journal
// entry that all three stores need. Deciding and applying read the time and the randomness here and nowhere else.
#ifndef SEGUE_COMMIT_H
#define SEGUE_COMMIT_H

#include "span.h"
#include "uuid.h"

struct commit {
    uint64_t seq;        // the place in the app's order that this batch has, or would have
    uint64_t group;      // the journal group that holds it
    uint64_t arrival_ms; // never decreasing; what now() is and what stamps are judged by
    uint64_t stamp;      // hybrid-clock stamp of its writes
    uint64_t base;       // the last seq its writer had seen
    struct uuid writer;  // the replica; all zero for a one-off writer. Breaks ties between equal stamps
    uint8_t seed[16];    // randomness for ids made while deciding
    uint64_t counter;    // of the writer's batch; 0: a one-off writer
    struct span key;     // a one-off writer's name for its batch; empty: none
    struct span author;  // the name of the identity that sent it
    bool transaction;    // what its writer had read is as it was; its stamp is above every one that it writes over
    struct span request; // the encoded batch inside the journal entry: effects may point into it
};

#endif
