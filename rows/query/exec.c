#include "exec.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"

#define CLOCK_ROWS 16 // between two looks at it

enum stage {
    LEVEL_CLOSED,
    LEVEL_NEXT,   // its next row is to be looked for
    LEVEL_ON,     // it has one that may not fit
    LEVEL_FILTER, // it has one that fits
};

struct level_state {
    enum stage stage;
    struct ranges ranges;
    struct cursor cursor;
    bool cursor_open, point_done;
    bool matched; // of a left join: some row fitted
    bool has_row, held;
    struct row_space *room;
    struct buf copy; // of the row's spans, where a step has ended
};

struct exec {
    struct run *run;
    const struct select *s;
    struct level_state *levels;
    size_t depth;
    bool started, sort, by_keys;
    uint64_t limit, offset;
    struct groups *groups;
    size_t group_at, group; // the next one to be looked at; the one at hand
    struct key_set distinct;
    struct sort_keys keys;
    size_t key_at;
    // Of rows that come in order, and are sorted only because equal ones do not: what the last one that must be kept is ordered by. No row beyond that is shown.
    size_t collected;
    struct buf edge;
    uint64_t passed, given;
    // What is at hand, and waits for what an expression needs.
    bool joined;  // a joined row, to be grouped
    bool shown;   // a row or a group, not judged yet
    bool kept;    // one that is part of the result, not put in its order yet
    bool pending; // one that the caller has not taken
    bool gathered, sorted, over;
};

const struct select *exec_select(const struct exec *x)
{
    return x->s;
}

struct span exec_group_key(const struct exec *x)
{
    assert(x->groups);
    return groups_key(x->groups, x->group);
}

// ---- expressions ---------------------------------------------------------------------------------------------------

int run_eval(struct run *run, const struct expr *e, struct value *out)
{
    for (;;) {
        arena_clear(run->scratch);
        int err = expr_eval(e, &run->env, out);
        if (err != EXPR_NEEDS) return err;
        err = sub_advance(run, run->needed);
        if (err) return err;
    }
}

static int all_hold(struct run *run, struct expr *const *conditions, size_t count, bool *hold)
{
    *hold = true;
    for (size_t i = 0; i < count && *hold; i++) {
        struct value v;
        int err = run_eval(run, conditions[i], &v);
        if (err) return err;
        *hold = !v.null && v.b;
    }
    return 0;
}

// ---- levels --------------------------------------------------------------------------------------------------------

static const struct table *table_of(const struct exec *x, size_t i)
{
    return schema_table_no(x->run->src.r->schema, x->s->levels[i].table);
}

static const struct index *index_of(const struct exec *x, size_t i)
{
    uint32_t no = x->s->levels[i].access.index;
    return no == 0 ? NULL : table_index(table_of(x, i), no);
}

static void set_row(struct exec *x, size_t i, struct uuid id, const struct row *row)
{
    uint32_t slot = x->s->levels[i].slot;
    x->run->rows[slot] = (struct expr_row){.id = id, .row = row};
    x->levels[i].has_row = row != NULL;
    x->levels[i].held = false;
    run_forget(x->run, UINT64_C(1) << slot);
}

// Copies what the row's cells point to, so that it outlives the transaction.
static int hold_row(const struct table *t, struct level_state *l)
{
    struct row *row = &l->room->row;
    size_t bytes = 0, at = 0;
    if (row->cells != l->room->cells) {
        memcpy(l->room->cells, row->cells, row->count * sizeof *row->cells);
        row->cells = l->room->cells;
    }
    for (size_t i = 0; i < row->count; i++)
        if (!row->cells[i].v.null && type_is_span(&t->columns[i].type)) bytes += row->cells[i].v.s.n;
    struct buf copy;
    buf_init(&copy, ROW_BYTES_MAX * 4);
    uint8_t *p = buf_reserve(&copy, bytes);
    for (size_t i = 0; p && i < row->count; i++) {
        struct span *s = &row->cells[i].v.s;
        if (row->cells[i].v.null || !type_is_span(&t->columns[i].type)) continue;
        if (s->n > 0) memcpy(p + at, s->p, s->n);
        *s = SPAN(p + at, s->n);
        at += s->n;
    }
    buf_free(&l->copy);
    l->copy = copy;
    return copy.err;
}

