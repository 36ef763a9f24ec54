// A view as a feed: attaching and leaving; the rest is the kind's.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "view_impl.h"

static struct view *view_of(struct feed_sub *sub)
{
    return (struct view *)sub->feed;
}

static void close_run(struct view_sub *s)
{
    query_close(s->run);
    s->run = NULL;
}

int view_snapshot_plain(struct view_sub *s, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    struct view *v = view_of(&s->sub);
    if (s->run && s->run_at != at) close_run(s);
    int err = s->run ? 0 : query_open(v->r, txn, v->q, at, &s->run, NULL);
    if (err) return err;
    s->run_at = at;
    err = query_next(s->run, txn, budget, sink, done);
    if (err || *done) close_run(s);
    return err;
}

static int snapshot(struct feed_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    return view_of(sub)->kind->snapshot((struct view_sub *)sub, txn, at, budget, sink, done);
}

static int reach(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct view *v = view_of(sub);
    assert(from < to);
    return v->err ? v->err : v->kind->reach(v, txn, from, to, budget, reached);
}

static int changes(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct view *v = view_of(sub);
    assert(from <= to);
    if (v->err) return v->err;
    return from == to ? 0 : v->kind->changes(v, txn, from, to, sink);
}

static void detach(struct feed_sub *sub)
{
    struct view_sub *s = (struct view_sub *)sub;
    struct view *v = view_of(sub);
    close_run(s);
    feed_unlink(sub);
    v->r->views.subs--;
    if (!v->feed.subs) view_free(v);
    free(s);
}

static const struct feed_ops ops = {
    .kind = "query",
    .snapshot = snapshot,
    .reach = reach,
    .changes = changes,
    .detach = detach,
};

int rows_attach(struct rows *r, struct db_txn *txn, struct query *q, struct feed_sub **out, struct problem *p)
{
    struct view *v;
    assert(r && txn && q && out);
    int err = query_make_live(q, p);
    if (err) return err;
    struct view_sub *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    err = view_obtain(r, txn, q, &v);
    if (err) {
        free(s);
        return problem_set(p, err, -1, "%s", err_text(err));
    }
    v->feed.ops = &ops;
    feed_link(&v->feed, &s->sub);
    r->views.subs++;
    *out = &s->sub;
    return 0;
}
