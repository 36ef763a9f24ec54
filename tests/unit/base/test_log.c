#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "err.h"
#include "log.h"

// What the next log call writes, without its time stamp; kept until the next capture.
static char line[16384];
static int pipe_ends[2];
static int real_stderr;

static void begin_capture(void)
{
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    real_stderr = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
}

static const char *end_capture(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(pipe_ends[1]);
    ssize_t n = read(pipe_ends[0], line, sizeof line - 1);
    close(pipe_ends[0]);
    line[n > 0 ? n : 0] = '\0';
    const char *space = strchr(line, ' ');
    return space != NULL ? space + 1 : line;
}

#define CAPTURE(call) (begin_capture(), (call), end_capture())

static void a_line_has_time_level_module_and_message(void **state)
{
    (void)state;
    const char *rest = CAPTURE(log_info("journal", "recovered"));
    assert_string_equal(rest, "level=info at=journal msg=\"recovered\"\n");
    assert_memory_equal(line, "ts=20", 5);
    assert_int_equal(rest - line, 3 + 24 + 1);
    assert_int_equal(line[26], 'Z');
}

static void fields_follow_in_order(void **state)
{
    (void)state;
    const char *rest =
        CAPTURE(log_warn("app", "m", LF_INT("i", -5), LF_UINT("u", UINT64_MAX), LF_STR("s", "word"), LF_SPAN("p", SPAN_LIT("ab"))));
    assert_string_equal(rest, "level=warn at=app msg=\"m\" i=-5 u=18446744073709551615 s=word p=ab\n");
}

static void errors_are_named(void **state)
{
    (void)state;
    assert_string_equal(CAPTURE(log_error("a", "m", LF_ERR(ERR_NO_SPACE), LF_ERRNO(ENOSPC))),
                        "level=error at=a msg=\"m\" err=no_space errno=ENOSPC\n");
    assert_string_equal(CAPTURE(log_error("a", "m", LF_ERRNO(99999))), "level=error at=a msg=\"m\" errno=99999\n");
}

static void values_are_quoted_where_logfmt_needs_it(void **state)
{
    (void)state;
    static const struct {
        const char *value, *text;
    } cases[] = {
        {"bare-word_1.2/3:4", "v=bare-word_1.2/3:4\n"},
        {"", "v=\"\"\n"},
        {NULL, "v=\"\"\n"},
        {"two words", "v=\"two words\"\n"},
        {"a=b", "v=\"a=b\"\n"},
        {"say \"hi\"", "v=\"say \\\"hi\\\"\"\n"},
        {"back\\slash", "v=\"back\\\\slash\"\n"},
        {"a\nb\rc\td", "v=\"a\\nb\\rc\\td\"\n"},
        {"esc\x1b[0m\x7f", "v=\"esc\\u001b[0m\\u007f\"\n"},
        {"caf\xc3\xa9", "v=caf\xc3\xa9\n"},
        {"bad\xff", "v=\"bad\\ufffd\"\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *rest = CAPTURE(log_info("a", "m", LF_STR("v", cases[i].value)));
        assert_string_equal(strstr(rest, "v="), cases[i].text);
    }
}

static void no_value_can_begin_a_line(void **state)
{
    (void)state;
    const char *rest = CAPTURE(log_info("a", "m\nts=forged", LF_STR("v", "x\nlevel=error")));
    assert_ptr_equal(strchr(rest, '\n'), rest + strlen(rest) - 1);
}

static void a_value_is_cut_at_256_bytes_between_characters(void **state)
{
    (void)state;
    char value[400];
    memset(value, 'x', sizeof value);
    const char *rest = CAPTURE(log_info("a", "m", LF_SPAN("v", SPAN(value, sizeof value))));
    assert_int_equal(strlen(strstr(rest, "v=")), 2 + 256 + 1);
    memcpy(value + 254, "\xe2\x82\xac", 3);
    rest = CAPTURE(log_info("a", "m", LF_SPAN("v", SPAN(value, sizeof value))));
    assert_int_equal(strlen(strstr(rest, "v=")), 2 + 254 + 1);
}

static void more_fields_than_fit_still_end_the_line(void **state)
{
    (void)state;
    char value[256];
    memset(value, 1, sizeof value); // six bytes each when escaped
    struct log_field fields[65];
    for (int i = 0; i < 64; i++)
        fields[i] = LF_SPAN("field", SPAN(value, sizeof value));
    fields[64] = (struct log_field){.kind = LOG_F_END};
    CAPTURE(log_write(LOG_INFO, "a", "m", fields));
    size_t n = strlen(line);
    assert_in_range(n, 4096, 8192);
    assert_int_equal(line[n - 1], '\n');
}

static void lines_above_the_level_are_dropped(void **state)
{
    (void)state;
    assert_int_equal(log_level(), LOG_INFO);
    assert_string_equal(CAPTURE(log_debug("a", "m")), "");
    log_set_level(LOG_ERROR);
    assert_string_equal(CAPTURE(log_warn("a", "m")), "");
    assert_string_not_equal(CAPTURE(log_error("a", "m")), "");
    log_set_level(LOG_DEBUG);
    assert_string_equal(CAPTURE(log_debug("a", "m")), "level=debug at=a msg=\"m\"\n");
    log_set_level(LOG_INFO);
}

static void levels_are_read_from_their_words(void **state)
{
    (void)state;
    enum log_level level = LOG_INFO;
    assert_int_equal(log_level_parse(&level, "debug"), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse(&level, "error"), 0);
    assert_int_equal(level, LOG_ERROR);
    assert_int_equal(log_level_parse(&level, "ERROR"), ERR_USAGE);
    assert_int_equal(log_level_parse(&level, ""), ERR_USAGE);
    assert_int_equal(level, LOG_ERROR);
}

static void logging_keeps_errno(void **state)
{
    (void)state;
    int here = open("/dev/null", O_RDONLY); // writing to it fails
    int saved = dup(STDERR_FILENO);
    dup2(here, STDERR_FILENO);
    errno = ENOSPC;
    log_error("a", "m", LF_ERRNO(errno));
    int after = errno;
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(here);
    assert_int_equal(after, ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_module_and_message),
        cmocka_unit_test(fields_follow_in_order),
        cmocka_unit_test(errors_are_named),
        cmocka_unit_test(values_are_quoted_where_logfmt_needs_it),
        cmocka_unit_test(no_value_can_begin_a_line),
        cmocka_unit_test(a_value_is_cut_at_256_bytes_between_characters),
        cmocka_unit_test(more_fields_than_fit_still_end_the_line),
        cmocka_unit_test(lines_above_the_level_are_dropped),
        cmocka_unit_test(levels_are_read_from_their_words),
        cmocka_unit_test(logging_keeps_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
