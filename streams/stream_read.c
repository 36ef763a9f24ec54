// Looking at streams: which one a path named when, where it ended as of a seq, and its bytes, wherever they lie.
#include <assert.h>

#include "err.h"
#include "log.h"
#include "stream_store.h"

// ---- views ---------------------------------------------------------------------------------------------------------

static int view_hot(struct stream *st, struct stream_view *out)
{
    out->rec = &st->rec;
    out->hot = st;
    out->sealed = st->tail.start;
    return 0;
}

// Bytes below the result are sealed (or trimmed): the index itself says so, it is written nowhere else.
static uint64_t sealed_end(struct streams *s, struct db_txn *txn, const struct stream_record *rec)
{
    struct stream_bytes key;
    struct db_iter it;
    struct stream_index ix;
    uint64_t of, first, end = stream_start(rec);
    stream_key_index(&key, rec->number, UINT64_MAX);
    db_iter_init(&it, txn, s->table_index);
    if (db_iter_seek_before(&it, stream_bytes_span(&key)) && stream_key_index_parse(it.key, &of, &first) && of == rec->number &&
        stream_index_decode(it.value, &ix) == 0 && first + ix.raw > end)
        end = first + ix.raw;
    db_iter_end(&it);
    return end;
}

// A record is there for each number that was ever given, once its transaction was flushed.
static int view_cold(struct streams *s, struct db_txn *txn, uint64_t number, struct stream_view *out)
{
    struct stream_bytes key;
    struct span value;
    stream_key_number(&key, number);
    if (!db_get(txn, s->table, stream_bytes_span(&key), &value)) return db_txn_err(txn) != 0 ? db_txn_err(txn) : ERR_NO_SUCH_STREAM;
    int err = stream_record_decode(value, &out->own);
    if (err != 0) {
        log_error("streams", "a directory record is damaged", LF_UINT("stream", number), LF_ERR(err));
        return err;
    }
    out->rec = &out->own;
    out->hot = NULL;
    out->sealed = sealed_end(s, txn, out->rec);
    return db_txn_err(txn);
}

int stream_view_number(struct streams *s, struct db_txn *txn, uint64_t number, struct stream_view *out)
{
    struct stream *st = stream_hot_number(s, number);
    return st != NULL ? view_hot(st, out) : view_cold(s, txn, number, out);
}

// The number that `path` was given last, in a commit not above `seq`; 0: none.
static uint64_t number_at(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq)
{
    struct stream_bytes key;
    struct db_iter it;
    struct span at;
    uint64_t created, number, found = 0;
    stream_key_path(&key, path, seq, UINT64_MAX);
    db_iter_init(&it, txn, s->table);
    if (db_iter_seek_before(&it, stream_bytes_span(&key)) && stream_key_path_parse(it.key, &at, &created, &number) && span_equal(at, path))
        found = number;
    db_iter_end(&it);
    return found;
}

static int view_last(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq, struct stream_view *out)
{
    if (path.n == 0 || path.n > STREAM_PATH_MAX) return ERR_NO_SUCH_STREAM;
    uint64_t number = number_at(s, txn, path, seq);
    if (number == 0) return db_txn_err(txn) != 0 ? db_txn_err(txn) : ERR_NO_SUCH_STREAM;
    return stream_view_number(s, txn, number, out);
}

int stream_view_path(struct streams *s, struct db_txn *txn, struct span path, struct stream_view *out)
{
    struct stream *st = stream_hot_path(s, path);
    if (st != NULL) return view_hot(st, out);
    int err = view_last(s, txn, path, UINT64_MAX, out);
    return err != 0 ? err : out->rec->deleted_seq != 0 ? ERR_NO_SUCH_STREAM : 0;
}

int stream_view_at(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq, struct stream_view *out)
{
    struct stream *st = stream_hot_path(s, path);
    bool lives = st != NULL && st->rec.created_seq <= seq; // the common case: it lived then, too
    int err = lives ? view_hot(st, out) : view_last(s, txn, path, seq, out);
    if (err != 0) return err;
    if (out->rec->gone_seq != 0 && out->rec->gone_seq <= seq) return ERR_NO_SUCH_STREAM;
    return out->rec->deleted_seq != 0 && out->rec->deleted_seq <= seq ? ERR_NO_SUCH_STREAM : 0;
}

