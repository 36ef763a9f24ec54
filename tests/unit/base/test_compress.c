#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "compress.h"
#include "err.h"

#define CONTENT_BYTES 300000

typedef int pack_fn(struct buf *out, struct span in, int level);
typedef int unpack_fn(struct buf *out, struct span in, size_t max);

// What holds for zstd holds for gzip.
static const struct {
    pack_fn *pack;
    unpack_fn *unpack;
} codecs[] = {{zstd_pack, zstd_unpack}, {gzip_pack, gzip_unpack}};
#define CODECS 2

static struct buf content, packed, back;

static int set_up(void **state)
{
    (void)state;
    buf_init(&content, CONTENT_BYTES);
    buf_init(&packed, 1 << 20);
    buf_init(&back, 1 << 20);
    uint32_t x = 1;
    while (content.n < CONTENT_BYTES - 16) {
        x = x * 1664525 + 1013904223;
        buf_printf(&content, "token %u ", x >> 28);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_free(&content);
    buf_free(&packed);
    buf_free(&back);
    return 0;
}

static void content_comes_back_at_every_level(void **state)
{
    (void)state;
    static const int levels[] = {-1, 1, 3, 9};
    for (int c = 0; c < CODECS; c++)
        for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
            buf_clear(&packed);
            buf_clear(&back);
            assert_int_equal(codecs[c].pack(&packed, buf_span(&content), levels[i]), 0);
            assert_true(packed.n < content.n / 3);
            assert_int_equal(codecs[c].unpack(&back, buf_span(&packed), content.n), 0); // exactly the maximum
            assert_true(span_equal(buf_span(&back), buf_span(&content)));
        }
}

static void both_append(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        buf_clear(&packed);
        buf_clear(&back);
        buf_put_str(&packed, "head");
        buf_put_str(&back, "head");
        assert_int_equal(codecs[c].pack(&packed, SPAN_LIT("content"), 3), 0);
        assert_true(span_starts(buf_span(&packed), "head"));
        assert_int_equal(codecs[c].unpack(&back, span_sub(buf_span(&packed), 4, packed.n), 100), 0);
        assert_true(span_is(buf_span(&back), "headcontent"));
    }
}

static void nothing_comes_back_as_nothing(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        buf_clear(&packed);
        buf_clear(&back);
        assert_int_equal(codecs[c].pack(&packed, SPAN_NONE, 3), 0);
        assert_true(packed.n > 0);
        assert_int_equal(codecs[c].unpack(&back, buf_span(&packed), 0), 0);
        assert_int_equal(back.n, 0);
    }
}

static void content_beyond_the_maximum_is_refused_and_leaves_the_buffer(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        buf_clear(&packed);
        buf_clear(&back);
        buf_put_str(&back, "before");
        assert_int_equal(codecs[c].pack(&packed, buf_span(&content), 3), 0);
        assert_int_equal(codecs[c].unpack(&back, buf_span(&packed), content.n - 1), ERR_TOO_LARGE);
        assert_int_equal(codecs[c].unpack(&back, buf_span(&packed), 0), ERR_TOO_LARGE);
        assert_true(span_is(buf_span(&back), "before"));
        assert_int_equal(back.err, 0);
    }
}

static void a_bomb_is_stopped_at_the_maximum(void **state)
{
    (void)state;
    size_t n = 64 << 20;
    uint8_t *zeros = calloc(1, n);
    for (int c = 0; c < CODECS; c++) {
        buf_clear(&packed);
        assert_int_equal(codecs[c].pack(&packed, SPAN(zeros, n), 3), 0);
        assert_true(packed.n < n / 100);
        struct buf small;
        buf_init(&small, 10000);
        assert_int_equal(codecs[c].unpack(&small, buf_span(&packed), 5000), ERR_TOO_LARGE);
        assert_true(small.cap <= 10000);
        assert_int_equal(codecs[c].unpack(&small, buf_span(&packed), n), ERR_TOO_LARGE); // by the buffer's own maximum
        buf_free(&small);
    }
    free(zeros);
}

