// Layouts: what is refused of a manifest, and that what was written reads back.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_keys.h"
#include "err.h"

static struct chunk a_chunk(uint8_t mark, uint32_t length)
{
    struct chunk c = {.place = {.position = 4096, .pack = 1, .length = length, .stored = length, .codec = CODEC_RAW}};
    memset(c.sha.b, mark, sizeof c.sha.b);
    return c;
}

// Encodes a manifest of the chunks by hand, whatever they are, and decodes it.
static int decode(uint64_t size, const struct chunk *chunks, uint32_t count)
{
    struct buf b;
    struct manifest m;
    buf_init(&b, 1 * MIB);
    blob_manifest_begin(&b, size, count);
    for (uint32_t i = 0; i < count; i++) {
        buf_put(&b, chunks[i].sha.b, SHA256_BYTES);
        buf_put_u8(&b, chunks[i].place.codec);
        buf_put_u32(&b, chunks[i].place.length);
        buf_put_u32(&b, chunks[i].place.stored);
        buf_put_u32(&b, chunks[i].place.pack);
        buf_put_u64(&b, chunks[i].place.position);
    }
    int err = blob_manifest_decode(buf_span(&b), &m);
    buf_free(&b);
    return err;
}

static void manifest_reads_back(void **state)
{
    (void)state;
    struct chunk chunks[2] = {a_chunk(1, 20000), a_chunk(2, 5)}, read;
    struct buf b;
    struct manifest m;
    chunks[0].place.codec = CODEC_ZSTD;
    chunks[0].place.stored = 100;
    chunks[1].place.position = UINT64_C(1) << 33;
    buf_init(&b, 4096);
    blob_manifest_begin(&b, 20005, 2);
    for (int i = 0; i < 2; i++)
        blob_manifest_put(&b, &chunks[i]);
    assert_int_equal(blob_manifest_decode(buf_span(&b), &m), 0);
    assert_int_equal(m.size, 20005);
    assert_int_equal(m.count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        blob_manifest_at(&m, i, &read);
        assert_true(sha256_equal(&read.sha, &chunks[i].sha));
        assert_int_equal(read.place.position, chunks[i].place.position);
        assert_int_equal(read.place.pack, 1);
        assert_int_equal(read.place.length, chunks[i].place.length);
        assert_int_equal(read.place.stored, chunks[i].place.stored);
        assert_int_equal(read.place.codec, chunks[i].place.codec);
    }
    buf_free(&b);
}

static void empty_manifest_is_valid(void **state)
{
    (void)state;
    assert_int_equal(decode(0, NULL, 0), 0);
    assert_int_equal(decode(1, NULL, 0), ERR_BAD_VALUE);
}

static void manifest_whose_lengths_do_not_add_up_is_refused(void **state)
{
    (void)state;
    struct chunk c[2] = {a_chunk(1, 20000), a_chunk(2, 5)};
    assert_int_equal(decode(20005, c, 2), 0);
    assert_int_equal(decode(20004, c, 2), ERR_BAD_VALUE);
    assert_int_equal(decode(20006, c, 2), ERR_BAD_VALUE);
    assert_int_equal(decode(20000, c, 2), ERR_BAD_VALUE);
    assert_int_equal(decode(BLOB_BYTES_MAX + 1, c, 2), ERR_BAD_VALUE);
}

static void short_chunk_in_the_middle_is_refused(void **state)
{
    (void)state;
    struct chunk c[2] = {a_chunk(1, BLOB_CHUNK_MIN), a_chunk(2, 5)};
    assert_int_equal(decode(BLOB_CHUNK_MIN + 5, c, 2), 0);
    c[0] = a_chunk(1, BLOB_CHUNK_MIN - 1);
    assert_int_equal(decode(BLOB_CHUNK_MIN + 4, c, 2), ERR_BAD_VALUE);
}

static void impossible_place_is_refused(void **state)
{
    (void)state;
    struct chunk good = a_chunk(1, 5000), c = good;
    assert_int_equal(decode(5000, &c, 1), 0);
    c.place.pack = 0;
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = good, c.place.position = 4097;
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = good, c.place.position = UINT64_C(1) << 63;
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = good, c.place.stored = 4999;
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = good, c.place.codec = CODEC_ZSTD; // that saves nothing
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = good, c.place.codec = CODEC_ZSTD, c.place.stored = 0;
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = good, c.place.codec = 2;
    assert_int_equal(decode(5000, &c, 1), ERR_BAD_VALUE);
    c = a_chunk(1, 0);
    assert_int_equal(decode(0, &c, 1), ERR_BAD_VALUE);
    c = a_chunk(1, BLOB_CHUNK_MAX + 1);
    assert_int_equal(decode(BLOB_CHUNK_MAX + 1, &c, 1), ERR_BAD_VALUE);
}

