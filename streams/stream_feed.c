// Streams as feeds. A feed belongs to a path, so that readers may wait for a stream that does not exist yet, and stay when one is
// deleted and another comes. What a reader gets depends on nothing but (from, to] and where it began.
//
//      state at from     state at to        values
//      none              stream             created, bytes from 0, [closed]
//      stream            the same one       the bytes between, [closed, if it was not]
//      stream            none               deleted
//      stream            another one        deleted, created, bytes from 0, [closed]
//
// Bytes are cut into elements, each encoded once: a stream's bytes never change, so (number, offset, length wanted) names an
// element for ever, and the readers who come for it after the first share what that one made.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_write.h"
#include "stream_store.h"
#include "utf8.h"

// What a reader reads, and from where.
struct reading {
    struct streams *s;
    struct db_txn *txn;
    struct span path;
    uint64_t number; // the stream that `start` is about; 0: there was none
    bool any;        // it is about whatever stream there is
    uint64_t start;  // where the reader began in it
};

struct stream_sub {
    struct feed_sub sub;
    uint64_t number, start;    // as of `reading`
    struct stream_place place; // of a snapshot under way
};

static struct stream_feed *feed_of(const struct stream_sub *sub)
{
    return HASH_OWNER(sub->sub.feed, struct stream_feed, feed);
}

static struct span feed_path(const struct stream_feed *f)
{
    return SPAN(f->path, f->path_n);
}

static struct reading reading_of(const struct stream_sub *sub, struct db_txn *txn)
{
    const struct stream_feed *f = feed_of(sub);
    return (struct reading){.s = f->s, .txn = txn, .path = feed_path(f), .number = sub->number, .start = sub->start};
}

// ---- elements ------------------------------------------------------------------------------------------------------

static void element_drop(struct streams *s, struct stream_element *e)
{
    if (e->json == NULL) return;
    s->element_bytes -= e->json->n;
    bytes_unref(e->json);
    *e = (struct stream_element){0};
}

void stream_elements_free(struct streams *s)
{
    if (s->elements == NULL) return;
    for (size_t i = 0; i < STREAM_ELEMENTS_KEPT; i++)
        element_drop(s, &s->elements[i]);
    free(s->elements);
}

// Each element has one place where it may be kept; a newer one takes it over.
static struct stream_element *element_slot(struct streams *s, uint64_t number, uint64_t from, uint32_t want)
{
    uint64_t h = (number * 0x9E3779B97F4A7C15u ^ from) * 0x9E3779B97F4A7C15u + want;
    h *= 0xD6E8FEB86659FD93u;
    return &s->elements[(h >> 32) & (STREAM_ELEMENTS_KEPT - 1)];
}

static void element_keep(struct streams *s, struct stream_element *slot, const struct stream_element *e)
{
    element_drop(s, slot);
    while (s->element_bytes + e->json->n > STREAM_ELEMENTS_BYTES_MAX && s->element_bytes > 0) {
        element_drop(s, &s->elements[s->element_hand]);
        s->element_hand = (s->element_hand + 1) % STREAM_ELEMENTS_KEPT;
    }
    *slot = *e;
    bytes_ref(e->json);
    s->element_bytes += e->json->n;
}

// How much of `raw` goes into one element, and as what. A character that is broken at the end (tokens do that) is left to the next
// element, where the rest of it may have come. A NUL is no text: many a JSON parser, ours too, takes none in a string.
static uint32_t element_cut(struct span raw, bool *text)
{
    size_t valid = memchr(raw.p, 0, raw.n) == NULL ? utf8_valid_prefix(raw) : 0;
    *text = valid == raw.n || (valid > 0 && raw.n - valid < 4);
    return (uint32_t)(*text ? valid : raw.n);
}

static void put_bytes(struct jw *w, struct span raw, bool text)
{
    jw_key(w, text ? "text" : "base64");
    if (text)
        jw_str(w, raw);
    else
        jw_base64(w, raw);
}

