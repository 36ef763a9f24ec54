// Reading ranges, damage, and the check of everything.
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_keys.h"
#include "blob_lab.h"
#include "db.h"
#include "err.h"
#include "file.h"
#include "log.h"

static int setup(void **state)
{
    struct blob_lab *lab = calloc(1, sizeof *lab);
    lab_open(lab);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    lab_close(*state);
    free(*state);
    return 0;
}

// Offsets at which chunks of the content end, the last one included.
static size_t edges_of(struct span content, uint64_t *edges, size_t max)
{
    size_t count = 0;
    for (size_t at = 0; at < content.n; count++) {
        at += blobs_cut(span_sub(content, at, content.n));
        assert_true(count < max);
        edges[count] = at;
    }
    return count;
}

static void assert_range(struct blob_lab *lab, struct span content, uint64_t from, uint64_t n, size_t budget)
{
    struct sha256 digest = sha256_of(content);
    struct buf out;
    buf_init(&out, n + 1);
    assert_int_equal(lab_read(lab, &digest, from, n, budget, &out), 0);
    assert_true(span_equal(buf_span(&out), span_sub(content, from, n)));
    buf_free(&out);
}

static void ranges_read_right_at_every_chunk_edge(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    uint64_t edges[128];
    uint8_t *p = random_content(n, 1);
    struct span content = SPAN(p, n);
    assert_int_equal(lab_upload(lab, content, NULL), 0);
    size_t count = edges_of(content, edges, 128);
    for (size_t i = 0; i < count; i++) {
        for (uint64_t from = edges[i] - 2; from <= edges[i] + 1 && from < n; from++) {
            assert_range(lab, content, from, 1, 64 * KIB);
            uint64_t rest = n - from;
            assert_range(lab, content, from, rest < 3 ? rest : 3, 1);
            assert_range(lab, content, from, rest < 300000 ? rest : 300000, 1);
        }
        assert_range(lab, content, edges[i], 0, 1);
    }
    assert_range(lab, content, 0, n, 1 * MIB);
    assert_range(lab, content, 0, n, SIZE_MAX);
    assert_range(lab, content, 0, 1, 0);
    assert_range(lab, content, n, 0, 1);
    free(p);
}

static void ranges_outside_are_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest, other = {{1}};
    struct blob_reader *r;
    assert_int_equal(lab_upload(lab, SPAN_LIT("ten bytes."), &digest), 0);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 11, 0, &r), ERR_RANGE_NOT_SATISFIABLE);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 5, 6, &r), ERR_RANGE_NOT_SATISFIABLE);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 5, UINT64_MAX, &r), ERR_RANGE_NOT_SATISFIABLE);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &other, 0, 0, &r), ERR_NO_SUCH_BLOB);
}

// More chunks than one page of the manifest holds.
static void blob_of_several_pages_reads_from_any_of_them(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 40 * MIB;
    uint8_t *p = random_content(n, 2);
    struct span content = SPAN(p, n);
    assert_int_equal(lab_upload(lab, content, NULL), 0);
    uint64_t edges[2 * PAGE_CHUNKS + 400];
    size_t count = edges_of(content, edges, sizeof edges / sizeof *edges);
    assert_true(count > 2 * PAGE_CHUNKS);
    for (size_t page = 1; page <= 2; page++) {
        uint64_t edge = edges[page * PAGE_CHUNKS - 1];
        for (uint64_t from = edge - 1; from <= edge + 1; from++) {
            assert_range(lab, content, from, 2, 64 * KIB);
            assert_range(lab, content, from - 400000, 800000, 64 * KIB);
        }
    }
    assert_true(lab_holds(lab, content));
    assert_range(lab, content, n - 1, 1, 1);
    free(p);
}

// ---- damage ----------------------------------------------------------------------------------------------------

static void flip_byte(struct blob_lab *lab, uint64_t position)
{
    uint8_t byte;
    char *path = lab_pack_path(lab, 1);
    int fd = file_open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(file_read(fd, &byte, 1, position), 0);
    byte ^= 0x10;
    assert_int_equal(file_write(fd, SPAN(&byte, 1), position), 0);
    file_close(fd);
    free(path);
}

static int read_range(struct blob_lab *lab, const struct sha256 *digest, uint64_t from, uint64_t to)
{
    struct buf out;
    buf_init(&out, to - from);
    int err = lab_read(lab, digest, from, to - from, 64 * KIB, &out);
    buf_free(&out);
    return err;
}

