// Sealing: bytes move from memory (and the journal) into a segment file.
//
//      owner: plan ──> any thread: read what is copied, pack, write, sync ──> owner: done ──ok──> index in the transaction, memory let go
//                                                                               └─failed──> nothing has changed; the next job begins another file
//
// The journal may forget a group only when the database commit with the index is durable, so at every moment the bytes are in the
// journal, or behind a durable index. A crash in between leaves bytes in a segment file that nothing points to; streams_open cuts them
// off, and they are sealed again from the journal.
//
// A quiet stream that grows by a few bytes at a time would leave an index entry for each few: so what is sealed small is sealed again
// together with what comes behind it, each byte about as often as its part doubles. Where nothing is due, the same way of copying empties
// a file that is mostly dead (stream_reclaim.c).
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "log.h"
#include "stream_store.h"

#define SEAL_BYTES_MAX (8 * MIB)    // stream bytes in one job …
#define SEAL_RECORDS_MAX 4096u      // … and parts
#define SEAL_BOUNDS_MAX (256 * KIB) // … and appends: with those of one byte the boundaries are larger than the bytes
#define SEAL_WRITE_MAX (24 * MIB)   // what these come to at most, encoded
#define SEAL_OLDS_MAX 24u           // sealed parts that one takes in again
#define SEAL_COPY_MAX (4 * MIB)     // looked at for one job that empties a file

struct seal_entry {
    uint64_t number, first;
    uint32_t raw;             // of these …
    uint64_t tail_from;       // … from here on come out of the tail, what is before out of sealed parts
    bool cut;
    struct boundary *bounds;  // of the tail's appends that end in it; the last one may end behind it, if `cut`
    uint32_t bound_count;
    struct tail_piece *pieces;
    size_t piece_count;
    struct stream_index *olds; // what it takes the place of, ascending
    uint32_t old_count;
    uint64_t position; // set by the write, as are these
    uint32_t total, share;
    uint64_t first_seq, last_seq;
};

struct streams_seal {
    char *folder;
    uint32_t file;
    uint64_t position;    // where the job begins
    uint64_t end;         // and, once written, ends
    size_t bytes, bounds; // gathered so far
    size_t count, cap;
    struct seal_entry *entries;
    uint64_t copied_to; // of the file that is being emptied; 0: it is not such a job
};

// ---- plan ----------------------------------------------------------------------------------------------------------

static void seal_entry_free(struct seal_entry *e)
{
    for (size_t i = 0; i < e->piece_count; i++)
        bytes_unref(e->pieces[i].bytes);
    free(e->pieces);
    free(e->bounds);
    free(e->olds);
}

static void seal_free(struct streams_seal *job)
{
    for (size_t i = 0; i < job->count; i++)
        seal_entry_free(&job->entries[i]);
    free(job->entries);
    free(job->folder);
    free(job);
}

static struct streams_seal *seal_new(const struct streams *s)
{
    struct streams_seal *job = calloc(1, sizeof *job);
    if (job == NULL) return NULL;
    job->folder = strdup(s->segments.folder);
    job->file = s->alloc.file;
    job->position = s->alloc.position;
    if (job->folder != NULL) return job;
    free(job);
    return NULL;
}

static struct seal_entry *seal_room(struct streams_seal *job)
{
    if (job->count == job->cap) {
        size_t cap = job->cap == 0 ? 16 : job->cap * 2;
        struct seal_entry *p = realloc(job->entries, cap * sizeof *p);
        if (p == NULL) return NULL;
        job->entries = p;
        job->cap = cap;
    }
    return &job->entries[job->count];
}

// How far a part that begins at `from` goes: over as many whole appends as fit, or into the first one if not even that fits.
static uint64_t record_end(const struct tail *t, uint64_t from, size_t max)
{
    size_t skip = stream_tail_bounds_to_offset(t, from), fit = stream_tail_bounds_to_offset(t, from + max);
    if (fit > skip + SEGMENT_BOUNDS_MAX) fit = skip + SEGMENT_BOUNDS_MAX;
    return fit > skip ? t->bounds[fit - 1].end : from + max;
}

