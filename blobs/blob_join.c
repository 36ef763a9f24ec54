// Uploads that are made of others. A step looks a few chunks of the parts up, reads them on the pool for the digest of the whole,
// and is a progress like any other: the same chunks, listed anew. A step ends with a part, for that is where a chunk may be short.
// What a client lists by hash is made in the same way, from its list instead of parts.
//
//      owner: blobs_join_open ─> { owner: next ─> pool: read ─> owner: progress into a batch ─> kept } … ─> complete
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "pack.h"

struct blob_join {
    struct blobs *b;
    struct uuid id;
    uint64_t length, at; // of the whole; what is committed
    struct digest *whole;
    struct buf parts;  // UPLOAD_PART_BYTES each
    struct span list;  // in their stead: BLOB_LISTED_BYTES each, of what is not committed
    bool listed;
    struct buf chunks; // struct chunk: of this step
    struct buf packs;  // struct pack *: where they lie, each once, each with a reference, so that its file stays while they are read
    uint64_t step;     // their bytes
    bool read;
};

int blobs_join_open(struct blobs *b, struct db_txn *txn, struct uuid id, struct blob_join **out)
{
    struct upload_head head;
    int err;
    if (!upload_head_find(b, txn, id, &head, &err)) return err != 0 ? err : ERR_NO_SUCH_UPLOAD;
    if (head.info.state != UPLOAD_OPEN || head.info.made.kind != UPLOAD_JOINED) return ERR_EXISTS;
    if (head.info.made.length == UPLOAD_LENGTH_UNKNOWN) return ERR_BUSY;
    struct blob_join *j = calloc(1, sizeof *j);
    if (j == NULL) return ERR_NOMEM;
    *j = (struct blob_join){.b = b, .id = id, .length = head.info.made.length, .at = head.info.offset, .whole = digest_new()};
    buf_init(&j->parts, UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES);
    buf_init(&j->chunks, BLOB_JOIN_CHUNKS * sizeof(struct chunk));
    buf_init(&j->packs, BLOB_JOIN_CHUNKS * sizeof(struct pack *));
    buf_put_span(&j->parts, head.info.made.parts);
    atomic_fetch_add(&b->readers, 1);
    err = j->whole == NULL ? ERR_NOMEM : j->parts.err;
    if (err == 0 && j->at > 0 && digest_restore(j->whole, head.state) != 0) err = ERR_CORRUPT;
    if (err != 0) blobs_join_close(j);
    else *out = j;
    return err;
}

static int open_list(struct blobs *b, struct uuid id, uint64_t at, uint64_t length, struct span list, struct blob_join **out)
{
    assert(list.n % BLOB_LISTED_BYTES == 0);
    struct blob_join *j = calloc(1, sizeof *j);
    if (j == NULL) return ERR_NOMEM;
    *j = (struct blob_join){.b = b, .id = id, .at = at, .length = length, .whole = digest_new(), .list = list, .listed = true};
    buf_init(&j->parts, 0);
    buf_init(&j->chunks, BLOB_JOIN_CHUNKS * sizeof(struct chunk));
    buf_init(&j->packs, BLOB_JOIN_CHUNKS * sizeof(struct pack *));
    atomic_fetch_add(&b->readers, 1);
    if (j->whole != NULL) {
        *out = j;
        return 0;
    }
    blobs_join_close(j);
    return ERR_NOMEM;
}

int blobs_join_open_listed(struct blobs *b, struct uuid id, uint64_t length, struct span list, struct blob_join **out)
{
    return open_list(b, id, 0, length, list, out);
}

// A chunk ends where the list begins, and none but the last of all may be shorter than the least length.
static int check_page(const struct upload_head *head, uint64_t offset, uint64_t bytes, struct span list)
{
    const struct upload_new *made = &head->info.made;
    if (head->info.state != UPLOAD_OPEN || (made->kind != UPLOAD_WHOLE && made->kind != UPLOAD_PARTIAL)) return ERR_EXISTS;
    if (head->info.offset != offset) return ERR_UPLOAD_OFFSET;
    if (made->length == UPLOAD_LENGTH_UNKNOWN || head->chunks_end != offset || bytes > made->length - offset) return ERR_BAD_VALUE;
    if (list.n == 0 || offset + bytes == made->length) return 0;
    struct cur c;
    cur_init(&c, span_sub(list, list.n - 4, 4));
    return cur_u32(&c) < BLOB_CHUNK_MIN ? ERR_BAD_VALUE : 0;
}

