// The queries that views keep current: rows of one table, compared with constants and ordered by columns. What a query is can be told from
// its compiled form; here it is taken apart into terms, which a changed row is tried against without anything else.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "expr.h"
#include "query.h"

#define CANONICAL_MAX (2 * MIB)

struct live {
    struct query *q;
    const struct select *s;
    struct problem *p;
};

static int unsupported(const struct live *l, int64_t position, const char *what)
{
    return problem_set(l->p, ERR_UNSUPPORTED_SQL, position, "%s not supported in a live query yet", what);
}

static int no_room(const struct live *l)
{
    if (!arena_full(l->q->arena)) return ERR_NOMEM;
    return problem_set(l->p, ERR_TOO_LARGE, -1, "the constants of a query take too much memory");
}

// ---- terms ---------------------------------------------------------------------------------------------------------

static int add_term(struct live *l, const struct expr *column, enum ast_op op, struct value v)
{
    struct query *q = l->q;
    if (q->term_count == QUERY_TERMS_MAX)
        return problem_set(l->p, ERR_UNSUPPORTED_SQL, column->position, "a live query has at most %d comparisons", QUERY_TERMS_MAX);
    q->terms[q->term_count++] = (struct term){.column = column->column, .type = column->type, .op = op, .v = v};
    return 0;
}

static bool is_constant(const struct expr *e)
{
    return e->kind == EX_CONST || e->kind == EX_PARAM;
}

static struct value constant(const struct live *l, const struct expr *e)
{
    return e->kind == EX_CONST ? e->value : l->q->params[e->slot];
}

static enum ast_op turned(enum ast_op op)
{
    static const enum ast_op turns[] = {[OP_EQ] = OP_EQ, [OP_NE] = OP_NE, [OP_LT] = OP_GT, [OP_LE] = OP_GE, [OP_GT] = OP_LT, [OP_GE] = OP_LE};
    return turns[op];
}

static enum ast_op negated(enum ast_op op)
{
    static const enum ast_op turns[] = {[OP_EQ] = OP_NE, [OP_NE] = OP_EQ, [OP_LT] = OP_GE, [OP_LE] = OP_GT, [OP_GT] = OP_LE, [OP_GE] = OP_LT};
    return turns[op];
}

static int comparison(struct live *l, const struct expr *e, bool negate)
{
    bool flip = is_constant(e->args[0]);
    const struct expr *column = e->args[flip], *value = e->args[!flip];
    enum ast_op op = (enum ast_op)e->op;
    if (op > OP_GE) return unsupported(l, e->position, "IS DISTINCT FROM is");
    if (column->kind != EX_COLUMN || !is_constant(value)) return unsupported(l, e->position, "comparing anything but a column with a constant is");
    if (flip) op = turned(op);
    return add_term(l, column, negate ? negated(op) : op, constant(l, value));
}

// Of a null neither a condition nor its negation is true, so to negate a comparison is to turn it round.
static int condition(struct live *l, const struct expr *e, bool negate)
{
    int err = 0;
    switch (e->kind) {
    case EX_COMPARE: return comparison(l, e, negate);
    case EX_COLUMN: return add_term(l, e, OP_EQ, (struct value){.b = !negate});
    case EX_NOT: return condition(l, e->args[0], !negate);
    case EX_IS_NULL:
        if (e->args[0]->kind != EX_COLUMN) break;
        return add_term(l, e->args[0], (e->negate != negate) ? OP_NOT_NULL : OP_IS_NULL, VALUE_NULL);
    case EX_IS_TRUTH:
        if (e->args[0]->kind != EX_COLUMN || e->negate || negate || e->op == AST_UNKNOWN) break;
        return add_term(l, e->args[0], OP_EQ, (struct value){.b = e->op == AST_TRUE});
    case EX_AND:
        for (size_t i = 0; i < e->count && !err && !negate; i++)
            err = condition(l, e->args[i], false);
        if (!negate) return err;
        break;
    default: break;
    }
    return unsupported(l, e->position, "a condition like this one is");
}

static int compare_terms(const void *x, const void *y)
{
    const struct term *a = x, *b = y;
    if (a->column != b->column) return a->column < b->column ? -1 : 1;
    if (a->op != b->op) return a->op < b->op ? -1 : 1;
    if (a->v.null || b->v.null) return b->v.null - a->v.null;
    return value_compare(&a->type, &a->v, &b->v);
}

// Terms are sorted, so that `a = 1 and b = 2` and `b = 2 and a = 1` are one query.
static int take_terms(struct live *l)
{
    struct query *q = l->q;
    q->terms = arena_array(q->arena, QUERY_TERMS_MAX, sizeof *q->terms);
    if (!q->terms) return no_room(l);
    for (size_t i = 0; i < l->s->where_count; i++) {
        int err = condition(l, l->s->where[i], false);
        if (err) return err;
    }
    size_t all = q->term_count;
    qsort(q->terms, all, sizeof *q->terms, compare_terms);
    q->term_count = 0;
    for (size_t i = 0; i < all; i++) {
        const struct term *term = &q->terms[i];
        if (q->term_count > 0 && compare_terms(&q->terms[q->term_count - 1], term) == 0) continue;
        if (term->column == COLUMN_ID && term->op == OP_EQ && !term->v.null) {
            q->point = true;
            q->id = term->v.u;
        }
        q->terms[q->term_count++] = *term;
    }
    return 0;
}

// ---- columns, order, limit -----------------------------------------------------------------------------------------

