// What a select's difference is looked for with: its text taken apart, and plans in which one table is held to a row that was touched.
//
// For a row that is no part of the core (the right side of a left join, a table of a select within) the plan joins what stands between it and the
// core: all selects from the top down to its own, as if they were one `from`. Everything in it is an inner join, and only what must hold in
// any case is asked: a condition that holds a select is left out, and so is one about the right side of a left join that nothing else asks for.
#include <assert.h>
#include <stdlib.h>

#include "delta_impl.h"
#include "err.h"

// ---- taking the text apart -----------------------------------------------------------------------------------------

enum stands { STANDS_ALONE, STANDS_ON, STANDS_ELSEWHERE };

static int visit_select(struct delta *d, const struct select *s, size_t outer, const struct expr *in, enum stands where);

static void use_column(struct delta *d, const struct expr *e)
{
    struct delta_slot *slot = &d->slots[e->slot];
    if (e->type.kind == COL_STREAM) slot->stream = true;
    if (e->column != COLUMN_ID) slot->used[e->column / 64] |= UINT64_C(1) << (e->column % 64);
}

static struct delta_place *find_place(const struct delta *d, const struct select *s)
{
    for (size_t i = 0; i < d->place_count; i++)
        if (d->places[i].s == s) return &d->places[i];
    return NULL;
}

static int visit(struct delta *d, const struct expr *e, size_t place, enum stands where)
{
    int err = 0;
    if (e->kind == EX_COLUMN) use_column(d, e);
    if (e->kind == EX_CALL && e->op == CALL_STREAM_TEXT) d->slots[e->args[0]->slot].text = true;
    for (size_t i = 0; i < e->count && !err; i++)
        err = visit(d, e->args[i], place, where == STANDS_ALONE ? STANDS_ELSEWHERE : where);
    if (err || e->kind != EX_SUB) return err;
    const struct sub *sub = e->sub;
    struct delta_place *known = find_place(d, sub->select);
    if (!known) return visit_select(d, sub->select, place, e, where);
    known->alone = known->alone && where == STANDS_ALONE; // it stands in the text once, and is spoken of again
    known->on = known->on || where == STANDS_ON;
    return 0;
}

static int visit_all(struct delta *d, struct expr *const *all, size_t count, size_t place, enum stands where)
{
    int err = 0;
    for (size_t i = 0; i < count && !err; i++)
        err = visit(d, all[i], place, where);
    return err;
}

// Of an `exists` nobody looks at what it would show.
static bool shows(const struct delta_place *place)
{
    const struct sub *sub = place->in ? place->in->sub : NULL;
    return !sub || sub->kind != SUB_EXISTS || place->s->grouped || place->s->distinct;
}

static int visit_parts(struct delta *d, size_t place)
{
    const struct select *s = d->places[place].s;
    int err = visit_all(d, s->where, s->where_count, place, STANDS_ALONE);
    for (size_t i = 0; i < s->level_count && !err; i++)
        err = visit_all(d, s->levels[i].on, s->levels[i].on_count, place, STANDS_ON);
    for (size_t i = 0; shows(&d->places[place]) && i < s->target_count && !err; i++)
        err = visit(d, s->targets[i].expr, place, STANDS_ELSEWHERE);
    if (!err) err = visit_all(d, s->group, s->group_count, place, STANDS_ELSEWHERE);
    for (size_t i = 0; i < s->aggregate_count && !err; i++)
        if (s->aggregates[i].arg) err = visit(d, s->aggregates[i].arg, place, STANDS_ELSEWHERE);
    for (size_t i = 0; i < s->order_count && !err; i++)
        err = visit(d, s->order[i].expr, place, STANDS_ELSEWHERE);
    return !err && s->having ? visit(d, s->having, place, STANDS_ELSEWHERE) : err;
}

