#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "sql_help.h"

// ---- trees ----------------------------------------------------------------------------------------------------

static void put_select(struct buf *b, const struct ast_select *s);

// An expression in a form of the test's own: every part in parentheses, kinds by name.
static void put_expr(struct buf *b, const struct ast_expr *e)
{
    static const char *const ops[] = {"=", "<>", "<", "<=", ">", ">=", "null", "not null", "distinct", "same"};
    static const char *const names[] = {[AX_AND] = "and",       [AX_OR] = "or",         [AX_NOT] = "not",       [AX_IS_NULL] = "null",
                                        [AX_IS_TRUTH] = "is",   [AX_IN] = "in",         [AX_ANY] = "any",       [AX_LIKE] = "like",
                                        [AX_ARITH] = "arith",   [AX_MINUS] = "minus",   [AX_CONCAT] = "||",     [AX_CONTAINS] = "@>",
                                        [AX_ELEMENTS] = "array", [AX_CASE] = "case",    [AX_CAST] = "cast",     [AX_EXISTS] = "exists",
                                        [AX_SCALAR] = "value",  [AX_ARRAY] = "rows",    [AX_IN_SELECT] = "in",  [AX_COMPARE] = "compare"};
    if (e->kind == AX_CONST) {
        put_const(b, &e->value);
        return;
    }
    if (e->kind == AX_COLUMN || e->kind == AX_STAR) {
        if (e->table.n > 0) buf_printf(b, "%.*s.", SPAN_FMT(e->table));
        buf_printf(b, "%.*s", SPAN_FMT(e->kind == AX_STAR ? SPAN_LIT("*") : e->name));
        return;
    }
    buf_put_str(b, e->negate ? "(!" : "(");
    if (e->kind == AX_CALL) {
        buf_printf(b, "%.*s%s%s", SPAN_FMT(e->name), e->star ? " *" : "", e->distinct ? " distinct" : "");
    } else if (e->kind == AX_COMPARE) {
        buf_put_str(b, ops[e->op]);
    } else if (e->kind == AX_ARITH) {
        buf_put_u8(b, (uint8_t)e->op);
    } else {
        buf_put_str(b, names[e->kind]);
    }
    for (size_t i = 0; i < e->count; i++) {
        buf_put_u8(b, ' ');
        put_expr(b, e->args[i]);
    }
    if (e->select != NULL) put_select(b, e->select);
    buf_put_u8(b, ')');
}

static void put_select(struct buf *b, const struct ast_select *s)
{
    buf_put_str(b, " select");
    for (size_t i = 0; i < s->target_count; i++) {
        buf_put_u8(b, ' ');
        put_expr(b, s->targets[i].expr);
        if (s->targets[i].name.n > 0) buf_printf(b, ":%.*s", SPAN_FMT(s->targets[i].name));
    }
    for (size_t i = 0; i < s->from_count; i++) {
        buf_printf(b, " %s %.*s", i == 0 ? "from" : s->from[i].join == JOIN_LEFT ? "left" : "join", SPAN_FMT(s->from[i].table));
        if (s->from[i].alias.n > 0) buf_printf(b, ":%.*s", SPAN_FMT(s->from[i].alias));
        if (s->from[i].on == NULL) continue;
        buf_put_str(b, " on ");
        put_expr(b, s->from[i].on);
    }
    if (s->where != NULL) {
        buf_put_str(b, " where ");
        put_expr(b, s->where);
    }
    for (size_t i = 0; i < s->group_count; i++) {
        buf_put_str(b, i == 0 ? " group " : " ");
        put_expr(b, s->group[i]);
    }
    if (s->having != NULL) {
        buf_put_str(b, " having ");
        put_expr(b, s->having);
    }
}

// What `select * from t where <where>` is read as.
static void where_reads(const char *where, const char *expected)
{
    char sql[2000];
    struct buf b;
    buf_init(&b, 10000);
    snprintf(sql, sizeof sql, "select * from t where %s", where);
    struct ast_select *s = select_of(sql);
    put_expr(&b, s->where);
    assert_int_equal(b.err, 0);
    assert_span(buf_span(&b), expected);
    sql_select_free(s);
    buf_free(&b);
}

static void select_reads(const char *sql, const char *expected)
{
    struct buf b;
    buf_init(&b, 10000);
    struct ast_select *s = select_of(sql);
    put_select(&b, s);
    assert_int_equal(b.err, 0);
    assert_span(buf_span(&b), expected);
    sql_select_free(s);
    buf_free(&b);
}

// ---- queries ---------------------------------------------------------------------------------------------------

