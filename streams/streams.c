#include "streams.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "log.h"
#include "stream_store.h"
#include "uuid.h"

#define TAIL_BOUNDS_MAX SEGMENT_BOUNDS_MAX // appends that make a stream due, whatever their bytes

// ---- open and close ------------------------------------------------------------------------------------------------

static int streams_load(struct streams *s, struct db_txn *txn)
{
    struct stream_bytes key;
    struct span value;
    stream_key_alloc(&key);
    if (db_get(txn, s->table, stream_bytes_span(&key), &value)) return stream_alloc_decode(value, &s->alloc);
    s->alloc = (struct stream_alloc){.next_number = 1};
    return db_txn_err(txn);
}

static int streams_init(struct streams *s, const struct streams_options *options, struct db_txn *txn)
{
    s->table = options->first_table;
    s->table_index = options->first_table + 1;
    s->segment_bytes = options->segment_bytes != 0 ? options->segment_bytes : STREAM_SEGMENT_BYTES;
    s->quiet_ms = options->quiet_ms != 0 ? options->quiet_ms : STREAM_QUIET_MS;
    random_bytes(&s->seed, sizeof s->seed);
    buf_init(&s->scratch, STREAM_ELEMENT_MAX);
    s->closed = bytes_new(SPAN_LIT("{\"closed\":true}"));
    s->deleted = bytes_new(SPAN_LIT("{\"deleted\":true}"));
    if (s->closed == NULL || s->deleted == NULL) return ERR_NOMEM;
    if (hash_table_init(&s->by_number) != 0 || hash_table_init(&s->by_path) != 0 || hash_table_init(&s->feeds) != 0) return ERR_NOMEM;
    int err = streams_load(s, txn);
    if (err == 0) err = stream_segments_open(&s->segments, options->path, &s->alloc);
    s->marked = s->look = true;
    return err != 0 ? err : stream_leftovers_find(s, txn);
}

int streams_open(struct streams **out, const struct streams_options *options, struct db_txn *txn)
{
    struct streams *s = calloc(1, sizeof *s);
    if (s == NULL) return ERR_NOMEM;
    int err = streams_init(s, options, txn);
    if (err != 0) {
        streams_close(s);
        return err;
    }
    *out = s;
    return 0;
}

static void stream_free(struct stream *st)
{
    stream_tail_free(&st->tail);
    stream_writers_free(st);
    free(st);
}

void streams_close(struct streams *s)
{
    if (s == NULL) return;
    assert(s->feeds.count == 0 && !s->sealing);
    for (struct hash_node *n; (n = hash_table_take(&s->by_number)) != NULL;)
        stream_free(HASH_OWNER(n, struct stream, by_number));
    hash_table_free(&s->by_number);
    hash_table_free(&s->by_path);
    hash_table_free(&s->feeds);
    stream_groups_free(&s->groups);
    stream_segments_close(&s->segments);
    free(s->leftovers);
    free(s->spare);
    stream_elements_free(s);
    bytes_unref(s->closed);
    bytes_unref(s->deleted);
    buf_free(&s->scratch);
    free(s);
}

// ---- hot streams ---------------------------------------------------------------------------------------------------

uint64_t stream_hash_path(const struct streams *s, struct span path)
{
    return checksum64(path, s->seed);
}

static uint64_t stream_hash_number(const struct streams *s, uint64_t number)
{
    return checksum64(SPAN(&number, sizeof number), s->seed);
}

struct stream *stream_hot_number(struct streams *s, uint64_t number)
{
    for (struct hash_node *n = hash_table_first(&s->by_number, stream_hash_number(s, number)); n != NULL; n = hash_table_more(n)) {
        struct stream *st = HASH_OWNER(n, struct stream, by_number);
        if (st->rec.number == number) return st;
    }
    return NULL;
}

struct stream *stream_hot_path(struct streams *s, struct span path)
{
    for (struct hash_node *n = hash_table_first(&s->by_path, stream_hash_path(s, path)); n != NULL; n = hash_table_more(n)) {
        struct stream *st = HASH_OWNER(n, struct stream, by_path);
        if (span_equal(stream_path(&st->rec), path)) return st;
    }
    return NULL;
}

// Under which deadline the index is to have a stream: those that no longer live have none.
static uint64_t deadline_indexed(const struct stream_record *r)
{
    return r->deleted_seq != 0 || r->gone_seq != 0 ? 0 : r->deadline_ms;
}

struct stream *stream_hot_add(struct streams *s, const struct stream_record *rec, uint64_t sealed)
{
    struct stream *st = calloc(1, sizeof *st);
    if (st == NULL) return NULL;
    st->rec = *rec;
    st->deadline_ms = deadline_indexed(rec);
    stream_tail_init(&st->tail, sealed);
    hash_table_insert(&s->by_number, &st->by_number, stream_hash_number(s, rec->number));
    if (rec->deleted_seq == 0) hash_table_insert(&s->by_path, &st->by_path, stream_hash_path(s, stream_path(rec)));
    return st;
}

void stream_hot_forget_path(struct streams *s, struct stream *st)
{
    hash_table_remove(&s->by_path, &st->by_path);
}

void stream_mark_dirty(struct streams *s, struct stream *st)
{
    if (st->dirty) return;
    st->dirty = true;
    st->dirty_next = s->dirty;
    s->dirty = st;
}