bool streams_path_of(struct streams *s, struct db_txn *txn, uint64_t number, struct buf *out)
{
    struct stream_view v;
    if (stream_view_number(s, txn, number, &v) != 0 || v.rec->deleted_seq != 0) return false;
    buf_put_span(out, stream_path(v.rec));
    return out->err == 0;
}

// ---- the index of sealed bytes ---------------------------------------------------------------------------------------

int stream_index_find(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, struct stream_index *out)
{
    struct stream_bytes key;
    struct db_iter it;
    uint64_t of, first;
    int err = ERR_CORRUPT;
    stream_key_index(&key, number, offset + 1);
    db_iter_init(&it, txn, s->table_index);
    if (db_iter_seek_before(&it, stream_bytes_span(&key)) && stream_key_index_parse(it.key, &of, &first) && of == number)
        err = stream_index_decode(it.value, out);
    db_iter_end(&it);
    if (db_txn_err(txn) != 0) return db_txn_err(txn);
    if (err == 0) out->first = first;
    if (err == 0 && offset - first < out->raw) return 0;
    log_error("streams", "the index has a gap", LF_UINT("stream", number), LF_UINT("offset", offset));
    return ERR_CORRUPT;
}

// Is all of a stream that is dead still here?
static bool is_whole(struct streams *s, struct db_txn *txn, const struct stream_view *v)
{
    struct stream_bytes key;
    struct db_iter it;
    uint64_t of, first, start = stream_start(v->rec), end = v->hot != NULL ? v->hot->tail.end : v->sealed;
    if (end != v->rec->offset) return false;
    if (v->rec->offset == start || v->sealed == start) return true;
    stream_key_index(&key, v->rec->number, 0);
    db_iter_init(&it, txn, s->table_index);
    bool whole = db_iter_seek(&it, stream_bytes_span(&key)) && stream_key_index_parse(it.key, &of, &first) && of == v->rec->number && first <= start;
    db_iter_end(&it);
    return whole;
}

int stream_sealed_at(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, struct stream_index *out)
{
    if (stream_is_dead(v->rec) && !is_whole(s, txn, v)) return ERR_NO_SUCH_STREAM;
    return stream_index_find(s, txn, v->rec->number, offset, out);
}

// The last sealed record that begins with an append of `seq` or before, by bisection over offsets. *found false: there is none.
static int index_find_seq(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t seq, struct stream_index *out,
                          bool *found)
{
    uint64_t lo = stream_start(v->rec), hi = v->sealed;
    *found = false;
    while (lo < hi) {
        struct stream_index ix;
        int err = stream_index_find(s, txn, v->rec->number, lo + (hi - lo) / 2, &ix);
        if (err != 0) return err;
        if (ix.first_seq <= seq) {
            *out = ix;
            *found = true;
            lo = ix.first + ix.raw;
        } else {
            hi = ix.first;
        }
    }
    return 0;
}

// ---- seqs and offsets ------------------------------------------------------------------------------------------------

static int sealed_offset_at(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t seq, uint64_t *offset,
                            uint64_t *changed)
{
    struct stream_index ix;
    const struct segment_record *r;
    struct segment_bounds b;
    bool found;
    int err = index_find_seq(s, txn, v, seq, &ix, &found);
    if (err != 0 || !found) return err;
    *offset = ix.first + ix.raw;
    *changed = ix.last_seq;
    if (ix.last_seq <= seq) return 0; // all of it, without reading it
    err = stream_segments_bounds(&s->segments, v->rec->number, &ix, &r);
    if (err != 0) return err;
    stream_segment_bounds_init(&b, r);
    while (stream_segment_bounds_next(&b) && b.seq <= seq) {
        *offset = b.end;
        *changed = b.seq;
    }
    return stream_segment_bounds_err(&b);
}

static int bounds_offset_at(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t seq, uint64_t *offset, uint64_t *changed)
{
    size_t n = v->hot == NULL ? 0 : stream_tail_bounds_to_seq(&v->hot->tail, seq);
    if (n > 0) {
        *offset = v->hot->tail.bounds[n - 1].end;
        *changed = v->hot->tail.bounds[n - 1].seq;
        return 0;
    }
    *offset = stream_start(v->rec);
    *changed = v->rec->created_seq;
    return sealed_offset_at(s, txn, v, seq, offset, changed);
}