static void manifest_with_missing_or_trailing_bytes_is_refused(void **state)
{
    (void)state;
    struct chunk c = a_chunk(1, 77);
    struct manifest m;
    struct buf b;
    buf_init(&b, 4096);
    blob_manifest_begin(&b, 77, 1);
    blob_manifest_put(&b, &c);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(blob_manifest_decode(SPAN(b.p, n), &m), ERR_BAD_VALUE);
    buf_put_u8(&b, 0);
    assert_int_equal(blob_manifest_decode(buf_span(&b), &m), ERR_BAD_VALUE);
    buf_truncate(&b, b.n - 1);
    b.p[0] = BLOB_FORMAT + 1;
    assert_int_equal(blob_manifest_decode(buf_span(&b), &m), ERR_BAD_VALUE);
    buf_free(&b);
}

static void largest_manifest_fits_an_entry(void **state)
{
    (void)state;
    assert_true(BLOB_CHUNKS_MAX * MANIFEST_ENTRY_BYTES + 1024 < ENTRY_BYTES_MAX);
}

static void page_keys_sort_by_offset(void **state)
{
    (void)state;
    struct sha256 digest = {{1, 2, 3}};
    struct uuid pages = {{4, 5}}, read;
    uint64_t offset;
    struct blob_key head = blob_head_key(&digest), low = blob_page_key(pages, 255), high = blob_page_key(pages, 256);
    assert_true(span_compare(blob_key_span(&low), blob_key_span(&high)) < 0);
    assert_true(blob_key_is_page(blob_key_span(&high), &read, &offset));
    assert_true(uuid_equal(read, pages) && offset == 256);
    assert_false(blob_key_is_page(blob_key_span(&head), &read, &offset));
    assert_true(blob_key_is_head(blob_key_span(&head), &digest));
    assert_false(blob_key_is_head(blob_key_span(&low), &digest));
}

static void keys_of_life_come_apart_and_sort_by_time(void **state)
{
    (void)state;
    struct sha256 sha = {{7, 8}}, read;
    struct uuid pages = {{9}}, pages_read;
    uint64_t free_ms;
    uint32_t pack;
    struct blob_key early = life_chunk_key(255, &sha), late = life_chunk_key(256, &sha), trash = life_trash_key(pages), counted = life_pack_key(300);
    assert_true(span_compare(blob_key_span(&early), blob_key_span(&late)) < 0);
    assert_true(life_key_is_chunk(blob_key_span(&late), &free_ms, &read) && free_ms == 256 && sha256_equal(&read, &sha));
    assert_false(life_key_is_blob(blob_key_span(&late), &free_ms, &read));
    assert_false(life_key_is_chunk(blob_key_span(&trash), &free_ms, &read));
    assert_true(life_key_is_trash(blob_key_span(&trash), &pages_read) && uuid_equal(pages_read, pages));
    assert_true(life_key_is_pack(blob_key_span(&counted), &pack) && pack == 300);
    assert_false(life_key_is_pack(blob_key_span(&trash), &pack));
}

static void steps_come_back_and_damaged_ones_are_refused(void **state)
{
    (void)state;
    struct sha256 shas[2] = {{{1}}, {{2}}};
    struct blob_step steps[] = {{.kind = STEP_PIN, .digest = shas[0]},
                                {.kind = STEP_UNPIN, .digest = shas[1]},
                                {.kind = STEP_EXPIRE, .digest = shas[0], .before_ms = 77},
                                {.kind = STEP_SWEEP, .pages = {{5}}},
                                {.kind = STEP_FORGET, .chunks = SPAN((const uint8_t *)shas, sizeof shas)}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct blob_step read;
        struct buf b;
        buf_init(&b, 4096);
        blob_step_encode(&b, &steps[i]);
        assert_int_equal(blob_step_decode(buf_span(&b), &read), 0);
        assert_true(read.kind == steps[i].kind && sha256_equal(&read.digest, &steps[i].digest) && read.before_ms == steps[i].before_ms);
        assert_true(uuid_equal(read.pages, steps[i].pages) && span_equal(read.chunks, steps[i].chunks));
        for (size_t n = 0; n < b.n; n++)
            assert_int_equal(blob_step_decode(SPAN(b.p, n), &read), ERR_BAD_VALUE);
        buf_put_u8(&b, 0);
        assert_int_equal(blob_step_decode(buf_span(&b), &read), ERR_BAD_VALUE);
        buf_free(&b);
    }
}