static int take_columns(struct live *l)
{
    struct query *q = l->q;
    const struct table *t = schema_table_no(q->plan->schema, q->table);
    q->columns = arena_array(q->arena, l->s->target_count, sizeof *q->columns);
    if (!q->columns) return no_room(l);
    for (size_t i = 1; i < l->s->target_count; i++) { // the first is the id
        const struct target *target = &l->s->targets[i];
        const struct expr *e = target->expr;
        if (e->kind != EX_COLUMN || e->column == COLUMN_ID) return unsupported(l, e->position, "anything but columns is");
        if (!span_equal(target->name, t->columns[e->column].name)) return unsupported(l, e->position, "AS is");
        q->columns[q->column_count++] = e->column;
    }
    return 0;
}

static int take_order(struct live *l)
{
    struct query *q = l->q;
    q->order = arena_array(q->arena, l->s->order_count, sizeof *q->order);
    if (!q->order) return no_room(l);
    for (size_t i = 0; i < l->s->order_count; i++) {
        const struct order_term *o = &l->s->order[i];
        if (o->expr->kind != EX_COLUMN) return unsupported(l, o->expr->position, "ORDER BY anything but columns is");
        q->order[q->order_count++] =
            (struct order){.column = o->expr->column, .type = o->expr->type, .desc = o->desc, .nulls_first = o->nulls_first};
    }
    return 0;
}

static int take_limit(struct live *l)
{
    const struct select_count *limit = &l->s->limit;
    if (l->s->offset.is) return unsupported(l, l->s->offset.position, "OFFSET is");
    if (!limit->is || (limit->param >= 0 && l->q->params[limit->param].null)) return 0;
    int64_t n = limit->param >= 0 ? l->q->params[limit->param].i : (int64_t)limit->n;
    if (n < 0) return problem_set(l->p, ERR_BAD_VALUE, limit->position, "a limit is not negative");
    // A result is bounded anyway; a limit beyond that bound says nothing.
    l->q->has_limit = n <= QUERY_ROWS_MAX;
    l->q->limit = l->q->has_limit ? (uint32_t)n : 0;
    return 0;
}

// ---- canonical form ------------------------------------------------------------------------------------------------

static void put_term(struct buf *out, const struct term *t)
{
    buf_put_svarint(out, t->column);
    buf_put_u8(out, (uint8_t)t->op);
    buf_put_u8(out, t->v.null);
    if (!t->v.null) value_encode(out, &t->type, &t->v);
}

static int canonicalize(struct live *l)
{
    struct query *q = l->q;
    struct buf out;
    buf_init(&out, CANONICAL_MAX);
    buf_put_varint(&out, q->table);
    buf_put_varint(&out, q->column_count);
    for (size_t i = 0; i < q->column_count; i++)
        buf_put_varint(&out, (uint64_t)q->columns[i]);
    buf_put_varint(&out, q->term_count);
    for (size_t i = 0; i < q->term_count; i++)
        put_term(&out, &q->terms[i]);
    buf_put_varint(&out, q->order_count);
    for (size_t i = 0; i < q->order_count; i++) {
        buf_put_svarint(&out, q->order[i].column);
        buf_put_u8(&out, (uint8_t)(q->order[i].desc | q->order[i].nulls_first << 1));
    }
    buf_put_varint(&out, q->has_limit ? q->limit + 1ull : 0);
    int err = out.err;
    if (!err && !arena_copy_span(q->arena, buf_span(&out), &q->canonical)) err = no_room(l);
    buf_free(&out);
    return err;
}

int query_make_live(struct query *q, struct problem *p)
{
    struct live l = {.q = q, .s = q->plan->top, .p = p};
    if (q->live) return 0;
    if (l.s->level_count > 1) return unsupported(&l, -1, "more than one table is");
    if (l.s->grouped) return unsupported(&l, -1, "grouping is");
    if (l.s->distinct) return unsupported(&l, -1, "DISTINCT is");
    q->table = l.s->levels[0].table;
    q->column_count = q->term_count = q->order_count = 0;
    int err = take_columns(&l);
    if (!err) err = take_terms(&l);
    if (!err) err = take_order(&l);
    if (!err) err = take_limit(&l);
    if (!err) err = canonicalize(&l);
    q->live = !err;
    return err;
}

// ---- rows ----------------------------------------------------------------------------------------------------------

// SQL's three values, of which a `where` takes but one: a comparison with null is not true.
static bool term_holds(const struct term *t, const struct value *v)
{
    if (t->op == OP_IS_NULL) return v->null;
    if (t->op == OP_NOT_NULL) return !v->null;
    if (v->null || t->v.null) return false;
    return comparison_holds(t->op, value_compare(&t->type, v, &t->v));
}

bool query_matches(const struct query *q, struct uuid id, const struct row *row)
{
    struct value id_value = {.u = id};
    if (!row_live(row)) return false;
    for (size_t i = 0; i < q->term_count; i++) {
        const struct term *t = &q->terms[i];
        assert(t->column < (int)row->count);
        if (!term_holds(t, t->column == COLUMN_ID ? &id_value : &row->cells[t->column].v)) return false;
    }
    return true;
}

void query_order_key(const struct query *q, struct uuid id, const struct row *row, struct buf *out)
{
    struct value id_value = {.u = id};
    for (size_t i = 0; i < q->order_count; i++) {
        const struct order *o = &q->order[i];
        const struct value *v = o->column == COLUMN_ID ? &id_value : &row->cells[o->column].v;
        value_order_key(out, &o->type, v, o->desc, o->nulls_first);
    }
    buf_put(out, id.b, sizeof id.b);
}