int stream_offset_at(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t seq, uint64_t *offset, uint64_t *changed)
{
    const struct stream_record *r = v->rec;
    assert(r->created_seq <= seq);
    *offset = r->offset;
    *changed = r->changed_seq;
    if (r->changed_seq <= seq) return 0;
    if (stream_is_dead(r) && !is_whole(s, txn, v)) return 0; // where it ended then is forgotten with its bytes: where it ended at last has to do
    int err = bounds_offset_at(s, txn, v, seq, offset, changed);
    // Which appends below the beginning are still known depends on how the bytes lie, and a decision may ask for this.
    if (err != 0 || r->trimmed_seq == 0 || *offset > stream_start(r)) return err;
    *offset = stream_start(r);
    *changed = seq >= r->trimmed_changed ? r->trimmed_changed : r->created_seq;
    return 0;
}

int stream_seq_of(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, uint64_t *seq)
{
    assert(offset < v->rec->offset);
    if (offset < v->rec->base) { // what a fork inherits came with it
        *seq = v->rec->created_seq;
        return 0;
    }
    if (offset >= v->sealed) {
        size_t n = v->hot == NULL ? 0 : stream_tail_bounds_to_offset(&v->hot->tail, offset);
        if (v->hot == NULL || n == v->hot->tail.bound_count) return stream_is_dead(v->rec) ? ERR_NO_SUCH_STREAM : ERR_CORRUPT;
        *seq = v->hot->tail.bounds[n].seq;
        return 0;
    }
    struct stream_index ix;
    const struct segment_record *r;
    struct segment_bounds b;
    int err = stream_sealed_at(s, txn, v, offset, &ix);
    if (err == 0) err = stream_segments_bounds(&s->segments, v->rec->number, &ix, &r);
    if (err != 0) return err;
    stream_segment_bounds_init(&b, r);
    while (stream_segment_bounds_next(&b) && b.end <= offset)
        ;
    *seq = b.seq;
    return stream_segment_bounds_err(&b);
}

// ---- bytes -----------------------------------------------------------------------------------------------------------

int stream_view_holder(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, struct stream_view *up,
                       const struct stream_view **out, uint64_t *limit)
{
    *limit = v->rec->offset;
    for (int depth = 0; offset < v->rec->base; depth++) {
        uint64_t source = v->rec->source;
        if (v->rec->base < *limit) *limit = v->rec->base;
        int err = depth > STREAM_FORK_DEPTH_MAX ? ERR_CORRUPT : stream_view_number(s, txn, source, up);
        if (err == 0 && up->rec->offset < *limit) err = ERR_CORRUPT;
        if (err != 0) return err == ERR_NO_SUCH_STREAM ? ERR_CORRUPT : err;
        v = up;
    }
    *out = v;
    return 0;
}

// The same within one stream, whose bytes are its own.
static int read_own(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t max, struct buf *out)
{
    if (offset < v->sealed) {
        struct stream_index ix;
        const struct segment_record *r;
        int err = stream_sealed_at(s, txn, v, offset, &ix);
        if (err == 0) err = stream_segments_read(&s->segments, v->rec->number, &ix, &r);
        if (err != 0) return err;
        buf_put_span(out, span_sub(r->payload, offset - r->first, max));
        return out->err;
    }
    if (v->hot == NULL || offset >= v->hot->tail.end) // the journal did not bring these bytes back
        return stream_is_dead(v->rec) ? ERR_NO_SUCH_STREAM : ERR_CORRUPT;
    stream_tail_read(&v->hot->tail, offset, max, out);
    return out->err;
}

int stream_read_some(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t max, struct buf *out)
{
    struct stream_view up;
    const struct stream_view *holder;
    uint64_t limit;
    assert(offset <= v->rec->offset);
    if (max == 0 || offset == v->rec->offset) return 0;
    if (offset >= v->rec->base) return read_own(s, txn, v, offset, max, out);
    int err = stream_view_holder(s, txn, v, offset, &up, &holder, &limit);
    if (err != 0) return err;
    return read_own(s, txn, holder, offset, max < limit - offset ? max : (size_t)(limit - offset), out);
}

