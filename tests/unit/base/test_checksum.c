#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "checksum.h"

static void a_checksum_is_the_published_xxh3(void **state)
{
    (void)state;
    // The algorithm is part of the disk format: another one under the same name would lose every journal.
    assert_int_equal(checksum64(SPAN_NONE, 0), UINT64_C(0x2d06800538d394c2));
    struct checksum128 h = checksum128(SPAN_NONE, 0);
    assert_int_equal(h.lo, UINT64_C(0x6001c324468d497f));
    assert_int_equal(h.hi, UINT64_C(0x99aa06d3014798d8));
}

static void the_seed_and_each_byte_matter(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'a', sizeof text);
    uint64_t whole = checksum64(SPAN(text, sizeof text), 1);
    assert_int_not_equal(whole, checksum64(SPAN(text, sizeof text), 2));
    struct checksum128 wide = checksum128(SPAN(text, sizeof text), 1);
    assert_int_not_equal(wide.lo, checksum128(SPAN(text, sizeof text), 2).lo);
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] ^= 1;
        assert_int_not_equal(whole, checksum64(SPAN(text, sizeof text), 1));
        text[i] ^= 1;
    }
}

static void two_pieces_are_summed_as_one(void **state)
{
    (void)state;
    uint8_t text[1200];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 31 >> 2);
    // The lengths between which the algorithm changes its ways are 16, 128, 240 and 1024.
    static const size_t lengths[] = {0, 1, 15, 16, 17, 128, 129, 240, 241, 1023, 1024, 1025, 1200};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t n = lengths[i];
        uint64_t whole = checksum64(SPAN(text, n), 77);
        for (size_t cut = 0; cut <= n; cut += 1 + n / 7)
            assert_int_equal(checksum64_two(SPAN(text, cut), SPAN(text + cut, n - cut), 77), whole);
        assert_int_equal(checksum64_two(SPAN_NONE, SPAN(text, n), 77), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checksum_is_the_published_xxh3),
        cmocka_unit_test(the_seed_and_each_byte_matter),
        cmocka_unit_test(two_pieces_are_summed_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