// Messages stand in the stream as they do in an array, but for the comma and the newline behind the last.
static void put_messages(struct jw *w, struct span raw)
{
    jw_key(w, "messages");
    jw_array(w);
    for (const uint8_t *p = raw.p, *end = raw.p + raw.n; p < end;) {
        const uint8_t *stop = memchr(p, '\n', (size_t)(end - p));
        if (stop == NULL || stop - p < 2) break; // damage, which the checksum over it has not found
        jw_raw(w, SPAN(p, (size_t)(stop - p) - 1));
        p = stop + 1;
    }
    jw_end(w);
}

static struct bytes *element_encode(const struct stream_record *r, struct span raw, uint64_t end, bool text)
{
    struct buf out;
    struct jw w;
    buf_init(&out, raw.n * 6 + 256); // a control character takes six
    jw_init(&w, &out);
    jw_object(&w);
    jw_key(&w, "offset");
    jw_uint(&w, end);
    if (r->json)
        put_messages(&w, raw);
    else
        put_bytes(&w, raw, text);
    jw_end(&w);
    struct bytes *b = buf_take(&out);
    buf_free(&out);
    return b;
}

static int element_make_text(struct streams *s, struct db_txn *txn, const struct stream_view *v, struct stream_element *e)
{
    bool text;
    buf_clear(&s->scratch);
    int err = stream_read_all(s, txn, v, e->from, e->want, &s->scratch);
    if (err != 0) return err;
    e->n = element_cut(buf_span(&s->scratch), &text);
    e->json = element_encode(v->rec, SPAN(s->scratch.p, e->n), e->from + e->n, text);
    return e->json == NULL ? ERR_NOMEM : 0;
}

// As many whole messages as fit; one that does not fit alone.
static int element_make_messages(struct streams *s, struct db_txn *txn, const struct stream_view *v, struct stream_element *e)
{
    struct buf messages;
    buf_init(&messages, STREAM_ELEMENT_MAX + STREAM_APPEND_MAX);
    int err = stream_read_messages(s, txn, v, e->from, e->want, &messages);
    e->n = (uint32_t)messages.n;
    if (err == 0) e->json = element_encode(v->rec, buf_span(&messages), e->from + e->n, false);
    if (err == 0 && e->json == NULL) err = ERR_NOMEM;
    buf_free(&messages);
    return err;
}

static int element_make(struct streams *s, struct db_txn *txn, const struct stream_view *v, struct stream_element *e)
{
    return v->rec->json ? element_make_messages(s, txn, v, e) : element_make_text(s, txn, v, e);
}

// What a reader is told who lacks bytes that are no longer kept: where the stream begins now, and what stands for them.
static struct bytes *trimmed_encode(const struct stream_record *r, struct span snapshot, bool first)
{
    struct buf out;
    struct jw w;
    bool text;
    buf_init(&out, snapshot.n * 6 + 256);
    jw_init(&w, &out);
    jw_object(&w);
    jw_key(&w, first ? "trimmed" : "snapshot");
    if (first)
        jw_uint(&w, r->first);
    else
        jw_bool(&w, true);
    if (!first && r->json) put_messages(&w, snapshot);
    if (!first && !r->json) put_bytes(&w, snapshot, element_cut(snapshot, &text) == snapshot.n && text);
    jw_end(&w);
    struct bytes *b = buf_take(&out);
    buf_free(&out);
    return b;
}

static int emit_trimmed(struct streams *s, struct db_txn *txn, const struct stream_view *v, struct feed_sink *sink)
{
    struct buf snapshot;
    buf_init(&snapshot, STREAM_SNAPSHOT_MAX);
    int err = stream_snapshot_read(s, txn, v->rec, &snapshot);
    for (int i = 0; i < (v->rec->has_snapshot ? 2 : 1) && err == 0; i++) {
        struct bytes *json = trimmed_encode(v->rec, buf_span(&snapshot), i == 0);
        err = json == NULL ? ERR_NOMEM : sink->emit(sink, json);
        bytes_unref(json);
    }
    buf_free(&snapshot);
    return err;
}

