// Expressions of the parser's tree. What a name, a call or an operator means is known only beside a schema (expr.h); here it is
// only made sure that nothing of the text is passed over.
#include <assert.h>

#include "sql_expr.h"

static struct ast_expr *new_expr(const struct sql_reader *r, enum ast_expr_kind kind, int64_t position, size_t args)
{
    struct ast_expr *e = arena_alloc(r->arena, sizeof *e);
    if (e == NULL) return NULL;
    e->kind = kind;
    e->position = position;
    e->args = arena_array(r->arena, args, sizeof *e->args);
    if (e->args == NULL) return NULL;
    e->count = args;
    return e;
}

// A new expression, or the problem that there is no memory.
static int make(const struct sql_reader *r, enum ast_expr_kind kind, int64_t position, size_t args, struct ast_expr **out)
{
    struct ast_expr *e = new_expr(r, kind, position, args);
    if (e == NULL) return sql_nomem(r);
    *out = e;
    return 0;
}

static int read_args(const struct sql_reader *r, const struct jr *list, struct ast_expr *e, size_t from)
{
    int err = 0;
    for (size_t i = 0; i < jr_count(list) && err == 0; i++)
        err = sql_expr(r, jr_at(list, i), &e->args[from + i]);
    return err;
}

// ---- names and constants ---------------------------------------------------------------------------------------

int sql_column_ref(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"fields", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    const struct jr *fields = jr_get(node, "fields");
    size_t count = jr_count(fields);
    int64_t position = jr_int(jr_get(node, "location"), 0);
    struct ast_expr *e;
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (count > 2) return sql_unsupported(r, position, "names of schemas, and fields of columns, are");
    err = make(r, AX_COLUMN, position, 0, &e);
    if (err == 0 && count == 2) err = sql_text(r, sql_name_at(fields, 0), &e->table);
    if (err != 0) return err;
    struct span last = sql_name_at(fields, count - 1);
    if (last.n > 0) {
        err = sql_text(r, last, &e->name);
    } else {
        assert(jr_get(jr_at(fields, count - 1), "A_Star") != NULL);
        e->kind = AX_STAR;
    }
    if (err == 0) *out = e;
    return err;
}

static int read_column(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    struct ast_expr *e;
    int err = sql_column_ref(r, node, &e);
    if (err == 0 && e->kind == AX_STAR) return sql_unsupported(r, e->position, "* here is");
    if (err == 0) *out = e;
    return err;
}

static int read_const(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    struct ast_expr *e;
    int err = make(r, AX_CONST, 0, 0, &e);
    if (err == 0) err = sql_constant(r, node, false, &e->value);
    if (err != 0) return err;
    e->position = e->value.position;
    *out = e;
    return 0;
}

// ---- conditions ------------------------------------------------------------------------------------------------

static int read_bool_expr(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"boolop", NULL}, {"args", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    const struct jr *args = jr_get(node, "args");
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    enum ast_expr_kind kind = sql_is(node, "boolop", "NOT_EXPR") ? AX_NOT : sql_is(node, "boolop", "AND_EXPR") ? AX_AND : AX_OR;
    err = make(r, kind, position, jr_count(args), out);
    return err != 0 ? err : read_args(r, args, *out, 0);
}

static int read_null_test(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"nulltesttype", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, position);
    if (err == 0) err = make(r, AX_IS_NULL, position, 1, out);
    if (err != 0) return err;
    (*out)->negate = !sql_is(node, "nulltesttype", "IS_NULL");
    return sql_expr(r, jr_get(node, "arg"), &(*out)->args[0]);
}

