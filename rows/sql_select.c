// The one SELECT statement of the parser's tree.
#include <assert.h>

#include "sql_expr.h"

struct select_reader {
    const struct sql_reader *r;
    struct ast_select *out;
};

// ---- columns ---------------------------------------------------------------------------------------------------

// column, or table.column of the one table; `*star` where the name is * (only with `star` given).
static int read_column(const struct select_reader *s, const struct jr *node, struct span *name, bool *star, int64_t *position)
{
    static const struct sql_member members[] = {{"fields", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    const struct jr *fields = jr_get(node, "fields");
    size_t count = jr_count(fields);
    *position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(s->r, node, members, *position);
    if (err != 0) return err;
    if (count > 2) return sql_unsupported(s->r, *position, "names of schemas, and fields of columns, are");
    if (count == 2 && !span_equal(sql_name_at(fields, 0), s->out->table))
        return problem_set(s->r->p, ERR_BAD_SQL, *position, "%.*s is not the table of this query", SPAN_FMT(sql_name_at(fields, 0)));
    struct span last = sql_name_at(fields, count - 1);
    if (last.n > 0) return sql_text(s->r, last, name);
    if (star == NULL || jr_get(jr_at(fields, count - 1), "A_Star") == NULL) return sql_unsupported(s->r, *position, "* here is");
    *star = true;
    return 0;
}

static int read_target(const struct select_reader *s, const struct jr *node, size_t i, size_t count)
{
    static const struct sql_member members[] = {
        {"val", NULL}, {"location", NULL}, {"name", "AS is"}, {"indirection", "subscripts are"}, SQL_MEMBERS_END,
    };
    struct span kind;
    struct ast_select *out = s->out;
    const struct jr *target = jr_get(node, "ResTarget");
    int64_t position = jr_int(jr_get(target, "location"), 0);
    int err = sql_members(s->r, target, members, position);
    if (err != 0) return err;
    const struct jr *column = sql_node(jr_get(target, "val"), &kind);
    if (!span_is(kind, "ColumnRef")) return sql_refuse(s->r, jr_get(target, "val"), position);
    err = read_column(s, column, &out->columns[i], &out->star, &out->column_positions[i]);
    if (err != 0) return err;
    if (out->star && count > 1) return sql_unsupported(s->r, position, "* beside columns is");
    for (size_t j = 0; j < i; j++)
        if (span_equal(out->columns[j], out->columns[i])) return sql_unsupported(s->r, position, "a column asked for twice is");
    return 0;
}

static int read_targets(const struct select_reader *s, const struct jr *targets)
{
    size_t count = jr_count(targets);
    struct ast_select *out = s->out;
    if (count == 0) return sql_bad(s->r, -1, "a query names * or columns");
    if (count > COLUMNS_MAX) return problem_set(s->r->p, ERR_UNSUPPORTED_SQL, -1, "a query names at most %d columns", COLUMNS_MAX);
    out->columns = arena_array(s->r->arena, count, sizeof *out->columns);
    out->column_positions = arena_array(s->r->arena, count, sizeof *out->column_positions);
    if (out->columns == NULL || out->column_positions == NULL) return sql_nomem(s->r);
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++)
        err = read_target(s, jr_at(targets, i), i, count);
    out->column_count = out->star ? 0 : count;
    return err;
}

static int read_from(const struct select_reader *s, const struct jr *from)
{
    struct span kind;
    const struct jr *table = sql_node(jr_at(from, 0), &kind);
    if (jr_count(from) == 0) return sql_unsupported(s->r, -1, "a query without FROM is");
    if (jr_count(from) > 1) return sql_unsupported(s->r, sql_position(jr_at(from, 1), -1), "joins are");
    if (!span_is(kind, "RangeVar")) return sql_refuse(s->r, jr_at(from, 0), -1);
    return sql_table_name(s->r, table, &s->out->table, &s->out->table_position);
}

// ---- conditions ------------------------------------------------------------------------------------------------

static int add_term(const struct select_reader *s, const struct ast_term *term)
{
    if (s->out->term_count == QUERY_TERMS_MAX)
        return problem_set(s->r->p, ERR_UNSUPPORTED_SQL, term->position, "a query has at most %d comparisons", QUERY_TERMS_MAX);
    s->out->terms[s->out->term_count++] = *term;
    return 0;
}

static const struct {
    const char *sign;
    enum ast_op op, flipped, negated;
} operators[] = {
    {"=", OP_EQ, OP_EQ, OP_NE},  {"<>", OP_NE, OP_NE, OP_EQ}, {"<", OP_LT, OP_GT, OP_GE},
    {"<=", OP_LE, OP_GE, OP_GT}, {">", OP_GT, OP_LT, OP_LE},  {">=", OP_GE, OP_LE, OP_LT},
};

static bool is_kind(const struct jr *node, const char *kind)
{
    struct span k;
    return sql_node(node, &k) != NULL && span_is(k, kind);
}

// The column on one side and the constant on the other. From here on the term is where its column is.
static int read_sides(const struct select_reader *s, const struct jr *column, const struct jr *constant, struct ast_term *term)
{
    int64_t position;
    if (is_kind(constant, "ColumnRef")) return sql_unsupported(s->r, term->position, "comparing two columns is");
    if (!is_kind(column, "ColumnRef")) return sql_refuse(s->r, column, term->position);
    int err = read_column(s, jr_get(column, "ColumnRef"), &term->column, NULL, &position);
    if (err != 0) return err;
    term->position = position;
    return sql_constant(s->r, constant, false, &term->value);
}

static int read_comparison(const struct select_reader *s, const struct jr *node, bool negate, int64_t position)
{
    const struct jr *name = jr_get(node, "name"), *left = jr_get(node, "lexpr"), *right = jr_get(node, "rexpr");
    struct span sign = sql_name_at(name, 0);
    size_t i = 0, count = sizeof operators / sizeof operators[0];
    while (i < count && !span_is(sign, operators[i].sign))
        i++;
    if (jr_count(name) != 1 || i == count || left == NULL)
        return problem_set(s->r->p, ERR_UNSUPPORTED_SQL, position, "the operator %.*s is not supported here", SPAN_FMT(sign));

    bool flip = is_kind(right, "ColumnRef") && !is_kind(left, "ColumnRef");
    struct ast_term term = {.op = flip ? operators[i].flipped : operators[i].op, .position = position};
    if (negate)
        for (i = 0; operators[i].op != term.op;)
            i++;
    if (negate) term.op = operators[i].negated;
    int err = flip ? read_sides(s, right, left, &term) : read_sides(s, left, right, &term);
    return err != 0 ? err : add_term(s, &term);
}

// column between a and b: column >= a and column <= b.
static int read_between(const struct select_reader *s, const struct jr *node, int64_t position)
{
    const struct jr *bounds = jr_get(jr_get(jr_get(node, "rexpr"), "List"), "items");
    struct ast_term low = {.op = OP_GE, .position = position}, high = {.op = OP_LE, .position = position};
    if (jr_count(bounds) != 2) return sql_unsupported(s->r, position, "this BETWEEN is");
    int err = read_sides(s, jr_get(node, "lexpr"), jr_at(bounds, 0), &low);
    if (err == 0) err = read_sides(s, jr_get(node, "lexpr"), jr_at(bounds, 1), &high);
    if (err == 0) err = add_term(s, &low);
    return err != 0 ? err : add_term(s, &high);
}

static int read_expression(const struct select_reader *s, const struct jr *node, bool negate)
{
    static const struct sql_member members[] = {
        {"kind", NULL}, {"name", NULL}, {"lexpr", NULL}, {"rexpr", NULL}, {"location", NULL}, SQL_MEMBERS_END,
    };
    static const struct sql_member refused[] = {
        {"AEXPR_IN", "IN is"},
        {"AEXPR_LIKE", "LIKE is"},
        {"AEXPR_ILIKE", "ILIKE is"},
        {"AEXPR_SIMILAR", "SIMILAR TO is"},
        {"AEXPR_OP_ANY", "ANY is"},
        {"AEXPR_OP_ALL", "ALL is"},
        {"AEXPR_DISTINCT", "IS DISTINCT FROM is"},
        {"AEXPR_NOT_DISTINCT", "IS NOT DISTINCT FROM is"},
        {"AEXPR_NULLIF", "NULLIF is"},
        {"AEXPR_NOT_BETWEEN", "NOT BETWEEN is"},
        {"AEXPR_BETWEEN_SYM", "BETWEEN SYMMETRIC is"},
        {"AEXPR_NOT_BETWEEN_SYM", "NOT BETWEEN is"},
        SQL_MEMBERS_END,
    };
    int64_t position = jr_int(jr_get(node, "location"), 0);
    struct span kind = jr_str(jr_get(node, "kind"));
    for (const struct sql_member *m = refused; m->key != NULL; m++)
        if (span_is(kind, m->key)) return sql_unsupported(s->r, position, m->refused);
    int err = sql_members(s->r, node, members, position);
    if (err != 0) return err;
    if (span_is(kind, "AEXPR_OP")) return read_comparison(s, node, negate, position);
    if (!span_is(kind, "AEXPR_BETWEEN")) return sql_unsupported(s->r, position, "this operator is");
    return negate ? sql_unsupported(s->r, position, "NOT BETWEEN is") : read_between(s, node, position);
}

// A boolean column by itself: column = true. Of a null both are not true, so NOT is exact as well.
static int read_boolean(const struct select_reader *s, const struct jr *column, bool value)
{
    struct ast_term term = {.op = OP_EQ, .value = {.kind = AST_BOOL, .b = value}};
    int err = read_column(s, column, &term.column, NULL, &term.position);
    term.value.position = term.position;
    return err != 0 ? err : add_term(s, &term);
}

// column is [not] null.
static int read_null_test(const struct select_reader *s, const struct jr *node, bool negate)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"nulltesttype", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(s->r, node, members, position);
    if (err != 0) return err;
    const struct jr *arg = jr_get(node, "arg");
    if (!is_kind(arg, "ColumnRef")) return sql_refuse(s->r, arg, position);
    bool null = sql_is(node, "nulltesttype", "IS_NULL") != negate;
    struct ast_term term = {.op = null ? OP_IS_NULL : OP_NOT_NULL};
    err = read_column(s, jr_get(arg, "ColumnRef"), &term.column, NULL, &term.position);
    return err != 0 ? err : add_term(s, &term);
}

