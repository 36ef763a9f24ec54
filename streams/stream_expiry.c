// How streams end: deleted, gone while forks read them, or past their deadline. What a stream with a TTL is touched by slides its deadline;
// the index of deadlines follows with the directory records, so an append costs it nothing.
#include <assert.h>

#include "err.h"
#include "stream_decide.h"

// ---- deleting ------------------------------------------------------------------------------------------------------

// One stream goes; *next is the gone source above it that nothing reads any more, or NULL.
static int delete_one(struct streams_batch *b, struct decided *d, struct decided **next, struct problem *p)
{
    struct effect e = {.kind = EFFECT_DELETE, .number = d->rec.number};
    struct decided *source = NULL;
    *next = NULL;
    int err = d->rec.source != 0 ? decided_number(b, d->rec.source, &source) : 0;
    if (err == ERR_NO_SUCH_STREAM) err = ERR_CORRUPT;
    if (err == 0) err = decided_effect(b, &e, p);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    d->exists = false;
    decided_reset(d);
    if (source == NULL) return 0;
    assert(source->rec.refs > 0);
    source->rec.refs--;
    if (source->rec.refs == 0 && source->rec.gone_seq != 0) *next = source;
    return 0;
}

int decided_delete(struct streams_batch *b, struct decided *d, struct problem *p)
{
    int err = 0;
    if (d->rec.refs > 0) {
        err = decided_effect(b, &(struct effect){.kind = EFFECT_GONE, .number = d->rec.number}, p);
        if (err == 0) d->rec.gone_seq = b->c->seq;
        return err;
    }
    for (struct decided *next; d != NULL && err == 0; d = next)
        err = delete_one(b, d, &next, p);
    return err;
}

int streams_decide_delete(struct streams_batch *b, struct span path, struct problem *p)
{
    struct decided *d;
    int err = decided_need(b, path, &d, p);
    return err != 0 ? err : decided_delete(b, d, p);
}

// ---- deadlines -----------------------------------------------------------------------------------------------------

int streams_decide_touch(struct streams_batch *b, uint64_t number, uint64_t access_ms)
{
    struct decided *d;
    int err = decided_number(b, number, &d);
    if (err != 0) return err == ERR_NO_SUCH_STREAM ? 0 : err;
    struct stream_record r = d->rec;
    // What counts is when it was read, not when that arrives here: its time may be over by now and was not then.
    if (!d->exists || r.gone_seq != 0 || stream_record_expired(&r, access_ms)) return 0;
    stream_record_slide(&r, access_ms);
    if (r.deadline_ms == d->rec.deadline_ms) return 0;
    struct effect e = {.kind = EFFECT_TOUCH, .number = number, .deadline_ms = r.deadline_ms};
    err = decided_effect(b, &e, NULL);
    if (err == 0) d->rec.deadline_ms = r.deadline_ms;
    return err;
}

int streams_decide_expire(struct streams_batch *b, uint64_t number)
{
    struct decided *d;
    int err = decided_number(b, number, &d);
    if (err != 0) return err == ERR_NO_SUCH_STREAM ? 0 : err;
    bool due = d->rec.gone_seq == 0 && stream_record_expired(&d->rec, b->c->arrival_ms);
    return due ? decided_delete(b, d, NULL) : 0;
}

size_t streams_expired(struct streams *s, struct db_txn *txn, struct stream_due *from, uint64_t until_ms, uint64_t *numbers, size_t max)
{
    struct stream_bytes key;
    struct stream_view v;
    struct db_iter it;
    struct stream_due at = from != NULL ? *from : (struct stream_due){0};
    size_t n = 0;
    stream_key_deadline(&key, at.deadline_ms, at.number);
    db_iter_init(&it, txn, s->table);
    for (bool more = db_iter_seek(&it, stream_bytes_span(&key)); more && n < max; more = db_iter_next(&it)) {
        if (!stream_key_deadline_parse(it.key, &at.deadline_ms, &at.number) || at.deadline_ms > until_ms) break;
        if (from != NULL) *from = (struct stream_due){at.deadline_ms, at.number + 1};
        if (stream_view_number(s, txn, at.number, &v) != 0) continue;
        // The index may be older than what is in memory: a stream that was touched since is not due.
        if (v.rec->deleted_seq == 0 && v.rec->gone_seq == 0 && stream_record_expired(v.rec, until_ms)) numbers[n++] = at.number;
    }
    db_iter_end(&it);
    return n;
}
