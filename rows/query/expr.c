// Evaluating: a walk over the tree, with SQL's three values. Null is the third of a condition.
#include "expr.h"

#include <assert.h>
#include <math.h>

#include "elements.h"
#include "err.h"
#include "limits.h"
#include "expr_call.h"

static int bad(const struct expr *e, struct expr_env *env, const char *sentence)
{
    return problem_set(env->p, ERR_BAD_VALUE, e->position, "%s", sentence);
}

static int give(struct value *out, bool b)
{
    *out = (struct value){.b = b};
    return 0;
}

static int null(struct value *out)
{
    *out = VALUE_NULL;
    return 0;
}

static bool is_double(const struct type *t)
{
    return t->kind == COL_DOUBLE && !t->array;
}

// ---- columns -------------------------------------------------------------------------------------------------------

static int column(const struct expr *e, const struct expr_env *env, struct value *out)
{
    const struct expr_row *r = &env->rows[e->slot];
    if (!r->row) return null(out);
    if (e->column == COLUMN_ID) {
        *out = (struct value){.u = r->id};
        return 0;
    }
    assert(e->column < (int)r->row->count);
    *out = r->row->cells[e->column].v;
    return 0;
}

// ---- conditions ----------------------------------------------------------------------------------------------------

// The value that decides an `and` or `or` whatever stands beside it; if none does, a null makes it null.
static int junction(const struct expr *e, struct expr_env *env, struct value *out)
{
    bool decides = e->kind == EX_OR, unknown = false;
    for (size_t i = 0; i < e->count; i++) {
        struct value v;
        int err = expr_eval(e->args[i], env, &v);
        if (err) return err;
        if (!v.null && v.b == decides) return give(out, decides);
        unknown = unknown || v.null;
    }
    return unknown ? null(out) : give(out, !decides);
}

static int negation(const struct expr *e, struct expr_env *env, struct value *out)
{
    int err = expr_eval(e->args[0], env, out);
    if (!err && !out->null) out->b = !out->b;
    return err;
}

static int truth_test(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value v;
    int err = expr_eval(e->args[0], env, &v);
    if (err) return err;
    bool is = e->op == AST_UNKNOWN ? v.null : !v.null && v.b == (e->op == AST_TRUE);
    return give(out, is != e->negate);
}

static int null_test(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value v;
    int err = expr_eval(e->args[0], env, &v);
    return err ? err : give(out, v.null != e->negate);
}

bool comparison_holds(enum ast_op op, int c)
{
    switch (op) {
    case OP_EQ: return c == 0;
    case OP_NE: return c != 0;
    case OP_LT: return c < 0;
    case OP_LE: return c <= 0;
    case OP_GT: return c > 0;
    case OP_GE: return c >= 0;
    case OP_IS_NULL:
    case OP_NOT_NULL:
    case OP_DISTINCT:
    case OP_SAME: break;
    }
    assert(!"a comparison");
    return false;
}

static int comparison(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value a, b;
    int err = expr_eval(e->args[0], env, &a);
    if (!err) err = expr_eval(e->args[1], env, &b);
    if (err) return err;
    if (e->op == OP_SAME || e->op == OP_DISTINCT) return give(out, value_equal(&e->compared, &a, &b) == (e->op == OP_SAME));
    if (a.null || b.null) return null(out);
    return give(out, comparison_holds((enum ast_op)e->op, value_compare(&e->compared, &a, &b)));
}

static int in(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value a, b;
    bool unknown = false;
    int err = expr_eval(e->args[0], env, &a);
    if (err) return err;
    if (a.null) return null(out);
    for (size_t i = 1; i < e->count; i++) {
        err = expr_eval(e->args[i], env, &b);
        if (err) return err;
        unknown = unknown || b.null;
        if (!b.null && value_compare(&e->compared, &a, &b) == 0) return give(out, !e->negate);
    }
    return unknown ? null(out) : give(out, e->negate);
}

