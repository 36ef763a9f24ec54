// What keeps a blob and what ends it: links, pins, and the steps of blobs.h, "life".
//
// While deciding, a step is judged by what is stored. While applying it does nothing where there is nothing to do, so that two of the
// same in one batch are no matter.
#include <assert.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"

#define SWEEP_LOOKS_MAX 64 // lists that are read, passed over in one go
#define SWEEP_PAGES 2 // of one step: some 450 chunks
#define PAGE_MAX (1 + PAGE_CHUNKS * PAGE_ENTRY_BYTES)

// ---- references ------------------------------------------------------------------------------------------------

static bool is_kept(const struct blob_info *info)
{
    return info->linked || info->pinned || info->uploads > 0;
}

static void list_free(struct blobs *b, struct db_txn *txn, const struct blob_info *info, bool listed)
{
    static const uint8_t version = BLOB_FORMAT;
    struct blob_key key = life_blob_key(info);
    if (info->free_ms == 0) return;
    if (listed) db_put(txn, b->table_life, blob_key_span(&key), SPAN(&version, 1));
    else db_del(txn, b->table_life, blob_key_span(&key));
}

int blob_settle(struct blobs *b, struct db_txn *txn, struct blob_info *info, uint64_t now_ms)
{
    list_free(b, txn, info, false);
    info->free_ms = is_kept(info) ? 0 : now_ms > 0 ? now_ms : 1;
    list_free(b, txn, info, true);
    blob_apply_head(b, txn, info, &b->entry);
    return b->entry.err != 0 ? b->entry.err : db_txn_err(txn);
}

int blobs_decide_link(struct blobs_batch *d, const struct sha256 *digest, struct problem *p)
{
    struct blob_info info;
    if (!blobs_decide_find(d, digest, &info)) {
        int err = db_txn_err(d->txn);
        if (err != 0) return problem_set(p, err, -1, "the database cannot be read");
        return problem_set(p, ERR_BLOB_NOT_FOUND, -1, "no blob has this digest: upload it first");
    }
    if (info.linked) return 0;
    for (size_t i = 0; i < d->links.n; i += SHA256_BYTES)
        if (memcmp(d->links.p + i, digest->b, SHA256_BYTES) == 0) return 0;
    buf_put(&d->links, digest->b, SHA256_BYTES);
    return d->links.err == 0 ? 0 : problem_set(p, d->links.err, -1, "%s", err_text(d->links.err));
}

int blobs_decide_release(struct blobs_batch *d, const struct sha256 *digest, struct problem *p)
{
    buf_put(&d->releases, digest->b, SHA256_BYTES);
    return d->releases.err == 0 ? 0 : problem_set(p, d->releases.err, -1, "%s", err_text(d->releases.err));
}

// ---- steps: deciding ---------------------------------------------------------------------------------------------

void blobs_step_put_pin(struct buf *step, const struct sha256 *digest, bool pinned)
{
    blob_step_encode(step, &(struct blob_step){.kind = pinned ? STEP_PIN : STEP_UNPIN, .digest = *digest});
}

static int decide_step(struct blobs_batch *d, const struct blob_step *s, struct problem *p)
{
    struct blob_info info;
    if (s->kind == STEP_SWEEP || s->kind == STEP_FORGET) return 0; // nobody's but what has no reference
    if (!blobs_decide_find(d, &s->digest, &info)) return problem_set(p, ERR_NO_SUCH_BLOB, -1, "%s", err_text(ERR_NO_SUCH_BLOB));
    if (s->kind == STEP_EXPIRE && (info.free_ms == 0 || info.free_ms > s->before_ms))
        return problem_set(p, ERR_BAD_VALUE, -1, "the blob is in use");
    return 0;
}

int blobs_decide_step(struct blobs_batch *d, struct span step, struct problem *p)
{
    struct span request = d->commit->request;
    struct blob_step s;
    assert(step.n <= request.n && step.p >= request.p && step.p + step.n <= request.p + request.n);
    if (blob_step_decode(step, &s) != 0) return problem_set(p, ERR_BAD_VALUE, -1, "the step of a blob's life is not valid");
    int err = decide_step(d, &s, p);
    if (err != 0) return err;
    struct upload_effect e = {.at = (uint64_t)(step.p - request.p), .n = step.n};
    buf_put(&d->steps, &e, sizeof e);
    return d->steps.err == 0 ? 0 : problem_set(p, d->steps.err, -1, "%s", err_text(d->steps.err));
}

