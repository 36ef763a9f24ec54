// A row's stored record, and the row it decodes to.
//
//      format version and flags, varint schema version, varint seq,
//      live:  [varint columns], [seqs], [null bitmap], the values that are not null
//
// What goes without saying is not there: the number of columns where it is that of the table in that schema version, the seqs where
// all cells come from the row's own, the bitmap where nothing is null. The seqs of cells are few. Where they are the row's own and one
// other: varint row seq - that one, and a bit per column. Else a list (varint count, varint row seq - cell seq each, ascending), and per
// column its place in that list, in as many bits as it takes. A tombstone ends after the seq.
//
// A row of one seq has RECORD_SPARE zero bytes behind it: as many as the seqs of its first update mostly take, so that this one does not
// make it longer. Rows come in the order of their ids, pages are filled to the brim, and each would be split.
#ifndef SEGUE_ROWS_RECORD_H
#define SEGUE_ROWS_RECORD_H

#include "schema.h"

#define RECORD_SPARE 3

struct cell {
    struct value v;
    uint64_t seq; // the commit that wrote it; 0: none did, the value is the column's fill
};

struct row {
    bool exists;  // false: nothing ever had this id; all else is zero
    bool deleted; // a tombstone: no cells
    uint64_t seq; // the commit that made this version
    uint32_t version;
    struct cell *cells; // as many as the schema's table has columns
    size_t count;
};

static inline bool row_live(const struct row *r)
{
    return r->exists && !r->deleted;
}

// A row with its own room for cells: reused from row to row by whoever reads many.
struct row_space {
    struct row row;
    bool unpacked; // its spans lie in a room that is used again some rows later (history.c)
    struct cell cells[COLUMNS_MAX];
};

void record_encode(struct buf *out, const struct table *t, const struct row *r);
// Strict: ERR_CORRUPT. Values point into `bytes`; columns that the record does not have are filled.
int record_decode(struct row_space *out, const struct table *t, struct span bytes);
// Only the head.
int record_head(struct span bytes, bool *deleted, uint64_t *seq);

#endif
