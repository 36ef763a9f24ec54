// Reference counts of chunks, and what lives in which pack. Every change of an entry goes through chunk_entry_put, which keeps the counts of packs.
#include <assert.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"

#define COUNT_LOST (UINT64_C(1) << 60)

static struct span sha_key(const struct sha256 *sha)
{
    return SPAN(sha->b, SHA256_BYTES);
}

int chunk_entry_find(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, struct chunk_entry *out)
{
    struct span value;
    if (db_get(txn, b->table_chunks, sha_key(sha), &value)) return chunk_entry_decode(value, out);
    int err = db_txn_err(txn);
    return err != 0 ? err : ERR_NOT_FOUND;
}

int chunk_place_find(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, struct place *out)
{
    struct chunk_entry e;
    int err = chunk_entry_find(b, txn, sha, &e);
    if (err == 0 && e.damaged) err = ERR_CORRUPT;
    if (err == 0) *out = e.place;
    return err;
}

bool blobs_chunk_stored(struct blobs *b, struct db_txn *txn, const struct sha256 *sha)
{
    struct place place;
    return chunk_place_find(b, txn, sha, &place) == 0;
}

// ---- packs -----------------------------------------------------------------------------------------------------

int pack_count_find(struct blobs *b, struct db_txn *txn, uint32_t pack, struct pack_count *out)
{
    struct blob_key key = life_pack_key(pack);
    struct span value;
    *out = (struct pack_count){0};
    if (!db_get(txn, b->table_life, blob_key_span(&key), &value)) return db_txn_err(txn);
    int err = pack_count_decode(value, out);
    // Nobody knows what lives in it, so all of it does, until the index is made anew: a count is no reason to refuse anything.
    if (err == ERR_CORRUPT) *out = (struct pack_count){.live = COUNT_LOST, .tails = 1u << 31};
    return err == ERR_CORRUPT ? 0 : err;
}

static int pack_count_add(struct blobs *b, struct db_txn *txn, uint32_t pack, int64_t live, int tails)
{
    struct pack_count c;
    struct blob_key key = life_pack_key(pack);
    int err = pack_count_find(b, txn, pack, &c);
    if (err != 0) return err;
    if ((live < 0 && c.live < (uint64_t)-live) || (tails < 0 && c.tails < (uint32_t)-tails)) return ERR_CORRUPT;
    c.live += (uint64_t)live;
    c.tails += (uint32_t)tails;
    buf_clear(&b->entry);
    pack_count_encode(&b->entry, &c);
    if (c.live == 0 && c.tails == 0) db_del(txn, b->table_life, blob_key_span(&key));
    else if (b->entry.err == 0) db_put(txn, b->table_life, blob_key_span(&key), buf_span(&b->entry));
    return b->entry.err != 0 ? b->entry.err : db_txn_err(txn);
}

int tail_count(struct blobs *b, struct db_txn *txn, const struct chunk *tail, int by)
{
    return tail->place.length == 0 ? 0 : pack_count_add(b, txn, tail->place.pack, by * (int64_t)blob_record_bytes(tail->place.stored), by);
}

// ---- entries ---------------------------------------------------------------------------------------------------

static bool is_free(const struct chunk_entry *e)
{
    return e != NULL && e->refs == 0;
}

static void put_free(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, const struct chunk_entry *was, const struct chunk_entry *is)
{
    static const uint8_t version = BLOB_FORMAT;
    if (is_free(was) == is_free(is)) return;
    struct blob_key key = life_chunk_key(is_free(was) ? was->free_ms : is->free_ms, sha);
    if (is_free(was)) db_del(txn, b->table_life, blob_key_span(&key));
    else db_put(txn, b->table_life, blob_key_span(&key), SPAN(&version, 1));
}

