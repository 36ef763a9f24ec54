// Chunks that a client cut: given in any order, listed by their hashes, and refused where they are not what or where they should be.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "err.h"

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

static int drop(struct blob_lab *lab, struct uuid id)
{
    struct buf op;
    buf_init(&op, 8 * KIB);
    blobs_upload_put_drop(&op, id);
    int err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

#define GIVEN_BYTES 20000

static struct blob_given given_of(const uint8_t *p, size_t i)
{
    struct blob_given g = {.content = SPAN(p + i * GIVEN_BYTES, GIVEN_BYTES)};
    g.sha = sha256_of(g.content);
    return g;
}

// Gives `count` chunks of the content to an upload of its own, and commits them.
static int give(struct blob_lab *lab, struct uuid id, const uint8_t *p, size_t count)
{
    struct blob_upload *u;
    struct blob_given given[200];
    struct buf op;
    size_t at = 0, n, windows = 0;
    int err = 0;
    assert_true(count <= 200);
    for (size_t i = 0; i < count; i++)
        given[i] = given_of(p, count - 1 - i);
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    blobs_upload_adopt(u, id);
    for (; at < count && err == 0; at += err == 0 ? n : 0, windows++) {
        err = blobs_upload_give(u, given + at, count - at, &n);
        if (err == 0) err = blobs_upload_place(u, lab->txn);
        if (err == 0) err = blobs_upload_write(u);
    }
    assert_true(windows >= count * GIVEN_BYTES / BLOB_WINDOW);
    if (err == 0) err = blobs_upload_sync(u);
    buf_init(&op, 64 * KIB);
    struct upload_new make = {.kind = UPLOAD_CHUNKS, .length = count * GIVEN_BYTES, .ttl_ms = 1000};
    blobs_upload_put_create(&op, id, &make);
    if (err == 0) err = lab_upload_op(lab, buf_span(&op));
    buf_clear(&op);
    if (err == 0) blobs_upload_progress(u, &op);
    if (err == 0) err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    blobs_upload_close(u);
    return err;
}

// The upload, and whatever nothing keeps then.
static void reclaim(struct blob_lab *lab, struct uuid id)
{
    struct buf step;
    bool any = true;
    buf_init(&step, 64 * KIB);
    assert_int_equal(drop(lab, id), 0);
    lab->now_ms += 1000000;
    for (size_t n = 0; any || n < 2; n = any ? 0 : n + 1) {
        buf_clear(&step);
        any = blobs_step_due(lab->blobs, lab->txn, lab->now_ms, 1000, n, &step);
        if (any) assert_int_equal(lab_step(lab, buf_span(&step)), 0);
    }
    buf_free(&step);
}

// Makes the blob that lists the first `count` chunks; the digest of what was read into *digest. `gone` (may be NULL) goes after they were read.
static int list(struct blob_lab *lab, const uint8_t *p, size_t count, const struct uuid *gone, struct sha256 *digest)
{
    struct blob_join *j;
    struct buf listed, op;
    struct uuid id = uuid_new();
    buf_init(&listed, 200 * BLOB_LISTED_BYTES);
    buf_init(&op, 64 * KIB);
    for (size_t i = 0; i < count; i++) {
        struct blob_given g = given_of(p, i);
        buf_put(&listed, g.sha.b, SHA256_BYTES);
        buf_put_u32(&listed, GIVEN_BYTES);
    }
    assert_int_equal(blobs_join_open_listed(lab->blobs, id, count * GIVEN_BYTES, buf_span(&listed), &j), 0);
    int err = blobs_join_next(j, lab->txn);
    if (err == 0) err = blobs_join_read(j);
    if (gone != NULL) reclaim(lab, *gone);
    struct upload_new make = {.kind = UPLOAD_ONCE, .length = count * GIVEN_BYTES};
    blobs_upload_put_create(&op, id, &make);
    if (err == 0) err = lab_upload_op(lab, buf_span(&op));
    buf_clear(&op);
    if (err == 0) blobs_join_progress(j, &op);
    if (err == 0) err = lab_upload_op(lab, buf_span(&op));
    buf_clear(&op);
    if (err == 0) blobs_join_complete(j, &op, digest);
    if (err == 0) err = lab_upload_op(lab, buf_span(&op));
    blobs_join_close(j);
    buf_free(&listed);
    buf_free(&op);
    return err;
}

static void chunks_that_were_given_make_the_blob_that_lists_them(void **state)
{
    struct blob_lab *lab = *state;
    uint8_t *p = random_content(150 * GIVEN_BYTES, 31);
    struct uuid id = uuid_new();
    struct sha256 digest, whole = sha256_of(SPAN(p, 150 * GIVEN_BYTES));
    uint64_t checked;
    assert_int_equal(list(lab, p, 150, NULL, &digest), ERR_NOT_FOUND); // nothing was sent yet
    assert_int_equal(give(lab, id, p, 150), 0);
    assert_int_equal(list(lab, p, 150, NULL, &digest), 0);
    assert_true(sha256_equal(&digest, &whole));
    assert_true(lab_holds(lab, SPAN(p, 150 * GIVEN_BYTES)));
    assert_int_equal(drop(lab, id), 0);
    lab_reopen(lab);
    assert_true(lab_holds(lab, SPAN(p, 150 * GIVEN_BYTES)));
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
    free(p);
}

static void given_chunk_that_is_another_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_upload *u;
    uint8_t *p = random_content(2 * GIVEN_BYTES, 32);
    struct blob_given given[2] = {given_of(p, 0), given_of(p, 1)};
    size_t n;
    given[1].sha = given[0].sha;
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    blobs_upload_adopt(u, uuid_new());
    assert_int_equal(blobs_upload_give(u, given, 2, &n), ERR_CHECKSUM);
    assert_int_equal(blobs_upload_place(u, lab->txn), ERR_CHECKSUM);
    blobs_upload_close(u);
    assert_false(blobs_chunk_stored(lab->blobs, lab->txn, &given[0].sha));
    free(p);
}

