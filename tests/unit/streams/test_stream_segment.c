#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "stream_segment.h"
#include "tmp.h"

// A record of stream 7, bytes [100, 105) of three appends, the last of which goes on.
static void encode(struct buf *out, uint32_t file, uint64_t start, struct stream_index *ix)
{
    static const struct boundary bounds[] = {{101, 5, 1}, {103, 5, 1}, {200, 9, 2}};
    struct bytes *data = bytes_new(SPAN_LIT("..hello"));
    struct tail_piece pieces[] = {{data, 2, 3}, {data, 5, 2}};
    struct segment_source src = {
        .number = 7,
        .first = 100,
        .raw = 5,
        .cut = true,
        .bounds = bounds,
        .bound_count = 3,
        .pieces = pieces,
        .piece_count = 2,
    };
    size_t before = out->n;
    stream_segment_encode(out, &src, file, start);
    assert_int_equal(out->err, 0);
    *ix = (struct stream_index){.first = 100, .raw = 5, .total = (uint32_t)(out->n - before), .file = file, .position = start + before};
    bytes_unref(data);
}

static void a_record_reads_back(void **state)
{
    (void)state;
    struct buf b;
    struct stream_index ix;
    struct segment_record r;
    struct segment_bounds bounds;
    buf_init(&b, 10000);
    encode(&b, 3, 512, &ix);
    assert_int_equal(ix.total % 8, 0);
    assert_int_equal(stream_segment_decode(buf_span(&b), 7, &ix, &r), 0);
    assert_true(span_is(r.payload, "hello"));
    assert_true(r.cut);
    stream_segment_bounds_init(&bounds, &r);
    assert_true(stream_segment_bounds_next(&bounds));
    assert_int_equal(bounds.end, 101);
    assert_int_equal(bounds.seq, 5);
    assert_true(stream_segment_bounds_next(&bounds));
    assert_int_equal(bounds.end, 103);
    assert_true(stream_segment_bounds_next(&bounds));
    assert_int_equal(bounds.end, 105); // where the record ends, not the append
    assert_int_equal(bounds.seq, 9);
    assert_false(stream_segment_bounds_next(&bounds));
    assert_int_equal(bounds.c.err, 0);
    buf_free(&b);
}