static int visit_select(struct delta *d, const struct select *s, size_t outer, const struct expr *in, enum stands where)
{
    size_t place = d->place_count++;
    assert(place <= d->plan->sub_count);
    d->places[place] = (struct delta_place){.s = s, .outer = outer, .in = in, .alone = where == STANDS_ALONE, .on = where == STANDS_ON};
    for (size_t i = 0; i < s->level_count; i++) {
        struct delta_slot *slot = &d->slots[s->levels[i].slot];
        slot->level = s->levels[i];
        slot->place = place;
    }
    return visit_parts(d, place);
}

// ---- tables --------------------------------------------------------------------------------------------------------

int delta_take_apart(struct delta *d)
{
    const struct select *top = d->plan->top;
    d->places = arena_array(d->arena, d->plan->sub_count + 1, sizeof *d->places);
    if (!d->places) return ERR_NOMEM;
    for (uint32_t i = 0; i < d->plan->table_slots; i++)
        d->slots[i].place = NO_PLACE;
    int err = visit_select(d, top, NO_PLACE, NULL, STANDS_ELSEWHERE);
    for (uint32_t i = 0; i < d->plan->table_slots && !err; i++)
        if (delta_is_core(d, i)) d->core[d->core_count++] = i;
    return err ? err : delta_take_conditions(d);
}

bool delta_is_core(const struct delta *d, uint32_t slot)
{
    return d->slots[slot].place == 0 && !d->slots[slot].level.left;
}

// ---- expressions of our own ----------------------------------------------------------------------------------------

struct expr *delta_make_equal(struct arena *arena, struct expr *a, struct expr *b, struct type compared)
{
    struct expr *e = arena_alloc(arena, sizeof *e);
    struct expr **args = arena_array(arena, 2, sizeof *args);
    if (!e || !args) return NULL;
    args[0] = a;
    args[1] = b;
    *e = (struct expr){.kind = EX_COMPARE, .type = TYPE(COL_BOOLEAN), .compared = compared, .op = OP_EQ, .position = -1, .args = args, .count = 2};
    e->uses = a->uses | b->uses;
    return e;
}

// The slot's row has the id that stands in this parameter.
static struct expr *make_pin(struct delta *d, uint32_t slot, size_t param)
{
    struct expr *id = arena_alloc(d->exprs, sizeof *id), *value = arena_alloc(d->exprs, sizeof *value);
    if (!id || !value) return NULL;
    *id = (struct expr){.kind = EX_COLUMN, .type = TYPE(COL_UUID), .position = -1, .slot = slot, .column = COLUMN_ID, .uses = UINT64_C(1) << slot};
    *value = (struct expr){.kind = EX_PARAM, .type = TYPE(COL_UUID), .position = -1, .slot = (uint32_t)param};
    return delta_make_equal(d->exprs, id, value, TYPE(COL_UUID));
}

bool delta_has_slots(const struct expr *e)
{
    bool has = e->kind == EX_SLOT;
    for (size_t i = 0; i < e->count && !has; i++)
        has = delta_has_slots(e->args[i]);
    return has;
}

// What stands in this value slot of a grouped select, where it is one value of each joined row.
static const struct expr *grouped_expr(const struct delta *d, uint32_t value_slot)
{
    for (size_t i = 0; i < d->place_count; i++) {
        const struct select *s = d->places[i].s;
        if (s->grouped && value_slot >= s->group_slot && value_slot < s->group_slot + s->group_count)
            return s->group[value_slot - s->group_slot];
        for (size_t k = 0; k < s->aggregate_count; k++)
            if (s->aggregates[k].slot == value_slot) return s->aggregates[k].kind == AGG_FIRST ? s->aggregates[k].arg : NULL;
    }
    return NULL;
}

