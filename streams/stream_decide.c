// Deciding a batch's stream operations: an overlay over the store that knows only the streams this batch names. It holds copies,
// so the store is never changed; what was decided leaves as effects (stream_effects.h).
#include "stream_decide.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "utf8.h"

#define TYPE_DEFAULT "application/octet-stream"

struct streams_batch *streams_decide(struct streams *s, struct db_txn *txn, const struct commit *c)
{
    struct streams_batch *b = malloc(sizeof *b);
    if (b == NULL) return NULL;
    *b = (struct streams_batch){.s = s, .txn = txn, .c = c, .next_number = s->alloc.next_number};
    buf_init(&b->effects, ENTRY_BYTES_MAX);
    if (hash_table_init(&b->paths) != 0) {
        free(b);
        return NULL;
    }
    return b;
}

void streams_batch_free(struct streams_batch *b)
{
    if (b == NULL) return;
    for (struct hash_node *n; (n = hash_table_take(&b->paths)) != NULL;) {
        struct decided *d = HASH_OWNER(n, struct decided, node);
        decided_reset(d);
        free(b->s->spare);
        b->s->spare = d;
    }
    hash_table_free(&b->paths);
    buf_free(&b->effects);
    free(b);
}

// ---- the overlay ---------------------------------------------------------------------------------------------------

static struct decided *decided_lookup(struct streams_batch *b, struct span path, uint64_t hash)
{
    for (struct hash_node *n = hash_table_first(&b->paths, hash); n != NULL; n = hash_table_more(n)) {
        struct decided *d = HASH_OWNER(n, struct decided, node);
        if (span_equal(stream_path(&d->rec), path)) return d;
    }
    return NULL;
}

// Copies what the store has at `path`, if anything.
static int decided_load(struct streams_batch *b, struct span path, struct decided *d)
{
    struct stream_view v;
    int err = stream_view_path(b->s, b->txn, path, &v);
    if (err != 0 && err != ERR_NO_SUCH_STREAM) return err;
    d->exists = err == 0;
    if (d->exists) d->rec = *v.rec;
    d->rec.path_n = (uint16_t)path.n;
    memcpy(d->rec.path, path.p, path.n);
    return 0;
}

int decided_get(struct streams_batch *b, struct span path, struct decided **out)
{
    assert(path.n > 0 && path.n <= STREAM_PATH_MAX);
    uint64_t hash = stream_hash_path(b->s, path);
    *out = decided_lookup(b, path, hash);
    if (*out != NULL) return 0;
    struct decided *d = b->s->spare != NULL ? b->s->spare : malloc(sizeof *d);
    if (d == NULL) return ERR_NOMEM;
    b->s->spare = NULL;
    memset(d, 0, sizeof *d);
    int err = decided_load(b, path, d);
    if (err != 0) {
        free(d);
        return err;
    }
    hash_table_insert(&b->paths, &d->node, hash);
    *out = d;
    return 0;
}

// One that the batch itself has made.
static int decided_new(struct streams_batch *b, uint64_t number, struct decided **out)
{
    for (size_t i = 0; i < b->paths.size; i++) {
        for (struct hash_node *n = b->paths.slots[i]; n != NULL; n = n->next) {
            *out = HASH_OWNER(n, struct decided, node);
            if ((*out)->exists && (*out)->rec.number == number) return 0;
        }
    }
    return ERR_NO_SUCH_STREAM;
}

int decided_number(struct streams_batch *b, uint64_t number, struct decided **out)
{
    if (number >= b->s->alloc.next_number) return decided_new(b, number, out);
    struct stream_view v;
    uint8_t path[STREAM_PATH_MAX];
    int err = stream_view_number(b->s, b->txn, number, &v);
    if (err != 0) return err;
    size_t n = v.rec->path_n; // the view may end with the next look
    memcpy(path, v.rec->path, n);
    err = decided_get(b, SPAN(path, n), out);
    if (err != 0) return err;
    return (*out)->exists && (*out)->rec.number == number ? 0 : ERR_NO_SUCH_STREAM;
}

bool decided_lives(const struct streams_batch *b, const struct decided *d)
{
    return d->exists && d->rec.gone_seq == 0 && !stream_record_expired(&d->rec, b->c->arrival_ms);
}

