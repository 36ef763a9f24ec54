// The SQL front: PostgreSQL's own parser, and of its syntax the part that Segue takes.
//
//   schema   create type name as enum ( 'label', … );
//            create table name ( column type [options (merge '…')] [constraint]… , … [, table constraint]… );
//            create [unique] index [name] on table ( column [desc], … ) [where condition];
//            types: text, integer, bigint, double precision (or double), boolean, timestamptz, uuid, jsonb, bytea, counter, stream, blob, enums; type[]
//            constraint: not null, null, default constant, primary key, [constraint name] check (condition), [constraint name] unique,
//            references t [(c)] [on delete restrict|cascade|set null]; of the table: check, unique (…), primary key (…), foreign key (c) references …
//   query    select * | t.* | column, … from t [where term and …] [order by column [asc|desc] [nulls first|last], …] [limit n|$n|all]
//            term: column op constant (either way round), column between a and b, column is [not] null, column is true|false,
//            column and not column (of booleans), not in front of a comparison
//   constant 'text', 1, -1.5, true, false, null, $n, 'text'::type, and as a default now(), current_timestamp, gen_random_uuid()
//
// Whatever else parses is refused by name: nothing of a text is ever passed over in silence. Several tables may stand in a
// schema, or none at all; a query is exactly one select. Comments and empty statements are fine anywhere.
// A comparison with null comes through as such: it is true for no row.
//
// Any thread, with at least 512 KiB of stack: the text is bounded before the parser's recursion sees it.
#ifndef SEGUE_ROWS_SQL_H
#define SEGUE_ROWS_SQL_H

#include "arena.h"
#include "ast.h"
#include "problem.h"

// Both: ERR_TOO_LARGE, ERR_BAD_UTF8, ERR_TOO_DEEP, ERR_BAD_SQL (it does not parse, or says something that cannot be),
// ERR_UNSUPPORTED_SQL, ERR_NOMEM. The problem's position is a byte of the text. The caller owns *out.
int sql_parse_schema(struct span sql, struct ast_schema **out, struct problem *p);
int sql_parse_select(struct span sql, struct ast_select **out, struct problem *p);

// One expression by itself: what expr_sql wrote. Into the caller's arena. The problem's position is one of this text, those in the
// tree are not.
int sql_parse_expr(struct span text, struct arena *arena, struct ast_expr **out, struct problem *p);

void sql_schema_free(struct ast_schema *schema); // NULL is fine
void sql_select_free(struct ast_select *select); // NULL is fine

#endif
