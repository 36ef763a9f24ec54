#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdio.h>

#include "err.h"
#include "limits.h"
#include "path_set.h"
#include "subs_glob.h"

static bool match(const char *pattern, const char *path)
{
    struct subs_glob g;
    assert_int_equal(subs_glob_init(&g, SPAN_STR(pattern)), 0);
    return subs_glob_match(&g, SPAN_STR(path));
}

static void patterns_mean_what_is_written(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path;
        bool match;
    } cases[] = {
        {"events/a", "events/a", true},
        {"events/a", "events/ab", false},
        {"events/a", "events", false},
        {"events/*", "events/a", true},
        {"events/*", "events/a/b", false},
        {"events/*", "events", false},
        {"events/*", "events/", false},
        {"*", "a", true},
        {"*", "a/b", false},
        {"*/b", "a/b", true},
        {"*/b", "/b", false},
        {"a/*/c", "a/b/c", true},
        {"a/*/c", "a/b/b/c", false},
        {"**", "a", true},
        {"**", "a/b/c", true},
        {"a/**", "a", true},
        {"a/**", "a/b/c", true},
        {"a/**", "ab", false},
        {"a/**", "ab/c", false},
        {"**/c", "c", true},
        {"**/c", "a/b/c", true},
        {"**/c", "a/b/d", false},
        {"a/**/z", "a/z", true},
        {"a/**/z", "a/b/c/z", true},
        {"a/**/z", "a/b/c/z/y", false},
        {"a/**/m/**/z", "a/m/z", true},
        {"a/**/m/**/z", "a/b/m/c/m/z", true},
        {"a/**/m/**/z", "a/b/c/z", false},
        {"**/*", "a", true},
        {"*/**", "a", true},
        {"*/**/*", "a", false},
        {"*/**/*", "a/b", true},
        {"user-*/log", "user-7/log", true},
        {"user-*/log", "user-/log", true},
        {"user-*/log", "user-7/x/log", false},
        {"*-*-end", "a-b-c-end", true},
        {"*-*-end", "a-end", false},
        {"a*b*c", "aXbYc", true},
        {"a*b*c", "aXbYcZ", false},
        {"a//b", "a//b", true},
        {"a/*/b", "a//b", false},
        {"\xc3\xbc/*", "\xc3\xbc/\xf0\x9f\x8c\x8a", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (match(cases[i].pattern, cases[i].path) != cases[i].match) print_message("%s against %s\n", cases[i].pattern, cases[i].path);
        assert_int_equal(match(cases[i].pattern, cases[i].path), cases[i].match);
    }
}

static void what_is_no_pattern_is_refused(void **state)
{
    (void)state;
    struct subs_glob g;
    char longest[SUB_PATTERN_MAX + 2];
    memset(longest, 'a', sizeof longest);
    static const char *const bad[] = {"", "a**", "**b", "a/**b/c", "***", "a/***", "\xff", "a/\xc3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(subs_glob_init(&g, SPAN_STR(bad[i])), ERR_BAD_VALUE);
    assert_int_equal(subs_glob_init(&g, SPAN("a\0b", 3)), ERR_BAD_VALUE);
    assert_int_equal(subs_glob_init(&g, SPAN(longest, SUB_PATTERN_MAX)), 0);
    assert_int_equal(subs_glob_init(&g, SPAN(longest, SUB_PATTERN_MAX + 1)), ERR_BAD_VALUE);
}

// Nested tries are what makes naive matchers take for ever.
static void no_pattern_takes_long(void **state)
{
    (void)state;
    struct buf {
        char p[SUB_PATTERN_MAX + 1];
    } pattern = {{0}}, path = {{0}};
    for (int i = 0; i < 60; i++)
        strcat(pattern.p, i % 2 ? "**/" : "*a/");
    strcat(pattern.p, "b");
    for (int i = 0; i < 130; i++)
        strcat(path.p, "aa/");
    strcat(path.p, "c");
    assert_false(match(pattern.p, path.p));
    memset(pattern.p, 0, sizeof pattern.p);
    for (int i = 0; i < 190; i++)
        strcat(pattern.p, "*a");
    memset(path.p, 'a', 399);
    path.p[398] = 'b';
    assert_false(match(pattern.p, path.p));
}

// ---- the set of paths ----

static void a_set_holds_each_path_once(void **state)
{
    (void)state;
    struct path_set s;
    char text[16];
    path_set_init(&s, 3000);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 3000; i++) {
            snprintf(text, sizeof text, "p/%d", i);
            assert_int_equal(path_set_add(&s, SPAN_STR(text)), 0);
        }
    assert_int_equal(s.count, 3000);
    assert_int_equal(path_set_add(&s, SPAN_LIT("one more")), ERR_TOO_MANY);
    assert_true(path_set_has(&s, SPAN_LIT("p/2999")));
    assert_false(path_set_has(&s, SPAN_LIT("one more")));
    // Every third is taken out by its place, whatever that is by then.
    for (size_t i = 0; i < s.count;) {
        struct span path = path_set_at(&s, i);
        if (path.p[path.n - 1] % 3 == 0) path_set_remove_at(&s, i);
        else i++;
    }
    for (int i = 0; i < 3000; i++) {
        int n = snprintf(text, sizeof text, "p/%d", i);
        assert_int_equal(path_set_has(&s, SPAN_STR(text)), text[n - 1] % 3 != 0);
    }
    while (s.count > 0)
        path_set_remove_at(&s, s.count / 2);
    assert_false(path_set_has(&s, SPAN_LIT("p/1")));
    assert_int_equal(path_set_add(&s, SPAN_LIT("p/1")), 0);
    path_set_free(&s);
    assert_false(path_set_has(&s, SPAN_LIT("p/1")));
    path_set_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_mean_what_is_written),
        cmocka_unit_test(what_is_no_pattern_is_refused),
        cmocka_unit_test(no_pattern_takes_long),
        cmocka_unit_test(a_set_holds_each_path_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
