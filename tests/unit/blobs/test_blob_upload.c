// Uploads: one result for any windows, one copy of equal chunks, and no blob that a failed stage would leave half stored.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_keys.h"
#include "blob_lab.h"
#include "chunk_lanes.h"
#include "disk.h"
#include "err.h"
#include "file.h"
#include "pack.h"

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

static struct blob_upload *open_upload(struct blob_lab *lab)
{
    struct blob_upload *u;
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    return u;
}

// ---- one result ------------------------------------------------------------------------------------------------

// The manifest of the content, in a fresh store.
static void manifest_of(struct span content, size_t window, struct buf *manifest)
{
    struct blob_lab lab;
    struct sha256 digest, expected = sha256_of(content);
    uint64_t size;
    lab_open(&lab);
    struct blob_upload *u = open_upload(&lab);
    assert_int_equal(lab_feed_all(&lab, u, content, window), 0);
    blobs_upload_result(u, &digest, &size, manifest);
    assert_true(sha256_equal(&digest, &expected));
    assert_int_equal(size, content.n);
    blobs_upload_close(u);
    lab_close(&lab);
}

// The same chunks; where their records lie differs, as those of a window begin at a page.
static bool same_chunks(struct span a, struct span b)
{
    struct manifest m, n;
    if (blob_manifest_decode(a, &m) != 0 || blob_manifest_decode(b, &n) != 0 || m.size != n.size || m.count != n.count) return false;
    for (uint32_t i = 0; i < m.count; i++) {
        struct chunk x, y;
        blob_manifest_at(&m, i, &x);
        blob_manifest_at(&n, i, &y);
        if (!sha256_equal(&x.sha, &y.sha) || x.place.length != y.place.length) return false;
    }
    return true;
}

static void any_split_into_windows_gives_the_same_chunks(void **state)
{
    (void)state;
    static const size_t windows[] = {1, 777, BLOB_CHUNK_MIN, 65537, BLOB_WINDOW - 1, BLOB_WINDOW};
    size_t n = 700 * KIB;
    uint8_t *p = random_content(n, 1);
    struct buf first, other;
    buf_init(&first, 1 * MIB);
    buf_init(&other, 1 * MIB);
    manifest_of(SPAN(p, n), BLOB_WINDOW, &first);
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        buf_clear(&other);
        manifest_of(SPAN(p, n), windows[i], &other);
        assert_true(same_chunks(buf_span(&first), buf_span(&other)));
    }
    buf_free(&first);
    buf_free(&other);
    free(p);
}

// Where the digest of the whole is a helper's.
static void every_processor_gives_the_same_chunks(void **state)
{
    (void)state;
    struct buf is, expected;
    uint8_t *content = random_content(3 * MIB + 12345, 5);
    buf_init(&is, MIB);
    buf_init(&expected, MIB);
    manifest_of(SPAN(content, 3 * MIB + 12345), 300001, &expected);
    chunk_lanes_off = true;
    manifest_of(SPAN(content, 3 * MIB + 12345), 300001, &is);
    chunk_lanes_off = false;
    assert_true(same_chunks(buf_span(&is), buf_span(&expected)));
    buf_free(&is);
    buf_free(&expected);
    free(content);
}

static void manifest_has_the_chunks_of_the_published_cut_rule(void **state)
{
    (void)state;
    size_t n = 3 * MIB, at = 0;
    uint8_t *p = random_content(n, 2);
    struct buf b;
    struct manifest m;
    struct chunk chunk;
    buf_init(&b, 1 * MIB);
    manifest_of(SPAN(p, n), 300000, &b);
    assert_int_equal(blob_manifest_decode(buf_span(&b), &m), 0);
    for (uint32_t i = 0; i < m.count; i++) {
        blob_manifest_at(&m, i, &chunk);
        struct span cut = SPAN(p + at, blobs_cut(SPAN(p + at, n - at)));
        struct sha256 sha = sha256_of(cut);
        assert_int_equal(chunk.place.length, cut.n);
        assert_true(sha256_equal(&chunk.sha, &sha));
        at += cut.n;
    }
    assert_int_equal(at, n);
    buf_free(&b);
    free(p);
}

