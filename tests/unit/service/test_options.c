#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "file.h"
#include "limits.h"
#include "options.h"
#include "tmp.h"

static struct options o;
static struct problem p;

// Parses words up to a NULL.
#define parse(...) parse_words((const char *[]){"segued", __VA_ARGS__, NULL})
static int parse_words(const char **words)
{
    int n = 0;
    while (words[n] != NULL)
        n++;
    p = PROBLEM_NONE;
    return options_parse(&o, n, (char *const *)words, &p);
}

static void the_defaults_are_those_of_the_limits(void **state)
{
    (void)state;
    assert_int_equal(parse("--data", "/d"), 0);
    assert_string_equal(o.data, "/d");
    assert_string_equal(o.host, "127.0.0.1");
    assert_int_equal(o.port, 7420);
    assert_int_equal(o.log_level, LOG_INFO);
    assert_int_equal(o.db_map_bytes, DB_MAP_BYTES);
    assert_int_equal(o.journal_segment_bytes, JOURNAL_SEGMENT_BYTES);
    assert_int_equal(o.long_poll_ms, LONG_POLL_MS);
    assert_int_equal(o.seal_quiet_ms, STREAM_QUIET_MS);
    assert_int_equal(o.stream_segment_bytes, STREAM_SEGMENT_BYTES);
    assert_int_equal(o.blob_pack_bytes, BLOB_PACK_BYTES);
    assert_int_equal(o.heartbeat_ms, HEARTBEAT_MS);
    assert_false(o.dev || o.journal_keep_all || o.help || o.version);
}

static void a_value_follows_or_stands_behind_an_equals_sign(void **state)
{
    (void)state;
    assert_int_equal(parse("--data=/a=b", "--long-poll-ms", "100", "--log-level=debug", "--journal-keep-all"), 0);
    assert_string_equal(o.data, "/a=b");
    assert_int_equal(o.long_poll_ms, 100);
    assert_int_equal(o.log_level, LOG_DEBUG);
    assert_true(o.journal_keep_all);
}

static void wrong_usage_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"--nonsense", "1", "--nonsense"},
        {"-d", "x", "-d"},
        {"stray", "x", "stray"},
        {"--dev=true", "x", "--dev"},
        {"--log-level", "loud", "loud"},
        {"--long-poll-ms", "9", "long-poll-ms"},
        {"--long-poll-ms", "1e3", "long-poll-ms"},
        {"--long-poll-ms", "", "long-poll-ms"},
        {"--long-poll-ms", "-5", "long-poll-ms"},
        {"--long-poll-ms", "99999999999999999999", "long-poll-ms"},
        {"--journal-segment-bytes", "65537", "journal-segment-bytes"},
        {"--data", "", "data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse("--data", "/d", cases[i][0], cases[i][1]), ERR_USAGE);
        if (strstr(problem_text(&p), cases[i][2]) == NULL) fail_msg("%s: %s", cases[i][0], problem_text(&p));
    }
    assert_int_equal(parse("--data"), ERR_USAGE);
    assert_int_equal(parse("--dev"), ERR_USAGE); // no data
    assert_non_null(strstr(problem_text(&p), "--data"));
}

static void addresses_are_numeric(void **state)
{
    (void)state;
    assert_int_equal(parse("--data", "/d", "--listen", "0.0.0.0:0"), 0);
    assert_string_equal(o.host, "0.0.0.0");
    assert_int_equal(o.port, 0);
    assert_int_equal(parse("--data", "/d", "--listen", "[::1]:80"), 0);
    assert_string_equal(o.host, "::1");
    assert_int_equal(o.port, 80);
    assert_int_equal(parse("--data", "/d", "--listen", "localhost:65535"), 0);
    assert_string_equal(o.host, "127.0.0.1");
    static const char *const wrong[] = {"example.com:80", "127.0.0.1",   ":80",   "127.0.0.1:65536",
                                        "127.0.0.1:",     "127.0.0.1:x", "[::1]", "1.2.3:4"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (parse("--data", "/d", "--listen", wrong[i]) != ERR_USAGE) fail_msg("%s was taken", wrong[i]);
    }
}

static void dev_needs_a_loopback_address(void **state)
{
    (void)state;
    assert_int_equal(parse("--data", "/d", "--dev"), 0);
    assert_int_equal(parse("--data", "/d", "--dev", "--listen", "127.9.9.9:1"), 0);
    assert_int_equal(parse("--data", "/d", "--dev", "--listen", "[::1]:1"), 0);
    assert_int_equal(parse("--data", "/d", "--dev", "--listen", "0.0.0.0:1"), ERR_USAGE);
    assert_int_equal(parse("--data", "/d", "--dev", "--listen", "[::]:1"), ERR_USAGE);
    assert_int_equal(parse("--data", "/d", "--dev", "--listen", "192.168.0.1:1"), ERR_USAGE);
}

static void help_and_version_need_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(parse("--help"), 0);
    assert_true(o.help);
    assert_int_equal(parse("--version"), 0);
    assert_true(o.version);
}

