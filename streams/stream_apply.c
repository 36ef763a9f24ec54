// Applying effects: the one place where streams change. An append costs memory only; a creation one small record, so that
// a path's history can be looked up by seq at once, a snapshot its bytes, a deletion what it takes away; all else waits for streams_flush.
//
// Effects come out of the journal, which is verified, and still each is checked against the state: a mismatch is ERR_CORRUPT, never
// a crash.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "stream_effects.h"
#include "stream_store.h"

// The stream that an effect is about, in memory.
static int hot_load(struct streams *s, struct db_txn *txn, uint64_t number, struct stream **out)
{
    struct stream_view v;
    int err = stream_view_number(s, txn, number, &v);
    if (err == ERR_NO_SUCH_STREAM) return ERR_CORRUPT;
    if (err != 0) return err;
    *out = v.hot != NULL ? v.hot : stream_hot_add(s, v.rec, v.sealed);
    return *out == NULL ? ERR_NOMEM : 0;
}

// The same, and it must be whole and alive: anything else cannot come from deciding over this state.
static int hot_need(struct streams *s, struct db_txn *txn, const struct effect *e, struct stream **out)
{
    int err = hot_load(s, txn, e->number, out);
    if (err != 0) return err;
    const struct stream_record *r = &(*out)->rec;
    if (r->deleted_seq != 0 || (r->gone_seq != 0 && e->kind != EFFECT_DELETE) || (*out)->tail.end != r->offset) return ERR_CORRUPT;
    return 0;
}

static int effect_data(const struct effect *e, const struct commit *c, struct span *out)
{
    if (e->length == 0 || e->length > STREAM_APPEND_MAX || e->at > c->request.n || e->length > c->request.n - e->at) return ERR_CORRUPT;
    *out = SPAN(c->request.p + e->at, e->length);
    return 0;
}

// Bytes come into memory, from the journal or on the way into it.
static int hot_take(struct streams *s, struct stream *st, const struct commit *c, struct span data)
{
    int err = stream_groups_add(&s->groups, c->group);
    if (err != 0) return err;
    err = stream_tail_append(&st->tail, data, c->seq, c->group);
    if (err != 0) {
        stream_groups_drop(&s->groups, c->group);
        return err;
    }
    s->unsealed_bytes += data.n;
    st->appended_ms = c->arrival_ms;
    stream_enlist(s, st);
    return 0;
}

static void changed(struct streams *s, struct stream *st, uint64_t seq)
{
    stream_mark_dirty(s, st);
    stream_feed_mark(s, stream_path(&st->rec), seq);
    stream_told_mark(s, st, seq);
}

// ---- the effects ---------------------------------------------------------------------------------------------------

// The source of a new fork: it has what the fork begins with, and one that reads it more.
static int apply_fork(struct streams *s, struct db_txn *txn, const struct effect *e, struct stream **source)
{
    struct effect about = {.number = e->source};
    int err = hot_need(s, txn, &about, source);
    if (err != 0) return err;
    const struct stream_record *r = &(*source)->rec;
    return e->base > r->offset || e->base < r->first || e->depth != r->depth + 1 || r->refs == UINT32_MAX ? ERR_CORRUPT : 0;
}

static int copy_snapshot(struct streams *s, struct db_txn *txn, const struct stream_record *from, uint64_t number)
{
    struct buf snapshot;
    if (!from->has_snapshot) return 0;
    buf_init(&snapshot, STREAM_SNAPSHOT_MAX);
    int err = stream_snapshot_read(s, txn, from, &snapshot);
    if (err == 0) stream_snapshot_write(s, txn, number, buf_span(&snapshot));
    buf_free(&snapshot);
    return err;
}