static void blob_without_bytes_is_a_blob(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    struct blob_info info;
    assert_int_equal(lab_upload(lab, SPAN_NONE, &digest), 0);
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    assert_int_equal(info.size, 0);
    assert_true(lab_holds(lab, SPAN_NONE));
    assert_int_equal(blobs_pack_bytes(lab->blobs), 0);
}

static void last_window_may_be_empty(void **state)
{
    struct blob_lab *lab = *state;
    uint8_t *p = random_content(100000, 3);
    struct blob_upload *u = open_upload(lab);
    assert_int_equal(lab_feed(lab, u, SPAN(p, 100000), false), 0);
    assert_int_equal(lab_feed(lab, u, SPAN_NONE, false), 0);
    assert_int_equal(lab_feed(lab, u, SPAN_NONE, true), 0);
    assert_int_equal(lab_commit(lab, u, ""), 0);
    blobs_upload_close(u);
    assert_true(lab_holds(lab, SPAN(p, 100000)));
    free(p);
}

static void text_is_stored_packed_and_noise_raw(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    uint8_t *text = text_content(n, 4), *noise = random_content(n, 4);
    assert_int_equal(lab_upload(lab, SPAN(text, n), NULL), 0);
    uint64_t packed = blobs_pack_bytes(lab->blobs);
    assert_true(packed < n / 2);
    assert_int_equal(lab_upload(lab, SPAN(noise, n), NULL), 0);
    assert_in_range(blobs_pack_bytes(lab->blobs) - packed, n, n + 24 * KIB);
    assert_true(lab_holds(lab, SPAN(text, n)));
    assert_true(lab_holds(lab, SPAN(noise, n)));
    free(text);
    free(noise);
}

// ---- one copy --------------------------------------------------------------------------------------------------