void stream_settle(struct streams *s, struct stream *st)
{
    if (st->dirty || st->told || stream_tail_bytes(&st->tail) > 0) return;
    assert(st->list == NULL);
    hash_table_remove(&s->by_number, &st->by_number);
    if (st->rec.deleted_seq == 0) hash_table_remove(&s->by_path, &st->by_path);
    stream_free(st);
}

void stream_list_remove(struct stream *st)
{
    if (st->list == NULL) return;
    *(st->prev != NULL ? &st->prev->next : &st->list->first) = st->next;
    *(st->next != NULL ? &st->next->prev : &st->list->last) = st->prev;
    st->prev = st->next = NULL;
    st->list = NULL;
}

void stream_list_append(struct stream_list *list, struct stream *st)
{
    assert(st->list == NULL);
    st->list = list;
    st->prev = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = st;
    list->last = st;
}

static bool stream_is_due(const struct stream *st)
{
    return st->rec.closed_seq != 0 || st->rec.deleted_seq != 0 || stream_tail_bytes(&st->tail) >= STREAM_TAIL_MAX ||
           st->tail.bound_count >= TAIL_BOUNDS_MAX;
}

void stream_enlist(struct streams *s, struct stream *st)
{
    struct stream_list *list = stream_tail_bytes(&st->tail) == 0 ? NULL : stream_is_due(st) ? &s->due : &s->active;
    if (list == &s->due && st->list == list) return; // first come, first sealed
    stream_list_remove(st);
    if (list != NULL) stream_list_append(list, st);
}

void stream_tail_forget(struct streams *s, struct stream *st, uint64_t offset)
{
    if (offset <= st->tail.start) return;
    size_t gone = stream_tail_bounds_to_offset(&st->tail, offset);
    for (size_t i = 0; i < gone; i++)
        stream_groups_drop(&s->groups, st->tail.bounds[i].group);
    s->unsealed_bytes -= offset - st->tail.start;
    stream_tail_drop(&st->tail, offset);
    stream_enlist(s, st);
}

// ---- the directory -------------------------------------------------------------------------------------------------

// Moves a stream to its place in the index of deadlines.
static void flush_deadline(struct streams *s, struct db_txn *txn, const struct stream *st)
{
    struct stream_bytes key, value;
    uint64_t deadline_ms = deadline_indexed(&st->rec);
    if (deadline_ms == st->deadline_ms) return;
    if (st->deadline_ms != 0) {
        stream_key_deadline(&key, st->deadline_ms, st->rec.number);
        db_del(txn, s->table, stream_bytes_span(&key));
    }
    if (deadline_ms == 0) return;
    stream_key_deadline(&key, deadline_ms, st->rec.number);
    stream_path_encode(&value);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
}

static void flush_stream(struct streams *s, struct db_txn *txn, const struct stream *st)
{
    struct stream_bytes key, value;
    stream_key_number(&key, st->rec.number);
    stream_record_encode(&value, &st->rec);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
    flush_deadline(s, txn, st);
    stream_writers_flush(s, txn, st);
}

void streams_flush(struct streams *s, struct db_txn *txn)
{
    struct stream_bytes key, value;
    for (struct stream *st = s->dirty; st != NULL; st = st->dirty_next)
        flush_stream(s, txn, st);
    if (s->alloc_dirty) {
        stream_key_alloc(&key);
        stream_alloc_encode(&value, &s->alloc);
        db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
    }
    if (db_txn_err(txn) != 0) return; // nothing of it will be committed: memory stays the only place that knows
    s->alloc_dirty = false;
    for (struct stream *st; (st = s->dirty) != NULL;) {
        s->dirty = st->dirty_next;
        st->dirty = false;
        st->deadline_ms = deadline_indexed(&st->rec);
        stream_writers_flushed(st);
        stream_settle(s, st);
    }
}

// ---- looking -------------------------------------------------------------------------------------------------------

void stream_info_fill(struct stream_info *out, const struct stream_record *r)
{
    *out = (struct stream_info){
        .number = r->number,
        .offset = r->offset,
        .closed = r->closed_seq != 0,
        .owned = r->owned,
        .created_seq = r->created_seq,
        .changed_seq = r->changed_seq,
        .created_ms = r->created_ms,
        .first = r->first,
        .trimmed_seq = r->trimmed_seq,
        .json = r->json,
        .gone = r->gone_seq != 0,
        .has_ttl = r->has_ttl,
        .has_snapshot = r->has_snapshot,
        .ttl_s = r->ttl_s,
        .expires_ms = r->expires_ms,
        .deadline_ms = r->deadline_ms,
    };
    memcpy(out->type, r->type, r->type_n);
}

bool streams_find(struct streams *s, struct db_txn *txn, struct span path, struct stream_info *out)
{
    struct stream_view v;
    if (stream_view_path(s, txn, path, &v) != 0) return false;
    stream_info_fill(out, v.rec);
    return true;
}

bool streams_find_at(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq, struct stream_info *out)
{
    struct stream_view v;
    uint64_t offset, changed;
    if (stream_view_at(s, txn, path, seq, &v) != 0) return false;
    if (stream_offset_at(s, txn, &v, seq, &offset, &changed) != 0) return false; // damage, logged where it was found
    stream_info_fill(out, v.rec);
    out->offset = offset;
    out->closed = v.rec->closed_seq != 0 && v.rec->closed_seq <= seq;
    out->changed_seq = out->closed ? v.rec->closed_seq : changed;
    return true;
}

uint64_t streams_unsealed_group(const struct streams *s)
{
    return stream_groups_oldest(&s->groups);
}

uint64_t streams_unsealed_bytes(const struct streams *s)
{
    return s->unsealed_bytes;
}
