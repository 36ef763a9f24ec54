// Trimming: a stream lets go of its beginning, and a snapshot may stand for it. Offsets stay what they are; readers below the new beginning
// are told where it is. With a close it is the compaction of a finished stream to its final value.
#include <assert.h>

#include "err.h"
#include "stream_decide.h"

// Where a JSON stream may begin. Bytes that this very batch appended have no boundaries yet, but for their end.
static int trim_boundary(struct streams_batch *b, const struct decided *d, uint64_t before, bool *is)
{
    struct stream_view v;
    *is = before == d->rec.offset || before == d->rec.first;
    if (*is || !d->rec.json) return 0;
    int err = stream_view_number(b->s, b->txn, d->rec.number, &v);
    if (err == ERR_NO_SUCH_STREAM) return 0;
    return err != 0 || before > v.rec->offset ? err : stream_message_boundary(b->s, b->txn, &v, before, is);
}

static int check_trim(struct streams_batch *b, const struct decided *d, uint64_t before, struct span snapshot, bool messages, struct problem *p)
{
    const struct stream_record *r = &d->rec;
    bool boundary;
    if (r->refs > 0) return problem_set(p, ERR_STILL_REFERENCED, -1, "forks read what would be trimmed");
    if (snapshot.n > STREAM_SNAPSHOT_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a snapshot has at most %u bytes", STREAM_SNAPSHOT_MAX);
    if (snapshot.n > 0 && messages != r->json)
        return problem_set(p, ERR_CONTENT_TYPE_MISMATCH, -1, "a snapshot is of the stream's kind");
    if (before < r->first || before > r->offset) {
        int err = problem_set(p, ERR_BAD_OFFSET, -1, "the stream can begin at offsets %llu to %llu", (unsigned long long)r->first, (unsigned long long)r->offset);
        problem_number(p, r->offset);
        return err;
    }
    int err = trim_boundary(b, d, before, &boundary);
    if (err == 0 && r->json && !boundary) err = ERR_BAD_OFFSET;
    return err != 0 ? problem_set(p, err, -1, "a JSON stream begins where a message does") : 0;
}

int streams_decide_trim(struct streams_batch *b, struct span path, uint64_t before, bool to_tail, struct span snapshot, bool messages, bool close,
                        uint64_t *offset, struct problem *p)
{
    struct decided *d;
    assert(stream_in_request(b->c, snapshot));
    int err = decided_need(b, path, &d, p);
    if (err == 0 && to_tail) before = d->rec.offset;
    if (err == 0) err = check_trim(b, d, before, snapshot, messages, p);
    if (err != 0) return err;
    struct effect e = {.kind = EFFECT_TRIM, .number = d->rec.number, .offset = before, .has_snapshot = snapshot.n > 0, .length = snapshot.n};
    if (snapshot.n > 0) e.at = (uint64_t)(snapshot.p - b->c->request.p);
    err = decided_effect(b, &e, p);
    if (err != 0) return err;
    stream_record_trim(&d->rec, b->c, before, e.has_snapshot);
    if (offset != NULL) *offset = d->rec.offset;
    return close ? streams_decide_close(b, path, NULL, p) : 0;
}
