// Fates by the name of their batch: final, kept with the state, given again to a retry.
//
// A replica names its batches by a counter: the next one only; the highest settled counter is never forgotten, the fates of the last
// FATES_PER_REPLICA_MAX are kept. An idempotency key's fate is kept for FATE_KEY_MS_MAX. What is dropped depends on the state and on
// the arrival of the entry alone, so that replays drop the same.
#ifndef SEGUE_FATES_H
#define SEGUE_FATES_H

#include "auth.h"
#include "batch.h"
#include "checksum.h"
#include "commit.h"

struct db_txn;

#define FATES_TABLES "fates"
#define FATES_TABLE_COUNT 1

struct fate {
    int err;                // 0: accepted; else why it was rejected, or an error that is no fate
    bool journaled;         // it is a fate: final
    bool again;             // it was settled before: this is a retry's answer
    uint64_t seq;           // of an accepted batch
    uint64_t expected;      // with ERR_COUNTER_GAP: the counter that is next
    struct problem problem; // of a rejection or an error
    struct span results;    // encoded, see result_read: what the operations gave, or why it conflicts; lives during the call that hands it out
};

// What an operation gave back: only what the writer could not know. An append of a producer gives two: the tail, and the producer.
struct result {
    uint32_t op;
    enum {
        RESULT_ID = 1,       // made for an insert
        RESULT_OFFSET = 2,   // a stream's tail behind an append, a close or a trim, and whether it is closed
        RESULT_CREATED = 3,  // the same of a stream that was to be created; `created`: it was not there
        RESULT_PRODUCER = 4, // the highest (epoch, seq) of an append's producer; `duplicate`: it had been sent before
        RESULT_CONFLICT = 5, // of a rejected transaction: a row that was changed meanwhile
    } kind;
    struct uuid id;
    struct rows_conflict conflict;
    uint64_t offset;
    bool closed, created, duplicate;
    uint64_t epoch, seq;
};
void result_put(struct buf *out, const struct result *r);
// 1: a result, 0: the end, ERR_CORRUPT. Takes it off the front of *rest.
int result_read(struct span *rest, struct result *out);

// Binds the name to content: two batches of one name must be the same batch.
struct checksum128 fates_content(struct span request, uint64_t base, uint64_t stamp);

// Was a batch of this name settled? 0: no, it may be decided. 1: yes, *out is its fate (results live until the next write to `txn`). Negative: ERR_COUNTER_GAP,
// ERR_FATE_EXPIRED, ERR_NAME_REUSED, ERR_REPLICA_BOUND, as a sentence in out->problem too.
int fates_find(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct checksum128 content, struct fate *out);

// The fate of the batch of this name, whatever was in it. 1: *out is it, as above; ERR_NO_FATE: none was settled (yet), out->expected is the replica's next counter
// (0 for a key); or as fates_find.
int fates_get(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct fate *out);

// Keeps a fate and drops those that have had their time. ERR_NOMEM; failures of the database are the transaction's.
int fates_settle(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct checksum128 content, const struct commit *c, const struct fate *f);

#endif
