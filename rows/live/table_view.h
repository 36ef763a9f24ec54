// A view of rows of one table: its inside, for table_view*.c.
#ifndef SEGUE_ROWS_TABLE_VIEW_H
#define SEGUE_ROWS_TABLE_VIEW_H

#include "view_impl.h"

enum table_shape { TABLE_SET, TABLE_LIST, TABLE_WINDOW };

struct table_view {
    struct view v; // first
    struct interest interest;
    enum table_shape shape;
    struct sort_keys keys; // of a list or window: as of the last applied commit
    bool whole;            // all rows that match are among the keys

    // While one commit is applied, of a window that it moved.
    struct uuid *before; // what the window showed
    size_t before_count;
    struct id_set touched;
};

static inline struct table_view *table_view_of(struct view *v)
{
    return (struct table_view *)v;
}

// table_view_read.c: from the ring, and behind it from history. As those of struct view_kind.
int table_view_reach(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached);
int table_view_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink);

#endif