static int read_boolean_test(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"booltesttype", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    static const struct {
        const char *name;
        enum ast_truth truth;
        bool negate;
    } tests[] = {{"IS_TRUE", AST_TRUE, false},         {"IS_NOT_TRUE", AST_TRUE, true},       {"IS_FALSE", AST_FALSE, false},
                 {"IS_NOT_FALSE", AST_FALSE, true},    {"IS_UNKNOWN", AST_UNKNOWN, false},    {"IS_NOT_UNKNOWN", AST_UNKNOWN, true}};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, position);
    if (err == 0) err = make(r, AX_IS_TRUTH, position, 1, out);
    if (err != 0) return err;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (!sql_is(node, "booltesttype", tests[i].name)) continue;
        (*out)->op = tests[i].truth;
        (*out)->negate = tests[i].negate;
    }
    return sql_expr(r, jr_get(node, "arg"), &(*out)->args[0]);
}

// ---- operators -------------------------------------------------------------------------------------------------

static const struct {
    const char *sign;
    enum ast_op op;
} comparisons[] = {{"=", OP_EQ}, {"<>", OP_NE}, {"<", OP_LT}, {"<=", OP_LE}, {">", OP_GT}, {">=", OP_GE}};

static bool comparison(struct span sign, int *op)
{
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        if (!span_is(sign, comparisons[i].sign)) continue;
        *op = (int)comparisons[i].op;
        return true;
    }
    return false;
}

static int unknown_operator(const struct sql_reader *r, int64_t position, struct span sign)
{
    return problem_set(r->p, ERR_UNSUPPORTED_SQL, position, "the operator %.*s is not supported here", SPAN_FMT(sign));
}

static int read_operator(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_expr **out)
{
    const struct jr *name = jr_get(node, "name"), *left = jr_get(node, "lexpr"), *right = jr_get(node, "rexpr");
    struct span sign = sql_name_at(name, 0);
    enum ast_expr_kind kind = AX_ARITH;
    int op = sign.n == 1 ? sign.p[0] : 0;
    bool arith = op != 0 && memchr("+-*/%", op, 5) != NULL;
    if (comparison(sign, &op))
        kind = AX_COMPARE;
    else if (span_is(sign, "||"))
        kind = AX_CONCAT;
    else if (span_is(sign, "@>") || span_is(sign, "<@"))
        kind = AX_CONTAINS;
    else if (!arith || (left == NULL && op != '-' && op != '+'))
        return unknown_operator(r, position, sign);
    if (jr_count(name) != 1 || right == NULL || (left == NULL && kind != AX_ARITH)) return unknown_operator(r, position, sign);
    if (left == NULL && op == '+') return sql_expr(r, right, out);
    int err = make(r, left == NULL ? AX_MINUS : kind, position, left == NULL ? 1 : 2, out);
    if (err != 0) return err;
    (*out)->op = op;
    if (left == NULL) return sql_expr(r, right, &(*out)->args[0]);
    size_t first = span_is(sign, "<@") ? 1 : 0; // a <@ b is b @> a
    err = sql_expr(r, left, &(*out)->args[first]);
    return err != 0 ? err : sql_expr(r, right, &(*out)->args[1 - first]);
}

// a between b and c: a >= b and a <= c, which share what `a` is.
static int read_between(const struct sql_reader *r, const struct jr *node, int64_t position, bool negate, struct ast_expr **out)
{
    const struct jr *bounds = jr_get(jr_get(jr_get(node, "rexpr"), "List"), "items");
    struct ast_expr *both;
    if (jr_count(bounds) != 2) return sql_unsupported(r, position, "this BETWEEN is");
    int err = make(r, AX_AND, position, 2, &both);
    for (size_t i = 0; i < 2 && err == 0; i++) {
        err = make(r, AX_COMPARE, position, 2, &both->args[i]);
        if (err != 0) break;
        both->args[i]->op = (int)(i == 0 ? OP_GE : OP_LE);
        if (i == 0) {
            err = sql_expr(r, jr_get(node, "lexpr"), &both->args[0]->args[0]);
        } else {
            both->args[1]->args[0] = both->args[0]->args[0];
        }
        if (err == 0) err = sql_expr(r, jr_at(bounds, i), &both->args[i]->args[1]);
    }
    if (err != 0 || !negate) {
        if (err == 0) *out = both;
        return err;
    }
    err = make(r, AX_NOT, position, 1, out);
    if (err == 0) (*out)->args[0] = both;
    return err;
}

