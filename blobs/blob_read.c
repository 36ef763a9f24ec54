// Reading ranges. The owner plans: it finds the page by the offset in its key, and each chunk's place; any thread then reads
// what was planned, without the database. Every chunk is verified each time: its bytes leave the service under its name.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "compress.h"
#include "db.h"
#include "err.h"
#include "log.h"
#include "pack.h"

#define PLAN_CHUNKS_MAX 64 // of one call, however large its budget

// A chunk of the plan, and the part of it that is wanted.
struct planned {
    struct chunk chunk;
    uint32_t from, to;
};

struct blob_reader {
    struct blobs *b;
    struct uuid pages;
    uint64_t at; // what follows the plan
    uint64_t end;
    struct planned plan[PLAN_CHUNKS_MAX];
    size_t plan_count;
    size_t plan_next; // the first one that has not been read
};

// ---- one chunk -------------------------------------------------------------------------------------------------

static void log_damage(const struct chunk *chunk, const char *what)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(chunk->sha.b, SHA256_BYTES));
    log_error("blobs", "a chunk is damaged", LF_STR("what", what), LF_UINT("pack", chunk->place.pack),
              LF_UINT("position", chunk->place.position), LF_SPAN("chunk", SPAN(hex, sizeof hex)));
}

static int read_record(struct blobs *b, const struct chunk *chunk, struct buf *record)
{
    size_t n = RECORD_HEAD_BYTES + chunk->place.stored;
    buf_clear(record);
    uint8_t *to = buf_reserve(record, n);
    if (to == NULL) return record->err;
    struct pack *pack = packs_get(b->packs, chunk->place.pack);
    if (pack == NULL) return ERR_NOMEM;
    int err = pack_read(pack, to, n, chunk->place.position);
    pack_unref(pack);
    if (err == 0) record->n = n;
    return err;
}

// The record is the one that the place promises.
static bool is_same(const struct chunk *a, const struct chunk *b)
{
    return sha256_equal(&a->sha, &b->sha) && a->place.codec == b->place.codec && a->place.length == b->place.length &&
           a->place.stored == b->place.stored;
}

static int unpack_record(const struct chunk *chunk, struct span record, struct buf *content, const char **what)
{
    struct span head = span_sub(record, 0, RECORD_HEAD_BYTES);
    struct span payload = span_sub(record, RECORD_HEAD_BYTES, record.n);
    struct chunk found;
    *what = "head";
    if (blob_record_head_decode(head, &found) != 0 || !is_same(&found, chunk)) return ERR_CORRUPT;
    *what = "checksum";
    if (!blob_record_verify(head, payload)) return ERR_CORRUPT;
    *what = "content";
    buf_clear(content);
    if (found.place.codec == CODEC_RAW) {
        buf_put_span(content, payload);
    } else {
        int err = zstd_unpack(content, payload, found.place.length);
        if (err != 0) return err == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT;
    }
    if (content->err != 0) return content->err;
    struct sha256 sha = sha256_of(buf_span(content));
    return content->n == found.place.length && sha256_equal(&sha, &chunk->sha) ? 0 : ERR_CORRUPT;
}

int chunk_read(struct blobs *b, const struct chunk *chunk, struct buf *scratch, struct buf *content)
{
    const char *what = "missing";
    int err = read_record(b, chunk, scratch);
    if (err == 0) err = unpack_record(chunk, buf_span(scratch), content, &what);
    if (err == ERR_CORRUPT) log_damage(chunk, what);
    return err;
}

// ---- readers ---------------------------------------------------------------------------------------------------

int blobs_reader_open(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, uint64_t offset, uint64_t length,
                      struct blob_reader **out)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(b, txn, digest, &info, &err)) return err != 0 ? err : ERR_NO_SUCH_BLOB;
    if (offset > info.size || length > info.size - offset) return ERR_RANGE_NOT_SATISFIABLE;
    struct blob_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return ERR_NOMEM;
    r->b = b;
    r->pages = info.pages;
    r->at = offset;
    r->end = offset + length;
    atomic_fetch_add(&b->readers, 1);
    *out = r;
    return 0;
}