static void a_query_names_its_table_columns_order_and_limit(void **state)
{
    (void)state;
    struct ast_select *s = select_of("select b, t.\"A\" from t order by a, b desc, c asc nulls first, d desc nulls last limit 10 offset 3;");
    assert_int_equal(s->from_count, 1);
    assert_span(s->from[0].table, "t");
    assert_int_equal(s->from[0].position, 21);
    assert_int_equal(s->target_count, 2);
    assert_span(s->targets[0].expr->name, "b");
    assert_span(s->targets[1].expr->name, "A");
    assert_int_equal(s->targets[1].position, 10);
    assert_int_equal(s->order_count, 4);
    assert_false(s->order[0].desc || s->order[0].nulls_first);
    assert_true(s->order[1].desc && s->order[1].nulls_first);
    assert_true(!s->order[2].desc && s->order[2].nulls_first);
    assert_true(s->order[3].desc && !s->order[3].nulls_first);
    assert_true(s->has_limit && s->has_offset);
    assert_int_equal(s->limit.i, 10);
    assert_int_equal(s->offset.i, 3);
    assert_null(s->where);
    sql_select_free(s);
}

static void star_is_all_columns(void **state)
{
    (void)state;
    select_reads("select * from t", " select * from t");
    select_reads("select t.* from t", " select t.* from t");
    select_reads("table t", " select * from t");
    select_reads("SELECT *, a FROM T -- all", " select * a from t");
}

static void a_limit_is_a_number_a_parameter_or_none(void **state)
{
    (void)state;
    struct ast_select *s = select_of("select * from t limit 0");
    assert_true(s->has_limit && s->limit.kind == AST_INT && s->limit.i == 0);
    sql_select_free(s);
    s = select_of("select * from t limit $2");
    assert_true(s->has_limit && s->limit.kind == AST_PARAM && s->limit.param == 2);
    sql_select_free(s);
    s = select_of("select * from t limit all");
    assert_false(s->has_limit);
    sql_select_free(s);
    s = select_of("select * from t fetch first row only");
    assert_true(s->has_limit && s->limit.i == 1);
    sql_select_free(s);
    select_refused("select * from t limit -1", ERR_BAD_SQL, "-1", "negative");
    select_refused("select * from t limit 1.5", ERR_UNSUPPORTED_SQL, "1.5", "whole number");
    select_refused("select * from t limit 1 offset -1", ERR_BAD_SQL, "-1", "negative");
}

static void a_where_is_an_expression(void **state)
{
    (void)state;
    where_reads("a = 1 and b <> 'x' and c != -2", "(and (= a 1) (<> b 'x') (<> c -2))");
    where_reads("d < 1.5 or e <= $1 and not f", "(or (< d 1.5r) (and (<= e $1) (not f)))");
    where_reads("a is null and b is not null", "(and (null a) (!null b))");
    where_reads("a is true or a is not unknown", "(or (is a) (!is a))");
    where_reads("t.id = 'f6bd7fd0-2c6c-4a5c-8d0b-9f8a0c7b5a11'::uuid", "(= t.id (cast 'f6bd7fd0-2c6c-4a5c-8d0b-9f8a0c7b5a11'))");
    where_reads("a >= '2026-01-01' ::timestamptz", "(>= a (cast '2026-01-01'))");
    where_reads("\"Größe\" = 'ä'", "(= Größe 'ä')");
    where_reads("a = 0 and b = -0", "(and (= a 0) (= b 0))");
    where_reads("a between -1 and $1 and b not between 1 and 2",
                "(and (and (>= a -1) (<= a $1)) (not (and (>= b 1) (<= b 2))))");
    where_reads("a + b * -c - 1 = 2 / 3 % 4", "(= (- (+ a (* b (minus c))) 1) (% (/ 2 3) 4))");
    where_reads("a || 'x' like '%y' and b not ilike $2", "(and (like (|| a 'x') '%y') (!like b $2))");
    where_reads("a in (1, b) and c not in (2)", "(and (in a 1 b) (!in c 2))");
    where_reads("a = any ($1) and b <> all (c)", "(and (any a $1) (!any b c))");
    where_reads("a @> array[1, 2] and array[3] <@ b", "(and (@> a (array 1 2)) (@> b (array 3)))");
    where_reads("a is distinct from b and a is not distinct from 1", "(and (distinct a b) (same a 1))");
    where_reads("coalesce(a, b, 1) = nullif(c, 2) and greatest(a, 1) > least(b, 2)",
                "(and (= (coalesce a b 1) (nullif c 2)) (> (greatest a 1) (least b 2)))");
    where_reads("case when a then 1 else 2 end = case b when 3 then 4 end", "(= (case a 1 2) (case (= b 3) 4))");
    where_reads("lower(a) = 'x' and count(*) > 1 and sum(distinct b) = 2", "(and (= (lower a) 'x') (> (count *) 1) (= (sum distinct b) 2))");
    where_reads("+a = 1", "(= a 1)");
}

static void selects_stand_within(void **state)
{
    (void)state;
    where_reads("exists (select 1 from u where u.a = t.a)", "(exists select 1 from u where (= u.a t.a))");
    where_reads("a in (select b from u)", "(in a select b from u)");
    where_reads("a not in (select b from u)", "(not (in a select b from u))");
    where_reads("a = (select max(b) from u)", "(= a (value select (max b) from u))");
    select_reads("select a, array(select b, c from u where u.t = t.id) as us from t",
                 " select a (rows select b c from u where (= u.t t.id)):us from t");
}

