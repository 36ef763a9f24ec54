// The one SELECT statement of the parser's tree, and those within its expressions.
#include <assert.h>

#include "sql_expr.h"

static bool is_kind(const struct jr *node, const char *kind)
{
    struct span k;
    return sql_node(node, &k) != NULL && span_is(k, kind);
}

// ---- columns ---------------------------------------------------------------------------------------------------

static int read_target(const struct sql_reader *r, const struct jr *node, struct ast_target *out)
{
    static const struct sql_member members[] = {
        {"val", NULL}, {"location", NULL}, {"name", NULL}, {"indirection", "subscripts are"}, SQL_MEMBERS_END,
    };
    const struct jr *target = jr_get(node, "ResTarget"), *value = jr_get(target, "val");
    out->position = jr_int(jr_get(target, "location"), 0);
    int err = sql_members(r, target, members, out->position);
    if (err == 0 && is_kind(value, "ColumnRef"))
        err = sql_column_ref(r, jr_get(value, "ColumnRef"), &out->expr);
    else if (err == 0)
        err = sql_expr(r, value, &out->expr);
    if (err != 0 || jr_get(target, "name") == NULL) return err;
    if (out->expr->kind == AX_STAR) return sql_bad(r, out->position, "* stands for several columns and takes no name");
    return sql_text(r, jr_str(jr_get(target, "name")), &out->name);
}

static int read_targets(const struct sql_reader *r, const struct jr *targets, struct ast_select *out)
{
    size_t count = jr_count(targets);
    int err = 0;
    if (count == 0) return sql_bad(r, -1, "a query names * or columns");
    if (count > COLUMNS_MAX) return problem_set(r->p, ERR_UNSUPPORTED_SQL, -1, "a query names at most %d columns", COLUMNS_MAX);
    out->targets = arena_array(r->arena, count, sizeof *out->targets);
    if (out->targets == NULL) return sql_nomem(r);
    out->target_count = count;
    for (size_t i = 0; i < count && err == 0; i++)
        err = read_target(r, jr_at(targets, i), &out->targets[i]);
    return err;
}

// ---- tables ----------------------------------------------------------------------------------------------------

static int read_alias(const struct sql_reader *r, const struct jr *alias, int64_t position, struct span *out)
{
    static const struct sql_member members[] = {{"aliasname", NULL}, {"colnames", "names of columns in an alias are"}, SQL_MEMBERS_END};
    if (alias == NULL) return 0;
    int err = sql_members(r, alias, members, position);
    return err != 0 ? err : sql_text(r, jr_str(jr_get(alias, "aliasname")), out);
}

static int read_table(const struct sql_reader *r, const struct jr *node, struct ast_select *out, struct ast_from **item)
{
    if (out->from_count == QUERY_TABLES_MAX)
        return problem_set(r->p, ERR_UNSUPPORTED_SQL, sql_position(node, -1), "a query names at most %d tables", QUERY_TABLES_MAX);
    struct ast_from *f = &out->from[out->from_count];
    int err = sql_aliased_table(r, node, &f->table, &f->position);
    if (err == 0) err = read_alias(r, jr_get(node, "alias"), f->position, &f->alias);
    if (err != 0) return err;
    out->from_count++;
    *item = f;
    return 0;
}

static int read_from_item(const struct sql_reader *r, const struct jr *item, struct ast_select *out);