static void a_result_beyond_the_buffer_is_a_sticky_error(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        struct buf small;
        buf_init(&small, 100);
        assert_int_equal(codecs[c].pack(&small, buf_span(&content), 3), ERR_TOO_LARGE);
        assert_int_equal(small.err, ERR_TOO_LARGE);
        assert_int_equal(small.n, 0);
        assert_int_equal(codecs[c].pack(&small, SPAN_LIT("x"), 3), ERR_TOO_LARGE);
        buf_clear(&small);
        // Fits, though the worst case would not.
        assert_int_equal(codecs[c].pack(&small, SPAN_LIT("0123456789012345678901234567890123456789012345678901234567890123456789"), 3), 0);
        buf_free(&small);
    }
}

static void every_truncation_is_corrupt(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        buf_clear(&packed);
        buf_clear(&back);
        assert_int_equal(codecs[c].pack(&packed, SPAN(content.p, 2000), 3), 0);
        for (size_t n = 0; n < packed.n; n++)
            assert_int_equal(codecs[c].unpack(&back, SPAN(packed.p, n), 10000), ERR_CORRUPT);
        assert_int_equal(back.n, 0);
    }
}

static void what_follows_the_one_frame_is_corrupt(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        buf_clear(&packed);
        buf_clear(&back);
        assert_int_equal(codecs[c].pack(&packed, SPAN_LIT("first"), 3), 0);
        size_t one = packed.n;
        buf_put_u8(&packed, 0);
        assert_int_equal(codecs[c].unpack(&back, buf_span(&packed), 1000), ERR_CORRUPT);
        buf_truncate(&packed, one);
        assert_int_equal(codecs[c].pack(&packed, SPAN_LIT("second"), 3), 0);
        assert_int_equal(codecs[c].unpack(&back, buf_span(&packed), 1000), ERR_CORRUPT);
        assert_int_equal(codecs[c].unpack(&back, SPAN(packed.p, one), 1000), 0);
    }
}

static void what_is_no_frame_is_corrupt(void **state)
{
    (void)state;
    for (int c = 0; c < CODECS; c++) {
        assert_int_equal(codecs[c].unpack(&back, SPAN_NONE, 1000), ERR_CORRUPT);
        assert_int_equal(codecs[c].unpack(&back, SPAN_LIT("no frame at all, but some text"), 1000), ERR_CORRUPT);
    }
    // zstd's skippable frame: valid, and without content.
    assert_int_equal(zstd_unpack(&back, SPAN_LIT("\x50\x2a\x4d\x18\x04\x00\x00\x00"
                                                 "skip"),
                                 1000),
                     ERR_CORRUPT);
}

static void a_changed_gzip_byte_is_seen(void **state)
{
    (void)state;
    assert_int_equal(gzip_pack(&packed, SPAN(content.p, 2000), 6), 0);
    for (size_t i = 10; i < packed.n; i++) { // behind the header, of which most is free
        packed.p[i] ^= 0x10;
        buf_clear(&back);
        assert_int_not_equal(gzip_unpack(&back, buf_span(&packed), 10000), 0);
        packed.p[i] ^= 0x10;
    }
}

static void a_frame_without_a_size_is_unpacked(void **state)
{
    (void)state;
    // From `printf hello | zstd`: one raw block, no content size, a window of 128 KiB, no checksum.
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38, 0x29, 0x00, 0x00, 'h', 'e', 'l', 'l', 'o'};
    assert_int_equal(zstd_unpack(&back, SPAN(frame, sizeof frame), 5), 0);
    assert_true(span_is(buf_span(&back), "hello"));
    buf_clear(&back);
    assert_int_equal(zstd_unpack(&back, SPAN(frame, sizeof frame), 4), ERR_TOO_LARGE);
    assert_int_equal(back.n, 0);
}

