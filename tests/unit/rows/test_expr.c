#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "expr_call.h"
#include "limits.h"
#include "rows_rig.h"
#include "sql.h"
#include "store.h"

static const char schema[] = "create table t (n integer, m integer, b bigint, s text, \"order\" text, x double precision, f boolean, g boolean,"
                             " w timestamptz, u uuid, j jsonb, body stream, file blob);";
#define HEX32 "abababababababababababababababababababababababababababababababab"

// One row of one table, and memory for what is compiled and evaluated.
struct lab {
    struct rows_rig g;
    const struct table *t;
    struct row_space room;
    struct arena *arena, *scratch;
};

static int setup(void **state)
{
    struct lab *l = calloc(1, sizeof *l);
    rr_open(&l->g);
    rr_publish(&l->g, schema);
    rr_insert(&l->g, "t", 1,
              "{\"n\":7,\"b\":\"9223372036854775807\",\"s\":\"Grüße\",\"order\":\"it's\",\"x\":0.5,\"f\":true,\"j\":{\"a\":1},"
              "\"w\":\"2024-01-01T00:00:00Z\",\"u\":\"00000000-0000-0000-0000-000000000001\",\"file\":{\"blob\":\"" HEX32 "\"}}");
    l->t = schema_table(l->g.r->schema, SPAN_LIT("t"));
    assert_int_equal(row_current(l->g.r, l->g.txn, l->t, rr_id(1), &l->room), 0);
    l->arena = arena_new(MIB);
    l->scratch = arena_new(MIB);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    struct lab *l = *state;
    arena_free(l->arena);
    arena_free(l->scratch);
    rr_close(&l->g);
    free(l);
    return 0;
}

// Compiles any expression, not only conditions.
static int compile(struct lab *l, const char *text, struct expr **out, struct problem *p)
{
    const struct expr_table table = {.name = l->t->name, .table = l->t};
    const struct expr_scope scope = {.tables = &table, .count = 1};
    struct expr_compile c = {.arena = l->arena, .scope = &scope, .p = p};
    struct ast_expr *ast;
    int err = sql_parse_expr(SPAN_STR(text), l->arena, &ast, p);
    return err ? err : expr_compile(&c, ast, NULL, out);
}

static int eval(struct lab *l, const struct expr *e, struct value *out, struct problem *p)
{
    const struct expr_row row = {.id = rr_id(1), .row = &l->room.row};
    struct expr_env env = {.rows = &row, .scratch = l->scratch, .p = p};
    return expr_eval(e, &env, out);
}

static void put_value(struct buf *out, const struct type *type, const struct value *v)
{
    struct jw w;
    jw_init(&w, out);
    value_json(&w, type, v);
    buf_put_u8(out, 0);
}

// The expression's value as JSON; then the same of its canonical text, which must stay as it is.
static void gives(struct lab *l, const char *text, const char *expected)
{
    struct problem p = PROBLEM_NONE;
    struct buf value, canonical, again;
    struct expr *e;
    struct value v;
    buf_init(&value, MIB);
    buf_init(&canonical, MIB);
    buf_init(&again, MIB);
    if (compile(l, text, &e, &p) || eval(l, e, &v, &p)) fail_msg("%s: %s at %lld", text, problem_text(&p), (long long)p.position);
    put_value(&value, &e->type, &v);
    if (strcmp((char *)value.p, expected) != 0) fail_msg("%s gives %s, not %s", text, value.p, expected);

    expr_sql(&canonical, e);
    buf_put_u8(&canonical, 0);
    if (compile(l, (char *)canonical.p, &e, &p) || eval(l, e, &v, &p)) fail_msg("%s: %s: %s", text, canonical.p, problem_text(&p));
    buf_clear(&value);
    put_value(&value, &e->type, &v);
    if (strcmp((char *)value.p, expected) != 0) fail_msg("%s as %s gives %s, not %s", text, canonical.p, value.p, expected);
    expr_sql(&again, e);
    buf_put_u8(&again, 0);
    assert_string_equal(again.p, canonical.p);
    buf_free(&value);
    buf_free(&canonical);
    buf_free(&again);
}

