// The index against itself and against the packs: what of it cannot be read, and making the chunks' part of it anew.
//
// Every entry has a checksum over key and value (db.h), so a flipped bit is seen where it lies. What is missing altogether shows by what it leaves
// behind: a blob whose list does not reach its size, a list that nobody owns, counts that do not fit (blob_mark.c).
#include <assert.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "log.h"
#include "pack.h"

#define PAGE_MAX (1 + PAGE_CHUNKS * PAGE_ENTRY_BYTES)

struct index_check {
    struct blobs *b;
    struct db_txn *txn;
    uint64_t damaged;
    uint64_t owned, pages; // pages that a blob, an upload or the trash has, and all that there are
    blobs_index_user *user;
    void *ctx;
};

static void tell(struct index_check *c, const char *table, struct span key)
{
    c->damaged++;
    if (c->user != NULL) c->user(c->ctx, table, key);
}

// ---- single entries ----------------------------------------------------------------------------------------------

static bool head_is_whole(struct span key, struct span value)
{
    struct blob_info info;
    return blob_key_is_head(key, &info.digest) && blob_head_decode(value, &info) == 0;
}

static bool chunk_is_whole(struct span key, struct span value)
{
    struct chunk_entry e;
    return key.n == SHA256_BYTES && chunk_entry_decode(value, &e) == 0;
}

static bool page_is_whole(struct span key, struct span value)
{
    struct uuid pages;
    uint64_t offset;
    size_t count;
    return blob_key_is_page(key, &pages, &offset) && blob_page_decode(value, &count) == 0;
}

static bool upload_is_whole(struct span key, struct span value)
{
    struct upload_head head;
    struct upload_key count = upload_count_key(false), chunks = upload_count_key(true);
    uint32_t n;
    if (span_equal(key, upload_key_span(&count)) || span_equal(key, upload_key_span(&chunks))) return upload_count_decode(value, &n) == 0;
    return upload_key_is_head(key, &head.info.id) && upload_head_decode(value, &head) == 0;
}

static bool life_is_whole(struct span key, struct span value)
{
    struct blob_key tick = life_tick_key();
    struct pack_count count;
    struct sha256 sha;
    struct uuid pages;
    uint64_t free_ms;
    uint32_t pack;
    if (value.n == 0) return false;
    if (life_key_is_pack(key, &pack)) return pack_count_decode(value, &count) == 0;
    return life_key_is_blob(key, &free_ms, &sha) || life_key_is_chunk(key, &free_ms, &sha) || life_key_is_trash(key, &pages) ||
           span_equal(key, blob_key_span(&tick));
}

static void check_table(struct index_check *c, int table, const char *name, bool (*is_whole)(struct span key, struct span value))
{
    struct db_iter it;
    db_iter_init(&it, c->txn, table);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        if (!is_whole(it.key, it.value)) tell(c, name, it.key);
        if (table == c->b->table_pages) c->pages++;
    }
    db_iter_end(&it);
}

// ---- lists ---------------------------------------------------------------------------------------------------------

// How far the list goes without a gap.
static uint64_t list_end(struct index_check *c, struct uuid list)
{
    struct db_iter it;
    struct blob_key first = blob_page_key(list, 0);
    struct uuid pages;
    uint64_t offset, at = 0;
    db_iter_init(&it, c->txn, c->b->table_pages);
    for (bool more = db_iter_seek(&it, blob_key_span(&first)); more; more = db_iter_next(&it)) {
        size_t count = 0;
        if (!blob_key_is_page(it.key, &pages, &offset) || !uuid_equal(pages, list)) break;
        c->owned++;
        if (offset != at || blob_page_decode(it.value, &count) != 0) continue; // it ends here, and nothing behind it begins where it ends
        for (size_t i = 0; i < count; i++) {
            struct sha256 sha;
            uint32_t length;
            blob_page_at(it.value, i, &sha, &length);
            at += length;
        }
    }
    db_iter_end(&it);
    return at;
}

static void check_blob_lists(struct index_check *c)
{
    struct db_iter it;
    db_iter_init(&it, c->txn, c->b->table_blobs);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        struct blob_info info;
        if (blob_head_decode(it.value, &info) != 0) continue;
        if (list_end(c, info.pages) != info.size) tell(c, "blobs", it.key);
    }
    db_iter_end(&it);
}

static void check_upload_lists(struct index_check *c)
{
    struct db_iter it;
    db_iter_init(&it, c->txn, c->b->table_uploads);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        struct upload_head head = {0};
        if (!upload_key_is_head(it.key, &head.info.id) || upload_head_decode(it.value, &head) != 0 || head.info.state != UPLOAD_OPEN) continue;
        if (list_end(c, head.info.id) != head.chunks_end) tell(c, "uploads", it.key);
    }
    db_iter_end(&it);
}