static int read_in(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_expr **out)
{
    const struct jr *items = jr_get(jr_get(jr_get(node, "rexpr"), "List"), "items");
    int err = make(r, AX_IN, position, 1 + jr_count(items), out);
    if (err != 0) return err;
    (*out)->negate = span_is(sql_name_at(jr_get(node, "name"), 0), "<>");
    err = sql_expr(r, jr_get(node, "lexpr"), &(*out)->args[0]);
    return err != 0 ? err : read_args(r, items, *out, 1);
}

// a op any (array); of `all` only <> all, which is not (= any).
static int read_any(const struct sql_reader *r, const struct jr *node, int64_t position, bool all, struct ast_expr **out)
{
    int op = 0;
    struct span sign = sql_name_at(jr_get(node, "name"), 0);
    if (!comparison(sign, &op)) return unknown_operator(r, position, sign);
    if (all && op != OP_NE) return sql_unsupported(r, position, "ALL with anything but <> is");
    int err = make(r, AX_ANY, position, 2, out);
    if (err != 0) return err;
    (*out)->op = all ? (int)OP_EQ : op;
    (*out)->negate = all;
    err = sql_expr(r, jr_get(node, "lexpr"), &(*out)->args[0]);
    return err != 0 ? err : sql_expr(r, jr_get(node, "rexpr"), &(*out)->args[1]);
}

static int read_pair(const struct sql_reader *r, const struct jr *node, enum ast_expr_kind kind, int64_t position, struct ast_expr **out)
{
    int err = make(r, kind, position, 2, out);
    if (err == 0) err = sql_expr(r, jr_get(node, "lexpr"), &(*out)->args[0]);
    return err != 0 ? err : sql_expr(r, jr_get(node, "rexpr"), &(*out)->args[1]);
}

static int read_like(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_expr **out)
{
    struct span sign = sql_name_at(jr_get(node, "name"), 0);
    int err = read_pair(r, node, AX_LIKE, position, out);
    if (err != 0) return err;
    (*out)->negate = sign.n > 0 && sign.p[0] == '!';
    (*out)->op = sign.n > 0 && sign.p[sign.n - 1] == '*'; // ilike
    return 0;
}

static int read_distinct(const struct sql_reader *r, const struct jr *node, int64_t position, enum ast_op op, struct ast_expr **out)
{
    int err = read_pair(r, node, AX_COMPARE, position, out);
    if (err == 0) (*out)->op = (int)op;
    return err;
}

static int read_nullif(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_expr **out)
{
    int err = read_pair(r, node, AX_CALL, position, out);
    if (err == 0) (*out)->name = SPAN_LIT("nullif");
    return err;
}

static int read_a_expr(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {
        {"kind", NULL}, {"name", NULL}, {"lexpr", NULL}, {"rexpr", NULL}, {"location", NULL}, SQL_MEMBERS_END,
    };
    int64_t position = jr_int(jr_get(node, "location"), 0);
    struct span kind = jr_str(jr_get(node, "kind"));
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (span_is(kind, "AEXPR_OP")) return read_operator(r, node, position, out);
    if (span_is(kind, "AEXPR_IN")) return read_in(r, node, position, out);
    if (span_is(kind, "AEXPR_BETWEEN")) return read_between(r, node, position, false, out);
    if (span_is(kind, "AEXPR_NOT_BETWEEN")) return read_between(r, node, position, true, out);
    if (span_is(kind, "AEXPR_LIKE") || span_is(kind, "AEXPR_ILIKE")) return read_like(r, node, position, out);
    if (span_is(kind, "AEXPR_OP_ANY")) return read_any(r, node, position, false, out);
    if (span_is(kind, "AEXPR_OP_ALL")) return read_any(r, node, position, true, out);
    if (span_is(kind, "AEXPR_DISTINCT")) return read_distinct(r, node, position, OP_DISTINCT, out);
    if (span_is(kind, "AEXPR_NOT_DISTINCT")) return read_distinct(r, node, position, OP_SAME, out);
    if (span_is(kind, "AEXPR_NULLIF")) return read_nullif(r, node, position, out);
    if (span_is(kind, "AEXPR_SIMILAR")) return sql_unsupported(r, position, "SIMILAR TO is");
    return sql_unsupported(r, position, "BETWEEN SYMMETRIC is");
}

