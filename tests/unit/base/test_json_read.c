#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "limits.h"

static struct jr_tree *parse(const char *text)
{
    struct jr_tree *tree = NULL;
    struct problem p = PROBLEM_NONE;
    if (jr_parse(&tree, SPAN_STR(text), &p) != 0) fail_msg("%s: %s", text, problem_text(&p));
    return tree;
}

static void every_type_is_read(void **state)
{
    (void)state;
    struct jr_tree *t = parse(" {\"n\":null,\"b\":true,\"f\":false,\"i\":-7,\"r\":1.5,\"s\":\"x\\u00e9\\n\",\"a\":[1,2],\"o\":{}} ");
    const struct jr *root = jr_root(t);
    assert_int_equal(jr_type(root), JR_OBJECT);
    assert_int_equal(jr_count(root), 8);
    assert_int_equal(jr_type(jr_get(root, "n")), JR_NULL);
    assert_int_equal(jr_type(jr_get(root, "b")), JR_BOOL);
    assert_true(jr_bool(jr_get(root, "b"), false));
    assert_false(jr_bool(jr_get(root, "f"), true));
    assert_int_equal(jr_type(jr_get(root, "i")), JR_INT);
    assert_int_equal(jr_int(jr_get(root, "i"), 0), -7);
    assert_int_equal(jr_type(jr_get(root, "r")), JR_REAL);
    assert_true(jr_real(jr_get(root, "r"), 0) == 1.5);
    assert_int_equal(jr_type(jr_get(root, "s")), JR_STRING);
    assert_true(span_is(jr_str(jr_get(root, "s")), "x\xc3\xa9\n"));
    assert_int_equal(jr_count(jr_get(root, "a")), 2);
    assert_int_equal(jr_int(jr_at(jr_get(root, "a"), 1), 0), 2);
    assert_int_equal(jr_type(jr_get(root, "o")), JR_OBJECT);
    jr_free(t);
}

static void what_is_absent_reads_as_absent(void **state)
{
    (void)state;
    assert_int_equal(jr_type(NULL), JR_ABSENT);
    assert_true(jr_bool(NULL, true));
    assert_int_equal(jr_int(NULL, 42), 42);
    assert_true(jr_real(NULL, 4.2) == 4.2);
    assert_int_equal(jr_str(NULL).n, 0);
    assert_int_equal(jr_count(NULL), 0);
    assert_null(jr_at(NULL, 0));
    assert_null(jr_get(NULL, "x"));
    assert_int_equal(jr_each(NULL, NULL, NULL), 0);
    jr_free(NULL);
}

static void a_wrong_type_gives_the_other_value(void **state)
{
    (void)state;
    struct jr_tree *t = parse("[\"1\",1]");
    const struct jr *text = jr_at(jr_root(t), 0), *number = jr_at(jr_root(t), 1);
    assert_int_equal(jr_int(text, 42), 42);
    assert_true(jr_real(text, 4.2) == 4.2);
    assert_false(jr_bool(number, false));
    assert_true(jr_bool(number, true));
    assert_int_equal(jr_str(number).n, 0);
    assert_int_equal(jr_count(text), 0);
    assert_null(jr_at(jr_root(t), 2));
    assert_null(jr_get(jr_root(t), "x"));
    assert_int_equal(jr_each(jr_root(t), NULL, NULL), 0);
    jr_free(t);
}

static void whole_reals_are_integers_within_range(void **state)
{
    (void)state;
    struct jr_tree *t = parse("[3.0,1e3,3.5,1e300,-9223372036854775808.0,9223372036854775808.0,7]");
    const struct jr *r = jr_root(t);
    assert_int_equal(jr_int(jr_at(r, 0), 42), 3);
    assert_int_equal(jr_int(jr_at(r, 1), 42), 1000);
    assert_int_equal(jr_int(jr_at(r, 2), 42), 42);
    assert_int_equal(jr_int(jr_at(r, 3), 42), 42);
    assert_int_equal(jr_int(jr_at(r, 4), 42), INT64_MIN);
    assert_int_equal(jr_int(jr_at(r, 5), 42), 42);
    assert_true(jr_real(jr_at(r, 6), 0) == 7.0);
    jr_free(t);
}

