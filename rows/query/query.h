// A compiled select with its parameters.
#ifndef SEGUE_ROWS_QUERY_H
#define SEGUE_ROWS_QUERY_H

#include "select.h"
#include "store.h"

struct term {
    int column; // or COLUMN_ID
    struct type type;
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
    struct span sql;
    struct row_value *given; // parameters as they came
    size_t given_count;
    struct plan *plan;
    struct value *params; // as many as the plan has, in its arena or ours

    // What a live view needs to know of it, once query_make_live has succeeded: rows of one table, chosen and ordered by their columns.
    bool live;
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

// Converts the parameters to what the plan takes them for. Spans are copied into the arena. ERR_WRONG_TYPE, ERR_BAD_VALUE, ERR_NOMEM, ERR_TOO_LARGE.
int query_bind(const struct query *q, const struct plan *plan, struct arena *arena, struct value **out, struct problem *p);

// ---- live queries --------------------------------------------------------------------------------------------------

// Fills in what views need. ERR_UNSUPPORTED_SQL: it is more than they can keep current.
int query_make_live(struct query *q, struct problem *p);

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
