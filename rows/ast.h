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

struct ast_const {
    enum ast_kind kind;
    bool b;
    int64_t i;
    double d;
    struct span text;
    int param;
    int64_t position;
};

// A type as written: of an enum only its name is known.
struct ast_type {
    enum col_type kind;
    bool array;
    struct span name; // of COL_ENUM
};

struct ast_expr; // sql_expr.c's

enum ast_action { ACTION_RESTRICT, ACTION_CASCADE, ACTION_SET_NULL };

struct ast_column {
    struct span name;
    struct ast_type type;
    struct span merge; // of options (merge '…'); empty: not said
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

enum ast_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IS_NULL, OP_NOT_NULL };

struct ast_term {
    struct span column;
    enum ast_op op;
    struct ast_const value;
    int64_t position;
};

// PostgreSQL's defaults are filled in: ascending has nulls last, descending nulls first.
struct ast_order {
    struct span column;
    bool desc;
    bool nulls_first;
    int64_t position;
};

struct ast_select {
    struct span table;
    int64_t table_position;
    bool star;
    struct span *columns;
    int64_t *column_positions;
    size_t column_count;
    struct ast_term *terms;
    size_t term_count;
    struct ast_order *order;
    size_t order_count;
    bool has_limit;
    struct ast_const limit;
    struct arena *arena;
};

#endif
