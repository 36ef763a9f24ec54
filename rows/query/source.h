// Where a query's rows come from: the store as of a seq, rows that lie over it, and a note of what was looked at.
#ifndef SEGUE_ROWS_SOURCE_H
#define SEGUE_ROWS_SOURCE_H

#include "index.h"
#include "read_set.h"
#include "sort_keys.h"

// Rows that take the place of the stored ones: a transaction's own, those of batches that are not decided yet, a branch's. They have
// as many cells as the current schema's table has columns, and stay as they are while a query runs. One that is deleted is a tombstone.
struct overlay {
    void *ctx;
    // The row of this id that lies over the stored one; NULL: none does.
    const struct row *(*find)(void *ctx, uint32_t table, struct uuid id);
    // The next one of the table behind `after` (NULL: the first) in the order of the ids; NULL: there are no more.
    const struct row *(*next)(void *ctx, uint32_t table, const struct uuid *after, struct uuid *id);
};

struct row_source {
    struct rows *r;
    struct db_txn *txn;            // may be another one in each step
    uint64_t at;
    const struct overlay *overlay; // NULL: none
    struct read_set *reads;        // NULL: nobody wants to know
};

// One row as of src->at; out->row.exists says whether there is one. 0, ERR_CORRUPT, or the transaction's error. Spans of the row
// live as long as the transaction does not write, or as the overlay.
int source_row(const struct row_source *src, const struct table *t, struct uuid id, struct row_space *out);

// ---- ranges --------------------------------------------------------------------------------------------------------

// Walks the rows of a range that stand. Holds on to its place in steps between which the transaction may change.
struct cursor {
    const struct table *t; // as of this step: cursor_resume
    const struct index *ix; // NULL: the rows by id
    struct buf from, to;   // keys in [from, to): columns, then id; an empty `to` has no end
    bool desc, runs;       // runs: rows of equal columns come by id though the walk is from the end
    bool done;
    uint64_t looked_at;
    // Private from here on.
    uint32_t table_no, index_no; // of t and ix, which a schema that comes between two steps may end: cursor_close does without them
    bool open, begun, got_all; // the iterator; a key was taken from it; all were
    struct index_iter it;
    struct db_iter rows;
    struct buf last; // the last key that was taken: columns, then id
    bool peeked;     // one key is taken and waits in `peek`
    struct buf peek;
    struct sort_keys over; // of rows that lie over the store, in order
    size_t over_at;
    bool with_over;
    struct buf run; // of equal columns: ids, of which the last one is given first
    struct buf run_key;
    bool giving; // the run is whole
};

// `c` is zero. The bounds are the caller's to put into c->from and c->to, before the first cursor_next. ERR_NOMEM.
int cursor_open(struct cursor *c, const struct row_source *src, const struct table *t, const struct index *ix, bool desc, bool runs);

// 0: the next row is in *id and *room, or c->done. CURSOR_MORE: *budget, which each key looked at takes one of, is used up.
#define CURSOR_MORE 1
int cursor_next(struct cursor *c, const struct row_source *src, size_t *budget, struct uuid *id, struct row_space *room);

// Before the transaction may change: nothing of it is held any more. The next call goes on in the transaction that `src` has then,
// and with the schema of then: `t` and `ix` are as they were, found anew.
void cursor_suspend(struct cursor *c);
void cursor_resume(struct cursor *c, const struct table *t, const struct index *ix);

// Notes what was looked through, and frees.
void cursor_close(struct cursor *c, const struct row_source *src);

#endif