int blobs_join_open_page(struct blobs *b, struct db_txn *txn, struct uuid id, uint64_t offset, uint64_t bytes, struct span list, struct blob_join **out)
{
    struct upload_head head;
    struct blob_join *j;
    int err;
    if (!upload_head_find(b, txn, id, &head, &err)) return err != 0 ? err : ERR_NO_SUCH_UPLOAD;
    err = check_page(&head, offset, bytes, list);
    if (err == 0) err = open_list(b, id, offset, head.info.made.length, list, &j);
    if (err != 0) return err;
    if (offset > 0 && digest_restore(j->whole, head.state) != 0) {
        blobs_join_close(j);
        return ERR_CORRUPT;
    }
    *out = j;
    return 0;
}

bool blobs_join_listed(const struct blob_join *j)
{
    return j->list.n == 0;
}

static struct pack *pack_at(const struct blob_join *j, size_t at)
{
    struct pack *pack;
    memcpy(&pack, j->packs.p + at, sizeof pack);
    return pack;
}

static void leave_packs(struct blob_join *j)
{
    for (size_t at = 0; at < j->packs.n; at += sizeof(struct pack *))
        pack_unref(pack_at(j, at));
    buf_clear(&j->packs);
}

void blobs_join_close(struct blob_join *j)
{
    if (j == NULL) return;
    leave_packs(j);
    buf_free(&j->packs);
    atomic_fetch_sub(&j->b->readers, 1);
    buf_free(&j->parts);
    buf_free(&j->chunks);
    digest_free(j->whole);
    free(j);
}

// The part that holds `at`, which becomes the place in it.
static int find_part(struct blob_join *j, struct db_txn *txn, uint64_t *at, struct blob_info *part)
{
    for (size_t i = 0; i < j->parts.n; i += UPLOAD_PART_BYTES) {
        struct sha256 digest;
        int err;
        memcpy(digest.b, j->parts.p + i + 16, sizeof digest.b);
        if (!blob_head_find(j->b, txn, &digest, part, &err)) return err != 0 ? err : ERR_NO_SUCH_BLOB;
        part->digest = digest;
        if (*at < part->size) return 0;
        *at -= part->size;
    }
    return ERR_CORRUPT; // they were as long as the whole when it was made
}

// Takes the chunk into this step.
static int put_chunk(struct blob_join *j, const struct chunk *chunk)
{
    buf_put(&j->chunks, chunk, sizeof *chunk);
    for (size_t at = j->packs.n; at > 0; at -= sizeof(struct pack *))
        if (pack_number(pack_at(j, at - sizeof(struct pack *))) == chunk->place.pack) return j->chunks.err;
    struct pack *pack = packs_get(j->b->packs, chunk->place.pack);
    if (pack == NULL) return ERR_NOMEM;
    buf_put(&j->packs, &pack, sizeof pack);
    if (j->packs.err != 0) pack_unref(pack);
    return j->packs.err != 0 ? j->packs.err : j->chunks.err;
}

static int add_chunk(struct blob_join *j, struct db_txn *txn, const struct sha256 *sha, uint32_t length)
{
    struct chunk chunk = {.sha = *sha, .known = true};
    int err = chunk_place_find(j->b, txn, sha, &chunk.place);
    if (err != 0) return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    if (chunk.place.length != length) return ERR_CORRUPT;
    j->step += length;
    return put_chunk(j, &chunk);
}

// From `at` in the part to the end of the page that holds it.
static int add_page(struct blob_join *j, struct db_txn *txn, struct uuid part, uint64_t at)
{
    struct blob_key after = blob_page_key(part, at + 1);
    struct uuid pages;
    struct sha256 sha;
    struct db_iter it;
    uint64_t start = 0, before = j->step;
    size_t count = 0;
    db_iter_init(&it, txn, j->b->table_pages);
    bool found = db_iter_seek_before(&it, blob_key_span(&after)) && blob_key_is_page(it.key, &pages, &start) && uuid_equal(pages, part);
    int err = found ? blob_page_decode(it.value, &count) : ERR_CORRUPT;
    for (size_t i = 0; i < count && err == 0 && j->chunks.n < j->chunks.max; i++) {
        uint32_t length;
        blob_page_at(it.value, i, &sha, &length);
        if (start >= at) err = add_chunk(j, txn, &sha, length);
        start += length;
    }
    db_iter_end(&it);
    return err == 0 && j->step == before ? ERR_CORRUPT : err;
}