// A version that is over lies in a room which rows read for other tables take: it is copied at once.
static int met_row(struct exec *x, size_t i, struct uuid id)
{
    struct level_state *l = &x->levels[i];
    int err = l->room->unpacked ? hold_row(table_of(x, i), l) : 0;
    if (err) return err;
    set_row(x, i, id, &l->room->row);
    l->held = l->room->unpacked;
    return 0;
}

static void level_close(struct exec *x, size_t i)
{
    struct level_state *l = &x->levels[i];
    if (l->cursor_open) cursor_close(&l->cursor, &x->run->src);
    l->cursor_open = l->point_done = l->matched = l->has_row = l->held = false;
    ranges_free(&l->ranges);
    l->stage = LEVEL_CLOSED;
}

static int level_open(struct exec *x, size_t i)
{
    struct level_state *l = &x->levels[i];
    const struct level *level = &x->s->levels[i];
    if (!l->room) l->room = malloc(sizeof *l->room);
    if (!l->room) return ERR_NOMEM;
    int err = ranges_begin(&l->ranges, x->run, level, table_of(x, i), index_of(x, i));
    if (err) return err;
    x->run->stats[level->slot].opened++;
    l->stage = LEVEL_NEXT;
    return 0;
}

static int point_row(struct exec *x, size_t i, bool *found)
{
    struct run *run = x->run;
    struct level_state *l = &x->levels[i];
    struct uuid id;
    *found = false;
    if (l->point_done || l->ranges.empty) return 0;
    if (run->budget == 0) return EXEC_MORE;
    run->budget--;
    run->stats[x->s->levels[i].slot].looked_at++;
    l->point_done = true;
    assert(l->ranges.prefix.n == sizeof id.b);
    memcpy(id.b, l->ranges.prefix.p, sizeof id.b);
    int err = source_row(&run->src, table_of(x, i), id, l->room);
    *found = !err && row_live(&l->room->row);
    return *found ? met_row(x, i, id) : err;
}

static int next_range(struct exec *x, size_t i, bool *more)
{
    struct level_state *l = &x->levels[i];
    const struct access *a = &x->s->levels[i].access;
    struct cursor *c = &l->cursor;
    buf_init(&c->from, INDEX_KEY_MAX * 4);
    buf_init(&c->to, INDEX_KEY_MAX * 4);
    int err = ranges_next(&l->ranges, x->run, &x->s->levels[i], table_of(x, i), index_of(x, i), &c->from, &c->to, more);
    if (!err && *more) err = cursor_open(c, &x->run->src, table_of(x, i), index_of(x, i), a->desc, a->runs);
    l->cursor_open = !err && *more;
    if (l->cursor_open) return 0;
    buf_free(&c->from);
    buf_free(&c->to);
    *c = (struct cursor){.t = NULL};
    return err;
}

static int range_row(struct exec *x, size_t i, bool *found)
{
    struct run *run = x->run;
    struct level_state *l = &x->levels[i];
    struct level_stats *stats = &run->stats[x->s->levels[i].slot];
    for (;;) {
        bool more = true;
        struct uuid id;
        int err = l->cursor_open ? 0 : next_range(x, i, &more);
        *found = false;
        if (err || !more) return err;
        size_t before = run->budget;
        err = cursor_next(&l->cursor, &run->src, &run->budget, &id, l->room);
        stats->looked_at += before - run->budget;
        if (err) return err;
        *found = !l->cursor.done;
        if (*found) return met_row(x, i, id);
        cursor_close(&l->cursor, &run->src);
        l->cursor_open = false;
    }
}

// Rows may be large and expressions slow: a step that has taken its time ends before its keys are used up.
static void watch_clock(struct run *run)
{
    if (++run->met % CLOCK_ROWS != 0 || run->step_end_us == 0 || run->budget == run->given || clock_mono_us() < run->step_end_us) return;
    run->given -= run->budget;
    run->budget = 0;
}

static int next_row(struct exec *x, size_t i, bool *found)
{
    watch_clock(x->run);
    struct level_state *l = &x->levels[i];
    const struct level *level = &x->s->levels[i];
    int err = level->access.kind == ACCESS_POINT ? point_row(x, i, found) : range_row(x, i, found);
    if (err || *found) {
        if (!err) l->stage = level->left ? LEVEL_ON : LEVEL_FILTER;
        return err;
    }
    if (!level->left || l->matched) return 0;
    set_row(x, i, (struct uuid){.b = {0}}, NULL);
    l->matched = *found = true;
    l->stage = LEVEL_FILTER;
    return 0;
}

// ---- joined rows ---------------------------------------------------------------------------------------------------