void life_decide_effects(struct blobs_batch *d, struct buf *effects)
{
    size_t count = d->steps.n / sizeof(struct upload_effect);
    buf_put_varint(effects, d->links.n / SHA256_BYTES);
    buf_put_span(effects, buf_span(&d->links));
    buf_put_varint(effects, count);
    for (size_t i = 0; i < count; i++) {
        struct upload_effect e;
        memcpy(&e, d->steps.p + i * sizeof e, sizeof e);
        buf_put_varint(effects, e.at);
        buf_put_varint(effects, e.n);
    }
    if (d->releases.n == 0) return;
    buf_put_varint(effects, d->releases.n / SHA256_BYTES);
    buf_put_span(effects, buf_span(&d->releases));
}

// ---- steps: applying ---------------------------------------------------------------------------------------------

static int apply_link(struct blobs *b, struct db_txn *txn, const struct commit *c, const struct sha256 *digest)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(b, txn, digest, &info, &err)) return err != 0 ? err : ERR_CORRUPT;
    info.linked = true;
    return blob_settle(b, txn, &info, c->arrival_ms);
}

// One that is not linked, or not there, had been let go before: an index that was made anew may know less than the rows.
static int apply_release(struct blobs *b, struct db_txn *txn, const struct commit *c, const struct sha256 *digest)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(b, txn, digest, &info, &err) || !info.linked) return err;
    info.linked = false;
    return blob_settle(b, txn, &info, c->arrival_ms);
}

static int apply_pin(struct blobs *b, struct db_txn *txn, const struct commit *c, const struct blob_step *s)
{
    struct blob_info info;
    int err;
    bool pinned = s->kind == STEP_PIN;
    if (!blob_head_find(b, txn, &s->digest, &info, &err)) return err;
    if (info.pinned == pinned) return 0;
    info.pinned = pinned;
    return blob_settle(b, txn, &info, c->arrival_ms);
}

void pages_discard(struct blobs *b, struct db_txn *txn, struct uuid pages)
{
    static const uint8_t version = BLOB_FORMAT;
    struct blob_key key = life_trash_key(pages);
    if (pages_exist(b, txn, pages)) db_put(txn, b->table_life, blob_key_span(&key), SPAN(&version, 1));
}

bool pages_exist(struct blobs *b, struct db_txn *txn, struct uuid pages)
{
    struct blob_key key = blob_page_key(pages, 0);
    struct span value;
    return db_get(txn, b->table_pages, blob_key_span(&key), &value);
}

static int apply_expire(struct blobs *b, struct db_txn *txn, const struct blob_step *s)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(b, txn, &s->digest, &info, &err)) return err;
    if (info.free_ms == 0 || info.free_ms > s->before_ms) return 0;
    struct blob_key key = blob_head_key(&s->digest);
    list_free(b, txn, &info, false);
    db_del(txn, b->table_blobs, blob_key_span(&key));
    pages_discard(b, txn, info.pages);
    return db_txn_err(txn);
}

// The last page goes first, so that the first one's presence tells whether there is anything.
static bool last_page(struct blobs *b, struct db_txn *txn, struct uuid pages, struct buf *value, struct blob_key *key)
{
    struct db_iter it;
    struct blob_key end = blob_page_key(pages, UINT64_MAX);
    struct uuid found;
    uint64_t offset;
    db_iter_init(&it, txn, b->table_pages);
    bool is = db_iter_seek_before(&it, blob_key_span(&end)) && blob_key_is_page(it.key, &found, &offset) && uuid_equal(found, pages);
    if (is) {
        *key = blob_page_key(pages, offset);
        buf_clear(value);
        buf_put_span(value, it.value);
    }
    db_iter_end(&it);
    return is;
}

static int unref_page(struct blobs *b, struct db_txn *txn, struct span page, uint64_t now_ms)
{
    size_t count;
    int err = blob_page_decode(page, &count);
    for (size_t i = 0; i < count && err == 0; i++) {
        struct sha256 sha;
        uint32_t length;
        blob_page_at(page, i, &sha, &length);
        err = chunk_unref(b, txn, &sha, now_ms);
    }
    return err;
}

