#include <assert.h>
#include <stdlib.h>

#include "delta_impl.h"
#include "err.h"
#include "file.h"

#define ARENA_MAX (2 * MIB) // of a text taken apart
#define ID_BYTES sizeof(struct uuid)
#define CLOCK_ROWS 64 // touched ones, between two looks at it

// ---- rows that were touched ----------------------------------------------------------------------------------------

int delta_rows_add(struct delta_rows *rows, uint32_t slot, struct uuid id)
{
    if (rows->n == rows->cap) {
        size_t cap = rows->cap ? rows->cap * 2 : 16;
        struct delta_row *all = realloc(rows->rows, cap * sizeof *all);
        if (!all) return ERR_NOMEM;
        rows->rows = all;
        rows->cap = cap;
    }
    rows->rows[rows->n++] = (struct delta_row){.slot = slot, .id = id};
    return 0;
}

int delta_rows_add_table(struct delta_rows *rows, const struct plan *plan, uint32_t table, struct uuid id)
{
    int err = 0;
    for (uint32_t i = 0; i < plan->table_slots && !err; i++)
        if (plan->tables[i] == table) err = delta_rows_add(rows, i, id);
    return err;
}

void delta_rows_free(struct delta_rows *rows)
{
    free(rows->rows);
    *rows = (struct delta_rows){.rows = NULL};
}

static int compare_rows(const void *x, const void *y)
{
    const struct delta_row *a = x, *b = y;
    return a->slot != b->slot ? (a->slot < b->slot ? -1 : 1) : uuid_compare(a->id, b->id);
}

static void sort_rows(struct delta_rows *rows)
{
    size_t n = 0;
    if (rows->n > 1) qsort(rows->rows, rows->n, sizeof *rows->rows, compare_rows);
    for (size_t i = 0; i < rows->n; i++) {
        if (n == 0 || compare_rows(&rows->rows[n - 1], &rows->rows[i]) != 0) rows->rows[n++] = rows->rows[i];
    }
    rows->n = n;
}

// ---- a select's difference -----------------------------------------------------------------------------------------

int delta_new(struct rows *r, struct plan *plan, struct delta **out, struct problem *p)
{
    struct delta *d = calloc(1, sizeof *d);
    if (!d) return ERR_NOMEM;
    d->refs = 1;
    d->r = r;
    d->plan = plan_ref(plan);
    d->arena = arena_new(ARENA_MAX);
    d->exprs = arena_new(DELTA_EXPRS_MAX);
    int err = d->arena && d->exprs ? delta_take_apart(d) : ERR_NOMEM;
    if (!err) err = delta_check_tables(d, p);
    if (err) {
        delta_free(d);
        return err;
    }
    *out = d;
    return 0;
}

// Queries that are asked for often are met among the last ones; one that is not is made a second time, which is no harm.
#define LOOK_BACK 64

int delta_share(struct rows *r, struct plan *plan, struct delta **out, struct problem *p)
{
    size_t n = 0;
    for (struct delta *d = r->views.deltas; d && n < LOOK_BACK; d = d->next, n++) {
        if (d->plan != plan) continue;
        d->refs++;
        *out = d;
        return 0;
    }
    int err = delta_new(r, plan, out, p);
    if (err) return err;
    struct delta *d = *out;
    d->next = r->views.deltas;
    d->link = &r->views.deltas;
    if (d->next) d->next->link = &d->next;
    r->views.deltas = d;
    return 0;
}

void delta_free(struct delta *d)
{
    if (!d || --d->refs > 0) return;
    if (d->link) *d->link = d->next;
    if (d->link && d->next) d->next->link = d->link;
    if (d->exprs) delta_plans_settle(d, true);
    arena_free(d->exprs);
    arena_free(d->arena);
    plan_unref(d->plan);
    free(d);
}

const struct plan *delta_plan(const struct delta *d)
{
    return d->plan;
}

bool delta_reads(const struct delta *d, uint32_t slot)
{
    return d->slots[slot].place != NO_PLACE;
}

