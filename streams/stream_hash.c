// The logical state as a digest: equal for two stores that agree on paths, settings, bytes, seqs and ends, wherever the bytes lie.
//
// Every stream that ever was, in the order of the path keys: its record, then, if it is not deleted, its own bytes (a fork's source has the others) with a
// mark behind each append, who wrote to it, what stands for trimmed bytes. A mark carries
// offset and seq, so that equal bytes appended otherwise differ. A sealed record that cuts an append makes no mark there.
#include "err.h"

#include "digest.h"
#include "stream_store.h"

static void hash_mark(struct digest *d, uint64_t end, uint64_t seq)
{
    uint8_t mark[17] = {'|'};
    for (int i = 0; i < 8; i++) {
        mark[1 + i] = (uint8_t)(end >> (8 * i));
        mark[9 + i] = (uint8_t)(seq >> (8 * i));
    }
    digest_update(d, SPAN(mark, sizeof mark));
}

static int hash_sealed(struct streams *s, struct db_txn *txn, const struct stream_view *v, struct digest *d)
{
    for (uint64_t at = stream_start(v->rec); at < v->sealed;) {
        struct stream_index ix;
        const struct segment_record *r;
        struct segment_bounds b;
        int err = stream_index_find(s, txn, v->rec->number, at, &ix);
        if (err == 0) err = stream_segments_read(&s->segments, v->rec->number, &ix, &r);
        if (err != 0) return err;
        stream_segment_bounds_init(&b, r);
        while (stream_segment_bounds_next(&b)) {
            if (b.end <= at) continue; // trimmed
            digest_update(d, span_sub(r->payload, at - r->first, b.end - at));
            at = b.end;
            if (b.left > 0 || !r->cut) hash_mark(d, b.end, b.seq);
        }
        if (stream_segment_bounds_err(&b) != 0 || at != ix.first + ix.raw) return ERR_CORRUPT;
    }
    return 0;
}

static int hash_tail(struct streams *s, const struct stream_view *v, struct digest *d)
{
    if (v->hot == NULL) return v->sealed == v->rec->offset ? 0 : ERR_CORRUPT;
    const struct tail *t = &v->hot->tail;
    uint64_t at = t->start > stream_start(v->rec) ? t->start : stream_start(v->rec);
    for (size_t i = 0; i < t->bound_count; i++) {
        if (t->bounds[i].end <= at) continue; // trimmed
        while (at < t->bounds[i].end) { // an append may be larger than the buffer
            uint64_t left = t->bounds[i].end - at;
            buf_clear(&s->scratch);
            stream_tail_read(t, at, left < STREAM_ELEMENT_MAX ? left : STREAM_ELEMENT_MAX, &s->scratch);
            if (s->scratch.err != 0) return s->scratch.err;
            digest_update(d, buf_span(&s->scratch));
            at += s->scratch.n;
        }
        hash_mark(d, at, t->bounds[i].seq);
    }
    return at == v->rec->offset ? 0 : ERR_CORRUPT;
}

static int hash_snapshot(struct streams *s, struct db_txn *txn, const struct stream_record *r, struct digest *d)
{
    struct buf snapshot;
    buf_init(&snapshot, STREAM_SNAPSHOT_MAX);
    int err = stream_snapshot_read(s, txn, r, &snapshot);
    if (err == 0) digest_update(d, buf_span(&snapshot));
    buf_free(&snapshot);
    return err;
}

static int hash_stream(struct streams *s, struct db_txn *txn, uint64_t number, struct digest *d)
{
    struct stream_view v;
    struct stream_bytes record;
    int err = stream_view_number(s, txn, number, &v);
    if (err != 0) return err == ERR_NO_SUCH_STREAM ? ERR_CORRUPT : err;
    stream_record_encode(&record, v.rec);
    digest_update(d, stream_bytes_span(&record));
    if (stream_is_dead(v.rec)) return 0;
    err = hash_sealed(s, txn, &v, d);
    if (err == 0) err = hash_tail(s, &v, d);
    if (err == 0) err = stream_writers_hash(s, txn, number, v.hot, d);
    return err != 0 ? err : hash_snapshot(s, txn, v.rec, d);
}

int streams_hash(struct streams *s, struct db_txn *txn, struct digest *d)
{
    struct stream_bytes from;
    struct db_iter it;
    int err = 0;
    stream_key_path(&from, SPAN("", 1), 0, 0); // the least path key there can be
    db_iter_init(&it, txn, s->table);
    for (bool more = db_iter_seek(&it, stream_bytes_span(&from)); more && err == 0; more = db_iter_next(&it)) {
        struct span path;
        uint64_t created, number;
        if (!stream_key_path_parse(it.key, &path, &created, &number)) break;
        err = hash_stream(s, txn, number, d);
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}