// Fills an entry with [from, to) of a tail: references to its bytes, a copy of its boundaries.
static int seal_entry_init(struct seal_entry *e, const struct stream *st, uint64_t from, uint64_t to)
{
    const struct tail *t = &st->tail;
    size_t skip = stream_tail_bounds_to_offset(t, from), whole = stream_tail_bounds_to_offset(t, to);
    bool cut = whole == skip || t->bounds[whole - 1].end < to;
    size_t count = whole - skip + cut;
    *e = (struct seal_entry){.number = st->rec.number, .first = from, .tail_from = from, .raw = (uint32_t)(to - from), .cut = cut};
    e->bounds = malloc(count * sizeof *e->bounds);
    e->pieces = malloc(t->chunk_count * sizeof *e->pieces);
    if (e->bounds == NULL || e->pieces == NULL) {
        seal_entry_free(e);
        return ERR_NOMEM;
    }
    memcpy(e->bounds, t->bounds + skip, count * sizeof *e->bounds);
    e->bound_count = (uint32_t)count;
    e->piece_count = stream_tail_pieces(t, from, to, e->pieces);
    return 0;
}

// Takes in the sealed parts right before it while they are small beside it. Without memory it just does not.
static void seal_merge(struct streams *s, struct db_txn *txn, const struct stream *st, struct seal_entry *e)
{
    struct stream_index olds[SEAL_OLDS_MAX];
    uint32_t n = 0;
    struct stream_bytes key;
    struct db_iter it;
    if (e->first <= stream_start(&st->rec) || e->raw >= SEGMENT_SHARED_RAW) return;
    stream_key_index(&key, e->number, e->first);
    db_iter_init(&it, txn, s->table_index);
    for (bool more = db_iter_seek_before(&it, stream_bytes_span(&key)); more && n < SEAL_OLDS_MAX; more = db_iter_prev(&it)) {
        struct stream_index *ix = &olds[n];
        uint64_t of;
        if (!stream_key_index_parse(it.key, &of, &ix->first) || of != e->number || stream_index_decode(it.value, ix) != 0) break;
        if (ix->first < stream_start(&st->rec) || ix->first + ix->raw != e->first || ix->raw > 2 * e->raw || e->raw + ix->raw > SEGMENT_SHARED_RAW) break;
        e->first = ix->first;
        e->raw += ix->raw;
        n++;
    }
    db_iter_end(&it);
    e->olds = n == 0 ? NULL : malloc(n * sizeof *olds);
    if (e->olds == NULL) {
        e->raw -= (uint32_t)(e->tail_from - e->first);
        e->first = e->tail_from;
        return;
    }
    e->old_count = n;
    for (uint32_t i = 0; i < n; i++)
        e->olds[i] = olds[n - 1 - i];
}

// Takes what fits of a stream. False: the job is full (or memory is), and no other stream is to be tried.
static bool seal_take(struct streams_seal *job, struct streams *s, struct db_txn *txn, const struct stream *st)
{
    uint64_t at = st->tail.start;
    while (at < st->tail.end) {
        size_t left = SEAL_BYTES_MAX - job->bytes, max = left < SEGMENT_RAW_MAX ? left : SEGMENT_RAW_MAX;
        bool rest = st->tail.end - at <= max;
        if (job->count == SEAL_RECORDS_MAX || job->bounds + SEGMENT_BOUNDS_MAX > SEAL_BOUNDS_MAX) return false;
        if (max == 0 || (!rest && max < SEGMENT_RAW_MAX)) return false; // no small leftovers
        struct seal_entry *e = seal_room(job);
        uint64_t to = record_end(&st->tail, at, rest ? st->tail.end - at : max);
        if (e == NULL || seal_entry_init(e, st, at, to) != 0) return false;
        if (at == st->tail.start && left >= e->raw + SEGMENT_SHARED_RAW) seal_merge(s, txn, st, e);
        job->count++;
        job->bytes += e->raw;
        job->bounds += e->bound_count;
        at = to;
    }
    return true;
}