// column is true, column is false: what they select is what the comparison does. Negated they would select nulls too.
static int read_boolean_test(const struct select_reader *s, const struct jr *node, bool negate)
{
    static const struct sql_member members[] = {{"arg", NULL}, {"booltesttype", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(s->r, node, members, position);
    if (err != 0) return err;
    bool yes = sql_is(node, "booltesttype", "IS_TRUE"), no = sql_is(node, "booltesttype", "IS_FALSE");
    if (negate || (!yes && !no)) return sql_unsupported(s->r, position, "IS NOT TRUE, IS NOT FALSE and IS UNKNOWN are");
    const struct jr *arg = jr_get(node, "arg");
    return is_kind(arg, "ColumnRef") ? read_boolean(s, jr_get(arg, "ColumnRef"), yes) : sql_refuse(s->r, arg, position);
}

static int read_condition(const struct select_reader *s, const struct jr *node, bool negate);

static int read_bool_expr(const struct select_reader *s, const struct jr *node, bool negate)
{
    static const struct sql_member members[] = {{"boolop", NULL}, {"args", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    int64_t position = jr_int(jr_get(node, "location"), 0);
    const struct jr *args = jr_get(node, "args");
    int err = sql_members(s->r, node, members, position);
    if (err != 0) return err;
    if (sql_is(node, "boolop", "NOT_EXPR")) return read_condition(s, jr_at(args, 0), !negate);
    if (!sql_is(node, "boolop", "AND_EXPR")) return sql_unsupported(s->r, position, "OR is");
    if (negate) return sql_unsupported(s->r, position, "NOT in front of AND is");
    for (size_t i = 0; i < jr_count(args) && err == 0; i++)
        err = read_condition(s, jr_at(args, i), false);
    return err;
}

// Recursion is bounded by what jr_parse let in.
static int read_condition(const struct select_reader *s, const struct jr *node, bool negate)
{
    struct span kind;
    const struct jr *members = sql_node(node, &kind);
    if (span_is(kind, "BoolExpr")) return read_bool_expr(s, members, negate);
    if (span_is(kind, "A_Expr")) return read_expression(s, members, negate);
    if (span_is(kind, "NullTest")) return read_null_test(s, members, negate);
    if (span_is(kind, "BooleanTest")) return read_boolean_test(s, members, negate);
    if (span_is(kind, "ColumnRef")) return read_boolean(s, members, !negate);
    return sql_refuse(s->r, node, -1);
}

static int read_where(const struct select_reader *s, const struct jr *where)
{
    s->out->terms = arena_array(s->r->arena, QUERY_TERMS_MAX, sizeof *s->out->terms);
    if (s->out->terms == NULL) return sql_nomem(s->r);
    return where == NULL ? 0 : read_condition(s, where, false);
}

// ---- order and limit -------------------------------------------------------------------------------------------

static int read_order_item(const struct select_reader *s, const struct jr *item, struct ast_order *out)
{
    static const struct sql_member members[] = {
        {"node", NULL}, {"sortby_dir", NULL}, {"sortby_nulls", NULL}, {"location", NULL}, {"useOp", "ORDER BY … USING is"}, SQL_MEMBERS_END,
    };
    const struct jr *by = jr_get(item, "SortBy"), *node = jr_get(by, "node");
    int64_t position = sql_position(node, -1);
    int err = sql_members(s->r, by, members, position);
    if (err != 0) return err;
    if (!is_kind(node, "ColumnRef")) return sql_unsupported(s->r, position, "ORDER BY anything but a column is");
    out->desc = sql_is(by, "sortby_dir", "SORTBY_DESC");
    out->nulls_first = sql_is(by, "sortby_nulls", "SORTBY_NULLS_DEFAULT") ? out->desc : sql_is(by, "sortby_nulls", "SORTBY_NULLS_FIRST");
    return read_column(s, jr_get(node, "ColumnRef"), &out->column, NULL, &out->position);
}

static int read_order(const struct select_reader *s, const struct jr *order)
{
    size_t count = jr_count(order);
    if (count > COLUMNS_MAX) return problem_set(s->r->p, ERR_UNSUPPORTED_SQL, -1, "a query is ordered by at most %d columns", COLUMNS_MAX);
    s->out->order = arena_array(s->r->arena, count, sizeof *s->out->order);
    if (s->out->order == NULL) return sql_nomem(s->r);
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++)
        err = read_order_item(s, jr_at(order, i), &s->out->order[i]);
    s->out->order_count = count;
    return err;
}

// `limit all` and `limit null` are no limit.
static int read_limit(const struct select_reader *s, const struct jr *node)
{
    struct ast_const limit;
    if (node == NULL) return 0;
    int err = sql_constant(s->r, node, false, &limit);
    if (err != 0) return err;
    if (limit.kind == AST_NULL) return 0;
    if (limit.kind != AST_INT && limit.kind != AST_PARAM)
        return sql_unsupported(s->r, limit.position, "LIMIT with anything but a whole number is");
    if (limit.kind == AST_INT && limit.i < 0) return sql_bad(s->r, limit.position, "LIMIT must not be negative");
    s->out->has_limit = true;
    s->out->limit = limit;
    return 0;
}

// ---- the statement ---------------------------------------------------------------------------------------------

static int check_select(const struct sql_reader *r, const struct jr *node)
{
    static const struct sql_member members[] = {
        {"targetList", NULL},
        {"fromClause", NULL},
        {"whereClause", NULL},
        {"sortClause", NULL},
        {"limitCount", NULL},
        {"limitOption", NULL},
        {"op", NULL},
        {"larg", NULL}, // these three only with an `op`
        {"rarg", NULL},
        {"all", NULL},
        {"distinctClause", "DISTINCT is"},
        {"intoClause", "SELECT INTO is"},
        {"groupClause", "GROUP BY is"},
        {"groupDistinct", "GROUP BY is"},
        {"havingClause", "HAVING is"},
        {"windowClause", "WINDOW is"},
        {"valuesLists", "VALUES is"},
        {"limitOffset", "OFFSET is"},
        {"lockingClause", "FOR UPDATE and its kin are"},
        {"withClause", "WITH is"},
        SQL_MEMBERS_END,
    };
    int err = sql_members(r, node, members, -1);
    if (err != 0) return err;
    if (!sql_is(node, "op", "SETOP_NONE"))
        return sql_unsupported(r, sql_position(jr_get(node, "rarg"), -1), "UNION, INTERSECT and EXCEPT are");
    bool plain = sql_is(node, "limitOption", "LIMIT_OPTION_DEFAULT") || sql_is(node, "limitOption", "LIMIT_OPTION_COUNT");
    return plain ? 0 : sql_unsupported(r, sql_position(jr_get(node, "limitCount"), -1), "WITH TIES is");
}

int sql_subselect(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_select **out)
{
    (void)out;
    return sql_unsupported(r, sql_position(node, position), "subqueries are");
}

int sql_read_select(const struct sql_reader *r, const struct jr *statements, struct ast_select *out)
{
    struct span kind;
    const struct jr *statement = jr_get(jr_at(statements, 0), "stmt");
    if (jr_count(statements) == 0) return sql_bad(r, -1, "a query is one select; there is none");
    if (jr_count(statements) > 1)
        return sql_bad(r, jr_int(jr_get(jr_at(statements, 1), "stmt_location"), -1), "a query is one select; there are more");
    const struct jr *node = sql_node(statement, &kind);
    if (!span_is(kind, "SelectStmt")) return sql_refuse(r, statement, 0);

    struct select_reader s = {r, out};
    int err = check_select(r, node);
    if (err == 0) err = read_from(&s, jr_get(node, "fromClause"));
    if (err == 0) err = read_targets(&s, jr_get(node, "targetList"));
    if (err == 0) err = read_where(&s, jr_get(node, "whereClause"));
    if (err == 0) err = read_order(&s, jr_get(node, "sortClause"));
    return err != 0 ? err : read_limit(&s, jr_get(node, "limitCount"));
}
