// A look at the tokens of SQL text before PostgreSQL's parser sees it: what must be bounded, because the parser's own
// bounds are too wide or come too late.
#ifndef SEGUE_ROWS_SQL_SCAN_H
#define SEGUE_ROWS_SQL_SCAN_H

#include "problem.h"
#include "span.h"

// 0, or ERR_TOO_DEEP, ERR_BAD_SQL, ERR_UNSUPPORTED_SQL with the byte position:
//   - parentheses and brackets nested deeper than SQL_DEPTH_MAX, comments deeper than a few levels,
//   - a run of more than SQL_RUN_MAX tokens: a chain such as 1+1+1… makes a tree as deep as it is long,
//   - an operator or a name that is too long (the parser would cut the name off, and say nothing),
//   - NUL bytes, and strings with E or U& in front.
int sql_scan(struct span text, struct problem *p);

// The first position from `at` that is neither white space nor inside a comment.
size_t sql_skip_space(struct span text, size_t at);

#endif