static bool is_quiet(const struct streams *s, const struct stream *st, uint64_t now_ms)
{
    return now_ms >= st->appended_ms && now_ms - st->appended_ms >= s->quiet_ms;
}

static void seal_gather(struct streams_seal *job, struct streams *s, struct db_txn *txn, uint64_t now_ms, bool force)
{
    for (struct stream *st = s->due.first; st != NULL; st = st->next)
        if (!seal_take(job, s, txn, st)) return;
    for (struct stream *st = s->active.first; st != NULL && (force || is_quiet(s, st, now_ms)); st = st->next)
        if (!seal_take(job, s, txn, st)) return;
}

// ---- plan: emptying a file -----------------------------------------------------------------------------------------

// Those parts of a record that the index still points to are to be copied. False: no memory.
static bool seal_copy_parts(struct streams_seal *job, struct streams *s, struct db_txn *txn, const struct segment_kept *k)
{
    struct segment_parts parts;
    struct segment_record r;
    stream_segment_parts_init(&parts, &k->block, k->directory);
    while (stream_segment_parts_next(&parts, &r)) {
        struct stream_bytes key;
        struct span value;
        struct stream_index ix = {.first = r.first};
        stream_key_index(&key, r.number, r.first);
        if (!db_get(txn, s->table_index, stream_bytes_span(&key), &value) || stream_index_decode(value, &ix) != 0) continue;
        if (ix.file != k->file || ix.position != k->position) continue;
        struct stream_index *olds = malloc(sizeof *olds);
        struct seal_entry *e = olds == NULL ? NULL : seal_room(job);
        if (e == NULL) return free(olds), false;
        *olds = ix;
        *e = (struct seal_entry){.number = r.number, .first = r.first, .raw = r.raw, .tail_from = r.first + r.raw, .olds = olds, .old_count = 1};
        job->count++;
        job->bytes += r.raw;
        job->bounds += r.bound_count;
    }
    return true;
}

// Walks on through the file that is being emptied; a place where no record is (the rest of a sector) is stepped over.
static void seal_gather_copies(struct streams_seal *job, struct streams *s, struct db_txn *txn)
{
    struct stream_rewrite *w = &s->rewrite;
    uint64_t at = w->position, stop = at + SEAL_COPY_MAX;
    while (at < w->length && at < stop && job->count + SEGMENT_PARTS_MAX <= 2 * SEAL_RECORDS_MAX && job->bounds < SEAL_BOUNDS_MAX) {
        uint8_t head[SEGMENT_HEAD];
        const struct segment_kept *k;
        uint32_t total;
        int fd = stream_segments_fd(&s->segments, w->file);
        bool found = fd >= 0 && file_read(fd, head, sizeof head, at) == 0 && stream_segment_length(SPAN(head, sizeof head), &total) == 0;
        int err = found ? stream_segments_block(&s->segments, w->file, at, total, &k) : ERR_CORRUPT;
        if (err == 0 && !seal_copy_parts(job, s, txn, k)) return;
        at = err == 0 ? at + total : (at / SEGMENT_SECTOR + 1) * SEGMENT_SECTOR;
    }
    job->copied_to = at;
    if (job->count == 0) streams_rewritten(s, at); // nothing in there lives: no job is needed to go on
}

struct streams_seal *streams_seal_plan(struct streams *s, struct db_txn *txn, uint64_t now_ms, bool force)
{
    if (s->sealing || (s->unsealed_bytes == 0 && !s->rewrite.active)) return NULL;
    struct streams_seal *job = seal_new(s);
    if (job == NULL) return NULL;
    seal_gather(job, s, txn, now_ms, force);
    if (job->count == 0 && s->rewrite.active) seal_gather_copies(job, s, txn);
    if (job->count == 0) {
        seal_free(job);
        return NULL;
    }
    s->sealing = true;
    return job;
}