static void expect_refused(struct span text, int err, int64_t position)
{
    struct jr_tree *t = (struct jr_tree *)&t;
    struct problem p = PROBLEM_NONE;
    int got = jr_parse(&t, text, &p);
    if (got != err || p.err != err || p.position != position)
        fail_msg("%.*s: %s at %lld, expected %s at %lld", SPAN_FMT(text), err_wire(got), (long long)p.position, err_wire(err),
                 (long long)position);
    assert_ptr_equal(t, (struct jr_tree *)&t); // outputs are written only on success
    assert_true(p.text[0] != '\0');
}

static void broken_text_is_refused_with_its_place(void **state)
{
    (void)state;
    expect_refused(SPAN_NONE, ERR_BAD_JSON, 0);
    expect_refused(SPAN_LIT(" "), ERR_BAD_JSON, 1);
    expect_refused(SPAN_LIT("[1,}"), ERR_BAD_JSON, 3);
    expect_refused(SPAN_LIT("[1"), ERR_BAD_JSON, 2);
    expect_refused(SPAN_LIT("[1,]"), ERR_BAD_JSON, 3);
    expect_refused(SPAN_LIT("\"abc"), ERR_BAD_JSON, 4);
    expect_refused(SPAN_LIT("nul"), ERR_BAD_JSON, 2);
    expect_refused(SPAN_LIT("{\"a\" 1}"), ERR_BAD_JSON, 5);
}

static void anything_after_the_value_is_refused(void **state)
{
    (void)state;
    expect_refused(SPAN_LIT("1 2"), ERR_BAD_JSON, 2);
    expect_refused(SPAN_LIT("{}]"), ERR_BAD_JSON, 2);
    expect_refused(SPAN_LIT("[] //"), ERR_BAD_JSON, 3);
}

static void what_only_looks_like_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "01",    "+1",    ".5",     "1.",        "1e",          "0x10",        "NaN",         "Infinity",       "'a'",
        "{a:1}", "[1 2]", "\"\t\"", "\"\\x41\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\xef\xbb\xbf{}", "\v1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct jr_tree *t;
        assert_int_equal(jr_parse(&t, SPAN_STR(bad[i]), NULL), ERR_BAD_JSON);
    }
}

static void invalid_utf8_is_refused_at_its_byte(void **state)
{
    (void)state;
    expect_refused(SPAN_LIT("[\"ab\xff\"]"), ERR_BAD_JSON, 4);
    expect_refused(SPAN_LIT("[\"\xed\xa0\x80\"]"), ERR_BAD_JSON, 2);
    expect_refused(SPAN_LIT("\"\xc3"), ERR_BAD_JSON, 1);
}

static void nul_is_refused_raw_and_escaped(void **state)
{
    (void)state;
    expect_refused(SPAN_LIT("1\0"), ERR_BAD_JSON, 1);
    expect_refused(SPAN_LIT("[1,\0 2]"), ERR_BAD_JSON, 3);
    expect_refused(SPAN_LIT("\"a\0b\""), ERR_BAD_JSON, 2);
    struct jr_tree *t;
    assert_int_equal(jr_parse(&t, SPAN_LIT("\"a\\u0000\""), NULL), ERR_BAD_JSON);
    assert_int_equal(jr_parse(&t, SPAN_LIT("{\"a\\u0000\":1}"), NULL), ERR_BAD_JSON);
}

static void duplicate_keys_are_refused(void **state)
{
    (void)state;
    expect_refused(SPAN_LIT("{\"a\":1,\"a\":2}"), ERR_BAD_JSON, 9);
    struct jr_tree *t;
    assert_int_equal(jr_parse(&t, SPAN_LIT("{\"a\":1,\"\\u0061\":2}"), NULL), ERR_BAD_JSON);
    t = parse("{\"a\":{\"a\":1}}"); // not the same object
    jr_free(t);
}

