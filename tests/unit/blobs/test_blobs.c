// The store as a whole: opening again, and the hash of its logical state.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "db.h"
#include "err.h"
#include "tmp.h"

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

static struct sha256 hash_of(struct blob_lab *lab)
{
    struct digest *d = digest_new();
    assert_non_null(d);
    assert_int_equal(blobs_hash(lab->blobs, lab->txn, d), 0);
    struct sha256 sha = digest_final(d);
    digest_free(d);
    return sha;
}

static void store_is_the_same_after_opening_again(void **state)
{
    struct blob_lab *lab = *state;
    uint8_t *p = random_content(1 * MIB, 1);
    struct sha256 digest;
    struct blob_info info;
    assert_int_equal(lab_upload(lab, SPAN(p, 1 * MIB), &digest), 0);
    struct sha256 before = hash_of(lab);
    uint64_t bytes = blobs_pack_bytes(lab->blobs);
    lab_reopen(lab);
    struct sha256 after = hash_of(lab);
    assert_true(sha256_equal(&before, &after));
    assert_int_equal(blobs_pack_bytes(lab->blobs), bytes);
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &info));
    assert_int_equal(info.size, 1 * MIB);
    assert_true(lab_holds(lab, SPAN(p, 1 * MIB)));
    free(p);
}

static void hash_does_not_tell_where_chunks_lie(void **state)
{
    struct blob_lab *lab = *state, other;
    struct blob_upload *broken;
    uint8_t *p = random_content(500000, 2);
    lab_open(&other);
    assert_int_equal(blobs_upload_open(other.blobs, &broken), 0); // what it leaves lies before all that follows
    assert_int_equal(lab_feed(&other, broken, SPAN(p + 100, 300000), true), 0);
    blobs_upload_close(broken);
    assert_int_equal(lab_upload(lab, SPAN(p, 500000), NULL), 0);
    assert_int_equal(lab_upload(lab, SPAN_LIT("small"), NULL), 0);
    assert_int_equal(lab_upload(&other, SPAN(p, 500000), NULL), 0);
    assert_int_equal(lab_upload(&other, SPAN_LIT("small"), NULL), 0);
    assert_true(blobs_pack_bytes(other.blobs) > blobs_pack_bytes(lab->blobs));
    struct sha256 a = hash_of(lab), b = hash_of(&other);
    assert_true(sha256_equal(&a, &b));
    lab_close(&other);
    free(p);
}

static void hash_tells_every_blob_and_type(void **state)
{
    struct blob_lab *lab = *state, other;
    struct blob_upload *u;
    struct sha256 none = hash_of(lab);
    lab_open(&other);
    assert_int_equal(lab_upload(lab, SPAN_LIT("small"), NULL), 0);
    assert_int_equal(blobs_upload_open(other.blobs, &u), 0);
    assert_int_equal(lab_feed(&other, u, SPAN_LIT("small"), true), 0);
    assert_int_equal(lab_commit(&other, u, "text/plain"), 0);
    blobs_upload_close(u);
    struct sha256 octets = hash_of(lab), text = hash_of(&other);
    assert_false(sha256_equal(&none, &octets));
    assert_false(sha256_equal(&text, &octets));
    lab_close(&other);
}

static void opening_where_no_folder_can_be_is_an_error(void **state)
{
    struct blob_lab *lab = *state;
    struct blobs *b = NULL;
    char *file = tmp_path(lab->folder, "file");
    fclose(fopen(file, "w"));
    struct blobs_options options = {.first_table = 0, .path = file};
    assert_int_equal(blobs_open(&b, &options, lab->txn), ERR_IO);
    assert_null(b);
    blobs_close(NULL);
    free(file);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(store_is_the_same_after_opening_again),
        T(hash_does_not_tell_where_chunks_lie),
        T(hash_tells_every_blob_and_type),
        T(opening_where_no_folder_can_be_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
