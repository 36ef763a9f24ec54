// What compiling a select is made of. Private to select_*.c and plan.c.
#ifndef SEGUE_ROWS_SELECT_IMPL_H
#define SEGUE_ROWS_SELECT_IMPL_H

#include "select.h"

#define PLAN_BYTES_MAX (8 * MIB)
#define PLAN_PARTS_MAX 256 // selects within, aggregates, and uses of parameters, each

// Of the whole text.
struct plan_compile {
    struct rows *r;
    struct plan *plan;
    const struct row_value *params;
    size_t param_count;
    uint64_t at;
    struct problem *p;
};

// Of one select of it.
struct select_compile {
    struct expr_compile c; // first: its callbacks find the rest
    struct plan_compile *of;
    struct select *s;
    const struct ast_select *ast;
    struct expr_table tables[QUERY_TABLES_MAX];
    struct expr_scope scope;
    struct expr **on[QUERY_TABLES_MAX]; // conjuncts of left joins, by table
    size_t on_count[QUERY_TABLES_MAX];
    bool aggregates_fit; // an aggregate may stand in what is being compiled
    bool in_aggregate;
};

int select_no_room(const struct plan_compile *of);
struct plan *plan_new(struct schema *schema, uint64_t at); // empty; NULL: no memory

// ---- select_compile.c ----------------------------------------------------------------------------------------------

// `any_order`: of an `exists` or `in`, where nobody sees the order.
int select_compile(struct plan_compile *of, const struct ast_select *ast, const struct expr_scope *outer, bool any_order, struct select **out);
// The name of a target that is not called anything.
struct span target_name(const struct ast_expr *e);

// ---- select_group.c ------------------------------------------------------------------------------------------------

int group_aggregate(struct expr_compile *c, const struct ast_expr *ast, struct expr *e);
// Once all is compiled: what is grouped by, and aggregates, stand in slots; no other column of the select's own may be left.
int group_resolve(struct select_compile *s);

// ---- plan.c --------------------------------------------------------------------------------------------------------

// Splits a condition into what must hold each by itself.
int split_conjuncts(const struct plan_compile *of, struct expr *e, struct expr ***out, size_t *count);
// Chooses the order of the tables and the way to each.
int plan_select(struct select_compile *s);

#endif
