// Giving out what was verified as it lies; reading uploads under way; what moves or goes meanwhile.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "blob_store.h"
#include "compress.h"
#include "err.h"
#include "file.h"

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

// What a reader gave: how often as it lies, and how often it had to be read.
struct given {
    struct buf bytes;
    size_t pieces, files, reads;
};

static void take_piece(struct blob_piece *p, struct given *g)
{
    g->pieces++;
    if (p->bytes != NULL) {
        buf_put_span(&g->bytes, bytes_span(p->bytes));
        bytes_unref(p->bytes);
        return;
    }
    uint8_t *to = buf_reserve(&g->bytes, p->n);
    assert_non_null(to);
    assert_int_equal(file_read(p->fd, to, p->n, p->position), 0);
    g->bytes.n += p->n;
    g->files++;
    file_close(p->fd);
}

// Takes everything that is there now. Returns the first error.
static int take_all(struct blob_lab *lab, struct blob_reader *r, struct given *g)
{
    struct blob_piece piece;
    while (!blobs_reader_done(r)) {
        int err = blobs_reader_planned(r) ? 0 : blobs_reader_next(r, lab->txn, 300000);
        if (err != 0 || (!blobs_reader_planned(r) && !blobs_reader_done(r))) return err;
        int got;
        while ((got = blobs_reader_piece(r, &piece)) == 1)
            take_piece(&piece, g);
        if (got < 0) return got;
        if (!blobs_reader_planned(r)) continue;
        g->reads++;
        err = blobs_reader_read(r, &g->bytes);
        if (err != 0) return err;
    }
    return 0;
}

static struct given read_range(struct blob_lab *lab, const struct sha256 *digest, uint64_t from, uint64_t n, bool coded)
{
    struct blob_reader *r;
    struct given g = {.reads = 0};
    buf_init(&g.bytes, 64 * MIB);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, digest, from, n, &r), 0);
    if (coded) blobs_reader_code(r);
    assert_int_equal(take_all(lab, r, &g), 0);
    blobs_reader_close(r);
    return g;
}

static void chunk_goes_as_it_lies_once_it_was_verified(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    struct sha256 digest;
    uint8_t *p = random_content(n, 1);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    lab_reopen(lab);
    struct given first = read_range(lab, &digest, 0, n, false);
    struct given second = read_range(lab, &digest, 0, n, false);
    assert_true(span_equal(buf_span(&first.bytes), SPAN(p, n)) && span_equal(buf_span(&second.bytes), SPAN(p, n)));
    assert_int_equal(first.pieces, 0);
    assert_int_equal(second.reads, 0);
    assert_true(second.files > 4);
    struct given small = read_range(lab, &digest, 1000000, 4096, false);
    assert_true(small.pieces >= 1 && small.files == 0 && span_equal(buf_span(&small.bytes), SPAN(p + 1000000, 4096)));
    lab_reopen(lab); // a start forgets
    struct given again = read_range(lab, &digest, 1000000, 4096, false);
    assert_int_equal(again.pieces, 0);
    buf_free(&first.bytes), buf_free(&second.bytes), buf_free(&small.bytes), buf_free(&again.bytes);
    free(p);
}

static void packed_chunk_goes_as_a_frame_and_a_raw_one_is_made_one(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    struct sha256 digest;
    uint8_t *text = text_content(n, 2), *noise = random_content(n, 3);
    struct buf all, back;
    buf_init(&all, 8 * MIB);
    buf_init(&back, 8 * MIB);
    buf_put(&all, text, n), buf_put(&all, noise, n);
    assert_int_equal(lab_upload(lab, buf_span(&all), &digest), 0);
    for (int round = 0; round < 2; round++) {
        struct given g = read_range(lab, &digest, 0, 2 * n, true);
        assert_true(g.bytes.n < 2 * n);
        assert_true(round == 0 ? g.pieces == 0 : g.pieces > 0);
        buf_free(&g.bytes);
    }
    // One frame for each chunk.
    for (uint64_t at = 0; at < all.n;) {
        struct blob_reader *r;
        struct buf frame;
        size_t length = blobs_cut(span_sub(buf_span(&all), at, all.n));
        buf_init(&frame, 1 * MIB);
        assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, at, length, &r), 0);
        blobs_reader_code(r);
        assert_int_equal(blobs_reader_next(r, lab->txn, length), 0);
        assert_int_equal(blobs_reader_read(r, &frame), 0);
        assert_int_equal(zstd_unpack(&back, buf_span(&frame), BLOB_CHUNK_MAX), 0);
        blobs_reader_close(r);
        buf_free(&frame);
        at += length;
    }
    assert_true(span_equal(buf_span(&back), buf_span(&all)));
    buf_free(&all), buf_free(&back);
    free(text), free(noise);
}

