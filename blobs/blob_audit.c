// Reading and verifying every chunk of the index in pieces, for the scrub and for the check that somebody asks for; and sums.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "pack.h"

#define AUDIT_CHUNKS_MAX 64 // of one piece

struct audited {
    struct chunk chunk;
    bool was_damaged;
    struct pack *pack; // a reference: the file stays
    int err;
};

struct blobs_audit {
    struct blobs *b;
    struct sha256 at; // the last one of the piece before, once begun
    bool begun;
    struct audited list[AUDIT_CHUNKS_MAX];
    size_t count;
    uint64_t chunks, bytes, damaged;
    struct blobs_damage damage[BLOBS_DAMAGE_MAX]; // by chunk, as the walk goes
    size_t listed;
};

int blobs_audit_open(struct blobs *b, struct blobs_audit **out)
{
    struct blobs_audit *a = calloc(1, sizeof *a);
    if (a == NULL) return ERR_NOMEM;
    a->b = b;
    atomic_fetch_add(&b->readers, 1);
    *out = a;
    return 0;
}

static void release(struct blobs_audit *a)
{
    for (size_t i = 0; i < a->count; i++)
        pack_unref(a->list[i].pack);
    a->count = 0;
}

void blobs_audit_close(struct blobs_audit *a)
{
    if (a == NULL) return;
    release(a);
    atomic_fetch_sub(&a->b->readers, 1);
    free(a);
}

static bool plan_one(struct blobs_audit *a, struct span key, struct span value)
{
    struct audited *x = &a->list[a->count];
    struct chunk_entry e;
    if (key.n != SHA256_BYTES || chunk_entry_decode(value, &e) != 0) return true; // the mark pass tells
    *x = (struct audited){.chunk.place = e.place, .was_damaged = e.damaged};
    memcpy(x->chunk.sha.b, key.p, SHA256_BYTES);
    x->pack = packs_get(a->b->packs, e.place.pack);
    if (x->pack == NULL) return false;
    a->at = x->chunk.sha;
    a->begun = true;
    a->count++;
    return true;
}

bool blobs_audit_plan(struct blobs_audit *a, struct db_txn *txn, size_t bytes_max)
{
    struct db_iter it;
    size_t bytes = 0;
    assert(a->count == 0);
    db_iter_init(&it, txn, a->b->table_chunks);
    bool more = a->begun ? db_iter_seek(&it, SPAN(a->at.b, SHA256_BYTES)) : db_iter_first(&it);
    if (more && a->begun && span_equal(it.key, SPAN(a->at.b, SHA256_BYTES))) more = db_iter_next(&it);
    while (more && a->count < AUDIT_CHUNKS_MAX && bytes < bytes_max && plan_one(a, it.key, it.value)) {
        if (a->count > 0) bytes += a->list[a->count - 1].chunk.place.stored;
        more = db_iter_next(&it);
    }
    db_iter_end(&it);
    return a->count > 0;
}

void blobs_audit_run(struct blobs_audit *a)
{
    struct buf record, content;
    buf_init(&record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&content, BLOB_CHUNK_MAX);
    for (size_t i = 0; i < a->count; i++)
        a->list[i].err = chunk_read(a->b, &a->list[i].chunk, &record, &content);
    buf_free(&record);
    buf_free(&content);
}

static void tell(struct blobs_audit *a, const struct audited *x)
{
    a->damaged++;
    if (a->listed == BLOBS_DAMAGE_MAX) return;
    const struct place *at = &x->chunk.place;
    a->damage[a->listed++] = (struct blobs_damage){.chunk = x->chunk.sha, .pack = at->pack, .length = at->length, .position = at->position};
}

// A chunk that was moved while it was read is somewhere else now, and was verified on its way.
static bool is_still_there(struct blobs_audit *a, struct db_txn *txn, const struct audited *x)
{
    struct chunk_entry e;
    return chunk_entry_find(a->b, txn, &x->chunk.sha, &e) == 0 && e.place.pack == x->chunk.place.pack && e.place.position == x->chunk.place.position;
}

