// A streams store in a temporary folder that plays the app's part: it decides, applies and publishes batches, keeps their entries as a
// journal would, commits the database when told to, and can crash. For tests of streams/.
#ifndef SEGUE_STREAM_RIG_H
#define SEGUE_STREAM_RIG_H

#include "streams.h"

struct rig_entry {
    struct commit c;
    uint8_t *request;
    struct span effects;
};

struct rig {
    char *folder;
    char *segments; // the folder of the segment files
    struct db *db;
    struct db_txn *txn;
    struct streams *s;
    uint64_t seq, group, now_ms; // of the last batch; each batch is a group of its own
    uint64_t committed;          // the seq that the database holds
    struct rig_entry *entries;   // entries[seq - 1]
    size_t entry_cap;
    struct commit c; // of the batch being made
    uint8_t *request;
    struct streams_batch *batch;
};

void rig_open(struct rig *r);
void rig_close(struct rig *r);

// What the database commits, it keeps through a crash; all after that comes back from the entries.
void rig_commit(struct rig *r);
void rig_crash(struct rig *r);

// A batch: begin, any of the operations, end. Operations return what decide returned; end applies and publishes.
void rig_begin(struct rig *r);
int rig_create(struct rig *r, const char *path, const char *type, bool owned);
int rig_append(struct rig *r, const char *path, struct span data, const uint64_t *expected);
// A copy of `data` inside the request, where what an operation carries must lie.
struct span rig_data(struct rig *r, struct span data);
int rig_shut(struct rig *r, const char *path);
int rig_delete(struct rig *r, const char *path);
bool rig_decided(struct rig *r, const char *path, struct stream_info *out);
void rig_end(struct rig *r);
// Gives the batch up: nothing was decided.
void rig_drop(struct rig *r);

// One operation as a batch of its own; it must succeed.
void rig_create1(struct rig *r, const char *path);
void rig_append1(struct rig *r, const char *path, const char *text);
void rig_shut1(struct rig *r, const char *path);
void rig_delete1(struct rig *r, const char *path);

// Runs one seal job through; false: there was none.
bool rig_seal(struct rig *r, bool force);
// Seals all there is.
void rig_seal_all(struct rig *r);

bool rig_find(struct rig *r, const char *path, struct stream_info *out);
bool rig_find_at(struct rig *r, const char *path, uint64_t seq, struct stream_info *out);
// Appends everything from `offset` on, read in pieces of at most `max`.
int rig_read(struct rig *r, const char *path, uint64_t offset, size_t max, struct buf *out);
// True when the whole stream is `text`.
bool rig_holds(struct rig *r, const char *path, const char *text);
// The digest of the logical state, as 64 hexadecimal characters.
void rig_hash(struct rig *r, char out[65]);

#endif
