// The effects of one batch on the rows, as the journal holds them: complete new records, self-contained.
//
//      format version, schema (empty: none published),
//      varint rows,    per row: varint table, id, record     ascending by table, then id
//      varint touched, per row: varint table, id             the same; rows whose stream changed and no cell
//      [varint horizon]                                      where it moves to; then there is nothing else
#ifndef SEGUE_ROWS_EFFECTS_H
#define SEGUE_ROWS_EFFECTS_H

#include "buf.h"
#include "cur.h"
#include "uuid.h"

struct effect_row {
    uint32_t table;
    struct uuid id;
    struct span record; // empty for a touched row
};

void effects_begin(struct buf *out, struct span schema, size_t rows);
void effects_row(struct buf *out, const struct effect_row *row);
void effects_touched(struct buf *out, size_t touched);
void effects_touch(struct buf *out, const struct effect_row *row);
void effects_put_horizon(struct buf *out, uint64_t seq);

// Reading, in the same order; strict.
struct effects {
    struct cur c;
    struct span schema;
    uint64_t rows, touched; // left to read
    struct effect_row last;
    bool first;
};
void effects_open(struct effects *e, struct span bytes);
bool effects_next_row(struct effects *e, struct effect_row *row);   // false: no more, or damaged
bool effects_next_touch(struct effects *e, struct effect_row *row); // when the rows are through
uint64_t effects_horizon(struct effects *e);                        // behind those; 0: it stays
int effects_end(const struct effects *e);                           // 0, or ERR_CORRUPT

#endif