static int count_records(struct blobs *b, struct db_txn *txn, const struct chunk_entry *was, const struct chunk_entry *is)
{
    bool same = was != NULL && is != NULL && was->place.pack == is->place.pack && was->place.stored == is->place.stored;
    int err = 0;
    if (same) return 0;
    if (was != NULL) err = pack_count_add(b, txn, was->place.pack, -(int64_t)blob_record_bytes(was->place.stored), 0);
    if (is != NULL && err == 0) err = pack_count_add(b, txn, is->place.pack, (int64_t)blob_record_bytes(is->place.stored), 0);
    return err;
}

int chunk_entry_put(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, const struct chunk_entry *was, const struct chunk_entry *is)
{
    int err = count_records(b, txn, was, is);
    if (err != 0) return err;
    put_free(b, txn, sha, was, is);
    if (is == NULL) {
        db_del(txn, b->table_chunks, sha_key(sha));
        return db_txn_err(txn);
    }
    buf_clear(&b->entry);
    chunk_entry_encode(&b->entry, is);
    if (b->entry.err == 0) db_put(txn, b->table_chunks, sha_key(sha), buf_span(&b->entry));
    return b->entry.err != 0 ? b->entry.err : db_txn_err(txn);
}

int chunk_entry_move(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, const struct chunk_entry *was, const struct chunk_entry *is)
{
    assert(was->refs == is->refs && was->free_ms == is->free_ms);
    return chunk_entry_put(b, txn, sha, was, is);
}

static void renew(struct chunk_entry *e, const struct chunk *chunk)
{
    if (chunk->known) return;
    e->place = chunk->place;
    e->damaged = false;
}

int chunk_ref(struct blobs *b, struct db_txn *txn, const struct chunk *chunk)
{
    struct chunk_entry was, is;
    int err = chunk_entry_find(b, txn, &chunk->sha, &was);
    if (err == ERR_NOT_FOUND) {
        if (chunk->known) return ERR_CORRUPT;
        is = (struct chunk_entry){.place = chunk->place, .refs = 1};
        return chunk_entry_put(b, txn, &chunk->sha, NULL, &is);
    }
    if (err != 0) return err;
    is = was;
    renew(&is, chunk);
    if (is.refs == UINT32_MAX) return ERR_TOO_MANY;
    is.refs++;
    is.free_ms = 0;
    return chunk_entry_put(b, txn, &chunk->sha, &was, &is);
}

int chunk_renew(struct blobs *b, struct db_txn *txn, const struct chunk *chunk)
{
    struct chunk_entry was, is;
    int err = chunk_entry_find(b, txn, &chunk->sha, &was);
    if (err == ERR_NOT_FOUND) return 0; // what a damaged list names the check tells
    if (err != 0) return err;
    is = was;
    renew(&is, chunk);
    return chunk_entry_put(b, txn, &chunk->sha, &was, &is);
}

int chunk_unref(struct blobs *b, struct db_txn *txn, const struct sha256 *sha, uint64_t now_ms)
{
    struct chunk_entry was, is;
    int err = chunk_entry_find(b, txn, sha, &was);
    if (err != 0) return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    if (was.refs == 0) return ERR_CORRUPT;
    is = was;
    is.refs--;
    is.free_ms = is.refs == 0 ? now_ms : 0;
    return chunk_entry_put(b, txn, sha, &was, &is);
}

int chunk_forget(struct blobs *b, struct db_txn *txn, const struct sha256 *sha)
{
    struct chunk_entry was;
    int err = chunk_entry_find(b, txn, sha, &was);
    if (err == ERR_NOT_FOUND || (err == 0 && was.refs > 0)) return 0;
    return err != 0 ? err : chunk_entry_put(b, txn, sha, &was, NULL);
}

int manifest_check_known(struct blobs *b, struct db_txn *txn, const struct manifest *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct chunk chunk;
        struct chunk_entry e;
        blob_manifest_at(m, i, &chunk);
        int err = chunk_entry_find(b, txn, &chunk.sha, &e);
        if (!chunk.known && err == ERR_NOT_FOUND) continue;
        if (chunk.known && err == 0 && e.place.length != chunk.place.length) err = ERR_NOT_FOUND;
        if (err != 0) return err;
    }
    return 0;
}
