// Deciding and applying: what a batch may store, and what it leaves.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_keys.h"
#include "blob_lab.h"
#include "db.h"
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

// A finished upload's manifest; the upload is closed.
static struct sha256 make_manifest(struct blob_lab *lab, struct span content, struct buf *manifest)
{
    struct blob_upload *u;
    struct sha256 digest;
    uint64_t size;
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    assert_int_equal(lab_feed_all(lab, u, content, BLOB_WINDOW), 0);
    blobs_upload_result(u, &digest, &size, manifest);
    blobs_upload_close(u);
    return digest;
}

static void stored_blob_names_its_size_type_and_commit(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_info info;
    struct buf m;
    buf_init(&m, 4096);
    struct sha256 digest = make_manifest(lab, SPAN_LIT("hello"), &m);
    lab->seq = 41;
    assert_int_equal(lab_store(lab, &digest, SPAN_LIT("text/plain"), buf_span(&m)), 0);
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    assert_true(sha256_equal(&info.digest, &digest));
    assert_int_equal(info.size, 5);
    assert_int_equal(info.created_seq, 42);
    assert_string_equal(info.type, "text/plain");
    buf_free(&m);
}

static void blob_without_a_type_is_an_octet_stream(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_info info;
    struct sha256 digest;
    assert_int_equal(lab_upload(lab, SPAN_LIT("hello"), &digest), 0);
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    assert_string_equal(info.type, "application/octet-stream");
}

static void blob_that_exists_stays_as_it_is(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_info info;
    struct buf m;
    buf_init(&m, 4096);
    struct sha256 digest = make_manifest(lab, SPAN_LIT("hello"), &m);
    assert_int_equal(lab_store(lab, &digest, SPAN_LIT("text/plain"), buf_span(&m)), 0);
    assert_int_equal(lab_store(lab, &digest, SPAN_LIT("image/png"), buf_span(&m)), 0);
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    assert_string_equal(info.type, "text/plain");
    assert_int_equal(info.created_seq, 1);
    buf_free(&m);
}

static void type_that_no_http_head_can_carry_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct buf m;
    char longest[STREAM_TYPE_MAX + 1];
    memset(longest, 'x', sizeof longest);
    buf_init(&m, 4096);
    struct sha256 digest = make_manifest(lab, SPAN_LIT("hello"), &m);
    assert_int_equal(lab_store(lab, &digest, SPAN_LIT("text/plain\r\nSet-Cookie: a"), buf_span(&m)), ERR_BAD_VALUE);
    assert_int_equal(lab_store(lab, &digest, SPAN_LIT("text/\xc3\xa4"), buf_span(&m)), ERR_BAD_VALUE);
    assert_int_equal(lab_store(lab, &digest, SPAN_LIT("text/\0"), buf_span(&m)), ERR_BAD_VALUE);
    assert_int_equal(lab_store(lab, &digest, SPAN(longest, STREAM_TYPE_MAX + 1), buf_span(&m)), ERR_BAD_VALUE);
    assert_int_equal(lab_store(lab, &digest, SPAN(longest, STREAM_TYPE_MAX), buf_span(&m)), 0);
    buf_free(&m);
}

static void damaged_manifest_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_info info;
    struct buf m;
    buf_init(&m, 4096);
    struct sha256 digest = make_manifest(lab, SPAN_LIT("hello"), &m);
    assert_int_equal(lab_store(lab, &digest, SPAN_NONE, SPAN(m.p, m.n - 1)), ERR_BAD_VALUE);
    m.p[1]++; // the size
    assert_int_equal(lab_store(lab, &digest, SPAN_NONE, buf_span(&m)), ERR_BAD_VALUE);
    assert_false(blobs_find(lab->blobs, lab->txn, &digest, &info));
    buf_free(&m);
}

static void digest_of_nothing_and_only_it_has_no_bytes(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 empty = sha256_of(SPAN_NONE), digest;
    struct buf none, some;
    buf_init(&none, 4096);
    buf_init(&some, 4096);
    make_manifest(lab, SPAN_NONE, &none);
    digest = make_manifest(lab, SPAN_LIT("hello"), &some);
    assert_int_equal(lab_store(lab, &digest, SPAN_NONE, buf_span(&none)), ERR_BAD_VALUE);
    assert_int_equal(lab_store(lab, &empty, SPAN_NONE, buf_span(&some)), ERR_BAD_VALUE);
    assert_int_equal(lab_store(lab, &empty, SPAN_NONE, buf_span(&none)), 0);
    buf_free(&none);
    buf_free(&some);
}

static void batch_finds_the_blobs_it_stores_itself(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_info info;
    struct buf m;
    buf_init(&m, 4096);
    struct sha256 digest = make_manifest(lab, SPAN_LIT("hello"), &m), other = {{7}};
    struct commit c = {.seq = 5, .request = buf_span(&m)};
    struct blobs_batch *d = blobs_decide(lab->blobs, lab->txn, &c);
    assert_false(blobs_decide_find(d, &digest, &info));
    assert_int_equal(blobs_decide_store(d, &digest, SPAN_LIT("text/plain"), buf_span(&m), NULL), 0);
    assert_true(blobs_decide_find(d, &digest, &info));
    assert_int_equal(info.size, 5);
    assert_int_equal(info.created_seq, 5);
    assert_string_equal(info.type, "text/plain");
    assert_false(blobs_decide_find(d, &other, &info));
    assert_false(blobs_find(lab->blobs, lab->txn, &digest, &info)); // not applied
    blobs_batch_free(d);
    buf_free(&m);
}

