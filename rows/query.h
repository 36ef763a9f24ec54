// A compiled select.
#ifndef SEGUE_ROWS_QUERY_H
#define SEGUE_ROWS_QUERY_H

#include "store.h"

struct term {
    int column; // or COLUMN_ID
    struct type type; // its labels are the schema's
    enum ast_op op;
    struct value v; // null: true for no row
};

struct order {
    int column; // or COLUMN_ID
    struct type type;
    bool desc, nulls_first;
};

struct query {
    unsigned refs;
    struct arena *arena;
    struct schema *schema; // it was compiled in: holds what types refer to
    uint32_t table;
    int *columns; // those shown beside id
    size_t column_count;
    struct term *terms; // all must hold; sorted, none twice
    size_t term_count;
    struct order *order; // after these, by id
    size_t order_count;
    bool has_limit;
    uint32_t limit;
    bool point; // at most the row `id`
    struct uuid id;
    struct span canonical; // equal bytes, equal queries
};

// Is this row part of the result, limits aside? Only a row that stands can be.
bool query_matches(const struct query *q, struct uuid id, const struct row *row);

// Bytes that sort as the query orders; the id comes last and is always whole.
void query_order_key(const struct query *q, struct uuid id, const struct row *row, struct buf *out);

// Does the order show in positions? (Without `order by` it is by id, and nobody is told where a row stands.)
static inline bool query_ordered(const struct query *q)
{
    return q->order_count > 0;
}

#endif
