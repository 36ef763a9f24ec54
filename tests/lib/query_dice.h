// Random values, conditions and queries over some tables, in SQL that the row store and SQLite read alike.
#ifndef SEGUE_QUERY_DICE_H
#define SEGUE_QUERY_DICE_H

#include "buf.h"

#define DICE_TABLES 3
#define DICE_COLUMNS 5
#define DICE_ROWS 40 // ids of a table

enum dice_kind { DICE_INT, DICE_TEXT, DICE_REAL, DICE_BOOL, DICE_UUID, DICE_KINDS };

struct dice_table {
    enum dice_kind kinds[DICE_COLUMNS]; // of c0, c1, …
    size_t columns;
    bool there[DICE_ROWS], gone[DICE_ROWS]; // stands; was deleted, so the id is not used again
};

struct query_dice {
    uint64_t chance; // not 0
    struct dice_table tables[DICE_TABLES]; // t0, t1, …
    struct buf sql;  // the query being made
    unsigned depth;  // aliases given so far
};

uint64_t dice(struct query_dice *d, uint64_t sides); // 0 to sides - 1
bool one_in(struct query_dice *d, unsigned n);

// The id of a table's row, and an id as SQL.
unsigned dice_row_id(size_t table, size_t row);
void dice_put_uuid(struct buf *b, unsigned n);
// A constant.
void dice_put_value(struct query_dice *d, struct buf *b, enum dice_kind kind);

// A query into d->sql, ended by a NUL; its columns are called x0, x1, … *ordered: its order is whole, but for rows that are alike.
void dice_make_query(struct query_dice *d, bool *ordered);

// One that somebody may want to follow: half of them are of the kinds above, the others of the shapes that are usual: one table, joins along c0, selects
// within, groups, distinct rows; in orders that leave rows equal, with limits and offsets with and without an order. t0 has a column `body`, a stream.
// *total: which rows the result has hangs on nothing but the text, whatever rows are equal in its order.
void dice_make_live_query(struct query_dice *d, bool *ordered, bool *total);

#endif