static int apply_sweep(struct blobs *b, struct db_txn *txn, const struct commit *c, struct uuid pages)
{
    struct blob_key trash = life_trash_key(pages), key;
    struct span value;
    struct buf page;
    int err = 0;
    if (!db_get(txn, b->table_life, blob_key_span(&trash), &value)) return db_txn_err(txn);
    buf_init(&page, PAGE_MAX);
    for (int i = 0; i < SWEEP_PAGES && err == 0 && last_page(b, txn, pages, &page, &key); i++) {
        err = page.err != 0 ? page.err : unref_page(b, txn, buf_span(&page), c->arrival_ms);
        db_del(txn, b->table_pages, blob_key_span(&key));
    }
    buf_free(&page);
    if (err == 0 && !pages_exist(b, txn, pages)) db_del(txn, b->table_life, blob_key_span(&trash));
    return err != 0 ? err : db_txn_err(txn);
}

static int apply_forget(struct blobs *b, struct db_txn *txn, struct span chunks)
{
    int err = 0;
    for (size_t i = 0; i < chunks.n && err == 0; i += SHA256_BYTES) {
        struct sha256 sha;
        memcpy(sha.b, chunks.p + i, SHA256_BYTES);
        err = chunk_forget(b, txn, &sha);
    }
    return err;
}

static int apply_step(struct blobs *b, struct db_txn *txn, const struct commit *c, uint64_t at, uint64_t n)
{
    struct blob_step s;
    if (at > c->request.n || n > c->request.n - at || blob_step_decode(SPAN(c->request.p + at, n), &s) != 0) return ERR_CORRUPT;
    switch (s.kind) {
    case STEP_PIN:
    case STEP_UNPIN: return apply_pin(b, txn, c, &s);
    case STEP_EXPIRE: return apply_expire(b, txn, &s);
    case STEP_SWEEP: return apply_sweep(b, txn, c, s.pages);
    case STEP_FORGET: return apply_forget(b, txn, s.chunks);
    }
    return ERR_CORRUPT;
}

int life_apply(struct blobs *b, struct db_txn *txn, const struct commit *c, struct cur *effects)
{
    if (cur_left(effects) == 0) return effects->err;
    int err = 0;
    uint64_t links = cur_varint(effects);
    for (uint64_t i = 0; i < links && err == 0 && effects->err == 0; i++) {
        struct sha256 digest;
        struct span s = cur_span(effects, SHA256_BYTES);
        if (s.n == SHA256_BYTES) memcpy(digest.b, s.p, s.n), err = apply_link(b, txn, c, &digest);
    }
    uint64_t steps = cur_varint(effects);
    for (uint64_t i = 0; i < steps && err == 0 && effects->err == 0; i++) {
        uint64_t at = cur_varint(effects), n = cur_varint(effects);
        if (effects->err == 0) err = apply_step(b, txn, c, at, n);
    }
    bool releases = err == 0 && cur_left(effects) > 0;
    if ((links == 0 && steps == 0 && !releases) || effects->err != 0) return err != 0 ? err : ERR_CORRUPT;
    uint64_t left = releases ? cur_varint(effects) : 0;
    if (releases && left == 0) return ERR_CORRUPT;
    for (; left > 0 && err == 0 && effects->err == 0; left--) {
        struct sha256 digest;
        struct span s = cur_span(effects, SHA256_BYTES);
        if (s.n == SHA256_BYTES) memcpy(digest.b, s.p, s.n), err = apply_release(b, txn, c, &digest);
    }
    return err != 0 ? err : effects->err;
}

// ---- what is due -------------------------------------------------------------------------------------------------

