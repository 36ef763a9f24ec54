// Queries that views keep current: which kind of view a query needs, and trying one row of one table against it.
#include <assert.h>

#include "err.h"
#include "expr.h"
#include "query_live.h"

struct live {
    struct query *q;
    const struct select *s;
    struct problem *p;
};

// ---- what is read besides rows -------------------------------------------------------------------------------------

// A stream's bytes come without any commit that names its row, so views of such queries are told of them apart. Selects within are the plan's, and asked there.
static bool reads_text(const struct expr *e)
{
    bool reads = e && e->kind == EX_CALL && e->op == CALL_STREAM_TEXT;
    for (size_t i = 0; e && i < e->count && !reads; i++)
        reads = reads_text(e->args[i]);
    return reads;
}

static bool any_reads_text(struct expr *const *exprs, size_t n)
{
    bool reads = false;
    for (size_t i = 0; i < n && !reads; i++)
        reads = reads_text(exprs[i]);
    return reads;
}

// Does the text say which rows there are, or where they stand, and not only what they show?
static bool text_decides(const struct select *s)
{
    bool reads = any_reads_text(s->where, s->where_count) || any_reads_text(s->group, s->group_count) || reads_text(s->having);
    for (size_t i = 0; i < s->level_count && !reads; i++)
        reads = any_reads_text(s->levels[i].on, s->levels[i].on_count);
    for (size_t i = 0; i < s->aggregate_count && !reads; i++)
        reads = reads_text(s->aggregates[i].arg);
    for (size_t i = 0; i < s->order_count && !reads; i++)
        reads = reads_text(s->order[i].expr);
    return reads;
}

static bool targets_read_text(const struct select *s)
{
    bool reads = false;
    for (size_t i = 0; i < s->target_count && !reads; i++)
        reads = reads_text(s->targets[i].expr);
    return reads;
}

static void take_texts(struct query *q)
{
    const struct plan *plan = q->plan;
    bool shown = targets_read_text(plan->top);
    q->texts_decide = text_decides(plan->top) || (shown && (plan->top->grouped || plan->top->distinct));
    for (size_t i = 0; i < plan->sub_count && !q->texts_decide; i++)
        q->texts_decide = text_decides(plan->subs[i]->select) || targets_read_text(plan->subs[i]->select);
    q->texts = shown || q->texts_decide;
}

// A stream says of itself where it stands, but it is not what makes rows distinct.
static int check_distinct(const struct live *l)
{
    for (size_t i = 0; l->s->distinct && i < l->s->target_count; i++)
        if (l->s->targets[i].expr->type.kind == COL_STREAM)
            return problem_set(l->p, ERR_UNSUPPORTED_SQL, l->s->targets[i].expr->position, "DISTINCT with a stream is not supported in a live query");
    return 0;
}

// ---- limits --------------------------------------------------------------------------------------------------------

static int take_count(const struct live *l, const struct select_count *count, const char *name, int64_t *n)
{
    *n = -1;
    if (!count->is || (count->param >= 0 && l->q->params[count->param].null)) return 0;
    *n = count->param >= 0 ? l->q->params[count->param].i : (int64_t)count->n;
    return *n < 0 ? problem_set(l->p, ERR_BAD_VALUE, count->position, "%s is not negative", name) : 0;
}

static int take_limits(struct live *l)
{
    int64_t limit, offset;
    int err = take_count(l, &l->s->limit, "a limit", &limit);
    if (!err) err = take_count(l, &l->s->offset, "an offset", &offset);
    if (err) return err;
    if (offset > QUERY_ROWS_MAX)
        return problem_set(l->p, ERR_UNSUPPORTED_SQL, l->s->offset.position, "a live query passes over %d rows at most", QUERY_ROWS_MAX);
    // A result is bounded anyway; a limit beyond that bound says nothing.
    l->q->has_limit = limit >= 0 && limit <= QUERY_ROWS_MAX;
    l->q->limit = l->q->has_limit ? (uint32_t)limit : 0;
    l->q->offset = offset > 0 ? (uint32_t)offset : 0;
    return 0;
}

// ---- kinds ---------------------------------------------------------------------------------------------------------

static enum query_live kind_of(const struct query *q)
{
    const struct select *s = q->plan->top;
    if (s->grouped || s->distinct) return QUERY_GROUPED;
    return s->level_count > 1 || q->plan->sub_count > 0 || q->texts ? QUERY_JOINED : QUERY_TABLE;
}

int query_make_live(struct query *q, struct problem *p)
{
    struct live l = {.q = q, .s = q->plan->top, .p = p};
    if (q->live) return 0;
    take_texts(q);
    enum query_live kind = kind_of(q);
    if (kind == QUERY_TABLE) q->table = l.s->levels[0].table;
    int err = check_distinct(&l);
    if (!err) err = take_limits(&l);
    if (!err) err = query_canonicalize(q, p);
    q->live = err ? QUERY_NOT_LIVE : kind;
    return err;
}

// ---- rows of one table ---------------------------------------------------------------------------------------------

void query_row_open(struct query_row *at, const struct query *q, struct arena *scratch, struct uuid id, const struct row *row)
{
    assert(q->plan->top->levels[0].slot == 0); // the only one
    at->row = (struct expr_row){.id = id, .row = row};
    at->env = (struct expr_env){.rows = &at->row, .params = q->params, .scratch = scratch};
}

int query_row_matches(struct query_row *at, const struct query *q, bool *matches)
{
    const struct select *s = q->plan->top;
    *matches = false;
    if (!row_live(at->row.row)) return 0;
    for (size_t i = 0; i < s->where_count; i++) {
        struct value v;
        int err = expr_eval(s->where[i], &at->env, &v);
        if (err) return err;
        if (v.null || !v.b) return 0;
    }
    *matches = true;
    return 0;
}

int query_row_key(struct query_row *at, const struct query *q, struct buf *out)
{
    const struct select *s = q->plan->top;
    for (size_t i = 0; i < s->order_count; i++) {
        const struct order_term *o = &s->order[i];
        struct value v;
        int err = expr_eval(o->expr, &at->env, &v);
        if (err) return err;
        value_order_key(out, &o->expr->type, &v, o->desc, o->nulls_first);
    }
    buf_put(out, at->row.id.b, sizeof at->row.id.b);
    return out->err;
}
