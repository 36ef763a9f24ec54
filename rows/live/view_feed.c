// A view as a feed: snapshots by a query run, changes from the ring, and behind the ring from history.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "show.h"
#include "view_impl.h"

#define REACH_ROWS_MAX 4096     // rows compared with history in one range
#define REACH_COMMITS_MAX 16384 // commits looked through for them
#define CHANGE_BYTES 256        // about what one change takes, before it is encoded

struct view_sub {
    struct feed_sub sub;
    struct query_run *run; // the snapshot being sent
    uint64_t run_at;
};

static struct view *view_of(struct feed_sub *sub)
{
    return (struct view *)sub->feed;
}

// ---- snapshot ------------------------------------------------------------------------------------------------------

static void close_run(struct view_sub *s)
{
    query_close(s->run);
    s->run = NULL;
}

static int snapshot(struct feed_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    struct view_sub *s = (struct view_sub *)sub;
    struct view *v = view_of(sub);
    if (s->run && s->run_at != at) close_run(s);
    int err = s->run ? 0 : query_open(v->r, txn, v->q, at, &s->run, NULL);
    if (err) return err;
    s->run_at = at;
    err = query_next(s->run, txn, budget, sink, done);
    if (err || *done) close_run(s);
    return err;
}

// ---- from the ring -------------------------------------------------------------------------------------------------

static bool ring_covers(const struct view *v, uint64_t from)
{
    return from >= v->ring_from;
}

static uint64_t ring_reach(const struct view *v, uint64_t from, uint64_t to, size_t budget)
{
    size_t bytes = 0;
    for (size_t i = view_ring_after(v, from); i < v->ring_count; i++) {
        const struct view_change *c = &v->ring[v->ring_head + i];
        if (c->seq > to) break;
        bytes += c->value->n;
        if (bytes > budget) return c->seq - 1 > from ? c->seq - 1 : from + 1;
    }
    return to;
}

static int ring_changes(struct view *v, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    int err = 0;
    for (size_t i = view_ring_after(v, from); i < v->ring_count && !err; i++) {
        const struct view_change *c = &v->ring[v->ring_head + i];
        if (c->seq > to) break;
        err = sink->emit(sink, c->value);
    }
    return err;
}

// ---- from history --------------------------------------------------------------------------------------------------

static int emit_step(struct view *v, struct db_txn *txn, uint64_t to, const struct view_op *op, struct feed_sink *sink)
{
    struct bytes *value;
    int err = view_encode(v, txn, to, op, &value);
    if (err) return err;
    err = sink->emit(sink, value);
    bytes_unref(value);
    return err;
}

static int matches_at(struct view *v, struct db_txn *txn, struct uuid id, uint64_t at, bool *matches)
{
    struct row_space room;
    int err = row_at(v->r, txn, schema_table_no(v->r->schema, v->q->table), id, at, &room);
    *matches = !err && query_matches(v->q, id, &room.row);
    return err;
}

static int set_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, const struct id_set *touched, struct feed_sink *sink)
{
    int err = 0;
    for (size_t i = 0; i < touched->n && !err; i++) {
        struct view_op op = {.id = touched->ids[i]};
        bool was = false, is = false;
        err = matches_at(v, txn, op.id, from, &was);
        if (!err) err = matches_at(v, txn, op.id, to, &is);
        if (err || (!was && !is)) continue;
        op.kind = !is ? VIEW_REMOVED : was ? VIEW_CHANGED : VIEW_ADDED;
        err = emit_step(v, txn, to, &op, sink);
    }
    return err;
}

// The ids shown as of a commit, in their order.
static int ids_at(struct view *v, struct db_txn *txn, uint64_t at, struct id_set *out)
{
    struct sort_keys keys = {.keys = NULL};
    bool all;
    int err = scan_keys(v->r, txn, v->q, at, v->q->has_limit ? v->q->limit : SIZE_MAX, &keys, &all);
    for (size_t i = 0; i < keys.n && !err; i++)
        err = id_set_add(out, sort_key_id(keys.keys[i]));
    sort_keys_free(&keys);
    return err;
}

static int list_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, const struct id_set *touched,
                        struct feed_sink *sink)
{
    struct id_set before = {.ids = NULL}, after = {.ids = NULL};
    struct view_ops ops = {.ops = NULL};
    int err = ids_at(v, txn, from, &before);
    if (!err) err = ids_at(v, txn, to, &after);
    if (!err) err = view_diff(before.ids, before.n, after.ids, after.n, touched, &ops);
    for (size_t i = 0; i < ops.n && !err; i++)
        err = emit_step(v, txn, to, &ops.ops[i], sink);
    view_ops_free(&ops);
    id_set_free(&before);
    id_set_free(&after);
    return err;
}

static int history_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct id_set touched = {.ids = NULL};
    uint64_t reached;
    int err = touched_rows(v->r, txn, v->q->table, from, to, QUERY_SCAN_MAX, SIZE_MAX, &touched, &reached);
    if (!err && reached < to) err = ERR_TOO_OLD; // so much has changed that a snapshot is less work
    id_set_sort(&touched);
    if (!err && touched.n > 0)
        err = v->shape == VIEW_SET ? set_changes(v, txn, from, to, &touched, sink) : list_changes(v, txn, from, to, &touched, sink);
    id_set_free(&touched);
    return err == ERR_QUERY_TOO_EXPENSIVE || err == ERR_RESULT_TOO_LARGE ? ERR_TOO_OLD : err;
}

static int history_reach(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct id_set touched = {.ids = NULL};
    size_t rows = budget / CHANGE_BYTES + 1;
    // A list is compared as a whole, whatever the range: few large ranges are less work than many small ones.
    if (rows > REACH_ROWS_MAX || v->shape != VIEW_SET) rows = REACH_ROWS_MAX;
    int err = touched_rows(v->r, txn, v->q->table, from, to, rows, REACH_COMMITS_MAX, &touched, reached);
    id_set_free(&touched);
    return err;
}

// ---- feed ----------------------------------------------------------------------------------------------------------

static int reach(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct view *v = view_of(sub);
    assert(from < to);
    if (v->err) return v->err;
    if (!ring_covers(v, from)) return history_reach(v, txn, from, to, budget, reached);
    *reached = ring_reach(v, from, to, budget);
    return 0;
}

static int changes(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct view *v = view_of(sub);
    assert(from <= to);
    if (v->err) return v->err;
    if (from == to) return 0;
    return ring_covers(v, from) ? ring_changes(v, from, to, sink) : history_changes(v, txn, from, to, sink);
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