int decided_need(struct streams_batch *b, struct span path, struct decided **out, struct problem *p)
{
    bool possible = path.n > 0 && path.n <= STREAM_PATH_MAX;
    int err = possible ? decided_get(b, path, out) : 0;
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (possible && decided_lives(b, *out)) return 0;
    if (possible && (*out)->exists && (*out)->rec.gone_seq != 0)
        return problem_set(p, ERR_STREAM_GONE, -1, "the stream \"%.*s\" was deleted; forks of it still read it", SPAN_FMT(path));
    return problem_set(p, ERR_STREAM_NOT_FOUND, -1, "there is no stream \"%.*s\"", SPAN_FMT(path));
}

int decided_effect(struct streams_batch *b, const struct effect *e, struct problem *p)
{
    size_t before = b->effects.n;
    stream_effect_put(&b->effects, e);
    if (b->effects.err == 0) return 0;
    int err = b->effects.err == ERR_TOO_LARGE ? ERR_BATCH_TOO_LARGE : b->effects.err;
    buf_truncate(&b->effects, before);
    return problem_set(p, err, -1, "%s", err_text(err));
}

void decided_reset(struct decided *d)
{
    for (struct decided_writer *w; (w = d->writers) != NULL;) {
        d->writers = w->next;
        if (w != &d->first) free(w);
    }
    d->first = (struct decided_writer){0};
    d->has_seq = false;
}

// ---- creating ------------------------------------------------------------------------------------------------------

// The type goes into HTTP heads: printable ASCII.
static bool type_prints(struct span type)
{
    for (size_t i = 0; i < type.n; i++)
        if (type.p[i] < ' ' || type.p[i] > '~') return false;
    return true;
}

