// The sort keys of a joined result: what a list or window is filled with.
#include <assert.h>

#include "err.h"
#include "join_view.h"

#define LENGTH_BYTES 2

static int put_order(const struct plan *plan, struct run *run, struct buf *out)
{
    const struct select *s = plan->top;
    for (size_t i = 0; i < s->order_count; i++) {
        const struct order_term *o = &s->order[i];
        struct value v;
        int err = run_eval(run, o->expr, &v);
        if (err) return err;
        value_order_key(out, &o->expr->type, &v, o->desc, o->nulls_first);
    }
    return out->err;
}

static int put_name(const struct plan *plan, struct run *run, struct buf *out)
{
    size_t before = out->n;
    delta_key(plan, run, out);
    buf_put_u16_be(out, (uint16_t)(out->n - before));
    return out->err;
}

int join_sort_key(const struct plan *plan, struct run *run, struct buf *out)
{
    int err = put_order(plan, run, out);
    return err ? err : put_name(plan, run, out);
}

struct span join_sort_name(struct span sort_key)
{
    assert(sort_key.n > LENGTH_BYTES);
    size_t end = sort_key.n - LENGTH_BYTES, n = (size_t)sort_key.p[end] << 8 | sort_key.p[end + 1];
    assert(n <= end);
    return SPAN(sort_key.p + end - n, n);
}

// The plan without its limit, and not sorted: its rows as they come.
struct scan {
    struct plan plan;
    struct select top;
    struct run run;
    size_t keep, n;
    // They come in the order of the query, those that are equal in it in any: `edge` is what the last one that must be kept is ordered by.
    bool ordered;
    struct buf edge, key;
};

static int collect(struct scan *s, struct sort_keys *out, bool *dropped, bool *enough)
{
    buf_clear(&s->key);
    int err = put_order(&s->plan, &s->run, &s->key);
    *enough = !err && s->ordered && s->n >= s->keep && !span_equal(buf_span(&s->key), buf_span(&s->edge));
    if (*enough) *dropped = true;
    if (err || *enough) return err;
    if (++s->n == s->keep) {
        buf_clear(&s->edge);
        buf_put_span(&s->edge, buf_span(&s->key));
    }
    err = put_name(&s->plan, &s->run, &s->key);
    if (!err) err = sort_keys_collect(out, buf_span(&s->key), s->keep, dropped);
    return !err && s->keep == SIZE_MAX && out->n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : err;
}

static int collect_all(struct scan *s, struct sort_keys *out, bool *dropped)
{
    for (bool enough = false; !enough;) {
        bool row;
        int err = run_next(&s->run, &row);
        if (!err && !row) return 0;
        if (!err) err = collect(s, out, dropped, &enough);
        if (err) return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
        run_taken(&s->run);
    }
    return 0;
}

int join_scan(struct join_view *j, struct db_txn *txn, uint64_t at, size_t keep, struct sort_keys *out, bool *whole)
{
    struct scan s = {.keep = keep};
    bool dropped = false;
    assert(out->n == 0);
    int err = lazy_plan_for(&j->l, at);
    if (err) return err;
    s.plan = *j->l.plan;
    s.top = *j->l.plan->top;
    s.plan.top = &s.top;
    s.ordered = s.top.sorted && s.top.order_count > 0 && keep > 0 && keep < SIZE_MAX;
    s.top.limit.is = s.top.offset.is = false;
    s.top.sorted = true;
    err = run_open(&s.run, &s.plan, &(struct row_source){.r = j->l.v.r, .txn = txn, .at = at}, j->l.params);
    if (err) return err;
    buf_init(&s.edge, QUERY_SORT_MAX);
    buf_init(&s.key, QUERY_SORT_MAX);
    s.run.step_end_us = view_deadline(j->l.v.r->views.fill_us);
    err = run_begin_step(&s.run, txn, QUERY_SCAN_MAX);
    if (!err) err = collect_all(&s, out, &dropped);
    if (!err) sort_keys_finish(out, keep, &dropped);
    else sort_keys_free(out);
    run_close(&s.run);
    buf_free(&s.edge);
    buf_free(&s.key);
    *whole = !dropped;
    return err;
}
