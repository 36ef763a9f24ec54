// The order of the tables and the way to each, by rules: a guess of how many rows each way looks at, from what its conditions are.
// Nothing is counted, so a text has one plan, whatever the tables hold.
#include <assert.h>
#include <math.h>

#include "err.h"
#include "index.h"
#include "select_impl.h"

// What a rule takes a table and its conditions for.
#define TABLE_ROWS_GUESS 10000.0
#define EQUAL_SHARE 0.02
#define CHILD_SHARE 0.001 // of a column that names a row of another table
#define ID_SHARE 0.0001
#define RANGE_SHARE 0.3
#define FILTER_SHARE 0.5
#define LIST_GUESS 5.0
#define LIMIT_GUESS 50.0
#define SORT_COST 0.2   // of a row, in rows looked at
#define INDEX_COST 1.2  // a row found by an index, beside one that a scan meets
#define PERMUTED_MAX 6  // more tables than this are put in order one by one

const struct index *table_index(const struct table *t, uint32_t no)
{
    for (size_t i = 0; i < t->index_count; i++)
        if (t->indexes[i].no == no) return &t->indexes[i];
    return NULL;
}

// ---- conjuncts -----------------------------------------------------------------------------------------------------

static size_t count_conjuncts(const struct expr *e)
{
    size_t n = 0;
    for (size_t i = 0; e->kind == EX_AND && i < e->count; i++)
        n += count_conjuncts(e->args[i]);
    return e->kind == EX_AND ? n : 1;
}

static void put_conjuncts(struct expr *e, struct expr **out, size_t *n)
{
    for (size_t i = 0; e->kind == EX_AND && i < e->count; i++)
        put_conjuncts(e->args[i], out, n);
    if (e->kind != EX_AND) out[(*n)++] = e;
}

int split_conjuncts(const struct plan_compile *of, struct expr *e, struct expr ***out, size_t *count)
{
    size_t n = 0;
    struct expr **all = arena_array(of->plan->arena, count_conjuncts(e), sizeof *all);
    if (!all) return select_no_room(of);
    put_conjuncts(e, all, &n);
    *out = all;
    *count = n;
    return 0;
}

// ---- what a condition says of one column ---------------------------------------------------------------------------

enum match_kind { MATCH_EQUAL, MATCH_NULL, MATCH_EACH, MATCH_LOW, MATCH_HIGH };

struct match {
    enum match_kind kind;
    int column;
    struct expr *value; // of MATCH_EACH the whole condition
    bool open;
};

#define MATCHES_MAX 256

// Of one table, with what is known before it is looked through.
struct matches {
    struct match all[MATCHES_MAX];
    size_t n;
};

static const struct expr boolean_true = {.kind = EX_CONST, .type = {.kind = COL_BOOLEAN}, .value = {.b = true}, .position = -1};
static const struct expr boolean_false = {.kind = EX_CONST, .type = {.kind = COL_BOOLEAN}, .value = {.b = false}, .position = -1};

static bool is_whole(const struct type *t)
{
    return !t->array && (t->kind == COL_INTEGER || t->kind == COL_BIGINT || t->kind == COL_COUNTER);
}

static bool same_key(const struct type *column, const struct type *value)
{
    return type_same(column, value) || (is_whole(column) && is_whole(value));
}

static bool column_of(const struct expr *e, uint32_t slot)
{
    return e->kind == EX_COLUMN && e->slot == slot;
}

static void add_match(struct matches *m, enum match_kind kind, const struct expr *column, const struct expr *value, bool open)
{
    if (m->n == MATCHES_MAX) return;
    m->all[m->n++] = (struct match){.kind = kind, .column = column->column, .value = (struct expr *)value, .open = open};
}

