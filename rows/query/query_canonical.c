// The canonical form of a select: what it asks, whatever words asked for it. Conditions that must all hold, and those of which one must, are sorted, and
// each counts once; a constant stands behind what it is compared with; parameters are the values that they have. Which way the plan goes says nothing.
#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "digest.h"
#include "err.h"
#include "query_live.h"

#define CANONICAL_MAX (2 * MIB)

// A select within stands in the text once, and in the plan wherever it is spoken of again (ordered by, grouped by): nested ones would double with each level.
// So it goes by a digest of its own form, which is made once.
struct sub_form {
    bool is;
    struct sha256 digest;
};

struct forms {
    const struct query *q;
    struct sub_form *subs; // by their numbers
};

static void put_expr(struct buf *out, const struct forms *f, const struct expr *e);
static void put_select(struct buf *out, const struct forms *f, const struct select *s);

// ---- parts in no order ---------------------------------------------------------------------------------------------

static int compare_spans(const void *a, const void *b)
{
    return span_compare(*(const struct span *)a, *(const struct span *)b);
}

static void put_sorted(struct buf *out, struct span *parts, size_t n)
{
    if (n > 1) qsort(parts, n, sizeof *parts, compare_spans);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && span_equal(parts[i - 1], parts[i])) continue;
        buf_put_varint(out, parts[i].n + 1);
        buf_put(out, parts[i].p, parts[i].n);
    }
    buf_put_varint(out, 0);
}

// Each expression is written by itself first, then in the order of their bytes.
static void put_set(struct buf *out, const struct forms *f, struct expr *const *exprs, size_t n)
{
    struct buf bytes;
    buf_init(&bytes, CANONICAL_MAX);
    size_t *ends = malloc((n + 1) * sizeof *ends);
    struct span *parts = malloc((n + 1) * sizeof *parts);
    for (size_t i = 0; i < n && ends && parts; i++) {
        put_expr(&bytes, f, exprs[i]);
        ends[i] = bytes.n;
    }
    if (!ends || !parts) bytes.err = ERR_NOMEM;
    for (size_t i = 0; i < n && !bytes.err; i++) {
        size_t begin = i > 0 ? ends[i - 1] : 0;
        parts[i] = SPAN(bytes.p + begin, ends[i] - begin);
    }
    if (!bytes.err) put_sorted(out, parts, n);
    else if (!out->err) out->err = bytes.err;
    free(ends);
    free(parts);
    buf_free(&bytes);
}

static void put_list(struct buf *out, const struct forms *f, struct expr *const *exprs, size_t n)
{
    buf_put_varint(out, n);
    for (size_t i = 0; i < n; i++)
        put_expr(out, f, exprs[i]);
}

// ---- expressions ---------------------------------------------------------------------------------------------------

static bool is_constant(const struct expr *e)
{
    return e->kind == EX_CONST || e->kind == EX_PARAM;
}

static void put_type(struct buf *out, const struct type *t)
{
    buf_put_u8(out, (uint8_t)t->kind);
    buf_put_u8(out, (uint8_t)(t->array | t->set << 1));
    if (t->kind == COL_ENUM) buf_put_blob(out, t->labels->name);
}

static void put_constant(struct buf *out, const struct type *type, const struct value *v)
{
    buf_put_u8(out, EX_CONST);
    put_type(out, type);
    buf_put_u8(out, v->null);
    if (!v->null) value_encode(out, type, v);
}

static int turned(int op)
{
    static const enum ast_op turns[] = {[OP_LT] = OP_GT, [OP_LE] = OP_GE, [OP_GT] = OP_LT, [OP_GE] = OP_LE};
    return op == OP_LT || op == OP_LE || op == OP_GT || op == OP_GE ? (int)turns[op] : op;
}

static void put_comparison(struct buf *out, const struct forms *f, const struct expr *e)
{
    bool turn = is_constant(e->args[0]) && !is_constant(e->args[1]);
    put_type(out, &e->compared);
    buf_put_svarint(out, turn ? turned(e->op) : e->op);
    put_expr(out, f, e->args[turn]);
    put_expr(out, f, e->args[!turn]);
}

static int digest_sub(const struct forms *f, const struct sub *sub)
{
    struct sub_form *form = &f->subs[sub->no];
    struct buf bytes;
    if (form->is) return 0;
    buf_init(&bytes, CANONICAL_MAX);
    put_select(&bytes, f, sub->select);
    int err = bytes.err;
    if (!err) *form = (struct sub_form){.is = true, .digest = sha256_of(buf_span(&bytes))};
    buf_free(&bytes);
    return err;
}

static void put_sub(struct buf *out, const struct forms *f, const struct expr *e)
{
    const struct sub *sub = e->sub;
    assert(sub->no < f->q->plan->sub_count);
    int err = out->err ? 0 : digest_sub(f, sub);
    if (err) out->err = err;
    buf_put_u8(out, (uint8_t)sub->kind);
    put_type(out, &sub->compared);
    put_list(out, f, e->args, e->count);
    buf_put(out, f->subs[sub->no].digest.b, sizeof f->subs[sub->no].digest.b);
}