static void assert_head_comes_back(const struct blob_info *info, size_t most)
{
    struct blob_info read = {.size = 0};
    struct buf b;
    buf_init(&b, 4096);
    blob_head_encode(&b, info);
    assert_in_range(b.n, 1, most);
    assert_int_equal(blob_head_decode(buf_span(&b), &read), 0);
    assert_memory_equal(&read, info, sizeof read);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(blob_head_decode(SPAN(b.p, n), &read), ERR_CORRUPT);
    b.p[1] = 8; // a flag that is none
    assert_int_equal(blob_head_decode(buf_span(&b), &read), ERR_CORRUPT);
    buf_free(&b);
}

static void heads_come_back_and_small_ones_are_short(void **state)
{
    (void)state;
    struct blob_info info = {.size = 9000, .created_seq = 4711, .type = "application/octet-stream", .pages = blob_pages_id(4711, 0), .free_ms = 1700000000000};
    assert_head_comes_back(&info, 16);
    info.pages = blob_pages_id(4711, UINT64_MAX);
    assert_head_comes_back(&info, 26);
    info.pages = blob_pages_id(4712, 0); // another commit's
    assert_head_comes_back(&info, 32);
    struct blob_info large = {.size = BLOB_BYTES_MAX, .created_seq = UINT64_MAX, .type = "text/plain", .pages = {{0xff, 7}}, .linked = true, .uploads = UINT32_MAX};
    assert_head_comes_back(&large, 64);
    large.pinned = true, large.linked = false, large.free_ms = UINT64_MAX;
    assert_head_comes_back(&large, 64);
}

static void assert_entry_comes_back(const struct chunk_entry *e, size_t most)
{
    struct chunk_entry read = {.refs = 0};
    struct buf b;
    buf_init(&b, 4096);
    chunk_entry_encode(&b, e);
    assert_in_range(b.n, 1, most);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(chunk_entry_decode(SPAN(b.p, n), &read), ERR_CORRUPT);
    assert_int_equal(chunk_entry_decode(buf_span(&b), &read), 0);
    assert_int_equal(read.place.position, e->place.position);
    assert_int_equal(read.place.pack, e->place.pack);
    assert_int_equal(read.place.length, e->place.length);
    assert_int_equal(read.place.stored, e->place.stored);
    assert_int_equal(read.place.codec, e->place.codec);
    assert_int_equal(read.refs, e->refs);
    assert_int_equal(read.damaged, e->damaged);
    assert_int_equal(read.free_ms, e->free_ms);
    b.p[1] ^= 2; // a codec that is none
    assert_int_equal(chunk_entry_decode(buf_span(&b), &read), ERR_CORRUPT);
    buf_put_u8(&b, 0);
    b.p[1] ^= 2;
    assert_int_equal(chunk_entry_decode(buf_span(&b), &read), ERR_CORRUPT);
    buf_free(&b);
}

static void entries_of_chunks_come_back(void **state)
{
    (void)state;
    struct chunk_entry e = {.place = {.position = 64 * MIB, .pack = 1, .length = 9000, .stored = 2500, .codec = CODEC_ZSTD}, .refs = 1};
    assert_entry_comes_back(&e, 13);
    e.damaged = true;
    assert_entry_comes_back(&e, 13);
    e = (struct chunk_entry){.place = {.position = (UINT64_C(1) << 40) - 8, .pack = UINT32_MAX, .length = BLOB_CHUNK_MAX, .stored = BLOB_CHUNK_MAX}, .refs = UINT32_MAX};
    assert_entry_comes_back(&e, 32);
    e.refs = 0, e.free_ms = UINT64_MAX;
    assert_entry_comes_back(&e, 32);
}

// As the number of what lies there, and of how it is counted, would fit otherwise.
static void numbers_of_chunks_that_are_too_large_are_refused(void **state)
{
    (void)state;
    static const uint64_t good[] = {9000, 1, 512, 1, 0}; // length, pack, position, references, free since
    static const uint64_t bad[] = {9000 + (UINT64_C(1) << 32), 1 + (UINT64_C(1) << 32), UINT64_C(1) << 61, 1 + (UINT64_C(1) << 32)};
    struct chunk_entry read;
    struct buf b;
    buf_init(&b, 4096);
    for (size_t wrong = 0; wrong <= 4; wrong++) {
        buf_clear(&b);
        buf_put_u8(&b, BLOB_HEAD_FORMAT);
        buf_put_u8(&b, CODEC_RAW);
        for (size_t i = 0; i < 5; i++)
            buf_put_varint(&b, i == wrong && wrong < 4 ? bad[i] : good[i]);
        assert_int_equal(chunk_entry_decode(buf_span(&b), &read), wrong < 4 ? ERR_CORRUPT : 0);
    }
    buf_free(&b);
}

