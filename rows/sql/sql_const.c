// Constants of the parser's tree.
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "sql_scan.h"
#include "sql_tree.h"

// ---- numbers ---------------------------------------------------------------------------------------------------

// Decimal digits at `at` as a number; -1 where there are none, or it is beyond 32 bits.
static int64_t digits_at(struct span text, size_t at)
{
    int64_t v = -1;
    for (; at < text.n && text.p[at] >= '0' && text.p[at] <= '9' && v <= INT32_MAX; at++)
        v = (v < 0 ? 0 : v) * 10 + (text.p[at] - '0');
    return v > (int64_t)INT32_MAX + 1 ? -1 : v;
}

// The parser writes an integer into its tree only if it is above zero: zero and negative ones have to be read from
// the text, where there may be signs, parentheses, space and comments in front.
static int integer_in_text(const struct sql_reader *r, int64_t position, int64_t *out)
{
    bool negative = false;
    size_t at = position < 0 ? r->text.n : (size_t)position;
    for (;;) {
        at = sql_skip_space(r->text, at);
        uint8_t c = at < r->text.n ? r->text.p[at] : 0;
        if (c != '-' && c != '(') break;
        if (c == '-') negative = !negative;
        at++;
    }
    int64_t v = digits_at(r->text, at);
    if (v < 0 || (v > 0 && !negative)) return sql_unsupported(r, position, "a number in this place is");
    *out = -v;
    return 0;
}

// A number with a fraction or an exponent, or an integer beyond 32 bits: the tree has its text.
static int number_of_text(const struct sql_reader *r, struct span text, struct ast_const *out)
{
    char digits[400]; // the longest finite double has 309 digits before its point
    if (text.n == 0 || text.n >= sizeof digits) return sql_bad(r, out->position, "a number is too long");
    memcpy(digits, text.p, text.n);
    digits[text.n] = 0;

    char *end;
    errno = 0;
    long long whole = strtoll(digits, &end, 10);
    if (errno == 0 && *end == 0) {
        out->kind = AST_INT;
        out->i = whole;
        return 0;
    }
    double real = strtod(digits, &end);
    if (*end != 0 || !isfinite(real)) return sql_bad(r, out->position, "a number is out of range");
    out->kind = AST_REAL;
    out->d = real;
    return 0;
}

// ---- plain constants -------------------------------------------------------------------------------------------

static int plain_constant(const struct sql_reader *r, const struct jr *node, struct ast_const *out)
{
    static const struct sql_member members[] = {
        {"ival", NULL},
        {"fval", NULL},
        {"sval", NULL},
        {"boolval", NULL},
        {"isnull", NULL},
        {"location", NULL},
        {"bsval", "bit strings are"},
        SQL_MEMBERS_END,
    };
    int err = sql_members(r, node, members, out->position);
    if (err != 0) return err;
    const struct jr *v;
    if (jr_bool(jr_get(node, "isnull"), false)) {
        out->kind = AST_NULL;
    } else if ((v = jr_get(node, "boolval")) != NULL) {
        out->kind = AST_BOOL;
        out->b = jr_bool(jr_get(v, "boolval"), false);
    } else if ((v = jr_get(node, "sval")) != NULL) {
        out->kind = AST_TEXT;
        return sql_text(r, jr_str(jr_get(v, "sval")), &out->text);
    } else if ((v = jr_get(node, "fval")) != NULL) {
        return number_of_text(r, jr_str(jr_get(v, "fval")), out);
    } else if ((v = jr_get(node, "ival")) != NULL) {
        out->kind = AST_INT;
        out->i = jr_int(jr_get(v, "ival"), 0);
        if (out->i == 0) return integer_in_text(r, out->position, &out->i);
    } else {
        return sql_unsupported(r, out->position, "this kind of constant is");
    }
    return 0;
}

