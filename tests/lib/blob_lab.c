#include "blob_lab.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "db.h"
#include "err.h"
#include "log.h"
#include "tmp.h"

static const char *const tables[] = {BLOBS_TABLES};

static void open_store(struct blob_lab *lab)
{
    char *db = tmp_path(lab->folder, "db");
    struct db_options options = {.path = db, .map_bytes = 1024ull * MIB, .tables = tables, .table_count = BLOBS_TABLE_COUNT, .summed = (1u << BLOBS_TABLE_COUNT) - 1};
    int err = db_open(&lab->db, &options);
    assert(err == 0);
    free(db);
    lab->txn = db_begin_write(lab->db);
    struct blobs_options blobs = {.first_table = 0, .path = lab->packs};
    err = blobs_open(&lab->blobs, &blobs, lab->txn);
    assert(err == 0);
}

static void close_store(struct blob_lab *lab)
{
    blobs_close(lab->blobs);
    int err = db_commit(lab->txn);
    assert(err == 0);
    db_close(lab->db);
}

void lab_open(struct blob_lab *lab)
{
    *lab = (struct blob_lab){.folder = tmp_make()};
    lab->packs = tmp_path(lab->folder, "packs");
    log_set_level(LOG_ERROR);
    open_store(lab);
}

void lab_open_again(struct blob_lab *lab)
{
    open_store(lab);
}

void lab_close(struct blob_lab *lab)
{
    close_store(lab);
    free(lab->packs);
    tmp_remove(lab->folder);
}

void lab_reopen(struct blob_lab *lab)
{
    close_store(lab);
    open_store(lab);
}

char *lab_pack_path(const struct blob_lab *lab, unsigned number)
{
    char name[24];
    snprintf(name, sizeof name, "%04u.pack", number);
    return tmp_path(lab->packs, name);
}

// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint8_t *random_content(size_t n, uint64_t seed)
{
    uint8_t *p = malloc(n + sizeof seed);
    assert(p != NULL);
    for (size_t i = 0; i < n; i += sizeof seed) {
        uint64_t v = next_random(&seed);
        memcpy(p + i, &v, sizeof v);
    }
    return p;
}

uint8_t *text_content(size_t n, uint64_t seed)
{
    static const char *const words[] = {"token ", "stream ", "of ", "rows ", "and ", "blobs, ", "in ", "order.\n"};
    uint8_t *p = malloc(n + 16);
    assert(p != NULL);
    for (size_t i = 0; i < n;) {
        const char *word = words[next_random(&seed) % 8];
        memcpy(p + i, word, strlen(word));
        i += strlen(word);
    }
    return p;
}

int lab_feed(struct blob_lab *lab, struct blob_upload *u, struct span data, bool last)
{
    int err = blobs_upload_chunk(u, data, last);
    if (err == 0) err = blobs_upload_place(u, lab->txn);
    if (err == 0) err = blobs_upload_write(u);
    if (err == 0 && last) err = blobs_upload_sync(u);
    return err;
}

int lab_feed_all(struct blob_lab *lab, struct blob_upload *u, struct span content, size_t window)
{
    size_t at = 0;
    do {
        struct span data = span_sub(content, at, window);
        at += data.n;
        int err = lab_feed(lab, u, data, at == content.n);
        if (err != 0) return err;
    } while (at < content.n);
    return 0;
}

// One operation as a batch of its own.
static int decide_and_apply(struct blob_lab *lab, struct span request, int (*decide)(struct blobs_batch *d, void *ctx, struct problem *p), void *ctx)
{
    struct commit c = {.seq = lab->seq + 1, .arrival_ms = lab->now_ms, .request = request};
    struct buf effects;
    struct problem p = PROBLEM_NONE;
    buf_init(&effects, 64 * KIB);
    struct blobs_batch *d = blobs_decide(lab->blobs, lab->txn, &c);
    assert(d != NULL);
    int err = decide(d, ctx, &p);
    assert(err == p.err);
    if (err == 0) blobs_decide_effects(d, &effects);
    blobs_batch_free(d);
    if (err == 0) err = blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects));
    if (err == 0) lab->seq++;
    buf_free(&effects);
    return err;
}

struct store {
    const struct sha256 *digest;
    struct span type, manifest;
};

