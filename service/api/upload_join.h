// Uploads that are made of others: their chunks are listed anew, none is copied, and the digest of the whole is found by reading
// them on the pool. Every few MiB what was read is a commit, so that it goes on where it was after a restart. Thread: the loop's.
#ifndef SEGUE_UPLOAD_JOIN_H
#define SEGUE_UPLOAD_JOIN_H

#include "uuid.h"

struct upload_care;

// Goes on with the joining of this upload, if nobody does already and there is room; else upload_care_tick comes by again.
void upload_join_begin(struct upload_care *c, struct uuid id);

#endif
