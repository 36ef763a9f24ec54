// Who writes to a stream: idempotent producers and the last Stream-Seq. A hot stream keeps in memory those that wrote since it is hot,
// found by their id, and streams_flush writes them under keys of their own; an append by a known producer costs no database read or
// write and no allocation.
#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "digest.h"
#include "err.h"
#include "stream_store.h"

static struct hot_writer *hot_find(const struct streams *s, const struct stream *st, struct span id)
{
    if (st == NULL || st->writers.slots == NULL) return NULL;
    for (struct hash_node *n = hash_table_first(&st->writers, checksum64(id, s->seed)); n != NULL; n = hash_table_more(n)) {
        struct hot_writer *w = HASH_OWNER(n, struct hot_writer, node);
        if (span_equal(SPAN(w->id, w->id_n), id)) return w;
    }
    return NULL;
}

static bool cold_find(struct streams *s, struct db_txn *txn, uint64_t number, struct span id, struct stream_writer *out)
{
    struct stream_bytes key;
    struct span value;
    stream_key_writer(&key, number, id);
    return db_get(txn, s->table, stream_bytes_span(&key), &value) && stream_writer_decode(value, out) == 0;
}

bool stream_writer_find(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream *hot, struct span id,
                        struct stream_writer *out)
{
    const struct hot_writer *w = hot_find(s, hot, id);
    if (w == NULL) return cold_find(s, txn, number, id, out);
    *out = w->state;
    return true;
}

static struct hot_writer *hot_add(struct streams *s, struct stream *st, struct span id)
{
    assert(id.n > 0 && id.n <= STREAM_PRODUCER_ID_MAX);
    if (st->writers.slots == NULL && hash_table_init(&st->writers) != 0) return NULL;
    struct hot_writer *w = calloc(1, sizeof *w + id.n);
    if (w == NULL) return NULL;
    w->id_n = (uint8_t)id.n;
    memcpy(w->id, id.p, id.n);
    hash_table_insert(&st->writers, &w->node, checksum64(id, s->seed));
    return w;
}

int stream_writer_set(struct streams *s, struct db_txn *txn, struct stream *st, struct span id, const struct stream_writer *state, bool *added)
{
    struct stream_writer was;
    struct hot_writer *w = hot_find(s, st, id);
    *added = false;
    if (w == NULL) {
        bool kept = cold_find(s, txn, st->rec.number, id, &was);
        w = hot_add(s, st, id);
        if (w == NULL) return ERR_NOMEM;
        w->kept = kept;
        *added = !kept;
    }
    w->state = *state;
    if (w->dirty) return 0;
    w->dirty = true;
    w->dirty_next = st->writers_dirty;
    st->writers_dirty = w;
    return 0;
}

struct span stream_seq_find(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream *hot)
{
    struct stream_bytes key;
    struct span value, seq;
    if (hot != NULL && hot->seq != NULL) return SPAN(hot->seq->p, hot->seq->n);
    stream_key_seq(&key, number);
    if (!db_get(txn, s->table, stream_bytes_span(&key), &value) || stream_text_decode(value, &seq) != 0) return SPAN_NONE;
    return seq;
}

int stream_seq_set(struct stream *st, struct span seq)
{
    assert(seq.n > 0 && seq.n <= STREAM_SEQ_MAX);
    if (st->seq == NULL) st->seq = malloc(sizeof *st->seq);
    if (st->seq == NULL) return ERR_NOMEM;
    st->seq->dirty = true;
    st->seq->n = (uint16_t)seq.n;
    memcpy(st->seq->p, seq.p, seq.n);
    return 0;
}

// ---- the database --------------------------------------------------------------------------------------------------

