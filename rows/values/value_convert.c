// From what a request or an SQL text says to what a column holds.
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base64.h"
#include "elements.h"
#include "err.h"
#include "instant.h"
#include "json_read.h"
#include "limits.h"
#include "utf8.h"
#include "value.h"

#define EXACT_DOUBLE 9007199254740992.0 // 2^53: whole doubles up to here are exact integers

static int wrong_type(const struct value_target *t, struct problem *p)
{
    char text[TYPE_TEXT_MAX];
    return problem_set(p, ERR_WRONG_TYPE, t->position, "%.*s is of type %s, this value is not", SPAN_FMT(t->column),
                       type_text(t->type, text));
}

static int bad_value(const struct value_target *t, struct problem *p, const char *why)
{
    return problem_set(p, ERR_BAD_VALUE, t->position, "%.*s: %s", SPAN_FMT(t->column), why);
}

static bool parse_integer(struct span s, int64_t *out)
{
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t v = 0, max = negative ? UINT64_C(1) << 63 : INT64_MAX;
    if (s.n == negative || s.n > 20) return false;
    for (size_t i = negative; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v) || v > max) return false;
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static int to_integer(struct value *out, const struct value_target *t, const struct row_value *in, struct problem *p)
{
    if (in->kind == ROW_INT) {
        out->i = in->i;
    } else if (in->kind == ROW_REAL && in->d == trunc(in->d) && fabs(in->d) <= EXACT_DOUBLE) {
        out->i = (int64_t)in->d;
    } else if (in->kind == ROW_TEXT && (t->type->kind != COL_INTEGER || t->source != VALUE_WRITTEN)) {
        // Beyond 2^53 many JSON readers lose digits, so a bigint may travel as a string.
        if (!parse_integer(in->s, &out->i)) return bad_value(t, p, "not a 64-bit integer");
    } else {
        return wrong_type(t, p);
    }
    // A comparison may well be with a number that no cell can hold.
    if (t->type->kind == COL_INTEGER && t->source == VALUE_WRITTEN && (out->i < INT32_MIN || out->i > INT32_MAX))
        return bad_value(t, p, "out of the range of integer");
    return 0;
}

// Parameters in an address are texts, and mean what they are compared with.
static bool parse_double(struct span s, double *out)
{
    char text[64] = {0}, *end;
    if (s.n == 0 || s.n >= sizeof text || memchr("+-.0123456789", s.p[0], 13) == NULL) return false;
    memcpy(text, s.p, s.n);
    *out = strtod(text, &end);
    return end == text + s.n;
}

static int to_double(struct value *out, const struct value_target *t, const struct row_value *in, struct problem *p)
{
    double d = in->kind == ROW_INT ? (double)in->i : in->d;
    if (in->kind == ROW_TEXT && t->source == VALUE_PARAMETER) {
        if (!parse_double(in->s, &d)) return bad_value(t, p, "not a number");
    } else if (in->kind != ROW_INT && in->kind != ROW_REAL) {
        return wrong_type(t, p);
    }
    if (!isfinite(d)) return bad_value(t, p, "not a finite number");
    out->d = d == 0 ? 0 : d; // one zero
    return 0;
}

static int to_instant(struct value *out, const struct value_target *t, const struct row_value *in, struct problem *p)
{
    if (in->kind == ROW_TEXT) return instant_parse(&out->i, in->s) == 0 ? 0 : bad_value(t, p, "not an RFC 3339 time with an offset");
    if (in->kind != ROW_INT) return wrong_type(t, p);
    if (in->i < INSTANT_MIN / 1000 || in->i > INSTANT_MAX / 1000) return bad_value(t, p, "not milliseconds within the years 1 to 9999");
    out->i = in->i * 1000;
    return 0;
}

static int to_text(struct value *out, const struct value_target *t, const struct row_value *in, struct arena *a, struct problem *p)
{
    if (in->kind != ROW_TEXT) return wrong_type(t, p);
    if (!utf8_valid(in->s)) return bad_value(t, p, "not valid UTF-8");
    if (in->s.n > 0 && memchr(in->s.p, 0, in->s.n)) return bad_value(t, p, "text cannot hold a NUL");
    return arena_copy_span(a, in->s, &out->s) ? 0 : ERR_NOMEM;
}

static int to_label(struct value *out, const struct value_target *t, const struct row_value *in, struct problem *p)
{
    if (in->kind != ROW_TEXT) return wrong_type(t, p);
    int at = labels_find(t->type->labels, in->s);
    if (at < 0)
        return problem_set(p, ERR_BAD_VALUE, t->position, "%.*s: %s has no label '%.*s'", SPAN_FMT(t->column),
                           type_text(t->type, (char[TYPE_TEXT_MAX]){0}), SPAN_FMT(span_sub(in->s, 0, NAME_MAX_BYTES)));
    out->i = at;
    return 0;
}

