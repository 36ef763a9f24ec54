#include "value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "elements.h"
#include "err.h"
#include "instant.h"
#include "utf8.h"

#define SAFE_INTEGER INT64_C(9007199254740991) // the largest that every JSON reader keeps exact

bool value_copy(struct value *out, const struct type *type, const struct value *in, struct arena *a)
{
    struct value v = *in;
    if (!v.null && type_is_span(type) && !arena_copy_span(a, in->s, &v.s)) return false;
    *out = v;
    return true;
}

int value_compare(const struct type *type, const struct value *a, const struct value *b)
{
    assert(!a->null && !b->null);
    if (type->array) return elements_compare(type, a, b);
    switch (type->kind) {
    case COL_TEXT:
    case COL_JSONB:
    case COL_BYTEA: return span_compare(a->s, b->s);
    case COL_INTEGER:
    case COL_BIGINT:
    case COL_COUNTER:
    case COL_ENUM:
    case COL_TIMESTAMPTZ: return (a->i > b->i) - (a->i < b->i);
    case COL_DOUBLE: return (a->d > b->d) - (a->d < b->d);
    case COL_BOOLEAN: return a->b - b->b;
    case COL_UUID: return uuid_compare(a->u, b->u);
    case COL_BLOB: return memcmp(a->h.b, b->h.b, SHA256_BYTES);
    case COL_STREAM: return 0;
    }
    assert(!"a type");
    return 0;
}

bool value_equal(const struct type *type, const struct value *a, const struct value *b)
{
    if (a->null || b->null) return a->null == b->null;
    return type->array ? span_equal(a->s, b->s) : value_compare(type, a, b) == 0;
}

// ---- order ---------------------------------------------------------------------------------------------------------

// What a key begins with. A value's first byte lies between those of the nulls, inverted or not.
enum { NULL_FIRST = 0x00, VALUE = 0x01, POSITIVE = 0x80, NULL_LAST = 0xff };

static uint64_t order_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

// The first byte says the sign and how many bytes follow; below zero more of them come first.
static void order_integer(struct buf *out, int64_t i)
{
    uint64_t size = (uint64_t)(i < 0 ? ~i : i);
    int n = size == 0 ? 0 : (71 - __builtin_clzll(size)) / 8;
    buf_put_u8(out, (uint8_t)(i < 0 ? POSITIVE - 1 - n : POSITIVE + n));
    for (int k = n - 1; k >= 0; k--)
        buf_put_u8(out, (uint8_t)((uint64_t)i >> k * 8));
}

// A zero byte is followed by 0xff, so that two zeros end it.
static void order_bytes(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        buf_put_u8(out, s.p[i]);
        if (s.p[i] == 0) buf_put_u8(out, 0xff);
    }
    buf_put(out, "\0", 2);
}

static void order_value(struct buf *out, const struct type *type, const struct value *v)
{
    bool integer = type->kind == COL_INTEGER || type->kind == COL_BIGINT || type->kind == COL_TIMESTAMPTZ || type->kind == COL_ENUM ||
                   type->kind == COL_COUNTER;
    if (type->array || !integer) buf_put_u8(out, VALUE + (!type->array && type->kind == COL_BOOLEAN && v->b));
    if (type->array) {
        elements_order(out, type, v);
        return;
    }
    switch (type->kind) {
    case COL_TEXT:
        buf_put_span(out, v->s); // holds no NUL, so that one ends it
        buf_put_u8(out, 0);
        return;
    case COL_BYTEA: order_bytes(out, v->s); return;
    case COL_INTEGER:
    case COL_BIGINT:
    case COL_COUNTER:
    case COL_ENUM:
    case COL_TIMESTAMPTZ: order_integer(out, v->i); return;
    case COL_DOUBLE: buf_put_u64_be(out, order_bits(v->d)); return;
    case COL_BOOLEAN: return; // said by the first byte
    case COL_UUID: buf_put(out, v->u.b, sizeof v->u.b); return;
    case COL_JSONB:
    case COL_STREAM:
    case COL_BLOB: break;
    }
    assert(!"an ordered type");
}

void value_order_key(struct buf *out, const struct type *type, const struct value *v, bool desc, bool nulls_first)
{
    if (v->null) {
        buf_put_u8(out, nulls_first ? NULL_FIRST : NULL_LAST);
        return;
    }
    size_t from = out->n;
    order_value(out, type, v);
    for (size_t i = from; desc && i < out->n; i++)
        out->p[i] = (uint8_t)~out->p[i];
}

// ---- stored form ---------------------------------------------------------------------------------------------------

void value_encode(struct buf *out, const struct type *type, const struct value *v)
{
    uint64_t bits;
    assert(!v->null);
    if (type_is_span(type)) {
        buf_put_blob(out, v->s);
        return;
    }
    switch (type->kind) {
    case COL_INTEGER:
    case COL_BIGINT:
    case COL_COUNTER:
    case COL_TIMESTAMPTZ: buf_put_svarint(out, v->i); return;
    case COL_DOUBLE:
        memcpy(&bits, &v->d, sizeof bits);
        buf_put_u64(out, bits);
        return;
    case COL_ENUM: buf_put_varint(out, (uint64_t)v->i); return;
    case COL_BOOLEAN: buf_put_u8(out, v->b); return;
    case COL_UUID: buf_put(out, v->u.b, sizeof v->u.b); return;
    case COL_BLOB: buf_put(out, v->h.b, SHA256_BYTES); return;
    case COL_STREAM: return;
    case COL_TEXT:
    case COL_JSONB:
    case COL_BYTEA: break;
    }
    assert(!"a type");
}

