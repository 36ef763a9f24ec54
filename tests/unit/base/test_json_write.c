#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"

static struct buf out;
static struct jw w;

static int set_up(void **state)
{
    (void)state;
    buf_init(&out, 1 << 20);
    jw_init(&w, &out);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_free(&out);
    return 0;
}

static void restart(void)
{
    buf_clear(&out);
    jw_init(&w, &out);
}

static void expect(const char *text)
{
    assert_int_equal(out.err, 0);
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p, text);
    buf_truncate(&out, out.n - 1);
    assert_true(jw_done(&w));
}

static void commas_and_colons_come_by_themselves(void **state)
{
    (void)state;
    jw_object(&w);
    jw_key(&w, "a");
    jw_int(&w, 1);
    jw_key(&w, "b");
    jw_array(&w);
    jw_null(&w);
    jw_bool(&w, true);
    jw_bool(&w, false);
    jw_object(&w);
    jw_end(&w);
    jw_array(&w);
    jw_end(&w);
    jw_end(&w);
    jw_key_span(&w, SPAN_LIT("c\n"));
    jw_raw(&w, SPAN_LIT("{\"x\":1}"));
    jw_end(&w);
    expect("{\"a\":1,\"b\":[null,true,false,{},[]],\"c\\n\":{\"x\":1}}");
}

static void done_means_one_whole_value(void **state)
{
    (void)state;
    assert_false(jw_done(&w));
    jw_array(&w);
    assert_false(jw_done(&w));
    jw_end(&w);
    assert_true(jw_done(&w));
}