bool delta_reads_text(const struct delta *d, uint32_t slot)
{
    return d->slots[slot].text;
}

bool delta_concerns(const struct delta *d, uint32_t slot, const struct row *old, const struct row *new)
{
    const struct delta_slot *s = &d->slots[slot];
    assert(slot < d->plan->table_slots);
    if (!delta_reads(d, slot)) return false;
    if (row_live(old) != row_live(new)) return true;
    if (!row_live(new) || s->stream) return row_live(new);
    const struct table *t = schema_table_no(d->r->schema, d->plan->tables[slot]);
    for (size_t i = 0; i < new->count; i++) {
        bool used = s->used[i / 64] >> (i % 64) & 1;
        if (used && !value_equal(&t->columns[i].type, &old->cells[i].v, &new->cells[i].v)) return true;
    }
    return false;
}

void delta_conditions(const struct delta *d, uint32_t slot, struct expr *const **conditions, size_t *count)
{
    assert(slot < d->plan->table_slots);
    *conditions = d->slots[slot].conditions;
    *count = d->slots[slot].condition_count;
}

// ---- keys ----------------------------------------------------------------------------------------------------------

void delta_key(const struct plan *plan, const struct run *run, struct buf *out)
{
    run_rows_key(run, plan->top->own, out);
}

// ---- one state at a time -------------------------------------------------------------------------------------------

struct work {
    struct delta *d;
    const struct row_source *state; // the one at hand
    uint64_t at;                    // the plans' indexes can answer from this seq on
    struct value *params;           // the caller's, and behind them the ids that tables are held to
    struct run *runs[EXPR_TABLES_MAX + 1]; // in this state, by slot; then that of the whole core
    size_t *budget;
    uint64_t end_us;
    size_t asked;
    enum delta_side side;
    struct delta_sink *sink;
    struct problem *p;
    struct key_set core; // those whose joined rows are looked at: ids
    struct key_set seen; // joined rows that the sink was given of this state
    struct buf key;
    struct row_space before, after;
};

static int work_open(struct delta *d, const struct value *params, size_t *budget, struct delta_sink *sink, struct problem *p, struct work **out)
{
    size_t n = d->plan->param_count;
    struct work *w = calloc(1, sizeof *w);
    if (!w) return ERR_NOMEM;
    *w = (struct work){.d = d, .budget = budget, .sink = sink, .p = p, .params = calloc(n + QUERY_TABLES_MAX, sizeof *w->params)};
    if (!w->params) {
        free(w);
        return ERR_NOMEM;
    }
    if (n > 0) memcpy(w->params, params, n * sizeof *params);
    buf_init(&w->key, QUERY_TABLES_MAX * (ID_BYTES + 1));
    key_set_init(&w->core, QUERY_MEMORY_MAX);
    key_set_init(&w->seen, QUERY_MEMORY_MAX);
    *out = w;
    return 0;
}

static void leave_state(struct work *w)
{
    for (size_t i = 0; i < sizeof w->runs / sizeof *w->runs; i++) {
        if (!w->runs[i]) continue;
        run_close(w->runs[i]);
        free(w->runs[i]);
        w->runs[i] = NULL;
    }
    key_set_free(&w->seen);
}

static void work_close(struct work *w)
{
    leave_state(w);
    key_set_free(&w->core);
    buf_free(&w->key);
    free(w->params);
    free(w);
}

static int run_of(struct work *w, uint32_t slot, struct run **out)
{
    const struct plan *plan;
    struct row_source src = *w->state;
    if (!w->runs[slot]) {
        int err = delta_pinned(w->d, slot, w->at, &plan, w->p);
        if (err) return err;
        struct run *run = malloc(sizeof *run);
        if (!run) return ERR_NOMEM;
        src.reads = NULL;
        err = run_open(run, plan, &src, w->params);
        if (err) {
            free(run);
            return err;
        }
        run->step_end_us = w->end_us;
        w->runs[slot] = run;
    }
    *out = w->runs[slot];
    return 0;
}