// Base64 where JSON says it, PostgreSQL's '\x…' in SQL; a parameter may be either, for no base64 begins with a backslash.
static int to_bytes(struct value *out, const struct value_target *t, const struct row_value *in, struct arena *a, struct problem *p)
{
    struct buf bytes;
    int err;
    if (in->kind != ROW_TEXT) return wrong_type(t, p);
    bool hex = t->source != VALUE_WRITTEN && span_starts(in->s, "\\x");
    if (!hex && t->source == VALUE_LITERAL) return bad_value(t, p, "not '\\x' and hexadecimal digits");
    buf_init(&bytes, BATCH_BYTES_MAX);
    if (hex) {
        uint8_t *to = buf_reserve(&bytes, in->s.n / 2 - 1);
        err = to ? hex_parse(to, in->s.n / 2 - 1, span_sub(in->s, 2, in->s.n)) : bytes.err;
        if (!err) bytes.n = in->s.n / 2 - 1;
    } else {
        err = base64_decode(&bytes, in->s);
    }
    if (err == ERR_BAD_VALUE) err = bad_value(t, p, hex ? "not '\\x' and hexadecimal digits" : "not base64");
    if (!err && !arena_copy_span(a, buf_span(&bytes), &out->s)) err = ERR_NOMEM;
    buf_free(&bytes);
    return err;
}

static int to_blob(struct value *out, const struct value_target *t, const struct row_value *in, struct problem *p)
{
    struct jr_tree *tree = NULL;
    struct span hex = in->s;
    if (in->kind == ROW_JSON) {
        if (jr_parse(&tree, in->s, NULL)) return bad_value(t, p, "not valid JSON");
        hex = jr_str(jr_get(jr_root(tree), "blob"));
    } else if (in->kind != ROW_TEXT || t->source == VALUE_WRITTEN) {
        return wrong_type(t, p);
    }
    int err = hex_parse(out->h.b, SHA256_BYTES, hex);
    jr_free(tree);
    return err == 0 ? 0 : bad_value(t, p, "not {\"blob\": \"64 hexadecimal digits\"}");
}

static int canonical_json(struct buf *out, const struct value_target *t, struct span text, struct problem *p)
{
    struct jr_tree *tree;
    if (jr_parse(&tree, text, NULL)) return bad_value(t, p, "not valid JSON");
    int err = jr_canonical(jr_root(tree), out);
    jr_free(tree);
    return err;
}

static int to_json(struct value *out, const struct value_target *t, const struct row_value *in, struct arena *a, struct problem *p)
{
    struct buf text;
    struct jw w;
    int err = 0;
    buf_init(&text, BATCH_BYTES_MAX * 2);
    jw_init(&w, &text);
    switch (in->kind) {
    case ROW_BOOL: jw_bool(&w, in->b); break;
    case ROW_INT: jw_int(&w, in->i); break;
    case ROW_REAL: jw_double(&w, in->d); break;
    case ROW_TEXT:
        if (t->source == VALUE_LITERAL) {
            err = canonical_json(&text, t, in->s, p);
        } else {
            jw_str(&w, in->s);
        }
        break;
    case ROW_JSON:
        err = utf8_valid(in->s) ? 0 : bad_value(t, p, "not valid UTF-8");
        buf_put_span(&text, in->s);
        break;
    case ROW_NULL: assert(!"handled before");
    }
    if (!err) err = text.err;
    if (!err && !arena_copy_span(a, buf_span(&text), &out->s)) err = ERR_NOMEM;
    buf_free(&text);
    return err;
}

int value_convert(struct value *out, const struct value_target *target, const struct row_value *in, struct arena *a, struct problem *p)
{
    struct value v = {.null = in->kind == ROW_NULL};
    int err = 0;
    assert(col_type_name(target->type->kind));
    if (v.null) {
        *out = v;
        return 0;
    }
    if (target->type->array) {
        err = elements_convert(&v, target, in, a, p);
        if (!err) *out = v;
        return err;
    }
    switch (target->type->kind) {
    case COL_TEXT: err = to_text(&v, target, in, a, p); break;
    case COL_ENUM: err = to_label(&v, target, in, p); break;
    case COL_BYTEA: err = to_bytes(&v, target, in, a, p); break;
    case COL_INTEGER:
    case COL_COUNTER:
    case COL_BIGINT: err = to_integer(&v, target, in, p); break;
    case COL_DOUBLE: err = to_double(&v, target, in, p); break;
    case COL_BOOLEAN:
        if (in->kind == ROW_TEXT && target->source == VALUE_PARAMETER) {
            v.b = span_is(in->s, "true");
            if (!v.b && !span_is(in->s, "false")) return bad_value(target, p, "not true or false");
            break;
        }
        if (in->kind != ROW_BOOL) return wrong_type(target, p);
        v.b = in->b;
        break;
    case COL_TIMESTAMPTZ: err = to_instant(&v, target, in, p); break;
    case COL_UUID:
        if (in->kind != ROW_TEXT) return wrong_type(target, p);
        if (uuid_parse(&v.u, in->s)) return bad_value(target, p, "not a UUID");
        break;
    case COL_JSONB: err = to_json(&v, target, in, a, p); break;
    case COL_STREAM:
        return problem_set(p, ERR_WRONG_TYPE, target->position, "%.*s is a stream; append to it instead", SPAN_FMT(target->column));
    case COL_BLOB: err = to_blob(&v, target, in, p); break;
    }
    if (!err) *out = v;
    return err;
}