// Of few members each is compared with each, of many they are sorted.
static void duplicate_keys_are_found_among_many(void **state)
{
    (void)state;
    for (int n = 1; n <= 100; n++) {
        struct buf b;
        struct jr_tree *t;
        buf_init(&b, 10000);
        buf_put_str(&b, "{");
        for (int i = 0; i < n; i++)
            buf_printf(&b, "\"k%d\":%d,", i, i);
        size_t common = b.n;
        buf_printf(&b, "\"k%d\":%d}", n, n);
        assert_int_equal(jr_parse(&t, buf_span(&b), NULL), 0);
        assert_int_equal(jr_count(jr_root(t)), n + 1);
        assert_int_equal(jr_int(jr_get(jr_root(t), "k0"), -1), 0);
        jr_free(t);
        buf_truncate(&b, common);
        buf_printf(&b, "\"k%d\":0}", n / 2);
        assert_int_equal(jr_parse(&t, buf_span(&b), NULL), ERR_BAD_JSON);
        buf_free(&b);
    }
}

static void a_tree_outlives_its_text(void **state)
{
    (void)state;
    char *text = strdup("[\"ab\\u0063\",{\"d\":[\"e\"]}]");
    struct jr_tree *t = parse(text);
    memset(text, 'x', strlen(text));
    free(text);
    assert_true(span_is(jr_str(jr_at(jr_root(t), 0)), "abc"));
    assert_true(span_is(jr_str(jr_at(jr_get(jr_at(jr_root(t), 1), "d"), 0)), "e"));
    jr_free(t);
}

static void numbers_beyond_64_bits_are_refused(void **state)
{
    (void)state;
    struct jr_tree *t = parse("[9223372036854775807,-9223372036854775808]");
    assert_int_equal(jr_int(jr_at(jr_root(t), 0), 0), INT64_MAX);
    assert_int_equal(jr_int(jr_at(jr_root(t), 1), 0), INT64_MIN);
    jr_free(t);
    assert_int_equal(jr_parse(&t, SPAN_LIT("9223372036854775808"), NULL), ERR_BAD_JSON);
    assert_int_equal(jr_parse(&t, SPAN_LIT("-9223372036854775809"), NULL), ERR_BAD_JSON);
    assert_int_equal(jr_parse(&t, SPAN_LIT("1e400"), NULL), ERR_BAD_JSON);
}

static void nesting_is_taken_to_the_limit_and_refused_beyond(void **state)
{
    (void)state;
    char text[4 * JSON_DEPTH_MAX];
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    struct jr_tree *t;
    assert_int_equal(jr_parse(&t, SPAN(text, 2 * JSON_DEPTH_MAX), NULL), 0);
    jr_free(t);
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    expect_refused(SPAN(text, 2 * JSON_DEPTH_MAX + 2), ERR_TOO_DEEP, JSON_DEPTH_MAX);
    // Refused before anything recurses over it, so also where it is not even valid.
    size_t n = 1 << 20;
    char *many = malloc(n);
    for (size_t i = 0; i < n; i += 2)
        memcpy(many + i, "[{", 2);
    expect_refused(SPAN(many, n), ERR_TOO_DEEP, JSON_DEPTH_MAX);
    free(many);
}

static void brackets_in_strings_and_beside_each_other_are_not_nesting(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10000);
    buf_put_str(&b, "[\"\\\"");
    for (int i = 0; i < 2 * JSON_DEPTH_MAX; i++)
        buf_put_str(&b, "[{\\\\");
    buf_put_str(&b, "\"");
    for (int i = 0; i < 2 * JSON_DEPTH_MAX; i++)
        buf_put_str(&b, ",{},[]");
    buf_put_str(&b, "]");
    struct jr_tree *t;
    assert_int_equal(jr_parse(&t, buf_span(&b), NULL), 0);
    assert_int_equal(jr_count(jr_root(t)), 1 + 4 * JSON_DEPTH_MAX);
    jr_free(t);
    buf_free(&b);
}

static int append_key(void *ctx, struct span key, const struct jr *value)
{
    buf_put_span(ctx, key);
    return jr_type(value) == JR_NULL ? 7 : 0;
}

