// A compiled select: names resolved, expressions typed, a way to each table chosen. Immutable once made.
//
//      text ──sql_select.c──> ast_select ──select_compile.c──> select ──plan.c──> with levels ──exec.c──> rows
//
// A select within another one is a select of its own that may use the tables further out: tables are numbered through the whole text
// (slots), and an expression says which ones it depends on. So its value is kept for as long as none of those moves on.
#ifndef SEGUE_ROWS_SELECT_H
#define SEGUE_ROWS_SELECT_H

#include "expr.h"
#include "store.h"

// ---- ways to a table -----------------------------------------------------------------------------------------------

enum access_kind {
    ACCESS_SCAN,  // all of the table, by id
    ACCESS_POINT, // the row of one id
    ACCESS_INDEX, // a range of an index, or of the ids where its number is 0
};

struct access {
    enum access_kind kind;
    uint32_t index;            // its number; 0: the rows by id
    struct expr **equal;       // what the first columns are equal to; NULL: they are null
    size_t equal_count;
    struct expr *each;         // then one that is in a list: `in`, `any`, or a select within; NULL: none
    struct expr *low, *high;   // then one in a range; NULL: open on that side
    bool low_open, high_open;  // the bound itself is not in it
    bool desc;                 // read from its end
    bool runs;                 // then rows of equal columns come by id all the same
};

// A table of the `from`, in the order in which they are looked through.
struct level {
    uint32_t slot;
    uint32_t table; // its number
    struct span name;
    bool left; // where no row fits, one of nulls stands for it
    struct access access;
    struct expr **on; // of a left join: what makes a row fit
    size_t on_count;
    struct expr **filters; // conditions that can be told from here on
    size_t filter_count;
};

// ---- what comes of the rows ----------------------------------------------------------------------------------------

struct target {
    struct span name;
    struct expr *expr;
};

struct order_term {
    struct expr *expr;
    bool desc, nulls_first;
};

enum aggregate_kind { AGG_COUNT, AGG_SUM, AGG_MIN, AGG_MAX, AGG_AVG, AGG_FIRST };

struct aggregate {
    enum aggregate_kind kind;
    struct expr *arg; // NULL: count(*)
    bool distinct;
    struct type type; // of the result
    uint32_t slot;
};

// limit and offset: a number, or a parameter.
struct select_count {
    bool is;
    uint64_t n;
    int param; // its place among the plan's parameters; -1: n
    int64_t position;
};

struct select {
    struct level *levels;
    size_t level_count;
    uint64_t own; // its tables' slots, as bits
    struct expr **where; // all conditions, `on` of inner joins among them, in the order of the text
    size_t where_count;
    struct target *targets;
    size_t target_count;
    bool grouped; // there is `group by`, or an aggregate: then values come from slots
    struct expr **group;
    size_t group_count;
    uint32_t group_slot; // that of the first group expression; the others follow
    struct aggregate *aggregates;
    size_t aggregate_count;
    struct expr *having; // NULL: all
    bool distinct;
    struct order_term *order;
    size_t order_count;
    bool any_order; // nobody sees in which order its rows come
    bool by_id;     // there is no `order by`, and rows come by id
    bool sorted;    // the levels give the order: nothing is left to sort
    bool extreme;   // its one aggregate is a min or max, and the first row that has a value has that one
    struct select_count limit, offset;
    int64_t position;
};

enum sub_kind { SUB_EXISTS, SUB_SCALAR, SUB_ARRAY, SUB_IN };

// A select within: EX_SUB's `sub`.
struct sub {
    uint32_t no;
    enum sub_kind kind;
    struct select *select;
    struct type compared; // of SUB_IN
    uint64_t uses;
    bool slots; // it depends on what a select further out has grouped
    const struct select *resolved; // while compiling: the last grouped one further out that has put its values in here
};

struct plan_param {
    int n; // $n
    struct type type;
    int64_t position;
};

struct plan {
    unsigned refs;
    struct arena *arena;
    struct plan *base;     // of plan_joined: whose expressions it is made of; else NULL
    struct schema *schema; // which it was compiled against
    uint64_t at;           // the indexes that it uses were ready for this seq
    struct select *top;
    bool rows_have_ids; // `id` stands first in every row
    size_t table_slots, value_slots;
    uint32_t tables[EXPR_TABLES_MAX]; // their numbers, by slot
    struct sub **subs;
    size_t sub_count;
    struct plan_param *params;
    size_t param_count;
};

// `params`: what is given, for those that stand beside nothing typed. `at`: only indexes that are ready for this seq are used. `schema`: the current one,
// or an earlier one, by which a * is what it was.
int plan_compile(struct rows *r, struct schema *schema, const struct ast_select *ast, const struct row_value *params, size_t param_count, uint64_t at,
                 struct plan **out, struct problem *p);
// A plan of joined rows made of the parts of another one: of these tables (slot, number, name, left, on) the rows that all of `where` lets through, neither
// grouped nor in an order nor limited. Its targets are those of the other's top. Expressions are the other's, or live at least as long as the new plan;
// they may use parameters that stand behind those of the other. ERR_NOMEM, ERR_TOO_LARGE: more than QUERY_TABLES_MAX tables.
int plan_joined(struct rows *r, struct plan *base, const struct level *tables, size_t table_count, struct expr **where, size_t where_count,
                uint64_t at, struct plan **out, struct problem *p);
struct plan *plan_ref(struct plan *plan);
void plan_unref(struct plan *plan); // NULL is fine

// Are the indexes that it uses there, and ready for `at`?
bool plan_holds(const struct plan *plan, const struct rows *r, uint64_t at);

// The index with this number; NULL: there is none.
const struct index *table_index(const struct table *t, uint32_t no);

#endif