static void help_names_every_option(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 1 << 16);
    options_help(&text);
    buf_put_u8(&text, 0);
    static const char *const names[] = {"--data DIR",
                                        "--listen HOST:PORT",
                                        "--dev",
                                        "--config FILE",
                                        "--log-level",
                                        "--db-map-bytes",
                                        "--journal-segment-bytes",
                                        "--journal-keep-all",
                                        "--long-poll-ms",
                                        "--seal-quiet-ms",
                                        "--heartbeat-ms",
                                        "--help",
                                        "--version",
                                        "127.0.0.1:7420"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strstr((char *)text.p, names[i]) == NULL) fail_msg("%s is not there", names[i]);
    }
    buf_free(&text);
}

// ---- the file -----------------------------------------------------------------------------------------------------

struct folder {
    char *path, *file;
};

static int setup(void **state)
{
    struct folder *f = calloc(1, sizeof *f);
    f->path = tmp_make();
    f->file = tmp_path(f->path, "segued.conf");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;
    tmp_remove(f->path);
    free(f->file);
    free(f);
    return 0;
}

static void config(void **state, const char *text)
{
    struct folder *f = *state;
    assert_int_equal(file_replace(f->file, SPAN_STR(text)), 0);
}

static void the_file_has_the_same_names(void **state)
{
    struct folder *f = *state;
    config(
        state,
        "# a comment\n\n  data = /from file \t\r\ndev = true # trailing\nlisten=127.0.0.1:1\njournal-keep-all = false\nheartbeat-ms = 77");
    assert_int_equal(parse("--config", f->file), 0);
    assert_string_equal(o.data, "/from file");
    assert_true(o.dev);
    assert_false(o.journal_keep_all);
    assert_int_equal(o.port, 1);
    assert_int_equal(o.heartbeat_ms, 77);
}

static void the_line_beats_the_file_wherever_it_stands(void **state)
{
    struct folder *f = *state;
    config(state, "data = /file\nlong-poll-ms = 11\nheartbeat-ms = 12\n");
    assert_int_equal(parse("--data", "/line", "--long-poll-ms", "99", "--config", f->file), 0);
    assert_string_equal(o.data, "/line");
    assert_int_equal(o.long_poll_ms, 99);
    assert_int_equal(o.heartbeat_ms, 12);
}

static void a_file_that_is_not_understood_is_fatal(void **state)
{
    struct folder *f = *state;
    static const char *const wrong[] = {"data = /d\nspeed = 9\n", "data\n",  "data = /d\nconfig = x\n", "data = /d\nhelp = true\n",
                                        "data = /d\ndev = yes\n", "data =\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        config(state, wrong[i]);
        if (parse("--config", f->file) != ERR_USAGE) fail_msg("taken: %s", wrong[i]);
    }
    config(state, "data = /d\nspeed = 9\n");
    parse("--config", f->file);
    assert_non_null(strstr(problem_text(&p), "line 2"));
    assert_int_equal(parse("--config", "/nowhere/at/all"), ERR_USAGE);
}

static void providers_are_named_and_the_later_one_of_a_name_wins(void **state)
{
    (void)state;
    assert_int_equal(parse("--data", "/d", "--llm-provider", "a http://127.0.0.1:1/v1", "--llm-provider=b https://b.example/v1 B_KEY", "--llm-provider", "a  http://127.0.0.1:2 A_KEY"), 0);
    assert_int_equal(o.provider_count, 2);
    assert_string_equal(o.providers[0].name, "a");
    assert_string_equal(o.providers[0].url, "http://127.0.0.1:2");
    assert_string_equal(o.providers[0].key_env, "A_KEY");
    assert_string_equal(o.providers[1].key_env, "B_KEY");
    static const char *const bad[] = {"", "a", "a ftp://x", "a/b http://x", "a http://x KEY more", "http://x a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse("--data", "/d", "--llm-provider", bad[i]), ERR_USAGE);
    assert_int_equal(parse("--data", "/d"), 0);
    assert_int_equal(o.provider_count, 0);
    assert_true(o.llm_connect_ms == LLM_CONNECT_MS && o.llm_first_ms == LLM_FIRST_MS && o.llm_idle_ms == LLM_IDLE_MS && o.llm_total_ms == LLM_TOTAL_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(providers_are_named_and_the_later_one_of_a_name_wins),
        cmocka_unit_test(the_defaults_are_those_of_the_limits),
        cmocka_unit_test(a_value_follows_or_stands_behind_an_equals_sign),
        cmocka_unit_test(wrong_usage_is_refused_by_name),
        cmocka_unit_test(addresses_are_numeric),
        cmocka_unit_test(dev_needs_a_loopback_address),
        cmocka_unit_test(help_and_version_need_nothing_else),
        cmocka_unit_test(help_names_every_option),
        cmocka_unit_test_setup_teardown(the_file_has_the_same_names, setup, teardown),
        cmocka_unit_test_setup_teardown(the_line_beats_the_file_wherever_it_stands, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_understood_is_fatal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