// Content and its digest, stored; where its second chunk lies.
static uint64_t second_record(struct blob_lab *lab, struct span content, struct sha256 *digest, uint64_t edges[128], size_t *count)
{
    assert_int_equal(lab_upload(lab, content, digest), 0);
    *count = edges_of(content, edges, 128);
    assert_true(*count > 3);
    return blob_record_bytes((uint32_t)edges[0]); // stored raw: the records lie in order
}

static void damaged_byte_fails_its_chunk_and_no_other(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB, count;
    uint64_t edges[128];
    struct sha256 digest;
    uint8_t *p = random_content(n, 3);
    uint64_t at = second_record(lab, SPAN(p, n), &digest, edges, &count);
    // In the head, in the payload's first, middle and last byte: each alone is noticed.
    const uint64_t spots[] = {at, at + 20, at + RECORD_HEAD_BYTES, at + 5000, at + RECORD_HEAD_BYTES + edges[1] - edges[0] - 1};
    for (size_t i = 0; i < sizeof spots / sizeof *spots; i++) {
        flip_byte(lab, spots[i]);
        assert_int_equal(read_range(lab, &digest, edges[0], edges[1]), ERR_CORRUPT);
        assert_int_equal(read_range(lab, &digest, 0, n), ERR_CORRUPT);
        assert_int_equal(read_range(lab, &digest, edges[1] - 1, edges[1]), ERR_CORRUPT);
        assert_int_equal(read_range(lab, &digest, 0, edges[0]), 0);
        assert_int_equal(read_range(lab, &digest, edges[1], n), 0);
        flip_byte(lab, spots[i]);
        assert_int_equal(read_range(lab, &digest, 0, n), 0);
    }
    free(p);
}

static void damaged_packed_chunk_is_noticed(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 500000;
    struct sha256 digest;
    uint8_t *p = text_content(n, 4);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    flip_byte(lab, RECORD_HEAD_BYTES + 1000);
    assert_int_equal(read_range(lab, &digest, 0, 10), ERR_CORRUPT);
    assert_int_equal(read_range(lab, &digest, n - 10, n), 0);
    free(p);
}

static void another_valid_record_at_the_place_is_noticed(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    char *first = lab_pack_path(lab, 1);
    struct buf pack;
    buf_init(&pack, 4096);
    assert_int_equal(lab_upload(lab, SPAN_LIT("these bytes"), &digest), 0);
    assert_int_equal(lab_upload(lab, SPAN_LIT("other bytes"), NULL), 0);
    assert_int_equal(file_slurp(&pack, first), 0);
    int fd = file_open(first, O_RDWR);
    assert_int_equal(file_write(fd, SPAN(pack.p + blob_record_bytes(11), blob_record_bytes(11)), 0), 0);
    file_close(fd);
    assert_int_equal(read_range(lab, &digest, 0, 11), ERR_CORRUPT);
    buf_free(&pack);
    free(first);
}

static void missing_or_short_pack_reads_as_damage(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB, count;
    uint64_t edges[128];
    struct sha256 digest;
    uint8_t *p = random_content(n, 5);
    uint64_t at = second_record(lab, SPAN(p, n), &digest, edges, &count);
    char *path = lab_pack_path(lab, 1);
    assert_int_equal(truncate(path, (off_t)at + 100), 0);
    assert_int_equal(read_range(lab, &digest, 0, edges[0]), 0);
    assert_int_equal(read_range(lab, &digest, 0, edges[0] + 1), ERR_CORRUPT);
    assert_int_equal(unlink(path), 0);
    lab_reopen(lab);
    assert_int_equal(read_range(lab, &digest, 0, 1), ERR_CORRUPT);
    free(path);
    free(p);
}

// ---- checks ----------------------------------------------------------------------------------------------------

static void check_counts_blobs_and_finds_every_damage(void **state)
{
    struct blob_lab *lab = *state;
    uint8_t *p = random_content(1 * MIB, 6);
    uint64_t checked = 0;
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
    assert_int_equal(checked, 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(lab_upload(lab, SPAN(p, i * 300000), NULL), 0);
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
    assert_int_equal(checked, 4);
    flip_byte(lab, 5000);
    checked = 0;
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), ERR_CORRUPT);
    assert_int_equal(checked, 4); // it goes on behind what it found
    flip_byte(lab, 5000);
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
    free(p);
}