bool blobs_audit_done(struct blobs_audit *a, struct db_txn *txn, int *err)
{
    bool written = false;
    *err = 0;
    for (size_t i = 0; i < a->count && *err == 0 && txn != NULL; i++) {
        const struct audited *x = &a->list[i];
        if (x->err != 0 && x->err != ERR_CORRUPT) *err = x->err;
        if (*err != 0 || !is_still_there(a, txn, x)) continue;
        if (x->err == ERR_CORRUPT) tell(a, x);
        if ((x->err != 0) != x->was_damaged) written |= chunk_mark(a->b, txn, &x->chunk, x->err != 0, err);
        a->chunks++;
        a->bytes += x->chunk.place.length;
    }
    release(a);
    return written;
}

// ---- the end of a check --------------------------------------------------------------------------------------------------

static int compare(const void *key, const void *at)
{
    return memcmp(((const struct sha256 *)key)->b, ((const struct blobs_damage *)at)->chunk.b, SHA256_BYTES);
}

static int name_users(struct blobs_audit *a, struct db_txn *txn, const struct blob_info *info, blobs_damage_user *user, void *ctx)
{
    struct db_iter it;
    struct blob_key first = blob_page_key(info->pages, 0);
    struct uuid pages;
    uint64_t offset;
    db_iter_init(&it, txn, a->b->table_pages);
    for (bool more = db_iter_seek(&it, blob_key_span(&first)); more; more = db_iter_next(&it)) {
        size_t count = 0;
        if (!blob_key_is_page(it.key, &pages, &offset) || !uuid_equal(pages, info->pages)) break;
        if (blob_page_decode(it.value, &count) != 0) break;
        for (size_t i = 0; i < count; i++) {
            struct sha256 sha;
            uint32_t length;
            blob_page_at(it.value, i, &sha, &length);
            const struct blobs_damage *d = bsearch(&sha, a->damage, a->listed, sizeof *d, compare);
            if (d != NULL) user(ctx, &info->digest, d, offset);
            offset += length;
        }
    }
    db_iter_end(&it);
    return db_txn_err(txn);
}

int blobs_audit_finish(struct blobs_audit *a, struct db_txn *txn, uint64_t *wrong, blobs_damage_user *user, void *ctx)
{
    struct db_iter it;
    int err = blobs_mark(a->b, txn, wrong);
    if (a->listed == 0 || err != 0) return err;
    db_iter_init(&it, txn, a->b->table_blobs);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct blob_info info;
        if (!blob_key_is_head(it.key, &info.digest)) continue;
        if (blob_head_decode(it.value, &info) == 0) err = name_users(a, txn, &info, user, ctx);
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}

uint64_t blobs_audit_damage(const struct blobs_audit *a, const struct blobs_damage **list, size_t *listed)
{
    *list = a->damage;
    *listed = a->listed;
    return a->damaged;
}

void blobs_audit_counts(const struct blobs_audit *a, uint64_t *chunks, uint64_t *bytes)
{
    *chunks = a->chunks;
    *bytes = a->bytes;
}

// ---- sums ------------------------------------------------------------------------------------------------------------------

static int sum_blobs(struct blobs *b, struct db_txn *txn, struct blobs_usage *u)
{
    struct db_iter it;
    db_iter_init(&it, txn, b->table_blobs);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        struct blob_info info;
        if (!blob_key_is_head(it.key, &info.digest)) continue;
        if (blob_head_decode(it.value, &info) != 0) continue; // the check names it
        u->blobs++;
        u->logical += info.size;
    }
    db_iter_end(&it);
    return db_txn_err(txn);
}

int blobs_usage(struct blobs *b, struct db_txn *txn, struct blobs_usage *out)
{
    struct blobs_usage u = {.files = out->files};
    struct db_iter it;
    int err = sum_blobs(b, txn, &u);
    db_iter_init(&it, txn, b->table_chunks);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct chunk_entry e;
        if (chunk_entry_decode(it.value, &e) != 0 || e.refs == 0) continue;
        u.chunks++;
        u.content += e.place.length;
        u.stored += blob_record_bytes(e.place.stored);
    }
    db_iter_end(&it);
    if (err == 0) err = db_txn_err(txn);
    if (err == 0) *out = u;
    return err;
}