static int judge(struct exec *x, size_t i, bool *passes)
{
    struct level_state *l = &x->levels[i];
    const struct level *level = &x->s->levels[i];
    *passes = true;
    if (l->stage == LEVEL_ON) {
        int err = all_hold(x->run, level->on, level->on_count, passes);
        if (err) return err;
        l->matched = l->matched || *passes;
        l->stage = *passes ? LEVEL_FILTER : LEVEL_NEXT;
    }
    if (!*passes) return 0;
    int err = all_hold(x->run, level->filters, level->filter_count, passes);
    if (!err) l->stage = LEVEL_NEXT;
    return err;
}

static int next_joined(struct exec *x, bool *row)
{
    for (;;) {
        struct level_state *l = &x->levels[x->depth];
        bool found = true, passes;
        int err = l->stage == LEVEL_CLOSED ? level_open(x, x->depth) : 0;
        if (!err && l->stage == LEVEL_NEXT) err = next_row(x, x->depth, &found);
        if (err) return err;
        if (!found) {
            level_close(x, x->depth);
            *row = false;
            if (x->depth == 0) return 0;
            x->depth--;
            continue;
        }
        err = judge(x, x->depth, &passes);
        if (err) return err;
        if (!passes) continue;
        x->run->stats[x->s->levels[x->depth].slot].rows++;
        *row = true;
        if (x->depth + 1 == x->s->level_count) return 0;
        x->depth++;
    }
}

// ---- groups, having, distinct --------------------------------------------------------------------------------------

static int gather(struct exec *x)
{
    while (!x->gathered) {
        bool row = true;
        int err = x->joined ? 0 : next_joined(x, &row);
        if (err) return err;
        x->joined = row;
        if (!row) {
            x->gathered = true;
            break;
        }
        err = groups_add(x->groups);
        if (err) return err;
        x->joined = false;
        x->gathered = x->s->extreme && groups_have_value(x->groups);
    }
    return 0;
}

static int next_source(struct exec *x, bool *row)
{
    if (!x->s->grouped) return next_joined(x, row);
    int err = gather(x);
    if (err) return err;
    *row = x->group_at < groups_count(x->groups);
    if (!*row) return 0;
    run_forget(x->run, x->s->own);
    x->group = x->group_at++;
    return groups_show(x->groups, x->group);
}

static int is_new(struct exec *x, bool *new)
{
    struct buf key;
    size_t before = key_set_bytes(&x->distinct);
    int err = 0;
    buf_init(&key, QUERY_MEMORY_MAX);
    for (size_t i = 0; i < x->s->target_count && !err; i++) {
        struct value v;
        err = run_eval(x->run, x->s->targets[i].expr, &v);
        if (!err) value_key(&key, &x->s->targets[i].expr->type, &v);
    }
    if (!err) err = key.err ? key.err : key_set_add(&x->distinct, buf_span(&key), NULL, new);
    buf_free(&key);
    return err ? err : run_hold(x->run, before, key_set_bytes(&x->distinct));
}

static int next_kept(struct exec *x, bool *row)
{
    for (;;) {
        struct value v = {.b = true};
        int err = 0;
        *row = true;
        if (!x->shown) err = next_source(x, row);
        if (err || !*row) return err;
        x->shown = true;
        if (x->s->having) err = run_eval(x->run, x->s->having, &v);
        bool keep = !v.null && v.b;
        if (!err && keep && x->s->distinct) err = is_new(x, &keep);
        if (err) return err;
        x->shown = false;
        if (keep) return 0;
    }
}

// ---- order ---------------------------------------------------------------------------------------------------------
//
// What is sorted is an order key, the row's own key where that is to decide, and, behind it, what brings the row back: of each level whether it has a row and its id, the id of the
// last level at the very end; of a group its number.

#define GROUP_BYTES 16 // a number, in as many bytes as an id

static int put_order(struct exec *x, struct buf *key)
{
    for (size_t i = 0; i < x->s->order_count; i++) {
        const struct order_term *o = &x->s->order[i];
        struct value v;
        int err = run_eval(x->run, o->expr, &v);
        if (err) return err;
        value_order_key(key, &o->expr->type, &v, o->desc, o->nulls_first);
    }
    return 0;
}

