// A query as it runs: rows as JSON, in pieces. Nothing of the transaction is held between two calls.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "query_run.h"
#include "show.h"

#define STEP_KEYS 8192 // looked at in one call, so that a long search does not hold up the owner
#define STEP_US 10000  // of work in one call, for rows may be large and expressions slow

int query_plan_for(struct rows *r, const struct query *q, uint64_t at, struct plan **plan, struct arena **arena, struct value **params,
                   struct problem *p)
{
    if (plan_holds(q->plan, r, at)) {
        *plan = plan_ref(q->plan);
        *params = q->params;
        return 0;
    }
    *arena = arena_new(2 * MIB);
    int err = *arena ? query_replan(r, q, at, plan, p) : ERR_NOMEM;
    return err ? err : query_bind(q, *plan, *arena, params, p);
}

int query_open_source(struct rows *r, struct db_txn *txn, struct query *q, const struct query_source *source, struct query_run **out,
                      struct problem *p)
{
    assert(r && txn && q && out);
    int old = rows_not_too_old(r, source->at, p);
    if (old) return old;
    struct query_run *run = calloc(1, sizeof *run);
    struct value *params = NULL;
    if (!run) return ERR_NOMEM;
    run->q = query_ref(q);
    buf_init(&run->text, QUERY_RESULT_MAX);
    const struct row_source src = {.r = r, .txn = txn, .at = source->at, .overlay = source->overlay, .reads = source->reads};
    int err = query_plan_for(r, q, source->at, &run->plan, &run->arena, &params, p);
    if (!err) err = run_open(&run->run, run->plan, &src, params);
    run->open = !err;
    run->keyed = q->live && query_keyed(q);
    if (!err && run->keyed) run_by_keys(&run->run);
    if (err) {
        query_close(run);
        return err;
    }
    *out = run;
    return 0;
}

int query_open(struct rows *r, struct db_txn *txn, struct query *q, uint64_t at, struct query_run **out, struct problem *p)
{
    return query_open_source(r, txn, q, &(struct query_source){.at = at}, out, p);
}

void query_close(struct query_run *run)
{
    if (!run) return;
    if (run->open) run_close(&run->run);
    buf_free(&run->text);
    plan_unref(run->plan);
    arena_free(run->arena);
    query_unref(run->q);
    free(run);
}

const struct problem *query_problem(const struct query_run *run)
{
    return &run->run.problem;
}

// ---- rows ----------------------------------------------------------------------------------------------------------

static int hand_over(struct query_run *run, struct feed_sink *sink)
{
    if (sink->emit_text) return sink->emit_text(sink, buf_span(&run->text));
    struct bytes *value = bytes_new(buf_span(&run->text));
    if (!value) return ERR_NOMEM;
    int err = sink->emit(sink, value);
    bytes_unref(value);
    return err;
}

static int emit(struct query_run *run, struct feed_sink *sink, size_t *sent)
{
    struct jw w;
    buf_clear(&run->text);
    jw_init(&w, &run->text);
    int err = run->keyed ? show_keyed(&w, &run->run) : show_targets(&w, &run->run, run->plan->top);
    if (err) return err;
    if (run->text.err) return run->text.err;
    if (run->emitted >= QUERY_ROWS_MAX) return ERR_RESULT_TOO_LARGE;
    err = hand_over(run, sink);
    if (err) return err;
    *sent += run->text.n;
    run->emitted++;
    run_taken(&run->run);
    return 0;
}

static int give_rows(struct query_run *run, size_t budget, struct feed_sink *sink, bool *done)
{
    size_t sent = 0;
    while (sent < budget) {
        bool row;
        int err = run_next(&run->run, &row);
        if (err) return err;
        *done = !row;
        if (!row) return 0;
        err = emit(run, sink, &sent);
        if (err) return err;
    }
    return 0;
}

// What was used up, in words where there is more to say than the error has.
static int check_bounds(struct query_run *run, int err)
{
    struct run *r = &run->run;
    if (err == EXEC_MORE && r->given == 0)
        return problem_set(&r->problem, ERR_QUERY_TOO_EXPENSIVE, -1, "the query looks at more than %d rows or keys", QUERY_SCAN_MAX);
    if (err == EXEC_MORE && run->spent_us > QUERY_MS_MAX * UINT64_C(1000))
        return problem_set(&r->problem, ERR_QUERY_TOO_EXPENSIVE, -1, "the query takes more than %d ms of work", QUERY_MS_MAX);
    return err == EXEC_MORE ? 0 : err;
}

int query_next(struct query_run *run, struct db_txn *txn, size_t budget, struct feed_sink *sink, bool *done)
{
    assert(run && txn && sink && done);
    uint64_t begin = clock_mono_us();
    *done = false;
    int err = rows_not_too_old(run->run.src.r, run->run.src.at, NULL); // it may have become so since the last piece
    if (err) return err;
    run->run.step_end_us = begin + STEP_US;
    err = run_begin_step(&run->run, txn, STEP_KEYS);
    if (!err) err = give_rows(run, budget > 0 ? budget : 1, sink, done);
    int held = run_end_step(&run->run); // always: nothing may be open in a transaction that ends
    if (held && (err == 0 || err == EXEC_MORE)) err = held;
    run->spent_us += clock_mono_us() - begin;
    return check_bounds(run, err);
}
