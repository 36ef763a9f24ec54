// A run as a whole: its memory, its steps, its bounds.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "exec.h"
#include "limits.h"
#include "utf8.h"

#define SCRATCH_MAX (8 * MIB) // of the texts that one expression makes

// How much of it is text, whose last character may not have come in whole: whoever appends bytes as they arrive cuts them anywhere.
static size_t whole_text(struct span s)
{
    size_t n = utf8_valid_prefix(s);
    if (n == s.n) return n;
    const uint8_t *p = s.p + n;
    size_t left = s.n - n, needs = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    for (size_t i = 1; i < left && i < needs; i++)
        if ((p[i] & 0xc0) != 0x80) return s.n;
    return left < needs ? n : s.n;
}

static int stream_text(struct expr_env *env, const struct expr *column, struct span *out)
{
    struct run *run = env->ctx;
    const struct rows_host *host = run->src.r->host;
    const struct table *t = schema_table_no(run->src.r->schema, run->plan->tables[column->slot]);
    struct buf path, text;
    if (!host->stream_text) return problem_set(env->p, ERR_UNSUPPORTED_SQL, column->position, "stream_text is not supported here");
    buf_init(&path, STREAM_PATH_MAX);
    buf_init(&text, QUERY_STREAM_TEXT_MAX);
    rows_stream_path(&path, t->name, env->rows[column->slot].id, t->columns[column->column].name);
    int err = path.err ? path.err : host->stream_text(host->ctx, run->src.txn, buf_span(&path), run->src.at, &text);
    if (!err) err = text.err;
    if (!err) buf_truncate(&text, whole_text(buf_span(&text)));
    if (!err && (!utf8_valid(buf_span(&text)) || (text.n > 0 && memchr(text.p, 0, text.n))))
        err = problem_set(env->p, ERR_BAD_VALUE, column->position, "a stream's bytes are no text");
    if (!err && !arena_copy_span(env->scratch, buf_span(&text), out)) err = ERR_TOO_LARGE;
    if (err == ERR_TOO_LARGE)
        err = problem_set(env->p, err, column->position, "a stream's text is longer than %u bytes", QUERY_STREAM_TEXT_MAX);
    buf_free(&path);
    buf_free(&text);
    return err;
}

int run_open(struct run *run, const struct plan *plan, const struct row_source *src, const struct value *params)
{
    *run = (struct run){.plan = plan, .src = *src, .params = (struct value *)params, .problem = PROBLEM_NONE};
    run->rows = calloc(plan->table_slots, sizeof *run->rows);
    run->stats = calloc(plan->table_slots, sizeof *run->stats);
    run->slots = calloc(plan->value_slots + 1, sizeof *run->slots);
    run->scratch = arena_new(SCRATCH_MAX);
    run->env = (struct expr_env){.rows = run->rows,
                                 .params = params,
                                 .slots = run->slots,
                                 .scratch = run->scratch,
                                 .p = &run->problem,
                                 .sub = sub_value,
                                 .stream_text = stream_text,
                                 .ctx = run};
    int err = run->rows && run->stats && run->slots && run->scratch ? subs_new(run) : ERR_NOMEM;
    if (!err) err = exec_new(run, plan->top, &run->top);
    if (err) run_close(run);
    return err;
}

void run_close(struct run *run)
{
    exec_free(run->top);
    subs_free(run);
    arena_free(run->scratch);
    free(run->rows);
    free(run->stats);
    free(run->slots);
    run->top = NULL;
    run->scratch = NULL;
    run->rows = NULL;
    run->stats = NULL;
    run->slots = NULL;
}

void run_by_keys(struct run *run)
{
    exec_by_keys(run->top);
}

int run_next(struct run *run, bool *row)
{
    return exec_next(run->top, row);
}

void run_taken(struct run *run)
{
    exec_taken(run->top);
}

int run_hold(struct run *run, size_t before, size_t now)
{
    assert(run->bytes >= before);
    run->bytes += now - before;
    if (now <= before || run->bytes <= QUERY_MEMORY_MAX) return 0;
    return problem_set(&run->problem, ERR_QUERY_TOO_EXPENSIVE, -1, "the query holds more than %u bytes of groups, sets and arrays",
                       QUERY_MEMORY_MAX);
}

int run_begin_step(struct run *run, struct db_txn *txn, size_t budget)
{
    uint64_t left = QUERY_SCAN_MAX - run->looked_at;
    run->src.txn = txn;
    run->budget = budget < left ? budget : (size_t)left;
    run->given = run->budget;
    int err = run->suspended ? exec_resume(run->top) : 0;
    if (!err && run->suspended) err = subs_resume(run);
    run->suspended = false;
    return err;
}

int run_end_step(struct run *run)
{
    run->looked_at += run->given - run->budget;
    run->suspended = true;
    int err = exec_suspend(run->top);
    return err ? err : subs_suspend(run);
}
