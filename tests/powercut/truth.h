// What a recorded run really did, read out of its disk log: every journal group that was ever written, and the app's
// state behind each, found by deciding the groups again in an empty app.
#ifndef SEGUE_TEST_TRUTH_H
#define SEGUE_TEST_TRUTH_H

#include "digest.h"
#include "disk.h"

struct truth;

struct truth_state {
    struct sha256 hash; // app_state_hash
    uint64_t seq;
};

struct truth *truth_new(void);
void truth_free(struct truth *t); // NULL is fine
// Takes the groups of one more log in, in the order in which the logs were recorded. False: unreadable, or not a journal's.
bool truth_read(struct truth *t, const char *log);
// Decides all groups again in an app in `folder`, which must be empty. False, with a sentence on stderr: a group is missing, or is decided otherwise.
bool truth_decide(struct truth *t, const char *folder);
uint64_t truth_groups(const struct truth *t);
// The state behind this group; 0 is the empty app.
const struct truth_state *truth_at(const struct truth *t, uint64_t group);

// What clients had been told, read from what was sent: the greatest seq in a fate, a stored blob or a commit message.
struct told {
    uint64_t seq;
    struct told_socket *sockets;
    size_t count;
};
void told_send(struct told *t, const struct disk_record *r); // a DISK_LOG_SEND
void told_free(struct told *t);

#endif
