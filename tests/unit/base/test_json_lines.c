#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "err.h"
#include "json_lines.h"
#include "limits.h"

static void put_is(const char *json, const char *lines, size_t count)
{
    struct buf out;
    struct problem p = PROBLEM_NONE;
    size_t got = 999;
    buf_init(&out, 1 * MIB);
    if (json_lines_put(&out, SPAN_STR(json), &got, &p) != 0) fail_msg("%s: %s", json, problem_text(&p));
    if (!span_is(buf_span(&out), lines)) fail_msg("%s gave %.*s", json, SPAN_FMT(buf_span(&out)));
    assert_int_equal(got, count);
    buf_free(&out);
}

static void is_refused(struct span json, int err, int64_t position)
{
    struct buf out;
    struct problem p = PROBLEM_NONE;
    size_t count = 999;
    buf_init(&out, 1 * MIB);
    buf_put_str(&out, "kept");
    int got = json_lines_put(&out, json, &count, &p);
    if (got != err || p.position != position) fail_msg("%.*s: %d at %d, %s", SPAN_FMT(json), got, (int)p.position, problem_text(&p));
    assert_true(span_is(buf_span(&out), "kept"));
    assert_int_equal(count, 999);
    buf_free(&out);
}

static void each_value_is_a_message(void **state)
{
    (void)state;
    put_is("1", "1,\n", 1);
    put_is(" null ", "null,\n", 1);
    put_is("\"a b\"", "\"a b\",\n", 1);
    put_is("{\"event\":\"created\"}", "{\"event\":\"created\"},\n", 1);
    put_is("true", "true,\n", 1);
    put_is("{}", "{},\n", 1);
}

static void one_level_of_an_array_is_flattened(void **state)
{
    (void)state;
    put_is("[]", "", 0);
    put_is(" [ \n ] ", "", 0);
    put_is("[1,2]", "1,\n2,\n", 2);
    put_is("[[1,2],[3,4]]", "[1,2],\n[3,4],\n", 2);
    put_is("[[[1,2,3]]]", "[[1,2,3]],\n", 1);
    put_is("[[]]", "[],\n", 1);
    put_is("[{},[],\"\"]", "{},\n[],\n\"\",\n", 3);
    put_is("{\"a\":[[1],[]]}", "{\"a\":[[1],[]]},\n", 1);
}

static void white_space_between_tokens_goes_and_inside_strings_stays(void **state)
{
    (void)state;
    put_is("\t{ \"a b\" :\r\n [ 1 ,\t2 ] , \"c\" : { } } \n", "{\"a b\":[1,2],\"c\":{}},\n", 1);
    put_is(" [ { \"a\" : \"  x  \" } , 2 ] ", "{\"a\":\"  x  \"},\n2,\n", 2);
}

static void numbers_order_and_doubles_stay_as_they_are(void **state)
{
    (void)state;
    put_is("[-0,1.50,1e400,123456789012345678901234567890,0.10E-05]", "-0,\n1.50,\n1e400,\n123456789012345678901234567890,\n0.10E-05,\n", 5);
    put_is("{\"b\":1,\"a\":2,\"b\":3}", "{\"b\":1,\"a\":2,\"b\":3},\n", 1);
    put_is("\"\\u00E9\\/\\ud800\"", "\"\\u00E9\\/\\ud800\",\n", 1);
}

static void long_strings_are_taken_whole(void **state)
{
    (void)state;
    put_is("[\"0123456789abcdef\\\"ghijklmnop\\\\\",\"ünïcödé – ünïcödé – ünïcödé\"]", "\"0123456789abcdef\\\"ghijklmnop\\\\\",\n\"ünïcödé – ünïcödé – ünïcödé\",\n", 2);
}

static void what_is_not_json_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct { const char *json; int at; } cases[] = {
        {"", 0}, {" ", 1}, {"nul", 0}, {"nulll", 4}, {"True", 0}, {"[1,]", 3}, {"[1", 2}, {"[1}", 2}, {"{1:2}", 1}, {"{\"a\"}", 4}, {"{\"a\":}", 5}, {"{\"a\":1,}", 7},
        {"1 2", 2}, {"[1]]", 3}, {"01", 1}, {"-", 1}, {"1.", 2}, {".5", 0}, {"1e", 2}, {"1e+", 3}, {"+1", 0}, {"0x1", 1}, {"NaN", 0}, {"\"a", 2}, {"\"\\x\"", 2}, {"\"\\u12g4\"", 5},
        {"\"\\", 2}, {"\"a\nb\"", 2}, {"\"0123456\t\"", 8}, {"'a'", 0}, {"[1 2]", 3}, {"{\"a\" 1}", 5}, {"// x\n1", 0}, {"]", 0}, {"[,1]", 1}, {"\xef\xbb\xbf""1", 0}, {"\v1", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        is_refused(SPAN_STR(cases[i].json), ERR_BAD_JSON, cases[i].at);
    is_refused(SPAN_LIT("[1,\0" "2]"), ERR_BAD_JSON, 3);
    is_refused(SPAN_LIT("\"a\0\""), ERR_BAD_JSON, 2);
    is_refused(SPAN_LIT("\"\\\0\""), ERR_BAD_JSON, 2);
    is_refused(SPAN_LIT("\"\xff\""), ERR_BAD_JSON, 1);
    is_refused(SPAN_LIT("\"\xed\xa0\x80\""), ERR_BAD_JSON, 1);
}

static void nest(char *text, int depth)
{
    for (int i = 0; i < depth; i++)
        text[i] = '[', text[2 * depth - 1 - i] = ']';
    text[2 * depth] = '\0';
}

static void nesting_is_taken_to_the_limit_and_refused_beyond(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 8], lines[2 * JSON_DEPTH_MAX + 8];
    nest(text, JSON_DEPTH_MAX);
    nest(lines, JSON_DEPTH_MAX - 1);
    strcat(lines, ",\n");
    put_is(text, lines, 1);
    nest(text, JSON_DEPTH_MAX + 1);
    is_refused(SPAN_STR(text), ERR_TOO_DEEP, JSON_DEPTH_MAX);
}

static void what_does_not_fit_the_buffer_leaves_it(void **state)
{
    (void)state;
    struct buf out;
    size_t count;
    buf_init(&out, 8);
    buf_put_str(&out, "ab");
    assert_int_equal(json_lines_put(&out, SPAN_LIT("[1,2,3]"), &count, NULL), ERR_TOO_LARGE);
    assert_true(span_is(buf_span(&out), "ab"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_value_is_a_message),
        cmocka_unit_test(one_level_of_an_array_is_flattened),
        cmocka_unit_test(white_space_between_tokens_goes_and_inside_strings_stays),
        cmocka_unit_test(numbers_order_and_doubles_stay_as_they_are),
        cmocka_unit_test(long_strings_are_taken_whole),
        cmocka_unit_test(what_is_not_json_is_refused_with_its_place),
        cmocka_unit_test(nesting_is_taken_to_the_limit_and_refused_beyond),
        cmocka_unit_test(what_does_not_fit_the_buffer_leaves_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
