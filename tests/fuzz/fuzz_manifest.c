// Any bytes as a manifest: decided, applied and read back in a store whose first pack holds a few real chunks. What is
// taken must be readable or damaged, never anything else.
#include <assert.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "blobs.h"
#include "db.h"
#include "err.h"
#include "log.h"

#define CONTENT_BYTES 200000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/segue-fuzz-XXXXXX";
static struct db *db;
static struct blobs *blobs;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void close_store(void)
{
    blobs_close(blobs);
    db_close(db);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

// Puts chunks into the pack that no commit names, at the places that the corpus speaks of.
static void fill_pack(struct db_txn *txn)
{
    static uint8_t content[CONTENT_BYTES];
    struct blob_upload *u;
    uint32_t v = 1;
    for (size_t i = 0; i < CONTENT_BYTES; i++)
        content[i] = (uint8_t)((v = v * 1664525 + 1013904223) >> 24); // Numerical Recipes' generator
    memset(content, 'x', CONTENT_BYTES / 2);                          // so that some of it is stored packed
    int err = blobs_upload_open(blobs, &u);
    if (err == 0) err = blobs_upload_chunk(u, SPAN(content, CONTENT_BYTES), true);
    if (err == 0) err = blobs_upload_place(u, txn);
    if (err == 0) err = blobs_upload_write(u);
    if (err == 0) err = blobs_upload_sync(u);
    assert(err == 0);
    blobs_upload_close(u);
}

static void open_store(void)
{
    static const char *const tables[] = {BLOBS_TABLES};
    char path[64], packs[64];
    log_set_level(LOG_ERROR);
    assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/db", folder);
    snprintf(packs, sizeof packs, "%s/packs", folder);
    int err = db_open(&db, &(struct db_options){.path = path, .map_bytes = 64 * MIB, .tables = tables, .table_count = BLOBS_TABLE_COUNT});
    assert(err == 0);
    struct db_txn *txn = db_begin_write(db);
    err = blobs_open(&blobs, &(struct blobs_options){.first_table = 0, .path = packs}, txn);
    assert(err == 0);
    fill_pack(txn);
    db_abort(txn);
    atexit(close_store);
}

static int read_all(struct db_txn *txn, const struct sha256 *digest, uint64_t size)
{
    struct blob_reader *r;
    struct buf out;
    uint64_t n = 0;
    buf_init(&out, 1 * MIB);
    int err = blobs_reader_open(blobs, txn, digest, 0, size, &r);
    assert(err == 0);
    while (err == 0 && !blobs_reader_done(r)) {
        buf_clear(&out);
        err = blobs_reader_next(r, txn, 100000);
        if (err == 0) err = blobs_reader_read(r, &out);
        n += out.n;
    }
    assert(err != 0 || n == size);
    blobs_reader_close(r);
    buf_free(&out);
    return err;
}

static void run(struct db_txn *txn, struct span manifest)
{
    struct sha256 digest = {{1}};
    struct commit c = {.seq = 1, .request = manifest};
    struct blob_info info;
    struct buf effects;
    uint64_t checked;
    buf_init(&effects, 4096);
    struct blobs_batch *d = blobs_decide(blobs, txn, &c);
    assert(d != NULL);
    int err = blobs_decide_store(d, &digest, SPAN_NONE, manifest, NULL);
    assert(err == 0 || err == ERR_BAD_VALUE);
    if (err == 0) blobs_decide_effects(d, &effects);
    blobs_batch_free(d);
    if (err == 0) {
        err = blobs_apply(blobs, txn, &c, buf_span(&effects));
        assert(err == 0);
        assert(blobs_find(blobs, txn, &digest, &info));
        err = read_all(txn, &digest, info.size);
        assert(err == 0 || err == ERR_CORRUPT);
        err = blobs_check(blobs, txn, &checked);
        assert(err == ERR_CORRUPT && checked == 1); // the digest is none that content could have
    }
    // The same bytes as effects that a damaged journal might hold.
    err = blobs_apply(blobs, txn, &c, manifest);
    assert(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    buf_free(&effects);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (db == NULL) open_store();
    struct db_txn *txn = db_begin_write(db);
    run(txn, SPAN(data, size));
    db_abort(txn);
    return 0;
}
