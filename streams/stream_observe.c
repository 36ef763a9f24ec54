// Who watches: observers that hear of every stream that changed, and walks over all of them.
#include <assert.h>

#include "err.h"
#include "stream_store.h"

// ---- observers -----------------------------------------------------------------------------------------------------

void streams_observe(struct streams *s, struct stream_observer *o)
{
    assert(o->changed != NULL);
    o->next = s->observers;
    s->observers = o;
}

void streams_unobserve(struct streams *s, struct stream_observer *o)
{
    struct stream_observer **at = &s->observers;
    while (*at != o) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = o->next;
}

void stream_told_mark(struct streams *s, struct stream *st, uint64_t seq)
{
    if (s->observers == NULL) return;
    st->told_last = seq;
    if (st->told) return;
    st->told = true; // and so stays in memory until then
    st->told_first = seq;
    st->told_next = s->told;
    s->told = st;
}

static void tell(struct streams *s, const struct stream *st, uint64_t seq)
{
    for (struct stream_observer *o = s->observers; o != NULL; o = o->next)
        o->changed(o, seq, stream_path(&st->rec), st->rec.number);
}

void stream_told_publish(struct streams *s, uint64_t seq)
{
    for (struct stream **at = &s->told; *at != NULL;) {
        struct stream *st = *at;
        bool later = st->told_last > seq;
        if (st->told_first <= seq) tell(s, st, seq);
        if (later && st->told_first <= seq) st->told_first = seq + 1;
        if (later) {
            at = &st->told_next;
        } else {
            *at = st->told_next;
            st->told = false;
            stream_settle(s, st);
        }
    }
}

// ---- all streams ---------------------------------------------------------------------------------------------------

// Puts the iterator behind the key that was looked at last; an empty one is the beginning.
static bool each_seek(struct db_iter *it, const struct buf *resume)
{
    struct stream_bytes first;
    stream_key_path(&first, SPAN("", 1), 0, 0); // the least path key there can be
    if (resume->n == 0) return db_iter_seek(it, stream_bytes_span(&first));
    bool more = db_iter_seek(it, buf_span(resume));
    return more && span_equal(it->key, buf_span(resume)) ? db_iter_next(it) : more;
}

size_t streams_each(struct streams *s, struct db_txn *txn, struct buf *resume, size_t max, streams_each_fn *fn, void *ctx)
{
    struct db_iter it;
    size_t looked = 0;
    db_iter_init(&it, txn, s->table);
    for (bool more = each_seek(&it, resume), on = true; more && on && looked < max; more = db_iter_next(&it)) {
        struct span path;
        struct stream_view v;
        struct stream_info info;
        uint64_t created, number;
        if (!stream_key_path_parse(it.key, &path, &created, &number)) break;
        looked++;
        buf_clear(resume);
        buf_put_span(resume, it.key);
        if (stream_view_number(s, txn, number, &v) != 0 || v.rec->deleted_seq != 0 || v.rec->gone_seq != 0) continue;
        stream_info_fill(&info, v.rec);
        on = fn(ctx, path, &info);
    }
    db_iter_end(&it);
    return looked;
}

bool streams_watched_number(struct streams *s, struct db_txn *txn, uint64_t number)
{
    struct stream_view v;
    return stream_view_number(s, txn, number, &v) == 0 && streams_watched(s, stream_path(v.rec));
}