static void all_give(struct lab *l, const char *const cases[][2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        gives(l, cases[i][0], cases[i][1]);
}
#define ALL_GIVE(state, cases) all_give(*(state), cases, sizeof(cases) / sizeof *(cases))

static void logic_has_three_values(void **state)
{
    static const char *const cases[][2] = {
        {"f", "true"},          {"g", "null"},           {"not f", "false"},       {"not g", "null"},
        {"f and g", "null"},    {"not f and g", "false"}, {"g and not f", "false"}, {"f or g", "true"},
        {"g or f", "true"},     {"not f or g", "null"},  {"g and g", "null"},      {"m = 1", "null"},
        {"m <> 1", "null"},     {"m = null", "null"},    {"n = null", "null"},     {"m is null", "true"},
        {"n is null", "false"}, {"not (n is null)", "true"}, {"m is not null", "false"}, {"g is true", "false"},
        {"g is not true", "true"}, {"f is true", "true"}, {"g is unknown", "true"}, {"f is not unknown", "true"},
        {"f is false", "false"}, {"g is not false", "true"}, {"m is distinct from 1", "true"}, {"m is not distinct from null", "true"},
        {"n is distinct from 7", "false"}, {"true and null", "null"}, {"false and null", "false"}, {"true or null", "true"},
        {"g or m = 1 or f", "true"}, {"g and m = 1 and n = 8", "false"},
    };
    ALL_GIVE(state, cases);
}

static void comparisons_take_the_type_beside_them(void **state)
{
    static const char *const cases[][2] = {
        {"n = 7", "true"},
        {"7 >= n", "true"},
        {"n <> 7", "false"},
        {"n < b", "true"},
        {"n > x", "true"},
        {"x = 1/2.0", "true"},
        {"s > 'Gra'", "true"},
        {"s < \"order\"", "true"},
        {"w = '2024-01-01T01:00:00+01:00'", "true"},
        {"w < '2024-01-01T00:00:00Z'::timestamptz", "false"},
        {"u = '00000000-0000-0000-0000-000000000001'", "true"},
        {"id = u", "true"},
        {"t.id = '00000000-0000-0000-0000-000000000002'::uuid", "false"},
        {"j = '{ \"a\" : 1 }'", "true"},
        {"file = '" HEX32 "'", "true"},
        {"f > false", "true"},
        {"n between 7 and 8", "true"},
        {"n not between 7 and 8", "false"},
        {"m between 1 and 2", "null"},
        {"n between 8 and m", "false"},
        {"n in (1, 7)", "true"},
        {"n in (1, 2)", "false"},
        {"n not in (1, 2)", "true"},
        {"n in (1, m)", "null"},
        {"n in (7, m)", "true"},
        {"n not in (1, m)", "null"},
        {"m in (1)", "null"},
        {"n = any (array[1, 7])", "true"},
        {"n < any ('{1,8}')", "true"},
        {"n <> all (array[1, 7])", "false"},
        {"m = any (array[1])", "null"},
        {"array[1, 2, 3] @> array[3, 1]", "true"},
        {"array[1, 2] @> array[n]", "false"},
        {"array['a'] <@ array['a', 'b']", "true"},
        {"cardinality(array[n, n])", "2"},
        {"body is null", "false"},
    };
    ALL_GIVE(state, cases);
}

static void numbers_are_whole_or_double(void **state)
{
    static const char *const cases[][2] = {
        {"n + 1", "8"},         {"n - 10", "-3"},      {"n * n", "49"},     {"n / 2", "3"},          {"-n / 2", "-3"},
        {"n % 4", "3"},         {"-n % 4", "-3"},      {"n * 1.5", "10.5"}, {"n + x", "7.5"},        {"n / 2.0", "3.5"},
        {"-x", "-0.5"},         {"- (n - 7)", "0"},    {"-(x - x)", "0.0"}, {"n + m", "null"},       {"-m", "null"},
        {"b - 1", "\"9223372036854775806\""}, {"abs(-n)", "7"}, {"abs(-x)", "0.5"}, {"n::double precision / 2", "3.5"},
        {"(x * 5)::bigint", "2"}, {"(x * 3)::integer", "2"}, {"1 + 2 * 3", "7"}, {"(1 + 2) * 3", "9"}, {"n % -1", "0"},
    };
    ALL_GIVE(state, cases);
}

static void a_like_that_goes_back_too_often_has_no_answer(void **state)
{
    (void)state;
    struct buf text, pattern;
    size_t steps = 0;
    bool matches;
    buf_init(&text, MIB);
    buf_init(&pattern, MIB);
    memset(buf_reserve(&text, MIB), 'a', MIB);
    text.n = MIB;
    assert_true(expr_like(buf_span(&text), SPAN_LIT("%aaa%b%"), true, &matches, &steps));
    assert_false(matches);
    buf_put_u8(&pattern, '%');
    for (int i = 0; i < 1000; i++)
        buf_put_u8(&pattern, 'a');
    buf_put_u8(&pattern, 'b');
    steps = 0;
    assert_false(expr_like(buf_span(&text), buf_span(&pattern), false, &matches, &steps));
    assert_int_equal(steps, LIKE_STEPS_MAX + 1);
    steps = 0;
    assert_false(expr_like(SPAN_LIT("a"), SPAN_LIT("a\\"), false, &matches, &steps));
    assert_true(steps <= LIKE_STEPS_MAX);
    buf_free(&text);
    buf_free(&pattern);
}

static void texts_are_put_together_and_matched(void **state)
{
    static const char *const cases[][2] = {
        {"s || '!'", "\"Grüße!\""},
        {"s || n", "\"Grüße7\""},
        {"n || s", "\"7Grüße\""},
        {"'a' || 1 || true", "\"a1true\""},
        {"s || m", "null"},
        {"u || ''", "\"00000000-0000-0000-0000-000000000001\""},
        {"w::text", "\"2024-01-01T00:00:00.000Z\""},
        {"lower(s)", "\"grüße\""},
        {"upper('straße')", "\"STRAßE\""},
        {"length(s)", "5"},
        {"length(null)", "null"},
        {"s like 'Gr__e'", "true"},
        {"s like 'Gr_e'", "false"},
        {"s like '%ü%'", "true"},
        {"s like 'g%'", "false"},
        {"s ilike 'G%E'", "true"},
        {"s not like 'G%'", "false"},
        {"s not ilike 'x%'", "true"},
        {"'a%b' like 'a\\%b'", "true"},
        {"'axb' like 'a\\%b'", "false"},
        {"'aaaaaaaaaab' like '%a%a%a%b'", "true"},
        {"'abc' like ''", "false"},
        {"'' like '%'", "true"},
        {"'' like '_'", "false"},
        {"s like null", "null"},
        {"\"order\" = 'it''s'", "true"},
    };
    ALL_GIVE(state, cases);
}

static void choices_are_made_from_left_to_right(void **state)
{
    static const char *const cases[][2] = {
        {"coalesce(m, n, 1 / 0)", "7"},
        {"coalesce(m, null)", "null"},
        {"coalesce(m, 1.5)", "1.5"},
        {"nullif(n, 7)", "null"},
        {"nullif(n, 8)", "7"},
        {"greatest(n, m, 9)", "9"},
        {"least(s, 'A')", "\"A\""},
        {"greatest(m, null)", "null"},
        {"case when n = 7 then 'seven' when 1 / 0 = 1 then 'never' else 'more' end", "\"seven\""},
        {"case when m = 7 then 'seven' else 'more' end", "\"more\""},
        {"case n when 6 then 'six' when 7 then 'seven' end", "\"seven\""},
        {"case when n = 6 then 1 end", "null"},
        {"case when f then 1 else 2.5 end", "1.0"},
        {"f or 1 / 0 = 1", "true"},
    };
    ALL_GIVE(state, cases);
}

static void refused(struct lab *l, const char *text, int err, const char *at)
{
    struct problem p = PROBLEM_NONE;
    struct expr *e;
    int found = compile(l, text, &e, &p);
    if (found != err) fail_msg("%s gives %s, not %s: %s", text, err_wire(found), err_wire(err), problem_text(&p));
    // What was parsed stands behind the word that makes a statement of it.
    int64_t position = strstr(text, at) - text;
    if (p.position != position && p.position != position + 7) fail_msg("%s: at %lld: %s", text, (long long)p.position, problem_text(&p));
}

static void what_does_not_fit_is_refused_with_its_place(void **state)
{
    struct lab *l = *state;
    refused(l, "nope = 1", ERR_NO_SUCH_COLUMN, "nope");
    refused(l, "u.n = 1", ERR_BAD_SQL, "u.n");
    refused(l, "n = true", ERR_WRONG_TYPE, "true");
    refused(l, "n = 1.5", ERR_WRONG_TYPE, "1.5");
    refused(l, "n = s", ERR_WRONG_TYPE, "s");
    refused(l, "u = 'x'", ERR_BAD_VALUE, "'x'");
    refused(l, "s + 1 = 2", ERR_WRONG_TYPE, "1 =");
    refused(l, "f + g", ERR_WRONG_TYPE, "+");
    refused(l, "n and f", ERR_WRONG_TYPE, "n");
    refused(l, "not s", ERR_WRONG_TYPE, "s");
    refused(l, "j < '1'", ERR_UNSUPPORTED_SQL, "j");
    refused(l, "body = 'x'", ERR_UNSUPPORTED_SQL, "body");
    refused(l, "greatest(j, '1')", ERR_WRONG_TYPE, "greatest");
    refused(l, "n like 'x'", ERR_WRONG_TYPE, "n");
    refused(l, "n = any (s)", ERR_WRONG_TYPE, "s");
    refused(l, "x % 2 = 1", ERR_WRONG_TYPE, "%");
    refused(l, "n = $1", ERR_UNSUPPORTED_SQL, "$1");
    refused(l, "count(*) > 1", ERR_BAD_SQL, "count");
    refused(l, "n in (select 1 from t)", ERR_UNSUPPORTED_SQL, "in");
    refused(l, "now() > w", ERR_UNSUPPORTED_SQL, "now");
    refused(l, "nope(n)", ERR_UNSUPPORTED_SQL, "nope");
    refused(l, "lower(s, s)", ERR_BAD_SQL, "lower");
    refused(l, "lower(distinct s)", ERR_UNSUPPORTED_SQL, "lower");
    refused(l, "s::uuid = u", ERR_UNSUPPORTED_SQL, "::uuid");
    refused(l, "case when n then 1 end", ERR_WRONG_TYPE, "n then");
    refused(l, "case when f then 1 else s end", ERR_WRONG_TYPE, "1 else");
    refused(l, "n ~ 'x'", ERR_UNSUPPORTED_SQL, "~");
    refused(l, "n = 1, f", ERR_BAD_SQL, "");
    refused(l, "(n, m) = (1, 2)", ERR_UNSUPPORTED_SQL, "(n");
}

static void fails(struct lab *l, const char *text, const char *at)
{
    struct problem p = PROBLEM_NONE;
    struct expr *e;
    struct value v;
    assert_int_equal(compile(l, text, &e, &p), 0);
    assert_int_equal(eval(l, e, &v, &p), ERR_BAD_VALUE);
    if (p.position != strstr(text, at) - text + 7) fail_msg("%s: at %lld: %s", text, (long long)p.position, problem_text(&p));
}

static void what_no_number_can_be_is_an_error_with_its_place(void **state)
{
    struct lab *l = *state;
    fails(l, "n / (n - 7)", "/");
    fails(l, "n % 0", "%");
    fails(l, "x / 0", "/");
    fails(l, "b + 1", "+");
    fails(l, "-b - 2", "- 2");
    fails(l, "b * 2", "*");
    fails(l, "(- b - 1) / -1", "/");
    fails(l, "1e308 * 1e308", "*");
    fails(l, "b::integer", "b");
    fails(l, "(x * 1e300)::bigint", "*");
    fails(l, "array[m] @> array[1]", "m");
    fails(l, "s like 'a\\'", "like");
}

static void a_check_is_a_condition_on_one_row(void **state)
{
    struct lab *l = *state;
    static const struct {
        const char *text;
        enum expr_truth truth;
    } cases[] = {{"n > 1 and s is not null", EXPR_TRUE}, {"n > m", EXPR_UNKNOWN}, {"n > 8 and n > m", EXPR_FALSE}};
    for (size_t i = 0; i < 3; i++) {
        struct ast_expr *ast;
        struct expr *e;
        enum expr_truth truth;
        struct problem p = PROBLEM_NONE;
        assert_int_equal(sql_parse_expr(SPAN_STR(cases[i].text), l->arena, &ast, &p), 0);
        assert_int_equal(expr_compile_check(l->arena, l->t, ast, &e, &p), 0);
        assert_int_equal(expr_check(e, rr_id(1), &l->room.row, l->scratch, &truth, &p), 0);
        assert_int_equal(truth, cases[i].truth);
    }
    struct ast_expr *ast;
    struct expr *e;
    assert_int_equal(sql_parse_expr(SPAN_LIT("n + 1"), l->arena, &ast, NULL), 0);
    assert_int_equal(expr_compile_check(l->arena, l->t, ast, &e, NULL), ERR_WRONG_TYPE);
}

static void canonical_text_is_the_same_for_the_same_thing(void **state)
{
    struct lab *l = *state;
    static const char *const pairs[][2] = {
        {"n=7 AND(f)", "(\"n\" = 7) and \"f\""},
        {"t.n in(1,2)", "n in (1, 2)"},
        {"w = '2024-01-01T01:00:00+01:00'", "w = '2024-01-01T00:00:00Z'"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct expr *a, *b;
        struct buf x, y;
        buf_init(&x, MIB);
        buf_init(&y, MIB);
        assert_int_equal(compile(l, pairs[i][0], &a, NULL), 0);
        assert_int_equal(compile(l, pairs[i][1], &b, NULL), 0);
        expr_sql(&x, a);
        expr_sql(&y, b);
        assert_true(span_equal(buf_span(&x), buf_span(&y)));
        assert_true(expr_same(a, b));
        assert_false(expr_same(a, a->args[0]));
        buf_free(&x);
        buf_free(&y);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(logic_has_three_values),
        TEST(comparisons_take_the_type_beside_them),
        TEST(numbers_are_whole_or_double),
        TEST(a_like_that_goes_back_too_often_has_no_answer),
        TEST(texts_are_put_together_and_matched),
        TEST(choices_are_made_from_left_to_right),
        TEST(what_does_not_fit_is_refused_with_its_place),
        TEST(what_no_number_can_be_is_an_error_with_its_place),
        TEST(a_check_is_a_condition_on_one_row),
        TEST(canonical_text_is_the_same_for_the_same_thing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