// $n. Its number is read from the text too: the parser's own wraps around at 32 bits.
static int parameter(const struct sql_reader *r, const struct jr *node, struct ast_const *out)
{
    static const struct sql_member members[] = {{"number", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int err = sql_members(r, node, members, out->position);
    if (err != 0) return err;
    int64_t number = digits_at(r->text, (size_t)out->position + 1);
    if (number < 1 || number > QUERY_PARAMS_MAX)
        return problem_set(r->p, ERR_BAD_SQL, out->position, "parameters are $1 to $%d", QUERY_PARAMS_MAX);
    out->kind = AST_PARAM;
    out->param = (int)number;
    return 0;
}

// ---- casts -----------------------------------------------------------------------------------------------------

// What a cast leaves of a constant. A text keeps its own form for the types that are written as texts; nothing is ever
// rounded or parsed here. Only in a schema can it be said what an enum is.
static int apply_cast(const struct sql_reader *r, const struct ast_type *to, bool in_default, struct ast_const *c)
{
    enum col_type type = to->kind;
    bool named = type == COL_ENUM || to->array;
    bool as_text = type == COL_TEXT || type == COL_TIMESTAMPTZ || type == COL_UUID || type == COL_JSONB || type == COL_BYTEA || named;
    bool fits = c->kind == AST_NULL || (c->kind == AST_TEXT && as_text) || (c->kind == AST_BOOL && type == COL_BOOLEAN) ||
                (c->kind == AST_REAL && type == COL_DOUBLE) || (c->kind == AST_INT && (type == COL_BIGINT || type == COL_DOUBLE)) ||
                (c->kind == AST_INT && type == COL_INTEGER && c->i >= INT32_MIN && c->i <= INT32_MAX);
    if (type == COL_ENUM && !in_default) return sql_no_type(r, to);
    if (c->kind == AST_PARAM) return sql_unsupported(r, c->position, "a cast of a parameter (its column says the type) is");
    if (!fits || (named && !in_default))
        return sql_unsupported(r, c->position, "a cast that changes the constant (write it as what it is) is");
    if (named) c->cast = *to;
    if (c->kind == AST_INT && type == COL_DOUBLE) {
        c->kind = AST_REAL;
        c->d = (double)c->i;
        c->i = 0;
    }
    return 0;
}

static int cast(const struct sql_reader *r, const struct jr *node, bool in_default, struct ast_const *out)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"typeName", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    struct span kind;
    int err = sql_members(r, node, members, out->position);
    if (err != 0) return err;
    const struct jr *arg = jr_get(node, "arg");
    sql_node(arg, &kind);
    if (span_is(kind, "TypeCast")) return sql_unsupported(r, out->position, "a cast of a cast is");
    struct ast_type type;
    err = sql_type(r, jr_get(node, "typeName"), out->position, &type);
    if (err == 0) err = sql_constant(r, arg, false, out);
    return err != 0 ? err : apply_cast(r, &type, in_default, out);
}

// ---- functions -------------------------------------------------------------------------------------------------

static int function(const struct sql_reader *r, const struct jr *node, struct ast_const *out)
{
    static const struct sql_member members[] = {
        {"funcname", NULL}, {"funcformat", NULL}, {"location", NULL}, {"args", "function calls with arguments are"}, SQL_MEMBERS_END,
    };
    const struct jr *names = jr_get(node, "funcname");
    struct span name = sql_name_at(names, jr_count(names) - 1);
    bool now = span_is(name, "now"), uuid = span_is(name, "gen_random_uuid");
    if (jr_count(names) != 1 || (!now && !uuid))
        return problem_set(r->p, ERR_UNSUPPORTED_SQL, out->position, "the function %.*s is not supported yet", SPAN_FMT(name));
    int err = sql_members(r, node, members, out->position);
    if (err != 0) return err;
    out->kind = now ? AST_NOW : AST_UUID;
    return 0;
}

// CURRENT_TIMESTAMP and its kin, which are no functions to the parser.
static int value_function(const struct sql_reader *r, const struct jr *node, struct ast_const *out)
{
    static const struct sql_member members[] = {{"op", NULL}, {"typmod", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int err = sql_members(r, node, members, out->position);
    if (err != 0) return err;
    if (!sql_is(node, "op", "SVFOP_CURRENT_TIMESTAMP") || jr_int(jr_get(node, "typmod"), 0) != -1)
        return sql_unsupported(r, out->position, "this function is");
    out->kind = AST_NOW;
    return 0;
}

int sql_constant(const struct sql_reader *r, const struct jr *node, bool in_default, struct ast_const *out)
{
    struct span kind;
    const struct jr *members = sql_node(node, &kind);
    struct ast_const c = {.position = jr_int(jr_get(members, "location"), 0)};
    int err;
    if (span_is(kind, "A_Const"))
        err = plain_constant(r, members, &c);
    else if (span_is(kind, "TypeCast"))
        err = cast(r, members, in_default, &c);
    else if (span_is(kind, "ParamRef") && !in_default)
        err = parameter(r, members, &c);
    else if (span_is(kind, "FuncCall") && in_default)
        err = function(r, members, &c);
    else if (span_is(kind, "SQLValueFunction") && in_default)
        err = value_function(r, members, &c);
    else
        err = sql_refuse(r, node, c.position);
    if (err == 0) *out = c;
    return err;
}
