// A blob of a terabyte whose chunks are the same few, again and again: its list is as long as any, and nothing that is done with it grows with it.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "blob_store.h"
#include "err.h"

#define TIB (1024ull * 1024 * MIB)
#define DISTINCT 7
#define PAGE_LIST 65521 // chunks in one progress
#define LENGTH BLOB_CHUNK_MAX

struct huge {
    struct blob_lab lab;
    uint8_t *content; // DISTINCT chunks, one behind the other
    struct chunk chunks[DISTINCT];
};

static int setup(void **state)
{
    struct huge *h = calloc(1, sizeof *h);
    lab_open(&h->lab);
    h->content = random_content(DISTINCT * LENGTH, 41);
    for (size_t i = 0; i < DISTINCT; i++) {
        struct blob_given given = {.content = SPAN(h->content + i * LENGTH, LENGTH)};
        given.sha = sha256_of(given.content);
        struct blob_upload *u;
        struct buf op;
        struct uuid id = uuid_new();
        size_t taken;
        buf_init(&op, 64 * KIB);
        assert_int_equal(blobs_upload_open(h->lab.blobs, &u), 0);
        blobs_upload_adopt(u, id);
        assert_int_equal(blobs_upload_give(u, &given, 1, &taken), 0);
        assert_int_equal(blobs_upload_place(u, h->lab.txn), 0);
        assert_int_equal(blobs_upload_write(u), 0);
        assert_int_equal(blobs_upload_sync(u), 0);
        struct upload_new make = {.kind = UPLOAD_CHUNKS, .length = LENGTH, .ttl_ms = 1000};
        blobs_upload_put_create(&op, id, &make);
        assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), 0);
        buf_clear(&op);
        blobs_upload_progress(u, &op);
        assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), 0);
        blobs_upload_close(u);
        buf_free(&op);
        h->chunks[i] = (struct chunk){.sha = given.sha, .known = true};
        assert_int_equal(chunk_place_find(h->lab.blobs, h->lab.txn, &given.sha, &h->chunks[i].place), 0);
    }
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct huge *h = *state;
    lab_close(&h->lab);
    free(h->content);
    free(h);
    return 0;
}

// The bytes from `from` on are those of chunk `from / LENGTH % DISTINCT`, and so on.
static void assert_range(struct huge *h, const struct sha256 *digest, uint64_t from, size_t n)
{
    struct buf out;
    buf_init(&out, n);
    assert_int_equal(lab_read(&h->lab, digest, from, n, 300000, &out), 0);
    assert_int_equal(out.n, n);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = from + i;
        assert_int_equal(out.p[i], h->content[at / LENGTH % DISTINCT * LENGTH + at % LENGTH]);
    }
    buf_free(&out);
}

static void put_page(struct huge *h, struct uuid id, uint64_t first, uint32_t count)
{
    struct buf manifest, op;
    uint8_t state[DIGEST_STATE_MAX];
    struct digest *d = digest_new();
    buf_init(&manifest, 16 * MIB);
    buf_init(&op, 17 * MIB);
    blob_manifest_begin(&manifest, (uint64_t)count * LENGTH, count);
    for (uint32_t i = 0; i < count; i++)
        blob_manifest_put(&manifest, &h->chunks[(first + i) % DISTINCT]);
    struct upload_op progress = {.kind = UPLOAD_PROGRESS, .id = id};
    progress.progress.from = progress.progress.at = first * LENGTH;
    progress.progress.manifest = buf_span(&manifest);
    progress.progress.state = SPAN(state, digest_save(d, state));
    upload_op_encode(&op, &progress);
    assert_int_equal(op.err, 0);
    assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), 0);
    digest_free(d);
    buf_free(&manifest);
    buf_free(&op);
}

static uint64_t list_all(struct huge *h, struct uuid id, uint64_t chunks)
{
    uint64_t pages = 0;
    for (uint64_t at = 0; at < chunks; at += PAGE_LIST, pages++) {
        put_page(h, id, at, (uint32_t)(chunks - at < PAGE_LIST ? chunks - at : PAGE_LIST));
        lab_reopen(&h->lab); // a commit each, as the service has them
    }
    return pages;
}

static void blob_of_a_terabyte_is_listed_in_pages_and_read_anywhere(void **state)
{
    struct huge *h = *state;
    struct buf op;
    struct blob_info info;
    struct uuid id = uuid_new();
    struct sha256 digest = sha256_of(SPAN_LIT("stands for the digest of a terabyte"));
    struct upload_new make = {.kind = UPLOAD_WHOLE, .length = TIB};
    buf_init(&op, 64 * KIB);
    blobs_upload_put_create(&op, id, &make);
    assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), 0);
    assert_true(list_all(h, id, TIB / LENGTH) > 60);
    buf_clear(&op);
    blobs_upload_put_complete(&op, id, &digest);
    assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), 0);
    buf_free(&op);
    assert_true(blobs_find(h->lab.blobs, h->lab.txn, &digest, &info) && info.size == TIB);
    assert_true(blobs_pack_bytes(h->lab.blobs) < 3 * MIB);
    static const uint64_t places[] = {0, LENGTH - 5, 4ull * 1024 * MIB - 100, 4ull * 1024 * MIB, TIB / 3, TIB / 2 + 12345, TIB - 3 * LENGTH - 7, TIB - 1000};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        assert_range(h, &digest, places[i], TIB - places[i] < 700000 ? (size_t)(TIB - places[i]) : 700000);
}

static void upload_longer_than_the_limit_is_refused(void **state)
{
    struct huge *h = *state;
    struct buf op;
    struct upload_new make = {.kind = UPLOAD_WHOLE, .length = BLOB_BYTES_MAX};
    buf_init(&op, 64 * KIB);
    blobs_upload_put_create(&op, uuid_new(), &make);
    assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), 0);
    make.length++;
    buf_clear(&op);
    blobs_upload_put_create(&op, uuid_new(), &make);
    assert_int_equal(lab_upload_op(&h->lab, buf_span(&op)), ERR_BAD_VALUE);
    buf_free(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blob_of_a_terabyte_is_listed_in_pages_and_read_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(upload_longer_than_the_limit_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
