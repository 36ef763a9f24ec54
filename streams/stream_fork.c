// Forks: streams that begin with the bytes of another. A fork names its source by number, so it keeps reading it after the source's path
// was deleted; the source counts its forks, and stays (gone) until the last of them is deleted.
#include <assert.h>

#include "err.h"
#include "stream_decide.h"

// The fork's bytes begin behind `*at`, which is moved over the messages of the append that follows; beyond its end there is no boundary.
static int skip_messages(struct streams_batch *b, const struct stream_view *v, uint64_t end, uint64_t count, uint64_t *at)
{
    struct buf *piece = &b->s->scratch;
    while (count > 0 && *at < end) {
        uint64_t left = end - *at;
        buf_clear(piece);
        int err = stream_read_some(b->s, b->txn, v, *at, left < STREAM_ELEMENT_MAX ? (size_t)left : STREAM_ELEMENT_MAX, piece);
        if (err != 0) return err;
        const uint8_t *p = piece->p, *stop = piece->p + piece->n;
        while (count > 0 && p < stop && (p = memchr(p, '\n', (size_t)(stop - p))) != NULL) {
            p++;
            count--;
        }
        *at += count == 0 ? (size_t)(p - piece->p) : piece->n;
    }
    return count == 0 ? 0 : ERR_BAD_FORK;
}

// Where the fork leaves its source. Bytes that this very batch appended have no boundaries yet: forks begin before them, or at the tail.
static int fork_base(struct streams_batch *b, const struct decided *source, const struct stream_create *op, uint64_t *base)
{
    struct stream_view v;
    uint64_t at = op->has_fork_offset ? op->fork_offset : source->rec.offset, end = at;
    bool boundary = true;
    if (at > source->rec.offset || at < source->rec.first) return ERR_BAD_FORK;
    int err = stream_view_number(b->s, b->txn, source->rec.number, &v);
    bool stored = err == 0 && at < v.rec->offset;
    if (err != 0 && err != ERR_NO_SUCH_STREAM) return err;
    if (!stored && at != 0 && at != source->rec.offset && (err != 0 || at != v.rec->offset)) return ERR_BAD_FORK;
    if (stored && source->rec.json) err = stream_message_boundary(b->s, b->txn, &v, at, &boundary);
    else err = 0;
    if (err == 0 && !boundary) err = ERR_BAD_FORK;
    *base = at;
    if (err != 0 || op->fork_sub == 0) return err;
    if (!stored) return ERR_BAD_FORK; // no append follows
    err = stream_append_end(b->s, b->txn, &v, at, &end);
    if (err == 0 && source->rec.json) return skip_messages(b, &v, end, op->fork_sub, base);
    if (err == 0 && op->fork_sub > end - at) err = ERR_BAD_FORK;
    if (err == 0) *base = at + op->fork_sub;
    return err;
}

static int fork_source(struct streams_batch *b, const struct stream_create *op, struct decided **out, struct problem *p)
{
    int err = decided_need(b, op->fork_of, out, p == NULL ? NULL : &(struct problem){.position = -1});
    if (err == ERR_STREAM_GONE) return problem_set(p, ERR_FORK_SOURCE_GONE, -1, "the stream \"%.*s\" was deleted", SPAN_FMT(op->fork_of));
    if (err != 0) return problem_set(p, err, -1, "there is no stream \"%.*s\" to fork", SPAN_FMT(op->fork_of));
    const struct stream_record *r = &(*out)->rec;
    if (r->depth >= STREAM_FORK_DEPTH_MAX) return problem_set(p, ERR_BAD_FORK, -1, "forks of forks go %d deep", STREAM_FORK_DEPTH_MAX);
    if (op->type.n > 0 && !stream_type_equal(SPAN(r->type, r->type_n), op->type))
        return problem_set(p, ERR_CONTENT_TYPE_MISMATCH, -1, "the content type of the fork's source is %s", r->type);
    return 0;
}

int decided_fork(struct streams_batch *b, const struct stream_create *op, struct effect *e, struct decided **source, struct problem *p)
{
    int err = fork_source(b, op, source, p);
    if (err != 0) return err;
    const struct stream_record *r = &(*source)->rec;
    err = fork_base(b, *source, op, &e->base);
    if (err == ERR_BAD_FORK) {
        problem_set(p, err, -1, "the stream \"%.*s\" cannot be forked at this place", SPAN_FMT(op->fork_of));
        problem_number(p, r->offset);
    }
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    e->has_fork = true;
    e->source = r->number;
    e->depth = (uint8_t)(r->depth + 1);
    e->has_fork_offset = op->has_fork_offset;
    e->fork_offset = op->fork_offset;
    e->fork_sub = op->fork_sub;
    e->type = SPAN(r->type, r->type_n);
    if (op->has_ttl || op->expires_ms != 0) return 0;
    e->inherits = true;
    e->has_ttl = r->has_ttl;
    e->ttl_s = r->ttl_s;
    e->has_expires = r->expires_ms != 0;
    e->expires_ms = r->expires_ms;
    return 0;
}

int decided_same_fork(struct streams_batch *b, const struct decided *d, const struct stream_create *op, bool *same)
{
    const struct stream_record *r = &d->rec;
    struct decided *source;
    *same = (r->source != 0) == (op->fork_of.n > 0);
    if (!*same || r->source == 0) return 0;
    *same = op->fork_of.n <= STREAM_PATH_MAX && r->has_fork_offset == op->has_fork_offset && (!r->has_fork_offset || r->fork_offset == op->fork_offset) && r->fork_sub == op->fork_sub;
    if (!*same) return 0;
    int err = decided_get(b, op->fork_of, &source); // a source cannot leave its path while it has forks
    *same = err == 0 && source->exists && source->rec.number == r->source;
    return err;
}