// ---- calls -----------------------------------------------------------------------------------------------------

static int read_call(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {
        {"funcname", NULL},
        {"funcformat", NULL},
        {"location", NULL},
        {"args", NULL},
        {"agg_star", NULL},
        {"agg_distinct", NULL},
        {"agg_order", "ORDER BY within an aggregate is"},
        {"agg_filter", "FILTER is"},
        {"agg_within_group", "WITHIN GROUP is"},
        {"over", "OVER is"},
        {"func_variadic", "VARIADIC is"},
        SQL_MEMBERS_END,
    };
    const struct jr *names = jr_get(node, "funcname"), *args = jr_get(node, "args");
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (jr_count(names) != 1) return sql_unsupported(r, position, "names of schemas in front of a function are");
    err = make(r, AX_CALL, position, jr_count(args), out);
    if (err == 0) err = sql_text(r, sql_name_at(names, 0), &(*out)->name);
    if (err != 0) return err;
    (*out)->star = jr_bool(jr_get(node, "agg_star"), false);
    (*out)->distinct = jr_bool(jr_get(node, "agg_distinct"), false);
    return read_args(r, args, *out, 0);
}

// COALESCE, GREATEST and LEAST are no functions to the parser.
static int read_list_call(const struct sql_reader *r, const struct jr *node, struct span name, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"args", NULL}, {"op", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    const struct jr *args = jr_get(node, "args");
    int err = sql_members(r, node, members, position);
    if (err == 0) err = make(r, AX_CALL, position, jr_count(args), out);
    if (err != 0) return err;
    (*out)->name = name;
    return read_args(r, args, *out, 0);
}

static int read_now(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"op", NULL}, {"typmod", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (!sql_is(node, "op", "SVFOP_CURRENT_TIMESTAMP") || jr_int(jr_get(node, "typmod"), 0) != -1)
        return sql_unsupported(r, position, "this function is");
    err = make(r, AX_CALL, position, 0, out);
    if (err == 0) (*out)->name = SPAN_LIT("now");
    return err;
}

