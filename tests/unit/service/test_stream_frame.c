#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limits.h"
#include "stream_frame.h"

#define EPOCH_S 1728432000u

static struct buf out;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, MIB);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_free(&out);
    return 0;
}

static void assert_made(const char *want)
{
    buf_put_u8(&out, 0);
    assert_int_equal(out.err, 0);
    assert_string_equal((const char *)out.p, want);
    buf_clear(&out);
}

static void the_media_type_says_how_it_is_told(void **state)
{
    (void)state;
    assert_int_equal(stream_encoding_of("text/plain"), STREAM_TEXT);
    assert_int_equal(stream_encoding_of("Text/Markdown; charset=utf-8"), STREAM_TEXT);
    assert_int_equal(stream_encoding_of("application/json"), STREAM_JSON);
    assert_int_equal(stream_encoding_of("Application/JSON ; charset=utf-8"), STREAM_JSON);
    assert_int_equal(stream_encoding_of("application/jsonl"), STREAM_BASE64);
    assert_int_equal(stream_encoding_of("application/octet-stream"), STREAM_BASE64);
    assert_int_equal(stream_encoding_of("textual/x"), STREAM_BASE64);
}

static void each_kind_of_line_end_ends_a_line(void **state)
{
    (void)state;
    stream_frame_data(&out, STREAM_TEXT, SPAN_LIT("a\nb\rc\r\nd"), false);
    assert_made("event: data\ndata:a\ndata:b\ndata:c\ndata:d\n\n");
    stream_frame_data(&out, STREAM_TEXT, SPAN_LIT(" a\n  b"), false);
    assert_made("event: data\ndata:  a\ndata:   b\n\n"); // readers take one space
    stream_frame_data(&out, STREAM_TEXT, SPAN_LIT("\n\revent: control\r\rdata: {}\n"), false);
    assert_made("event: data\ndata:\ndata:\ndata:event: control\ndata:\ndata:data: {}\ndata:\n\n");
}

static void a_line_end_cut_in_two_is_one(void **state)
{
    (void)state;
    stream_frame_data(&out, STREAM_TEXT, SPAN_LIT("a\r"), false);
    assert_made("event: data\ndata:a\ndata:\n\n");
    stream_frame_data(&out, STREAM_TEXT, SPAN_LIT("\nb"), true);
    assert_made("event: data\ndata:b\n\n");
    stream_frame_data(&out, STREAM_TEXT, SPAN_LIT("b"), true);
    assert_made("event: data\ndata:b\n\n");
}

static void messages_are_one_array(void **state)
{
    (void)state;
    stream_frame_data(&out, STREAM_JSON, SPAN_LIT("{\"k\":\"v\"},\n"), false);
    assert_made("event: data\ndata:[{\"k\":\"v\"}]\n\n");
    stream_frame_data(&out, STREAM_JSON, SPAN_LIT("1,\n[2,3],\n\"\\n\",\n"), false);
    assert_made("event: data\ndata:[1,\ndata:[2,3],\ndata:\"\\n\"]\n\n");
}

static void other_bytes_are_base64(void **state)
{
    (void)state;
    stream_frame_data(&out, STREAM_BASE64, SPAN_LIT("Hello"), false);
    assert_made("event: data\ndata:SGVsbG8=\n\n");
}

static void a_broken_character_waits(void **state)
{
    (void)state;
    assert_int_equal(stream_frame_whole(STREAM_TEXT, SPAN_LIT("a\xc3\xbc"), false), 3);
    assert_int_equal(stream_frame_whole(STREAM_TEXT, SPAN_LIT("a\xc3"), false), 1);
    assert_int_equal(stream_frame_whole(STREAM_TEXT, SPAN_LIT("\xf0\x9f\x98"), false), 0);
    assert_int_equal(stream_frame_whole(STREAM_TEXT, SPAN_LIT("a\xc3"), true), 2);
    assert_int_equal(stream_frame_whole(STREAM_BASE64, SPAN_LIT("a\xc3"), false), 2);
    assert_int_equal(stream_frame_whole(STREAM_TEXT, SPAN_LIT("\xff\xff\xff\xff\xff"), false), 5); // no UTF-8: as it is
}

static void control_tells_what_is_true(void **state)
{
    (void)state;
    stream_frame_control(&out, &(struct stream_control){.next = 12, .cursor = 7});
    assert_made("event: control\ndata:{\"streamNextOffset\":\"0000000000000000_0000000000000012\",\"streamCursor\":\"7\"}\n\n");
    stream_frame_control(&out, &(struct stream_control){.next = 12, .cursor = 7, .up_to_date = true});
    assert_made("event: control\ndata:{\"streamNextOffset\":\"0000000000000000_0000000000000012\",\"streamCursor\":\"7\",\"upToDate\":true}\n\n");
    stream_frame_control(&out, &(struct stream_control){.next = 0, .cursor = 7, .up_to_date = true, .closed = true});
    assert_made("event: control\ndata:{\"streamNextOffset\":\"0000000000000000_0000000000000000\",\"upToDate\":true,\"streamClosed\":true}\n\n");
}

static void cursors_never_go_back(void **state)
{
    (void)state;
    assert_int_equal(stream_cursor_at(0), 0);
    assert_int_equal(stream_cursor_at(EPOCH_S + 19), 0);
    assert_int_equal(stream_cursor_at(EPOCH_S + 20), 1);
    assert_int_equal(stream_cursor_floor(EPOCH_S + 100, 4, 1), 0); // behind the moment's, which is more
    assert_int_equal(stream_cursor_floor(EPOCH_S + 100, 5, 0), 6);
    assert_int_equal(stream_cursor_floor(EPOCH_S + 100, 5, 3599), 185);
    assert_int_equal(stream_cursor_floor(EPOCH_S + 100, 500, 3600), 501);
    for (uint32_t i = 0; i < 10000; i++) {
        uint64_t floor = stream_cursor_floor(EPOCH_S + 100, 9, i * 429497u);
        assert_true(floor > 9 && floor <= 9 + 180);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_media_type_says_how_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_of_line_end_ends_a_line, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_end_cut_in_two_is_one, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_are_one_array, setup, teardown),
        cmocka_unit_test_setup_teardown(other_bytes_are_base64, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_character_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(control_tells_what_is_true, setup, teardown),
        cmocka_unit_test_setup_teardown(cursors_never_go_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