static void match_comparison(struct matches *m, const struct expr *e, uint32_t slot, uint64_t hidden)
{
    for (size_t side = 0; side < 2; side++) {
        const struct expr *column = e->args[side], *value = e->args[1 - side];
        if (!column_of(column, slot) || (value->uses & hidden) || !same_key(&column->type, &value->type)) continue;
        bool less = e->op == OP_LT || e->op == OP_LE, more = e->op == OP_GT || e->op == OP_GE;
        if (e->op == OP_EQ) add_match(m, MATCH_EQUAL, column, value, false);
        if (less || more) add_match(m, more == (side == 0) ? MATCH_LOW : MATCH_HIGH, column, value, e->op == OP_LT || e->op == OP_GT);
    }
}

static bool all_known(const struct expr *e, size_t from, uint64_t hidden)
{
    for (size_t i = from; i < e->count; i++)
        if ((e->args[i]->uses & hidden) || !same_key(&e->args[0]->type, &e->args[i]->type)) return false;
    return true;
}

static bool list_known(const struct expr *e, uint64_t hidden)
{
    struct type item;
    switch (e->kind) {
    case EX_IN: return all_known(e, 1, hidden);
    case EX_ANY:
        item = type_of_element(&e->args[1]->type);
        return e->op == OP_EQ && !(e->args[1]->uses & hidden) && same_key(&e->args[0]->type, &item);
    case EX_SUB: {
        const struct sub *sub = e->sub;
        return sub->kind == SUB_IN && !(sub->uses & hidden);
    }
    default: return false;
    }
}

// `hidden`: the table slots whose rows are not known yet.
static void match(struct matches *m, const struct expr *e, uint32_t slot, uint64_t hidden)
{
    if (e->kind == EX_COMPARE) match_comparison(m, e, slot, hidden);
    if (column_of(e, slot)) add_match(m, MATCH_EQUAL, e, &boolean_true, false);
    if (e->kind == EX_NOT && column_of(e->args[0], slot)) add_match(m, MATCH_EQUAL, e->args[0], &boolean_false, false);
    if (e->kind == EX_IS_NULL && !e->negate && column_of(e->args[0], slot) && e->args[0]->column != COLUMN_ID)
        add_match(m, MATCH_NULL, e->args[0], NULL, false);
    bool list = !e->negate && e->count > 0 && column_of(e->args[0], slot) && list_known(e, hidden);
    if (list) add_match(m, MATCH_EACH, e->args[0], e, false);
}

static const struct match *find_match(const struct matches *m, int column, enum match_kind kind)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->all[i].column == column && m->all[i].kind == kind) return &m->all[i];
    return NULL;
}

static bool is_id(const struct expr *e)
{
    return e && e->kind == EX_COLUMN && e->column == COLUMN_ID;
}

static double equal_share(int column, const struct expr *value)
{
    return column == COLUMN_ID ? ID_SHARE : is_id(value) ? CHILD_SHARE : EQUAL_SHARE;
}

// ---- partial indexes -----------------------------------------------------------------------------------------------

// The same expression, of which one is about slot 0 and the other about `slot`.
static bool same_about(const struct expr *of_index, const struct expr *e, uint32_t slot)
{
    if (of_index->kind != e->kind || of_index->op != e->op || of_index->negate != e->negate || of_index->count != e->count) return false;
    if (!type_same(&of_index->type, &e->type)) return false;
    if (e->kind == EX_COLUMN) return e->slot == slot && e->column == of_index->column;
    if (e->kind == EX_CONST) return value_equal(&e->type, &e->value, &of_index->value);
    if (e->kind == EX_PARAM || e->kind == EX_SLOT || e->kind == EX_SUB) return false;
    for (size_t i = 0; i < e->count; i++)
        if (!same_about(of_index->args[i], e->args[i], slot)) return false;
    return true;
}

// A comparison holds of no null.
static bool says_not_null(const struct expr *e, uint32_t slot, int column)
{
    if (e->kind == EX_COLUMN) return e->slot == slot && e->column == column;
    if (e->kind != EX_COMPARE || e->op == OP_SAME || e->op == OP_DISTINCT) return false;
    return (column_of(e->args[0], slot) && e->args[0]->column == column) || (column_of(e->args[1], slot) && e->args[1]->column == column);
}