static void pack_that_goes_after_planning_is_still_read(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 200000;
    struct sha256 digest;
    struct blob_reader *r;
    struct buf out;
    uint8_t *p = random_content(n, 4);
    char *path = lab_pack_path(lab, 1);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    lab_reopen(lab);
    buf_init(&out, n);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 0, n, &r), 0);
    assert_int_equal(blobs_reader_next(r, lab->txn, n), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(blobs_reader_read(r, &out), 0);
    assert_true(blobs_reader_done(r) && span_equal(buf_span(&out), SPAN(p, n)));
    blobs_reader_close(r);
    buf_free(&out);
    free(path);
    free(p);
}

static void damaged_byte_is_met_by_who_needs_it_and_what_lies_before_is_given(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    struct sha256 digest;
    struct blob_reader *r;
    struct given g = {.reads = 0};
    uint8_t *p = random_content(n, 5), byte;
    char *path = lab_pack_path(lab, 1);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    lab_reopen(lab);
    // Somewhere in the second half of the pack.
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 3 * MIB / 2), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 3 * MIB / 2), 1);
    close(fd);
    buf_init(&g.bytes, 4 * MIB);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 0, n, &r), 0);
    assert_int_equal(take_all(lab, r, &g), ERR_CORRUPT);
    assert_true(g.bytes.n >= 1 * MIB && span_equal(buf_span(&g.bytes), SPAN(p, g.bytes.n)));
    blobs_reader_close(r);
    struct given half = read_range(lab, &digest, 0, 1 * MIB, false);
    assert_true(span_equal(buf_span(&half.bytes), SPAN(p, 1 * MIB)));
    buf_free(&half.bytes);
    buf_free(&g.bytes);
    free(path);
    free(p);
}

// ---- uploads under way ---------------------------------------------------------------------------------------------

// The rest, and with it the end, as one batch of two operations would bring them.
static void bring_the_end(struct blob_lab *lab, struct uuid id, struct span rest)
{
    struct blob_upload *u;
    struct sha256 digest;
    struct buf a, b;
    buf_init(&a, 1 * MIB), buf_init(&b, 8 * KIB);
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), 0);
    assert_int_equal(blobs_upload_load(u), 0);
    assert_int_equal(lab_feed(lab, u, rest, true), 0);
    blobs_upload_progress(u, &a);
    blobs_upload_complete(u, &b, &digest);
    assert_int_equal(lab_upload_op(lab, buf_span(&a)), 0);
    assert_int_equal(lab_upload_op(lab, buf_span(&b)), 0);
    blobs_upload_close(u);
    buf_free(&a), buf_free(&b);
}

static void upload_is_read_up_to_its_offset_and_goes_on_as_its_blob(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 600000, steps[] = {0, 10, 5000, 300000, 300001, 550000};
    struct uuid id = uuid_new();
    struct blob_reader *r;
    struct given g = {.reads = 0};
    uint8_t *p = random_content(n, 6);
    buf_init(&g.bytes, 4 * MIB);
    assert_int_equal(blobs_reader_open_upload(lab->blobs, lab->txn, id, 0, UINT64_MAX, &r), ERR_NO_SUCH_UPLOAD);
    for (size_t i = 1; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(lab_upload_piece(lab, id, SPAN(p, n), steps[i - 1], steps[i]), 0);
        if (i == 1) assert_int_equal(blobs_reader_open_upload(lab->blobs, lab->txn, id, 0, UINT64_MAX, &r), 0);
        assert_int_equal(take_all(lab, r, &g), 0);
        assert_int_equal(g.bytes.n, steps[i]);
        assert_false(blobs_reader_done(r));
    }
    bring_the_end(lab, id, SPAN(p + 550000, n - 550000));
    assert_int_equal(take_all(lab, r, &g), 0);
    assert_true(blobs_reader_done(r) && span_equal(buf_span(&g.bytes), SPAN(p, n)));
    blobs_reader_close(r);
    // Behind its end it is read as the blob.
    buf_clear(&g.bytes);
    assert_int_equal(blobs_reader_open_upload(lab->blobs, lab->txn, id, 100000, 200000, &r), 0);
    assert_int_equal(take_all(lab, r, &g), 0);
    assert_true(span_equal(buf_span(&g.bytes), SPAN(p + 100000, 200000)));
    blobs_reader_close(r);
    buf_free(&g.bytes);
    free(p);
}

