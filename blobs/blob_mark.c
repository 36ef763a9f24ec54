// The mark pass: what the counts of chunks and packs say is compared with what chunk lists and uploads say. In rounds of as many chunks as
// a bounded table holds; each round walks over all lists. What cannot be read is passed over: blob_index.c names it.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "log.h"

#define ROUND_CHUNKS 65536

struct mark_chunk {
    struct sha256 sha;
    uint32_t counted, named;
};

struct marking {
    struct blobs *b;
    struct db_txn *txn;
    struct mark_chunk *chunks; // of this round, in order
    size_t count;
    bool last; // nothing follows this round
    uint64_t wrong;
    uint64_t named; // references in all lists, and those of them that a round found
    uint64_t found;
};

static void tell(struct marking *m, const char *what, const struct mark_chunk *c)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(c->sha.b, SHA256_BYTES));
    log_error("blobs", what, LF_SPAN("chunk", SPAN(hex, sizeof hex)), LF_UINT("counted", c->counted), LF_UINT("named", c->named));
    m->wrong++;
}

// A free chunk stands in the list of those, and no other does.
static void check_listed(struct marking *m, const struct sha256 *sha, const struct chunk_entry *e)
{
    struct blob_key key = life_chunk_key(e->free_ms, sha);
    struct span value;
    bool listed = db_get(m->txn, m->b->table_life, blob_key_span(&key), &value);
    if (listed == (e->refs == 0)) return;
    tell(m, "a free chunk is not listed, or a listed one not free", &(struct mark_chunk){.sha = *sha, .counted = e->refs});
}

// Fills the table with the chunks behind those of the round before.
static int next_round(struct marking *m)
{
    struct db_iter it;
    struct sha256 after = m->count > 0 ? m->chunks[m->count - 1].sha : (struct sha256){{0}};
    db_iter_init(&it, m->txn, m->b->table_chunks);
    bool more = m->count > 0 ? db_iter_seek(&it, SPAN(after.b, SHA256_BYTES)) && db_iter_next(&it) : db_iter_first(&it);
    m->count = 0;
    for (; more && m->count < ROUND_CHUNKS; more = db_iter_next(&it)) {
        struct chunk_entry e;
        if (it.key.n != SHA256_BYTES || chunk_entry_decode(it.value, &e) != 0) continue;
        struct mark_chunk *c = &m->chunks[m->count++];
        *c = (struct mark_chunk){.counted = e.refs};
        memcpy(c->sha.b, it.key.p, SHA256_BYTES);
        check_listed(m, &c->sha, &e);
    }
    db_iter_end(&it);
    m->last = !more;
    return db_txn_err(m->txn);
}

static int compare(const void *a, const void *b)
{
    return memcmp(((const struct mark_chunk *)a)->sha.b, ((const struct mark_chunk *)b)->sha.b, SHA256_BYTES);
}

static void mark(struct marking *m, const struct sha256 *sha)
{
    if (m->count == 0 || memcmp(sha->b, m->chunks[0].sha.b, SHA256_BYTES) < 0) return;
    if (memcmp(sha->b, m->chunks[m->count - 1].sha.b, SHA256_BYTES) > 0) return;
    struct mark_chunk key = {.sha = *sha};
    struct mark_chunk *c = bsearch(&key, m->chunks, m->count, sizeof *c, compare);
    if (c == NULL) return;
    c->named++;
    m->found++;
}

static int walk_lists(struct marking *m)
{
    struct db_iter it;
    m->named = 0;
    db_iter_init(&it, m->txn, m->b->table_pages);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        size_t count = 0;
        if (blob_page_decode(it.value, &count) != 0) continue;
        m->named += count;
        for (size_t i = 0; i < count; i++) {
            struct sha256 sha;
            uint32_t length;
            blob_page_at(it.value, i, &sha, &length);
            mark(m, &sha);
        }
    }
    db_iter_end(&it);
    return db_txn_err(m->txn);
}

static int mark_chunks(struct marking *m)
{
    int err = 0;
    do {
        err = next_round(m);
        if (err == 0) err = walk_lists(m);
        for (size_t i = 0; i < m->count && err == 0; i++)
            if (m->chunks[i].counted != m->chunks[i].named) tell(m, "a chunk's references are not what was counted", &m->chunks[i]);
    } while (err == 0 && !m->last);
    if (err == 0 && m->found != m->named) {
        log_error("blobs", "chunk lists name chunks that the index does not have", LF_UINT("named", m->named), LF_UINT("found", m->found));
        m->wrong++;
    }
    return err;
}