static int apply_create(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream_view v;
    struct stream_record r;
    struct stream_bytes key, value;
    struct stream *source = NULL;
    if (e->number != s->alloc.next_number) return ERR_CORRUPT;
    int err = stream_view_path(s, txn, e->path, &v);
    if (err != ERR_NO_SUCH_STREAM) return err == 0 ? ERR_CORRUPT : err;
    err = e->has_fork ? apply_fork(s, txn, e, &source) : 0;
    if (err != 0) return err;
    stream_record_make(&r, c, e);
    if (source != NULL) {
        stream_record_inherit(&r, &source->rec);
        err = copy_snapshot(s, txn, &source->rec, e->number);
    }
    struct stream *st = err == 0 ? stream_hot_add(s, &r, r.base) : NULL;
    if (st == NULL) return err != 0 ? err : ERR_NOMEM;
    st->deadline_ms = 0; // the index has none of it yet
    stream_key_path(&key, e->path, c->seq, e->number);
    stream_path_encode(&value);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
    s->alloc.next_number++;
    s->alloc_dirty = true;
    changed(s, st, c->seq);
    if (source == NULL) return 0;
    source->rec.refs++;
    stream_mark_dirty(s, source);
    return 0;
}

static int apply_append(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    struct span data;
    int err = effect_data(e, c, &data);
    if (err == 0) err = hot_need(s, txn, e, &st);
    if (err != 0) return err;
    if (st->rec.closed_seq != 0 || e->offset != st->rec.offset) return ERR_CORRUPT;
    if (st->rec.json && data.p[data.n - 1] != '\n') return ERR_CORRUPT; // no messages
    err = hot_take(s, st, c, data);
    if (err != 0) return err;
    st->rec.offset += data.n;
    st->rec.changed_seq = c->seq;
    stream_record_slide(&st->rec, c->arrival_ms);
    changed(s, st, c->seq);
    return 0;
}

static int apply_close(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    int err = hot_need(s, txn, e, &st);
    if (err != 0) return err;
    if (st->rec.closed_seq != 0 || e->offset != st->rec.offset) return ERR_CORRUPT;
    st->rec.closed_seq = st->rec.changed_seq = c->seq;
    stream_record_slide(&st->rec, c->arrival_ms);
    stream_enlist(s, st);
    changed(s, st, c->seq);
    return 0;
}

// A fork that is deleted reads its source no more.
static int release_source(struct streams *s, struct db_txn *txn, uint64_t number)
{
    struct stream *source;
    int err = hot_load(s, txn, number, &source);
    if (err != 0) return err;
    if (source->rec.refs == 0) return ERR_CORRUPT;
    source->rec.refs--;
    stream_mark_dirty(s, source);
    return 0;
}

static void forget_snapshot(struct streams *s, struct db_txn *txn, struct stream *st)
{
    struct stream_bytes key;
    if (!st->rec.has_snapshot) return;
    stream_key_snapshot(&key, st->rec.number);
    db_del(txn, s->table, stream_bytes_span(&key));
    st->rec.has_snapshot = false;
}

// The record stays: earlier seqs still see it. The bytes are given back by and by.
static int apply_delete(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    int err = hot_need(s, txn, e, &st);
    if (err != 0) return err;
    if (st->rec.refs != 0) return ERR_CORRUPT;
    if (st->rec.source != 0) err = release_source(s, txn, st->rec.source);
    if (err != 0) return err;
    st->rec.deleted_seq = c->seq;
    stream_writers_forget(s, txn, st);
    forget_snapshot(s, txn, st);
    stream_hot_forget_path(s, st);
    stream_enlist(s, st);
    stream_reclaim_mark(s, txn, e->number);
    changed(s, st, c->seq);
    return 0;
}

static int apply_gone(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    int err = hot_need(s, txn, e, &st);
    if (err != 0) return err;
    if (st->rec.refs == 0) return ERR_CORRUPT;
    st->rec.gone_seq = c->seq;
    stream_writers_forget(s, txn, st);
    changed(s, st, c->seq);
    return 0;
}

static int apply_writer(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    struct stream_writer state = {.epoch = e->epoch, .seq = e->seq, .closing = e->closing};
    bool added;
    int err = hot_need(s, txn, e, &st);
    if (err == 0) err = stream_writer_set(s, txn, st, e->text, &state, &added);
    if (err != 0) return err;
    if (added && st->rec.producers >= STREAM_PRODUCERS_MAX) return ERR_CORRUPT;
    st->rec.producers += added;
    stream_record_slide(&st->rec, c->arrival_ms);
    stream_mark_dirty(s, st);
    return 0;
}

static int apply_seq(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    int err = hot_need(s, txn, e, &st);
    if (err == 0) err = stream_seq_set(st, e->text);
    if (err != 0) return err;
    stream_record_slide(&st->rec, c->arrival_ms);
    stream_mark_dirty(s, st);
    return 0;
}