static void tables_are_joined(void **state)
{
    (void)state;
    select_reads("select * from t, u as x", " select * from t join u:x");
    select_reads("select * from t a cross join u b", " select * from t:a join u:b");
    select_reads("select * from t join u on t.a = u.a left join v on v.b = u.b",
                 " select * from t join u on (= t.a u.a) left v on (= v.b u.b)");
    select_reads("select a, count(*) as n from t group by a, 2 having count(*) > 1",
                 " select a (count *):n from t group a 2 having (> (count *) 1)");
}

static void what_a_query_cannot_have_is_refused_by_name_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *at, *part;
    } refused[] = {
        {"select * from t right join u on true", "u on", "RIGHT and FULL"},
        {"select * from t natural join x", "x", "NATURAL"},
        {"select * from t join x using (a)", "x using", "USING"},
        {"select * from t join (u join v on true) on true", "u join", "right side of a join"},
        {"select * from t, u join v on true", "u join", "comma"},
        {"select * from (select 1) x", "1)", "a subquery in FROM"},
        {"select * from f()", "f()", "functions in FROM"},
        {"select * from t as x (a)", "t as", "columns in an alias"},
        {"select * from only x", "x", "ONLY is"},
        {"select * from s.t", "s.t", "names of schemas"},
        {"select distinct on (a) a from t", "a)", "DISTINCT ON"},
        {"select a from t window w as ()", "()", "WINDOW is"},
        {"select a into u from t", "u", "SELECT INTO is"},
        {"with x as (select 1) select a from t", "x as", "WITH is"},
        {"select a from t for update", NULL, "FOR UPDATE"},
        {"select a from t order by a fetch first 1 rows with ties", "1", "WITH TIES"},
        {"select a from t union select b from u", "b from", "UNION"},
        {"select sum(a) over () from t", "() from", "OVER"},
        {"select sum(a) filter (where b) from t", "b)", "FILTER"},
        {"values (1)", "1", "VALUES is"},
        {"select a.b.c from t", "a.b", "fields of columns"},
        {"select 1", NULL, "without FROM"},
        {"select * from t where a between symmetric 1 and 2", "between", "SYMMETRIC"},
        {"select * from t where a similar to 'x'", "similar", "SIMILAR"},
        {"select * from t where a < all (b)", "<", "ALL with anything"},
        {"select * from t where a < any (select b from u)", "<", "ANY with anything"},
        {"select * from t where a ~ 'x'", "~", "the operator ~"},
        {"select * from t where a operator(pg_catalog.=) 1", "operator", "operator"},
        {"select * from t where a = current_date", "current_date", "this function"},
        {"select * from t where exists (select 1)", "exists", "without FROM"},
        {"select * from t where a = 'x' collate \"C\"", "collate", "COLLATE"},
        {"select * from t where a[1] = 2", "a[1]", "subscripts"},
        {"select * from t where (a, b) = (1, 2)", "(a", "row values"},
        {"select * from t where a->'b' = 1", "->", "the operator ->"},
        {"select * from t where t.* = 1", "t.*", "* here"},
        {"select * from t order by a using <", "a using", "USING is"},
        {"delete from x", "x", "DELETE"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        select_refused(refused[i].sql, ERR_UNSUPPORTED_SQL, refused[i].at, refused[i].part);
}

static void what_is_not_sql_is_refused_with_the_parsers_words(void **state)
{
    (void)state;
    select_refused("selec * from t", ERR_BAD_SQL, "selec", "syntax error at or near \"selec\"");
    select_refused("select 'äöü' frm ä x y", ERR_BAD_SQL, "ä x", "syntax error");
    select_refused("select * from t where a = 'x", ERR_BAD_SQL, "'x", "unterminated");
    select_refused("select * from t where a = 0x1F", ERR_BAD_SQL, "0x", "junk");
    select_refused("", ERR_BAD_SQL, NULL, "there is none");
    select_refused(" ; -- nothing", ERR_BAD_SQL, NULL, "there is none");
    select_refused("select * from t; select * from u", ERR_BAD_SQL, " select * from u", "there are more");
    select_refused("select * as b from t", ERR_BAD_SQL, "as", "syntax error");
    select_refused("select from t", ERR_BAD_SQL, NULL, "names * or columns");
    select_refused("select * from t where a = $0", ERR_BAD_SQL, "$0", "$1 to $64");
    select_refused("select * from t where a = $65", ERR_BAD_SQL, "$65", "$1 to $64");
    select_refused("select * from t where a = $4294967297", ERR_BAD_SQL, "$42", "$1 to $64");
    select_refused("select * from t where a = 1e999", ERR_BAD_SQL, "1e999", "out of range");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_names_its_table_columns_order_and_limit),
        cmocka_unit_test(star_is_all_columns),
        cmocka_unit_test(a_limit_is_a_number_a_parameter_or_none),
        cmocka_unit_test(a_where_is_an_expression),
        cmocka_unit_test(selects_stand_within),
        cmocka_unit_test(tables_are_joined),
        cmocka_unit_test(what_a_query_cannot_have_is_refused_by_name_and_place),
        cmocka_unit_test(what_is_not_sql_is_refused_with_the_parsers_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