static int read_join(const struct sql_reader *r, const struct jr *node, struct ast_select *out)
{
    static const struct sql_member members[] = {
        {"jointype", NULL},
        {"larg", NULL},
        {"rarg", NULL},
        {"quals", NULL},
        {"rtindex", NULL},
        {"isNatural", "NATURAL JOIN is"},
        {"usingClause", "USING (say ON) is"},
        {"alias", "an alias of a join is"},
        {"join_using_alias", "an alias of a join is"},
        SQL_MEMBERS_END,
    };
    const struct jr *right = jr_get(node, "rarg"), *on = jr_get(node, "quals");
    int64_t position = sql_position(right, -1);
    struct ast_from *f;
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    bool left = sql_is(node, "jointype", "JOIN_LEFT");
    if (!left && !sql_is(node, "jointype", "JOIN_INNER")) return sql_unsupported(r, position, "RIGHT and FULL JOIN are");
    err = read_from_item(r, jr_get(node, "larg"), out);
    if (err != 0) return err;
    if (!is_kind(right, "RangeVar")) {
        if (is_kind(right, "JoinExpr")) return sql_unsupported(r, position, "a join on the right side of a join is");
        return sql_refuse(r, right, position);
    }
    err = read_table(r, jr_get(right, "RangeVar"), out, &f);
    if (err != 0) return err;
    f->join = left ? JOIN_LEFT : JOIN_INNER;
    return on == NULL ? 0 : sql_expr(r, on, &f->on);
}

// Recursion is bounded by what was let in of the parser's tree.
static int read_from_item(const struct sql_reader *r, const struct jr *item, struct ast_select *out)
{
    struct span kind;
    struct ast_from *f;
    const struct jr *members = sql_node(item, &kind);
    if (span_is(kind, "RangeVar")) return read_table(r, members, out, &f);
    if (span_is(kind, "JoinExpr")) return read_join(r, members, out);
    if (span_is(kind, "RangeSubselect")) return sql_unsupported(r, sql_position(members, -1), "a subquery in FROM is");
    return sql_refuse(r, item, -1);
}

static int read_from(const struct sql_reader *r, const struct jr *from, struct ast_select *out)
{
    int err = 0;
    if (jr_count(from) == 0) return sql_unsupported(r, out->position, "a query without FROM is");
    out->from = arena_array(r->arena, QUERY_TABLES_MAX, sizeof *out->from);
    if (out->from == NULL) return sql_nomem(r);
    for (size_t i = 0; i < jr_count(from) && err == 0; i++) {
        if (i > 0 && is_kind(jr_at(from, i), "JoinExpr"))
            return sql_unsupported(r, sql_position(jr_at(from, i), -1), "a join behind a comma (say CROSS JOIN) is");
        err = read_from_item(r, jr_at(from, i), out);
    }
    return err;
}

// ---- group, order and limit ------------------------------------------------------------------------------------

static int read_group(const struct sql_reader *r, const struct jr *group, struct ast_select *out)
{
    size_t count = jr_count(group);
    int err = 0;
    if (count > COLUMNS_MAX) return problem_set(r->p, ERR_UNSUPPORTED_SQL, -1, "a query is grouped by at most %d columns", COLUMNS_MAX);
    out->group = arena_array(r->arena, count, sizeof *out->group);
    if (out->group == NULL) return sql_nomem(r);
    out->group_count = count;
    for (size_t i = 0; i < count && err == 0; i++)
        err = sql_expr(r, jr_at(group, i), &out->group[i]);
    return err;
}

static int read_order_item(const struct sql_reader *r, const struct jr *item, struct ast_order *out)
{
    static const struct sql_member members[] = {
        {"node", NULL}, {"sortby_dir", NULL}, {"sortby_nulls", NULL}, {"location", NULL}, {"useOp", "ORDER BY … USING is"}, SQL_MEMBERS_END,
    };
    const struct jr *by = jr_get(item, "SortBy"), *node = jr_get(by, "node");
    out->position = sql_position(node, -1);
    int err = sql_members(r, by, members, out->position);
    if (err != 0) return err;
    out->desc = sql_is(by, "sortby_dir", "SORTBY_DESC");
    out->nulls_first = sql_is(by, "sortby_nulls", "SORTBY_NULLS_DEFAULT") ? out->desc : sql_is(by, "sortby_nulls", "SORTBY_NULLS_FIRST");
    return sql_expr(r, node, &out->expr);
}