static bool implied(const struct expr *part, struct expr *const *given, size_t count, uint32_t slot)
{
    for (size_t i = 0; i < count; i++) {
        if (same_about(part, given[i], slot)) return true;
        if (part->kind == EX_IS_NULL && part->negate && part->args[0]->kind == EX_COLUMN &&
            says_not_null(given[i], slot, part->args[0]->column))
            return true;
    }
    return false;
}

// Is every row that can be asked for in the index?
static bool covers(const struct index *ix, struct expr *const *given, size_t count, uint32_t slot)
{
    if (!ix->where) return true;
    if (ix->where->kind != EX_AND) return implied(ix->where, given, count, slot);
    for (size_t i = 0; i < ix->where->count; i++)
        if (!implied(ix->where->args[i], given, count, slot)) return false;
    return true;
}

// ---- one way -------------------------------------------------------------------------------------------------------

struct way {
    struct access access;
    double looked_at; // rows, each time the table is looked through
    bool sorted;
    bool extreme; // the first row with a value is the one that the only aggregate asks for
};

// The rows by id are an index of that column.
static const struct index_column id_column = {.column = COLUMN_ID};

struct columns {
    const struct index_column *columns;
    size_t n;
    uint32_t no;
    bool unique;
};

static bool never_null(const struct table *t, int column)
{
    return column == COLUMN_ID || t->columns[column].not_null;
}

static bool is_equal(const struct columns *ix, const struct access *a, int column)
{
    for (size_t i = 0; i < a->equal_count; i++)
        if (ix->columns[i].column == column) return true;
    return false;
}

// Does the index, behind what is equal, come in the order that is asked for? Then *desc says from which end, and *runs whether rows
// of equal columns have to be turned round to come by id.
static bool gives_order(const struct select *s, const struct table *t, uint32_t slot, const struct columns *ix, struct access *a)
{
    size_t at = a->equal_count;
    bool decided = false, desc = false, id_said = false;
    for (size_t i = 0; i < s->order_count; i++) {
        const struct order_term *o = &s->order[i];
        if (!column_of(o->expr, slot)) return false;
        int column = o->expr->column;
        if (is_equal(ix, a, column)) continue;
        bool by_id = column == COLUMN_ID && at == ix->n; // what the index ends with
        if (!by_id && (at == ix->n || ix->columns[at].column != column)) return false;
        bool turned = o->desc != (by_id ? false : ix->columns[at].desc);
        if ((decided && turned != desc) || (o->nulls_first != o->desc && !never_null(t, column))) return false;
        decided = true;
        desc = turned;
        id_said = column == COLUMN_ID;
        if (id_said && s->level_count > 1 && i + 1 < s->order_count) return false; // rows of one are many where it is joined
        if (id_said) break;                                                         // else nothing is equal beyond it
        at++;
    }
    if (!id_said && at < ix->n && ix->no != 0) return false;
    a->desc = desc;
    a->runs = desc && !id_said && ix->no != 0;
    return true;
}

// Of `select min(column)`, or max, from one table: that aggregate.
static const struct aggregate *only_extreme(const struct select *s)
{
    const struct aggregate *a = s->aggregates;
    if (!s->grouped || s->group_count > 0 || s->aggregate_count != 1 || s->level_count != 1) return NULL;
    if ((a->kind != AGG_MIN && a->kind != AGG_MAX) || a->arg->kind != EX_COLUMN || a->arg->slot != s->levels[0].slot) return NULL;
    return a;
}

// Does the index, behind what is equal, begin or end with what is asked for, but for nulls?
static bool gives_extreme(const struct select *s, const struct columns *ix, struct access *a)
{
    const struct aggregate *asked = only_extreme(s);
    size_t at = a->equal_count;
    if (!asked || a->each || at == ix->n || ix->columns[at].column != asked->arg->column) return false;
    a->desc = (asked->kind == AGG_MAX) != ix->columns[at].desc;
    return true;
}

static bool needs_order(const struct select *s)
{
    return !s->any_order && !s->grouped && (s->order_count > 0 || s->by_id);
}