int stream_read_all(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t n, struct buf *out)
{
    size_t end = out->n + n;
    while (out->n < end) {
        size_t before = out->n;
        int err = stream_read_some(s, txn, v, offset, end - out->n, out);
        if (err != 0) return err;
        assert(out->n > before);
        offset += out->n - before;
    }
    return 0;
}

// ---- appends and messages --------------------------------------------------------------------------------------------

// An append that a sealed record cuts goes on in the next one, or in the tail.
static int sealed_append_end(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, uint64_t *end)
{
    while (offset < v->sealed) {
        struct stream_index ix;
        const struct segment_record *r;
        struct segment_bounds b;
        int err = stream_index_find(s, txn, v->rec->number, offset, &ix);
        if (err == 0) err = stream_segments_bounds(&s->segments, v->rec->number, &ix, &r);
        if (err != 0) return err;
        stream_segment_bounds_init(&b, r);
        while (stream_segment_bounds_next(&b) && b.end <= offset)
            ;
        if (stream_segment_bounds_err(&b) != 0 || b.end <= offset) return ERR_CORRUPT;
        *end = offset = b.end;
        if (b.left > 0 || !r->cut) return 0;
    }
    size_t n = v->hot == NULL ? 0 : stream_tail_bounds_to_offset(&v->hot->tail, offset);
    if (v->hot == NULL || n == v->hot->tail.bound_count) return ERR_CORRUPT;
    *end = v->hot->tail.bounds[n].end;
    return 0;
}

int stream_append_end(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, uint64_t *end)
{
    struct stream_view up;
    const struct stream_view *holder;
    uint64_t limit;
    assert(offset < v->rec->offset);
    int err = stream_view_holder(s, txn, v, offset, &up, &holder, &limit);
    if (err == 0) err = sealed_append_end(s, txn, holder, offset, end);
    if (err == 0 && *end > limit) *end = limit;
    return err;
}

int stream_message_boundary(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, bool *is)
{
    uint8_t room[8];
    struct buf last = {.p = room, .cap = sizeof room, .max = sizeof room};
    assert(offset <= v->rec->offset);
    *is = offset == 0 || offset == v->rec->first || offset == v->rec->offset;
    if (*is) return 0;
    int err = stream_read_some(s, txn, v, offset - 1, 1, &last);
    *is = err == 0 && last.p[0] == '\n';
    return err;
}

// ---- reading ---------------------------------------------------------------------------------------------------------

static int view_readable(struct streams *s, struct db_txn *txn, struct span path, struct stream_view *v)
{
    int err = stream_view_path(s, txn, path, v);
    return err == 0 && v->rec->gone_seq != 0 ? ERR_STREAM_GONE : err;
}

// Where the last message ends in out[from …], or 0.
static size_t messages_end(const struct buf *out, size_t from)
{
    for (size_t n = out->n; n > from; n--)
        if (out->p[n - 1] == '\n') return n;
    return 0;
}

// Whole messages: a page that ends inside one is cut behind the one before, and the first is read on to its end.
int stream_read_messages(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t max, struct buf *out)
{
    size_t from = out->n, end = 0;
    int err = 0;
    while (max > 0 && offset < v->rec->offset && end == 0) {
        size_t before = out->n, left = before - from < max ? max - (before - from) : STREAM_ELEMENT_MAX;
        err = stream_read_some(s, txn, v, offset, left, out);
        if (err != 0) return err;
        offset += out->n - before;
        end = messages_end(out, before);
        const uint8_t *first = end == 0 || before - from < max ? NULL : memchr(out->p + before, '\n', out->n - before);
        if (first != NULL) end = (size_t)(first + 1 - out->p); // beyond the page nothing more than the one message is given
    }
    if (end == 0 && out->n > from) return ERR_CORRUPT;
    if (end != 0) buf_truncate(out, end);
    return 0;
}

static int read_page(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t max, struct buf *out)
{
    bool is;
    int err = stream_message_boundary(s, txn, v, offset, &is);
    if (err != 0 || !is) return err != 0 ? err : ERR_BAD_OFFSET;
    return stream_read_messages(s, txn, v, offset, max, out);
}