static int decide_store(struct blobs_batch *d, void *ctx, struct problem *p)
{
    struct store *s = ctx;
    return blobs_decide_store(d, s->digest, s->type, s->manifest, p);
}

int lab_store(struct blob_lab *lab, const struct sha256 *digest, struct span type, struct span manifest)
{
    struct store s = {digest, type, manifest};
    return decide_and_apply(lab, manifest, decide_store, &s);
}

static int decide_step(struct blobs_batch *d, void *ctx, struct problem *p)
{
    return blobs_decide_step(d, *(struct span *)ctx, p);
}

int lab_step(struct blob_lab *lab, struct span step)
{
    return decide_and_apply(lab, step, decide_step, &step);
}

static int decide_link(struct blobs_batch *d, void *ctx, struct problem *p)
{
    return blobs_decide_link(d, ctx, p);
}

int lab_link(struct blob_lab *lab, const struct sha256 *digest)
{
    struct sha256 copy = *digest;
    return decide_and_apply(lab, SPAN_NONE, decide_link, &copy);
}

static int decide_upload(struct blobs_batch *d, void *ctx, struct problem *p)
{
    return blobs_decide_upload(d, *(struct span *)ctx, p);
}

int lab_upload_op(struct blob_lab *lab, struct span op)
{
    return decide_and_apply(lab, op, decide_upload, &op);
}

static int progress(struct blob_lab *lab, struct blob_upload *u, struct span piece)
{
    struct buf op;
    int err = blobs_upload_load(u);
    buf_init(&op, MIB);
    for (size_t at = 0; at < piece.n && err == 0; at += BLOB_WINDOW) {
        if (at + BLOB_WINDOW >= piece.n) blobs_upload_pause(u);
        err = lab_feed(lab, u, span_sub(piece, at, BLOB_WINDOW), false);
    }
    if (err == 0) err = blobs_upload_sync(u);
    if (err == 0) blobs_upload_progress(u, &op);
    if (err == 0) err = op.err != 0 ? op.err : lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

int lab_upload_piece(struct blob_lab *lab, struct uuid id, struct span content, size_t from, size_t to)
{
    struct blob_upload *u;
    struct buf op;
    int err = 0;
    buf_init(&op, 8 * KIB);
    blobs_upload_put_create(&op, id, &(struct upload_new){.length = content.n});
    if (from == 0) err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    if (err == 0) err = blobs_upload_resume(lab->blobs, lab->txn, id, &u);
    if (err != 0) return err;
    err = progress(lab, u, span_sub(content, from, to - from));
    blobs_upload_close(u);
    return err;
}

int lab_commit(struct blob_lab *lab, struct blob_upload *u, const char *type)
{
    struct sha256 digest;
    uint64_t size;
    struct buf manifest;
    buf_init(&manifest, ENTRY_BYTES_MAX);
    blobs_upload_result(u, &digest, &size, &manifest);
    int err = manifest.err != 0 ? manifest.err : lab_store(lab, &digest, SPAN_STR(type), buf_span(&manifest));
    buf_free(&manifest);
    return err;
}

int lab_upload(struct blob_lab *lab, struct span content, struct sha256 *digest)
{
    struct blob_upload *u;
    int err = blobs_upload_open(lab->blobs, &u);
    if (err != 0) return err;
    err = lab_feed_all(lab, u, content, BLOB_WINDOW);
    if (err == 0) err = lab_commit(lab, u, "");
    blobs_upload_close(u);
    if (digest != NULL) *digest = sha256_of(content);
    return err;
}

int lab_read(struct blob_lab *lab, const struct sha256 *digest, uint64_t offset, uint64_t n, size_t budget, struct buf *out)
{
    struct blob_reader *r;
    int err = blobs_reader_open(lab->blobs, lab->txn, digest, offset, n, &r);
    if (err != 0) return err;
    while (err == 0 && !blobs_reader_done(r)) {
        err = blobs_reader_next(r, lab->txn, budget);
        if (err == 0) err = blobs_reader_read(r, out);
    }
    blobs_reader_close(r);
    return err;
}

bool lab_holds(struct blob_lab *lab, struct span content)
{
    struct sha256 digest = sha256_of(content);
    struct buf out;
    buf_init(&out, content.n + 1);
    int err = lab_read(lab, &digest, 0, content.n, 1 * MIB, &out);
    bool same = err == 0 && span_equal(buf_span(&out), content);
    buf_free(&out);
    return same;
}