static double limit_of(const struct select *s)
{
    if (!s->limit.is) return INFINITY;
    double n = s->limit.param < 0 ? (double)s->limit.n : LIMIT_GUESS;
    return n + (s->offset.is ? s->offset.param < 0 ? (double)s->offset.n : LIMIT_GUESS : 0);
}

static int take_equal(const struct select_compile *s, const struct matches *m, const struct columns *ix, struct access *a, double *rows)
{
    a->equal = arena_array(s->of->plan->arena, ix->n, sizeof *a->equal);
    if (!a->equal) return select_no_room(s->of);
    for (; a->equal_count < ix->n; a->equal_count++) {
        int column = ix->columns[a->equal_count].column;
        const struct match *found = find_match(m, column, MATCH_EQUAL);
        if (!found) found = find_match(m, column, MATCH_NULL);
        if (!found) break;
        a->equal[a->equal_count] = found->value;
        *rows *= equal_share(column, found->value);
    }
    return 0;
}

static void take_rest(const struct matches *m, const struct columns *ix, struct access *a, double *rows)
{
    if (a->equal_count == ix->n) return;
    int column = ix->columns[a->equal_count].column;
    const struct match *each = find_match(m, column, MATCH_EACH), *low = find_match(m, column, MATCH_LOW),
                       *high = find_match(m, column, MATCH_HIGH);
    if (each) {
        a->each = each->value;
        *rows *= EQUAL_SHARE * LIST_GUESS;
        return;
    }
    if (low) {
        a->low = low->value;
        a->low_open = low->open;
        *rows *= RANGE_SHARE;
    }
    if (high) {
        a->high = high->value;
        a->high_open = high->open;
        *rows *= RANGE_SHARE;
    }
}

static int way_by(const struct select_compile *s, const struct table *t, uint32_t slot, const struct matches *m, const struct columns *ix,
                  bool first, struct way *out)
{
    double rows = TABLE_ROWS_GUESS;
    struct access a = {.kind = ACCESS_INDEX, .index = ix->no};
    int err = take_equal(s, m, ix, &a, &rows);
    if (err) return err;
    take_rest(m, ix, &a, &rows);
    bool whole = a.equal_count == ix->n;
    bool bound = a.equal_count > 0 || a.each || a.low || a.high;
    if (whole && ix->unique) rows = 1;
    if (ix->no == 0 && whole) a.kind = ACCESS_POINT;
    if (ix->no == 0 && a.each) rows = LIST_GUESS;
    if (ix->no == 0 && !bound) a.kind = ACCESS_SCAN;
    bool one = whole && ix->unique && s->s->level_count == 1;
    bool ids = ix->no == 0 && a.each && s->s->order_count == 0; // a list is gone through in the order of its keys
    bool sorted = first && needs_order(s->s) && (one || ids || (!a.each && gives_order(s->s, t, slot, ix, &a)));
    bool extreme = first && a.kind != ACCESS_POINT && gives_extreme(s->s, ix, &a);
    if (ix->no != 0 && !bound && !sorted && !extreme) rows = INFINITY; // all of an index, for nothing
    *out = (struct way){.access = a, .looked_at = fmax(rows, 1) * (ix->no == 0 ? 1 : INDEX_COST), .sorted = sorted, .extreme = extreme};
    return 0;
}

// ---- choosing ------------------------------------------------------------------------------------------------------

struct choice {
    struct select_compile *s;
    size_t order[QUERY_TABLES_MAX]; // places in the `from`
    struct way ways[QUERY_TABLES_MAX];
    size_t n;
    uint64_t placed; // slots
    double cost, rows;
};

static const struct table *table_of(const struct choice *c, size_t i)
{
    return c->s->tables[i].table;
}

static double condition_share(const struct expr *e, uint32_t slot)
{
    if (e->kind != EX_COMPARE || e->op != OP_EQ) return FILTER_SHARE;
    for (size_t side = 0; side < 2; side++)
        if (column_of(e->args[side], slot)) return equal_share(e->args[side]->column, e->args[1 - side]);
    return EQUAL_SHARE;
}

