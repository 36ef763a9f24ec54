// Deciding and applying. Effects name each manifest by its place in the request, so that no entry holds one twice.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"

// ---- deciding --------------------------------------------------------------------------------------------------

struct blobs_batch *blobs_decide(struct blobs *b, struct db_txn *txn, const struct commit *c)
{
    struct blobs_batch *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->b = b;
    d->txn = txn;
    d->commit = c;
    buf_init(&d->upload_effects, BATCH_OPS_MAX * sizeof(struct upload_effect));
    buf_init(&d->links, BATCH_OPS_MAX * SHA256_BYTES);
    buf_init(&d->releases, ENTRY_BYTES_MAX);
    buf_init(&d->steps, BATCH_OPS_MAX * sizeof(struct upload_effect));
    return d;
}

void blobs_batch_free(struct blobs_batch *d)
{
    if (d == NULL) return;
    uploads_batch_free(d);
    buf_free(&d->links);
    buf_free(&d->releases);
    buf_free(&d->steps);
    free(d->stored);
    free(d);
}

// Linear: a batch stores few blobs.
bool blobs_decide_find(struct blobs_batch *d, const struct sha256 *digest, struct blob_info *out)
{
    for (size_t i = 0; i < d->count; i++) {
        if (!sha256_equal(&d->stored[i].info.digest, digest)) continue;
        *out = d->stored[i].info;
        return true;
    }
    return blobs_find(d->b, d->txn, digest, out);
}