static void second_upload_of_equal_content_stores_nothing(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 3 * MIB;
    uint8_t *p = random_content(n, 5);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    uint64_t bytes = blobs_pack_bytes(lab->blobs);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    assert_int_equal(blobs_pack_bytes(lab->blobs), bytes);
    lab_reopen(lab);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    assert_int_equal(blobs_pack_bytes(lab->blobs), bytes);
    // A byte changed in the middle costs the chunk that it lies in.
    p[n / 2] ^= 1;
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    assert_in_range(blobs_pack_bytes(lab->blobs) - bytes, 1, 2 * BLOB_CHUNK_MAX);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void equal_chunks_of_one_window_are_stored_once(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 4 * BLOB_CHUNK_MAX;
    uint8_t *p = calloc(1, n);
    disk_fail(DISK_WRITE, lab->packs, 1, EIO, 0); // only counts
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    assert_int_equal(disk_calls(), 1);
    disk_fail_clear();
    assert_true(blobs_pack_bytes(lab->blobs) < 1000);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void uploads_of_equal_content_side_by_side_store_it_once(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 4 * MIB, window = 300000;
    uint8_t *p = random_content(n, 6);
    struct blob_upload *a = open_upload(lab), *b = open_upload(lab);
    for (size_t at = 0; at < n; at += window) {
        struct span data = span_sub(SPAN(p, n), at, window);
        assert_int_equal(lab_feed(lab, a, data, at + data.n == n), 0);
        assert_int_equal(lab_feed(lab, b, data, at + data.n == n), 0);
    }
    assert_in_range(blobs_pack_bytes(lab->blobs), n, n + n / window * 2 * PACK_PAGE + 32 * KIB); // each window's records in pages of their own
    // The one that stored the bytes goes; the other has all that it needs.
    blobs_upload_close(a);
    assert_int_equal(lab_commit(lab, b, ""), 0);
    blobs_upload_close(b);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void upload_does_not_rely_on_bytes_that_another_only_meant_to_write(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 7);
    struct blob_upload *a = open_upload(lab), *b = open_upload(lab);
    assert_int_equal(blobs_upload_chunk(a, SPAN(p, n), true), 0);
    assert_int_equal(blobs_upload_place(a, lab->txn), 0);
    assert_int_equal(lab_feed(lab, b, SPAN(p, n), true), 0);
    blobs_upload_close(a); // never wrote a byte
    assert_int_equal(lab_commit(lab, b, ""), 0);
    blobs_upload_close(b);
    assert_in_range(blobs_pack_bytes(lab->blobs), n, n + 12 * KIB);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void abandoned_upload_leaves_no_blob(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 8);
    struct sha256 digest = sha256_of(SPAN(p, n));
    struct blob_info info;
    struct blob_upload *u = open_upload(lab);
    assert_int_equal(lab_feed(lab, u, SPAN(p, n), true), 0);
    blobs_upload_close(u);
    assert_false(blobs_find(lab->blobs, lab->txn, &digest, &info));
    lab_reopen(lab);
    assert_false(blobs_find(lab->blobs, lab->txn, &digest, &info));
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

// ---- faults ----------------------------------------------------------------------------------------------------

// No file may grow beyond `bytes`: a write there fails, a longer one is cut short.
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void failed_write_fails_its_upload_and_no_other(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 9);
    struct blob_upload *a = open_upload(lab), *b = open_upload(lab);
    assert_int_equal(blobs_upload_chunk(a, SPAN(p, n), true), 0);
    assert_int_equal(blobs_upload_place(a, lab->txn), 0);
    assert_int_equal(blobs_upload_chunk(b, SPAN(p, n), true), 0);
    assert_int_equal(blobs_upload_place(b, lab->txn), 0);
    limit_files(300000); // what a wrote of its records stays in the file, torn
    int err = blobs_upload_write(a);
    limit_files(RLIM_INFINITY);
    assert_int_equal(err, ERR_IO);
    // The first error is what every later stage returns.
    assert_int_equal(blobs_upload_sync(a), ERR_IO);
    assert_int_equal(blobs_upload_chunk(a, SPAN_NONE, true), ERR_IO);
    assert_int_equal(blobs_upload_place(a, lab->txn), ERR_IO);

    assert_int_equal(blobs_upload_write(b), 0);
    assert_int_equal(blobs_upload_sync(b), 0);
    assert_int_equal(lab_commit(lab, b, ""), 0);
    blobs_upload_close(a);
    blobs_upload_close(b);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void upload_after_a_failed_one_stores_everything_itself(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 10);
    struct blob_upload *a = open_upload(lab);
    assert_int_equal(blobs_upload_chunk(a, SPAN(p, n), true), 0);
    assert_int_equal(blobs_upload_place(a, lab->txn), 0);
    limit_files(300000);
    assert_int_equal(blobs_upload_write(a), ERR_IO);
    limit_files(RLIM_INFINITY);
    // While the failed one is still open, and its chunks known.
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    assert_true(lab_holds(lab, SPAN(p, n)));
    blobs_upload_close(a);
    lab_reopen(lab);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void failed_barrier_fails_all_who_rely_on_it_and_later_uploads_do_not(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 11), *q = random_content(n, 12);
    struct blob_upload *a = open_upload(lab), *b = open_upload(lab), *c = open_upload(lab);
    struct blob_upload *all[] = {a, b};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(blobs_upload_chunk(all[i], SPAN(p, n), true), 0);
        assert_int_equal(blobs_upload_place(all[i], lab->txn), 0);
        assert_int_equal(blobs_upload_write(all[i]), 0);
    }
    assert_int_equal(lab_feed(lab, c, SPAN(q, n / 2), false), 0);

    disk_fail(DISK_SYNC, lab->packs, 1, EIO, 1);
    assert_int_equal(blobs_upload_sync(a), ERR_IO);
    assert_int_equal(disk_failed(), 1);
    disk_fail_clear();
    // A second barrier would succeed now, and prove nothing.
    assert_int_equal(blobs_upload_sync(b), ERR_IO);
    assert_int_equal(lab_feed(lab, c, SPAN(q + n / 2, n / 2), true), ERR_IO);

    // While the chunks of the failed ones are still known, and after.
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    blobs_upload_close(a);
    blobs_upload_close(b);
    blobs_upload_close(c);
    assert_int_equal(lab_upload(lab, SPAN(q, n), NULL), 0);
    char *second = lab_pack_path(lab, 2);
    assert_int_equal(access(second, F_OK), 0);
    free(second);
    lab_reopen(lab);
    assert_true(lab_holds(lab, SPAN(p, n)));
    assert_true(lab_holds(lab, SPAN(q, n)));
    free(p);
    free(q);
}

static void barrier_is_shared_and_none_is_made_for_nothing(void **state)
{
    struct blob_lab *lab = *state;
    uint8_t *p = random_content(300000, 17);
    struct blob_upload *a = open_upload(lab), *b = open_upload(lab);
    assert_int_equal(lab_feed(lab, a, SPAN(p, 100000), false), 0);
    assert_int_equal(lab_feed(lab, b, SPAN(p, 200000), false), 0);
    assert_int_equal(lab_feed(lab, b, SPAN(p + 200000, 100000), false), 0);
    assert_int_equal(blobs_upload_chunk(a, SPAN(p + 100000, 200000), true), 0);
    assert_int_equal(blobs_upload_place(a, lab->txn), 0);
    assert_int_equal(blobs_upload_write(a), 0);
    assert_int_equal(blobs_upload_chunk(b, SPAN_NONE, true), 0);
    assert_int_equal(blobs_upload_place(b, lab->txn), 0);
    assert_int_equal(blobs_upload_write(b), 0);
    disk_fail(DISK_SYNC, lab->packs, 1, EIO, 0); // only counts
    assert_int_equal(blobs_upload_sync(b), 0);
    assert_int_equal(disk_calls(), 2); // the pack, and the folder that has its name
    assert_int_equal(blobs_upload_sync(a), 0);
    assert_int_equal(disk_calls(), 2);
    assert_int_equal(lab_commit(lab, a, ""), 0);
    blobs_upload_close(a);
    blobs_upload_close(b);
    assert_int_equal(lab_upload(lab, SPAN(p, 300000), NULL), 0); // everything is known
    assert_int_equal(disk_calls(), 2);
    assert_int_equal(lab_upload(lab, SPAN(p, 299999), NULL), 0); // a new last chunk
    assert_int_equal(disk_calls(), 3);
    disk_fail_clear();
    free(p);
}

// Fails the nth call of a kind during an upload. False: there were fewer.
static bool upload_with_fault(unsigned op, uint32_t nth, int errnum, int expected)
{
    struct blob_lab lab;
    size_t n = 2 * MIB + 1000;
    uint8_t *p = random_content(n, 18);
    struct blob_info info;
    memset(p + MIB, 'x', 500000);
    struct sha256 digest = sha256_of(SPAN(p, n));
    lab_open(&lab);
    disk_fail(op, lab.packs, nth, errnum, 1);
    int err = lab_upload(&lab, SPAN(p, n), NULL);
    bool hit = disk_failed() > 0;
    disk_fail_clear();
    assert_int_equal(err, hit ? expected : 0);
    assert_true(blobs_find(lab.blobs, lab.txn, &digest, &info) == !hit);
    // The same upload again, in the store that has met the fault, is as any other.
    assert_int_equal(lab_upload(&lab, SPAN(p, n), NULL), 0);
    lab_reopen(&lab);
    assert_true(lab_holds(&lab, SPAN(p, n)));
    lab_close(&lab);
    free(p);
    return hit;
}

static void no_single_fault_leaves_a_blob_or_harms_the_next_upload(void **state)
{
    (void)state;
    static const unsigned ops[] = {DISK_OPEN, DISK_WRITE, DISK_SYNC};
    static const uint32_t least[] = {1, 3, 2}; // a file; a write for each window; the file's barrier and the folder's
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        uint32_t nth = 1;
        while (upload_with_fault(ops[i], nth, EIO, ERR_IO) && upload_with_fault(ops[i], nth, ENOSPC, ERR_NO_SPACE))
            nth++;
        assert_true(nth > least[i]);
    }
}

