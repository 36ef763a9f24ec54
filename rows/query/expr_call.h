// The operators and functions of expressions that make new texts and arrays. Private to expr.c; the contracts are expr_eval's.
#ifndef SEGUE_ROWS_EXPR_CALL_H
#define SEGUE_ROWS_EXPR_CALL_H

#include "expr.h"

int expr_concat(const struct expr *e, struct expr_env *env, struct value *out);
int expr_elements(const struct expr *e, struct expr_env *env, struct value *out);
int expr_call(const struct expr *e, struct expr_env *env, struct value *out);
int expr_cast(const struct expr *e, struct expr_env *env, struct value *out);

// SQL's LIKE: % any text, _ one character, \ takes the next one as it is. False: there is no answer, for the pattern ends with a \, or (*steps, from 0, is
// above LIKE_STEPS_MAX) it would take too long.
bool expr_like(struct span text, struct span pattern, bool any_case, bool *matches, size_t *steps);

#endif