// The next ones that the list names. A chunk that is known to be damaged is as good as none: it is to be sent again.
static int add_listed(struct blob_join *j, struct db_txn *txn)
{
    int err = 0;
    for (size_t at = 0; at < j->list.n && j->chunks.n < j->chunks.max && err == 0; at += BLOB_LISTED_BYTES) {
        struct chunk chunk = {.known = true};
        struct cur c;
        cur_init(&c, span_sub(j->list, at, BLOB_LISTED_BYTES));
        memcpy(chunk.sha.b, cur_span(&c, SHA256_BYTES).p, SHA256_BYTES);
        uint32_t length = cur_u32(&c);
        err = chunk_place_find(j->b, txn, &chunk.sha, &chunk.place);
        if (err == ERR_CORRUPT) err = ERR_NOT_FOUND;
        if (err == 0 && chunk.place.length != length) err = ERR_BAD_VALUE;
        if (err == 0) err = put_chunk(j, &chunk);
        j->step += length;
    }
    return err;
}

int blobs_join_next(struct blob_join *j, struct db_txn *txn)
{
    struct blob_info part = {0};
    uint64_t at = j->at;
    leave_packs(j);
    buf_clear(&j->chunks);
    j->step = 0;
    j->read = false;
    if (j->at == j->length) return 0;
    if (j->listed) return add_listed(j, txn);
    int err = find_part(j, txn, &at, &part);
    while (err == 0 && at + j->step < part.size && j->chunks.n < j->chunks.max)
        err = add_page(j, txn, part.pages, at + j->step);
    return err != 0 ? err : db_txn_err(txn);
}

int blobs_join_read(struct blob_join *j)
{
    struct buf record, content;
    int err = 0;
    assert(!j->read);
    buf_init(&record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&content, BLOB_CHUNK_MAX);
    for (size_t at = 0; at < j->chunks.n && err == 0; at += sizeof(struct chunk)) {
        struct chunk chunk;
        memcpy(&chunk, j->chunks.p + at, sizeof chunk);
        err = chunk_read(j->b, &chunk, &record, &content);
        if (err == 0) digest_update(j->whole, buf_span(&content));
    }
    buf_free(&record);
    buf_free(&content);
    j->read = err == 0;
    return err;
}

void blobs_join_progress(struct blob_join *j, struct buf *op)
{
    uint8_t state[DIGEST_STATE_MAX];
    struct buf manifest;
    assert(j->read);
    if (j->step == 0) return;
    size_t count = j->chunks.n / sizeof(struct chunk);
    buf_init(&manifest, BLOB_JOIN_CHUNKS * MANIFEST_ENTRY_BYTES + 64);
    blob_manifest_begin(&manifest, j->step, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        struct chunk chunk;
        memcpy(&chunk, j->chunks.p + i * sizeof chunk, sizeof chunk);
        blob_manifest_put(&manifest, &chunk);
    }
    struct upload_op progress = {.kind = UPLOAD_PROGRESS, .id = j->id};
    progress.progress.from = progress.progress.at = j->at;
    progress.progress.manifest = buf_span(&manifest);
    progress.progress.state = SPAN(state, digest_save(j->whole, state));
    upload_op_encode(op, &progress);
    if (op->err == 0) op->err = manifest.err;
    buf_free(&manifest);
}

bool blobs_join_last(const struct blob_join *j)
{
    return j->at + j->step == j->length;
}

uint64_t blobs_join_bytes(const struct blob_join *j)
{
    return j->step;
}

void blobs_join_complete(struct blob_join *j, struct buf *op, struct sha256 *digest)
{
    assert(j->read && blobs_join_last(j));
    *digest = digest_final(j->whole);
    blobs_upload_put_complete(op, j->id, digest);
}

void blobs_join_kept(struct blob_join *j)
{
    j->at += j->step;
    j->step = 0;
    if (j->listed) j->list = span_sub(j->list, j->chunks.n / sizeof(struct chunk) * BLOB_LISTED_BYTES, j->list.n);
    leave_packs(j);
    buf_clear(&j->chunks);
}
