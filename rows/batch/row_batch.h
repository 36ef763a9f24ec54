// A batch being decided: the state, and over it the rows that the batch's own operations have changed so far.
#ifndef SEGUE_ROW_BATCH_H
#define SEGUE_ROW_BATCH_H

#include "store.h"

// One row that the batch looked at closely.
struct entry {
    uint32_t table;
    struct uuid id;
    bool was_live;  // before the batch
    bool loaded;    // `row` has its cells
    bool changed;   // the batch makes a new version
    bool touched;   // its stream changes
    uint32_t op;    // the last operation that changed it
    bool swept;     // deleted, and what referred to it is seen to
    bool made;      // the batch inserts it
    bool restored;  // it stands no more, and the batch has brought it back
    bool whole;     // all of its cells are new to the state: an insert, a restore
    struct row row; // as the batch leaves it; cells and their spans are in the arena
};

struct rows_batch {
    struct rows *r;
    struct db_txn *txn;
    struct commit c;
    const struct rows_host *host;
    bool preview;          // nothing of it is ever applied: it is over the state as of `at`, and only its rows matter
    uint64_t at;
    struct schema *schema; // the store's, or the one that the batch publishes
    bool publishes;
    struct arena *arena;
    struct buf scratch;     // encodes rows to know their size
    struct row_space *room; // decodes stored rows; NULL until the first one
    struct entry **entries;
    size_t count, cap;
    uint32_t *buckets; // index of an entry + 1; open addressing
    size_t bucket_count;
    uint64_t horizon; // where the batch puts it; 0: it stays
    uint64_t ids_made;
    uint32_t ops;      // operations so far
    uint32_t cascaded; // rows that went, or changed, with deleted ones
    const struct commit *pending; // in a preview: batches that were decided before this one and are in the overlay
    size_t pending_count;
    struct commit_head last_head; // of last_seq: one commit wrote many cells
    uint64_t last_seq;
};

// The error of a failed arena allocation: the batch needs too much, or memory is exhausted.
int batch_no_room(const struct rows_batch *b, struct problem *p);

// What the batch already knows of a row; NULL: nothing.
struct entry *batch_find(const struct rows_batch *b, uint32_t table, struct uuid id);
// The same, made from the state where it is missing; its cells are not loaded.
int batch_entry(struct rows_batch *b, const struct table *t, struct uuid id, struct entry **out, struct problem *p);
// Loads the cells of a live row, or adds those of columns that a schema published by this batch has brought.
int batch_load_cells(struct rows_batch *b, const struct table *t, struct entry *e, struct problem *p);
// Takes cells over as the row's own: deep copies.
int batch_copy_cells(struct rows_batch *b, const struct table *t, struct entry *e, const struct cell *from, struct problem *p);
// Room for a stored row, which lives until the next call of any of these. NULL: no memory.
struct row_space *batch_room(struct rows_batch *b);
// Does the row stand, as the batch would leave it?
bool batch_row_stands(struct rows_batch *b, uint32_t table, struct uuid id);

// Takes over what another batch has changed, as if it were in the state: for previews.
int batch_inherit(struct rows_batch *b, const struct rows_batch *from);
// Deletes a row that stands, and its streams.
int batch_delete_row(struct rows_batch *b, const struct table *t, struct entry *e, struct problem *p);

// ---- the batch as a whole, at its end (decide_references.c, decide_constraints.c) ----------------------------------

// Deletes, or cuts off, what refers to deleted rows, as their columns say; then no reference may be left without its row. ERR_STILL_REFERENCED,
// ERR_NO_SUCH_REFERENCE, ERR_NOT_NULL, ERR_BATCH_TOO_LARGE.
int batch_end_references(struct rows_batch *b, struct problem *p);
// Checks and keys of the rows that changed, uniqueness, and what a schema that the batch publishes asks of the rows that are there. ERR_CHECK_FAILED,
// ERR_NOT_UNIQUE, ERR_TOO_LARGE, ERR_BAD_VALUE, ERR_QUERY_TOO_EXPENSIVE.
int batch_end_constraints(struct rows_batch *b, struct problem *p);

#endif