static void check_trash(struct index_check *c)
{
    struct db_iter it;
    struct uuid pages;
    db_iter_init(&it, c->txn, c->b->table_life);
    for (bool more = db_iter_seek(&it, SPAN_LIT("d")); more && life_key_is_trash(it.key, &pages); more = db_iter_next(&it))
        list_end(c, pages);
    db_iter_end(&it);
}

int blobs_index_check(struct blobs *b, struct db_txn *txn, uint64_t *damaged, blobs_index_user *user, void *ctx)
{
    struct index_check c = {.b = b, .txn = txn, .user = user, .ctx = ctx};
    check_table(&c, b->table_blobs, "blobs", head_is_whole);
    check_table(&c, b->table_chunks, "blob_chunks", chunk_is_whole);
    check_table(&c, b->table_uploads, "uploads", upload_is_whole);
    check_table(&c, b->table_pages, "blob_pages", page_is_whole);
    check_table(&c, b->table_life, "blob_life", life_is_whole);
    check_blob_lists(&c);
    check_upload_lists(&c);
    check_trash(&c);
    if (c.owned != c.pages) {
        log_error("blobs", "chunk lists that nothing owns, or that two do", LF_UINT("pages", c.pages), LF_UINT("owned", c.owned));
        c.damaged++;
    }
    *damaged = c.damaged;
    return db_txn_err(txn);
}

// ---- the chunks' entries anew ------------------------------------------------------------------------------------------
//
// Which chunks there are, and how often each is named, the lists say; where they lie, the records of the packs; since when those are free that
// nobody names, the list of these. In that order: an entry is made with a place that is none and marked as damaged, until its record is found.

struct rebuild {
    struct blobs *b;
    struct db_txn *txn;
    struct blobs_rebuilt counts;
    struct buf record; // head and payload
    struct buf page;
};

static struct place no_place(uint32_t length)
{
    return (struct place){.pack = 1, .length = length, .stored = length, .codec = CODEC_RAW};
}

static bool is_placed(const struct chunk_entry *e)
{
    return !e->damaged;
}

// All of a table whose keys begin with this.
static void clear(struct rebuild *r, int table, struct span prefix)
{
    struct db_iter it;
    uint8_t key[DB_KEY_MAX];
    db_iter_init(&it, r->txn, table);
    bool more = prefix.n > 0 ? db_iter_seek(&it, prefix) : db_iter_first(&it);
    while (more && it.key.n >= prefix.n && memcmp(it.key.p, prefix.p, prefix.n) == 0) {
        size_t n = it.key.n;
        memcpy(key, it.key.p, n);
        db_del(r->txn, table, SPAN(key, n));
        more = db_iter_next(&it);
    }
    db_iter_end(&it);
}

static int take_free(struct rebuild *r)
{
    struct db_iter it;
    struct sha256 sha;
    uint64_t free_ms;
    int err = 0;
    db_iter_init(&it, r->txn, r->b->table_life);
    for (bool more = db_iter_seek(&it, SPAN_LIT(LIFE_CHUNK)); more && err == 0 && life_key_is_chunk(it.key, &free_ms, &sha); more = db_iter_next(&it)) {
        struct chunk_entry e = {.place = no_place(1), .free_ms = free_ms, .damaged = true};
        if (it.value.n > 0) err = chunk_entry_put(r->b, r->txn, &sha, NULL, &e);
    }
    db_iter_end(&it);
    return err;
}

static int take_named(struct rebuild *r, const struct sha256 *sha, uint32_t length)
{
    struct chunk_entry was, is = {.place = no_place(length), .refs = 1, .damaged = true};
    int err = chunk_entry_find(r->b, r->txn, sha, &was);
    if (err == 0) is.refs = was.refs + 1;
    if (err == 0 || err == ERR_NOT_FOUND) err = chunk_entry_put(r->b, r->txn, sha, err == 0 ? &was : NULL, &is);
    return err;
}

static int take_page(struct rebuild *r)
{
    size_t count;
    int err = blob_page_decode(buf_span(&r->page), &count);
    if (err != 0) return 0; // the check names it
    for (size_t i = 0; i < count && err == 0; i++) {
        struct sha256 sha;
        uint32_t length;
        blob_page_at(buf_span(&r->page), i, &sha, &length);
        err = take_named(r, &sha, length);
    }
    return err;
}