static void garbage_behind_the_packs_end_is_not_trusted(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 13), *q = random_content(n, 14);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    uint64_t end = blobs_pack_bytes(lab->blobs);
    char *path = lab_pack_path(lab, 1);
    int fd = file_open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(file_write(fd, SPAN(q, 12345), end), 0);
    file_close(fd);
    free(path);
    lab_reopen(lab);
    assert_int_equal(lab_upload(lab, SPAN(q, n), NULL), 0);
    assert_true(blobs_pack_bytes(lab->blobs) >= end + 12345 + n);
    assert_true(lab_holds(lab, SPAN(p, n)));
    assert_true(lab_holds(lab, SPAN(q, n)));
    free(p);
    free(q);
}

// ---- bounds ----------------------------------------------------------------------------------------------------

static void one_upload_too_many_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_upload *u[UPLOADS_MAX], *one;
    for (size_t i = 0; i < UPLOADS_MAX; i++)
        u[i] = open_upload(lab);
    assert_int_equal(blobs_upload_open(lab->blobs, &one), ERR_TOO_MANY);
    blobs_upload_close(u[0]);
    u[0] = open_upload(lab);
    for (size_t i = 0; i < UPLOADS_MAX; i++)
        blobs_upload_close(u[i]);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_MEASURE false // their allocators do not tell