// Emits the bytes from *at on, up to `to` or one element, and moves *at behind them.
static int emit_element(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t *at, uint64_t to,
                        struct feed_sink *sink, size_t *sent)
{
    uint32_t want = to - *at < STREAM_ELEMENT_MAX ? (uint32_t)(to - *at) : STREAM_ELEMENT_MAX;
    struct stream_element *slot = element_slot(s, v->rec->number, *at, want);
    if (slot->number != v->rec->number || slot->from != *at || slot->want != want) {
        struct stream_element e = {.number = v->rec->number, .from = *at, .want = want};
        int err = element_make(s, txn, v, &e);
        if (err != 0) return err;
        element_keep(s, slot, &e);
        bytes_unref(e.json);
    }
    struct bytes *json = bytes_ref(slot->json); // the sink may come back here and push it out
    uint32_t n = slot->n;
    int err = sink->emit(sink, json);
    if (err == 0) *at += n; // a sink that refused it gets it again
    *sent += json->n;
    bytes_unref(json);
    return err;
}

static int emit_created(const struct stream_view *v, struct feed_sink *sink)
{
    struct buf out;
    struct jw w;
    buf_init(&out, STREAM_TYPE_MAX * 6 + 256);
    jw_init(&w, &out);
    jw_object(&w);
    jw_key(&w, "created");
    jw_bool(&w, true);
    jw_key(&w, "type");
    jw_str(&w, SPAN(v->rec->type, v->rec->type_n));
    jw_end(&w);
    struct bytes *json = buf_take(&out);
    buf_free(&out);
    int err = json == NULL ? ERR_NOMEM : sink->emit(sink, json);
    bytes_unref(json);
    return err;
}

// ---- state as of a seq ---------------------------------------------------------------------------------------------

// A path as of a seq: the stream that lived there, if any, its tail and whether it was closed.
struct state_at {
    bool exists, closed;
    uint64_t offset;
    struct stream_view v;
};

static int state_at(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq, struct state_at *out)
{
    uint64_t changed;
    out->exists = out->closed = false;
    out->offset = 0;
    int err = stream_view_at(s, txn, path, seq, &out->v);
    if (err == ERR_NO_SUCH_STREAM) return 0;
    if (err == 0) err = stream_offset_at(s, txn, &out->v, seq, &out->offset, &changed);
    if (err != 0) return err;
    out->exists = true;
    out->closed = out->v.rec->closed_seq != 0 && out->v.rec->closed_seq <= seq;
    return 0;
}

static bool same_stream(const struct state_at *a, const struct state_at *b)
{
    return a->exists && b->exists && a->v.rec->number == b->v.rec->number;
}

// Where the bytes begin that a reader at `a` lacks in `b`, which exists.
static uint64_t lacking_from(const struct reading *r, const struct state_at *a, const struct state_at *b)
{
    uint64_t from = same_stream(a, b) ? a->offset : 0;
    return (r->any || b->v.rec->number == r->number) && r->start > from ? r->start : from;
}

// Is somebody at `from` told of a trim? Who lacks what it took, and that already in a range that ends before it, which has to do without those
// bytes. Where the stream ended as of `from` may be forgotten with them, and then is said to be its begin: who had not all that there was before
// the trim is told at that place too.
static bool lacks_trimmed(const struct state_at *a, const struct state_at *b, uint64_t from, uint64_t base)
{
    const struct stream_record *r = b->v.rec;
    if (r->trimmed_seq == 0) return false;
    if (base < r->first) return true;
    return same_stream(a, b) && base == r->first && from < r->trimmed_changed && from < r->trimmed_seq;
}

static uint64_t kept_from(const struct state_at *b, uint64_t base)
{
    return base > b->v.rec->first ? base : b->v.rec->first;
}

