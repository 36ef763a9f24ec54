// What the SQL front hands over: names and constants with positions for error messages, nothing checked against a
// schema. All spans and arrays are owned by the tree's arena. Positions are bytes into the SQL text, from 0; -1: none.
#ifndef SEGUE_ROWS_AST_H
#define SEGUE_ROWS_AST_H

#include "span.h"

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

enum col_type {
    COL_TEXT = 1,
    COL_INTEGER,
    COL_BIGINT,
    COL_DOUBLE,
    COL_BOOLEAN,
    COL_TIMESTAMPTZ,
    COL_UUID,
    COL_JSONB,
    COL_STREAM,
    COL_BLOB,
};

struct ast_column {
    struct span name;
    enum col_type type;
    bool not_null;
    bool primary_key;
    bool has_default;
    struct ast_const def;
    bool references;
    struct span ref_table;
    struct span ref_column; // empty: not named
    int64_t position;
};

struct ast_table {
    struct span name;
    struct ast_column *columns;
    size_t column_count;
    int64_t position;
};

struct ast_schema {
    struct ast_table *tables;
    size_t table_count;
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