static int read_order(const struct sql_reader *r, const struct jr *order, struct ast_select *out)
{
    size_t count = jr_count(order);
    if (count > COLUMNS_MAX) return problem_set(r->p, ERR_UNSUPPORTED_SQL, -1, "a query is ordered by at most %d columns", COLUMNS_MAX);
    out->order = arena_array(r->arena, count, sizeof *out->order);
    if (out->order == NULL) return sql_nomem(r);
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++)
        err = read_order_item(r, jr_at(order, i), &out->order[i]);
    out->order_count = count;
    return err;
}

// `limit all` and `limit null` are no limit, `offset null` is none either.
static int read_count(const struct sql_reader *r, const struct jr *node, const char *what, bool *has, struct ast_const *out)
{
    struct ast_const v;
    if (node == NULL) return 0;
    int err = sql_constant(r, node, false, &v);
    if (err != 0) return err;
    if (v.kind == AST_NULL) return 0;
    if (v.kind != AST_INT && v.kind != AST_PARAM)
        return problem_set(r->p, ERR_UNSUPPORTED_SQL, v.position, "%s with anything but a whole number is not supported yet", what);
    if (v.kind == AST_INT && v.i < 0) return problem_set(r->p, ERR_BAD_SQL, v.position, "%s must not be negative", what);
    *has = true;
    *out = v;
    return 0;
}

// ---- the statement ---------------------------------------------------------------------------------------------

// DISTINCT is a list of one empty node; DISTINCT ON has expressions in it.
static int read_distinct(const struct sql_reader *r, const struct jr *distinct, struct ast_select *out)
{
    if (distinct == NULL) return 0;
    if (jr_count(distinct) != 1 || jr_count(jr_at(distinct, 0)) != 0)
        return sql_unsupported(r, sql_position(distinct, -1), "DISTINCT ON is");
    out->distinct = true;
    return 0;
}

static int check_select(const struct sql_reader *r, const struct jr *node)
{
    static const struct sql_member members[] = {
        {"targetList", NULL},
        {"fromClause", NULL},
        {"whereClause", NULL},
        {"groupClause", NULL},
        {"havingClause", NULL},
        {"sortClause", NULL},
        {"limitCount", NULL},
        {"limitOffset", NULL},
        {"limitOption", NULL},
        {"distinctClause", NULL},
        {"op", NULL},
        {"larg", NULL}, // these three only with an `op`
        {"rarg", NULL},
        {"all", NULL},
        {"intoClause", "SELECT INTO is"},
        {"groupDistinct", "GROUP BY DISTINCT is"},
        {"windowClause", "WINDOW is"},
        {"valuesLists", "VALUES is"},
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

static int read_statement(const struct sql_reader *r, const struct jr *node, struct ast_select *out)
{
    const struct jr *where = jr_get(node, "whereClause"), *having = jr_get(node, "havingClause");
    int err = check_select(r, node);
    if (err == 0) err = read_from(r, jr_get(node, "fromClause"), out);
    if (err == 0) err = read_targets(r, jr_get(node, "targetList"), out);
    if (err == 0 && where != NULL) err = sql_expr(r, where, &out->where);
    if (err == 0) err = read_group(r, jr_get(node, "groupClause"), out);
    if (err == 0 && having != NULL) err = sql_expr(r, having, &out->having);
    if (err == 0) err = read_distinct(r, jr_get(node, "distinctClause"), out);
    if (err == 0) err = read_order(r, jr_get(node, "sortClause"), out);
    if (err == 0) err = read_count(r, jr_get(node, "limitCount"), "LIMIT", &out->has_limit, &out->limit);
    return err != 0 ? err : read_count(r, jr_get(node, "limitOffset"), "OFFSET", &out->has_offset, &out->offset);
}

int sql_subselect(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_select **out)
{
    struct span kind;
    const struct jr *members = sql_node(node, &kind);
    assert(span_is(kind, "SelectStmt"));
    struct ast_select *select = arena_alloc(r->arena, sizeof *select);
    if (select == NULL) return sql_nomem(r);
    select->position = position;
    int err = read_statement(r, members, select);
    if (err == 0) *out = select;
    return err;
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
    out->position = -1;
    return read_statement(r, node, out);
}