static void put_place(const struct exec *x, struct buf *key)
{
    if (x->s->grouped) {
        buf_put_u64_be(key, 0);
        buf_put_u64_be(key, x->group_at - 1);
        return;
    }
    for (size_t i = 0; i < x->s->level_count; i++) {
        const struct expr_row *r = &x->run->rows[x->s->levels[i].slot];
        if (x->s->level_count > 1) buf_put_u8(key, r->row != NULL);
        buf_put(key, r->id.b, sizeof r->id.b);
    }
}

static size_t place_bytes(const struct select *s)
{
    if (s->grouped) return GROUP_BYTES;
    return s->level_count * (sizeof(struct uuid) + (s->level_count > 1));
}

static size_t keys_kept(const struct exec *x)
{
    return x->limit > SIZE_MAX / 2 || x->offset > SIZE_MAX / 2 ? SIZE_MAX : (size_t)(x->limit + x->offset);
}

// Beyond the last row that is shown, and those that are equal to it?
static int look_at_edge(struct exec *x, struct span order, bool *beyond)
{
    bool in_order = x->by_keys && x->s->sorted && !x->s->grouped && x->s->order_count > 0;
    *beyond = in_order && x->collected >= keys_kept(x) && !span_equal(order, buf_span(&x->edge));
    if (*beyond || ++x->collected != keys_kept(x)) return 0;
    buf_clear(&x->edge);
    buf_put_span(&x->edge, order);
    return x->edge.err;
}

static void close_levels(struct exec *x)
{
    for (size_t i = 0; i < x->s->level_count; i++)
        if (x->levels[i].stage != LEVEL_CLOSED) level_close(x, i);
}

static int collect_one(struct exec *x, bool *beyond)
{
    struct buf key;
    bool dropped;
    buf_init(&key, QUERY_SORT_MAX);
    int err = put_order(x, &key);
    size_t order_n = key.n;
    if (!err && x->by_keys) err = run_key(x->run, &key);
    if (!err) err = look_at_edge(x, span_sub(buf_span(&key), 0, order_n), beyond);
    if (err || *beyond) {
        buf_free(&key);
        return err;
    }
    put_place(x, &key);
    err = key.err ? key.err : sort_keys_collect(&x->keys, buf_span(&key), keys_kept(x), &dropped);
    buf_free(&key);
    if (!err && x->s->position < 0 && keys_kept(x) == SIZE_MAX && x->keys.n > QUERY_ROWS_MAX) return ERR_RESULT_TOO_LARGE;
    return err;
}

static int collect_all(struct exec *x)
{
    bool dropped;
    while (!x->sorted) {
        bool row = true, beyond = false;
        int err = x->kept ? 0 : next_kept(x, &row);
        if (err) return err;
        x->kept = row;
        if (row) err = collect_one(x, &beyond);
        if (err) return err;
        x->kept = false;
        if (row && !beyond) continue;
        close_levels(x);
        sort_keys_finish(&x->keys, keys_kept(x), &dropped);
        x->sorted = true;
    }
    return 0;
}

static int bring_back(struct exec *x, struct span key)
{
    struct span place = span_sub(key, key.n - place_bytes(x->s), place_bytes(x->s));
    for (size_t i = 0; i < x->s->level_count; i++) {
        struct uuid id;
        bool there = x->s->level_count == 1 || place.p[0] == 1;
        if (x->s->level_count > 1) place = span_sub(place, 1, place.n);
        memcpy(id.b, place.p, sizeof id.b);
        place = span_sub(place, sizeof id.b, place.n);
        int err = there ? source_row(&x->run->src, table_of(x, i), id, x->levels[i].room) : 0;
        if (!err && there && !row_live(&x->levels[i].room->row)) err = ERR_CORRUPT;
        if (!err && there) err = met_row(x, i, id);
        if (err) return err;
        if (!there) set_row(x, i, id, NULL);
    }
    return 0;
}

static int bring_group(struct exec *x, struct span key)
{
    uint64_t no = 0;
    for (size_t i = key.n - 8; i < key.n; i++)
        no = no << 8 | key.p[i];
    run_forget(x->run, x->s->own);
    x->group = (size_t)no;
    return groups_show(x->groups, x->group);
}

static int next_in_order(struct exec *x, bool *row)
{
    if (!x->sort) return next_kept(x, row);
    int err = collect_all(x);
    if (err) return err;
    *row = x->key_at < x->keys.n;
    if (!*row) return 0;
    struct span key = sort_key_span(x->keys.keys[x->key_at++]);
    return x->s->grouped ? bring_group(x, key) : bring_back(x, key);
}

// ---- the result ----------------------------------------------------------------------------------------------------