// ---- the feed ------------------------------------------------------------------------------------------------------

static int snapshot_begin(const struct reading *r, const struct state_at *now, struct stream_place *place, struct feed_sink *sink)
{
    if (place->number == now->v.rec->number) return 0;
    int err = r->any ? 0 : emit_created(&now->v, sink);
    if (err != 0) return err;
    place->number = now->v.rec->number;
    place->at = r->any || place->number == r->number ? r->start : 0;
    return 0;
}

static int tell_state(const struct reading *r, uint64_t at, struct stream_place *place, size_t budget, struct feed_sink *sink, bool *done)
{
    struct state_at now;
    size_t sent = 0;
    int err = state_at(r->s, r->txn, r->path, at, &now);
    if (err == 0 && now.exists) err = snapshot_begin(r, &now, place, sink);
    if (err == 0 && now.exists && place->at < now.v.rec->first) {
        err = emit_trimmed(r->s, r->txn, &now.v, sink);
        if (err == 0) place->at = now.v.rec->first;
    }
    while (err == 0 && now.exists && place->at < now.offset && (sent == 0 || sent < budget))
        err = emit_element(r->s, r->txn, &now.v, &place->at, now.offset, sink, &sent);
    bool lost = err == ERR_NO_SUCH_STREAM; // deleted since, and given back: that it is deleted comes behind the snapshot
    if (lost) err = 0;
    bool last = lost || !now.exists || place->at >= now.offset;
    if (err == 0 && last && now.closed) err = sink->emit(sink, r->s->closed);
    if (err != 0) return err;
    if (last) *place = (struct stream_place){0};
    *done = last;
    return 0;
}

static int feed_snapshot(struct feed_sub *fs, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    struct stream_sub *sub = HASH_OWNER(fs, struct stream_sub, sub);
    struct reading r = reading_of(sub, txn);
    return tell_state(&r, at, &sub->place, budget, sink, done);
}

// One step towards a smaller range: *to if it fits, else the commit before the one that goes over the budget.
static int reach_step(const struct reading *r, const struct state_at *a, uint64_t from, size_t budget, uint64_t *to, bool *fits)
{
    struct state_at b;
    int err = state_at(r->s, r->txn, r->path, *to, &b);
    if (err != 0) return err;
    uint64_t base = b.exists ? kept_from(&b, lacking_from(r, a, &b)) : 0, seq;
    *fits = !b.exists || b.offset <= base || b.offset - base <= budget || *to == from + 1;
    if (*fits) return 0;
    err = stream_seq_of(r->s, r->txn, &b.v, base + budget, &seq);
    if (err == ERR_NO_SUCH_STREAM) return *fits = true, 0; // given back: nothing of it will be told
    if (err != 0) return err;
    assert(seq <= *to);
    *to = seq - 1 > from ? seq - 1 : from + 1;
    return 0;
}

static int tell_reach(const struct reading *r, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct state_at a;
    bool fits = false;
    assert(from < to);
    int err = state_at(r->s, r->txn, r->path, from, &a);
    while (err == 0 && !fits) // twice, unless the path had several streams in the range
        err = reach_step(r, &a, from, budget, &to, &fits);
    if (err == 0) *reached = to;
    return err;
}

static int feed_reach(struct feed_sub *fs, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct reading r = reading_of(HASH_OWNER(fs, struct stream_sub, sub), txn);
    return tell_reach(&r, from, to, budget, reached);
}