// ---- write ---------------------------------------------------------------------------------------------------------

struct seal_writer {
    struct streams_seal *job;
    struct segments sealed; // what is copied out of
    struct segment_writer record;
    struct buf out;
    size_t from; // the entries [from, …) go into the record in the making
};

// One sealed part into the record. Where it is cut and something follows, its last append is the next one's first.
static int write_old(struct seal_writer *w, struct seal_entry *e, uint32_t i)
{
    const struct segment_record *r;
    struct segment_bounds b;
    int err = stream_segments_read(&w->sealed, e->number, &e->olds[i], &r);
    if (err != 0) return err;
    bool goes_on = r->cut && (i + 1 < e->old_count || e->bound_count > 0);
    stream_segment_bounds_init(&b, r);
    while (stream_segment_bounds_next(&b)) {
        if (b.left == 0 && goes_on) break;
        stream_segment_part_append(&w->record, b.end, b.seq);
    }
    if (i + 1 == e->old_count && e->bound_count == 0) e->cut = r->cut;
    stream_segment_part_bytes(&w->record, r->payload);
    return stream_segment_bounds_err(&b);
}

static int write_entry(struct seal_writer *w, struct seal_entry *e)
{
    uint64_t limit = e->first + e->raw;
    int err = 0;
    stream_segment_part_begin(&w->record, e->number, e->first);
    for (uint32_t i = 0; i < e->old_count && err == 0; i++)
        err = write_old(w, e, i);
    if (err != 0) return err;
    for (uint32_t i = 0; i < e->bound_count; i++)
        stream_segment_part_append(&w->record, e->bounds[i].end < limit ? e->bounds[i].end : limit, e->bounds[i].seq);
    for (size_t i = 0; i < e->piece_count; i++)
        stream_segment_part_bytes(&w->record, SPAN(e->pieces[i].bytes->p + e->pieces[i].at, e->pieces[i].n));
    e->first_seq = w->record.first_seq;
    e->last_seq = w->record.seq;
    stream_segment_part_end(&w->record, e->cut);
    return 0;
}

// Ends the record in the making: entries [from, to) lie in it, and share its bytes by their own.
static int write_record(struct seal_writer *w, size_t to)
{
    struct streams_seal *job = w->job;
    size_t before = w->out.n;
    uint64_t raw = stream_segment_raw(&w->record), done = 0, given = 0;
    if (to == w->from) return 0;
    int err = stream_segment_encode(&w->record, &w->out, job->file, job->position);
    if (err != 0) return err;
    uint64_t total = w->out.n - before;
    for (; w->from < to; w->from++) {
        struct seal_entry *e = &job->entries[w->from];
        done += e->raw;
        e->position = job->position + before;
        e->total = (uint32_t)total;
        e->share = (uint32_t)(total * done / raw - given);
        given += e->share;
    }
    return 0;
}

// Small entries share records.
static int write_entries(struct seal_writer *w)
{
    static const uint8_t zeroes[SEGMENT_SECTOR];
    struct streams_seal *job = w->job;
    int err = 0;
    for (size_t i = 0; i < job->count && err == 0; i++) {
        struct seal_entry *e = &job->entries[i];
        bool full = e->raw >= SEGMENT_SHARED_RAW || stream_segment_raw(&w->record) >= SEGMENT_SHARED_RAW || i - w->from == SEGMENT_PARTS_MAX;
        if (full) err = write_record(w, i);
        if (err == 0) err = write_entry(w, e);
        if (err == 0 && e->raw >= SEGMENT_SHARED_RAW) err = write_record(w, i + 1);
    }
    if (err == 0) err = write_record(w, job->count);
    buf_put(&w->out, zeroes, (SEGMENT_SECTOR - w->out.n % SEGMENT_SECTOR) % SEGMENT_SECTOR);
    return err != 0 ? err : w->out.err;
}

