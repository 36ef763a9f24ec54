#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

static const int all[] = {
#define NUMBER(name, number, wire, status, text) ERR_##name,
    ERR_TABLE(NUMBER)
#undef NUMBER
};
#define COUNT (sizeof all / sizeof all[0])

static void zero_is_ok_with_status_200(void **state)
{
    (void)state;
    assert_string_equal(err_wire(0), "ok");
    assert_int_equal(err_status(0), 200);
    assert_int_equal(err_from_wire("ok"), 0);
}

static void every_error_comes_back_from_its_wire_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(err_from_wire(err_wire(all[i])), all[i]);
}

static void no_number_and_no_wire_code_is_used_twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(all[i], all[k]);
            assert_string_not_equal(err_wire(all[i]), err_wire(all[k]));
        }
}

static void every_error_has_an_http_error_status_and_a_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        assert_in_range(err_status(all[i]), 400, 599);
        assert_true(strlen(err_text(all[i])) > 0);
    }
}

static void an_unknown_number_is_an_internal_error(void **state)
{
    (void)state;
    assert_string_equal(err_wire(-9999), "internal_error");
    assert_int_equal(err_status(-9999), 500);
    assert_string_equal(err_text(1), err_text(ERR_INTERNAL));
}

static void an_unknown_wire_code_is_an_internal_error(void **state)
{
    (void)state;
    assert_int_equal(err_from_wire("no_such_code"), ERR_INTERNAL);
    assert_int_equal(err_from_wire(""), ERR_INTERNAL);
}

static void errnos_are_told_apart_where_it_matters(void **state)
{
    (void)state;
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EDQUOT), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(ENOMEM), ERR_NOMEM);
    assert_int_equal(err_from_errno(EIO), ERR_IO);
    assert_int_equal(err_from_errno(ENOENT), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_is_ok_with_status_200),
        cmocka_unit_test(every_error_comes_back_from_its_wire_code),
        cmocka_unit_test(no_number_and_no_wire_code_is_used_twice),
        cmocka_unit_test(every_error_has_an_http_error_status_and_a_text),
        cmocka_unit_test(an_unknown_number_is_an_internal_error),
        cmocka_unit_test(an_unknown_wire_code_is_an_internal_error),
        cmocka_unit_test(errnos_are_told_apart_where_it_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
