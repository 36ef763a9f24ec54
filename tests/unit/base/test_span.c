#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "span.h"

static void spans_are_equal_by_content(void **state)
{
    (void)state;
    char other[] = "abc";
    assert_true(span_equal(SPAN_LIT("abc"), SPAN_STR(other)));
    assert_false(span_equal(SPAN_LIT("abc"), SPAN_LIT("abd")));
    assert_false(span_equal(SPAN_LIT("abc"), SPAN_LIT("ab")));
    assert_true(span_equal(SPAN_NONE, SPAN_LIT("")));
}

static void is_takes_the_whole_and_starts_a_beginning(void **state)
{
    (void)state;
    assert_true(span_is(SPAN_LIT("abc"), "abc"));
    assert_false(span_is(SPAN_LIT("abcd"), "abc"));
    assert_true(span_starts(SPAN_LIT("abcd"), "abc"));
    assert_false(span_starts(SPAN_LIT("ab"), "abc"));
    assert_true(span_starts(SPAN_LIT("ab"), ""));
}

static void order_is_bytewise_and_unsigned_with_the_shorter_first(void **state)
{
    (void)state;
    assert_true(span_compare(SPAN_LIT("a"), SPAN_LIT("b")) < 0);
    assert_true(span_compare(SPAN_LIT("\x80"), SPAN_LIT("\x7f")) > 0);
    assert_true(span_compare(SPAN_LIT("a"), SPAN_LIT("aa")) < 0);
    assert_true(span_compare(SPAN_LIT("b"), SPAN_LIT("aa")) > 0);
    assert_int_equal(span_compare(SPAN_LIT("aa"), SPAN_LIT("aa")), 0);
    assert_int_equal(span_compare(SPAN_NONE, SPAN_LIT("")), 0);
}

static void sub_never_leaves_the_span(void **state)
{
    (void)state;
    struct span s = SPAN_LIT("hello");
    assert_true(span_is(span_sub(s, 1, 3), "ell"));
    assert_true(span_is(span_sub(s, 3, 100), "lo"));
    assert_true(span_is(span_sub(s, 3, SIZE_MAX), "lo"));
    assert_int_equal(span_sub(s, 100, 1).n, 0);
}

static void a_literal_may_hold_nul(void **state)
{
    (void)state;
    assert_int_equal(SPAN_LIT("a\0b").n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_equal_by_content),
        cmocka_unit_test(is_takes_the_whole_and_starts_a_beginning),
        cmocka_unit_test(order_is_bytewise_and_unsigned_with_the_shorter_first),
        cmocka_unit_test(sub_never_leaves_the_span),
        cmocka_unit_test(a_literal_may_hold_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