void stream_writers_flush(struct streams *s, struct db_txn *txn, const struct stream *st)
{
    struct stream_bytes key, value;
    for (const struct hot_writer *w = st->writers_dirty; w != NULL; w = w->dirty_next) {
        stream_key_writer(&key, st->rec.number, SPAN(w->id, w->id_n));
        stream_writer_encode(&value, &w->state);
        db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
    }
    if (st->seq == NULL || !st->seq->dirty) return;
    stream_key_seq(&key, st->rec.number);
    stream_seq_encode(&value, SPAN(st->seq->p, st->seq->n));
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
}

void stream_writers_flushed(struct stream *st)
{
    for (struct hot_writer *w; (w = st->writers_dirty) != NULL;) {
        st->writers_dirty = w->dirty_next;
        w->dirty = false;
        w->kept = true;
    }
    if (st->seq != NULL) st->seq->dirty = false;
}

void stream_writers_free(struct stream *st)
{
    for (struct hash_node *n; st->writers.slots != NULL && (n = hash_table_take(&st->writers)) != NULL;)
        free(HASH_OWNER(n, struct hot_writer, node));
    hash_table_free(&st->writers);
    free(st->seq);
    st->writers_dirty = NULL;
    st->seq = NULL;
}

// The first producer that the database has of a stream, or the next behind the one `it` stands at.
static bool writer_next(struct db_iter *it, bool first, uint64_t number, struct span *id)
{
    struct stream_bytes key;
    uint64_t of;
    stream_key_writer(&key, number, SPAN_NONE);
    bool more = first ? db_iter_seek(it, stream_bytes_span(&key)) : db_iter_next(it);
    return more && stream_key_writer_parse(it->key, &of, id) && of == number;
}

void stream_writers_forget(struct streams *s, struct db_txn *txn, struct stream *st)
{
    struct stream_bytes key;
    struct db_iter it;
    struct span id;
    for (bool more = st->rec.producers > 0; more;) { // one at a time: a deletion ends what an iterator sees
        db_iter_init(&it, txn, s->table);
        more = writer_next(&it, true, st->rec.number, &id);
        if (more) stream_key_writer(&key, st->rec.number, id);
        db_iter_end(&it);
        if (more) db_del(txn, s->table, stream_bytes_span(&key));
        more = more && db_txn_err(txn) == 0;
    }
    stream_key_seq(&key, st->rec.number);
    db_del(txn, s->table, stream_bytes_span(&key));
    stream_writers_free(st);
    st->rec.producers = 0;
}

// ---- the logical state ---------------------------------------------------------------------------------------------

// Producers lie in memory and in the database in no common order: their digests are added up, which needs none.
static void hash_add(struct checksum128 *sum, struct span id, const struct stream_writer *w)
{
    struct stream_bytes value;
    stream_writer_encode(&value, w);
    struct checksum128 one = checksum128(stream_bytes_span(&value), checksum64(id, 0));
    sum->lo += one.lo;
    sum->hi += one.hi;
}

int stream_writers_hash(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream *hot, struct digest *d)
{
    struct checksum128 sum = {0};
    struct stream_writer w;
    struct db_iter it;
    struct span id;
    int err = 0;
    db_iter_init(&it, txn, s->table);
    for (bool more = writer_next(&it, true, number, &id); more && err == 0; more = writer_next(&it, false, number, &id)) {
        if (hot_find(s, hot, id) != NULL) continue;
        err = stream_writer_decode(it.value, &w);
        if (err == 0) hash_add(&sum, id, &w);
    }
    db_iter_end(&it);
    for (size_t i = 0; hot != NULL && hot->writers.slots != NULL && i < hot->writers.size; i++) {
        for (struct hash_node *n = hot->writers.slots[i]; n != NULL; n = n->next) {
            const struct hot_writer *h = HASH_OWNER(n, struct hot_writer, node);
            hash_add(&sum, SPAN(h->id, h->id_n), &h->state);
        }
    }
    digest_update(d, SPAN(&sum, sizeof sum));
    digest_update(d, stream_seq_find(s, txn, number, hot));
    return err;
}