int streams_seal_write(struct streams_seal *job)
{
    struct seal_writer w = {.job = job};
    buf_init(&w.out, SEAL_WRITE_MAX);
    stream_segment_writer_init(&w.record);
    int err = stream_segments_init(&w.sealed, job->folder);
    if (err == 0) err = write_entries(&w);
    if (err == 0) err = stream_segment_write(job->folder, job->file, job->position, buf_span(&w.out));
    if (err == 0) job->end = job->position + w.out.n;
    stream_segments_close(&w.sealed);
    stream_segment_writer_free(&w.record);
    buf_free(&w.out);
    return err;
}

// ---- done ----------------------------------------------------------------------------------------------------------

static void seal_index(struct streams *s, struct db_txn *txn, const struct streams_seal *job, const struct stream_alloc *a)
{
    struct stream_bytes key, value;
    uint64_t live = 0;
    for (size_t i = 0; i < job->count; i++) {
        const struct seal_entry *e = &job->entries[i];
        for (uint32_t k = 0; k < e->old_count; k++)
            stream_index_drop(s, txn, e->number, &e->olds[k]);
        struct stream_index ix = {
            .raw = e->raw,
            .total = e->total,
            .file = job->file,
            .position = e->position,
            .first_seq = e->first_seq,
            .last_seq = e->last_seq,
            .share = e->share,
        };
        stream_key_index(&key, e->number, e->first);
        stream_index_encode(&value, &ix);
        db_put(txn, s->table_index, stream_bytes_span(&key), stream_bytes_span(&value));
        live += e->share;
    }
    stream_file_grow(s, txn, job->file, job->end, live);
    stream_key_alloc(&key);
    stream_alloc_encode(&value, a);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
}

// The file is left behind when it has grown to its bound.
static struct stream_alloc alloc_behind(const struct streams *s, const struct streams_seal *job)
{
    struct stream_alloc a = {.next_number = s->alloc.next_number, .file = job->file, .position = job->end};
    if (a.position < s->segment_bytes) return a;
    a.file++;
    a.position = 0;
    return a;
}

// Unsealed bytes keep a stream in memory, and only a job seals; but while it was under way the stream may have been trimmed.
static void seal_release(struct streams *s, const struct seal_entry *e)
{
    struct stream *st = e->bound_count == 0 ? NULL : stream_hot_number(s, e->number);
    uint64_t end = e->first + e->raw;
    if (st == NULL || st->tail.start >= end) return;
    assert(st->tail.start >= e->tail_from);
    stream_tail_forget(s, st, end);
    stream_settle(s, st);
}

// Where a write failed nothing is written again: whatever the disk made of it, the next job has a file of its own.
static void seal_failed(struct streams *s, const struct streams_seal *job, int err)
{
    if (err != ERR_CANCELED)
        log_error("streams", "sealing failed", LF_ERR(err), LF_UINT("file", job->file), LF_UINT("records", job->count));
    if (job->end > 0) stream_segment_cut(job->folder, job->file, job->position); // written, but the index is not
    s->alloc.file = job->file + 1;
    s->alloc.position = 0;
    stream_file_look(s, job->file);
    if (job->copied_to > 0) s->rewrite.active = false; // not again before the next start: what cannot be copied stays where it is
}

void streams_seal_done(struct streams *s, struct db_txn *txn, struct streams_seal *job, int err)
{
    assert(s->sealing && (err != 0 || job->end > job->position));
    struct stream_alloc a = alloc_behind(s, job);
    if (err == 0) {
        seal_index(s, txn, job, &a);
        err = db_txn_err(txn);
    }
    s->sealing = false;
    if (err != 0) {
        seal_failed(s, job, err);
    } else {
        s->alloc = a;
        if (a.file != job->file) stream_file_look(s, job->file);
        for (size_t i = 0; i < job->count; i++)
            seal_release(s, &job->entries[i]);
        if (job->copied_to > 0) streams_rewritten(s, job->copied_to);
    }
    seal_free(job);
}