typedef int row_fn(struct work *w, struct run *run);

static int each_row(struct work *w, struct run *run, row_fn *fn)
{
    bool row;
    int err = run_next(run, &row);
    while (!err && row) {
        err = fn(w, run);
        if (err) break;
        run_taken(run);
        err = run_next(run, &row);
    }
    return err;
}

static int too_expensive(struct work *w)
{
    return problem_set(w->p, ERR_QUERY_TOO_EXPENSIVE, -1, "more rows would have to be looked at than a live query may");
}

// A run watches the clock itself; there may be very many short ones.
static bool is_late(const struct work *w, size_t n)
{
    return n % CLOCK_ROWS == CLOCK_ROWS - 1 && w->end_us > 0 && clock_mono_us() > w->end_us;
}

// All rows of a pinned plan in this state; the ids that it is held to are among the parameters.
static int ask(struct work *w, uint32_t slot, row_fn *fn)
{
    struct run *run;
    if (is_late(w, w->asked++)) return too_expensive(w);
    int err = run_of(w, slot, &run);
    if (err) return err;
    exec_reset(run->top);
    err = run_begin_step(run, w->state->txn, *w->budget);
    if (!err) err = each_row(w, run, fn);
    *w->budget -= run->given - run->budget;
    if (err == EXEC_MORE) return too_expensive(w);
    if (err && run->problem.err && w->p) *w->p = run->problem;
    return err;
}

static void hold_to(struct work *w, size_t i, struct uuid id)
{
    w->params[w->d->plan->param_count + i] = (struct value){.u = id};
}

static int given(struct work *w, struct run *run)
{
    bool new;
    buf_clear(&w->key);
    delta_key(w->d->plan, run, &w->key);
    int err = w->key.err ? w->key.err : key_set_add(&w->seen, buf_span(&w->key), NULL, &new);
    if (err == ERR_TOO_LARGE || w->seen.n > QUERY_ROWS_MAX) return too_expensive(w);
    if (err || !new) return err;
    return w->sink->row(w->sink, w->side, buf_span(&w->key), run);
}

static int concerned(struct work *w, struct run *run)
{
    buf_clear(&w->key);
    for (size_t i = 0; i < w->d->core_count; i++)
        buf_put(&w->key, run->rows[w->d->core[i]].id.b, ID_BYTES);
    int err = w->key.err ? w->key.err : key_set_add(&w->core, buf_span(&w->key), NULL, NULL);
    return err == ERR_TOO_LARGE || w->core.n > QUERY_ROWS_MAX ? too_expensive(w) : err;
}

static int ask_rows(struct work *w, const struct delta_rows *rows, bool of_core, row_fn *fn)
{
    int err = 0;
    for (size_t i = 0; i < rows->n && !err; i++) {
        if (delta_is_core(w->d, rows->rows[i].slot) != of_core) continue;
        hold_to(w, 0, rows->rows[i].id);
        err = ask(w, rows->rows[i].slot, fn);
    }
    return err;
}

static int ask_core(struct work *w, struct span ids, row_fn *fn)
{
    for (size_t i = 0; i < w->d->core_count; i++) {
        struct uuid id;
        memcpy(id.b, ids.p + i * ID_BYTES, ID_BYTES);
        hold_to(w, i, id);
    }
    return ask(w, DELTA_WHOLE, fn);
}

// ---- the difference ------------------------------------------------------------------------------------------------

static int is_concerned(struct work *w, const struct delta_states *states, const struct delta_row *row, bool *is)
{
    const struct table *t = schema_table_no(w->d->r->schema, w->d->plan->tables[row->slot]);
    struct row_source before = states->before, after = states->after;
    if (*w->budget < 2) return too_expensive(w);
    *w->budget -= 2;
    before.reads = after.reads = NULL;
    int err = source_row(&before, t, row->id, &w->before);
    if (!err) err = source_row(&after, t, row->id, &w->after);
    if (err) return err;
    *is = delta_concerns(w->d, row->slot, &w->before.row, &w->after.row);
    return 0;
}