// The share of rows that the conditions which can be told from this table on let through.
static double share(const struct choice *c, size_t i)
{
    const struct select *s = c->s->s;
    uint64_t own = UINT64_C(1) << s->levels[i].slot, known = c->placed | own;
    double share = 1;
    for (size_t k = 0; k < s->where_count; k++) {
        const struct expr *e = s->where[k];
        if (!(e->uses & own) || (e->uses & s->own & ~known)) continue;
        share *= condition_share(e, s->levels[i].slot);
    }
    return share;
}

static double cost_of(const struct choice *c, const struct way *w, double kept)
{
    const struct select *s = c->s->s;
    double looked_at = c->rows * w->looked_at, rows = fmax(looked_at * kept, 0.001);
    if (w->extreme) return looked_at / fmax(rows, 1);
    if (c->n > 0 || !needs_order(s)) return looked_at;
    double limit = limit_of(s);
    if (!w->sorted) return looked_at * (1 + SORT_COST);
    return rows > limit ? looked_at * limit / rows : looked_at;
}

// What conditions of the text can tell of this table before its rows are known.
static void matches_of(const struct choice *c, size_t i, struct matches *m)
{
    const struct select *s = c->s->s;
    const struct level *level = &s->levels[i];
    uint64_t hidden = s->own & ~c->placed;
    m->n = 0;
    for (size_t k = 0; level->left && k < level->on_count; k++)
        match(m, level->on[k], level->slot, hidden);
    for (size_t k = 0; !level->left && k < s->where_count; k++)
        match(m, s->where[k], level->slot, hidden);
}

static bool usable(const struct choice *c, size_t i, const struct index *ix)
{
    const struct select *s = c->s->s;
    const struct level *level = &s->levels[i];
    struct expr *const *given = level->left ? level->on : s->where;
    size_t count = level->left ? level->on_count : s->where_count;
    return index_ready(c->s->of->r, table_of(c, i), ix, c->s->of->at) && covers(ix, given, count, level->slot);
}

static int best_way(const struct choice *c, size_t i, struct way *out, double *cost)
{
    struct matches m;
    const struct table *t = table_of(c, i);
    uint32_t slot = c->s->s->levels[i].slot;
    double kept;
    matches_of(c, i, &m);
    const struct columns ids = {.columns = &id_column, .n = 1, .unique = true};
    int err = way_by(c->s, t, slot, &m, &ids, c->n == 0, out);
    if (err) return err;
    kept = share(c, i);
    *cost = cost_of(c, out, fmin(1, TABLE_ROWS_GUESS * kept / out->looked_at));
    for (size_t k = 0; k < t->index_count && out->access.kind != ACCESS_POINT; k++) {
        const struct index *ix = &t->indexes[k];
        const struct columns columns = {.columns = ix->columns, .n = ix->column_count, .no = ix->no, .unique = ix->unique};
        struct way w;
        if (!usable(c, i, ix)) continue;
        err = way_by(c->s, t, slot, &m, &columns, c->n == 0, &w);
        if (err) return err;
        double other = cost_of(c, &w, fmin(1, TABLE_ROWS_GUESS * kept / w.looked_at));
        if (other >= *cost) continue;
        *cost = other;
        *out = w;
    }
    return 0;
}

// May this table come next? A left join's only behind what its ON names.
static bool may_come(const struct choice *c, size_t i)
{
    const struct select *s = c->s->s;
    const struct level *level = &s->levels[i];
    uint64_t own = UINT64_C(1) << level->slot;
    if (c->placed & own) return false;
    if (level->left && c->n == 0) return false;
    for (size_t k = 0; k < level->on_count; k++)
        if (level->on[k]->uses & s->own & ~(c->placed | own)) return false;
    return true;
}