static int apply_trim(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream *st;
    int err = hot_need(s, txn, e, &st);
    if (err != 0) return err;
    if (e->offset < st->rec.first || e->offset > st->rec.offset || st->rec.refs != 0) return ERR_CORRUPT;
    if (e->length > STREAM_SNAPSHOT_MAX || e->at > c->request.n || e->length > c->request.n - e->at) return ERR_CORRUPT;
    forget_snapshot(s, txn, st);
    if (e->has_snapshot) stream_snapshot_write(s, txn, st->rec.number, SPAN(c->request.p + e->at, e->length));
    stream_record_trim(&st->rec, c, e->offset, e->has_snapshot);
    stream_reclaim_mark(s, txn, e->number);
    changed(s, st, c->seq);
    return 0;
}

static int apply_touch(struct streams *s, struct db_txn *txn, const struct effect *e)
{
    struct stream *st;
    int err = hot_need(s, txn, e, &st);
    if (err != 0) return err;
    if (!st->rec.has_ttl || e->deadline_ms <= st->rec.deadline_ms) return ERR_CORRUPT;
    st->rec.deadline_ms = e->deadline_ms;
    stream_mark_dirty(s, st);
    return 0;
}

static int apply_one(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    switch (e->kind) {
    case EFFECT_CREATE: return apply_create(s, txn, c, e);
    case EFFECT_APPEND: return apply_append(s, txn, c, e);
    case EFFECT_CLOSE: return apply_close(s, txn, c, e);
    case EFFECT_DELETE: return apply_delete(s, txn, c, e);
    case EFFECT_GONE: return apply_gone(s, txn, c, e);
    case EFFECT_WRITER: return apply_writer(s, txn, c, e);
    case EFFECT_SEQ: return apply_seq(s, txn, c, e);
    case EFFECT_TRIM: return apply_trim(s, txn, c, e);
    case EFFECT_TOUCH: return apply_touch(s, txn, e);
    }
    return ERR_CORRUPT;
}

int streams_apply(struct streams *s, struct db_txn *txn, const struct commit *c, struct span effects)
{
    struct cur cur;
    struct effect e;
    stream_effects_begin(&cur, effects);
    while (stream_effects_next(&cur, &e)) {
        int err = apply_one(s, txn, c, &e);
        if (db_txn_err(txn) != 0) return db_txn_err(txn); // a failed transaction finds nothing: not the effects' fault
        if (err != 0) return err;
    }
    return cur.err;
}

// ---- recovery ------------------------------------------------------------------------------------------------------

// Takes the part of an append back that is neither sealed nor here. What the database says about the stream stands already.
static int restore_append(struct streams *s, struct db_txn *txn, const struct commit *c, const struct effect *e)
{
    struct stream_view v;
    struct span data;
    int err = effect_data(e, c, &data);
    if (err == 0) err = stream_view_number(s, txn, e->number, &v);
    if (err != 0) return err == ERR_NO_SUCH_STREAM ? ERR_CORRUPT : err;
    uint64_t here = v.hot != NULL ? v.hot->tail.end : v.sealed;
    bool dead = stream_is_dead(v.rec);
    if (dead) stream_reclaim_mark(s, txn, e->number); // what comes back has to go again
    if (e->offset > v.rec->offset || data.n > v.rec->offset - e->offset) return ERR_CORRUPT;
    if (e->offset + data.n <= here) return 0;
    if (e->offset > here) return dead ? 0 : ERR_CORRUPT; // bytes between are lost, or given back
    struct stream *st = v.hot != NULL ? v.hot : stream_hot_add(s, v.rec, v.sealed);
    if (st == NULL) return ERR_NOMEM;
    return hot_take(s, st, c, span_sub(data, here - e->offset, data.n));
}

int streams_restore(struct streams *s, struct db_txn *txn, const struct commit *c, struct span effects)
{
    struct cur cur;
    struct effect e;
    stream_effects_begin(&cur, effects);
    while (stream_effects_next(&cur, &e)) {
        int err = e.kind == EFFECT_APPEND ? restore_append(s, txn, c, &e) : 0;
        if (err != 0) return db_txn_err(txn) != 0 ? db_txn_err(txn) : err;
    }
    return cur.err;
}
