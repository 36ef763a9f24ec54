// A compiled select with its parameters.
#ifndef SEGUE_ROWS_QUERY_H
#define SEGUE_ROWS_QUERY_H

#include "select.h"
#include "store.h"

// Which kind of view keeps a query current (rows/live).
enum query_live {
    QUERY_NOT_LIVE, // query_make_live was not asked, or refused it
    QUERY_TABLE,    // rows of one table, without selects within
    QUERY_JOINED,   // several tables, or selects within; each row by itself
    QUERY_GROUPED,  // rows made of many: grouped, or distinct
};

struct query {
    unsigned refs;
    struct arena *arena;
    struct span sql;
    struct row_value *given; // parameters as they came
    size_t given_count;
    struct plan *plan;
    struct value *params; // as many as the plan has, in its arena or ours

    // What a live view needs to know of it, once query_make_live has succeeded. Its conditions, targets and order are the plan's own (plan->top).
    enum query_live live;
    uint32_t table; // of QUERY_TABLE
    bool texts, texts_decide; // it reads the text of streams; and not only to show it in rows that are there anyway
    bool has_limit;
    uint32_t limit, offset; // their values
    struct span canonical;  // equal bytes, equal queries: parameters included
    uint64_t canonical_hash;
};

// Converts the parameters to what the plan takes them for. Spans are copied into the arena. ERR_WRONG_TYPE, ERR_BAD_VALUE, ERR_NOMEM, ERR_TOO_LARGE.
int query_bind(const struct query *q, const struct plan *plan, struct arena *arena, struct value **out, struct problem *p);

// Does the order show in positions? (Without `order by` it is by id, and nobody is told where a row stands.)
static inline bool query_ordered(const struct query *q)
{
    return q->plan->top->order_count > 0;
}

#endif
