// Bits of the index that flip: each is found and named, nothing wrong is ever given out, and the chunks' part of the index is made anew from the packs.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "file.h"
#include "tmp.h"

#define BLOBS 6
#define BLOB_BYTES (900 * KIB)

struct rig {
    struct blob_lab lab;
    uint8_t *content[BLOBS];
    struct buf data; // the database's file, as it was
};

static char *data_path(const struct rig *r)
{
    return tmp_path(r->lab.folder, "db/data.mdb");
}

static void put_data(struct rig *r, struct span bytes)
{
    char *path = data_path(r);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
    fclose(f);
    free(path);
}

// Blobs that share chunks, one that is on its way out, an upload with a tail.
static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    lab_open(&r->lab);
    r->lab.now_ms = 1000;
    for (size_t i = 0; i < BLOBS; i++) {
        r->content[i] = random_content(BLOB_BYTES, 1 + i);
        if (i > 0) memcpy(r->content[i], r->content[0], BLOB_BYTES / 2);
        assert_int_equal(lab_upload(&r->lab, SPAN(r->content[i], BLOB_BYTES), NULL), 0);
    }
    assert_int_equal(lab_upload_piece(&r->lab, uuid_new(), SPAN(r->content[1], BLOB_BYTES), 0, BLOB_BYTES - 1000), 0);
    lab_reopen(&r->lab);
    lab_reopen(&r->lab); // so that the file has what was committed
    char *path = data_path(r);
    buf_init(&r->data, 64 * MIB);
    assert_int_equal(file_slurp(&r->data, path), 0);
    free(path);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    lab_close(&r->lab);
    for (size_t i = 0; i < BLOBS; i++)
        free(r->content[i]);
    buf_free(&r->data);
    free(r);
    return 0;
}