static int place_next(const struct choice *c, size_t i, struct choice *out)
{
    struct way w;
    double cost;
    int err = best_way(c, i, &w, &cost);
    if (err) return err;
    *out = *c;
    out->order[c->n] = i;
    out->ways[c->n] = w;
    out->n++;
    out->placed |= UINT64_C(1) << c->s->s->levels[i].slot;
    out->cost += cost;
    double rows = c->rows * fmax(TABLE_ROWS_GUESS * share(c, i), 0.001);
    out->rows = c->s->s->levels[i].left ? fmax(rows, c->rows) : rows;
    return 0;
}

// All orders, as long as they are few; with many tables the cheapest next one each time.
static int search(const struct choice *c, struct choice *best)
{
    size_t count = c->s->s->level_count;
    struct choice next, cheapest = {.cost = INFINITY};
    if (c->n == count) {
        if (c->cost < best->cost) *best = *c;
        return 0;
    }
    if (c->cost >= best->cost) return 0;
    for (size_t i = 0; i < count; i++) {
        if (!may_come(c, i)) continue;
        int err = place_next(c, i, &next);
        if (!err && count <= PERMUTED_MAX) err = search(&next, best);
        if (err) return err;
        if (count > PERMUTED_MAX && next.cost < cheapest.cost) cheapest = next;
    }
    return count > PERMUTED_MAX && cheapest.n > 0 ? search(&cheapest, best) : 0;
}

// ---- putting it down -----------------------------------------------------------------------------------------------

static int put_filters(const struct select_compile *s, struct level *level, uint64_t before, uint64_t known, bool first)
{
    const struct select *sel = s->s;
    level->filters = arena_array(s->of->plan->arena, sel->where_count, sizeof *level->filters);
    if (!level->filters) return select_no_room(s->of);
    for (size_t i = 0; i < sel->where_count; i++) {
        uint64_t uses = sel->where[i]->uses & sel->own;
        if ((uses & ~known) || (!first && !(uses & ~before))) continue;
        level->filters[level->filter_count++] = sel->where[i];
    }
    return 0;
}

static int put_down(struct select_compile *s, const struct choice *best)
{
    struct select *sel = s->s;
    struct level *levels = arena_array(s->of->plan->arena, sel->level_count, sizeof *levels);
    uint64_t known = 0;
    int err = levels ? 0 : select_no_room(s->of);
    for (size_t i = 0; i < best->n && !err; i++) {
        uint64_t before = known;
        levels[i] = sel->levels[best->order[i]];
        levels[i].access = best->ways[i].access;
        known |= UINT64_C(1) << levels[i].slot;
        err = put_filters(s, &levels[i], before, known, i == 0);
    }
    if (err) return err;
    sel->levels = levels;
    sel->sorted = !needs_order(sel) || best->ways[0].sorted;
    sel->extreme = best->ways[0].extreme;
    return 0;
}

int plan_select(struct select_compile *s)
{
    struct choice start = {.s = s, .rows = 1}, best = {.cost = INFINITY};
    struct select *sel = s->s;
    sel->by_id = sel->order_count == 0 && sel->level_count == 1 && !sel->grouped && !sel->distinct;
    int err = search(&start, &best);
    if (err) return err;
    assert(best.n == sel->level_count);
    return put_down(s, &best);
}

// ---- later ---------------------------------------------------------------------------------------------------------

static bool select_holds(const struct select *s, const struct rows *r, uint64_t at)
{
    for (size_t i = 0; i < s->level_count; i++) {
        const struct level *level = &s->levels[i];
        const struct table *t = schema_table_no(r->schema, level->table);
        const struct index *ix = t && level->access.index != 0 ? table_index(t, level->access.index) : NULL;
        if (!t) return false;
        if (level->access.index != 0 && (!ix || !index_ready(r, t, ix, at))) return false;
    }
    return true;
}

bool plan_holds(const struct plan *plan, const struct rows *r, uint64_t at)
{
    if (!select_holds(plan->top, r, at)) return false;
    for (size_t i = 0; i < plan->sub_count; i++)
        if (!select_holds(plan->subs[i]->select, r, at)) return false;
    return true;
}
