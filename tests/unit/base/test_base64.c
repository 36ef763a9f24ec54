#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base64.h"
#include "err.h"

static const struct {
    struct span bytes;
    const char *text;
} vectors[] = {
    // RFC 4648, section 10, and one with every kind of digit.
    {{(const uint8_t *)"", 0}, ""},
    {{(const uint8_t *)"f", 1}, "Zg=="},
    {{(const uint8_t *)"fo", 2}, "Zm8="},
    {{(const uint8_t *)"foo", 3}, "Zm9v"},
    {{(const uint8_t *)"foob", 4}, "Zm9vYg=="},
    {{(const uint8_t *)"fooba", 5}, "Zm9vYmE="},
    {{(const uint8_t *)"foobar", 6}, "Zm9vYmFy"},
    {{(const uint8_t *)"\xfb\xff\xbe\x00", 4}, "+/++AA=="},
};
#define VECTORS (sizeof vectors / sizeof vectors[0])

static void known_vectors_are_met_both_ways(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    for (size_t i = 0; i < VECTORS; i++) {
        buf_clear(&b);
        base64_encode(&b, vectors[i].bytes);
        assert_true(span_is(buf_span(&b), vectors[i].text));
        buf_clear(&b);
        assert_int_equal(base64_decode(&b, SPAN_STR(vectors[i].text)), 0);
        assert_true(span_equal(buf_span(&b), vectors[i].bytes));
    }
    buf_free(&b);
}

static void all_lengths_and_bytes_come_back(void **state)
{
    (void)state;
    uint8_t bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)(255 - i);
    struct buf text, back;
    buf_init(&text, 1000);
    buf_init(&back, 1000);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        buf_clear(&text);
        buf_clear(&back);
        base64_encode(&text, SPAN(bytes, n));
        assert_int_equal(text.n, (n + 2) / 3 * 4);
        assert_int_equal(base64_decode(&back, buf_span(&text)), 0);
        assert_true(span_equal(buf_span(&back), SPAN(bytes, n)));
    }
    buf_free(&text);
    buf_free(&back);
}

static void what_is_not_strict_is_refused_and_leaves_the_buffer(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Zg",       "Zg=",       "Zg===",    "Z===",     "====",     "=",        "Zm9v=",    "Zm9vYg",   " Zm9v",    "Zm9v\n",
        "Zm\n9v==", "Zm9v Yg==", "Zm9-",     "Zm9_",     "Zg==Zg==", "Zm8=Zm8=", "Z=9v",     "Zm=v",     "Zm9.",     "Zm9\x80",
        "Zh==", // two bits too many
        "Zm9=", // the same with one padding
    };
    struct buf b;
    buf_init(&b, 100);
    buf_put_str(&b, "before");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(base64_decode(&b, SPAN_STR(bad[i])), ERR_BAD_VALUE);
        assert_true(span_is(buf_span(&b), "before"));
        assert_int_equal(b.err, 0);
    }
    buf_free(&b);
}

static void only_the_alphabet_is_taken(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    int taken = 0;
    for (int c = 0; c < 256; c++) {
        uint8_t text[4] = {'A', (uint8_t)c, 'A', 'A'};
        taken += base64_decode(&b, SPAN(text, 4)) == 0;
    }
    assert_int_equal(taken, 64);
    buf_free(&b);
}

static void both_append_and_meet_the_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 5);
    buf_put_str(&b, ":");
    base64_encode(&b, SPAN_LIT("foo"));
    assert_true(span_is(buf_span(&b), ":Zm9v"));
    base64_encode(&b, SPAN_LIT("f"));
    assert_int_equal(b.err, ERR_TOO_LARGE);
    buf_clear(&b);
    assert_int_equal(base64_decode(&b, SPAN_LIT("Zm9vYmFy")), ERR_TOO_LARGE);
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

static void the_other_alphabet_needs_no_padding(void **state)
{
    (void)state;
    struct buf b, back;
    uint8_t bytes[5] = {0xfb, 0xff, 0xfe, 0x3e, 0x3f};
    buf_init(&b, 100);
    buf_init(&back, 100);
    base64url_encode(&b, SPAN(bytes, 5));
    assert_true(span_is(buf_span(&b), "-__-Pj8"));
    assert_int_equal(base64url_decode(&back, buf_span(&b)), 0);
    assert_true(span_equal(buf_span(&back), SPAN(bytes, 5)));
    assert_int_equal(base64url_decode(&back, SPAN_LIT("")), 0);
    const char *const bad[] = {"+__-Pj8", "-__-Pj8=", "-__-P", "-__-Pj9", "-_ -Pj8"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(base64url_decode(&back, SPAN_STR(bad[i])), ERR_BAD_VALUE);
    assert_int_equal(back.n, 5);
    buf_free(&b);
    buf_free(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors_are_met_both_ways),
        cmocka_unit_test(all_lengths_and_bytes_come_back),
        cmocka_unit_test(what_is_not_strict_is_refused_and_leaves_the_buffer),
        cmocka_unit_test(only_the_alphabet_is_taken),
        cmocka_unit_test(both_append_and_meet_the_maximum),
        cmocka_unit_test(the_other_alphabet_needs_no_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
