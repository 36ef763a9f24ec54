// Query parameters, and what percent-encoding may hide.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include "err.h"
#include "http.h"
#include "percent.h"

static struct buf scratch;

static int setup(void **state)
{
    (void)state;
    buf_init(&scratch, 1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_free(&scratch);
    return 0;
}

static void expect_param(const char *query, const char *name, int want, const char *value)
{
    struct request r = {.query = SPAN_STR(query)};
    struct span v = SPAN_NONE;
    buf_clear(&scratch);
    int got = request_param(&r, name, &scratch, &v);
    if (got != want) fail_msg("%s in %s: %d instead of %d", name, query, got, want);
    if (want == 1 && !span_is(v, value)) fail_msg("%s in %s: %.*s instead of %s", name, query, SPAN_FMT(v), value);
}

static void a_parameter_is_found_and_decoded(void **state)
{
    (void)state;
    expect_param("a=1&b=2", "a", 1, "1");
    expect_param("a=1&b=2", "b", 1, "2");
    expect_param("a=1&b=2", "c", 0, NULL);
    expect_param("", "a", 0, NULL);
    expect_param("a", "a", 1, "");
    expect_param("&&a=&", "a", 1, "");
    expect_param("a=b=c", "a", 1, "b=c");
    expect_param("q=select+%2A%20from%2bx", "q", 1, "select * from+x");
    expect_param("%61=x%26y%3D", "a", 1, "x&y=");
    expect_param("a=%C3%A4", "a", 1, "\xc3\xa4");
    expect_param("long-value-before=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx&a=1&long-value-behind=yyyyyyyyyyyyyyyyyyyyyyyyyy", "a", 1, "1");
}

static void a_parameter_given_twice_is_refused(void **state)
{
    (void)state;
    expect_param("a=1&a=1", "a", ERR_BAD_PARAMETER, NULL);
    expect_param("a=1&%61=2", "a", ERR_BAD_PARAMETER, NULL);
    expect_param("a=1&a=1", "b", 0, NULL);
}

static void broken_text_is_refused(void **state)
{
    (void)state;
    static const char *const broken[] = {"a=%",   "a=%1",     "a=%g0", "a=%0g",   "a=%00",  "a=%ff",
                                         "a=%c3", "a=%c0%80", "%zz=1", "x=%&a=1", "a=1&x=%"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        expect_param(broken[i], "a", ERR_BAD_PARAMETER, NULL);
}

static void parameters_come_in_order(void **state)
{
    (void)state;
    struct request r = {.query = SPAN_LIT("one=1&two=%32&&three")};
    struct span name, value;
    size_t at = 0;
    int err;
    assert_true(request_param_next(&r, &at, &scratch, &name, &value, &err));
    assert_true(span_is(name, "one") && span_is(value, "1"));
    assert_true(request_param_next(&r, &at, &scratch, &name, &value, &err));
    assert_true(span_is(name, "two") && span_is(value, "2"));
    assert_true(request_param_next(&r, &at, &scratch, &name, &value, &err));
    assert_true(span_is(name, "three") && value.n == 0);
    assert_false(request_param_next(&r, &at, &scratch, &name, &value, &err));
    assert_int_equal(err, 0);
}

static void a_path_keeps_its_plus_and_its_dots(void **state)
{
    (void)state;
    assert_int_equal(percent_decode(&scratch, SPAN_LIT("a+b/../%2e%2E/c%2Fd"), false), 0);
    assert_true(span_is(buf_span(&scratch), "a+b/../../c/d"));
    buf_clear(&scratch);
    assert_int_equal(percent_decode(&scratch, SPAN_LIT("a%00"), false), ERR_BAD_PARAMETER);
    buf_clear(&scratch);
    assert_int_equal(percent_decode(&scratch, SPAN_LIT("a%ED%A0%80"), false), ERR_BAD_PARAMETER); // half of a surrogate pair
}

static void text_beyond_the_scratch_is_refused(void **state)
{
    (void)state;
    char query[1200] = "a=";
    struct request r = {.query = SPAN_NONE};
    struct span v;
    memset(query + 2, 'x', 1100);
    r.query = SPAN(query, 1102);
    assert_int_equal(request_param(&r, "a", &scratch, &v), ERR_TOO_LARGE);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_parameter_is_found_and_decoded), WITH(a_parameter_given_twice_is_refused), WITH(broken_text_is_refused),
        WITH(parameters_come_in_order),         WITH(a_path_keeps_its_plus_and_its_dots), WITH(text_beyond_the_scratch_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