static int tell_changes(const struct reading *r, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct state_at a, b;
    size_t sent = 0;
    int err = state_at(r->s, r->txn, r->path, from, &a);
    if (err == 0) err = state_at(r->s, r->txn, r->path, to, &b);
    if (err != 0) return err;
    bool same = same_stream(&a, &b);
    if (a.exists && !same) err = sink->emit(sink, r->s->deleted);
    if (err != 0 || !b.exists) return err;
    if (!same) err = emit_created(&b.v, sink);
    uint64_t base = lacking_from(r, &a, &b);
    if (err == 0 && lacks_trimmed(&a, &b, from, base)) err = emit_trimmed(r->s, r->txn, &b.v, sink);
    for (uint64_t at = kept_from(&b, base); err == 0 && at < b.offset;)
        err = emit_element(r->s, r->txn, &b.v, &at, b.offset, sink, &sent);
    if (err == ERR_NO_SUCH_STREAM) return 0; // deleted since, and given back: that it is deleted comes in a later range
    if (err == 0 && b.closed && !(same && a.closed)) err = sink->emit(sink, r->s->closed);
    return err;
}

static int feed_changes(struct feed_sub *fs, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct reading r = reading_of(HASH_OWNER(fs, struct stream_sub, sub), txn);
    return tell_changes(&r, from, to, sink);
}

static void feed_forget(struct stream_feed *f)
{
    struct stream_feed **at = &f->s->touched;
    while (f->touched && *at != f)
        at = &(*at)->touched_next;
    if (f->touched) *at = f->touched_next;
    hash_table_remove(&f->s->feeds, &f->node);
    free(f);
}

static void feed_detach(struct feed_sub *fs)
{
    struct stream_sub *sub = HASH_OWNER(fs, struct stream_sub, sub);
    struct stream_feed *f = feed_of(sub);
    feed_unlink(fs);
    if (f->feed.subs == NULL) feed_forget(f);
    free(sub);
}

static const struct feed_ops stream_feed_ops = {
    .kind = "stream",
    .snapshot = feed_snapshot,
    .reach = feed_reach,
    .changes = feed_changes,
    .detach = feed_detach,
};

// ---- attaching -----------------------------------------------------------------------------------------------------

static struct stream_feed *feed_lookup(struct streams *s, struct span path)
{
    for (struct hash_node *n = hash_table_first(&s->feeds, stream_hash_path(s, path)); n != NULL; n = hash_table_more(n)) {
        struct stream_feed *f = HASH_OWNER(n, struct stream_feed, node);
        if (span_equal(feed_path(f), path)) return f;
    }
    return NULL;
}

static struct stream_feed *feed_need(struct streams *s, struct span path)
{
    struct stream_feed *f = feed_lookup(s, path);
    if (f != NULL) return f;
    if (s->elements == NULL) s->elements = calloc(STREAM_ELEMENTS_KEPT, sizeof *s->elements);
    f = calloc(1, sizeof *f);
    if (f == NULL || s->elements == NULL) {
        free(f);
        return NULL;
    }
    f->s = s;
    f->feed.ops = &stream_feed_ops;
    f->path_n = (uint16_t)path.n;
    memcpy(f->path, path.p, path.n);
    hash_table_insert(&s->feeds, &f->node, stream_hash_path(s, path));
    return f;
}

// Where a reader begins: at an offset of the stream as it is, or where it stood.
static int sub_place(struct streams *s, struct db_txn *txn, struct span path, uint64_t offset, bool resume, uint64_t at_seq,
                     struct stream_sub *sub, struct problem *p)
{
    struct state_at st;
    int err = state_at(s, txn, path, resume ? at_seq : UINT64_MAX, &st);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    sub->number = st.exists ? st.v.rec->number : 0;
    sub->start = resume ? st.offset : offset;
    bool boundary = true;
    if (st.exists && st.v.rec->json && sub->start > st.v.rec->first && sub->start < st.offset)
        err = stream_message_boundary(s, txn, &st.v, sub->start, &boundary);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (!boundary) return problem_set(p, ERR_BAD_OFFSET, -1, "the offset lies inside a message");
    if (sub->start <= st.offset) return 0;
    return problem_set(p, ERR_BAD_OFFSET, -1, "the stream ends at offset %llu", (unsigned long long)st.offset);
}