static void each_flipped_bit_is_found(void **state)
{
    (void)state;
    struct buf b;
    struct stream_index ix;
    struct segment_record r;
    buf_init(&b, 10000);
    encode(&b, 0, 0, &ix);
    for (size_t i = 0; i < b.n * 8; i++) {
        b.p[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(stream_segment_decode(buf_span(&b), 7, &ix, &r), ERR_CORRUPT);
        b.p[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(stream_segment_decode(buf_span(&b), 7, &ix, &r), 0);
    buf_free(&b);
}

static void a_record_elsewhere_is_no_record(void **state)
{
    (void)state;
    struct buf b;
    struct stream_index ix, other;
    struct segment_record r;
    buf_init(&b, 10000);
    encode(&b, 1, 4096, &ix);
    other = ix, other.file = 2;
    assert_int_equal(stream_segment_decode(buf_span(&b), 7, &other, &r), ERR_CORRUPT);
    other = ix, other.position = 512;
    assert_int_equal(stream_segment_decode(buf_span(&b), 7, &other, &r), ERR_CORRUPT);
    other = ix, other.first = 99;
    assert_int_equal(stream_segment_decode(buf_span(&b), 7, &other, &r), ERR_CORRUPT);
    assert_int_equal(stream_segment_decode(buf_span(&b), 8, &ix, &r), ERR_CORRUPT);
    assert_int_equal(stream_segment_decode(span_sub(buf_span(&b), 0, 20), 7, &ix, &r), ERR_CORRUPT);
    assert_int_equal(stream_segment_decode(SPAN_NONE, 7, &ix, &r), ERR_CORRUPT);
    buf_free(&b);
}

static uint64_t size_of(const char *folder, uint32_t file)
{
    char name[SEGMENT_NAME_MAX];
    uint64_t size = 0;
    stream_segment_name(name, folder, file);
    int fd = file_open(name, 0);
    if (fd < 0) return UINT64_MAX;
    assert_int_equal(file_size(fd, &size), 0);
    file_close(fd);
    return size;
}

static void opening_cuts_off_what_nothing_indexes(void **state)
{
    (void)state;
    char *folder = tmp_make();
    struct segments g;
    struct stream_alloc a = {.file = 1, .position = 512};
    uint8_t data[1024] = {0};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(stream_segment_write(folder, i, 0, SPAN(data, sizeof data)), 0);
    assert_int_equal(stream_segments_open(&g, folder, &a), 0);
    assert_int_equal(size_of(folder, 0), 1024); // full, and indexed
    assert_int_equal(size_of(folder, 1), 512);
    assert_true(size_of(folder, 2) == UINT64_MAX);
    assert_true(size_of(folder, 3) == UINT64_MAX);
    assert_int_equal(a.file, 1);
    stream_segments_close(&g);
    tmp_remove(folder);
}

static void a_file_that_lost_bytes_is_not_written_to_again(void **state)
{
    (void)state;
    char *folder = tmp_make();
    struct segments g;
    struct stream_alloc a = {.file = 0, .position = 1024};
    assert_int_equal(stream_segment_write(folder, 0, 0, SPAN_LIT("short")), 0);
    assert_int_equal(stream_segments_open(&g, folder, &a), 0);
    assert_int_equal(a.file, 1);
    assert_int_equal(a.position, 0);
    stream_segments_close(&g);
    tmp_remove(folder);
}

static void a_kept_record_is_not_read_again(void **state)
{
    (void)state;
    char *folder = tmp_make(), name[SEGMENT_NAME_MAX];
    struct segments g;
    struct stream_alloc a = {0};
    struct buf b;
    struct stream_index ix[SEGMENT_RECORDS + 1];
    const struct segment_record *r;
    assert_int_equal(stream_segments_open(&g, folder, &a), 0);
    buf_init(&b, 10000);
    for (int i = 0; i <= SEGMENT_RECORDS; i++)
        encode(&b, 0, 0, &ix[i]);
    assert_int_equal(stream_segment_write(folder, 0, 0, buf_span(&b)), 0);
    assert_int_equal(stream_segments_read(&g, 7, &ix[0], &r), 0);
    stream_segment_name(name, folder, 0);
    assert_int_equal(truncate(name, 0), 0);
    assert_int_equal(stream_segments_read(&g, 7, &ix[0], &r), 0); // from memory
    assert_true(span_is(r->payload, "hello"));
    assert_int_equal(stream_segments_read(&g, 7, &ix[1], &r), ERR_CORRUPT);
    assert_int_equal(stream_segment_write(folder, 0, 0, buf_span(&b)), 0);
    for (int i = 1; i <= SEGMENT_RECORDS; i++)
        assert_int_equal(stream_segments_read(&g, 7, &ix[i], &r), 0);
    assert_int_equal(truncate(name, 0), 0);
    assert_int_equal(stream_segments_read(&g, 7, &ix[0], &r), ERR_CORRUPT); // pushed out by the others
    buf_free(&b);
    stream_segments_close(&g);
    tmp_remove(folder);
}

static void a_write_that_fails_leaves_nothing(void **state)
{
    (void)state;
    assert_true(stream_segment_write("/dev/null/none", 0, 0, SPAN_LIT("x")) < 0);
    char *folder = tmp_make();
    assert_int_equal(stream_segment_write(folder, 0, 0, SPAN_LIT("12345678")), 0);
    stream_segment_cut(folder, 0, 4);
    assert_int_equal(size_of(folder, 0), 4);
    stream_segment_cut(folder, 0, 0);
    assert_true(size_of(folder, 0) == UINT64_MAX);
    tmp_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_reads_back),
        cmocka_unit_test(each_flipped_bit_is_found),
        cmocka_unit_test(a_record_elsewhere_is_no_record),
        cmocka_unit_test(opening_cuts_off_what_nothing_indexes),
        cmocka_unit_test(a_file_that_lost_bytes_is_not_written_to_again),
        cmocka_unit_test(a_kept_record_is_not_read_again),
        cmocka_unit_test(a_write_that_fails_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
