// What keeps a live query current asks of it: the kind of view it needs, its canonical form, and one row of its table tried against it.
#ifndef SEGUE_ROWS_QUERY_LIVE_H
#define SEGUE_ROWS_QUERY_LIVE_H

#include "query.h"

// Fills in what views need. ERR_UNSUPPORTED_SQL: it is more than they can keep current. ERR_BAD_VALUE: a negative limit; ERR_NOMEM, ERR_TOO_LARGE.
int query_make_live(struct query *q, struct problem *p);

// ---- query_canonical.c ---------------------------------------------------------------------------------------------

// Fills in q->canonical and its hash, limits taken. Of any select: two queries with equal bytes give equal results, in equal bytes, for ever. ERR_NOMEM, ERR_TOO_LARGE.
int query_canonicalize(struct query *q, struct problem *p);

// ---- rows of one table (QUERY_TABLE) -------------------------------------------------------------------------------

// A row as expressions see it. What they make lies in the scratch, which is the caller's to empty.
struct query_row {
    struct expr_row row;
    struct expr_env env;
};
// `row` has as many cells as the current schema's table has columns, and outlives *at.
void query_row_open(struct query_row *at, const struct query *q, struct arena *scratch, struct uuid id, const struct row *row);

// Is the row part of the result, limits aside? Only a row that stands can be. ERR_BAD_VALUE (a division by zero, a sum past 64 bits), ERR_NOMEM.
int query_row_matches(struct query_row *at, const struct query *q, bool *matches);
// Bytes that sort as the query orders; the id comes last and is always whole. As query_row_matches, or the buffer's error.
int query_row_key(struct query_row *at, const struct query *q, struct buf *out);

#endif