// True where `misuse` of a new writer aborts. In a child, as an assertion ends the process.
static bool aborts(void (*misuse)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        restart();
        misuse();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void no_misuse(void)
{
    jw_null(&w);
}

static void two_values(void)
{
    jw_null(&w);
    jw_null(&w);
}

static void member_without_key(void)
{
    jw_object(&w);
    jw_null(&w);
}

static void key_without_value(void)
{
    jw_object(&w);
    jw_key(&w, "k");
    jw_end(&w);
}

static void key_after_key(void)
{
    jw_object(&w);
    jw_key(&w, "k");
    jw_key(&w, "k");
}

static void key_in_array(void)
{
    jw_array(&w);
    jw_key(&w, "k");
}

static void end_of_nothing(void)
{
    jw_end(&w);
}

static void level_too_many(void)
{
    for (int i = 0; i < JW_DEPTH_MAX; i++)
        jw_array(&w);
}

static void wrong_nesting_is_a_bug(void **state)
{
    (void)state;
    assert_false(aborts(no_misuse));
    assert_true(aborts(two_values));
    assert_true(aborts(member_without_key));
    assert_true(aborts(key_without_value));
    assert_true(aborts(key_after_key));
    assert_true(aborts(key_in_array));
    assert_true(aborts(end_of_nothing));
    assert_true(aborts(level_too_many));
}

static void integers_are_whole_to_their_bounds(void **state)
{
    (void)state;
    jw_array(&w);
    jw_int(&w, 0);
    jw_int(&w, -1);
    jw_int(&w, INT64_MAX);
    jw_int(&w, INT64_MIN);
    jw_uint(&w, UINT64_MAX);
    jw_end(&w);
    expect("[0,-1,9223372036854775807,-9223372036854775808,18446744073709551615]");
}

static void expect_double(double v, const char *text)
{
    restart();
    jw_double(&w, v);
    expect(text);
}

static void doubles_are_short_and_stay_doubles(void **state)
{
    (void)state;
    expect_double(0.1, "0.1");
    expect_double(3, "3.0");
    expect_double(-3, "-3.0");
    expect_double(0, "0.0");
    expect_double(-0.0, "-0.0");
    expect_double(0.1 + 0.2, "0.30000000000000004");
    expect_double(1.0 / 3, "0.3333333333333333");
    expect_double(123456.789, "123456.789");
    expect_double(1e14, "100000000000000.0");
    expect_double(1e22, "1e+22");
    expect_double(1e-7, "1e-7");
    expect_double(9007199254740993.0, "9007199254740992.0");
    expect_double(5e-324, "5e-324"); // the least subnormal
    expect_double(DBL_MAX, "1.7976931348623157e+308");
    expect_double(DBL_MIN, "2.2250738585072014e-308");
}

static void what_is_no_number_is_null(void **state)
{
    (void)state;
    expect_double(NAN, "null");
    expect_double(INFINITY, "null");
    expect_double(-INFINITY, "null");
}

static void every_double_comes_back_bit_for_bit(void **state)
{
    (void)state;
    uint64_t bits = 88172645463325252;
    for (int i = 0; i < 20000; i++) {
        // xorshift, so that the test is the same each time
        bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        restart();
        jw_double(&w, v);
        struct jr_tree *tree;
        assert_int_equal(jr_parse(&tree, buf_span(&out), NULL), 0);
        assert_int_equal(jr_type(jr_root(tree)), JR_REAL);
        double back = jr_real(jr_root(tree), 0);
        assert_memory_equal(&back, &v, sizeof v);
        jr_free(tree);
    }
}

static void expect_text(struct span s, const char *text)
{
    restart();
    jw_str(&w, s);
    expect(text);
}

static void strings_are_escaped_where_json_needs_it(void **state)
{
    (void)state;
    expect_text(SPAN_NONE, "\"\"");
    expect_text(SPAN_LIT("a/b"), "\"a/b\"");
    expect_text(SPAN_LIT("\"\\"), "\"\\\"\\\\\"");
    expect_text(SPAN_LIT("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    expect_text(SPAN_LIT("\0\x01\x1f"), "\"\\u0000\\u0001\\u001f\"");
    expect_text(SPAN_LIT("\x7f"), "\"\x7f\"");
    expect_text(SPAN_LIT("caf\xc3\xa9 \xf0\x9f\x8c\x8a"), "\"caf\xc3\xa9 \xf0\x9f\x8c\x8a\"");
}

static void invalid_utf8_is_replaced(void **state)
{
    (void)state;
#define R "\xef\xbf\xbd"
    expect_text(SPAN_LIT("a\xff"
                           "b"),
                  "\"a" R "b\"");
    expect_text(SPAN_LIT("\xc3"), "\"" R "\"");
    expect_text(SPAN_LIT("\xed\xa0\x80"), "\"" R R R "\"");
    expect_text(SPAN_LIT("\xe2\x82"), "\"" R R "\"");
#undef R
}

static void a_special_byte_is_found_at_every_place(void **state)
{
    (void)state;
    // Strings are looked at sixteen bytes at a time.
    static const char special[] = {'"', '\\', '\n', '\x1f', '\xff', '\x20', '\x7f'};
    for (size_t n = 1; n < 50; n++)
        for (size_t at = 0; at < n; at++)
            for (size_t k = 0; k < sizeof special; k++) {
                char text[50];
                memset(text, 'a', sizeof text);
                text[at] = special[k];
                restart();
                jw_str(&w, SPAN(text, n));
                struct jr_tree *tree;
                assert_int_equal(jr_parse(&tree, buf_span(&out), NULL), 0);
                struct span back = jr_str(jr_root(tree));
                bool replaced = special[k] == '\xff';
                assert_int_equal(back.n, n + (replaced ? 2 : 0));
                if (!replaced) assert_memory_equal(back.p, text, n);
                jr_free(tree);
            }
}

static void the_other_values_are_strings(void **state)
{
    (void)state;
    jw_array(&w);
    jw_cstr(&w, "c");
    jw_plain(&w, SPAN_LIT("plain"));
    jw_base64(&w, SPAN_LIT("fo"));
    jw_time_ms(&w, 1795341600007);
    jw_end(&w);
    expect("[\"c\",\"plain\",\"Zm8=\",\"2026-11-22T10:00:00.007Z\"]");
}

static void a_full_buffer_is_a_sticky_error(void **state)
{
    (void)state;
    for (size_t max = 0; max < 30; max++) {
        struct buf small;
        buf_init(&small, max);
        jw_init(&w, &small);
        jw_object(&w);
        jw_key(&w, "key");
        jw_cstr(&w, "some \"value\" here");
        jw_end(&w);
        size_t whole = strlen("{\"key\":\"some \\\"value\\\" here\"}");
        assert_int_equal(small.err, max < whole ? ERR_TOO_LARGE : 0);
        assert_true(jw_done(&w)); // the nesting is kept all the same
        buf_free(&small);
    }
}

static void levels_up_to_the_maximum_can_be_opened(void **state)
{
    (void)state;
    for (int i = 0; i < JW_DEPTH_MAX - 1; i++)
        jw_array(&w);
    for (int i = 0; i < JW_DEPTH_MAX - 1; i++)
        jw_end(&w);
    assert_true(jw_done(&w));
    assert_int_equal(out.n, 2 * (JW_DEPTH_MAX - 1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(commas_and_colons_come_by_themselves),
        TEST(done_means_one_whole_value),
        TEST(wrong_nesting_is_a_bug),
        TEST(integers_are_whole_to_their_bounds),
        TEST(doubles_are_short_and_stay_doubles),
        TEST(what_is_no_number_is_null),
        TEST(every_double_comes_back_bit_for_bit),
        TEST(strings_are_escaped_where_json_needs_it),
        TEST(invalid_utf8_is_replaced),
        TEST(a_special_byte_is_found_at_every_place),
        TEST(the_other_values_are_strings),
        TEST(a_full_buffer_is_a_sticky_error),
        TEST(levels_up_to_the_maximum_can_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
