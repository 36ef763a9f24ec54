#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "err.h"
#include "file.h"
#include "uuid.h"

static const char text[] = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

static void text_comes_back(void **state)
{
    (void)state;
    struct uuid u;
    char back[UUID_TEXT];
    assert_int_equal(uuid_parse(&u, SPAN_STR(text)), 0);
    assert_int_equal(u.b[0], 0x01);
    assert_int_equal(u.b[15], 0x5b);
    uuid_format(u, back);
    assert_memory_equal(back, text, UUID_TEXT);
}

static void upper_case_is_read_and_lower_case_written(void **state)
{
    (void)state;
    struct uuid lower, upper;
    assert_int_equal(uuid_parse(&lower, SPAN_STR(text)), 0);
    assert_int_equal(uuid_parse(&upper, SPAN_LIT("0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B")), 0);
    assert_true(uuid_equal(lower, upper));
}

static void any_other_form_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b",
        "{0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5bb",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5g",
        "0190a1b2_c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "0190a1b-2c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        " 190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "+190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5-",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct uuid u = {{42}};
        assert_int_equal(uuid_parse(&u, SPAN_STR(bad[i])), ERR_BAD_VALUE);
        assert_int_equal(u.b[0], 42); // outputs are written only on success
    }
}

static void every_changed_character_is_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < UUID_TEXT; i++) {
        char changed[UUID_TEXT];
        memcpy(changed, text, UUID_TEXT);
        changed[i] = 'x';
        struct uuid u;
        assert_int_equal(uuid_parse(&u, SPAN(changed, UUID_TEXT)), ERR_BAD_VALUE);
    }
}

static void version_7_has_its_time_version_and_variant(void **state)
{
    (void)state;
    static const uint8_t ones[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, zeros[10];
    char t[UUID_TEXT];
    uuid_format(uuid_v7(0x0190a1b2c3d4, ones), t);
    assert_memory_equal(t, "0190a1b2-c3d4-7fff-bfff-ffffffffffff", UUID_TEXT);
    uuid_format(uuid_v7(0x0190a1b2c3d4, zeros), t);
    assert_memory_equal(t, "0190a1b2-c3d4-7000-8000-000000000000", UUID_TEXT);
}

static void later_ids_sort_behind_earlier_ones(void **state)
{
    (void)state;
    static const uint8_t ones[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, zeros[10];
    assert_true(uuid_compare(uuid_v7(1000, ones), uuid_v7(1001, zeros)) < 0);
    assert_true(uuid_compare(uuid_v7(255, ones), uuid_v7(256, zeros)) < 0);
}

static void new_ids_differ_and_carry_the_wall_clock(void **state)
{
    (void)state;
    uint64_t before = clock_wall_ms();
    struct uuid a = uuid_new(), b = uuid_new();
    uint64_t after = clock_wall_ms();
    assert_false(uuid_equal(a, b));
    uint64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | a.b[i];
    assert_in_range(ms, before, after);
}

static void random_bytes_fill_all_of_it(void **state)
{
    (void)state;
    static uint8_t large[1000];
    random_bytes(large, sizeof large);
    size_t zeros = 0;
    for (size_t i = 0; i < sizeof large; i++)
        zeros += large[i] == 0;
    assert_in_range(zeros, 0, 50); // 4 are to be expected
    random_bytes(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back),
        cmocka_unit_test(upper_case_is_read_and_lower_case_written),
        cmocka_unit_test(any_other_form_is_refused),
        cmocka_unit_test(every_changed_character_is_seen),
        cmocka_unit_test(version_7_has_its_time_version_and_variant),
        cmocka_unit_test(later_ids_sort_behind_earlier_ones),
        cmocka_unit_test(new_ids_differ_and_carry_the_wall_clock),
        cmocka_unit_test(random_bytes_fill_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
