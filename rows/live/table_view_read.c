// What readers of a view of one table are told: from the ring, and behind it from history.
#include "err.h"
#include "table_view.h"
#include "view_history.h"

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
    struct query_row row;
    int err = row_at(v->r, txn, schema_table_no(v->r->schema, v->q->table), id, at, &room);
    if (err) return err;
    query_row_open(&row, v->q, v->r->scratch, id, &room.row);
    err = query_row_matches(&row, v->q, matches);
    arena_clear(v->r->scratch);
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
    int err = scan_keys(v->r, txn, v->q, at, v->q->has_limit ? v->q->offset + (size_t)v->q->limit : SIZE_MAX, &keys, &all);
    for (size_t i = v->q->offset; i < keys.n && !err; i++)
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

static int add_id(void *ctx, struct uuid id)
{
    return id_set_add(ctx, id);
}

// The rows that (from, to] touched and that may be, or have been, in the result; some more where they cannot be told apart.
static int rows_touched(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct id_set *touched)
{
    uint64_t reached;
    int err = view_history_of(v->r, txn, &table_view_of(v)->interest, from, to, SIZE_MAX, add_id, touched, &reached);
    if (err || reached == to) return err;
    touched->n = 0;
    err = touched_rows(v->r, txn, v->q->table, from, to, QUERY_SCAN_MAX, SIZE_MAX, touched, &reached);
    return !err && reached < to ? ERR_TOO_OLD : err; // so much has changed that a snapshot is less work
}

static int history_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct id_set touched = {.ids = NULL};
    bool set = table_view_of(v)->shape == TABLE_SET;
    int err = rows_touched(v, txn, from, to, &touched);
    id_set_sort(&touched);
    if (!err && touched.n > 0) err = set ? set_changes(v, txn, from, to, &touched, sink) : list_changes(v, txn, from, to, &touched, sink);
    id_set_free(&touched);
    return err == ERR_QUERY_TOO_EXPENSIVE || err == ERR_RESULT_TOO_LARGE ? ERR_TOO_OLD : err;
}

static int history_reach(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct id_set touched = {.ids = NULL};
    size_t rows = budget / CHANGE_BYTES + 1;
    // A list is compared as a whole, whatever the range: few large ranges are less work than many small ones.
    if (rows > REACH_ROWS_MAX || table_view_of(v)->shape != TABLE_SET) rows = REACH_ROWS_MAX;
    int err = view_history_of(v->r, txn, &table_view_of(v)->interest, from, to, rows, NULL, NULL, reached);
    if (err || *reached > 0) return err;
    err = touched_rows(v->r, txn, v->q->table, from, to, rows, REACH_COMMITS_MAX, &touched, reached);
    id_set_free(&touched);
    return err;
}

int table_view_reach(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    if (!view_ring_covers(v, from)) return history_reach(v, txn, from, to, budget, reached);
    *reached = view_ring_reach(v, from, to, budget);
    return 0;
}

int table_view_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    return view_ring_covers(v, from) ? view_ring_changes(v, from, to, sink) : history_changes(v, txn, from, to, sink);
}