// What was told to be there may go before the list is decided: then there is no blob, and none with a hole.
static void list_of_reclaimed_chunks_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    uint8_t *p = random_content(20 * GIVEN_BYTES, 34);
    struct uuid id = uuid_new();
    struct sha256 digest, sha = given_of(p, 3).sha;
    uint64_t wrong;
    assert_int_equal(give(lab, id, p, 20), 0);
    assert_true(blobs_chunk_stored(lab->blobs, lab->txn, &sha));
    assert_int_equal(list(lab, p, 20, &id, &digest), ERR_BAD_VALUE);
    assert_false(blobs_chunk_stored(lab->blobs, lab->txn, &sha));
    assert_int_equal(give(lab, uuid_new(), p, 20), 0); // sent again
    assert_int_equal(list(lab, p, 20, NULL, &digest), 0);
    assert_true(lab_holds(lab, SPAN(p, 20 * GIVEN_BYTES)));
    assert_int_equal(blobs_mark(lab->blobs, lab->txn, &wrong), 0);
    assert_int_equal(wrong, 0);
    free(p);
}

static void chunks_are_no_blob(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    uint8_t *p = random_content(2 * GIVEN_BYTES, 33);
    struct sha256 whole = sha256_of(SPAN(p, 2 * GIVEN_BYTES));
    struct buf op;
    buf_init(&op, KIB);
    assert_int_equal(give(lab, id, p, 2), 0);
    blobs_upload_put_complete(&op, id, &whole);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), ERR_BAD_VALUE);
    buf_free(&op);
    free(p);
}

static int create(struct blob_lab *lab, enum upload_kind kind)
{
    struct upload_new make = {.kind = kind, .length = 1};
    struct buf op;
    buf_init(&op, KIB);
    blobs_upload_put_create(&op, uuid_new(), &make);
    int err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

// Nobody who sends a large file by its chunks keeps others from beginning an upload, nor they them.
static void chunks_and_uploads_have_limits_of_their_own(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    uint8_t *p = random_content(GIVEN_BYTES, 35);
    assert_int_equal(give(lab, id, p, 1), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, true), 1);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 0);
    for (int i = 0; i < UPLOADS_OPEN_MAX; i++)
        assert_int_equal(create(lab, UPLOAD_WHOLE), 0);
    assert_int_equal(create(lab, UPLOAD_WHOLE), ERR_TOO_MANY);
    assert_int_equal(create(lab, UPLOAD_ONCE), ERR_TOO_MANY);
    assert_int_equal(create(lab, UPLOAD_CHUNKS), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, true), 2);
    assert_int_equal(drop(lab, id), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, true), 1);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), UPLOADS_OPEN_MAX);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chunks_that_were_given_make_the_blob_that_lists_them, setup, teardown),
        cmocka_unit_test_setup_teardown(given_chunk_that_is_another_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(list_of_reclaimed_chunks_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(chunks_are_no_blob, setup, teardown),
        cmocka_unit_test_setup_teardown(chunks_and_uploads_have_limits_of_their_own, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