static void damaged_chunk_list_is_found_by_check_and_reader(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    struct buf page;
    uint64_t checked;
    assert_int_equal(lab_upload(lab, SPAN_LIT("some bytes"), &digest), 0);
    struct blob_info info;
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    struct blob_key key = blob_page_key(info.pages, 0);
    struct sha256 absent = {{9}};
    buf_init(&page, 4096);
    blob_page_begin(&page);
    blob_page_put(&page, &absent, 10); // names a chunk that is not stored
    db_put(lab->txn, 3, blob_key_span(&key), buf_span(&page));
    assert_int_equal(read_range(lab, &digest, 0, 10), ERR_CORRUPT);
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), ERR_CORRUPT);
    db_del(lab->txn, 3, blob_key_span(&key));
    assert_int_equal(read_range(lab, &digest, 0, 10), ERR_CORRUPT);
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), ERR_CORRUPT);
    buf_free(&page);
}

// The claim that the index can be made again: every record is found by going through the pack, garbage passed over.
static void every_chunk_is_found_by_scanning_the_pack(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 7);
    uint64_t edges[128];
    struct buf pack;
    char *path = lab_pack_path(lab, 1);
    buf_init(&pack, 4 * MIB);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    size_t count = edges_of(SPAN(p, n), edges, 128), found = 0;
    assert_int_equal(file_slurp(&pack, path), 0);
    memset(pack.p, 0xee, 1000); // the first record is garbage now
    for (size_t at = 0; at + RECORD_HEAD_BYTES <= pack.n;) {
        struct chunk chunk;
        struct span head = SPAN(pack.p + at, RECORD_HEAD_BYTES);
        bool good = blob_record_head_decode(head, &chunk) == 0 &&
                    blob_record_verify(head, span_sub(buf_span(&pack), at + RECORD_HEAD_BYTES, chunk.place.stored));
        if (good) {
            struct sha256 sha = sha256_of(span_sub(SPAN(p, n), edges[found], chunk.place.length));
            assert_true(sha256_equal(&sha, &chunk.sha));
            found++;
        }
        at += good ? blob_record_bytes(chunk.place.stored) : RECORD_ALIGN;
    }
    assert_int_equal(found, count - 1);
    buf_free(&pack);
    free(path);
    free(p);
}

// ---- threads ---------------------------------------------------------------------------------------------------

struct job {
    struct blob_reader *r;
    struct buf out;
    bool done;
    int err;
};

static void *run_read(void *arg)
{
    struct job *j = arg;
    j->err = blobs_reader_read(j->r, &j->out);
    j->done = blobs_reader_done(j->r);
    return NULL;
}

static void readers_on_other_threads_see_the_same_bytes(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    struct sha256 digest;
    uint8_t *p = random_content(n, 8);
    struct job jobs[2];
    pthread_t threads[2];
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    lab_reopen(lab); // no pack is open yet
    for (int i = 0; i < 2; i++) {
        jobs[i] = (struct job){.err = 0};
        buf_init(&jobs[i].out, n);
        assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 0, n, &jobs[i].r), 0);
    }
    while (!jobs[0].done) {
        for (int i = 0; i < 2; i++) {
            assert_int_equal(blobs_reader_next(jobs[i].r, lab->txn, 500000), 0);
            assert_int_equal(pthread_create(&threads[i], NULL, run_read, &jobs[i]), 0);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(jobs[i].err, 0);
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_true(jobs[i].done && span_equal(buf_span(&jobs[i].out), SPAN(p, n)));
        blobs_reader_close(jobs[i].r);
        buf_free(&jobs[i].out);
    }
    free(p);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ranges_read_right_at_every_chunk_edge),
        T(ranges_outside_are_refused),
        T(blob_of_several_pages_reads_from_any_of_them),
        T(damaged_byte_fails_its_chunk_and_no_other),
        T(damaged_packed_chunk_is_noticed),
        T(another_valid_record_at_the_place_is_noticed),
        T(missing_or_short_pack_reads_as_damage),
        T(check_counts_blobs_and_finds_every_damage),
        T(damaged_chunk_list_is_found_by_check_and_reader),
        T(every_chunk_is_found_by_scanning_the_pack),
        T(readers_on_other_threads_see_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
