// Reading expressions of the parser's tree. Private to the SQL front.
#ifndef SEGUE_ROWS_SQL_EXPR_H
#define SEGUE_ROWS_SQL_EXPR_H

#include "sql_tree.h"

// Any expression. What is not supported is refused by name and place; whether the rest means anything is expr.h's question.
int sql_expr(const struct sql_reader *r, const struct jr *node, struct ast_expr **out);

// A column's name, or * (AX_STAR), with a table's in front or not. `node` is a ColumnRef's members.
int sql_column_ref(const struct sql_reader *r, const struct jr *node, struct ast_expr **out);

// A select within an expression: `node` is the statement's node.
int sql_subselect(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_select **out);

#endif
