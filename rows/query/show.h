// Rows as JSON: what clients see.
#ifndef SEGUE_ROWS_SHOW_H
#define SEGUE_ROWS_SHOW_H

#include "exec.h"
#include "query.h"

// The targets of a live query of one table, evaluated on a row of it that stands. Streams and blobs are told of as of
// `seq`. What expr_eval says.
int show_row(struct jw *w, struct rows *r, struct db_txn *txn, const struct query *q, struct uuid id, const struct row *row, uint64_t seq);

// {"id":…, all columns of a table} of a table.
void show_all(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *row, uint64_t seq);

// A column of the row that a run has at hand, and all of them as an object. What run_eval says: on EXEC_MORE what was written so far is
// to be thrown away, and all asked for again.
int show_target(struct jw *w, struct run *run, const struct target *target);
int show_targets(struct jw *w, struct run *run, const struct select *s);
// A value of which no row is known.
void show_value(struct jw *w, struct rows *r, struct db_txn *txn, const struct type *type, const struct value *v);
// The row at hand with its key: {"key":k,"row":{…}}. As show_target.
int show_keyed(struct jw *w, struct run *run);

// One value of a row, as of `seq`.
void show_cell(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct column *c,
               const struct value *v, uint64_t seq);

#endif
