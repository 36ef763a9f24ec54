#include "live_difference.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "delta.h"
#include "err.h"
#include "query_run.h"
#include "show.h"
#include "view_diff.h"

#define ROWS_MAX 10000    // that may differ, of each table
#define COMMITS_MAX 16384 // looked through for them
#define BYTES_MAX (8 * MIB)

struct shown {
    bool was, is;
    uint64_t digest;  // of what it was
    struct span json; // what it is
};

struct difference {
    struct delta_sink sink; // first
    struct rows *r;
    struct db_txn *txn;
    struct query *q;
    const struct live_states *states;
    struct plan *plan; // that can answer for both states, and its parameters
    struct arena *bound;
    struct value *params;
    struct delta *delta;
    struct delta_rows touched;
    struct key_set keys;
    struct shown *shown; // by the number of its key
    size_t cap;
    struct arena *arena;
    struct buf text, key;
};

bool live_difference_tells(const struct query *q)
{
    return q->live != QUERY_GROUPED && !query_ordered(q) && !q->has_limit && q->offset == 0;
}

// ---- rows that may differ --------------------------------------------------------------------------------------------

static int add_stored(struct difference *d, uint32_t table)
{
    struct id_set ids = {.ids = NULL};
    uint64_t from = d->states->before.at, to = d->states->after.at, reached = to;
    int err = from == to ? 0 : touched_rows(d->r, d->txn, table, from, to, ROWS_MAX, COMMITS_MAX, &ids, &reached);
    if (!err && reached < to) err = ERR_QUERY_TOO_EXPENSIVE;
    for (size_t i = 0; i < ids.n && !err; i++)
        err = delta_rows_add_table(&d->touched, d->plan, table, ids.ids[i]);
    id_set_free(&ids);
    return err;
}

static int add_laid(struct difference *d, uint32_t table, const struct overlay *o)
{
    struct uuid id, after;
    int err = 0;
    for (const struct row *row = o->next(o->ctx, table, NULL, &id); row && !err; row = o->next(o->ctx, table, &after, &id)) {
        err = delta_rows_add_table(&d->touched, d->plan, table, id);
        after = id;
    }
    return err;
}

static int add_table(struct difference *d, uint32_t table)
{
    int err = add_stored(d, table);
    if (!err && d->states->laid) err = add_laid(d, table, d->states->before.overlay);
    return !err && d->states->laid ? add_laid(d, table, d->states->after.overlay) : err;
}

// A table once, in however many places it stands.
static int add_tables(struct difference *d)
{
    int err = 0;
    for (size_t slot = 0; slot < d->plan->table_slots && !err; slot++) {
        size_t same = 0;
        while (d->plan->tables[same] != d->plan->tables[slot])
            same++;
        if (same == slot) err = add_table(d, d->plan->tables[slot]);
    }
    return err;
}

// ---- what they make ------------------------------------------------------------------------------------------------

static int shown_of(struct difference *d, struct span key, struct shown **out)
{
    size_t number;
    int err = key_set_add(&d->keys, key, &number, NULL);
    if (err) return err == ERR_TOO_LARGE ? ERR_RESULT_TOO_LARGE : err;
    if (number >= d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 16;
        struct shown *shown = realloc(d->shown, cap * sizeof *shown);
        if (!shown) return ERR_NOMEM;
        memset(shown + d->cap, 0, (cap - d->cap) * sizeof *shown);
        d->shown = shown;
        d->cap = cap;
    }
    *out = &d->shown[number];
    return 0;
}

static int take(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run)
{
    struct difference *d = (struct difference *)sink;
    struct shown *shown;
    struct jw w;
    int err = shown_of(d, key, &shown);
    if (err) return err;
    buf_clear(&d->text);
    jw_init(&w, &d->text);
    err = show_targets(&w, run, d->plan->top);
    if (!err) err = d->text.err;
    if (err) return err;
    if (side == DELTA_BEFORE) {
        shown->was = true;
        shown->digest = checksum64(buf_span(&d->text), 0);
        return 0;
    }
    shown->is = true;
    if (arena_copy_span(d->arena, buf_span(&d->text), &shown->json)) return 0;
    return arena_full(d->arena) ? ERR_RESULT_TOO_LARGE : ERR_NOMEM;
}

static int look(struct difference *d, struct problem *p)
{
    const struct query_source *before = &d->states->before, *after = &d->states->after;
    struct delta_states states = {
        .before = {.r = d->r, .txn = d->txn, .at = before->at, .overlay = before->overlay},
        .after = {.r = d->r, .txn = d->txn, .at = after->at, .overlay = after->overlay},
    };
    size_t budget = LIVE_RESULT_SCAN_MAX;
    int err = query_plan_for(d->r, d->q, before->at, &d->plan, &d->bound, &d->params, p);
    if (!err) err = delta_share(d->r, d->plan, &d->delta, p);
    if (!err) err = add_tables(d);
    states.params = d->params;
    return err ? err : delta_run(d->delta, &states, &d->touched, &budget, &d->sink, p);
}

// ---- telling -------------------------------------------------------------------------------------------------------

static int emit(struct difference *d, size_t number, struct feed_sink *sink)
{
    const struct shown *shown = &d->shown[number];
    const struct view_op op = {.kind = !shown->is ? VIEW_REMOVED : shown->was ? VIEW_CHANGED : VIEW_ADDED};
    struct jw w;
    if (shown->was && shown->is && shown->digest == checksum64(shown->json, 0)) return 0;
    buf_clear(&d->text);
    buf_clear(&d->key);
    run_key_text(d->plan->top, key_set_at(&d->keys, number), &d->key);
    jw_init(&w, &d->text);
    view_op_begin(&w, &op, buf_span(&d->key));
    if (shown->is) jw_raw(&w, shown->json);
    view_op_end(&w, &op, query_keyed(d->q) ? buf_span(&d->key) : SPAN_NONE, false);
    if (d->key.err || d->text.err) return d->key.err ? d->key.err : d->text.err;
    struct bytes *value = bytes_new(buf_span(&d->text));
    int err = value ? sink->emit(sink, value) : ERR_NOMEM;
    bytes_unref(value);
    return err;
}

int live_difference(struct rows *r, struct db_txn *txn, struct query *q, const struct live_states *states, struct feed_sink *sink)
{
    struct difference d = {.sink = {.row = take}, .r = r, .txn = txn, .q = q, .states = states, .arena = arena_new(BYTES_MAX)};
    assert(live_difference_tells(q) && states->before.at <= states->after.at);
    key_set_init(&d.keys, QUERY_MEMORY_MAX);
    buf_init(&d.text, QUERY_RESULT_MAX);
    buf_init(&d.key, KIB);
    int err = d.arena ? look(&d, NULL) : ERR_NOMEM;
    for (size_t i = 0; i < d.keys.n && !err; i++)
        err = emit(&d, i, sink);
    delta_free(d.delta);
    delta_rows_free(&d.touched);
    plan_unref(d.plan);
    arena_free(d.bound);
    arena_free(d.arena);
    key_set_free(&d.keys);
    free(d.shown);
    buf_free(&d.text);
    buf_free(&d.key);
    return err;
}