// case [arg] when a then b … [else c] end: as pairs, the last alone. With an `arg` each `a` is compared with it.
static int read_when(const struct sql_reader *r, const struct jr *node, const struct ast_expr *of, struct ast_expr **condition,
                     struct ast_expr **result)
{
    static const struct sql_member members[] = {{"expr", NULL}, {"result", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    const struct jr *when = jr_get(node, "CaseWhen");
    int64_t position = jr_int(jr_get(when, "location"), 0);
    int err = sql_members(r, when, members, position);
    if (err == 0) err = sql_expr(r, jr_get(when, "expr"), condition);
    if (err == 0) err = sql_expr(r, jr_get(when, "result"), result);
    if (err != 0 || of == NULL) return err;
    struct ast_expr *equals;
    err = make(r, AX_COMPARE, position, 2, &equals);
    if (err != 0) return err;
    equals->op = (int)OP_EQ;
    equals->args[0] = (struct ast_expr *)of;
    equals->args[1] = *condition;
    *condition = equals;
    return 0;
}

static int read_case(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"args", NULL}, {"defresult", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    const struct jr *whens = jr_get(node, "args"), *otherwise = jr_get(node, "defresult");
    struct ast_expr *of = NULL;
    size_t n = jr_count(whens);
    int err = sql_members(r, node, members, position);
    if (err == 0) err = make(r, AX_CASE, position, 2 * n + (otherwise != NULL), out);
    if (err == 0 && jr_get(node, "arg") != NULL) err = sql_expr(r, jr_get(node, "arg"), &of);
    for (size_t i = 0; i < n && err == 0; i++)
        err = read_when(r, jr_at(whens, i), of, &(*out)->args[2 * i], &(*out)->args[2 * i + 1]);
    if (err == 0 && otherwise != NULL) err = sql_expr(r, otherwise, &(*out)->args[2 * n]);
    return err;
}

// ---- casts, arrays, selects within -----------------------------------------------------------------------------

static int read_cast(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"typeName", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, position);
    if (err == 0) err = make(r, AX_CAST, position, 1, out);
    if (err == 0) err = sql_type(r, jr_get(node, "typeName"), position, &(*out)->type);
    if (err == 0) err = sql_expr(r, jr_get(node, "arg"), &(*out)->args[0]);
    return err;
}

static int read_array(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {{"elements", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    const struct jr *elements = jr_get(node, "elements");
    int err = sql_members(r, node, members, position);
    if (err == 0) err = make(r, AX_ELEMENTS, position, jr_count(elements), out);
    return err != 0 ? err : read_args(r, elements, *out, 0);
}

static int read_sublink(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct sql_member members[] = {
        {"subLinkType", NULL}, {"subselect", NULL}, {"testexpr", NULL}, {"operName", NULL}, {"location", NULL}, SQL_MEMBERS_END,
    };
    int64_t position = jr_int(jr_get(node, "location"), 0);
    const struct jr *test = jr_get(node, "testexpr"), *op = jr_get(node, "operName");
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    enum ast_expr_kind kind = sql_is(node, "subLinkType", "EXISTS_SUBLINK")  ? AX_EXISTS
                              : sql_is(node, "subLinkType", "EXPR_SUBLINK")  ? AX_SCALAR
                              : sql_is(node, "subLinkType", "ARRAY_SUBLINK") ? AX_ARRAY
                                                                             : AX_IN_SELECT;
    if (kind == AX_IN_SELECT && !sql_is(node, "subLinkType", "ANY_SUBLINK")) return sql_unsupported(r, position, "ALL with a subquery is");
    if (op != NULL && !span_is(sql_name_at(op, 0), "=")) return sql_unsupported(r, position, "ANY with anything but = and a subquery is");
    err = make(r, kind, position, kind == AX_IN_SELECT, out);
    if (err == 0 && kind == AX_IN_SELECT) err = sql_expr(r, test, &(*out)->args[0]);
    return err != 0 ? err : sql_subselect(r, jr_get(node, "subselect"), position, &(*out)->select);
}

// ---- all of them -----------------------------------------------------------------------------------------------

// Recursion is bounded by what was let in of the parser's tree.
int sql_expr(const struct sql_reader *r, const struct jr *node, struct ast_expr **out)
{
    static const struct {
        const char *kind;
        int (*read)(const struct sql_reader *r, const struct jr *members, struct ast_expr **out);
    } readers[] = {
        {"ColumnRef", read_column},       {"A_Expr", read_a_expr},  {"BoolExpr", read_bool_expr}, {"NullTest", read_null_test},
        {"BooleanTest", read_boolean_test}, {"FuncCall", read_call}, {"CaseExpr", read_case},      {"TypeCast", read_cast},
        {"A_ArrayExpr", read_array},      {"SubLink", read_sublink}, {"SQLValueFunction", read_now},
    };
    struct span kind;
    const struct jr *members = sql_node(node, &kind);
    if (span_is(kind, "A_Const") || span_is(kind, "ParamRef")) return read_const(r, node, out);
    if (span_is(kind, "CoalesceExpr")) return read_list_call(r, members, SPAN_LIT("coalesce"), out);
    if (span_is(kind, "MinMaxExpr"))
        return read_list_call(r, members, sql_is(members, "op", "IS_GREATEST") ? SPAN_LIT("greatest") : SPAN_LIT("least"), out);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (span_is(kind, readers[i].kind)) return readers[i].read(r, members, out);
    return sql_refuse(r, node, -1);
}
