// Expressions as text: canonical, so that equal ones are equal bytes, and readable again.
#include <assert.h>

#include "err.h"
#include "expr.h"
#include "limits.h"
#include "schema.h"
#include "sql_words.h"

// A constant by itself says its type only where it is a number, a truth or a text.
static void put_const(struct buf *out, const struct type *type, const struct value *v)
{
    char name[TYPE_TEXT_MAX], hex[SHA256_HEX];
    struct buf text;
    bool bare = !type->array && (type->kind == COL_INTEGER || type->kind == COL_BIGINT || type->kind == COL_COUNTER ||
                                 type->kind == COL_DOUBLE || type->kind == COL_BOOLEAN);
    if (v->null) {
        buf_put_str(out, "null");
        return;
    }
    if (bare) {
        value_text(out, type, v);
        return;
    }
    buf_init(&text, ROW_BYTES_MAX * 2);
    if (type->kind == COL_BLOB) {
        hex_format(hex, SPAN(v->h.b, SHA256_BYTES));
        buf_put(&text, hex, SHA256_HEX);
    } else {
        value_text(&text, type, v);
    }
    if (text.err && !out->err) out->err = text.err;
    sql_put_text(out, buf_span(&text));
    if (type->kind != COL_TEXT && type->kind != COL_ENUM && !type->array) buf_printf(out, "::%s", type_text(type, name));
    buf_free(&text);
}

static const char *sign(const struct expr *e)
{
    static const char *const comparisons[] = {[OP_EQ] = "=", [OP_NE] = "<>", [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">=",
                                              [OP_DISTINCT] = "is distinct from", [OP_SAME] = "is not distinct from"};
    static const char arith[] = "+\0-\0*\0/\0%";
    if (e->kind == EX_COMPARE || e->kind == EX_ANY) return comparisons[e->op];
    if (e->kind == EX_CONCAT) return "||";
    if (e->kind == EX_CONTAINS) return "@>";
    if (e->kind == EX_LIKE) return e->op ? (e->negate ? "not ilike" : "ilike") : e->negate ? "not like" : "like";
    for (const char *s = arith; s < arith + sizeof arith; s += 2)
        if (*s == e->op) return s;
    assert(!"an operator");
    return "";
}

static void put_list(struct buf *out, const struct expr *e, size_t from, const char *between)
{
    for (size_t i = from; i < e->count; i++) {
        if (i > from) buf_put_str(out, between);
        expr_sql(out, e->args[i]);
    }
}

static void put_within(struct buf *out, const char *before, const struct expr *e, size_t from, const char *between, const char *after)
{
    buf_put_str(out, before);
    put_list(out, e, from, between);
    buf_put_str(out, after);
}

static void put_case(struct buf *out, const struct expr *e)
{
    buf_put_str(out, "case");
    for (size_t i = 0; i + 1 < e->count; i += 2) {
        buf_put_str(out, " when ");
        expr_sql(out, e->args[i]);
        buf_put_str(out, " then ");
        expr_sql(out, e->args[i + 1]);
    }
    if (e->count % 2 == 1) {
        buf_put_str(out, " else ");
        expr_sql(out, e->args[e->count - 1]);
    }
    buf_put_str(out, " end");
}

static void put_test(struct buf *out, const struct expr *e)
{
    static const char *const truths[] = {[AST_TRUE] = "true", [AST_FALSE] = "false", [AST_UNKNOWN] = "unknown"};
    put_within(out, "(", e, 0, "", e->negate ? " is not " : " is ");
    buf_put_str(out, e->kind == EX_IS_NULL ? "null" : truths[e->op]);
    buf_put_str(out, ")");
}

static const char *call_name(const struct expr *e)
{
    switch ((enum expr_call)e->op) {
    case CALL_LOWER: return "lower(";
    case CALL_UPPER: return "upper(";
    case CALL_LENGTH: return "length(";
    case CALL_ABS: return "abs(";
    case CALL_CARDINALITY: return "cardinality(";
    case CALL_STREAM_TEXT: return "stream_text(";
    }
    return "";
}

static void put_any(struct buf *out, const struct expr *e)
{
    buf_put_str(out, "(");
    expr_sql(out, e->args[0]);
    buf_printf(out, " %s ", e->negate ? "<>" : sign(e));
    put_within(out, e->negate ? "all (" : "any (", e, 1, "", "))");
}

static void put_cast(struct buf *out, const struct expr *e)
{
    char name[TYPE_TEXT_MAX];
    put_within(out, "(", e, 0, "", ")");
    buf_printf(out, "::%s", type_text(&e->type, name));
}

void expr_sql(struct buf *out, const struct expr *e)
{
    switch (e->kind) {
    case EX_CONST: put_const(out, &e->type, &e->value); return;
    case EX_COLUMN: sql_put_name(out, e->name); return;
    case EX_AND: put_within(out, "(", e, 0, " and ", ")"); return;
    case EX_OR: put_within(out, "(", e, 0, " or ", ")"); return;
    case EX_NOT: put_within(out, "(not ", e, 0, "", ")"); return;
    case EX_MINUS: put_within(out, "(- ", e, 0, "", ")"); return;
    case EX_COMPARE:
    case EX_LIKE:
    case EX_ARITH:
    case EX_CONCAT:
    case EX_CONTAINS:
        buf_put_str(out, "(");
        expr_sql(out, e->args[0]);
        buf_printf(out, " %s ", sign(e));
        expr_sql(out, e->args[1]);
        buf_put_str(out, ")");
        return;
    case EX_IN:
        buf_put_str(out, "(");
        expr_sql(out, e->args[0]);
        put_within(out, e->negate ? " not in (" : " in (", e, 1, ", ", "))");
        return;
    case EX_ANY: put_any(out, e); return;
    case EX_IS_NULL:
    case EX_IS_TRUTH: put_test(out, e); return;
    case EX_ELEMENTS: put_within(out, "array[", e, 0, ", ", "]"); return;
    case EX_CASE: put_case(out, e); return;
    case EX_COALESCE: put_within(out, "coalesce(", e, 0, ", ", ")"); return;
    case EX_NULLIF: put_within(out, "nullif(", e, 0, ", ", ")"); return;
    case EX_EXTREME: put_within(out, e->op == '>' ? "greatest(" : "least(", e, 0, ", ", ")"); return;
    case EX_CALL: put_within(out, call_name(e), e, 0, ", ", ")"); return;
    case EX_CAST: put_cast(out, e); return;
    case EX_PARAM:
    case EX_SLOT:
    case EX_SUB: break;
    }
    assert(!"an expression of one row");
}

// ---- equality ------------------------------------------------------------------------------------------------------

bool expr_same(const struct expr *a, const struct expr *b)
{
    if (a->kind != b->kind || a->op != b->op || a->negate != b->negate || a->count != b->count || !type_same(&a->type, &b->type)) return false;
    if (a->kind == EX_SUB) return a->origin == b->origin;
    if (a->kind == EX_CONST && !value_equal(&a->type, &a->value, &b->value)) return false;
    if ((a->kind == EX_COLUMN || a->kind == EX_PARAM || a->kind == EX_SLOT) && (a->slot != b->slot || a->column != b->column)) return false;
    for (size_t i = 0; i < a->count; i++)
        if (!expr_same(a->args[i], b->args[i])) return false;
    return true;
}
