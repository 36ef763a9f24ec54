// When commits happened: the truth behind replays at recorded pace, for every stream of an app at once.
//
// A mark says that a commit arrived at a time; the commits up to the next mark arrived less than SEQ_TIME_MS later. So an append costs a comparison,
// and a busy app 20 marks a second, of 2 to 4 bytes. Only commits that touch streams are looked at. Marks are a pure function of the journal's
// entries: a recovery and a replay make the same.
//
//      marks   m0 ──── m1 ──────────── m2        chunk: key seq of its first mark u64 be
//      commits |  | |  |         |  |  |  …             value format u8 | ms varint | (seq, ms: varints, from the mark before)…
#ifndef SEGUE_SEQ_TIMES_H
#define SEGUE_SEQ_TIMES_H

#include "commit.h"

struct db_txn;

#define SEQ_TIMES_TABLES "seq_times"
#define SEQ_TIMES_TABLE_COUNT 1

// What is kept in memory of the table: the last mark's time.
struct seq_times {
    bool any;
    uint64_t last_ms;
};

// As the transaction has it; also after one that was aborted. ERR_CORRUPT, ERR_VERSION, the transaction's error.
int seq_times_load(struct seq_times *t, struct db_txn *txn, int table);
// A commit that touches streams was applied; commits come in order. Marks are kept SEQ_TIME_KEPT_MS at least; what is older goes in bounded steps.
int seq_times_note(struct seq_times *t, struct db_txn *txn, int table, const struct commit *c);

struct seq_time {
    bool known;    // false: longer ago than marks are kept
    uint64_t ms;   // when it arrived, or less than SEQ_TIME_MS before that
    uint64_t next; // the first commit that is known to have come `span_ms` (not 0) or more behind it; of one not known, the first that is. UINT64_MAX: none
};
// Of a commit that touched a stream. ERR_CORRUPT, ERR_VERSION, the transaction's error.
int seq_times_find(struct db_txn *txn, int table, uint64_t seq, uint64_t span_ms, struct seq_time *out);

#endif