// The condition as one on joined rows: selects within a grouped one speak of what it is grouped by. *out NULL: it cannot be.
static int on_rows(struct delta *d, struct expr *e, struct expr **out)
{
    *out = e;
    if (!delta_has_slots(e)) return 0;
    const struct expr *of = e->kind == EX_SLOT ? grouped_expr(d, e->slot) : e;
    *out = NULL;
    if (!of || of->subs || (e->kind == EX_SLOT && delta_has_slots(of))) return 0;
    struct expr *copy = arena_alloc(d->exprs, sizeof *copy);
    if (!copy) return ERR_NOMEM;
    *copy = *of;
    copy->uses |= e->uses;
    copy->args = arena_array(d->exprs, of->count, sizeof *copy->args);
    if (!copy->args) return ERR_NOMEM;
    for (size_t i = 0; i < of->count; i++) {
        int err = on_rows(d, of->args[i], &copy->args[i]);
        if (err || !copy->args[i]) return err;
    }
    *out = copy;
    return 0;
}

// ---- between a row and the core ------------------------------------------------------------------------------------

struct between {
    struct delta *d;
    uint64_t tables, lefts; // joined; right sides of left joins on the way that are not joined
    struct expr **where;
    size_t count;
};

static int add(struct between *b, struct expr *e)
{
    struct expr *plain;
    if (e->subs) return 0;
    int err = on_rows(b->d, e, &plain);
    if (!err && plain) b->where[b->count++] = plain;
    return err;
}

static int add_all(struct between *b, struct expr *const *all, size_t count)
{
    int err = 0;
    for (size_t i = 0; i < count && !err; i++)
        err = add(b, all[i]);
    return err;
}

static uint64_t lefts_of(const struct select *s)
{
    uint64_t lefts = 0;
    for (size_t i = 0; i < s->level_count; i++)
        if (s->levels[i].left) lefts |= UINT64_C(1) << s->levels[i].slot;
    return lefts;
}

// A column that holds no null, wherever it is joined.
static bool never_null(const struct delta *d, const struct expr *e)
{
    if (e->kind != EX_COLUMN || d->slots[e->slot].level.left) return false;
    return e->column == COLUMN_ID || schema_table_no(d->plan->schema, d->plan->tables[e->slot])->columns[e->column].not_null;
}

// `x in (select y …)`: only where y is x can a row of it make a difference. Nulls make one elsewhere, but where nothing is told of them.
static int add_membership(struct between *b, const struct delta_place *inner)
{
    const struct sub *sub = inner->in->sub;
    const struct select *s = inner->s;
    if (sub->kind != SUB_IN || s->grouped || s->limit.is || s->offset.is) return 0;
    struct expr *x = inner->in->args[0], *y = s->targets[0].expr;
    if (x->subs || y->subs) return 0;
    if (!(inner->alone && !inner->in->negate) && !(never_null(b->d, x) && never_null(b->d, y))) return 0;
    struct expr *same = delta_make_equal(b->d->exprs, x, y, sub->compared);
    return same ? add(b, same) : ERR_NOMEM;
}

// What holds of a select on the way, whether or not the row counts. Where that decides whether a left join's right side is there at all, conditions
// on that side say nothing.
static int add_select(struct between *b, size_t place, const struct delta_place *inner, uint32_t slot)
{
    const struct select *s = b->d->places[place].s;
    bool decides = inner ? inner->on : b->d->slots[slot].level.left;
    uint64_t lefts = lefts_of(s);
    int err = 0;
    b->tables |= s->own & ~lefts;
    b->lefts |= lefts;
    for (size_t i = 0; i < s->where_count && !err; i++)
        if (!decides || !(s->where[i]->uses & lefts)) err = add(b, s->where[i]);
    return !err && inner ? add_membership(b, inner) : err;
}

// Can it not be true where the slot's row is one of nulls?
static bool rejects_nulls(const struct expr *e, uint32_t slot)
{
    size_t args = e->kind == EX_COMPARE && e->op != OP_SAME && e->op != OP_DISTINCT ? 2 : e->kind == EX_IN || e->kind == EX_ANY || e->kind == EX_LIKE ? 1 : 0;
    if (e->kind == EX_COLUMN) return e->slot == slot;
    for (size_t i = 0; i < args; i++)
        if (e->args[i]->kind == EX_COLUMN && e->args[i]->slot == slot) return true;
    return false;
}

