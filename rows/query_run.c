// A query as it runs: in id order the rows go straight out; in another order the keys are sorted first, and each row is
// fetched again, as of the same commit, when its turn comes. Nothing but keys is held between two calls.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "scan.h"
#include "show.h"

#define STEP_ROWS 8192 // rows looked at in one call, so that a long scan does not hold up the owner

struct query_run {
    struct rows *r;
    struct query *q;
    struct scan scan;
    struct sort_keys keys;
    bool sorted;
    size_t emitted;
};

int query_open(struct rows *r, struct db_txn *txn, struct query *q, uint64_t at, struct query_run **out, struct problem *p)
{
    assert(r && txn && q && out);
    (void)p; // for what a later kind of query may refuse only here
    struct query_run *run = calloc(1, sizeof *run);
    if (!run) return ERR_NOMEM;
    run->r = r;
    run->q = query_ref(q);
    run->scan = (struct scan){.at = at, .done = q->has_limit && q->limit == 0};
    *out = run;
    return 0;
}

void query_close(struct query_run *run)
{
    if (!run) return;
    sort_keys_free(&run->keys);
    query_unref(run->q);
    free(run);
}

struct emission {
    struct query_run *run;
    struct db_txn *txn;
    struct feed_sink *sink;
    size_t budget, sent;
};

static bool limit_reached(const struct query_run *run)
{
    return run->q->has_limit && run->emitted >= run->q->limit;
}

static int emit(struct emission *e, struct uuid id, const struct row *row)
{
    struct query_run *run = e->run;
    struct buf text;
    struct jw w;
    if (run->emitted >= QUERY_ROWS_MAX) return ERR_RESULT_TOO_LARGE;
    buf_init(&text, QUERY_RESULT_MAX);
    jw_init(&w, &text);
    show_row(&w, run->r, e->txn, run->q, id, row, run->scan.at);
    int err = text.err;
    struct bytes *value = err ? NULL : bytes_new(buf_span(&text));
    if (!err && !value) err = ERR_NOMEM;
    if (!err) {
        err = e->sink->emit(e->sink, value);
        e->sent += text.n;
        run->emitted++;
    }
    bytes_unref(value);
    buf_free(&text);
    return err;
}

static int emit_scanned(void *ctx, struct uuid id, const struct row *row)
{
    struct emission *e = ctx;
    int err = emit(e, id, row);
    return !err && (e->sent >= e->budget || limit_reached(e->run)) ? SCAN_ENOUGH : err;
}

static int sort_step(struct query_run *run, struct db_txn *txn)
{
    size_t keep = run->q->has_limit ? run->q->limit : SIZE_MAX;
    bool dropped = false;
    int err = scan_collect(&run->scan, run->r, txn, run->q, STEP_ROWS, keep, &run->keys, &dropped);
    if (err || !run->scan.done) return err;
    sort_keys_finish(&run->keys, keep, &dropped);
    run->sorted = true;
    return 0;
}

static int emit_sorted(struct query_run *run, struct emission *e)
{
    struct row_space room;
    const struct table *t = schema_table_no(run->r->schema, run->q->table);
    while (run->emitted < run->keys.n && e->sent < e->budget) {
        struct uuid id = sort_key_id(run->keys.keys[run->emitted]);
        int err = row_at(run->r, e->txn, t, id, run->scan.at, &room);
        if (!err && !row_live(&room.row)) err = ERR_CORRUPT;
        if (!err) err = emit(e, id, &room.row);
        if (err) return err;
    }
    return 0;
}

static int next_ordered(struct query_run *run, struct db_txn *txn, struct emission *e, bool *done)
{
    int err = run->sorted ? 0 : sort_step(run, txn);
    if (!err && run->sorted) err = emit_sorted(run, e);
    if (!err) *done = run->sorted && run->emitted == run->keys.n;
    return err;
}

int query_next(struct query_run *run, struct db_txn *txn, size_t budget, struct feed_sink *sink, bool *done)
{
    struct emission e = {.run = run, .txn = txn, .sink = sink, .budget = budget > 0 ? budget : 1};
    assert(run && txn && sink && done);
    if (query_ordered(run->q)) return next_ordered(run, txn, &e, done);
    int err = 0;
    bool over = run->scan.done || limit_reached(run);
    if (!over) err = scan_step(&run->scan, run->r, txn, run->q, STEP_ROWS, emit_scanned, &e);
    if (!err) *done = run->scan.done || limit_reached(run);
    return err;
}