static int any(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value a, b, item;
    struct elements all;
    int err = expr_eval(e->args[0], env, &a);
    if (!err) err = expr_eval(e->args[1], env, &b);
    if (err) return err;
    if (a.null || b.null) return null(out);
    elements_open(&all, &e->args[1]->type, &b);
    while (elements_next(&all, &item, NULL))
        if (comparison_holds((enum ast_op)e->op, value_compare(&e->compared, &a, &item))) return give(out, !e->negate);
    return give(out, e->negate);
}

static int like(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value text, pattern;
    size_t steps = 0;
    bool matches;
    int err = expr_eval(e->args[0], env, &text);
    if (!err) err = expr_eval(e->args[1], env, &pattern);
    if (err) return err;
    if (text.null || pattern.null) return null(out);
    if (!expr_like(text.s, pattern.s, e->op != 0, &matches, &steps))
        return bad(e, env, steps > LIKE_STEPS_MAX ? "a LIKE takes too many steps" : "a LIKE pattern ends with its escape character");
    return give(out, matches != e->negate);
}

static bool holds(const struct type *type, const struct value *array, const struct type *item_type, const struct value *item)
{
    struct elements all;
    struct value v;
    elements_open(&all, type, array);
    while (elements_next(&all, &v, NULL))
        if (value_compare(item_type, &v, item) == 0) return true;
    return false;
}

static int contains(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value a, b, item;
    struct elements wanted;
    struct type item_type = type_of_element(&e->args[1]->type);
    int err = expr_eval(e->args[0], env, &a);
    if (!err) err = expr_eval(e->args[1], env, &b);
    if (err) return err;
    if (a.null || b.null) return null(out);
    elements_open(&wanted, &e->args[1]->type, &b);
    while (elements_next(&wanted, &item, NULL))
        if (!holds(&e->args[0]->type, &a, &item_type, &item)) return give(out, false);
    return give(out, true);
}

// ---- numbers -------------------------------------------------------------------------------------------------------

static int whole(const struct expr *e, struct expr_env *env, int64_t a, int64_t b, int64_t *out)
{
    bool past = false;
    if ((e->op == '/' || e->op == '%') && b == 0) return bad(e, env, "a division by zero");
    switch (e->op) {
    case '+': past = __builtin_add_overflow(a, b, out); break;
    case '-': past = __builtin_sub_overflow(a, b, out); break;
    case '*': past = __builtin_mul_overflow(a, b, out); break;
    case '/':
        past = a == INT64_MIN && b == -1;
        if (!past) *out = a / b;
        break;
    case '%': *out = b == -1 ? 0 : a % b; break;
    default: assert(!"an operator");
    }
    return past ? bad(e, env, "a result is past 64 bits") : 0;
}

static int real(const struct expr *e, struct expr_env *env, double a, double b, double *out)
{
    if (e->op == '/' && b == 0) return bad(e, env, "a division by zero");
    double d = e->op == '+' ? a + b : e->op == '-' ? a - b : e->op == '*' ? a * b : a / b;
    if (!isfinite(d)) return bad(e, env, "a result is out of the range of double precision");
    *out = d == 0 ? 0 : d; // one zero
    return 0;
}

static int arithmetic(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value a, b;
    int err = expr_eval(e->args[0], env, &a);
    if (!err) err = expr_eval(e->args[1], env, &b);
    if (err) return err;
    if (a.null || b.null) return null(out);
    struct value v = {.null = false};
    err = is_double(&e->type) ? real(e, env, a.d, b.d, &v.d) : whole(e, env, a.i, b.i, &v.i);
    if (!err) *out = v;
    return err;
}

static int minus(const struct expr *e, struct expr_env *env, struct value *out)
{
    int err = expr_eval(e->args[0], env, out);
    if (err || out->null) return err;
    if (is_double(&e->type)) {
        out->d = out->d == 0 ? 0 : -out->d;
        return 0;
    }
    return __builtin_sub_overflow((int64_t)0, out->i, &out->i) ? bad(e, env, "a result is past 64 bits") : 0;
}

