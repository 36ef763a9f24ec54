// What the fields of a GET select, and under which name it is kept.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "disposition.h"
#include "err.h"
#include "http_select.h"

// "from+n from+n …", or what was returned.
static void assert_ranges(const char *field, uint64_t size, const char *expected)
{
    struct byte_ranges r = {.count = 0};
    char text[2000] = "";
    int got = http_ranges_parse(SPAN_STR(field), size, &r);
    if (got == 0) snprintf(text, sizeof text, "whole");
    if (got < 0) snprintf(text, sizeof text, "%s", err_wire(got));
    for (size_t i = 0; got > 0 && i < r.count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%llu+%llu", i == 0 ? "" : " ", (unsigned long long)r.at[i].from, (unsigned long long)r.at[i].n);
    assert_string_equal(text, expected);
}

static void one_range_is_read_as_it_is_written(void **state)
{
    (void)state;
    assert_ranges("bytes=0-0", 10, "0+1");
    assert_ranges("bytes=2-", 10, "2+8");
    assert_ranges("bytes=-3", 10, "7+3");
    assert_ranges("bytes=-30", 10, "0+10");
    assert_ranges("bytes=3-300", 10, "3+7");
    assert_ranges("Bytes=3-4", 10, "3+2");
    assert_ranges(" bytes=3-4 , ", 10, "3+2");
    assert_ranges("bytes=0-99999999999999999999999", 10, "0+10");
    assert_ranges("bytes=0-18446744073709551615", UINT64_MAX, "0+18446744073709551615");
}

static void range_behind_the_end_cannot_be_satisfied(void **state)
{
    (void)state;
    static const char *const behind[] = {"bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-", "bytes=10-11,20-30"};
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
        assert_ranges(behind[i], 10, "range_not_satisfiable");
    assert_ranges("bytes=0-", 0, "range_not_satisfiable");
    assert_ranges("bytes=-1", 0, "range_not_satisfiable");
}

static void what_is_malformed_asks_for_the_whole(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "bytes", "bytes=", "bytes=,", "lines=1-2", "bytes=a-b", "bytes=5-2", "bytes=1", "bytes=-", "bytes=1-2-3", "bytes=1-2,x",
                                      "bytes=--1", "bytes= 1 - 2", "bytes=+1-2", "bytes=0x1-2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_ranges(bad[i], 10, "whole");
}

static void parts_that_touch_become_one_in_the_place_of_the_first(void **state)
{
    (void)state;
    assert_ranges("bytes=0-9,1000-1009", 2000, "0+10 1000+10");
    assert_ranges("bytes=1000-1009,0-9", 2000, "1000+10 0+10");
    assert_ranges("bytes=0-9,5-14", 2000, "0+15");
    assert_ranges("bytes=0-9,10-19", 2000, "0+20");
    assert_ranges("bytes=0-9,100-109", 2000, "0+110");
    assert_ranges("bytes=0-9,1000-1009,0-1999", 2000, "0+2000");
    assert_ranges("bytes=500-509,0-9,1000-1009,5-1005", 2000, "0+1010");
    assert_ranges("bytes=0-9,3000-,1000-1009", 2000, "0+10 1000+10");
    assert_ranges("bytes=-5,0-4", 2000, "1995+5 0+5");
}

static void too_many_parts_ask_for_the_whole(void **state)
{
    (void)state;
    char field[1000] = "bytes=";
    for (int i = 0; i < HTTP_RANGES_MAX; i++)
        snprintf(field + strlen(field), sizeof field - strlen(field), "%d-%d,", 1000 * i, 1000 * i);
    struct byte_ranges r;
    assert_int_equal(http_ranges_parse(SPAN_STR(field), 100000, &r), 1);
    assert_int_equal(r.count, HTTP_RANGES_MAX);
    strcat(field, "99000-99001");
    assert_int_equal(http_ranges_parse(SPAN_STR(field), 100000, &r), 0);
}

static void tags_are_compared_whole(void **state)
{
    (void)state;
    struct span tag = SPAN_LIT("\"abc\"");
    assert_true(http_etag_listed(SPAN_LIT("*"), tag, true));
    assert_true(http_etag_listed(SPAN_LIT("\"x\", \"abc\""), tag, true));
    assert_true(http_etag_listed(SPAN_LIT("W/\"abc\""), tag, false));
    assert_false(http_etag_listed(SPAN_LIT("W/\"abc\""), tag, true));
    assert_true(http_etag_listed(SPAN_LIT("W/\"abc\",\"abc\""), tag, true));
    assert_false(http_etag_listed(SPAN_LIT("\"ab\",\"abcd\",abc"), tag, false));
    assert_false(http_etag_listed(SPAN_LIT("\"x, \"abc\"y\""), tag, false));
    assert_false(http_etag_listed(SPAN_LIT("\"abc"), tag, false));
    assert_false(http_etag_listed(SPAN_LIT(""), tag, false));
    assert_false(http_etag_listed(SPAN_LIT("W/"), tag, false));
}

static void coding_is_taken_unless_its_quality_is_nothing(void **state)
{
    (void)state;
    assert_true(http_takes_coding(SPAN_LIT("gzip, zstd"), "zstd"));
    assert_true(http_takes_coding(SPAN_LIT("ZSTD;q=0.1"), "zstd"));
    assert_true(http_takes_coding(SPAN_LIT("zstd ; x=y ; q=1"), "zstd"));
    assert_false(http_takes_coding(SPAN_LIT("zstd;q=0"), "zstd"));
    assert_false(http_takes_coding(SPAN_LIT("zstd;q=0.000, gzip"), "zstd"));
    assert_false(http_takes_coding(SPAN_LIT("zstd2, gzip"), "zstd"));
    assert_false(http_takes_coding(SPAN_NONE, "zstd"));
    assert_true(http_wants_sha256(SPAN_LIT("sha-512=3")));
    assert_true(http_wants_sha256(SPAN_LIT("sha-512=3, sha-256=10")));
    assert_false(http_wants_sha256(SPAN_LIT("sha-256=0, sha-512=3")));
}

// ---- names ---------------------------------------------------------------------------------------------------------

static void assert_disposition(bool attachment, const char *name, const char *expected)
{
    struct buf b;
    buf_init(&b, 4 * KIB);
    disposition_put(&b, attachment, SPAN_STR(name));
    assert_int_equal(b.err, 0);
    if (!span_is(buf_span(&b), expected)) fail_msg("%.*s", (int)b.n, (const char *)b.p);
    buf_free(&b);
}

static void the_coding_that_is_liked_best_is_chosen(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        enum coding coding;
    } cases[] = {{"", CODING_NONE},          {"br, deflate", CODING_NONE},          {"gzip", CODING_GZIP},
                 {"zstd", CODING_ZSTD},      {"gzip, zstd", CODING_ZSTD},           {"zstd, gzip", CODING_ZSTD},
                 {"*", CODING_ZSTD},         {"*;q=0", CODING_NONE},                {"gzip;q=1.0, *;q=0.5", CODING_GZIP},
                 {"gzip;q=0", CODING_NONE},  {"gzip;q=0.000, zstd;q=0", CODING_NONE}, {"gzip;q=0.5, zstd;q=0.499", CODING_GZIP},
                 {"identity", CODING_NONE},  {"identity, gzip;q=0.9", CODING_NONE}, {"identity;q=0.5, gzip;q=0.5", CODING_GZIP},
                 {"identity;q=0", CODING_NONE}, {"identity;q=0, *", CODING_ZSTD},   {"GZip ; Q=0.3", CODING_GZIP},
                 {";;,,=,q=1", CODING_NONE}, {"gzip;x=1;q=0", CODING_NONE},         {"gzip;q=7", CODING_GZIP}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(http_choose_coding(SPAN_STR(cases[i].accept)), cases[i].coding);
    assert_int_equal(http_choose_coding(SPAN_NONE), CODING_NONE);
}

static void text_and_its_kin_are_worth_packing(void **state)
{
    (void)state;
    static const char *const packs[] = {"text/plain", "text/event-stream", "application/json; charset=utf-8", "application/problem+json", "image/svg+xml"};
    static const char *const stays[] = {"", "image/png", "application/zip", "application/octet-stream", "video/mp4", "+json"};
    for (size_t i = 0; i < sizeof packs / sizeof *packs; i++)
        assert_true(http_type_packs(packs[i]));
    for (size_t i = 0; i < sizeof stays / sizeof *stays; i++)
        assert_false(http_type_packs(stays[i]));
}

static void name_is_ascii_and_utf8_where_that_loses_something(void **state)
{
    (void)state;
    assert_disposition(true, "", "attachment");
    assert_disposition(false, "a b.txt", "inline; filename=\"a b.txt\"");
    assert_disposition(true, "/etc/passwd", "attachment; filename=\"passwd\"");
    assert_disposition(true, "c:\\x\\y.txt", "attachment; filename=\"y.txt\"");
    assert_disposition(true, "n\xc3\xa4he.txt", "attachment; filename=\"n_he.txt\"; filename*=UTF-8''n%C3%A4he.txt");
    assert_disposition(true, "a\"b\r\nc", "attachment; filename=\"a_b__c\"; filename*=UTF-8''a%22b%0D%0Ac");
    assert_disposition(true, "100%41", "attachment; filename=\"100_41\"; filename*=UTF-8''100%2541");
    assert_disposition(true, "\xff", "attachment");
    assert_disposition(true, "dir/", "attachment");
}

static void long_name_is_cut_between_characters(void **state)
{
    (void)state;
    char name[601] = "";
    for (int i = 0; i < 300; i++)
        strcat(name, "\xc3\xa4");
    struct buf b;
    buf_init(&b, 4 * KIB);
    disposition_put(&b, true, SPAN_STR(name));
    assert_true(b.n < 1024 && memcmp(b.p + b.n - 6, "%C3%A4", 6) == 0);
    buf_free(&b);
}

static void types_that_may_hold_a_script_are_not_safe(void **state)
{
    (void)state;
    static const char *const safe[] = {"image/png", "IMAGE/JPEG", "video/mp4", "audio/ogg; codecs=opus", "text/plain; charset=utf-8"};
    static const char *const unsafe[] = {"", "text/html", "image/svg+xml", "application/pdf", "application/octet-stream", "video/", "text/plainx", "text/xml"};
    for (size_t i = 0; i < sizeof safe / sizeof *safe; i++)
        assert_true(disposition_is_safe(SPAN_STR(safe[i])));
    for (size_t i = 0; i < sizeof unsafe / sizeof *unsafe; i++)
        assert_false(disposition_is_safe(SPAN_STR(unsafe[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_range_is_read_as_it_is_written),
        cmocka_unit_test(range_behind_the_end_cannot_be_satisfied),
        cmocka_unit_test(what_is_malformed_asks_for_the_whole),
        cmocka_unit_test(parts_that_touch_become_one_in_the_place_of_the_first),
        cmocka_unit_test(too_many_parts_ask_for_the_whole),
        cmocka_unit_test(tags_are_compared_whole),
        cmocka_unit_test(coding_is_taken_unless_its_quality_is_nothing),
        cmocka_unit_test(the_coding_that_is_liked_best_is_chosen),
        cmocka_unit_test(text_and_its_kin_are_worth_packing),
        cmocka_unit_test(name_is_ascii_and_utf8_where_that_loses_something),
        cmocka_unit_test(long_name_is_cut_between_characters),
        cmocka_unit_test(types_that_may_hold_a_script_are_not_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