static bool is_asked_for(const struct between *b, uint32_t slot)
{
    for (size_t i = 0; i < b->count; i++)
        if (rejects_nulls(b->where[i], slot)) return true;
    return false;
}

static int join_lefts(struct between *b)
{
    for (uint32_t slot = 0; slot < b->d->plan->table_slots; slot++) {
        if (!(b->lefts >> slot & 1) || !is_asked_for(b, slot)) continue;
        const struct level *level = &b->d->slots[slot].level;
        b->lefts &= ~(UINT64_C(1) << slot);
        b->tables |= UINT64_C(1) << slot;
        int err = add_all(b, level->on, level->on_count);
        if (err) return err;
        slot = UINT32_MAX; // from the beginning: it may ask for another one
    }
    return 0;
}

static size_t conditions_at_most(const struct delta *d)
{
    size_t n = 2 * d->place_count + 2;
    for (size_t i = 0; i < d->place_count; i++)
        n += d->places[i].s->where_count;
    for (size_t i = 0; i < d->plan->table_slots; i++)
        n += d->slots[i].level.on_count;
    return n;
}

static int gather(struct between *b, uint32_t slot)
{
    const struct delta_slot *s = &b->d->slots[slot];
    const struct delta_place *inner = NULL;
    int err = 0;
    for (size_t place = s->place; place != NO_PLACE && !err; place = b->d->places[place].outer) {
        err = add_select(b, place, inner, slot);
        inner = &b->d->places[place];
    }
    if (!err && s->level.left) {
        b->tables |= UINT64_C(1) << slot;
        b->lefts &= ~(UINT64_C(1) << slot);
        err = add_all(b, s->level.on, s->level.on_count);
    }
    if (!err) err = join_lefts(b);
    size_t n = 0;
    for (size_t i = 0; i < b->count; i++)
        if (!(b->where[i]->uses & ~b->tables)) b->where[n++] = b->where[i];
    b->count = n;
    return err;
}

// ---- plans ---------------------------------------------------------------------------------------------------------

static int begin_between(struct delta *d, uint32_t slot, struct between *b)
{
    *b = (struct between){.d = d, .where = arena_array(d->exprs, conditions_at_most(d), sizeof *b->where)};
    return b->where ? gather(b, slot) : ERR_NOMEM;
}

int delta_check_tables(struct delta *d, struct problem *p)
{
    for (uint32_t i = 0; i < d->plan->table_slots; i++) {
        struct between b;
        bool between = delta_reads(d, i) && !delta_is_core(d, i);
        int err = between ? begin_between(d, i, &b) : 0;
        if (err) return err;
        if (between && __builtin_popcountll(b.tables) > QUERY_TABLES_MAX)
            return problem_set(p, ERR_UNSUPPORTED_SQL, -1, "a live query goes through at most %d tables, those of selects within and of those around them together",
                               QUERY_TABLES_MAX);
    }
    return 0;
}

static int make_between(struct delta *d, uint32_t slot, uint64_t at, struct plan **out, struct problem *p)
{
    struct between b;
    struct level tables[EXPR_TABLES_MAX];
    size_t n = 0;
    int err = begin_between(d, slot, &b);
    if (err) return err;
    for (uint32_t i = 0; i < d->plan->table_slots; i++) {
        if (!(b.tables >> i & 1)) continue;
        tables[n] = d->slots[i].level;
        tables[n++].left = false;
    }
    struct expr *pin = make_pin(d, slot, d->plan->param_count);
    if (!err && !pin) err = ERR_NOMEM;
    if (err) return err;
    b.where[b.count++] = pin;
    return plan_joined(d->r, d->plan, tables, n, b.where, b.count, at, out, p);
}

