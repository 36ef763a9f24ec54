// A row as JSON: what clients see.
#ifndef SEGUE_ROWS_SHOW_H
#define SEGUE_ROWS_SHOW_H

#include "query.h"

// {"id":…, the query's columns}. Streams and blobs are told of as of `seq`. The row stands.
void show_row(struct jw *w, struct rows *r, struct db_txn *txn, const struct query *q, struct uuid id, const struct row *row, uint64_t seq);

#endif
