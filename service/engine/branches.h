// Branches: operations on rows that lie over a state and are not part of it, until they are merged as one batch or dropped.
//
//      create (at a seq; frozen or live) ─> write … write ─┬─ merge: all of its operations are decided on the state, as one batch ─┬─> gone
//                                                          └─ drop ───────────────────────────────────────────────────────────────┘
//
// A frozen branch lies over the state as of its base, a live one over the state as it is. What is kept of one is what was written to it, in order, so that
// merging it is nothing but deciding that again; its rows are made of it when it is looked at (rows/preview.h). Each step is an operation of a batch
// like any other, durable and final.
#ifndef SEGUE_BRANCHES_H
#define SEGUE_BRANCHES_H

#include "batch.h"
#include "commit.h"

struct db_txn;

#define BRANCHES_TABLES "branches"
#define BRANCHES_TABLE_COUNT 1

struct branch {
    char name[NAME_MAX_BYTES + 1];
    uint64_t no;   // the seq that made it: no other has it, even one of this name
    uint64_t base; // the seq that its writer starts from
    bool live;
    uint64_t created_ms;
    uint64_t writes, ops, bytes; // batches written to it, and what they hold
};

bool branch_name_valid(struct span name);

// 1: *out; 0: there is none; ERR_CORRUPT.
int branches_find(struct db_txn *txn, int table, struct span name, struct branch *out);
// By name. `fn` gives false back to stop. 0 or ERR_CORRUPT.
int branches_each(struct db_txn *txn, int table, bool (*fn)(void *ctx, const struct branch *b), void *ctx);
// What one batch wrote to it.
struct branch_write {
    uint64_t seq, arrival_ms; // the commit's
    struct span ops;          // encoded, until the transaction is written to
};
// The write that is its `index`, from 0. ERR_CORRUPT.
int branch_write_at(struct db_txn *txn, int table, const struct branch *b, uint64_t index, struct branch_write *out);
// Of a branch as it is makes it as it was at `seq`, as far as its writes are concerned. ERR_CORRUPT.
int branch_rewind(struct db_txn *txn, int table, struct branch *b, uint64_t seq);

// ---- deciding and applying -----------------------------------------------------------------------------------------

// Appends the effects of one step. `b` is the branch as it stands (not for BRANCH_CREATE); `ops` what a write adds, every insert with its id.
// ERR_BRANCH_EXISTS, ERR_BASE_AHEAD, ERR_TOO_MANY, ERR_BAD_VALUE, ERR_BATCH_TOO_LARGE: it would be more than one batch may be.
int branches_decide_create(struct db_txn *txn, int table, const struct batch_branch *op, const struct commit *c, struct buf *effects, struct problem *p);
int branches_decide_write(const struct branch *b, struct span ops, size_t count, struct buf *effects, struct problem *p);
void branches_decide_drop(const struct branch *b, struct buf *effects);
// ERR_CORRUPT: nothing is to be kept of this transaction.
int branches_apply(struct db_txn *txn, int table, const struct commit *c, struct span effects);

#endif