#else
#define CAN_MEASURE true
#endif

static size_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void memory_of_an_upload_does_not_grow_with_its_bytes(void **state)
{
    struct blob_lab *lab = *state;
    if (!CAN_MEASURE) skip();
    size_t n = 24 * MIB, most = 0;
    uint8_t *p = text_content(n, 15); // both buffers in use
    size_t before = allocated();
    struct blob_upload *u = open_upload(lab);
    for (size_t at = 0; at < n; at += BLOB_WINDOW) {
        assert_int_equal(lab_feed(lab, u, SPAN(p + at, BLOB_WINDOW), at + BLOB_WINDOW == n), 0);
        if (allocated() - before > most) most = allocated() - before;
    }
    blobs_upload_close(u);
    // Two buffers of a window and a chunk each, this thread's zstd context, and some 110 bytes for each chunk.
    assert_in_range(most, BLOB_WINDOW, 2 * (BLOB_WINDOW + BLOB_CHUNK_MAX) + 2 * MIB);
    free(p);
}

// ---- threads ---------------------------------------------------------------------------------------------------

struct job {
    struct blob_upload *u;
    struct span data;
    bool last;
    int err;
};

static void *run_chunk(void *arg)
{
    struct job *j = arg;
    j->err = blobs_upload_chunk(j->u, j->data, j->last);
    return NULL;
}

static void *run_write(void *arg)
{
    struct job *j = arg;
    j->err = blobs_upload_write(j->u);
    if (j->err == 0 && j->last) j->err = blobs_upload_sync(j->u);
    return NULL;
}

#define JOBS 3

static void run_all(struct job *jobs, void *(*stage)(void *))
{
    pthread_t threads[JOBS];
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, stage, &jobs[i]), 0);
    for (int i = 0; i < JOBS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].err, 0);
    }
}

static void uploads_on_several_threads_store_equal_content_once(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 3 * MIB, window = 500000;
    uint8_t *p = random_content(n, 16);
    struct job jobs[JOBS];
    for (int i = 0; i < JOBS; i++)
        jobs[i] = (struct job){.u = open_upload(lab)};
    for (size_t at = 0; at < n; at += window) {
        for (int i = 0; i < JOBS; i++) {
            jobs[i].data = span_sub(SPAN(p, n), at, window);
            jobs[i].last = at + window >= n;
        }
        run_all(jobs, run_chunk);
        for (int i = 0; i < JOBS; i++)
            assert_int_equal(blobs_upload_place(jobs[i].u, lab->txn), 0);
        run_all(jobs, run_write);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(lab_commit(lab, jobs[i].u, ""), 0);
        blobs_upload_close(jobs[i].u);
    }
    assert_in_range(blobs_pack_bytes(lab->blobs), n, n + 16 * KIB);
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_split_into_windows_gives_the_same_chunks),
        cmocka_unit_test(every_processor_gives_the_same_chunks),
        cmocka_unit_test(manifest_has_the_chunks_of_the_published_cut_rule),
        T(blob_without_bytes_is_a_blob),
        T(last_window_may_be_empty),
        T(text_is_stored_packed_and_noise_raw),
        T(second_upload_of_equal_content_stores_nothing),
        T(equal_chunks_of_one_window_are_stored_once),
        T(uploads_of_equal_content_side_by_side_store_it_once),
        T(upload_does_not_rely_on_bytes_that_another_only_meant_to_write),
        T(abandoned_upload_leaves_no_blob),
        T(failed_write_fails_its_upload_and_no_other),
        T(upload_after_a_failed_one_stores_everything_itself),
        T(failed_barrier_fails_all_who_rely_on_it_and_later_uploads_do_not),
        T(barrier_is_shared_and_none_is_made_for_nothing),
        cmocka_unit_test(no_single_fault_leaves_a_blob_or_harms_the_next_upload),
        T(garbage_behind_the_packs_end_is_not_trusted),
        T(one_upload_too_many_is_refused),
        T(memory_of_an_upload_does_not_grow_with_its_bytes),
        T(uploads_on_several_threads_store_equal_content_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