// ---- packs -----------------------------------------------------------------------------------------------------

struct pack_mark {
    uint32_t pack;
    struct pack_count is, counted;
};

struct pack_marks {
    struct buf list; // struct pack_mark
};

static struct pack_mark *pack_mark_of(struct pack_marks *p, uint32_t pack)
{
    size_t n = p->list.n / sizeof(struct pack_mark);
    struct pack_mark *at = (struct pack_mark *)(void *)p->list.p;
    for (size_t i = n; i-- > 0;)
        if (at[i].pack == pack) return &at[i];
    struct pack_mark fresh = {.pack = pack};
    buf_put(&p->list, &fresh, sizeof fresh);
    return p->list.err != 0 ? NULL : &((struct pack_mark *)(void *)p->list.p)[n];
}

static int sum_chunks(struct marking *m, struct pack_marks *p)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, m->txn, m->b->table_chunks);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct chunk_entry e;
        if (chunk_entry_decode(it.value, &e) != 0) continue;
        struct pack_mark *k = pack_mark_of(p, e.place.pack);
        if (k == NULL) err = ERR_NOMEM;
        else k->is.live += blob_record_bytes(e.place.stored);
    }
    db_iter_end(&it);
    return err;
}

static int sum_tails(struct marking *m, struct pack_marks *p)
{
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, m->txn, m->b->table_uploads);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct upload_head head = {0};
        if (!upload_key_is_head(it.key, &head.info.id)) continue;
        if (upload_head_decode(it.value, &head) != 0 || head.info.state != UPLOAD_OPEN || head.tail.place.length == 0) continue;
        struct pack_mark *k = pack_mark_of(p, head.tail.place.pack);
        if (k == NULL) err = ERR_NOMEM;
        else k->is.tails++, k->is.live += blob_record_bytes(head.tail.place.stored);
    }
    db_iter_end(&it);
    return err;
}

static int read_counts(struct marking *m, struct pack_marks *p)
{
    struct db_iter it;
    int err = 0;
    uint32_t pack;
    db_iter_init(&it, m->txn, m->b->table_life);
    for (bool more = db_iter_seek(&it, SPAN_LIT("p")); more && err == 0 && life_key_is_pack(it.key, &pack); more = db_iter_next(&it)) {
        struct pack_mark *k = pack_mark_of(p, pack);
        err = k == NULL ? ERR_NOMEM : 0;
        if (err == 0 && pack_count_decode(it.value, &k->counted) != 0) k->counted = (struct pack_count){0};
    }
    db_iter_end(&it);
    return err;
}

static int mark_packs(struct marking *m)
{
    struct pack_marks p;
    buf_init(&p.list, 64 * MIB);
    int err = sum_chunks(m, &p);
    if (err == 0) err = sum_tails(m, &p);
    if (err == 0) err = read_counts(m, &p);
    for (size_t i = 0; i < p.list.n / sizeof(struct pack_mark) && err == 0; i++) {
        const struct pack_mark *k = &((struct pack_mark *)(void *)p.list.p)[i];
        if (k->is.live == k->counted.live && k->is.tails == k->counted.tails) continue;
        log_error("blobs", "what lives in a pack is not what was counted", LF_UINT("pack", k->pack), LF_UINT("live", k->is.live),
                  LF_UINT("counted", k->counted.live), LF_UINT("tails", k->is.tails), LF_UINT("tails_counted", k->counted.tails));
        m->wrong++;
    }
    buf_free(&p.list);
    return err;
}

int blobs_mark(struct blobs *b, struct db_txn *txn, uint64_t *wrong)
{
    struct marking m = {.b = b, .txn = txn, .chunks = malloc(ROUND_CHUNKS * sizeof(struct mark_chunk))};
    if (m.chunks == NULL) return ERR_NOMEM;
    int err = mark_chunks(&m);
    if (err == 0) err = mark_packs(&m);
    free(m.chunks);
    *wrong = m.wrong;
    return err != 0 ? err : db_txn_err(txn);
}
