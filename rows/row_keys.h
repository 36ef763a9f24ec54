// The only code that knows the keys of this store, and the records that are not rows (record.h) or schemas (schema.h).
//
//      rows         1, table, id                            -> the current record, tombstones included
//                   2, table, id, from table, column, id    -> nothing: the last names a live row whose column refers to the first
//      row_history  table, id, seq                          -> a superseded record; seq is the one in it
//      row_commits  seq                                     -> struct commit_head, and the rows it touched
//      schemas      version                                 -> a schema
//
// Numbers in keys are big endian: 4 bytes a table, 2 a column, 8 a seq.
#ifndef SEGUE_ROWS_ROW_KEYS_H
#define SEGUE_ROWS_ROW_KEYS_H

#include "buf.h"
#include "commit.h"
#include "cur.h"

struct key {
    uint8_t b[64];
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

struct key key_schema(uint32_t version);

// ---- the record of a commit ----------------------------------------------------------------------------------------

struct commit_head {
    uint64_t stamp;
    uint64_t arrival_ms;
    struct uuid writer;
    bool schema;      // it published one
    uint64_t touched; // rows written, or touched through their streams
};

void commit_record_begin(struct buf *out, const struct commit_head *head);
void commit_record_row(struct buf *out, uint32_t table, struct uuid id);
// Leaves the cursor at the first of head->touched rows. ERR_CORRUPT.
int commit_record_read(struct cur *c, struct span record, struct commit_head *head);
void commit_record_next(struct cur *c, uint32_t *table, struct uuid *id);

#endif