static void batch_stores_a_bounded_number_of_blobs(void **state)
{
    struct blob_lab *lab = *state;
    struct buf m, effects;
    struct problem p = PROBLEM_NONE;
    buf_init(&m, 4096);
    buf_init(&effects, 64 * KIB);
    make_manifest(lab, SPAN_LIT("hello"), &m);
    struct commit c = {.seq = 1, .request = buf_span(&m)};
    struct blobs_batch *d = blobs_decide(lab->blobs, lab->txn, &c);
    struct sha256 digest = {{1}};
    struct blob_info info;
    for (unsigned i = 0; i < BATCH_BLOBS_MAX; i++) {
        digest.b[31] = (uint8_t)i;
        assert_int_equal(blobs_decide_store(d, &digest, SPAN_NONE, buf_span(&m), &p), 0);
        assert_int_equal(blobs_decide_store(d, &digest, SPAN_NONE, buf_span(&m), &p), 0); // again is no change
    }
    digest.b[0] = 2;
    assert_int_equal(blobs_decide_store(d, &digest, SPAN_NONE, buf_span(&m), &p), ERR_BATCH_TOO_LARGE);
    blobs_decide_effects(d, &effects);
    blobs_batch_free(d);
    assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), 0);
    digest.b[0] = 1;
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    buf_free(&m);
    buf_free(&effects);
}

static void batch_without_blobs_has_no_effects(void **state)
{
    struct blob_lab *lab = *state;
    struct buf effects;
    struct commit c = {.seq = 1};
    buf_init(&effects, 4096);
    struct blobs_batch *d = blobs_decide(lab->blobs, lab->txn, &c);
    blobs_decide_effects(d, &effects);
    blobs_batch_free(d);
    assert_int_equal(effects.n, 0);
    assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), 0);
    buf_free(&effects);
}

static void damaged_effects_are_corrupt(void **state)
{
    struct blob_lab *lab = *state;
    struct buf m, effects;
    buf_init(&m, 4096);
    buf_init(&effects, 4096);
    struct sha256 digest = make_manifest(lab, SPAN_LIT("hello"), &m);
    struct commit c = {.seq = 1, .request = buf_span(&m)};
    struct blobs_batch *d = blobs_decide(lab->blobs, lab->txn, &c);
    assert_int_equal(blobs_decide_store(d, &digest, SPAN_NONE, buf_span(&m), NULL), 0);
    blobs_decide_effects(d, &effects);
    blobs_batch_free(d);
    for (size_t n = 1; n < effects.n; n++)
        assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, SPAN(effects.p, n)), ERR_CORRUPT);
    buf_put_u8(&effects, 0);
    assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), ERR_CORRUPT);
    buf_truncate(&effects, effects.n - 1);
    struct commit shorter = {.seq = 1, .request = SPAN(m.p, m.n - 1)}; // the manifest lies outside of it
    assert_int_equal(blobs_apply(lab->blobs, lab->txn, &shorter, buf_span(&effects)), ERR_CORRUPT);
    assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), 0);
    effects.p[0]++;
    assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), ERR_VERSION);
    buf_free(&m);
    buf_free(&effects);
}

// Bytes that were synced just now are known to be good; those that were there may not be.
static void chunk_that_came_anew_lies_where_it_was_written_last(void **state)
{
    struct blob_lab *lab = *state;
    struct buf first, second;
    struct span content = SPAN_LIT("the same bytes");
    buf_init(&first, 4096);
    buf_init(&second, 4096);
    struct sha256 digest = make_manifest(lab, content, &first);
    make_manifest(lab, content, &second); // the first is closed and not committed: a further place
    assert_false(span_equal(buf_span(&first), buf_span(&second)));
    struct span before, after;
    struct sha256 chunk = sha256_of(content);
    assert_int_equal(lab_store(lab, &digest, SPAN_NONE, buf_span(&second)), 0);
    assert_true(db_get(lab->txn, 1, SPAN(chunk.b, sizeof chunk.b), &before));
    struct chunk_entry first_entry, now;
    assert_int_equal(chunk_entry_decode(before, &first_entry), 0);
    struct sha256 other = {{3}}; // another blob with that chunk
    assert_int_equal(lab_store(lab, &other, SPAN_NONE, buf_span(&first)), 0);
    assert_true(db_get(lab->txn, 1, SPAN(chunk.b, sizeof chunk.b), &after));
    assert_int_equal(chunk_entry_decode(after, &now), 0);
    assert_true(now.place.position < first_entry.place.position); // the manifest made first was committed last
    assert_int_equal(now.refs, 2);
    assert_true(lab_holds(lab, content));
    buf_free(&first);
    buf_free(&second);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(stored_blob_names_its_size_type_and_commit),
        T(blob_without_a_type_is_an_octet_stream),
        T(blob_that_exists_stays_as_it_is),
        T(type_that_no_http_head_can_carry_is_refused),
        T(damaged_manifest_is_refused),
        T(digest_of_nothing_and_only_it_has_no_bytes),
        T(batch_finds_the_blobs_it_stores_itself),
        T(batch_stores_a_bounded_number_of_blobs),
        T(batch_without_blobs_has_no_effects),
        T(damaged_effects_are_corrupt),
        T(chunk_that_came_anew_lies_where_it_was_written_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