static int check_names(struct span path, struct span type, struct problem *p)
{
    if (path.n == 0 || path.n > STREAM_PATH_MAX)
        return problem_set(p, ERR_BAD_VALUE, -1, "a stream path has 1 to %d bytes", STREAM_PATH_MAX);
    if (type.n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_VALUE, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    if (!type_prints(type)) return problem_set(p, ERR_BAD_VALUE, -1, "the content type has a byte that is not printable ASCII");
    return utf8_valid(path) ? 0 : problem_set(p, ERR_BAD_UTF8, -1, "a stream path is UTF-8");
}

static int check_expiry(const struct stream_create *op, struct problem *p)
{
    if (op->has_ttl && op->expires_ms != 0) return problem_set(p, ERR_BAD_VALUE, -1, "a stream has a time to live, or a time of its end");
    if (op->expires_ms > STREAM_EXPIRES_MS_MAX) return problem_set(p, ERR_BAD_VALUE, -1, "a stream ends before the year 10000");
    if (op->has_ttl && op->ttl_s > STREAM_TTL_S_MAX)
        return problem_set(p, ERR_BAD_VALUE, -1, "a stream lives at most %llu s", (unsigned long long)STREAM_TTL_S_MAX);
    return 0;
}

// Data of the right kind: messages for JSON streams, and only for them.
static int check_data(bool json, struct span data, bool messages, struct problem *p)
{
    if (data.n == 0) return 0;
    if (json != messages)
        return problem_set(p, ERR_CONTENT_TYPE_MISMATCH, -1, json ? "the stream takes JSON messages" : "the stream takes bytes, not JSON messages");
    if (messages && (data.n < 3 || data.p[data.n - 1] != '\n')) return problem_set(p, ERR_BAD_VALUE, -1, "these are no JSON messages");
    if (data.n > STREAM_APPEND_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "an append has at most %u bytes", STREAM_APPEND_MAX);
    return 0;
}

// Would creating what exists be no change?
static int check_same(struct streams_batch *b, const struct decided *d, const struct stream_create *op, bool *same)
{
    const struct stream_record *r = &d->rec;
    bool expiry = r->has_ttl == op->has_ttl && r->ttl_s == op->ttl_s && r->expires_ms == op->expires_ms;
    bool none = !op->has_ttl && op->expires_ms == 0;
    bool type = op->type.n == 0 && op->fork_of.n > 0 ? true : stream_type_equal(SPAN(r->type, r->type_n), op->type);
    *same = false;
    if (!type || r->owned != op->owned || (r->closed_seq != 0) != op->closed || !(expiry || (r->inherits && none))) return 0;
    return decided_same_fork(b, d, op, same);
}

static int create_effect(struct streams_batch *b, struct decided *d, const struct stream_create *op, struct problem *p)
{
    struct decided *source = NULL;
    struct effect e = {
        .kind = EFFECT_CREATE,
        .number = b->next_number,
        .path = op->path,
        .type = op->type,
        .owned = op->owned,
        .has_ttl = op->has_ttl,
        .ttl_s = op->ttl_s,
        .has_expires = op->expires_ms != 0,
        .expires_ms = op->expires_ms,
    };
    int err = op->fork_of.n > 0 ? decided_fork(b, op, &e, &source, p) : 0;
    if (err == 0) err = check_data(stream_type_json(e.type), op->data, op->messages, p);
    if (err == 0) err = decided_effect(b, &e, p);
    if (err != 0) return err;
    b->next_number++;
    decided_reset(d);
    stream_record_make(&d->rec, b->c, &e);
    d->exists = true;
    if (source == NULL) return 0;
    stream_record_inherit(&d->rec, &source->rec);
    source->rec.refs++;
    return 0;
}

static int append_effect(struct streams_batch *b, struct decided *d, struct span data, struct problem *p)
{
    struct effect e = {.kind = EFFECT_APPEND,
                       .number = d->rec.number,
                       .offset = d->rec.offset,
                       .at = (uint64_t)(data.p - b->c->request.p),
                       .length = data.n};
    int err = decided_effect(b, &e, p);
    if (err != 0) return err;
    d->rec.changed_seq = b->c->seq;
    d->rec.offset += data.n;
    return 0;
}

static int close_effect(struct streams_batch *b, struct decided *d, struct problem *p)
{
    struct effect e = {.kind = EFFECT_CLOSE, .number = d->rec.number, .offset = d->rec.offset};
    int err = decided_effect(b, &e, p);
    if (err == 0) d->rec.closed_seq = d->rec.changed_seq = b->c->seq;
    return err;
}

// What stands in a new stream's way goes, if its time is over and no fork reads it.
static int make_room(struct streams_batch *b, struct decided *d, struct problem *p)
{
    bool expired = d->exists && d->rec.gone_seq == 0 && stream_record_expired(&d->rec, b->c->arrival_ms);
    return expired && d->rec.refs == 0 ? decided_delete(b, d, p) : 0;
}

int streams_decide_create(struct streams_batch *b, const struct stream_create *op, bool *created, uint64_t *offset, struct problem *p)
{
    struct decided *d;
    struct stream_create full = *op;
    assert(stream_in_request(b->c, op->data));
    if (full.type.n == 0 && full.fork_of.n == 0) full.type = SPAN_LIT(TYPE_DEFAULT);
    int err = check_names(full.path, full.type, p);
    if (err == 0) err = check_expiry(&full, p);
    if (err != 0) return err;
    err = decided_get(b, full.path, &d);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    bool same = false;
    if (decided_lives(b, d)) err = check_same(b, d, &full, &same);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    *created = false;
    if (offset != NULL) *offset = d->rec.offset;
    if (same) return 0;
    if (!decided_lives(b, d)) err = make_room(b, d, p);
    if (err != 0) return err;
    if (d->exists) return problem_set(p, ERR_STREAM_EXISTS, -1, "the stream \"%.*s\" exists with other settings", SPAN_FMT(full.path));
    err = create_effect(b, d, &full, p);
    if (err == 0 && full.data.n > 0) err = append_effect(b, d, full.data, p);
    if (err == 0 && full.closed) err = close_effect(b, d, p);
    if (err != 0) return err;
    *created = true;
    if (offset != NULL) *offset = d->rec.offset;
    return 0;
}

// ---- appending and closing -----------------------------------------------------------------------------------------

// What is known of an append's producer while it is judged.
struct judged {
    bool known;
    struct stream_writer was;
    bool duplicate;
};

static int check_producer(const struct stream_append *op, const struct judged *j, const struct stream_record *r, struct problem *p)
{
    if (!j->known || op->epoch > j->was.epoch) {
        if (!j->known && r->producers >= STREAM_PRODUCERS_MAX)
            return problem_set(p, ERR_TOO_MANY, -1, "a stream has at most %d producers", STREAM_PRODUCERS_MAX);
        if (op->pseq == 0) return 0;
        if (j->known) return problem_set(p, ERR_PRODUCER_EPOCH, -1, "epoch %llu begins at sequence 0", (unsigned long long)op->epoch);
        return problem_set(p, ERR_PRODUCER_GAP, -1, "the stream has had nothing of this producer: its first sequence is 0");
    }
    if (op->pseq <= j->was.seq + 1) return 0;
    int err = problem_set(p, ERR_PRODUCER_GAP, -1, "the producer's next sequence is %llu", (unsigned long long)j->was.seq + 1);
    problem_number(p, j->was.seq + 1);
    return err;
}

static int refuse_closed(const struct stream_record *r, struct problem *p)
{
    int err = problem_set(p, ERR_STREAM_CLOSED, -1, "the stream \"%.*s\" is closed at offset %llu", SPAN_FMT(stream_path(r)),
                          (unsigned long long)r->offset);
    problem_number(p, r->offset);
    return err;
}

// A closed stream takes nothing but the repetition of what closed it.
static int check_closed(const struct stream_append *op, struct judged *j, const struct stream_record *r, struct problem *p)
{
    if (r->closed_seq == 0) return 0;
    bool again = j->known && j->was.closing && j->was.epoch == op->epoch && j->was.seq == op->pseq;
    bool only_close = op->close && op->data.n == 0 && op->producer.n == 0;
    j->duplicate = again || only_close;
    return j->duplicate ? 0 : refuse_closed(r, p);
}

static int check_order(struct streams_batch *b, const struct decided *d, const struct stream_append *op, struct problem *p)
{
    const struct stream_record *r = &d->rec;
    if (op->seq.n > 0 && span_compare(op->seq, decided_seq(b, d)) <= 0)
        return problem_set(p, ERR_STREAM_SEQ, -1, "the last sequence of this stream is as high already");
    if (!op->has_expect || op->expect == r->offset) return 0;
    int err = problem_set(p, ERR_OFFSET_MISMATCH, -1, "the stream ends at offset %llu, not %llu", (unsigned long long)r->offset,
                          (unsigned long long)op->expect);
    problem_number(p, r->offset);
    return err;
}

static int check_fence(const struct stream_append *op, const struct judged *j, struct problem *p)
{
    if (!j->known || op->epoch >= j->was.epoch) return 0;
    int err = problem_set(p, ERR_PRODUCER_FENCED, -1, "epoch %llu of this producer writes to the stream", (unsigned long long)j->was.epoch);
    problem_number(p, j->was.epoch);
    return err;
}

static int check_append(struct streams_batch *b, struct decided *d, const struct stream_append *op, struct judged *j, struct problem *p)
{
    const struct stream_record *r = &d->rec;
    int err = check_fence(op, j, p);
    if (err == 0) err = check_closed(op, j, r, p);
    if (err != 0 || j->duplicate) return err;
    if (op->data.n > 0 && op->type.n > 0 && !stream_type_equal(SPAN(r->type, r->type_n), op->type))
        return problem_set(p, ERR_CONTENT_TYPE_MISMATCH, -1, "the stream's content type is %s", r->type);
    err = check_data(r->json, op->data, op->messages, p);
    if (err == 0 && op->producer.n > 0) err = check_producer(op, j, r, p);
    if (err != 0) return err;
    j->duplicate = j->known && op->epoch == j->was.epoch && op->pseq <= j->was.seq;
    return j->duplicate ? 0 : check_order(b, d, op, p);
}

// All effects of one append, or none.
static int append_effects(struct streams_batch *b, struct decided *d, const struct stream_append *op, struct judged *j, struct problem *p)
{
    struct stream_writer w = {.epoch = op->epoch, .seq = op->pseq, .closing = op->close};
    struct effect writer = {.kind = EFFECT_WRITER, .number = d->rec.number, .text = op->producer, .epoch = w.epoch, .seq = w.seq, .closing = w.closing};
    struct effect seq = {.kind = EFFECT_SEQ, .number = d->rec.number, .text = op->seq};
    int err = op->data.n > 0 ? append_effect(b, d, op->data, p) : 0;
    if (err == 0 && op->producer.n > 0) err = decided_effect(b, &writer, p);
    if (err == 0 && op->producer.n > 0) err = decided_writer_set(d, op->producer, &w);
    if (err == 0 && op->seq.n > 0) err = decided_effect(b, &seq, p);
    if (err == 0 && op->close) err = close_effect(b, d, p);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (op->producer.n > 0 && !j->known) d->rec.producers++;
    if (op->producer.n > 0) j->was = w;
    if (op->seq.n > 0) d->seq = op->seq, d->has_seq = true;
    if (op->data.n + op->producer.n + op->seq.n > 0 || op->close) stream_record_slide(&d->rec, b->c->arrival_ms);
    return 0;
}

int streams_decide_append(struct streams_batch *b, const struct stream_append *op, struct stream_appended *out, struct problem *p)
{
    struct decided *d;
    struct judged j = {0};
    assert(stream_in_request(b->c, op->data));
    if (op->producer.n > STREAM_PRODUCER_ID_MAX || op->seq.n > STREAM_SEQ_MAX)
        return problem_set(p, ERR_BAD_VALUE, -1, "a producer's id has at most %d bytes, a sequence %d", STREAM_PRODUCER_ID_MAX, STREAM_SEQ_MAX);
    int err = decided_need(b, op->path, &d, p);
    if (err == 0 && op->producer.n > 0) err = decided_writer_find(b, d, op->producer, &j.was, &j.known);
    if (err == 0) err = check_append(b, d, op, &j, p);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (!j.duplicate) err = append_effects(b, d, op, &j, p);
    if (err != 0 || out == NULL) return err;
    *out = (struct stream_appended){
        .offset = d->rec.offset,
        .closed = d->rec.closed_seq != 0,
        .duplicate = j.duplicate && op->producer.n > 0,
        .has_producer = op->producer.n > 0,
        .epoch = j.was.epoch,
        .pseq = j.was.seq,
    };
    return 0;
}

int streams_decide_close(struct streams_batch *b, struct span path, uint64_t *offset, struct problem *p)
{
    struct stream_appended done;
    int err = streams_decide_append(b, &(struct stream_append){.path = path, .close = true}, &done, p);
    if (err == 0 && offset != NULL) *offset = done.offset;
    return err;
}

// ---- the batch -----------------------------------------------------------------------------------------------------

bool streams_decide_find(struct streams_batch *b, struct span path, struct stream_info *out)
{
    struct decided *d;
    if (path.n == 0 || path.n > STREAM_PATH_MAX) return false;
    if (decided_get(b, path, &d) != 0 || !decided_lives(b, d)) return false;
    stream_info_fill(out, &d->rec);
    return true;
}

void streams_decide_effects(struct streams_batch *b, struct buf *effects)
{
    buf_put_span(effects, buf_span(&b->effects));
}

// ---- who writes, in the overlay ------------------------------------------------------------------------------------

int decided_writer_find(struct streams_batch *b, struct decided *d, struct span id, struct stream_writer *out, bool *known)
{
    *known = false;
    for (const struct decided_writer *w = d->writers; w != NULL && !*known; w = w->next) {
        *known = span_equal(w->id, id);
        if (*known) *out = w->state;
    }
    if (*known || d->rec.producers == 0) return 0;
    const struct stream *hot = stream_hot_number(b->s, d->rec.number);
    *known = stream_writer_find(b->s, b->txn, d->rec.number, hot, id, out);
    return db_txn_err(b->txn);
}

int decided_writer_set(struct decided *d, struct span id, const struct stream_writer *state)
{
    struct decided_writer *w = d->writers;
    while (w != NULL && !span_equal(w->id, id))
        w = w->next;
    if (w == NULL) {
        w = d->first.id.n == 0 ? &d->first : malloc(sizeof *w);
        if (w == NULL) return ERR_NOMEM;
        *w = (struct decided_writer){.next = d->writers, .id = id};
        d->writers = w;
    }
    w->state = *state;
    return 0;
}

struct span decided_seq(struct streams_batch *b, const struct decided *d)
{
    if (d->has_seq) return d->seq;
    return stream_seq_find(b->s, b->txn, d->rec.number, stream_hot_number(b->s, d->rec.number));
}