// One bit of each place where these bytes lie in the file: of the entry that counts, and of what is left of older ones.
static size_t flip_all(struct buf *file, struct span what, size_t bit)
{
    size_t found = 0;
    for (size_t at = 0; at + what.n <= file->n; at++) {
        if (memcmp(file->p + at, what.p, what.n) != 0) continue;
        file->p[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
        found++;
        at += what.n - 1;
    }
    return found;
}

// Enough different bytes that they lie nowhere else by chance.
static bool is_unlike(struct span s)
{
    bool seen[256] = {false};
    size_t different = 0;
    for (size_t i = 0; i < s.n; i++) {
        different += !seen[s.p[i]];
        seen[s.p[i]] = true;
    }
    return different >= 8;
}

struct entry {
    struct buf key, value;
};

// The nth entry of a table. False: there are fewer.
static bool entry_at(struct rig *r, int table, size_t n, struct entry *out)
{
    struct db_iter it;
    bool more;
    db_iter_init(&it, r->lab.txn, table);
    for (more = db_iter_first(&it); more && n > 0; n--)
        more = db_iter_next(&it);
    if (more) {
        buf_init(&out->key, 64 * KIB);
        buf_init(&out->value, 64 * KIB);
        buf_put_span(&out->key, it.key);
        buf_put_span(&out->value, it.value);
    }
    db_iter_end(&it);
    return more;
}

static void entry_free(struct entry *e)
{
    buf_free(&e->key);
    buf_free(&e->value);
}

// Opens the store on other bytes of its database.
static void reopen_on(struct rig *r, struct span bytes)
{
    blobs_close(r->lab.blobs);
    db_abort(r->lab.txn);
    db_close(r->lab.db);
    put_data(r, bytes);
    lab_open_again(&r->lab);
}

static uint64_t unreadable(struct rig *r)
{
    uint64_t damaged;
    assert_int_equal(blobs_index_check(r->lab.blobs, r->lab.txn, &damaged, NULL, NULL), 0);
    return damaged;
}

// Each blob is itself, or an error. How many are errors.
static size_t read_blobs(struct rig *r)
{
    size_t errors = 0;
    for (size_t i = 0; i < BLOBS; i++) {
        struct sha256 digest = sha256_of(SPAN(r->content[i], BLOB_BYTES));
        struct buf out;
        buf_init(&out, 2 * BLOB_BYTES);
        int err = lab_read(&r->lab, &digest, 0, BLOB_BYTES, BLOB_WINDOW, &out);
        assert_true(err != 0 || span_equal(buf_span(&out), SPAN(r->content[i], BLOB_BYTES)));
        errors += err != 0;
        buf_free(&out);
    }
    return errors;
}

static void flip_and_look(struct rig *r, struct span what, size_t bit)
{
    struct buf file;
    uint64_t checked;
    buf_init(&file, 64 * MIB);
    buf_put_span(&file, buf_span(&r->data));
    assert_true(flip_all(&file, what, bit) > 0);
    reopen_on(r, buf_span(&file));
    assert_true(unreadable(r) > 0);
    assert_int_equal(blobs_check(r->lab.blobs, r->lab.txn, &checked), ERR_CORRUPT);
    read_blobs(r);
    buf_free(&file);
    reopen_on(r, buf_span(&r->data));
}

// ---- claims ------------------------------------------------------------------------------------------------------

static void any_bit_of_an_entry_that_flips_is_found(void **state)
{
    struct rig *r = *state;
    uint64_t seed = 7;
    size_t looked = 0;
    for (int table = 0; table < BLOBS_TABLE_COUNT; table++) {
        for (size_t n = 0;; n += 1 + n / 4) {
            struct entry e;
            if (!entry_at(r, table, n, &e)) break;
            struct span halves[] = {buf_span(&e.key), buf_span(&e.value)};
            for (size_t k = 0; k < 2; k++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                if (!is_unlike(halves[k])) continue;
                flip_and_look(r, halves[k], (seed >> 33) % (8 * halves[k].n));
                looked++;
            }
            entry_free(&e);
        }
    }
    assert_true(looked > 40);
    assert_int_equal(unreadable(r), 0);
    assert_int_equal(read_blobs(r), 0);
}

static void index_of_chunks_is_made_anew_from_the_packs(void **state)
{
    struct rig *r = *state;
    struct blob_lab *lab = &r->lab;
    struct blobs_rebuilt counts;
    struct digest *d = digest_new();
    uint64_t checked;
    size_t entries = 0;
    struct entry e;
    assert_int_equal(blobs_hash(lab->blobs, lab->txn, d), 0);
    struct sha256 before = digest_final(d);
    // Every fourth entry is damaged, and some are not there at all.
    struct buf file;
    buf_init(&file, 64 * MIB);
    buf_put_span(&file, buf_span(&r->data));
    for (; entry_at(r, lab->blobs->table_chunks, entries, &e); entries++) {
        if (entries % 4 == 0) assert_true(flip_all(&file, buf_span(&e.value), 77) > 0);
        entry_free(&e);
    }
    reopen_on(r, buf_span(&file));
    assert_true(entry_at(r, lab->blobs->table_chunks, 1, &e));
    db_del(lab->txn, lab->blobs->table_chunks, buf_span(&e.key));
    entry_free(&e);
    assert_true(unreadable(r) >= entries / 4);
    assert_true(read_blobs(r) > 0);
    assert_int_equal(blobs_rebuild(lab->blobs, lab->txn, &counts), 0);
    assert_true(counts.placed == entries && counts.missing == 0);
    assert_int_equal(unreadable(r), 0);
    assert_int_equal(read_blobs(r), 0);
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
    assert_int_equal(blobs_hash(lab->blobs, lab->txn, d), 0);
    struct sha256 after = digest_final(d);
    assert_true(sha256_equal(&before, &after));
    buf_free(&file);
    digest_free(d);
}

// Bytes that are nowhere are damage that is known, and the same bytes repair it.
static void chunk_whose_record_is_gone_is_damaged_until_it_comes_again(void **state)
{
    struct rig *r = *state;
    struct blob_lab *lab = &r->lab;
    struct blobs_rebuilt counts;
    char *path = lab_pack_path(lab, 1);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, RECORD_HEAD_BYTES + 3, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    fputc(c ^ 4, f);
    fclose(f);
    free(path);
    assert_int_equal(blobs_rebuild(lab->blobs, lab->txn, &counts), 0);
    assert_int_equal(counts.missing, 1);
    assert_int_equal(read_blobs(r), BLOBS); // they have it in common
    assert_int_equal(lab_upload(lab, SPAN(r->content[0], BLOB_BYTES), NULL), 0);
    assert_int_equal(read_blobs(r), 0);
}

// What is damaged is not decided upon: a batch that was journaled could not be applied.
static void upload_that_meets_a_damaged_entry_is_refused(void **state)
{
    struct rig *r = *state;
    struct buf file;
    struct entry e;
    buf_init(&file, 64 * MIB);
    buf_put_span(&file, buf_span(&r->data));
    assert_true(entry_at(r, r->lab.blobs->table_chunks, 0, &e));
    assert_true(flip_all(&file, buf_span(&e.value), 20) > 0);
    reopen_on(r, buf_span(&file));
    int refused = 0;
    for (size_t i = 0; i < BLOBS; i++) {
        int err = lab_upload(&r->lab, SPAN(r->content[i], BLOB_BYTES), NULL);
        assert_true(err == 0 || err == ERR_CORRUPT);
        refused += err != 0;
    }
    assert_true(refused > 0);
    r->lab.now_ms += 1000000;
    struct buf step; // what is due goes round it
    buf_init(&step, 64 * KIB);
    for (size_t n = 0; n < 200; n++) {
        buf_clear(&step);
        if (blobs_step_due(r->lab.blobs, r->lab.txn, r->lab.now_ms, 1000, n % 10, &step)) assert_int_equal(lab_step(&r->lab, buf_span(&step)), 0);
    }
    buf_free(&step);
    entry_free(&e);
    buf_free(&file);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(any_bit_of_an_entry_that_flips_is_found),
        T(index_of_chunks_is_made_anew_from_the_packs),
        T(chunk_whose_record_is_gone_is_damaged_until_it_comes_again),
        T(upload_that_meets_a_damaged_entry_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