int streams_attach(struct streams *s, struct db_txn *txn, struct span path, uint64_t offset, bool resume, uint64_t at_seq,
                   struct feed_sub **out, struct problem *p)
{
    if (path.n == 0 || path.n > STREAM_PATH_MAX)
        return problem_set(p, ERR_BAD_VALUE, -1, "a stream path has 1 to %d bytes", STREAM_PATH_MAX);
    struct stream_sub *sub = calloc(1, sizeof *sub);
    if (sub == NULL) return problem_set(p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
    int err = sub_place(s, txn, path, offset, resume, at_seq, sub, p);
    struct stream_feed *f = err == 0 ? feed_need(s, path) : NULL;
    if (f == NULL) {
        free(sub);
        return err != 0 ? err : problem_set(p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
    }
    feed_link(&f->feed, &sub->sub);
    *out = &sub->sub;
    return 0;
}

bool streams_watched(struct streams *s, struct span path)
{
    return s->feeds.count > 0 && feed_lookup(s, path) != NULL; // a feed without readers is forgotten
}

// ---- without attaching ---------------------------------------------------------------------------------------------

// Values are kept where a feed's are.
static int reading_begin(struct reading *r, struct streams *s, struct db_txn *txn, struct span path, uint64_t start)
{
    assert(path.n > 0 && path.n <= STREAM_PATH_MAX);
    *r = (struct reading){.s = s, .txn = txn, .path = path, .any = true, .start = start};
    if (s->elements == NULL) s->elements = calloc(STREAM_ELEMENTS_KEPT, sizeof *s->elements);
    return s->elements != NULL ? 0 : ERR_NOMEM;
}

int streams_tell_state(struct streams *s, struct db_txn *txn, struct span path, uint64_t start, uint64_t seq, struct stream_place *place, size_t budget,
                       struct feed_sink *sink, bool *done)
{
    struct reading r;
    int err = reading_begin(&r, s, txn, path, start);
    return err != 0 ? err : tell_state(&r, seq, place, budget, sink, done);
}

int streams_tell_bytes(struct streams *s, struct db_txn *txn, struct span path, uint64_t start, uint64_t from, uint64_t to, uint64_t *bytes)
{
    struct reading r;
    struct state_at a, b;
    int err = reading_begin(&r, s, txn, path, start);
    if (err == 0) err = state_at(s, txn, path, from, &a);
    if (err == 0) err = state_at(s, txn, path, to, &b);
    if (err != 0) return err;
    uint64_t base = b.exists ? kept_from(&b, lacking_from(&r, &a, &b)) : 0;
    *bytes = b.exists && b.offset > base ? b.offset - base : 0;
    return 0;
}

int streams_tell_changes(struct streams *s, struct db_txn *txn, struct span path, uint64_t start, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct reading r;
    int err = reading_begin(&r, s, txn, path, start);
    return err != 0 ? err : tell_changes(&r, from, to, sink);
}

// ---- publishing ----------------------------------------------------------------------------------------------------

void stream_feed_mark(struct streams *s, struct span path, uint64_t seq)
{
    struct stream_feed *f = s->feeds.count == 0 ? NULL : feed_lookup(s, path);
    if (f == NULL) return;
    f->touched_last = seq;
    if (f->touched) return;
    f->touched = true;
    f->touched_first = seq;
    f->touched_next = s->touched;
    s->touched = f;
}

// A feed that commits behind `seq` touched too stays marked for them. It may be told a seq above the one that touched it, never one below.
void streams_publish(struct streams *s, uint64_t seq)
{
    for (struct stream_feed **at = &s->touched; *at != NULL;) {
        struct stream_feed *f = *at;
        bool later = f->touched_last > seq;
        if (f->touched_first <= seq) feed_touch(&f->feed, later ? seq : f->touched_last);
        if (later && f->touched_first <= seq) f->touched_first = seq + 1;
        if (later) {
            at = &f->touched_next;
        } else {
            *at = f->touched_next;
            f->touched = false;
        }
    }
    if (s->told != NULL) stream_told_publish(s, seq);
}
