#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "buf.h"
#include "cur.h"
#include "err.h"

static void it_reads_what_a_buffer_wrote(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    buf_put_u8(&b, 0xfe);
    buf_put_u16(&b, 0xfedc);
    buf_put_u32(&b, 0xfedcba98);
    buf_put_u64(&b, 0xfedcba9876543210);
    buf_put_u16_be(&b, 0x1234);
    buf_put_u32_be(&b, 0x12345678);
    buf_put_u64_be(&b, 0x123456789abcdef0);
    buf_put_blob(&b, SPAN_LIT("blob"));
    buf_put_str(&b, "tail");

    struct cur c;
    cur_init(&c, buf_span(&b));
    assert_int_equal(cur_left(&c), b.n);
    assert_int_equal(cur_u8(&c), 0xfe);
    assert_int_equal(cur_u16(&c), 0xfedc);
    assert_int_equal(cur_u32(&c), 0xfedcba98);
    assert_int_equal(cur_u64(&c), 0xfedcba9876543210);
    assert_int_equal(cur_u16_be(&c), 0x1234);
    assert_int_equal(cur_u32_be(&c), 0x12345678);
    assert_int_equal(cur_u64_be(&c), 0x123456789abcdef0);
    assert_true(span_is(cur_blob(&c), "blob"));
    assert_int_equal(cur_end(&c), ERR_CORRUPT); // something is left
    assert_true(span_is(cur_span(&c, 4), "tail"));
    assert_int_equal(cur_end(&c), 0);
    buf_free(&b);
}

static void varints_come_back(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4000);
    for (int shift = 0; shift < 64; shift++) {
        buf_put_varint(&b, UINT64_C(1) << shift);
        buf_put_varint(&b, (UINT64_C(1) << shift) - 1);
        buf_put_svarint(&b, (int64_t)(UINT64_C(1) << shift));
        buf_put_svarint(&b, -(int64_t)((UINT64_C(1) << shift) - 1));
    }
    buf_put_varint(&b, UINT64_MAX);
    struct cur c;
    cur_init(&c, buf_span(&b));
    for (int shift = 0; shift < 64; shift++) {
        assert_int_equal(cur_varint(&c), UINT64_C(1) << shift);
        assert_int_equal(cur_varint(&c), (UINT64_C(1) << shift) - 1);
        assert_int_equal(cur_svarint(&c), (int64_t)(UINT64_C(1) << shift));
        assert_int_equal(cur_svarint(&c), -(int64_t)((UINT64_C(1) << shift) - 1));
    }
    assert_int_equal(cur_varint(&c), UINT64_MAX);
    assert_int_equal(cur_end(&c), 0);
    buf_free(&b);
}

static void a_read_past_the_end_is_zero_and_corrupt(void **state)
{
    (void)state;
    struct cur c;
    cur_init(&c, SPAN_LIT("\x01\x02\x03"));
    assert_int_equal(cur_u32(&c), 0);
    assert_int_equal(c.err, ERR_CORRUPT);
    // Sticky: the three bytes that are there are not given out any more.
    assert_int_equal(cur_left(&c), 0);
    assert_int_equal(cur_u8(&c), 0);
    assert_int_equal(cur_varint(&c), 0);
    assert_int_equal(cur_span(&c, 1).n, 0);
    assert_int_equal(cur_end(&c), ERR_CORRUPT);
}

static void every_reader_fails_on_truncated_input(void **state)
{
    (void)state;
    static const uint8_t bytes[7] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct cur c;
#define FAILS(call, n) \
    do { \
        cur_init(&c, SPAN(bytes, n)); \
        call; \
        assert_int_equal(c.err, ERR_CORRUPT); \
    } while (0)
    FAILS(cur_u8(&c), 0);
    FAILS(cur_u16(&c), 1);
    FAILS(cur_u32(&c), 3);
    FAILS(cur_u64(&c), 7);
    FAILS(cur_u16_be(&c), 1);
    FAILS(cur_u32_be(&c), 3);
    FAILS(cur_u64_be(&c), 7);
    FAILS(cur_varint(&c), 0);
    FAILS(cur_varint(&c), 7);
    FAILS(cur_svarint(&c), 1);
    FAILS(cur_span(&c, 8), 7);
    FAILS(cur_span(&c, SIZE_MAX), 7);
    FAILS(cur_blob(&c), 7);
#undef FAILS
}

static bool takes_varint(struct span s)
{
    struct cur c;
    cur_init(&c, s);
    cur_varint(&c);
    return cur_end(&c) == 0;
}

static void only_the_shortest_varint_is_taken(void **state)
{
    (void)state;
    assert_true(takes_varint(SPAN_LIT("\x00")));
    assert_false(takes_varint(SPAN_LIT("\x80\x00")));
    assert_false(takes_varint(SPAN_LIT("\xff\x80\x00")));
    assert_true(takes_varint(SPAN_LIT("\x80\x01")));
}

static void a_varint_beyond_64_bits_is_corrupt(void **state)
{
    (void)state;
    assert_true(takes_varint(SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")));
    assert_false(takes_varint(SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02")));
    assert_false(takes_varint(SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00")));
    assert_false(takes_varint(SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")));
}

static void a_blob_longer_than_its_input_is_corrupt(void **state)
{
    (void)state;
    struct cur c;
    cur_init(&c, SPAN_LIT("\x05"
                          "abcd"));
    assert_int_equal(cur_blob(&c).n, 0);
    assert_int_equal(c.err, ERR_CORRUPT);
    cur_init(&c, SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    assert_int_equal(cur_blob(&c).n, 0);
    assert_int_equal(c.err, ERR_CORRUPT);
}

static void a_caller_can_fail_it(void **state)
{
    (void)state;
    struct cur c;
    cur_init(&c, SPAN_LIT("abc"));
    cur_fail(&c);
    assert_int_equal(cur_left(&c), 0);
    assert_int_equal(cur_end(&c), ERR_CORRUPT);
}

static void an_empty_span_without_address_is_at_its_end(void **state)
{
    (void)state;
    struct cur c;
    cur_init(&c, SPAN_NONE);
    assert_int_equal(cur_span(&c, 0).n, 0);
    assert_int_equal(cur_end(&c), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_reads_what_a_buffer_wrote),
        cmocka_unit_test(varints_come_back),
        cmocka_unit_test(a_read_past_the_end_is_zero_and_corrupt),
        cmocka_unit_test(every_reader_fails_on_truncated_input),
        cmocka_unit_test(only_the_shortest_varint_is_taken),
        cmocka_unit_test(a_varint_beyond_64_bits_is_corrupt),
        cmocka_unit_test(a_blob_longer_than_its_input_is_corrupt),
        cmocka_unit_test(a_caller_can_fail_it),
        cmocka_unit_test(an_empty_span_without_address_is_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
