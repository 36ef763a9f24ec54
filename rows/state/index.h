// Secondary indexes: from the values of some columns to the rows that have them, as of any seq. Entries follow from the rows alone:
// they are written while a batch is applied, never part of its effects or of the state's hash.
//
//          apply ──> index_row ──> entries of what stands now      (a seq: when they were born)
//                             └──> entries of what stood before    (two seqs: born, died)
//          rows_tick ──> a new index is filled, a dropped one is emptied: some rows at a time
#ifndef SEGUE_ROWS_INDEX_H
#define SEGUE_ROWS_INDEX_H

#include "store.h"

// ---- keys ----------------------------------------------------------------------------------------------------------

// The bytes of one value at the index's column `place`: a key is these of all columns, one after the other. They sort as the columns do, and no
// value's bytes begin another's, so the bytes of the first columns begin the keys of all rows that have these values.
void index_key_value(struct buf *out, const struct table *t, const struct index *ix, size_t place, const struct value *v);
// What the index has of a row: its key in `out`, or nothing, where it does not stand or the index's `where` leaves it out. ERR_TOO_LARGE: more than
// INDEX_KEY_MAX; ERR_BAD_VALUE: the `where` cannot be evaluated.
int index_key(struct rows *r, struct buf *out, const struct table *t, const struct index *ix, struct uuid id, const struct row *row,
              struct problem *p);
// Can all indexes of the table take this row? The errors of index_key, naming the index.
int index_takes(struct rows *r, const struct table *t, struct uuid id, const struct row *row, struct problem *p);

// ---- reading -------------------------------------------------------------------------------------------------------

// May the index answer for the state as of `at`? Not while it is being filled, nor for what was before.
bool index_ready(const struct rows *r, const struct table *t, const struct index *ix, uint64_t at);

struct index_entry {
    struct span columns;
    struct uuid id;
    uint64_t born, died; // died: 0 for what stands now
};

// Rows by their keys, then by id, those that stood at `at`; each once. Nothing is written to `txn` while it is open.
struct index_iter {
    uint64_t at;
    bool desc, with_past;
    size_t looked_at; // entries: what the seq does not see is passed by. At most QUERY_SCAN_MAX
    int err;
    size_t skip;            // private from here on: bytes before the columns
    struct db_iter now, past;
    bool now_on, past_on, begun, took_now;
    struct index_key now_first, now_end, past_first, past_end;
};

// Keys in [from, to), the greatest first with `desc`; an empty `to` has no end. The index is ready for `at`; UINT64_MAX: what stands now.
void index_open(struct index_iter *it, struct rows *r, struct db_txn *txn, const struct table *t, const struct index *ix, struct span from,
                struct span to, bool desc, uint64_t at);
// The next row; *key lives until the next call. False: there is none, or index_end tells why not.
bool index_next(struct index_iter *it, struct uuid *id, struct span *key);
int index_end(struct index_iter *it); // always. 0, ERR_QUERY_TOO_EXPENSIVE, ERR_CORRUPT, or the transaction's error

// Where to open again behind a row that was read: the `from` of an ascending walk, the `to` of a descending one. `out` has nothing else then.
void index_after(struct buf *out, struct span key, struct uuid id, bool desc);

// ---- keeping -------------------------------------------------------------------------------------------------------

// One row as the commit `seq` found it and as it leaves it. ERR_CORRUPT: the index does not have the row as it was.
int index_change(struct rows *r, struct db_txn *txn, const struct table *t, const struct index *ix, struct uuid id, const struct row *old,
                 const struct row *new, uint64_t seq);
// The same for all indexes of the table, as far as they are filled.
int index_row(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *old, const struct row *new,
              uint64_t seq);

// ---- filling (index_fill.c) ----------------------------------------------------------------------------------------

// How far an index is filled.
struct index_state {
    uint32_t no;    // of the index; 0 ends a table's list
    bool complete;
    uint64_t floor; // complete: it answers for this seq and later ones
    bool begun;     // else: rows up to `last` are in it
    struct uuid last;
};

// Has the index taken this row in, or will it when it comes by?
static inline bool index_state_covers(const struct index_state *s, struct uuid id)
{
    return s->complete || (s->begun && uuid_compare(id, s->last) <= 0);
}

// For a schema that is the store's now: reads how far its indexes are. ERR_NOMEM, ERR_CORRUPT, or the transaction's error.
int index_load(struct rows *r, struct db_txn *txn);
void index_unload(struct rows *r);
// The same behind the commit `seq` that published it: what is new begins; a unique one is filled at once, for the next batch relies on it.
int index_publish(struct rows *r, struct db_txn *txn, uint64_t seq);
// One step of filling, or of emptying one that was dropped; `rows` at most. *more: there is something left to do.
int index_step(struct rows *r, struct db_txn *txn, size_t rows, bool *more);

#endif