static int count_of(const struct exec *x, const struct select_count *c, uint64_t otherwise, const char *what, uint64_t *out)
{
    struct run *run = x->run;
    *out = otherwise;
    if (!c->is) return 0;
    if (c->param < 0) {
        *out = c->n;
        return 0;
    }
    const struct value *v = &run->params[c->param];
    if (v->null) return 0;
    if (v->i < 0) return problem_set(&run->problem, ERR_BAD_VALUE, c->position, "%s is not negative", what);
    *out = (uint64_t)v->i;
    return 0;
}

static int start(struct exec *x)
{
    int err = count_of(x, &x->s->limit, UINT64_MAX, "a limit", &x->limit);
    if (!err) err = count_of(x, &x->s->offset, 0, "an offset", &x->offset);
    // A result is bounded anyway; a limit beyond that bound says nothing.
    if (x->limit > QUERY_ROWS_MAX) x->limit = UINT64_MAX;
    if (!err && x->s->grouped) err = groups_new(x->run, x->s, &x->groups);
    if (err) return err;
    x->over = x->limit == 0;
    x->started = true;
    return 0;
}

int exec_next(struct exec *x, bool *row)
{
    int err = x->started ? 0 : start(x);
    *row = x->pending;
    while (!err && !x->pending && !x->over) {
        err = next_in_order(x, row);
        if (err) break;
        if (!*row || x->given == x->limit) {
            x->over = true;
            *row = false;
        } else if (x->passed < x->offset) {
            x->passed++;
        } else {
            x->pending = true;
        }
    }
    return err;
}

void exec_taken(struct exec *x)
{
    assert(x->pending);
    x->pending = false;
    x->given++;
    if (x->given == x->limit) x->over = true;
}

int exec_new(struct run *run, const struct select *s, struct exec **out)
{
    struct exec *x = calloc(1, sizeof *x);
    if (!x) return ERR_NOMEM;
    x->levels = calloc(s->level_count, sizeof *x->levels);
    if (!x->levels) {
        free(x);
        return ERR_NOMEM;
    }
    x->run = run;
    x->s = s;
    x->sort = !s->any_order && (s->grouped ? s->order_count > 0 : !s->sorted);
    key_set_init(&x->distinct, QUERY_MEMORY_MAX);
    buf_init(&x->edge, QUERY_SORT_MAX);
    *out = x;
    return 0;
}

void exec_by_keys(struct exec *x)
{
    assert(!x->started);
    x->by_keys = x->s->order_count > 0 || x->s->limit.is || x->s->offset.is;
    x->sort = x->sort || x->by_keys;
}

void exec_reset(struct exec *x)
{
    close_levels(x);
    groups_free(x->groups);
    x->groups = NULL;
    run_hold(x->run, key_set_bytes(&x->distinct), 0);
    key_set_free(&x->distinct);
    sort_keys_free(&x->keys);
    x->depth = x->group_at = x->key_at = x->collected = 0;
    x->passed = x->given = 0;
    x->started = x->joined = x->shown = x->kept = x->pending = x->gathered = x->sorted = x->over = false;
}

void exec_free(struct exec *x)
{
    if (!x) return;
    exec_reset(x);
    for (size_t i = 0; i < x->s->level_count; i++) {
        free(x->levels[i].room);
        buf_free(&x->levels[i].copy);
    }
    free(x->levels);
    buf_free(&x->edge);
    free(x);
}

// ---- between steps -------------------------------------------------------------------------------------------------

int exec_suspend(struct exec *x)
{
    int err = 0;
    for (size_t i = 0; i < x->s->level_count && !err; i++) {
        struct level_state *l = &x->levels[i];
        if (l->cursor_open) cursor_suspend(&l->cursor);
        if (l->has_row && !l->held) err = hold_row(table_of(x, i), l);
        l->held = l->has_row;
    }
    return err;
}

int exec_resume(struct exec *x)
{
    for (size_t i = 0; i < x->s->level_count; i++) {
        const struct index *ix = index_of(x, i);
        const struct access *a = &x->s->levels[i].access;
        if (a->index != 0 && (!ix || !index_ready(x->run->src.r, table_of(x, i), ix, x->run->src.at)))
            return problem_set(&x->run->problem, ERR_CANCELED, -1, "an index that the query was reading is gone; ask again");
        if (x->levels[i].cursor_open) cursor_resume(&x->levels[i].cursor, table_of(x, i), ix);
    }
    return 0;
}
