// What an outbox keeps on the disk: batches that wait, fates that were not seen yet. A folder with an LMDB environment and a lock.
//
//   put ──> waits ──> named ──> settled ──> seen: gone
//             └ drop: gone  └─ unnamed again, where the name was never used and cannot be
//
// The name (replica, counter) is given, and durable, before the batch is sent for the first time; no counter is given twice. Names are given in
// the order of the ids, so that those that have one come before those that have none.
//
// Any thread, any number of processes: each call is one transaction. Within a process all that open one folder share it.
#ifndef SEGUE_C_OUTBOX_STORE_H
#define SEGUE_C_OUTBOX_STORE_H

#include "buf.h"
#include "uuid.h"

struct outbox_store;

struct outbox_bounds {
    uint32_t batches_max; // that wait, or whose fates were not seen
    uint64_t bytes_max;   // of these
};

enum outbox_state { OUTBOX_WAITS, OUTBOX_ACCEPTED, OUTBOX_REJECTED, OUTBOX_UNSENDABLE, OUTBOX_EXPIRED };

struct outbox_item {
    uint64_t id; // counted from 1, never used again
    enum outbox_state state;
    struct uuid replica;
    uint64_t counter; // 0: no name was given yet
    uint64_t made_ms;
    uint64_t base, stamp;  // that are said beside the batch's members; 0: none
    bool merges;           // it may have a base and a stamp
    bool says_base;        // among its own members
    bool says_stamp;
    struct span tag;
    struct span text; // the members of one that waits; the answer of one that is settled
};

// What the outbox as a whole knows.
struct outbox_head {
    bool bound;          // `journal` is the one of the service that it is for
    struct uuid journal;
    uint64_t told_seq;   // the last that the service told of
    uint64_t saw_seq;    // the last that the program said to have seen; 0: it says nothing
    uint32_t count;      // batches that wait and fates that were not seen
    uint32_t waiting;
    uint64_t bytes;
};

// Makes the folder. ERR_BUSY: another process is about to make it. On success the caller owns *out, and closes it.
int outbox_store_open(struct outbox_store **out, const char *path);
void outbox_store_close(struct outbox_store *st); // NULL is fine

int outbox_store_head(struct outbox_store *st, struct outbox_head *out);

// Adds a batch; of `item` all but id, state, name, base and stamp is the caller's. What it does not say itself it gets here: the stamp of now, and as its base
// the last seq that is known. Durable when it returns; *id is written then. ERR_TOO_MANY: a bound.
int outbox_store_put(struct outbox_store *st, const struct outbox_item *item, struct outbox_bounds bounds, uint64_t *id);

// The first batch that waits behind `after`, or the first settled one: 0, or ERR_NOT_FOUND. What the item refers to is in `room`.
int outbox_store_next_waiting(struct outbox_store *st, uint64_t after, struct outbox_item *out, struct buf *room);
int outbox_store_next_settled(struct outbox_store *st, uint64_t after, struct outbox_item *out, struct buf *room);

// Takes one away that has no name: durable. ERR_NOT_FOUND; ERR_EXISTS: it may have been sent.
int outbox_store_drop(struct outbox_store *st, uint64_t id);

// Gives names to the first `count` batches that have none: durable. Those that know no base say the first commit's, if `told_seq` is one: they have seen nothing.
int outbox_store_name(struct outbox_store *st, size_t count, uint64_t told_seq);
struct outbox_fate {
    uint64_t id;
    enum outbox_state state;
    size_t at, n; // bytes of its answer
};
// Those that wait are settled in one step, with answers out of `answers`. ERR_NOT_FOUND: one does not wait (any more), and nothing was changed.
int outbox_store_settle(struct outbox_store *st, const struct outbox_fate *fates, size_t count, struct span answers);
// One that cannot be sent is settled without having used its name: neither have those behind it, which get names of another replica when their time comes.
int outbox_store_refuse(struct outbox_store *st, uint64_t id, struct span answer);
// All that waits gets new names, and the next service that it is sent to is the one that it is for. Durable.
int outbox_store_adopt(struct outbox_store *st);

// The service that it is for, from now on. Durable.
int outbox_store_bind(struct outbox_store *st, struct uuid journal);
// Seqs that are known now; 0: nothing new.
int outbox_store_know(struct outbox_store *st, uint64_t told_seq, uint64_t saw_seq);
// A settled one has been seen and is forgotten. ERR_NOT_FOUND.
int outbox_store_seen(struct outbox_store *st, uint64_t id);

// Who sends: one at a time. >= 0: the lock, which file_close gives back; -1: another one does.
int outbox_store_lock_sender(struct outbox_store *st);

#endif
