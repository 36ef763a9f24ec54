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
#include "limits.h"
#include "stream_segments.h"
#include "tmp.h"

// A record of stream 7, bytes [100, 105) of three appends, the last of which goes on; and one byte of stream 5.
static void encode(struct buf *out, uint32_t file, uint64_t start, struct stream_index *ix)
{
    struct segment_writer w;
    size_t before = out->n;
    stream_segment_writer_init(&w);
    stream_segment_part_begin(&w, 7, 100);
    stream_segment_part_append(&w, 101, 5);
    stream_segment_part_append(&w, 103, 5);
    stream_segment_part_append(&w, 105, 9);
    stream_segment_part_bytes(&w, SPAN_LIT("hel"));
    stream_segment_part_bytes(&w, SPAN_LIT("lo"));
    stream_segment_part_end(&w, true);
    stream_segment_part_begin(&w, 5, 0);
    stream_segment_part_append(&w, 1, 3);
    stream_segment_part_bytes(&w, SPAN_LIT("!"));
    stream_segment_part_end(&w, false);
    assert_int_equal(stream_segment_encode(&w, out, file, start), 0);
    assert_int_equal(stream_segment_raw(&w), 0);
    *ix = (struct stream_index){.first = 100, .raw = 5, .total = (uint32_t)(out->n - before), .file = file, .position = start + before};
    stream_segment_writer_free(&w);
}

static int decode(struct span s, const struct stream_index *ix)
{
    struct segment_block b;
    return stream_segment_decode(s, ix->file, ix->position, &b);
}

static void a_record_reads_back(void **state)
{
    (void)state;
    struct buf b, room;
    struct stream_index ix;
    struct segment_block block;
    struct segment_parts parts;
    struct segment_record r;
    struct segment_bounds bounds;
    struct span directory, payload;
    uint32_t total;
    buf_init(&b, 10000);
    buf_init(&room, 10000);
    encode(&b, 3, 512, &ix);
    assert_int_equal(ix.total % 8, 0);
    assert_int_equal(stream_segment_length(buf_span(&b), &total), 0);
    assert_int_equal(total, ix.total);
    assert_int_equal(stream_segment_decode(buf_span(&b), 3, 512, &block), 0);
    assert_int_equal(block.parts, 2);
    assert_int_equal(stream_segment_payload(&block, &room, &payload), 0);
    assert_true(span_is(payload, "hello!"));
    assert_int_equal(stream_segment_directory(&block, &room, &directory), 0);
    stream_segment_parts_init(&parts, &block, directory);
    assert_true(stream_segment_parts_next(&parts, &r));
    assert_int_equal(r.number, 7);
    assert_int_equal(r.first, 100);
    assert_int_equal(r.raw, 5);
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
    assert_int_equal(stream_segment_bounds_err(&bounds), 0);
    assert_true(stream_segment_parts_next(&parts, &r));
    assert_int_equal(r.number, 5);
    assert_int_equal(r.first_seq, 3);
    assert_int_equal(r.at, 5);
    assert_false(r.cut);
    assert_false(stream_segment_parts_next(&parts, &r));
    assert_int_equal(parts.err, 0);
    buf_free(&room);
    buf_free(&b);
}

// One stream of `n` bytes and as many appends of four.
static size_t packed_size(const uint8_t *p, size_t n, uint8_t *codec)
{
    struct segment_writer w;
    struct segment_block block;
    struct buf out, room;
    struct span payload;
    stream_segment_writer_init(&w);
    buf_init(&out, 8 * MIB);
    buf_init(&room, 8 * MIB);
    stream_segment_part_begin(&w, 1, 0);
    for (size_t i = 0; i < n; i += 4)
        stream_segment_part_append(&w, i + 4, 1000 + i);
    stream_segment_part_bytes(&w, SPAN(p, n));
    stream_segment_part_end(&w, false);
    assert_int_equal(stream_segment_encode(&w, &out, 0, 0), 0);
    assert_int_equal(stream_segment_decode(buf_span(&out), 0, 0, &block), 0);
    assert_int_equal(stream_segment_payload(&block, &room, &payload), 0);
    assert_true(span_equal(payload, SPAN(p, n)));
    *codec = block.codec;
    size_t size = out.n;
    buf_free(&room);
    buf_free(&out);
    stream_segment_writer_free(&w);
    return size;
}

static void what_packs_is_packed_and_nothing_else(void **state)
{
    (void)state;
    uint8_t codec, *p = malloc(1 * MIB);
    uint32_t x = 1;
    for (size_t i = 0; i < 1 * MIB; i++)
        p[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    assert_true(packed_size(p, 1 * MIB, &codec) < 1 * MIB + 2000); // equal appends cost next to nothing
    assert_int_equal(codec, SEGMENT_PLAIN);
    for (size_t i = 0; i < 1 * MIB; i++)
        p[i] = (uint8_t)("etaoin shrdlu"[p[i] % 13]);
    assert_true(packed_size(p, 1 * MIB, &codec) < 1 * MIB * 6 / 10);
    assert_int_equal(codec, SEGMENT_ZSTD);
    packed_size((const uint8_t *)"aaaaaaaaaaaa", 12, &codec);
    assert_int_equal(codec, SEGMENT_PLAIN);
    free(p);
}

static void each_flipped_bit_is_found(void **state)
{
    (void)state;
    struct buf b;
    struct stream_index ix;
    buf_init(&b, 10000);
    encode(&b, 0, 0, &ix);
    for (size_t i = 0; i < b.n * 8; i++) {
        b.p[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(decode(buf_span(&b), &ix), ERR_CORRUPT);
        b.p[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(decode(buf_span(&b), &ix), 0);
    buf_free(&b);
}

static void a_record_elsewhere_is_no_record(void **state)
{
    (void)state;
    struct buf b;
    struct stream_index ix, other;
    buf_init(&b, 10000);
    encode(&b, 1, 4096, &ix);
    other = ix, other.file = 2;
    assert_int_equal(decode(buf_span(&b), &other), ERR_CORRUPT);
    other = ix, other.position = 512;
    assert_int_equal(decode(buf_span(&b), &other), ERR_CORRUPT);
    assert_int_equal(decode(span_sub(buf_span(&b), 0, 20), &ix), ERR_CORRUPT);
    assert_int_equal(decode(SPAN_NONE, &ix), ERR_CORRUPT);
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
    struct stream_index other = ix[0];
    const struct segment_record *none;
    other.first = 99; // a part that is not in it
    assert_int_equal(stream_segments_read(&g, 7, &other, &none), ERR_CORRUPT);
    assert_int_equal(stream_segments_read(&g, 8, &ix[0], &none), ERR_CORRUPT);
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
        cmocka_unit_test(what_packs_is_packed_and_nothing_else),
        cmocka_unit_test(each_flipped_bit_is_found),
        cmocka_unit_test(a_record_elsewhere_is_no_record),
        cmocka_unit_test(opening_cuts_off_what_nothing_indexes),
        cmocka_unit_test(a_file_that_lost_bytes_is_not_written_to_again),
        cmocka_unit_test(a_kept_record_is_not_read_again),
        cmocka_unit_test(a_write_that_fails_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
