#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "err.h"
#include "problem.h"
#include "utf8.h"

static void set_gives_the_error_back_and_records_it(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    assert_int_equal(problem_set(&p, ERR_BAD_SQL, 7, "no %s at %d", "table", 7), ERR_BAD_SQL);
    assert_int_equal(p.err, ERR_BAD_SQL);
    assert_int_equal(p.position, 7);
    assert_string_equal(problem_text(&p), "no table at 7");
}

static void the_first_problem_stands(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    problem_set(&p, ERR_BAD_JSON, 1, "first");
    assert_int_equal(problem_set(&p, ERR_IO, 2, "second"), ERR_IO);
    assert_int_equal(p.err, ERR_BAD_JSON);
    assert_int_equal(p.position, 1);
    assert_string_equal(p.text, "first");
}

static void null_takes_no_record(void **state)
{
    (void)state;
    assert_int_equal(problem_set(NULL, ERR_IO, -1, "x"), ERR_IO);
}

static void without_text_of_its_own_the_table_speaks(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    problem_set(&p, ERR_NO_SPACE, -1, "%s", "");
    assert_string_equal(problem_text(&p), err_text(ERR_NO_SPACE));
}

static void control_characters_and_invalid_utf8_become_question_marks(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    problem_set(&p, ERR_BAD_VALUE, -1, "a%sb", "\n\x1b\x7f\xff\xc3\xa9\xe2\x82");
    assert_string_equal(p.text, "a????\xc3\xa9??b");
}

static void long_text_is_cut_between_characters(void **state)
{
    (void)state;
    // Each start shifts where the cut falls within a character of 4 bytes.
    for (int shift = 0; shift < 4; shift++) {
        char text[2 * PROBLEM_TEXT_MAX] = "";
        memset(text, 'a', (size_t)shift);
        while (strlen(text) + 4 < sizeof text)
            strcat(text, "\xf0\x9f\x8c\x8a");
        struct problem p = PROBLEM_NONE;
        problem_set(&p, ERR_BAD_VALUE, -1, "%s", text);
        size_t n = strlen(p.text);
        assert_in_range(n, PROBLEM_TEXT_MAX - 4, PROBLEM_TEXT_MAX - 1);
        assert_true(utf8_valid(SPAN(p.text, n)));
        assert_null(strchr(p.text, '?'));
    }
}

static void text_of_exactly_the_maximum_is_kept_whole(void **state)
{
    (void)state;
    char text[PROBLEM_TEXT_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct problem p = PROBLEM_NONE;
    problem_set(&p, ERR_BAD_VALUE, -1, "%s", text);
    assert_string_equal(p.text, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_gives_the_error_back_and_records_it),
        cmocka_unit_test(the_first_problem_stands),
        cmocka_unit_test(null_takes_no_record),
        cmocka_unit_test(without_text_of_its_own_the_table_speaks),
        cmocka_unit_test(control_characters_and_invalid_utf8_become_question_marks),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(text_of_exactly_the_maximum_is_kept_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
