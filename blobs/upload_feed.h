// The feeds of resumable uploads: one in memory for each upload that somebody follows, with the last states it had, so that
// a range that ends before the newest commit is given the state as of its end. Thread: the owner's.
#ifndef SEGUE_UPLOAD_FEED_H
#define SEGUE_UPLOAD_FEED_H

#include "blobs.h"

struct upload_feed;

#define UPLOAD_FEED_SLOTS 256

struct upload_feeds {
    struct upload_feed *slots[UPLOAD_FEED_SLOTS];
    struct upload_feed *touched; // since the last publish
};

// An upload changed in the commit `seq`, which is applied; shown with the next publish. `info`: NULL when it was dropped.
void upload_feeds_note(struct upload_feeds *f, struct uuid id, uint64_t seq, const struct upload_info *info);
void upload_feeds_publish(struct upload_feeds *f, uint64_t seq);
void upload_feeds_check_empty(const struct upload_feeds *f); // asserts that nobody follows anything

#endif