static void free_blobs_come_in_the_order_of_time_and_commit(void **state)
{
    (void)state;
    struct blob_info early = {.digest = {{9}}, .created_seq = 300, .free_ms = 255}, late = {.digest = {{8}}, .created_seq = 255, .free_ms = 256}, last = late;
    last.digest.b[0] = 1, last.created_seq = 256;
    struct blob_key a = life_blob_key(&early), b = life_blob_key(&late), c = life_blob_key(&last), chunk = life_chunk_key(255, &early.digest), tick = life_tick_key();
    struct sha256 digest;
    uint64_t free_ms;
    assert_true(span_compare(blob_key_span(&a), blob_key_span(&b)) < 0);
    assert_true(span_compare(blob_key_span(&b), blob_key_span(&c)) < 0);
    assert_true(span_compare(blob_key_span(&chunk), blob_key_span(&a)) < 0);
    assert_true(span_compare(blob_key_span(&tick), blob_key_span(&a)) < 0);
    assert_true(life_key_is_blob(blob_key_span(&c), &free_ms, &digest) && free_ms == 256 && sha256_equal(&digest, &last.digest));
    assert_false(life_key_is_chunk(blob_key_span(&c), &free_ms, &digest));
    assert_false(life_key_is_blob(blob_key_span(&chunk), &free_ms, &digest));
}

static void values_of_another_version_are_refused(void **state)
{
    (void)state;
    struct chunk c = a_chunk(1, 77);
    struct blob_info info = {.size = 9, .type = "text/plain"}, info_read;
    struct place place;
    size_t count;
    struct buf b;
    buf_init(&b, 4096);

    blob_place_encode(&b, &c.place);
    assert_int_equal(blob_place_decode(buf_span(&b), &place), 0);
    assert_int_equal(blob_place_decode(SPAN(b.p, b.n - 1), &place), ERR_CORRUPT);
    b.p[0]++;
    assert_int_equal(blob_place_decode(buf_span(&b), &place), ERR_VERSION);
    buf_clear(&b);

    blob_head_encode(&b, &info);
    assert_int_equal(blob_head_decode(buf_span(&b), &info_read), 0);
    assert_string_equal(info_read.type, "text/plain");
    assert_int_equal(blob_head_decode(SPAN(b.p, b.n - 1), &info_read), ERR_CORRUPT);
    b.p[0]++;
    assert_int_equal(blob_head_decode(buf_span(&b), &info_read), ERR_VERSION);
    buf_clear(&b);

    blob_page_begin(&b);
    assert_int_equal(blob_page_decode(buf_span(&b), &count), ERR_CORRUPT); // no page is empty
    blob_page_put(&b, &c.sha, 77);
    assert_int_equal(blob_page_decode(buf_span(&b), &count), 0);
    assert_int_equal(count, 1);
    b.p[0]++;
    assert_int_equal(blob_page_decode(buf_span(&b), &count), ERR_VERSION);
    buf_free(&b);
}

static void record_tells_every_flipped_bit(void **state)
{
    (void)state;
    uint8_t record[RECORD_HEAD_BYTES + 8] = {0};
    uint8_t *payload = record + RECORD_HEAD_BYTES;
    struct chunk c = a_chunk(3, 8), read;
    memcpy(payload, "contents", 8);
    blob_record_encode(record, &c, SPAN(payload, 8));
    for (size_t bit = 0; bit < 8 * sizeof record; bit++) {
        assert_int_equal(blob_record_head_decode(SPAN(record, RECORD_HEAD_BYTES), &read), 0);
        assert_true(blob_record_verify(SPAN(record, RECORD_HEAD_BYTES), SPAN(payload, 8)));
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(blob_record_verify(SPAN(record, RECORD_HEAD_BYTES), SPAN(payload, 8)));
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(sha256_equal(&read.sha, &c.sha) && read.place.length == 8);
    assert_int_equal(blob_record_head_decode(SPAN(record, RECORD_HEAD_BYTES - 1), &read), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest_reads_back),
        cmocka_unit_test(empty_manifest_is_valid),
        cmocka_unit_test(manifest_whose_lengths_do_not_add_up_is_refused),
        cmocka_unit_test(short_chunk_in_the_middle_is_refused),
        cmocka_unit_test(impossible_place_is_refused),
        cmocka_unit_test(manifest_with_missing_or_trailing_bytes_is_refused),
        cmocka_unit_test(largest_manifest_fits_an_entry),
        cmocka_unit_test(page_keys_sort_by_offset),
        cmocka_unit_test(keys_of_life_come_apart_and_sort_by_time),
        cmocka_unit_test(steps_come_back_and_damaged_ones_are_refused),
        cmocka_unit_test(heads_come_back_and_small_ones_are_short),
        cmocka_unit_test(entries_of_chunks_come_back),
        cmocka_unit_test(numbers_of_chunks_that_are_too_large_are_refused),
        cmocka_unit_test(free_blobs_come_in_the_order_of_time_and_commit),
        cmocka_unit_test(values_of_another_version_are_refused),
        cmocka_unit_test(record_tells_every_flipped_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