static int take_lists(struct rebuild *r)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, r->txn, r->b->table_pages);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        buf_clear(&r->page); // the value does not outlive a write
        buf_put_span(&r->page, it.value);
        err = r->page.err != 0 ? r->page.err : take_page(r);
    }
    db_iter_end(&it);
    return err;
}

// A whole record: the place of its chunk, if that has none yet.
static int take_record(struct rebuild *r, const struct chunk *found)
{
    struct chunk_entry was, is;
    int err = chunk_entry_find(r->b, r->txn, &found->sha, &was);
    if (err == ERR_NOT_FOUND) return 0; // garbage
    if (err != 0 || is_placed(&was) || (was.refs > 0 && was.place.length != found->place.length)) return err;
    is = was;
    is.place = found->place;
    is.damaged = false;
    r->counts.placed++;
    return chunk_entry_put(r->b, r->txn, &found->sha, &was, &is);
}

// 1: there is a whole record here; 0: there is none.
static int read_record(struct rebuild *r, struct pack *pack, uint64_t position, struct chunk *out)
{
    uint8_t *to = buf_reserve(&r->record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    if (to == NULL) return r->record.err;
    int err = pack_read(pack, to, RECORD_HEAD_BYTES, position);
    if (err == 0) err = blob_record_head_decode(SPAN(to, RECORD_HEAD_BYTES), out);
    if (err == 0) err = pack_read(pack, to + RECORD_HEAD_BYTES, out->place.stored, position + RECORD_HEAD_BYTES);
    if (err != 0) return err == ERR_CORRUPT || err == ERR_VERSION ? 0 : err;
    out->place.pack = pack_number(pack);
    out->place.position = position;
    return blob_record_verify(SPAN(to, RECORD_HEAD_BYTES), SPAN(to + RECORD_HEAD_BYTES, out->place.stored));
}

static int take_pack(struct rebuild *r, uint32_t number, uint64_t size)
{
    struct pack *pack = packs_get(r->b->packs, number);
    int err = pack == NULL ? ERR_NOMEM : 0;
    for (uint64_t at = 0; err == 0 && at + RECORD_HEAD_BYTES <= size;) {
        struct chunk found = {.known = false};
        int got = read_record(r, pack, at, &found);
        err = got == 1 ? take_record(r, &found) : got;
        at += got == 1 ? blob_record_bytes(found.place.stored) : RECORD_ALIGN;
    }
    pack_unref(pack);
    return err;
}

static int take_packs(struct rebuild *r)
{
    uint32_t number = 0;
    uint64_t size;
    int err = 0;
    while (err == 0 && packs_file_after(r->b->packs, number, &number, &size))
        err = take_pack(r, number, size);
    number = packs_current(r->b->packs, &size);
    return err != 0 ? err : take_pack(r, number, size);
}

// What has no bytes is damaged where somebody names it, and forgotten where nobody does.
static int finish_chunks(struct rebuild *r)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, r->txn, r->b->table_chunks);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct chunk_entry e;
        struct sha256 sha;
        memcpy(sha.b, it.key.p, SHA256_BYTES);
        err = chunk_entry_decode(it.value, &e);
        if (err != 0 || is_placed(&e)) continue;
        if (e.refs == 0) err = chunk_entry_put(r->b, r->txn, &sha, &e, NULL);
        else r->counts.missing++;
    }
    db_iter_end(&it);
    return err;
}

static int count_tails(struct rebuild *r)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, r->txn, r->b->table_uploads);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct upload_head head = {0};
        if (!upload_key_is_head(it.key, &head.info.id) || upload_head_decode(it.value, &head) != 0 || head.info.state != UPLOAD_OPEN) continue;
        struct chunk tail = head.tail;
        err = tail_count(r->b, r->txn, &tail, +1);
    }
    db_iter_end(&it);
    return err;
}

int blobs_rebuild(struct blobs *b, struct db_txn *txn, struct blobs_rebuilt *out)
{
    struct rebuild r = {.b = b, .txn = txn};
    buf_init(&r.record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&r.page, PAGE_MAX);
    clear(&r, b->table_chunks, SPAN_NONE);
    clear(&r, b->table_life, SPAN_LIT("p"));
    int err = take_free(&r);
    if (err == 0) err = take_lists(&r);
    if (err == 0) err = take_packs(&r);
    if (err == 0) err = finish_chunks(&r);
    if (err == 0) err = count_tails(&r);
    buf_free(&r.record);
    buf_free(&r.page);
    if (err == 0) err = db_txn_err(txn);
    log_info("blobs", "the index of chunks was made anew", LF_UINT("placed", r.counts.placed), LF_UINT("missing", r.counts.missing), LF_ERR(err));
    if (err == 0) *out = r.counts;
    return err;
}
