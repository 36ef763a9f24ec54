// What a transaction has read: rows by id, and ranges of keys that its queries looked through, whether anything was there or not.
//
// All is one kind of thing: a half-open range of keys [from, to) in an index of a table. Index 0 is the rows by id, so a row, or its
// absence, is the range that holds its id alone. A key of another index is the order keys of its columns and then the id, as the index
// stores it, so the beginning of such a key names all rows that share it. Ranges that meet become one, so a set is an interval
// index: sorted, disjoint, asked by halving.
//
// A set keeps at most READ_SET_MAX encoded bytes. One that would be larger is coarsened, never cut: the table with the most of it
// counts as read whole. That can only refuse more transactions, never accept one too many.
//
// One thread at a time; any thread. Recording has a sticky error, so that readers need not check each call.
#ifndef SEGUE_ROWS_READ_SET_H
#define SEGUE_ROWS_READ_SET_H

#include "buf.h"
#include "uuid.h"

#define READ_KEY_MAX 512   // bytes of a range's end: an index key, the id behind it, and what makes it exclusive
#define READ_TABLE_WHOLE 0 // the index that a table read whole is a range of

struct read_range {
    uint32_t table, index; // numbers as the schema's, for good; index 0: the rows by id
    struct span from, to;  // bytewise; `from` empty: from the first key, `to` empty: without an end
};

// The ranges of one index, in order.
struct read_group {
    uint32_t table, index;
    const struct read_range *ranges;
    size_t n; // at least 1
};

struct read_set;

struct read_set *read_set_new(void); // NULL: no memory
void read_set_free(struct read_set *s); // NULL is fine

// ---- recording -----------------------------------------------------------------------------------------------------

// This row was looked for, and found or not.
void read_set_row(struct read_set *s, uint32_t table, struct uuid id);
// All keys in [from, to) were looked through. An empty range is nothing. The bytes are copied.
void read_set_range(struct read_set *s, uint32_t table, uint32_t index, struct span from, struct span to);
// Everything that `other` holds; it need not be finished.
void read_set_add(struct read_set *s, const struct read_set *other);

// Sorts, merges and keeps the bound; needed before everything below, and again after more was recorded. 0 or ERR_NOMEM, also of earlier calls.
int read_set_finish(struct read_set *s);

// ---- asking (finished) ---------------------------------------------------------------------------------------------

// The groups, by table and index. *n may be 0: nothing was read.
const struct read_group *read_set_groups(const struct read_set *s, size_t *n);
// Those of one table. *n may be 0.
const struct read_group *read_set_table(const struct read_set *s, uint32_t table, size_t *n);
// The range of the group that this key lies in; NULL: none.
const struct read_range *read_group_find(const struct read_group *g, struct span key);
// Is this range one row, or its absence?
bool read_range_row(const struct read_range *r, struct uuid *id);

// ---- as bytes ------------------------------------------------------------------------------------------------------
//
//      format version, varint groups,
//      [per group: varint table, varint index, varint ranges, [per range: blob from, varint end, …]]
//      end: 0: `from` and nothing else    1: without an end    n + 1: the n bytes that follow are `to`

// Of a finished set; equal sets give equal bytes. Appends at most READ_SET_MAX bytes.
void read_set_encode(const struct read_set *s, struct buf *out);
// Records what the bytes hold. Strict: only what encoding writes is taken. ERR_CORRUPT and then `s` is as it was, or ERR_NOMEM.
int read_set_decode(struct read_set *s, struct span bytes);

#endif
