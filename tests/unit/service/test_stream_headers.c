#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "err.h"
#include "stream_headers.h"

static void offsets_are_read_back_and_sort_as_text(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {0, 1, 9, 10, 12345, UINT64_C(9999999999999999)};
    char text[STREAM_OFFSET_TEXT], last[STREAM_OFFSET_TEXT] = "";
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        uint64_t back = 77;
        stream_offset_text(offsets[i], text);
        assert_int_equal(stream_offset_parse(SPAN_STR(text), &back), 0);
        assert_int_equal(back, offsets[i]);
        assert_true(strcmp(last, text) < 0);
        memcpy(last, text, sizeof last);
    }
    assert_string_equal(last, "0000000000000000_9999999999999999");
}

static void offsets_that_were_never_given_out_are_refused(void **state)
{
    (void)state;
    uint64_t v;
    static const char *const bad[] = {"", "-1", "now", "+1", "01", "1 ", " 1", "1.0", "1e3", "0x1", "10000000000000000", "0000000000000000_", "_0000000000000000",
                                      "0000000000000000_000000000000000", "0000000000000000_00000000000000000", "0000000000000001_0000000000000000",
                                      "9999999999999999_9999999999999999", "0000000000000000-0000000000000000", "000000000000000a_0000000000000000", "1,2", "1/2"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (stream_offset_parse(SPAN_STR(bad[i]), &v) != ERR_BAD_OFFSET) fail_msg("%s was taken", bad[i]);
    assert_int_equal(stream_offset_parse(SPAN_LIT("1\0"), &v), ERR_BAD_OFFSET);
    assert_int_equal(stream_offset_parse(SPAN_LIT("42"), &v), 0); // as batches say it
    assert_int_equal(v, 42);
}

static void numbers_are_plain_and_bounded(void **state)
{
    (void)state;
    uint64_t v = 0;
    assert_true(stream_number_parse(SPAN_LIT("0"), STREAM_NUMBER_MAX, &v) && v == 0);
    assert_true(stream_number_parse(SPAN_LIT("9007199254740991"), STREAM_NUMBER_MAX, &v) && v == STREAM_NUMBER_MAX);
    static const char *const bad[] = {"", "-0", "-1", "+1", "00", "01", "1.0", "1e3", "9007199254740992", "18446744073709551616", "99999999999999999999999", "1, 1", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (stream_number_parse(SPAN_STR(bad[i]), STREAM_NUMBER_MAX, &v)) fail_msg("%s was taken", bad[i]);
}

static void time_is(const char *text, uint64_t ms)
{
    uint64_t got = 0;
    if (!stream_time_parse(SPAN_STR(text), &got) || got != ms) fail_msg("%s gave %llu", text, (unsigned long long)got);
}

static void instants_of_every_zone_are_read(void **state)
{
    (void)state;
    time_is("1970-01-01T00:00:01Z", 1000);
    time_is("2025-01-02T03:04:05.678Z", UINT64_C(1735787045678));
    time_is("2025-01-02T03:04:05.6789999z", UINT64_C(1735787045678));
    time_is("2025-01-02t03:04:05Z", UINT64_C(1735787045000));
    time_is("2025-01-02T05:04:05+02:00", UINT64_C(1735787045000));
    time_is("2025-01-01T21:34:05-05:30", UINT64_C(1735787045000));
    time_is("2024-02-29T00:00:00Z", UINT64_C(1709164800000));
    time_is("2000-02-29T23:59:60Z", UINT64_C(951868800000));
    time_is("9999-12-31T23:59:59Z", UINT64_C(253402300799000));
    uint64_t late;
    assert_false(stream_time_parse(SPAN_LIT("9999-12-31T23:59:59-00:01"), &late)); // the year 10000, in UTC
    time_is("1969-12-31T23:59:59Z", 1);
    time_is("0000-01-01T00:00:00Z", 1);
}

static void what_is_no_instant_is_refused(void **state)
{
    (void)state;
    uint64_t v;
    static const char *const bad[] = {"", "not-a-timestamp", "2025-01-02", "2025-01-02T03:04:05", "2025-01-02 03:04:05Z", "2025-13-02T03:04:05Z", "2025-00-02T03:04:05Z",
                                      "2025-02-29T03:04:05Z", "1900-02-29T03:04:05Z", "2025-04-31T03:04:05Z", "2025-01-00T03:04:05Z", "2025-01-02T24:00:00Z", "2025-01-02T03:60:05Z",
                                      "2025-01-02T03:04:61Z", "2025-01-02T03:04:05.Z", "2025-01-02T03:04:05+0200", "2025-01-02T03:04:05+24:00", "2025-01-02T03:04:05+02:60",
                                      "2025-01-02T03:04:05ZZ", "+2025-01-02T03:04:05Z", "1735787045", "2025-1-2T03:04:05Z", "2025-01-02T03:04:05 Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (stream_time_parse(SPAN_STR(bad[i]), &v)) fail_msg("%s was taken", bad[i]);
}

static void instants_are_written_as_they_are_read(void **state)
{
    (void)state;
    char text[STREAM_TIME_TEXT];
    stream_time_text(UINT64_C(1735787045678), text);
    assert_string_equal(text, "2025-01-02T03:04:05.678Z");
    for (uint64_t day = 0; day < 200000; day += 13) {
        uint64_t ms = day * 86400000 + day % 86400 * 1000 + day % 1000, back;
        stream_time_text(ms, text);
        assert_true(stream_time_parse(SPAN_STR(text), &back) && (back == ms || ms == 0));
    }
}

static void json_is_told_by_the_media_type_alone(void **state)
{
    (void)state;
    assert_true(stream_type_is_json(SPAN_LIT("application/json")));
    assert_true(stream_type_is_json(SPAN_LIT("Application/JSON ; charset=utf-8")));
    assert_false(stream_type_is_json(SPAN_LIT("application/jsonl")));
    assert_false(stream_type_is_json(SPAN_LIT("application/json5;x")));
    assert_false(stream_type_is_json(SPAN_LIT("text/plain; x=application/json")));
    assert_false(stream_type_is_json(SPAN_NONE));
}

static void tags_are_found_whole_and_weakly(void **state)
{
    (void)state;
    assert_true(stream_etag_listed(SPAN_LIT("\"1:0:5\""), "\"1:0:5\""));
    assert_true(stream_etag_listed(SPAN_LIT("\"x\", W/\"1:0:5\""), "\"1:0:5\""));
    assert_true(stream_etag_listed(SPAN_LIT("*"), "\"1:0:5\""));
    assert_false(stream_etag_listed(SPAN_LIT("\"1:0:5:c\""), "\"1:0:5\""));
    assert_false(stream_etag_listed(SPAN_LIT("1:0:5"), "\"1:0:5\""));
    assert_false(stream_etag_listed(SPAN_LIT("\"a\"1:0:5\"b\""), "\"1:0:5\""));
    assert_false(stream_etag_listed(SPAN_LIT("\""), "\"1:0:5\""));
    assert_false(stream_etag_listed(SPAN_NONE, "\"1:0:5\""));
}

static void if_match_takes_an_offset_with_or_without_quotes(void **state)
{
    (void)state;
    bool has;
    uint64_t v = 0;
    assert_true(stream_match_parse(SPAN_LIT("\"0000000000000000_0000000000000007\""), &has, &v) == 0 && has && v == 7);
    assert_true(stream_match_parse(SPAN_LIT("0000000000000000_0000000000000008"), &has, &v) == 0 && has && v == 8);
    assert_true(stream_match_parse(SPAN_LIT("\"9\""), &has, &v) == 0 && has && v == 9);
    assert_true(stream_match_parse(SPAN_LIT("*"), &has, &v) == 0 && !has);
    static const char *const bad[] = {"", "\"", "\"\"", "W/\"9\"", "\"9\", \"10\"", "\"9", "9\"", "\"-1\"", "\"now\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (stream_match_parse(SPAN_STR(bad[i]), &has, &v) != ERR_BAD_OFFSET) fail_msg("%s was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_are_read_back_and_sort_as_text),
        cmocka_unit_test(offsets_that_were_never_given_out_are_refused),
        cmocka_unit_test(numbers_are_plain_and_bounded),
        cmocka_unit_test(instants_of_every_zone_are_read),
        cmocka_unit_test(what_is_no_instant_is_refused),
        cmocka_unit_test(instants_are_written_as_they_are_read),
        cmocka_unit_test(json_is_told_by_the_media_type_alone),
        cmocka_unit_test(tags_are_found_whole_and_weakly),
        cmocka_unit_test(if_match_takes_an_offset_with_or_without_quotes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