// The next step of a sweep can be made: it reads these pages and their chunks' entries. What is damaged there waits for the index to be made anew, and
// holds up nothing else.
static bool can_sweep(struct blobs *b, struct db_txn *txn, struct uuid list)
{
    struct db_iter it;
    struct blob_key end = blob_page_key(list, UINT64_MAX);
    struct uuid pages;
    struct chunk_entry e;
    struct sha256 sha;
    uint64_t offset;
    bool can = true;
    int left = SWEEP_PAGES;
    db_iter_init(&it, txn, b->table_pages);
    for (bool more = db_iter_seek_before(&it, blob_key_span(&end)); more && can && left > 0; more = db_iter_prev(&it), left--) {
        size_t count = 0;
        if (!blob_key_is_page(it.key, &pages, &offset) || !uuid_equal(pages, list)) break;
        can = blob_page_decode(it.value, &count) == 0;
        for (size_t i = 0; i < count && can; i++) {
            uint32_t length;
            blob_page_at(it.value, i, &sha, &length);
            can = chunk_entry_find(b, txn, &sha, &e) == 0 && e.refs > 0;
        }
    }
    db_iter_end(&it);
    return can;
}

// A list along which somebody still reads waits for them: nobody else can begin to, as nothing names it.
static bool due_sweep(struct blobs *b, struct db_txn *txn, struct blob_step *s)
{
    struct db_iter it;
    bool due = false;
    int looked = 0;
    db_iter_init(&it, txn, b->table_life);
    for (bool more = db_iter_seek(&it, SPAN_LIT("d")); more && !due && life_key_is_trash(it.key, &s->pages); more = db_iter_next(&it)) {
        due = !pages_are_read(b, s->pages) && can_sweep(b, txn, s->pages);
        if (++looked == SWEEP_LOOKS_MAX) break;
    }
    db_iter_end(&it);
    s->kind = STEP_SWEEP;
    return due;
}

static bool due_expire(struct blobs *b, struct db_txn *txn, uint64_t before_ms, size_t n, struct blob_step *s)
{
    struct db_iter it;
    uint64_t free_ms;
    db_iter_init(&it, txn, b->table_life);
    struct blob_info info;
    int err;
    bool more = db_iter_seek(&it, SPAN_LIT(LIFE_BLOB));
    for (; more && life_key_is_blob(it.key, &free_ms, &s->digest); more = db_iter_next(&it))
        if (blob_head_find(b, txn, &s->digest, &info, &err) && n-- == 0) break; // what cannot be read is passed over
    more = more && life_key_is_blob(it.key, &free_ms, &s->digest) && free_ms <= before_ms;
    db_iter_end(&it);
    s->kind = STEP_EXPIRE;
    s->before_ms = before_ms;
    return more;
}

bool chunk_is_going(const struct blobs *b, const struct sha256 *sha)
{
    for (size_t i = 0; i < b->going.n; i += SHA256_BYTES)
        if (memcmp(b->going.p + i, sha->b, SHA256_BYTES) == 0) return true;
    return false;
}

// A chunk that an upload under way was told of stays, and is looked at again when the upload is over. The other way round, an upload that
// meets a chunk which this step takes away stores it anew.
static bool due_forget(struct blobs *b, struct db_txn *txn, struct blob_step *s)
{
    struct buf *chunks = &b->going;
    struct db_iter it;
    uint64_t free_ms;
    struct chunk_entry e;
    struct sha256 sha;
    int looked = 0;
    buf_clear(chunks);
    db_iter_init(&it, txn, b->table_life);
    for (bool more = db_iter_seek(&it, SPAN_LIT(LIFE_CHUNK)); more && life_key_is_chunk(it.key, &free_ms, &sha); more = db_iter_next(&it)) {
        if (chunk_table_find(&b->chunks, &sha) == NULL && chunk_entry_find(b, txn, &sha, &e) == 0) buf_put(chunks, sha.b, SHA256_BYTES);
        if (chunks->n == STEP_FORGET_MAX * SHA256_BYTES || ++looked == 16 * STEP_FORGET_MAX) break;
    }
    db_iter_end(&it);
    s->kind = STEP_FORGET;
    s->chunks = buf_span(chunks);
    return chunks->err == 0 && chunks->n > 0;
}

bool blobs_step_due(struct blobs *b, struct db_txn *txn, uint64_t now_ms, uint64_t grace_ms, size_t n, struct buf *step)
{
    struct blob_step s = {.kind = 0};
    bool due;
    if (n == 0) due = due_sweep(b, txn, &s);
    else if (n == 1) due = due_forget(b, txn, &s);
    else due = now_ms > grace_ms && due_expire(b, txn, now_ms - grace_ms, n - 2, &s);
    if (due) blob_step_encode(step, &s);
    return due;
}
