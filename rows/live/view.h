// Live views: the results that somebody subscribes to, kept current commit by commit. This interface is all that applying
// knows of them; how the views that a row can touch are found is interests.h.
#ifndef SEGUE_ROWS_VIEW_H
#define SEGUE_ROWS_VIEW_H

#include "store.h"

// One row as a commit found it and as it leaves it.
struct row_change {
    const struct table *table;
    struct uuid id;
    const struct row *old, *new; // the same where only its stream changed
    // By no commit's word but that of who holds the streams: a stream of the row has grown, and what it had at the beginning may have gone. For views that read its text alone.
    bool grown, trimmed;
};

// While a commit is applied and its rows are written: once per row, then once at the end.
void views_row(struct rows *r, uint64_t seq, const struct row_change *change);
void views_commit(struct rows *r, struct db_txn *txn, uint64_t seq);
// What follows, once it is durable, is rows_publish.

#endif