static void a_window_larger_than_8_mib_is_refused(void **state)
{
    (void)state;
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x80, 0x29, 0x00, 0x00, 'h', 'e', 'l', 'l', 'o'};
    assert_int_equal(zstd_unpack(&back, SPAN(frame, sizeof frame), 100), ERR_TOO_LARGE);
}

static void *pack_and_unpack(void *p)
{
    (void)p;
    struct buf a, b;
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    bool ok = true;
    for (int i = 0; i < 5; i++)
        for (int c = 0; c < CODECS; c++) {
            buf_clear(&a);
            buf_clear(&b);
            ok = ok && codecs[c].pack(&a, buf_span(&content), 1) == 0 && codecs[c].unpack(&b, buf_span(&a), content.n) == 0 &&
                 span_equal(buf_span(&b), buf_span(&content));
        }
    buf_free(&a);
    buf_free(&b);
    return ok ? &content : NULL;
}

static void threads_work_at_the_same_time(void **state)
{
    (void)state;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pack_and_unpack, NULL), 0);
    for (int i = 0; i < 3; i++) {
        void *ok;
        pthread_join(threads[i], &ok);
        assert_non_null(ok);
    }
}

static void what_is_made_piece_by_piece_comes_back(void **state)
{
    (void)state;
    for (int i = 0; i < CODECS; i++) {
        struct coder *c = coder_new(i == 0 ? CODING_ZSTD : CODING_GZIP);
        buf_clear(&packed);
        buf_clear(&back);
        for (size_t at = 0, n = 1; at < content.n; at += n, n = n * 7 % 20011 + 1) {
            size_t before = packed.n;
            assert_int_equal(coder_put(c, span_sub(buf_span(&content), at, at + n < content.n ? n : content.n - at), &packed), 0);
            if (n % 3 != 0) continue;
            assert_int_equal(coder_flush(c, &packed), 0);
            assert_true(packed.n > before); // something is told at each flush
        }
        assert_int_equal(coder_end(c, &packed), 0);
        coder_free(c);
        assert_true(packed.n < content.n / 2);
        assert_int_equal(codecs[i].unpack(&back, buf_span(&packed), CONTENT_BYTES), 0);
        assert_true(span_equal(buf_span(&back), buf_span(&content)));
    }
}

static void a_coder_that_is_given_up_and_a_full_buffer_are_fine(void **state)
{
    (void)state;
    for (int coding = CODING_GZIP; coding <= CODING_ZSTD; coding++) {
        struct buf small;
        struct coder *c = coder_new((enum coding)coding);
        buf_init(&small, 100);
        int err = coder_put(c, buf_span(&content), &small);
        if (err == 0) err = coder_flush(c, &small);
        assert_int_equal(err, ERR_TOO_LARGE);
        assert_int_equal(coder_end(c, &small), ERR_TOO_LARGE);
        coder_free(c);
        buf_free(&small);
    }
    coder_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(content_comes_back_at_every_level),
        TEST(both_append),
        TEST(nothing_comes_back_as_nothing),
        TEST(content_beyond_the_maximum_is_refused_and_leaves_the_buffer),
        TEST(a_bomb_is_stopped_at_the_maximum),
        TEST(a_result_beyond_the_buffer_is_a_sticky_error),
        TEST(every_truncation_is_corrupt),
        TEST(what_follows_the_one_frame_is_corrupt),
        TEST(what_is_no_frame_is_corrupt),
        TEST(a_changed_gzip_byte_is_seen),
        TEST(a_frame_without_a_size_is_unpacked),
        TEST(a_window_larger_than_8_mib_is_refused),
        TEST(what_is_made_piece_by_piece_comes_back),
        TEST(a_coder_that_is_given_up_and_a_full_buffer_are_fine),
        TEST(threads_work_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
