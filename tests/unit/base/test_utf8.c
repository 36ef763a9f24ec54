#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "utf8.h"

static void valid_text_is_valid(void **state)
{
    (void)state;
    assert_true(utf8_valid(SPAN_NONE));
    assert_true(utf8_valid(SPAN_LIT("plain ASCII text that is longer than eight bytes")));
    assert_true(utf8_valid(SPAN_LIT("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8a")));
    assert_true(utf8_valid(SPAN_LIT("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"))); // the edges around what is left out
    assert_true(utf8_valid(SPAN_LIT("a\0b")));
}

static void overlong_forms_surrogates_and_what_lies_beyond_are_not(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",         "\xfe",             "\x80",         "\xbf",
        "\xc3",             "\xe2\x82",         "\xf0\x9f\x8c", "\xc3\x28",         "\xe2\x28\xa1", "\xe2\x82\x28",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(utf8_valid(SPAN_STR(bad[i])));
        assert_int_equal(utf8_char(SPAN_STR(bad[i])), 0);
        assert_int_equal(utf8_valid_prefix(SPAN_STR(bad[i])), 0);
    }
}

static void every_code_point_is_valid_but_surrogates(void **state)
{
    (void)state;
    for (uint32_t c = 0x80; c < 0x10ffff; c += c < 0x11000 ? 1 : 251) {
        uint8_t t[4];
        size_t n;
        if (c < 0x800) {
            n = 2, t[0] = (uint8_t)(0xc0 | c >> 6);
        } else if (c < 0x10000) {
            n = 3, t[0] = (uint8_t)(0xe0 | c >> 12);
        } else {
            n = 4, t[0] = (uint8_t)(0xf0 | c >> 18);
        }
        for (size_t i = 1; i < n; i++)
            t[i] = (uint8_t)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        assert_int_equal(utf8_char(SPAN(t, n)), surrogate ? 0 : n);
        assert_int_equal(utf8_char(SPAN(t, n - 1)), 0);
    }
}

static void the_prefix_ends_at_the_first_bad_byte(void **state)
{
    (void)state;
    char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        char good = text[i];
        text[i] = (char)0xff;
        assert_int_equal(utf8_valid_prefix(SPAN_STR(text)), i);
        text[i] = good;
    }
}

static void a_cut_splits_no_character(void **state)
{
    (void)state;
    struct span s = SPAN_LIT("ab\xf0\x9f\x8c\x8a\xe2\x82\xac\xc3\xa9z");
    static const size_t want[] = {0, 1, 2, 2, 2, 2, 6, 6, 6, 9, 9, 11, 12, 12, 12};
    for (size_t max = 0; max < sizeof want / sizeof want[0]; max++)
        assert_int_equal(utf8_cut(s, max), want[max]);
}

static void what_is_no_utf8_is_cut_where_asked(void **state)
{
    (void)state;
    struct span tails = SPAN_LIT("\x80\x80\x80\x80\x80\x80\x80\x80");
    for (size_t max = 0; max <= 8; max++)
        assert_int_equal(utf8_cut(tails, max), max);
    assert_int_equal(utf8_cut(SPAN_LIT("a\xe2\x82z"), 2), 2); // the character is broken anyway
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_text_is_valid),
        cmocka_unit_test(overlong_forms_surrogates_and_what_lies_beyond_are_not),
        cmocka_unit_test(every_code_point_is_valid_but_surrogates),
        cmocka_unit_test(the_prefix_ends_at_the_first_bad_byte),
        cmocka_unit_test(a_cut_splits_no_character),
        cmocka_unit_test(what_is_no_utf8_is_cut_where_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