// The joined rows of the top, with these of its tables held to one row each.
static int make_top(struct delta *d, const uint32_t *slots, size_t count, uint64_t at, struct plan **out, struct problem *p)
{
    const struct select *top = d->plan->top;
    struct expr **where = arena_array(d->exprs, top->where_count + count, sizeof *where);
    struct level tables[QUERY_TABLES_MAX];
    if (!where) return ERR_NOMEM;
    if (top->where_count > 0) memcpy(where, top->where, top->where_count * sizeof *where);
    for (size_t i = 0; i < count; i++) {
        where[top->where_count + i] = make_pin(d, slots[i], d->plan->param_count + i);
        if (!where[top->where_count + i]) return ERR_NOMEM;
    }
    for (size_t i = 0; i < top->level_count; i++)
        tables[i] = top->levels[i];
    return plan_joined(d->r, d->plan, tables, top->level_count, where, top->where_count + count, at, out, p);
}

// What would make other plans: an index that has become ready since.
static uint64_t ready_now(const struct delta *d)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < d->plan->table_slots; i++) {
        const struct table *t = schema_table_no(d->r->schema, d->plan->tables[i]);
        for (size_t k = 0; k < t->index_count; k++)
            sum = sum * 31 + (index_ready(d->r, t, &t->indexes[k], UINT64_MAX) ? t->indexes[k].no : 0);
    }
    return sum;
}

static void let_go(struct plan **plan, bool at_once)
{
    if (!*plan || (!at_once && (*plan)->at == UINT64_MAX)) return;
    plan_unref(*plan);
    *plan = NULL;
}

void delta_plans_settle(struct delta *d, bool at_once)
{
    uint64_t ready = ready_now(d);
    at_once = at_once || ready != d->ready || arena_used(d->exprs) > DELTA_EXPRS_MAX / 2;
    d->ready = ready;
    for (size_t i = 0; i < d->plan->table_slots; i++)
        let_go(&d->slots[i].pinned, at_once);
    let_go(&d->whole, at_once);
    if (at_once) arena_clear(d->exprs);
}

static bool goes_through_all(const struct select *s)
{
    for (size_t i = 0; i < s->level_count; i++) {
        const struct access *a = &s->levels[i].access;
        if (a->kind != ACCESS_POINT && a->equal_count == 0 && !a->each && !a->low && !a->high) return true;
    }
    return false;
}

int delta_scans(struct delta *d, bool *scans, struct problem *p)
{
    *scans = false;
    for (size_t i = 1; i < d->place_count && !*scans; i++)
        *scans = goes_through_all(d->places[i].s);
    for (uint32_t i = 0; i < d->plan->table_slots && !*scans; i++) {
        const struct plan *plan;
        int err = delta_reads(d, i) ? delta_pinned(d, i, UINT64_MAX, &plan, p) : 0;
        if (err) return err;
        *scans = delta_reads(d, i) && goes_through_all(plan->top);
    }
    return 0;
}

static int make(struct delta *d, uint32_t slot, uint64_t at, struct plan **out, struct problem *p)
{
    if (slot == DELTA_WHOLE) return make_top(d, d->core, d->core_count, at, out, p);
    return delta_is_core(d, slot) ? make_top(d, &slot, 1, at, out, p) : make_between(d, slot, at, out, p);
}

int delta_pinned(struct delta *d, uint32_t slot, uint64_t at, const struct plan **out, struct problem *p)
{
    struct plan **kept = slot == DELTA_WHOLE ? &d->whole : &d->slots[slot].pinned, *made = *kept;
    if (made && plan_holds(made, d->r, at)) {
        *out = made;
        return 0;
    }
    int err = make(d, slot, UINT64_MAX, &made, p);
    if (!err && !plan_holds(made, d->r, at)) {
        plan_unref(made);
        err = make(d, slot, at, &made, p);
    }
    if (err) return err;
    plan_unref(*kept);
    *out = *kept = made;
    return 0;
}