void blobs_reader_close(struct blob_reader *r)
{
    if (r == NULL) return;
    atomic_fetch_sub(&r->b->readers, 1);
    free(r);
}

// Plans one chunk of the page, which lies from `start` on; one that ends before the range is passed over.
static int plan_chunk(struct blob_reader *r, struct db_txn *txn, const struct sha256 *sha, uint64_t start, uint32_t length)
{
    if (start + length <= r->at) return 0;
    struct planned planned = {.chunk.sha = *sha};
    int err = chunk_place_find(r->b, txn, sha, &planned.chunk.place);
    if (err != 0) return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    if (planned.chunk.place.length != length) return ERR_CORRUPT;
    uint64_t end = r->end - start < length ? r->end - start : length;
    planned.from = (uint32_t)(r->at - start);
    planned.to = (uint32_t)end;
    r->plan[r->plan_count++] = planned;
    r->at = start + end;
    return 0;
}

// Finds the page that holds r->at, and plans from it until it, the range, the plan or `until` ends.
static int plan_page(struct blob_reader *r, struct db_txn *txn, uint64_t until, struct span key, struct span value)
{
    struct uuid pages;
    struct sha256 sha;
    uint64_t start;
    size_t count;
    if (!blob_key_is_page(key, &pages, &start) || !uuid_equal(pages, r->pages)) return ERR_CORRUPT;
    int err = blob_page_decode(value, &count);
    uint64_t before = r->at;
    for (size_t i = 0; err == 0 && i < count && r->at < until && r->plan_count < PLAN_CHUNKS_MAX; i++) {
        uint32_t length;
        blob_page_at(value, i, &sha, &length);
        err = plan_chunk(r, txn, &sha, start, length);
        start += length;
    }
    return err == 0 && r->at == before ? ERR_CORRUPT : err; // a page that does not reach the place it is sought for
}

static int plan(struct blob_reader *r, struct db_txn *txn, uint64_t until)
{
    while (r->at < until && r->plan_count < PLAN_CHUNKS_MAX) {
        struct blob_key after = blob_page_key(r->pages, r->at + 1);
        struct db_iter it;
        db_iter_init(&it, txn, r->b->table_pages);
        int err = ERR_CORRUPT;
        if (db_iter_seek_before(&it, blob_key_span(&after))) err = plan_page(r, txn, until, it.key, it.value);
        db_iter_end(&it);
        if (db_txn_err(txn) != 0) err = db_txn_err(txn);
        if (err != 0) return err;
    }
    return 0;
}

int blobs_reader_next(struct blob_reader *r, struct db_txn *txn, size_t budget)
{
    assert(r->plan_next == r->plan_count);
    r->plan_next = r->plan_count = 0;
    if (budget == 0) budget = 1;
    uint64_t until = budget < r->end - r->at ? r->at + budget : r->end;
    uint64_t at = r->at;
    int err = plan(r, txn, until);
    if (err == ERR_CORRUPT || err == ERR_VERSION)
        log_error("blobs", "a blob's chunk list is damaged", LF_UINT("offset", r->at), LF_ERR(err));
    if (err != 0) {
        r->at = at;
        r->plan_count = 0;
    }
    return err;
}

// The memory for a chunk is kept for one call only: a reader waits for its socket most of the time.
int blobs_reader_read(struct blob_reader *r, struct buf *out, bool *done)
{
    struct buf record, content;
    int err = 0;
    buf_init(&record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&content, BLOB_CHUNK_MAX);
    while (err == 0 && r->plan_next < r->plan_count) {
        const struct planned *p = &r->plan[r->plan_next++];
        err = chunk_read(r->b, &p->chunk, &record, &content);
        if (err == 0) buf_put_span(out, span_sub(buf_span(&content), p->from, p->to - p->from));
        if (err == 0) err = out->err;
    }
    buf_free(&record);
    buf_free(&content);
    if (err == 0) *done = r->at == r->end;
    return err;
}
