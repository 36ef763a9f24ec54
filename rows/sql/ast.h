// What the SQL front hands over: names and constants with positions for error messages, nothing checked against a
// schema. All spans and arrays are owned by the tree's arena. Positions are bytes into the SQL text, from 0; -1: none.
#ifndef SEGUE_ROWS_AST_H
#define SEGUE_ROWS_AST_H

#include "type.h"

struct arena;

enum ast_kind {
    AST_NULL,
    AST_BOOL,
    AST_INT,
    AST_REAL,
    AST_TEXT,
    AST_PARAM, // $n, from 1
    AST_NOW,   // now()
    AST_UUID,  // gen_random_uuid()
};

// A type as written: of an enum only its name is known.
struct ast_type {
    enum col_type kind;
    bool array;
    struct span name; // of COL_ENUM
    int64_t position;
};

struct ast_const {
    enum ast_kind kind;
    bool b;
    int64_t i;
    double d;
    struct span text;
    int param;
    struct ast_type cast; // in a default: the enum or the array that a text is said to be; else its kind is 0
    int64_t position;
};


struct ast_select;

enum ast_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IS_NULL, OP_NOT_NULL, OP_DISTINCT, OP_SAME };

enum ast_truth { AST_TRUE, AST_FALSE, AST_UNKNOWN };

enum ast_expr_kind {
    AX_CONST, // value
    AX_COLUMN, // [table.]name
    AX_STAR,  // [table.]*
    AX_AND,
    AX_OR,
    AX_NOT,
    AX_COMPARE,   // op: enum ast_op
    AX_IS_NULL,   // negate
    AX_IS_TRUTH,  // op: enum ast_truth; negate
    AX_IN,        // args[0] in (args[1], …); negate
    AX_ANY,       // args[0] op any (args[1]); negated: <> all
    AX_LIKE,      // op: ilike; negate
    AX_ARITH,     // op: one of + - * / %
    AX_MINUS,     // - args[0]
    AX_CONCAT,    // ||
    AX_CONTAINS,  // args[0] @> args[1]
    AX_ELEMENTS,  // array[…]
    AX_CASE,      // condition, result, …, and where there is an else, that
    AX_CALL,      // name(args), coalesce, greatest, least and nullif among them; star, distinct
    AX_CAST,      // args[0]::type
    AX_EXISTS,    // select
    AX_SCALAR,    // (select)
    AX_ARRAY,     // array(select)
    AX_IN_SELECT, // args[0] in (select)
};

struct ast_expr {
    enum ast_expr_kind kind;
    int op;
    bool negate, star, distinct;
    int64_t position;
    struct ast_const value;
    struct span table, name;
    struct ast_type type;
    struct ast_expr **args; // `between` shares one among two comparisons
    size_t count;
    struct ast_select *select;
};

enum ast_action { ACTION_RESTRICT, ACTION_CASCADE, ACTION_SET_NULL };

struct ast_column {
    struct span name;
    struct ast_type type;
    struct span merge; // of options (merge '…'); empty: not said
    int64_t merge_position;
    bool not_null;
    bool primary_key;
    bool has_default;
    struct ast_const def;
    bool references;
    struct span ref_table;
    struct span ref_column; // empty: not named
    enum ast_action on_delete;
    int64_t position;
};

struct ast_index_column {
    struct span name;
    bool desc;
    int64_t position;
};

// create index, or a unique constraint.
struct ast_index {
    struct span name; // empty: not named
    struct span table;
    bool unique;
    struct ast_index_column *columns;
    size_t column_count;
    const struct ast_expr *where; // NULL: of all rows
    int64_t position;
};

struct ast_check {
    struct span name;   // empty: not named
    struct span column; // beside which it stands; empty: none
    const struct ast_expr *expr;
    int64_t position;
};

struct ast_table {
    struct span name;
    struct ast_column *columns;
    size_t column_count;
    struct ast_check *checks;
    size_t check_count;
    int64_t position;
};

struct ast_enum {
    struct span name;
    struct span *labels;
    size_t label_count;
    int64_t position;
};

struct ast_schema {
    struct ast_table *tables;
    size_t table_count;
    struct ast_enum *enums;
    size_t enum_count;
    struct ast_index *indexes; // of all tables, in the order of the text
    size_t index_count;
    struct arena *arena;
};

// A column of a result. An expression of AX_STAR is all columns of a table, or of all.
struct ast_target {
    struct ast_expr *expr;
    struct span name; // as it is called with `as`; empty: not said
    int64_t position;
};

enum ast_join { JOIN_INNER, JOIN_LEFT };

// A table in `from`, in the order of the text: what joins it to those before it stands with it.
struct ast_from {
    struct span table;
    struct span alias; // empty: not said
    enum ast_join join;
    struct ast_expr *on; // NULL: none
    int64_t position;
};

// PostgreSQL's defaults are filled in: ascending has nulls last, descending nulls first.
struct ast_order {
    struct ast_expr *expr;
    bool desc;
    bool nulls_first;
    int64_t position;
};

struct ast_select {
    struct ast_target *targets;
    size_t target_count;
    struct ast_from *from;
    size_t from_count;
    struct ast_expr *where; // NULL: all
    struct ast_expr **group;
    size_t group_count;
    struct ast_expr *having; // NULL: all
    struct ast_order *order;
    size_t order_count;
    bool distinct;
    bool has_limit, has_offset;
    struct ast_const limit, offset; // AST_INT or AST_PARAM
    int64_t position;
    struct arena *arena; // NULL: a select within another one
};

#endif