static void decode_text(struct cur *c, struct value *v, bool nul_is_fine)
{
    v->s = cur_blob(c);
    if (!utf8_valid(v->s)) cur_fail(c);
    if (!nul_is_fine && v->s.n > 0 && memchr(v->s.p, 0, v->s.n)) cur_fail(c);
}

static void decode_integer(struct cur *c, int64_t *i, int64_t min, int64_t max)
{
    *i = cur_svarint(c);
    if (*i < min || *i > max) cur_fail(c);
}

static void decode_label(struct cur *c, const struct labels *l, int64_t *i)
{
    uint64_t at = cur_varint(c);
    if (at >= labels_count(l)) cur_fail(c);
    *i = c->err ? 0 : (int64_t)at;
}

static void decode_double(struct cur *c, double *d)
{
    uint64_t bits = cur_u64(c);
    memcpy(d, &bits, sizeof *d);
    if (!isfinite(*d) || bits == UINT64_C(1) << 63) cur_fail(c);
}

static void decode_bytes(struct cur *c, uint8_t *out, size_t n)
{
    struct span s = cur_span(c, n);
    if (s.n == n) memcpy(out, s.p, n);
}

void value_decode(struct cur *c, const struct type *type, struct value *v)
{
    *v = (struct value){.null = false};
    if (type->array) {
        v->s = cur_blob(c);
        elements_check(c, type, v);
        return;
    }
    switch (type->kind) {
    case COL_TEXT: decode_text(c, v, false); return;
    case COL_JSONB: decode_text(c, v, true); return;
    case COL_INTEGER: decode_integer(c, &v->i, INT32_MIN, INT32_MAX); return;
    case COL_BIGINT:
    case COL_COUNTER: decode_integer(c, &v->i, INT64_MIN, INT64_MAX); return;
    case COL_ENUM: decode_label(c, type->labels, &v->i); return;
    case COL_BYTEA: v->s = cur_blob(c); return;
    case COL_TIMESTAMPTZ: decode_integer(c, &v->i, INSTANT_MIN, INSTANT_MAX); return;
    case COL_DOUBLE: decode_double(c, &v->d); return;
    case COL_BOOLEAN: {
        uint8_t b = cur_u8(c);
        if (b > 1) cur_fail(c);
        v->b = b == 1;
        return;
    }
    case COL_UUID: decode_bytes(c, v->u.b, sizeof v->u.b); return;
    case COL_BLOB: decode_bytes(c, v->h.b, SHA256_BYTES); return;
    case COL_STREAM: return;
    }
    cur_fail(c);
}

// ---- shown ---------------------------------------------------------------------------------------------------------

static void json_bigint(struct jw *w, int64_t i)
{
    char text[24];
    if (i >= -SAFE_INTEGER && i <= SAFE_INTEGER) {
        jw_int(w, i);
        return;
    }
    snprintf(text, sizeof text, "%lld", (long long)i);
    jw_cstr(w, text);
}

void value_json(struct jw *w, const struct type *type, const struct value *v)
{
    char text[64];
    assert(type->kind != COL_STREAM && type->kind != COL_BLOB);
    if (v->null) {
        jw_null(w);
        return;
    }
    if (type->array) {
        elements_json(w, type, v);
        return;
    }
    switch (type->kind) {
    case COL_TEXT: jw_str(w, v->s); return;
    case COL_JSONB: jw_raw(w, v->s); return;
    case COL_BYTEA: jw_base64(w, v->s); return;
    case COL_INTEGER: jw_int(w, v->i); return;
    case COL_BIGINT:
    case COL_COUNTER: json_bigint(w, v->i); return;
    case COL_ENUM: jw_str(w, labels_at(type->labels, v->i)); return;
    case COL_TIMESTAMPTZ: jw_str(w, SPAN(text, instant_format(v->i, text))); return;
    case COL_DOUBLE: jw_double(w, v->d); return;
    case COL_BOOLEAN: jw_bool(w, v->b); return;
    case COL_UUID:
        uuid_format(v->u, text);
        jw_plain(w, SPAN(text, UUID_TEXT));
        return;
    case COL_STREAM:
    case COL_BLOB: return;
    }
}

static void text_bytes(struct buf *out, struct span s)
{
    buf_put_str(out, "\\x");
    uint8_t *to = buf_reserve(out, s.n * 2);
    if (!to) return;
    hex_format((char *)to, s);
    out->n += s.n * 2;
}

void value_text(struct buf *out, const struct type *type, const struct value *v)
{
    char text[64];
    struct jw w;
    assert(!v->null && type->kind != COL_STREAM && type->kind != COL_BLOB);
    if (type->array) {
        elements_literal(out, type, v);
        return;
    }
    switch (type->kind) {
    case COL_TEXT:
    case COL_JSONB: buf_put_span(out, v->s); return;
    case COL_BYTEA: text_bytes(out, v->s); return;
    case COL_INTEGER:
    case COL_BIGINT:
    case COL_COUNTER: buf_printf(out, "%lld", (long long)v->i); return;
    case COL_ENUM: buf_put_span(out, labels_at(type->labels, v->i)); return;
    case COL_TIMESTAMPTZ: buf_put(out, text, instant_format(v->i, text)); return;
    case COL_DOUBLE:
        jw_init(&w, out);
        jw_double(&w, v->d);
        return;
    case COL_BOOLEAN: buf_put_str(out, v->b ? "true" : "false"); return;
    case COL_UUID:
        uuid_format(v->u, text);
        buf_put(out, text, UUID_TEXT);
        return;
    case COL_STREAM:
    case COL_BLOB: return;
    }
}
