// Expressions over rows: compiled against the tables that are in sight, typed, in SQL's three-valued logic.
//
// A comparison with null is null, `and` and `or` know what null cannot change, and a condition holds only where it is true; a check
// is broken only where it is false. What an expression's parts are is settled when it is compiled: a constant or a parameter takes
// the type of what stands beside it, whole numbers and double precision meet as double precision, and nothing else is converted
// unasked. Whole numbers are 64 bits everywhere: past them, and after a division by zero, evaluation fails with ERR_BAD_VALUE.
// lower, upper and ilike know the letters of ASCII.
#ifndef SEGUE_ROWS_EXPR_H
#define SEGUE_ROWS_EXPR_H

#include "record.h"

enum expr_kind {
    EX_CONST,
    EX_PARAM,  // of env->params
    EX_COLUMN, // of env->rows
    EX_SLOT,   // of env->slots: what grouping made
    EX_AND,
    EX_OR,
    EX_NOT,
    EX_COMPARE,  // op: enum ast_op
    EX_IS_NULL,  // negate
    EX_IS_TRUTH, // op: enum ast_truth; negate
    EX_IN,       // args[0] in the others; negate
    EX_ANY,      // args[0] op any (args[1], an array); negate
    EX_LIKE,     // op: without regard to case; negate
    EX_ARITH,    // op: one of + - * / %
    EX_MINUS,
    EX_CONCAT,
    EX_CONTAINS, // array @> array
    EX_ELEMENTS, // array[…]
    EX_CASE,     // condition, result, …, [otherwise]
    EX_COALESCE,
    EX_NULLIF,
    EX_EXTREME, // op: '>' greatest, '<' least
    EX_CALL,    // op: enum expr_call
    EX_CAST,    // to the expression's own type
    EX_SUB,     // a select within: env->sub knows
};

enum expr_call { CALL_LOWER, CALL_UPPER, CALL_LENGTH, CALL_ABS, CALL_CARDINALITY, CALL_STREAM_TEXT };

struct expr {
    enum expr_kind kind;
    struct type type;
    struct type compared; // of a comparison, `in`, `any`: what both sides are
    int op;
    bool negate;
    int64_t position; // in the text it was compiled from; -1: none
    uint32_t slot;    // of a table (EX_COLUMN), a parameter, a value, a select
    int column;       // or COLUMN_ID
    struct span table_name, name;
    struct value value; // EX_CONST
    struct expr **args;
    size_t count;
    uint64_t uses;     // the table slots that its value depends on, as bits: those of selects within that reach out, too
    bool subs;         // are there selects within?
    bool slots;        // are there values of EX_SLOT?
    void *sub;         // EX_SUB: what the compiling caller made of it
    const void *origin; // EX_SUB: the text's node, while it is compiled: two of one node are the same
};

#define EXPR_TABLES_MAX 64 // table slots of one query

// ---- compiling -----------------------------------------------------------------------------------------------------

struct expr_table {
    struct span name; // as the text names it: the alias, where there is one
    const struct table *table;
    uint32_t slot;
};

struct expr_scope {
    const struct expr_table *tables;
    size_t count;
    const struct expr_scope *outer; // NULL: nothing further out
};

// Who compiles, and what else may stand in the text than columns, constants and calls. A callback that is NULL: refused by name.
struct expr_compile {
    struct arena *arena; // of what is made; spans are copied
    const struct expr_scope *scope;
    struct problem *p;
    // $n beside something of type `want` (NULL: beside nothing typed). Fills type and slot of *e.
    int (*param)(struct expr_compile *c, int n, int64_t position, const struct type *want, struct expr *e);
    // exists, scalar, array and in: fills type, slot, uses and sub of *e; of an `in`, args[0] is what stands in front, compiled.
    int (*select)(struct expr_compile *c, const struct ast_expr *ast, struct expr *e);
    // A call of an aggregate's name: fills type and slot of *e, which becomes an EX_SLOT.
    int (*aggregate)(struct expr_compile *c, const struct ast_expr *ast, struct expr *e);
    void *ctx;
    struct span beside; // of the compiler itself: the name that the problem of a constant gives
};

// `want`: the type that an untyped constant takes, and NULL where nothing says. ERR_NO_SUCH_COLUMN, ERR_WRONG_TYPE, ERR_BAD_VALUE,
// ERR_BAD_SQL, ERR_UNSUPPORTED_SQL, ERR_BAD_PARAMETER, with the position; ERR_NOMEM (also: the arena is full).
int expr_compile(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out);
// The same, of something that is true or false: a where, an on, a check.
int expr_compile_condition(struct expr_compile *c, const struct ast_expr *ast, struct expr **out);

// A condition on one row of `t`, with nothing from elsewhere: no parameters, no selects, no aggregates, no now(). For checks and
// the `where` of an index. The table is slot 0.
int expr_compile_check(struct arena *a, const struct table *t, const struct ast_expr *ast, struct expr **out, struct problem *p);

// The same expression? Of selects within only where both were compiled from the same place of the text, just now.
bool expr_same(const struct expr *a, const struct expr *b);

// Canonical text, which compiles to an equal expression. Not of parameters, slots and selects within. Columns of tables are named
// without the table.
void expr_sql(struct buf *out, const struct expr *e);

// ---- evaluating ----------------------------------------------------------------------------------------------------

struct expr_row {
    struct uuid id;
    const struct row *row; // NULL: none, all its columns are null (outer joins)
};

#define EXPR_NEEDS 1 // from env->sub: the value is not known yet; evaluate again later

struct expr_env {
    const struct expr_row *rows; // by table slot
    const struct value *params;
    const struct value *slots;
    struct arena *scratch; // of results that lie in no row: valid until its owner empties it
    struct problem *p;
    // The value of a select within, or EXPR_NEEDS; `left` is the value in front of an `in`.
    int (*sub)(struct expr_env *env, const struct expr *e, const struct value *left, struct value *out);
    // The present text of a stream column's stream, in scratch; NULL where there are none.
    int (*stream_text)(struct expr_env *env, const struct expr *column, struct span *out);
    void *ctx;
};

// 0, ERR_BAD_VALUE (a sum past 64 bits, a division by zero), ERR_NOMEM, or what the callbacks say. Spans of *out lie in the rows,
// the parameters, the expression or scratch.
int expr_eval(const struct expr *e, struct expr_env *env, struct value *out);
// Does `a op b` hold, where comparing them gave `c`? For the six that order.
bool comparison_holds(enum ast_op op, int c);

enum expr_truth { EXPR_FALSE, EXPR_TRUE, EXPR_UNKNOWN };

// A condition compiled by expr_compile_check, of one row. `scratch` may be used again as soon as this returns.
int expr_check(const struct expr *e, struct uuid id, const struct row *row, struct arena *scratch, enum expr_truth *out, struct problem *p);

#endif