static void each_goes_in_the_order_of_the_text_and_stops(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    struct jr_tree *t = parse("{\"z\":1,\"a\":2,\"m\":3}");
    assert_int_equal(jr_each(jr_root(t), append_key, &b), 0);
    assert_true(span_is(buf_span(&b), "zam"));
    jr_free(t);
    buf_clear(&b);
    t = parse("{\"z\":1,\"a\":null,\"m\":3}");
    assert_int_equal(jr_each(jr_root(t), append_key, &b), 7);
    assert_true(span_is(buf_span(&b), "za"));
    jr_free(t);
    buf_free(&b);
}

static void expect_canonical(const char *text, const char *want)
{
    struct jr_tree *t = parse(text);
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(jr_canonical(jr_root(t), &b), 0);
    buf_put_u8(&b, 0);
    assert_string_equal((const char *)b.p, want);
    buf_free(&b);
    jr_free(t);
}

static void canonical_text_is_sorted_and_compact(void **state)
{
    (void)state;
    expect_canonical(" { \"b\" : [ 1 , 2.50 , true , null ] , \"a\" : { \"d\" : {} , \"c\" : [] } } ",
                     "{\"a\":{\"c\":[],\"d\":{}},\"b\":[1,2.5,true,null]}");
    expect_canonical("{\"aa\":1,\"a\":2,\"\\u00e9\":3,\"Z\":4,\"\":5}", "{\"\":5,\"Z\":4,\"a\":2,\"aa\":1,\"\xc3\xa9\":3}");
    expect_canonical("\"\\u0041\\/\\n\\u001F\"", "\"A/\\n\\u001f\"");
    expect_canonical("[1e2,100.0,1.0E+2]", "[100.0,100.0,100.0]");
}

static void canonical_text_that_does_not_fit_leaves_the_buffer(void **state)
{
    (void)state;
    struct jr_tree *t = parse("[1,[2,{\"key\":\"value\"}]]");
    struct buf b;
    buf_init(&b, 12);
    buf_put_str(&b, "ab");
    assert_int_equal(jr_canonical(jr_root(t), &b), ERR_TOO_LARGE);
    assert_true(span_is(buf_span(&b), "ab"));
    buf_free(&b);
    jr_free(t);
}

static void writing_keeps_the_order_of_the_text(void **state)
{
    (void)state;
    static const char text[] = "{\"z\":[1,2.5,{\"b\":null,\"a\":true}],\"a\":\"\\u00e9\"}";
    struct jr_tree *t;
    struct buf b;
    struct jw w;
    assert_int_equal(jr_parse(&t, SPAN_STR(text), NULL), 0);
    buf_init(&b, 1024);
    jw_init(&w, &b);
    jr_write(jr_root(t), &w);
    assert_true(jw_done(&w));
    assert_true(span_is(buf_span(&b), "{\"z\":[1,2.5,{\"b\":null,\"a\":true}],\"a\":\"\xc3\xa9\"}"));
    buf_free(&b);
    jr_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(what_is_absent_reads_as_absent),
        cmocka_unit_test(a_wrong_type_gives_the_other_value),
        cmocka_unit_test(whole_reals_are_integers_within_range),
        cmocka_unit_test(broken_text_is_refused_with_its_place),
        cmocka_unit_test(anything_after_the_value_is_refused),
        cmocka_unit_test(what_only_looks_like_json_is_refused),
        cmocka_unit_test(invalid_utf8_is_refused_at_its_byte),
        cmocka_unit_test(nul_is_refused_raw_and_escaped),
        cmocka_unit_test(duplicate_keys_are_refused),
        cmocka_unit_test(duplicate_keys_are_found_among_many),
        cmocka_unit_test(a_tree_outlives_its_text),
        cmocka_unit_test(numbers_beyond_64_bits_are_refused),
        cmocka_unit_test(nesting_is_taken_to_the_limit_and_refused_beyond),
        cmocka_unit_test(brackets_in_strings_and_beside_each_other_are_not_nesting),
        cmocka_unit_test(each_goes_in_the_order_of_the_text_and_stops),
        cmocka_unit_test(canonical_text_is_sorted_and_compact),
        cmocka_unit_test(canonical_text_that_does_not_fit_leaves_the_buffer),
        cmocka_unit_test(writing_keeps_the_order_of_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