int streams_read(struct streams *s, struct db_txn *txn, struct span path, uint64_t offset, size_t max, struct buf *out)
{
    struct stream_view v;
    int err = view_readable(s, txn, path, &v);
    if (err != 0) return err;
    if (offset > v.rec->offset) return ERR_BAD_OFFSET;
    if (offset < v.rec->first) return ERR_STREAM_TRIMMED;
    return v.rec->json ? read_page(s, txn, &v, offset, max, out) : stream_read_some(s, txn, &v, offset, max, out);
}

// The stream whose append brought the byte at `offset`, and where its share ends.
static int view_bringer(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, struct stream_view *v, struct stream_view *up,
                        const struct stream_view **holder, uint64_t *limit)
{
    int err = stream_view_number(s, txn, number, v);
    if (err == 0 && stream_is_dead(v->rec)) err = ERR_NO_SUCH_STREAM;
    if (err == 0 && v->rec->gone_seq != 0) err = ERR_STREAM_GONE;
    if (err == 0 && offset >= v->rec->offset) err = ERR_BAD_OFFSET;
    if (err == 0 && offset < v->rec->first) err = ERR_STREAM_TRIMMED;
    return err != 0 ? err : stream_view_holder(s, txn, v, offset, up, holder, limit);
}

int streams_seq_at(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, uint64_t *seq)
{
    struct stream_view v, up;
    const struct stream_view *holder;
    uint64_t limit;
    int err = view_bringer(s, txn, number, offset, &v, &up, &holder, &limit);
    return err != 0 ? err : stream_seq_of(s, txn, holder, offset, seq);
}

int streams_reach_at(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, uint64_t seq, uint64_t *to)
{
    struct stream_view v, up;
    const struct stream_view *holder;
    uint64_t limit, end, changed;
    int err = view_bringer(s, txn, number, offset, &v, &up, &holder, &limit);
    if (err == 0) err = stream_offset_at(s, txn, holder, seq, &end, &changed);
    if (err != 0) return err;
    if (end <= offset) return ERR_CORRUPT;
    *to = end < limit ? end : limit;
    return 0;
}

int streams_snapshot(struct streams *s, struct db_txn *txn, struct span path, struct buf *out)
{
    struct stream_view v;
    int err = view_readable(s, txn, path, &v);
    return err != 0 ? err : stream_snapshot_read(s, txn, v.rec, out);
}

int stream_snapshot_read(struct streams *s, struct db_txn *txn, const struct stream_record *r, struct buf *out)
{
    struct stream_bytes key;
    struct span value, text;
    if (!r->has_snapshot) return 0;
    stream_key_snapshot(&key, r->number);
    if (!db_get(txn, s->table, stream_bytes_span(&key), &value)) return db_txn_err(txn) != 0 ? db_txn_err(txn) : ERR_CORRUPT;
    int err = stream_text_decode(value, &text);
    if (err != 0) return err;
    buf_put_span(out, text);
    return out->err;
}

void stream_snapshot_write(struct streams *s, struct db_txn *txn, uint64_t number, struct span snapshot)
{
    struct stream_bytes key, head;
    stream_key_snapshot(&key, number);
    stream_seq_encode(&head, SPAN_NONE); // the version alone
    uint8_t *to = db_put_reserve(txn, s->table, stream_bytes_span(&key), head.n + snapshot.n);
    if (to == NULL) return; // the transaction says so
    memcpy(to, head.p, head.n);
    if (snapshot.n > 0) memcpy(to + head.n, snapshot.p, snapshot.n);
}

bool streams_producer(struct streams *s, struct db_txn *txn, struct span path, struct span id, struct stream_producer *out)
{
    struct stream_view v;
    struct stream_writer w;
    if (id.n == 0 || id.n > STREAM_PRODUCER_ID_MAX || stream_view_path(s, txn, path, &v) != 0) return false;
    if (!stream_writer_find(s, txn, v.rec->number, v.hot, id, &w)) return false;
    *out = (struct stream_producer){.epoch = w.epoch, .seq = w.seq};
    return true;
}