static void put_expr(struct buf *out, const struct forms *f, const struct expr *e)
{
    if (e->kind == EX_CONST || e->kind == EX_PARAM) {
        put_constant(out, &e->type, e->kind == EX_CONST ? &e->value : &f->q->params[e->slot]);
        return;
    }
    buf_put_u8(out, (uint8_t)e->kind);
    put_type(out, &e->type);
    buf_put_u8(out, e->negate);
    switch (e->kind) {
    case EX_COLUMN:
        buf_put_varint(out, e->slot);
        buf_put_svarint(out, e->column);
        break;
    case EX_SLOT: buf_put_varint(out, e->slot); break;
    case EX_AND:
    case EX_OR: put_set(out, f, e->args, e->count); break;
    case EX_COMPARE: put_comparison(out, f, e); break;
    case EX_IN:
        put_type(out, &e->compared);
        put_expr(out, f, e->args[0]);
        put_set(out, f, e->args + 1, e->count - 1);
        break;
    case EX_SUB: put_sub(out, f, e); break;
    default:
        put_type(out, &e->compared);
        buf_put_svarint(out, e->op);
        put_list(out, f, e->args, e->count);
    }
}

// ---- selects -------------------------------------------------------------------------------------------------------

static const struct level *level_of(const struct select *s, uint32_t slot)
{
    for (size_t i = 0; i < s->level_count; i++)
        if (s->levels[i].slot == slot) return &s->levels[i];
    return NULL;
}

// In the order of the text, which is that of the slots.
static void put_tables(struct buf *out, const struct forms *f, const struct select *s)
{
    buf_put_varint(out, s->level_count);
    for (uint32_t slot = 0; slot < EXPR_TABLES_MAX; slot++) {
        const struct level *level = level_of(s, slot);
        if (!level) continue;
        buf_put_varint(out, slot);
        buf_put_varint(out, level->table);
        buf_put_u8(out, level->left);
        put_set(out, f, level->on, level->on_count);
    }
}

static void put_aggregates(struct buf *out, const struct forms *f, const struct select *s)
{
    buf_put_varint(out, s->aggregate_count);
    for (size_t i = 0; i < s->aggregate_count; i++) {
        const struct aggregate *a = &s->aggregates[i];
        buf_put_u8(out, (uint8_t)a->kind);
        buf_put_u8(out, (uint8_t)(a->distinct | (a->arg ? 2 : 0)));
        buf_put_varint(out, a->slot);
        if (a->arg) put_expr(out, f, a->arg);
    }
}

// `none`: the number that says as much as none at all.
static void put_count(struct buf *out, const struct forms *f, const struct select_count *count, int64_t none)
{
    const struct value *v = count->is && count->param >= 0 ? &f->q->params[count->param] : NULL;
    int64_t n = v ? v->i : (int64_t)count->n;
    bool is = count->is && !(v && v->null) && n != none;
    buf_put_u8(out, is);
    if (is) buf_put_svarint(out, n);
}

static void put_select(struct buf *out, const struct forms *f, const struct select *s)
{
    put_tables(out, f, s);
    put_set(out, f, s->where, s->where_count);
    buf_put_varint(out, s->target_count);
    for (size_t i = 0; i < s->target_count; i++) {
        buf_put_blob(out, s->targets[i].name);
        put_expr(out, f, s->targets[i].expr);
    }
    buf_put_u8(out, (uint8_t)(s->grouped | s->distinct << 1));
    buf_put_varint(out, s->group_slot);
    put_list(out, f, s->group, s->group_count);
    put_aggregates(out, f, s);
    buf_put_u8(out, s->having != NULL);
    if (s->having) put_expr(out, f, s->having);
    buf_put_varint(out, s->order_count);
    for (size_t i = 0; i < s->order_count; i++) {
        buf_put_u8(out, (uint8_t)(s->order[i].desc | s->order[i].nulls_first << 1));
        put_expr(out, f, s->order[i].expr);
    }
    put_count(out, f, &s->limit, INT64_MAX);
    put_count(out, f, &s->offset, 0);
}

static int canonicalize(struct query *q, struct buf *out)
{
    const struct forms f = {.q = q, .subs = calloc(q->plan->sub_count + 1, sizeof *f.subs)};
    if (!f.subs) return ERR_NOMEM;
    put_select(out, &f, q->plan->top);
    free(f.subs);
    return out->err;
}

int query_canonicalize(struct query *q, struct problem *p)
{
    struct buf out;
    buf_init(&out, CANONICAL_MAX);
    int err = canonicalize(q, &out);
    if (!err && !arena_copy_span(q->arena, buf_span(&out), &q->canonical)) err = arena_full(q->arena) ? ERR_TOO_LARGE : ERR_NOMEM;
    buf_free(&out);
    if (err == ERR_TOO_LARGE) return problem_set(p, err, -1, "the constants of a query take too much memory");
    if (!err) q->canonical_hash = checksum64(q->canonical, 0);
    return err;
}
