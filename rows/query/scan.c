#include "scan.h"

#include <assert.h>

#include "err.h"
#include "file.h"
#include "query_live.h"
#include "query_run.h"

// The plan without its limit, and not sorted: its rows as they come.
struct scan {
    struct plan plan;
    struct select top;
    struct run run;
    bool ordered; // they come in the query's order
};

static int collect(struct scan *s, const struct query *q, size_t keep, struct sort_keys *out, bool *dropped)
{
    const struct expr_row *row = &s->run.rows[s->top.levels[0].slot];
    struct buf key;
    buf_init(&key, QUERY_SORT_MAX);
    struct query_row at;
    query_row_open(&at, q, s->run.scratch, row->id, row->row);
    int err = query_row_key(&at, q, &key);
    if (!err) err = sort_keys_collect(out, buf_span(&key), keep, dropped);
    buf_free(&key);
    return !err && keep == SIZE_MAX && out->n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : err;
}

static int collect_all(struct scan *s, const struct query *q, size_t keep, struct sort_keys *out, bool *dropped)
{
    for (;;) {
        bool row;
        int err = run_next(&s->run, &row);
        if (err == EXEC_MORE) return ERR_QUERY_TOO_EXPENSIVE;
        if (err || !row) return err;
        err = collect(s, q, keep, out, dropped);
        if (err) return err;
        run_taken(&s->run);
        if (s->ordered && keep < SIZE_MAX && out->n > keep) return 0; // one more than is kept tells that there are more
    }
}

static int scan_plan(struct rows *r, struct db_txn *txn, const struct query *q, const struct plan *plan, const struct value *params, uint64_t at,
                     size_t keep, struct sort_keys *out, bool *dropped)
{
    struct scan s = {.plan = *plan, .top = *plan->top, .ordered = plan->top->sorted};
    s.plan.top = &s.top;
    s.top.limit.is = s.top.offset.is = false;
    s.top.sorted = true;
    int err = run_open(&s.run, &s.plan, &(struct row_source){.r = r, .txn = txn, .at = at}, params);
    if (err) return err;
    s.run.step_end_us = r->views.fill_us > 0 ? clock_mono_us() + r->views.fill_us : 0;
    err = run_begin_step(&s.run, txn, QUERY_SCAN_MAX);
    if (!err) err = collect_all(&s, q, keep, out, dropped);
    run_close(&s.run);
    return err;
}

int scan_keys(struct rows *r, struct db_txn *txn, const struct query *q, uint64_t at, size_t keep, struct sort_keys *out, bool *all)
{
    struct arena *arena = NULL;
    struct plan *plan = NULL;
    struct value *params = NULL;
    bool dropped = false;
    assert(out->n == 0 && q->live);
    int err = query_plan_for(r, q, at, &plan, &arena, &params, NULL);
    if (!err) err = scan_plan(r, txn, q, plan, params, at, keep, out, &dropped);
    plan_unref(plan);
    arena_free(arena);
    if (err) {
        sort_keys_free(out);
        return err;
    }
    sort_keys_finish(out, keep, &dropped);
    *all = !dropped;
    return 0;
}