// The type goes into HTTP heads: printable ASCII or nothing.
int blob_set_type(struct blob_info *info, struct span type, struct problem *p)
{
    if (type.n == 0) type = SPAN_LIT(TYPE_DEFAULT);
    if (type.n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_VALUE, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    for (size_t i = 0; i < type.n; i++)
        if (type.p[i] < ' ' || type.p[i] > '~')
            return problem_set(p, ERR_BAD_VALUE, -1, "the content type has a byte that is not printable ASCII");
    memcpy(info->type, type.p, type.n);
    return 0;
}

static bool make_room(struct blobs_batch *d)
{
    if (d->count < d->room) return true;
    size_t room = d->room > 0 ? 2 * d->room : 4;
    struct stored *wider = realloc(d->stored, room * sizeof *wider);
    if (wider == NULL) return false;
    d->stored = wider;
    d->room = room;
    return true;
}

int blob_batch_add(struct blobs_batch *d, const struct stored *s, struct problem *p)
{
    struct blob_info known;
    bool found = blobs_decide_find(d, &s->info.digest, &known);
    if (found && known.size != s->info.size) return problem_set(p, ERR_BAD_VALUE, -1, "a blob of this digest has another size");
    if (found && !s->again) return 0;
    int err = found ? 0 : blobs_look(d->b, d->txn, &s->info.digest, &known);
    if (err == ERR_CORRUPT) return problem_set(p, err, -1, "what the index has of this blob is damaged"); // what keeps it must not be forgotten
    err = db_txn_err(d->txn);
    if (err != 0) return problem_set(p, err, -1, "the database cannot be read");
    if (d->count == BATCH_BLOBS_MAX) return problem_set(p, ERR_BATCH_TOO_LARGE, -1, "a batch stores at most %d blobs", BATCH_BLOBS_MAX);
    if (!make_room(d)) return problem_set(p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
    d->stored[d->count++] = *s;
    return 0;
}

// A blob that is there already still takes what was brought anew, which may be the repair of a damaged chunk, and gets its grace again.
static bool brings_anything(struct blobs_batch *d, const struct manifest *m, const struct blob_info *known)
{
    for (size_t i = 0; i < d->count; i++)
        if (sha256_equal(&d->stored[i].info.digest, &known->digest)) return false; // by this very batch
    if (known->free_ms > 0) return true;
    for (uint32_t i = 0; i < m->count; i++) {
        struct chunk chunk;
        blob_manifest_at(m, i, &chunk);
        if (!chunk.known) return true;
    }
    return false;
}

int blobs_decide_store(struct blobs_batch *d, const struct sha256 *digest, struct span type, struct span manifest, struct problem *p)
{
    struct span request = d->commit->request;
    assert(manifest.n <= request.n && manifest.p >= request.p && manifest.p + manifest.n <= request.p + request.n);
    struct stored s = {
        .info = {.digest = *digest, .created_seq = d->commit->seq}, .at = (uint64_t)(manifest.p - request.p), .n = manifest.n};
    struct manifest m;
    if (blob_manifest_decode(manifest, &m) != 0) return problem_set(p, ERR_BAD_VALUE, -1, "the blob's manifest is not valid");
    struct sha256 empty = sha256_of(SPAN_NONE);
    if ((m.size == 0) != sha256_equal(digest, &empty)) return problem_set(p, ERR_BAD_VALUE, -1, "the blob's digest does not fit its size");
    int err = blob_set_type(&s.info, type, p);
    if (err != 0) return err;
    s.info.size = m.size;
    err = manifest_check_known(d->b, d->txn, &m);
    if (err == ERR_CORRUPT) return problem_set(p, err, -1, "the index of chunks is damaged");
    if (err != 0)
        return problem_set(p, ERR_BAD_VALUE, -1, "a chunk that the manifest relies on is gone: upload it again");
    struct blob_info known;
    if (blobs_decide_find(d, digest, &known)) {
        if (known.size == m.size && !brings_anything(d, &m, &known)) return 0;
        s.info = known;
        s.info.size = m.size;
        s.again = true;
    }
    return blob_batch_add(d, &s, p);
}

void blobs_decide_effects(struct blobs_batch *d, struct buf *effects)
{
    size_t count = 0;
    for (size_t i = 0; i < d->count; i++)
        count += !d->stored[i].uploaded;
    if (count == 0 && d->upload_effects.n == 0 && d->links.n == 0 && d->steps.n == 0 && d->releases.n == 0) return; // most batches
    blob_effects_begin(effects, count);
    for (size_t i = 0; i < d->count; i++) {
        const struct stored *s = &d->stored[i];
        if (s->uploaded) continue; // the completed upload's effect makes it
        blob_effects_put(effects, &(struct blob_effect){.digest = s->info.digest, .type = SPAN_STR(s->info.type), .at = s->at, .n = s->n});
    }
    bool life = d->links.n > 0 || d->steps.n > 0 || d->releases.n > 0;
    if (life || d->upload_effects.n > 0) uploads_decide_effects(d, effects);
    if (life) life_decide_effects(d, effects);
}

// ---- applying --------------------------------------------------------------------------------------------------

void blob_apply_head(struct blobs *b, struct db_txn *txn, const struct blob_info *info, struct buf *scratch)
{
    struct blob_key key = blob_head_key(&info->digest);
    buf_clear(scratch);
    blob_head_encode(scratch, info);
    if (scratch->err == 0) db_put(txn, b->table_blobs, blob_key_span(&key), buf_span(scratch));
}

void blob_page_build(struct buf *page, const struct manifest *m, uint32_t first, uint64_t *offset)
{
    buf_clear(page);
    blob_page_begin(page);
    for (uint32_t i = first; i < m->count && i - first < PAGE_CHUNKS; i++) {
        struct chunk chunk;
        blob_manifest_at(m, i, &chunk);
        blob_page_put(page, &chunk.sha, chunk.place.length);
        *offset += chunk.place.length;
    }
}

static int apply_page(struct blobs *b, struct db_txn *txn, struct uuid pages, const struct manifest *m, uint32_t first,
                      uint64_t *offset, struct buf *scratch)
{
    struct blob_key key = blob_page_key(pages, *offset);
    blob_page_build(scratch, m, first, offset);
    if (scratch->err == 0) db_put(txn, b->table_pages, blob_key_span(&key), buf_span(scratch));
    return scratch->err;
}

static int apply_again(struct blobs *b, struct db_txn *txn, const struct commit *c, struct blob_info *info, const struct manifest *m)
{
    int err = 0;
    for (uint32_t i = 0; i < m->count && err == 0; i++) {
        struct chunk chunk;
        blob_manifest_at(m, i, &chunk);
        if (!chunk.known) err = chunk_renew(b, txn, &chunk);
    }
    return err != 0 ? err : blob_settle(b, txn, info, c->arrival_ms);
}

static int apply_blob(struct blobs *b, struct db_txn *txn, const struct commit *c, const struct blob_effect *e, size_t number, struct buf *scratch)
{
    struct blob_info known, info = {.digest = e->digest, .created_seq = c->seq, .pages = blob_pages_id(c->seq, number)};
    int err;
    struct manifest m;
    if (e->at > c->request.n || e->n > c->request.n - e->at) return ERR_CORRUPT;
    if (blob_manifest_decode(SPAN(c->request.p + e->at, e->n), &m) != 0) return ERR_CORRUPT;
    info.size = m.size;
    memcpy(info.type, e->type.p, e->type.n);
    if (blob_head_find(b, txn, &e->digest, &known, &err)) return apply_again(b, txn, c, &known, &m);
    if (err == 0) err = blob_settle(b, txn, &info, c->arrival_ms);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < m.count && err == 0; i++) {
        struct chunk chunk;
        blob_manifest_at(&m, i, &chunk);
        if (i % PAGE_CHUNKS == 0) err = apply_page(b, txn, info.pages, &m, i, &offset, scratch);
        if (err == 0) err = chunk_ref(b, txn, &chunk);
    }
    return err;
}

int blobs_apply(struct blobs *b, struct db_txn *txn, const struct commit *c, struct span effects)
{
    if (effects.n == 0) return db_txn_err(txn);
    struct cur cur;
    struct buf scratch;
    size_t count = 0;
    cur_init(&cur, effects);
    buf_init(&scratch, 1 + PAGE_CHUNKS * PAGE_ENTRY_BYTES);
    int err = blob_effects_open(&cur, &count);
    for (size_t i = 0; i < count && err == 0; i++) {
        struct blob_effect e;
        err = blob_effects_next(&cur, &e);
        if (err == 0) err = apply_blob(b, txn, c, &e, i, &scratch);
    }
    if (err == 0) err = uploads_apply(b, txn, c, &cur);
    if (err == 0) err = life_apply(b, txn, c, &cur);
    if (err == 0) err = cur_end(&cur);
    buf_free(&scratch);
    return err != 0 ? err : db_txn_err(txn);
}
