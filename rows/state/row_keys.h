// The only code that knows the keys of this store, and the records that are not rows (record.h) or schemas (schema.h).
//
//      rows         1, table, id                            -> the current record, tombstones included
//                   2, table, id, from table, column, id    -> nothing: the last names a live row whose column refers to the first
//      rows         3                                       -> the horizon (horizon.h)
//                   5, digest, table, column, id, seq       -> nothing: a cell that names a blob (blob_names.h)
//      row_history  table, id, seq                          -> a superseded record; seq is the one in it
//      row_commits  seq                                     -> struct commit_head, and the rows it touched
//      schemas      version                                 -> a schema that was published (schema_versions.h)
//      row_index    1, table, index, columns, id            -> born: what stands now
//                   2, table, index, columns, id, died      -> born: what the seqs in [born, died) had
//                   3, table, index                         -> how far the index is filled
//
// Numbers in keys sort as they count, in few bytes (`died` alone does not sort: it is read from the key's end). A key that
// begins with 255 is nobody's yet: rows of branches will have it, and the branch's number behind it.
#ifndef SEGUE_ROWS_ROW_KEYS_H
#define SEGUE_ROWS_ROW_KEYS_H

#include "buf.h"
#include "commit.h"
#include "cur.h"
#include "digest.h"
#include "limits.h"

struct key {
    uint8_t b[80];
    size_t n;
};

static inline struct span key_span(const struct key *k)
{
    return SPAN(k->b, k->n);
}

struct key key_row(uint32_t table, struct uuid id);
struct key key_row_table(uint32_t table);                             // what the keys of all its rows begin with
bool key_row_parse(struct span key, uint32_t table, struct uuid *id); // false: not a row of this table

struct reference {
    uint32_t table; // the referred-to row
    struct uuid id;
    uint32_t from_table; // the referring one
    uint16_t from_column;
    struct uuid from_id;
};
struct key key_reference(const struct reference *ref);
struct key key_references_to(uint32_t table, struct uuid id); // what the keys of all references to it begin with
bool key_reference_parse(struct span key, struct reference *ref);

struct key key_history(uint32_t table, struct uuid id, uint64_t seq);
bool key_history_parse(struct span key, uint32_t table, struct uuid id, uint64_t *seq); // false: not a version of this row

struct key key_commit(uint64_t seq);
uint64_t key_commit_parse(struct span key); // 0: not a commit's key

struct key key_blob_names(const struct sha256 *digest); // what the keys of all its names begin with
struct key key_blob_name(const struct sha256 *digest, uint32_t table, uint16_t column, struct uuid id, uint64_t seq);

struct key key_horizon(void);

struct key key_schema(uint32_t version);
uint32_t key_schema_parse(struct span key); // 0: not a schema's key

// ---- entries of indexes --------------------------------------------------------------------------------------------

enum { INDEX_KEY_EXTRA = 1 + 9 + 9 + 16 + 9 }; // beside the columns' bytes

enum index_space { INDEX_NOW = 1, INDEX_PAST = 2 };

struct index_key {
    uint8_t b[INDEX_KEY_MAX + INDEX_KEY_EXTRA];
    size_t n;
};

static inline struct span index_key_span(const struct index_key *k)
{
    return SPAN(k->b, k->n);
}

// What the keys of all its entries begin with; columns (at most INDEX_KEY_MAX bytes), an id and a seq are put behind it.
struct index_key key_index(enum index_space space, uint32_t table, uint32_t index);
void key_index_columns(struct index_key *k, struct span columns);
void key_index_id(struct index_key *k, struct uuid id);
void key_index_died(struct index_key *k, uint64_t died);
// Takes apart what stands behind the first `skip` bytes; died is 0 for what stands now. False: not such a key.
bool key_index_parse(struct span key, size_t skip, enum index_space space, struct span *columns, struct uuid *id, uint64_t *died);

struct key key_index_state(uint32_t table, uint32_t index);
struct key key_index_states(void); // what the keys of all states begin with
bool key_index_state_parse(struct span key, uint32_t *table, uint32_t *index);

// ---- the record of a commit ----------------------------------------------------------------------------------------

struct commit_head {
    uint64_t stamp;
    uint64_t arrival_ms;
    struct uuid writer;
    uint64_t counter;   // of that writer's batch; 0: it has no replica's name
    struct span key;    // the batch's key; empty: it has none
    struct span author; // the identity that sent it
    bool schema;        // it published one
    bool transaction;
    uint64_t touched; // rows written, or touched through their streams
};

void commit_record_begin(struct buf *out, const struct commit_head *head);

// Rows are written, and read, one after the other: each one says only what its id does not share with the one before.
struct commit_rows {
    uint32_t table;
    struct uuid id;
};
void commit_record_row(struct buf *out, struct commit_rows *last, uint32_t table, struct uuid id); // *last: all zero at first
// Leaves the cursor at the first of head->touched rows; spans of the head point into the record. ERR_CORRUPT.
int commit_record_read(struct cur *c, struct span record, struct commit_head *head);
void commit_record_next(struct cur *c, struct commit_rows *last);
// Reads all of it: `fn` is called for each row, until one call is not 0. What that gave, or ERR_CORRUPT.
int commit_record_each(struct span record, struct commit_head *head, int (*fn)(void *ctx, const struct commit_rows *row), void *ctx);

#endif
