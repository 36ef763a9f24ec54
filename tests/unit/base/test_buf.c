#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "buf.h"
#include "err.h"

static void puts_append_in_order(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_put(&b, "ab", 2);
    buf_put_u8(&b, 'c');
    buf_put_str(&b, "de");
    buf_put_span(&b, SPAN_LIT("fg"));
    buf_printf(&b, "%d", 42);
    assert_true(span_is(buf_span(&b), "abcdefg42"));
    buf_free(&b);
}

static void content_may_fill_the_maximum_but_not_pass_it(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    for (int i = 0; i < 100; i++)
        buf_put_u8(&b, (uint8_t)i);
    assert_int_equal(b.err, 0);
    assert_int_equal(b.n, 100);
    assert_int_equal(b.cap, 100); // doubling stops at the maximum
    buf_put_u8(&b, 0);
    assert_int_equal(b.err, ERR_TOO_LARGE);
    assert_int_equal(b.n, 100);
    buf_free(&b);
}

static void an_error_is_sticky_and_makes_puts_do_nothing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    buf_put_str(&b, "ab");
    buf_put_str(&b, "cde");
    assert_int_equal(b.err, ERR_TOO_LARGE);
    buf_put_u8(&b, 'c'); // would fit
    buf_put_varint(&b, 1);
    buf_printf(&b, "x");
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_take(&b));
    assert_true(span_is(buf_span(&b), "ab"));
    buf_truncate(&b, 1);
    assert_int_equal(b.err, ERR_TOO_LARGE);
    buf_clear(&b);
    assert_int_equal(b.err, 0);
    buf_put_str(&b, "abcd");
    assert_true(span_is(buf_span(&b), "abcd"));
    buf_free(&b);
}

static void a_maximum_of_zero_takes_nothing_but_nothing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    assert_non_null(buf_reserve(&b, 0));
    buf_put(&b, NULL, 0);
    buf_put_span(&b, SPAN_NONE);
    assert_int_equal(b.err, 0);
    buf_put_u8(&b, 1);
    assert_int_equal(b.err, ERR_TOO_LARGE);
    buf_free(&b);
}

static void a_huge_reserve_does_not_wrap(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    buf_put_u8(&b, 1);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.err, ERR_TOO_LARGE);
    buf_free(&b);
}

static void exhausted_memory_is_an_error_of_its_own(void **state)
{
    (void)state;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    skip(); // a sanitizer ends the program over such a request
#endif
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    assert_null(buf_reserve(&b, SIZE_MAX / 2));
    assert_int_equal(b.err, ERR_NOMEM);
    buf_free(&b);
}

static void free_keeps_the_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 3);
    buf_put_str(&b, "abcd");
    buf_free(&b);
    assert_int_equal(b.err, 0);
    buf_put_str(&b, "abc");
    assert_int_equal(b.err, 0);
    buf_put_u8(&b, 'd');
    assert_int_equal(b.err, ERR_TOO_LARGE);
    buf_free(&b);
}

static void consume_moves_the_rest_to_the_front(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_consume(&b, 0); // also while there is no memory yet
    buf_put_str(&b, "hello world");
    buf_consume(&b, 6);
    assert_true(span_is(buf_span(&b), "world"));
    buf_consume(&b, 5);
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

static void reserved_room_can_be_filled_by_the_caller(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    buf_put_str(&b, "ab");
    uint8_t *to = buf_reserve(&b, 500);
    assert_ptr_equal(to, b.p + 2);
    memset(to, 'x', 500);
    b.n += 500;
    assert_int_equal(b.p[501], 'x');
    buf_free(&b);
}

static void printf_of_any_length_is_whole(void **state)
{
    (void)state;
    // Around the size up to which it formats on the stack, and at the very maximum.
    for (int width = 120; width <= 300; width++) {
        struct buf b;
        buf_init(&b, (size_t)width);
        buf_printf(&b, "%*d", width, 7);
        assert_int_equal(b.err, 0);
        assert_int_equal(b.n, width);
        assert_int_equal(b.p[width - 1], '7');
        assert_int_equal(b.p[0], ' ');
        buf_free(&b);
    }
}

static void integers_have_the_bytes_that_the_names_say(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_put_u16(&b, 0x0102);
    buf_put_u32(&b, 0x01020304);
    buf_put_u64(&b, 0x0102030405060708);
    buf_put_u16_be(&b, 0x0102);
    buf_put_u32_be(&b, 0x01020304);
    buf_put_u64_be(&b, 0x0102030405060708);
    static const uint8_t want[] = {2, 1, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8};
    assert_true(span_equal(buf_span(&b), SPAN(want, sizeof want)));
    buf_free(&b);
}

static void varints_are_leb128_in_the_shortest_form(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_put_varint(&b, 0);
    buf_put_varint(&b, 127);
    buf_put_varint(&b, 128);
    buf_put_varint(&b, 300);
    buf_put_svarint(&b, -1);
    buf_put_svarint(&b, 1);
    buf_put_svarint(&b, -64);
    static const uint8_t want[] = {0, 127, 0x80, 1, 0xac, 2, 1, 2, 127};
    assert_true(span_equal(buf_span(&b), SPAN(want, sizeof want)));
    buf_clear(&b);
    buf_put_varint(&b, UINT64_MAX);
    assert_int_equal(b.n, 10);
    buf_put_svarint(&b, INT64_MIN);
    assert_int_equal(b.n, 20);
    buf_free(&b);
}

static void take_gives_the_content_away_and_keeps_the_memory(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_put_str(&b, "abc");
    uint8_t *memory = b.p;
    struct bytes *taken = buf_take(&b);
    assert_true(span_is(bytes_span(taken), "abc"));
    assert_int_equal(b.n, 0);
    assert_ptr_equal(b.p, memory);
    buf_put_str(&b, "xyz");
    assert_true(span_is(bytes_span(taken), "abc"));
    bytes_unref(taken);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_append_in_order),
        cmocka_unit_test(content_may_fill_the_maximum_but_not_pass_it),
        cmocka_unit_test(an_error_is_sticky_and_makes_puts_do_nothing),
        cmocka_unit_test(a_maximum_of_zero_takes_nothing_but_nothing),
        cmocka_unit_test(a_huge_reserve_does_not_wrap),
        cmocka_unit_test(exhausted_memory_is_an_error_of_its_own),
        cmocka_unit_test(free_keeps_the_maximum),
        cmocka_unit_test(consume_moves_the_rest_to_the_front),
        cmocka_unit_test(reserved_room_can_be_filled_by_the_caller),
        cmocka_unit_test(printf_of_any_length_is_whole),
        cmocka_unit_test(integers_have_the_bytes_that_the_names_say),
        cmocka_unit_test(varints_are_leb128_in_the_shortest_form),
        cmocka_unit_test(take_gives_the_content_away_and_keeps_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
