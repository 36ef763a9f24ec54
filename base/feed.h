// A feed: anything one can subscribe to. The stores implement it, the service pumps it; neither knows the other.
//
// Life of a subscription:
//
//      attach ──> snapshot(at) … in pieces … done ──> live: reach/changes over ranges (from, to] ──> detach
//         └── with a cursor ──────────────────────────^
//
// All calls happen on the app's owner thread, outside of decide and apply, when everything applied is durable.
#ifndef SEGUE_FEED_H
#define SEGUE_FEED_H

#include "bytes.h"
#include "problem.h"

struct db_txn;
struct feed;
struct feed_sub;

// Takes complete JSON values one after the other, in the order in which a client applies them.
struct feed_sink {
    // `value` is borrowed; a sink that keeps it takes a reference. Non-zero stops the feed and is returned by it.
    int (*emit)(struct feed_sink *sink, struct bytes *value);
    // NULL, or what takes values that are made for this one reader: borrowed for the call, and nothing is allocated for each.
    int (*emit_text)(struct feed_sink *sink, struct span value);
};

struct feed_ops {
    const char *kind; // "query", "stream", "upload"
    // Emits the next piece of the state as of commit `at` (not above the visible seq), about `budget` bytes of it, and
    // says whether that was the last. `at` is the same for every piece of one snapshot. Where the reader began is the sub's own.
    int (*snapshot)(struct feed_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done);
    // The largest seq in (from, to] whose changes since `from` take about `budget` bytes; from + 1 if even that is more.
    int (*reach)(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached);
    // Emits what leads from the state as of `from` to the state as of `to`; nothing if nothing changed. The same for every reader of the
    // feed who has the state as of `from`, so that one may get what was made for another.
    // ERR_TOO_OLD: that is no longer known, the reader needs a fresh snapshot.
    int (*changes)(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink);
    // The reader leaves; frees the sub.
    void (*detach)(struct feed_sub *sub);
};

// One reader's place at a feed. Made by a store's own attach call, which embeds this first in a struct of its own.
struct feed_sub {
    struct feed *feed;
    struct feed_sub *next, *prev; // the feed's list
    uint64_t changed;             // the last seq that touched the feed while this sub was attached; 0: none
    void (*wake)(struct feed_sub *sub); // called once per group that touched the feed, after it is visible; only marks, never pumps
    void *owner;                  // the reader's
};

struct feed {
    const struct feed_ops *ops;
    struct feed_sub *subs;
    void *crowd; // the service's: readers whom one sub stands for; NULL: none
    // What the service keeps for those readers that are still to come; freed when the last sub is unlinked.
    void *shared;
    void (*shared_free)(void *shared);
};

// Links and unlinks a sub; for the stores' attach and detach.
void feed_link(struct feed *feed, struct feed_sub *sub);
void feed_unlink(struct feed_sub *sub);

// Tells every sub that `seq` touched the feed. For the stores' publish.
void feed_touch(struct feed *feed, uint64_t seq);

#endif