// ---- choices -------------------------------------------------------------------------------------------------------

static int choose_case(const struct expr *e, struct expr_env *env, struct value *out)
{
    for (size_t i = 0; i + 1 < e->count; i += 2) {
        struct value v;
        int err = expr_eval(e->args[i], env, &v);
        if (err) return err;
        if (!v.null && v.b) return expr_eval(e->args[i + 1], env, out);
    }
    return e->count % 2 == 1 ? expr_eval(e->args[e->count - 1], env, out) : null(out);
}

static int coalesce(const struct expr *e, struct expr_env *env, struct value *out)
{
    *out = VALUE_NULL;
    for (size_t i = 0; i < e->count && out->null; i++) {
        int err = expr_eval(e->args[i], env, out);
        if (err) return err;
    }
    return 0;
}

static int nullif(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value b;
    int err = expr_eval(e->args[0], env, out);
    if (!err) err = expr_eval(e->args[1], env, &b);
    if (!err && !out->null && !b.null && value_compare(&e->type, out, &b) == 0) *out = VALUE_NULL;
    return err;
}

// Nulls are passed over, as PostgreSQL does.
static int extreme(const struct expr *e, struct expr_env *env, struct value *out)
{
    *out = VALUE_NULL;
    for (size_t i = 0; i < e->count; i++) {
        struct value v;
        int err = expr_eval(e->args[i], env, &v);
        if (err) return err;
        if (v.null) continue;
        int c = out->null ? 0 : value_compare(&e->type, &v, out);
        if (out->null || (e->op == '>' ? c > 0 : c < 0)) *out = v;
    }
    return 0;
}

static int sub(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value left = VALUE_NULL;
    int err = e->count > 0 ? expr_eval(e->args[0], env, &left) : 0;
    assert(env->sub);
    return err ? err : env->sub(env, e, &left, out);
}

// ---- all of them ---------------------------------------------------------------------------------------------------

int expr_eval(const struct expr *e, struct expr_env *env, struct value *out)
{
    switch (e->kind) {
    case EX_CONST: *out = e->value; return 0;
    case EX_PARAM: *out = env->params[e->slot]; return 0;
    case EX_COLUMN: return column(e, env, out);
    case EX_SLOT: *out = env->slots[e->slot]; return 0;
    case EX_AND:
    case EX_OR: return junction(e, env, out);
    case EX_NOT: return negation(e, env, out);
    case EX_COMPARE: return comparison(e, env, out);
    case EX_IS_NULL: return null_test(e, env, out);
    case EX_IS_TRUTH: return truth_test(e, env, out);
    case EX_IN: return in(e, env, out);
    case EX_ANY: return any(e, env, out);
    case EX_LIKE: return like(e, env, out);
    case EX_ARITH: return arithmetic(e, env, out);
    case EX_MINUS: return minus(e, env, out);
    case EX_CONCAT: return expr_concat(e, env, out);
    case EX_CONTAINS: return contains(e, env, out);
    case EX_ELEMENTS: return expr_elements(e, env, out);
    case EX_CASE: return choose_case(e, env, out);
    case EX_COALESCE: return coalesce(e, env, out);
    case EX_NULLIF: return nullif(e, env, out);
    case EX_EXTREME: return extreme(e, env, out);
    case EX_CALL: return expr_call(e, env, out);
    case EX_CAST: return expr_cast(e, env, out);
    case EX_SUB: return sub(e, env, out);
    }
    assert(!"a kind of expression");
    return ERR_INTERNAL;
}

int expr_check(const struct expr *e, struct uuid id, const struct row *row, struct arena *scratch, enum expr_truth *out, struct problem *p)
{
    const struct expr_row one = {.id = id, .row = row};
    struct expr_env env = {.rows = &one, .scratch = scratch, .p = p};
    struct value v;
    int err = expr_eval(e, &env, &v);
    if (!err) *out = v.null ? EXPR_UNKNOWN : v.b ? EXPR_TRUE : EXPR_FALSE;
    return err;
}