static int pass_over(struct work *w, const struct delta_states *states, struct delta_rows *rows)
{
    size_t n = 0;
    for (size_t i = 0; i < rows->n; i++) {
        bool is = false;
        int err = is_late(w, i) ? too_expensive(w) : 0;
        if (!err) err = is_concerned(w, states, &rows->rows[i], &is);
        if (err) return err;
        if (is) rows->rows[n++] = rows->rows[i];
    }
    rows->n = n;
    return 0;
}

static int state_rows(struct work *w, const struct delta_rows *rows)
{
    int err = ask_rows(w, rows, true, given);
    for (size_t i = 0; i < w->core.n && !err; i++)
        err = ask_core(w, key_set_at(&w->core, i), given);
    return err;
}

// Which rows of the core are concerned is asked of both states before either tells its joined rows: what one of them alone knows of counts for both.
static int difference(struct work *w, const struct delta_states *states, struct delta_rows *rows)
{
    const struct row_source *of[] = {[DELTA_BEFORE] = &states->before, [DELTA_AFTER] = &states->after};
    int err = pass_over(w, states, rows);
    for (size_t i = DELTA_BEFORE; i <= DELTA_AFTER && rows->n > 0 && !err; i++) {
        w->state = of[i];
        err = ask_rows(w, rows, false, concerned);
        leave_state(w);
    }
    for (size_t i = DELTA_BEFORE; i <= DELTA_AFTER && rows->n > 0 && !err; i++) {
        w->state = of[i];
        w->side = (enum delta_side)i;
        err = state_rows(w, rows);
        leave_state(w);
    }
    return err;
}

int delta_run(struct delta *d, const struct delta_states *states, struct delta_rows *rows, size_t *budget, struct delta_sink *sink,
              struct problem *p)
{
    struct work *w;
    assert(d && states && rows && budget && sink);
    uint64_t at = states->before.at < states->after.at ? states->before.at : states->after.at;
    if (!plan_holds(d->plan, d->r, at)) return ERR_CANCELED;
    sort_rows(rows);
    if (rows->n == 0) return 0;
    delta_plans_settle(d, false);
    int err = work_open(d, states->params, budget, sink, p, &w);
    if (err) return err;
    w->at = at;
    w->end_us = states->end_us;
    err = difference(w, states, rows);
    work_close(w);
    return err;
}

// ---- one joined row ------------------------------------------------------------------------------------------------

struct wanted {
    struct delta_sink sink; // first
    struct delta_sink *to;
    struct span key;
    bool stands;
};

static int take_wanted(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run)
{
    struct wanted *wanted = (struct wanted *)sink;
    if (!span_equal(key, wanted->key)) return 0;
    wanted->stands = true;
    return wanted->to->row(wanted->to, side, key, run);
}

int delta_look_up(struct delta *d, const struct row_source *state, const struct value *params, struct span key, size_t *budget,
                  struct delta_sink *sink, bool *stands, struct problem *p)
{
    struct wanted wanted = {.sink = {.row = take_wanted}, .to = sink, .key = key};
    struct work *w;
    struct cur c;
    if (!plan_holds(d->plan, d->r, state->at)) return ERR_CANCELED;
    int err = work_open(d, params, budget, &wanted.sink, p, &w);
    if (err) return err;
    w->state = state;
    w->at = state->at;
    w->side = DELTA_AFTER;
    cur_init(&c, key);
    for (uint32_t i = 0, n = 0; i < d->plan->table_slots; i++) {
        if (!(d->plan->top->own >> i & 1) || cur_u8(&c) == 0) continue;
        struct uuid id;
        memcpy(id.b, cur_span(&c, ID_BYTES).p, ID_BYTES);
        if (delta_is_core(d, i)) hold_to(w, n++, id);
    }
    assert(!c.err && cur_left(&c) == 0);
    err = ask(w, DELTA_WHOLE, given);
    if (!err && stands) *stands = wanted.stands;
    work_close(w);
    return err;
}
