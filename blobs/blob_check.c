// The check of everything that a blob is made of, and the hash of the logical state.
#include <assert.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "log.h"

// Where a check is: the blob being looked at, what its chunks have been up to here, and what was found.
struct check {
    struct blobs *b;
    struct db_txn *txn;
    struct buf record, content;
    struct digest *whole;
    struct blob_info info;
    uint64_t at;  // bytes of the blob so far
    bool open;    // a blob is being looked at
    bool damaged; // and something of it has failed already, and was logged
    bool any_damaged;
    uint64_t count;
};

static void check_failed(struct check *c, const char *what)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(c->info.digest.b, SHA256_BYTES));
    log_error("blobs", "a blob is damaged", LF_STR("what", what), LF_SPAN("blob", SPAN(hex, sizeof hex)), LF_UINT("offset", c->at));
    c->damaged = true;
    c->any_damaged = true;
}

static void check_end_blob(struct check *c)
{
    if (!c->open) return;
    struct sha256 whole = digest_final(c->whole);
    if (!c->damaged && (c->at != c->info.size || !sha256_equal(&whole, &c->info.digest))) check_failed(c, "whole");
    c->open = false;
    c->count++;
}

static void check_begin_blob(struct check *c, const struct sha256 *digest, struct span value)
{
    c->open = true;
    c->damaged = false;
    c->at = 0;
    c->info.digest = *digest;
    if (blob_head_decode(value, &c->info) != 0) check_failed(c, "head");
}

// Errors of a chunk's bytes are findings; others (memory, the disk's own) end the check.
static int check_chunk(struct check *c, const struct sha256 *sha, uint32_t length)
{
    struct chunk chunk = {.sha = *sha};
    int err = chunk_place_find(c->b, c->txn, sha, &chunk.place);
    if (err == 0 && chunk.place.length != length) err = ERR_CORRUPT;
    if (err == 0) err = chunk_read(c->b, &chunk, &c->record, &c->content);
    if (err == 0) digest_update(c->whole, buf_span(&c->content));
    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT || err == ERR_VERSION) {
        check_failed(c, "chunk");
        err = 0;
    }
    c->at += length;
    return err;
}

static int check_page(struct check *c, uint64_t offset, struct span value)
{
    size_t count = 0;
    if (offset != c->at || blob_page_decode(value, &count) != 0) {
        check_failed(c, "page");
        return 0;
    }
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++) {
        struct sha256 sha;
        uint32_t length;
        blob_page_at(value, i, &sha, &length);
        err = check_chunk(c, &sha, length);
    }
    return err;
}

static int check_pages(struct check *c)
{
    struct db_iter it;
    struct blob_key first = blob_page_key(c->info.pages, 0);
    struct uuid pages;
    uint64_t offset;
    int err = 0;
    db_iter_init(&it, c->txn, c->b->table_pages);
    for (bool more = db_iter_seek(&it, blob_key_span(&first)); more && err == 0; more = db_iter_next(&it)) {
        if (!blob_key_is_page(it.key, &pages, &offset) || !uuid_equal(pages, c->info.pages)) break;
        err = check_page(c, offset, it.value);
    }
    db_iter_end(&it);
    return err;
}

static int check_all(struct check *c)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, c->txn, c->b->table_blobs);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct sha256 digest;
        if (!blob_key_is_head(it.key, &digest)) {
            log_error("blobs", "the table of blobs has a key of no kind", LF_UINT("bytes", it.key.n));
            c->any_damaged = true;
            continue;
        }
        check_begin_blob(c, &digest, it.value);
        if (!c->damaged) err = check_pages(c);
        check_end_blob(c);
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(c->txn);
}

int blobs_check(struct blobs *b, struct db_txn *txn, uint64_t *checked)
{
    struct check c = {.b = b, .txn = txn, .whole = digest_new()};
    if (c.whole == NULL) return ERR_NOMEM;
    buf_init(&c.record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&c.content, BLOB_CHUNK_MAX);
    int err = check_all(&c);
    buf_free(&c.record);
    buf_free(&c.content);
    digest_free(c.whole);
    *checked = c.count;
    if (err == 0) err = uploads_check(b, txn);
    uint64_t wrong = 0;
    uint64_t unreadable = 0;
    if (err == 0) err = blobs_mark(b, txn, &wrong);
    if (err == 0) err = blobs_index_check(b, txn, &unreadable, NULL, NULL);
    return err == 0 && (c.any_damaged || wrong > 0 || unreadable > 0) ? ERR_CORRUPT : err;
}

// Which chunks there are decides what a manifest may rely on, and how often they are named, when they go.
static int hash_chunks(struct blobs *b, struct db_txn *txn, struct digest *d)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, txn, b->table_chunks);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct chunk_entry e;
        uint8_t room[SHA256_BYTES + 4 + 4 + 8];
        struct buf line = {.p = room, .cap = sizeof room, .max = sizeof room};
        err = it.key.n == SHA256_BYTES ? chunk_entry_decode(it.value, &e) : ERR_CORRUPT;
        if (err != 0) break;
        buf_put_span(&line, it.key);
        buf_put_u32(&line, e.place.length);
        buf_put_u32(&line, e.refs);
        buf_put_u64(&line, e.free_ms);
        err = line.err;
        digest_update(d, buf_span(&line));
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}

// Lists that are to be swept. What else stands in that table follows from what was hashed, or is the machine's.
static int hash_trash(struct blobs *b, struct db_txn *txn, struct digest *d)
{
    struct db_iter it;
    struct uuid pages;
    db_iter_init(&it, txn, b->table_life);
    for (bool more = db_iter_seek(&it, SPAN_LIT("d")); more && life_key_is_trash(it.key, &pages); more = db_iter_next(&it))
        digest_update(d, it.key);
    db_iter_end(&it);
    return db_txn_err(txn);
}

int blobs_hash(struct blobs *b, struct db_txn *txn, struct digest *d)
{
    struct buf line;
    struct db_iter it;
    int err = 0;
    buf_init(&line, 2 * STREAM_TYPE_MAX);
    db_iter_init(&it, txn, b->table_blobs);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct blob_info info;
        if (!blob_key_is_head(it.key, &info.digest)) continue;
        err = blob_head_decode(it.value, &info);
        if (err != 0) break;
        buf_clear(&line);
        buf_put(&line, info.digest.b, SHA256_BYTES);
        buf_put_u64(&line, info.size);
        buf_put_blob(&line, SPAN_STR(info.type));
        buf_put(&line, info.pages.b, sizeof info.pages.b);
        buf_put_u8(&line, (uint8_t)(info.linked | info.pinned << 1));
        buf_put_u32(&line, info.uploads);
        buf_put_u64(&line, info.free_ms);
        err = line.err;
        digest_update(d, buf_span(&line));
    }
    db_iter_end(&it);
    buf_free(&line);
    if (err == 0) err = db_txn_err(txn);
    if (err == 0) err = hash_chunks(b, txn, d);
    if (err == 0) err = db_hash(txn, b->table_pages, d);
    if (err == 0) err = hash_trash(b, txn, d);
    return err != 0 ? err : uploads_hash(b, txn, d);
}