static void upload_that_is_dropped_ends_its_reader(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct blob_reader *r;
    struct given g = {.reads = 0};
    struct buf op;
    uint8_t *p = random_content(100000, 7);
    buf_init(&g.bytes, 1 * MIB);
    buf_init(&op, 8 * KIB);
    assert_int_equal(lab_upload_piece(lab, id, SPAN(p, 100000), 0, 50000), 0);
    assert_int_equal(blobs_reader_open_upload(lab->blobs, lab->txn, id, 0, UINT64_MAX, &r), 0);
    assert_int_equal(take_all(lab, r, &g), 0);
    blobs_upload_put_drop(&op, id);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    assert_int_equal(take_all(lab, r, &g), ERR_NO_SUCH_UPLOAD);
    blobs_reader_close(r);
    buf_free(&op);
    buf_free(&g.bytes);
    free(p);
}

// ---- what was verified ---------------------------------------------------------------------------------------------

static void set_remembers_what_it_is_told_and_forgets_only_for_room(void **state)
{
    (void)state;
    struct verified v;
    assert_int_equal(verified_init(&v), 0);
    size_t kept = 0, count = 200000;
    for (size_t i = 0; i < count; i++) {
        struct place place = {.pack = (uint32_t)(1 + i % 7), .position = 8 * i};
        assert_false(verified_has(&v, &place));
        verified_add(&v, &place);
        assert_true(verified_has(&v, &place));
    }
    for (size_t i = 0; i < count; i++)
        kept += verified_has(&v, &(struct place){.pack = (uint32_t)(1 + i % 7), .position = 8 * i});
    assert_true(kept > count * 9 / 10);
    struct place one = {.pack = 9, .position = 0}, beyond = {.pack = 9, .position = BLOB_PACK_BYTES};
    verified_add(&v, &one);
    verified_forget(&v, &one);
    assert_false(verified_has(&v, &one));
    verified_add(&v, &beyond);
    assert_false(verified_has(&v, &beyond));
    verified_free(&v);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

// A half of them is kept for others.
static void where_descriptors_are_scarce_bytes_are_copied(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    struct sha256 digest;
    struct rlimit limit, few;
    uint8_t *p = random_content(n, 77);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    struct given g = read_range(lab, &digest, 0, n, false); // verified from here on
    buf_free(&g.bytes);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = (struct rlimit){.rlim_cur = 8, .rlim_max = limit.rlim_max}; // what is open stays open
    g = read_range(lab, &digest, 0, n, false);
    assert_true(g.files > 0 && span_equal(buf_span(&g.bytes), SPAN(p, n)));
    buf_free(&g.bytes);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    g = read_range(lab, &digest, 0, n, false);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(g.files == 0 && span_equal(buf_span(&g.bytes), SPAN(p, n)));
    buf_free(&g.bytes);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(chunk_goes_as_it_lies_once_it_was_verified),
        T(packed_chunk_goes_as_a_frame_and_a_raw_one_is_made_one),
        T(pack_that_goes_after_planning_is_still_read),
        T(damaged_byte_is_met_by_who_needs_it_and_what_lies_before_is_given),
        T(upload_is_read_up_to_its_offset_and_goes_on_as_its_blob),
        T(upload_that_is_dropped_ends_its_reader),
        T(where_descriptors_are_scarce_bytes_are_copied),
        cmocka_unit_test(set_remembers_what_it_is_told_and_forgets_only_for_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
