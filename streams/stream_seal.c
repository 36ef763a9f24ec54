// Sealing: bytes move from memory (and the journal) into a segment file.
//
//      owner: plan ──> any thread: write, sync ──> owner: done ──ok──> index in the transaction, memory let go
//                                                        └─failed──> nothing has changed; the next job begins another file
//
// The journal may forget a group only when the database commit with the index is durable, so at every moment the bytes are in the
// journal, or behind a durable index. A crash in between leaves bytes in a segment file that nothing points to; streams_open cuts them
// off, and they are sealed again from the journal.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "log.h"
#include "stream_store.h"

#define SEAL_BYTES_MAX (8 * MIB)    // stream bytes in one job …
#define SEAL_RECORDS_MAX 4096u      // … and records
#define SEAL_BOUNDS_MAX (256 * KIB) // … and appends: with those of one byte the boundaries are larger than the bytes
#define SEAL_WRITE_MAX (16 * MIB)   // what these come to at most, encoded

struct seal_entry {
    uint64_t number, first;
    uint32_t raw;
    bool cut;
    struct boundary *bounds;
    uint32_t bound_count;
    struct tail_piece *pieces;
    size_t piece_count;
    uint64_t position; // set by the write
    uint32_t total;
};

struct streams_seal {
    char *folder;
    uint32_t file;
    uint64_t position;    // where the job begins
    uint64_t end;         // and, once written, ends
    size_t bytes, bounds; // gathered so far
    size_t count, cap;
    struct seal_entry *entries;
};

// ---- plan ----------------------------------------------------------------------------------------------------------

static void seal_entry_free(struct seal_entry *e)
{
    for (size_t i = 0; i < e->piece_count; i++)
        bytes_unref(e->pieces[i].bytes);
    free(e->pieces);
    free(e->bounds);
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

// How far a record that begins at `from` goes: over as many whole appends as fit, or into the first one if not even that fits.
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
    *e = (struct seal_entry){.number = st->rec.number, .first = from, .raw = (uint32_t)(to - from), .cut = cut};
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

// Takes what fits of a stream. False: the job is full (or memory is), and no other stream is to be tried.
static bool seal_take(struct streams_seal *job, const struct stream *st)
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

static void seal_gather(struct streams_seal *job, struct streams *s, uint64_t now_ms, bool force)
{
    for (struct stream *st = s->due.first; st != NULL; st = st->next)
        if (!seal_take(job, st)) return;
    for (struct stream *st = s->active.first; st != NULL && (force || is_quiet(s, st, now_ms)); st = st->next)
        if (!seal_take(job, st)) return;
}

struct streams_seal *streams_seal_plan(struct streams *s, uint64_t now_ms, bool force)
{
    if (s->sealing || s->unsealed_bytes == 0) return NULL;
    struct streams_seal *job = seal_new(s);
    if (job == NULL) return NULL;
    seal_gather(job, s, now_ms, force);
    if (job->count == 0) {
        seal_free(job);
        return NULL;
    }
    s->sealing = true;
    return job;
}

// ---- write ---------------------------------------------------------------------------------------------------------

static void seal_encode(struct streams_seal *job, struct buf *out)
{
    for (size_t i = 0; i < job->count; i++) {
        struct seal_entry *e = &job->entries[i];
        struct segment_source src = {
            .number = e->number,
            .first = e->first,
            .raw = e->raw,
            .cut = e->cut,
            .bounds = e->bounds,
            .bound_count = e->bound_count,
            .pieces = e->pieces,
            .piece_count = e->piece_count,
        };
        size_t before = out->n;
        e->position = job->position + before;
        stream_segment_encode(out, &src, job->file, job->position);
        if (out->err != 0) return;
        e->total = (uint32_t)(out->n - before);
    }
    static const uint8_t zeroes[SEGMENT_SECTOR];
    buf_put(out, zeroes, (SEGMENT_SECTOR - out->n % SEGMENT_SECTOR) % SEGMENT_SECTOR);
}

int streams_seal_write(struct streams_seal *job)
{
    struct buf out;
    buf_init(&out, SEAL_WRITE_MAX);
    seal_encode(job, &out);
    int err = out.err;
    if (err == 0) err = stream_segment_write(job->folder, job->file, job->position, buf_span(&out));
    if (err == 0) job->end = job->position + out.n;
    buf_free(&out);
    return err;
}

// ---- done ----------------------------------------------------------------------------------------------------------

static void seal_index(struct streams *s, struct db_txn *txn, const struct streams_seal *job, const struct stream_alloc *a)
{
    struct stream_bytes key, value;
    for (size_t i = 0; i < job->count; i++) {
        const struct seal_entry *e = &job->entries[i];
        struct stream_index ix = {
            .raw = e->raw,
            .total = e->total,
            .file = job->file,
            .position = e->position,
            .first_seq = e->bounds[0].seq,
            .last_seq = e->bounds[e->bound_count - 1].seq,
        };
        stream_key_index(&key, e->number, e->first);
        stream_index_encode(&value, &ix);
        db_put(txn, s->table_index, stream_bytes_span(&key), stream_bytes_span(&value));
    }
    stream_key_alloc(&key);
    stream_alloc_encode(&value, a);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
}

// The file is left behind when it has grown to its bound.
static struct stream_alloc alloc_behind(const struct streams *s, const struct streams_seal *job)
{
    struct stream_alloc a = {.next_number = s->alloc.next_number, .file = job->file, .position = job->end};
    if (a.position < STREAM_SEGMENT_BYTES) return a;
    a.file++;
    a.position = 0;
    return a;
}

static void seal_release(struct streams *s, const struct seal_entry *e)
{
    struct stream *st = stream_hot_number(s, e->number);
    assert(st != NULL && st->tail.start == e->first); // unsealed bytes keep a stream in memory, and only a job seals
    for (uint32_t i = 0; i < e->bound_count - e->cut; i++)
        stream_groups_drop(&s->groups, e->bounds[i].group);
    stream_tail_drop(&st->tail, e->first + e->raw);
    s->unsealed_bytes -= e->raw;
    stream_enlist(s, st);
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
        for (size_t i = 0; i < job->count; i++)
            seal_release(s, &job->entries[i]);
    }
    seal_free(job);
}
