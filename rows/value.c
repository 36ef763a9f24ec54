#include "value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "err.h"
#include "instant.h"
#include "utf8.h"

#define SAFE_INTEGER INT64_C(9007199254740991) // the largest that every JSON reader keeps exact

const char *col_type_name(enum col_type type)
{
    switch (type) {
    case COL_TEXT: return "text";
    case COL_INTEGER: return "integer";
    case COL_BIGINT: return "bigint";
    case COL_DOUBLE: return "double precision";
    case COL_BOOLEAN: return "boolean";
    case COL_TIMESTAMPTZ: return "timestamptz";
    case COL_UUID: return "uuid";
    case COL_JSONB: return "jsonb";
    case COL_STREAM: return "stream";
    case COL_BLOB: return "blob";
    }
    return NULL;
}

bool col_type_ordered(enum col_type type)
{
    return type != COL_JSONB && type != COL_STREAM && type != COL_BLOB;
}

bool value_copy(struct value *out, enum col_type type, const struct value *in, struct arena *a)
{
    struct value v = *in;
    if (!v.null && (type == COL_TEXT || type == COL_JSONB) && !arena_copy_span(a, in->s, &v.s)) return false;
    *out = v;
    return true;
}

int value_compare(enum col_type type, const struct value *a, const struct value *b)
{
    assert(!a->null && !b->null);
    switch (type) {
    case COL_TEXT:
    case COL_JSONB: return span_compare(a->s, b->s);
    case COL_INTEGER:
    case COL_BIGINT:
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

bool value_equal(enum col_type type, const struct value *a, const struct value *b)
{
    if (a->null || b->null) return a->null == b->null;
    return value_compare(type, a, b) == 0;
}

// ---- order ---------------------------------------------------------------------------------------------------------

static uint64_t order_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static void order_body(struct buf *out, enum col_type type, const struct value *v)
{
    switch (type) {
    case COL_TEXT:
        buf_put_span(out, v->s); // holds no NUL, so that one ends it
        buf_put_u8(out, 0);
        return;
    case COL_INTEGER:
    case COL_BIGINT:
    case COL_TIMESTAMPTZ: buf_put_u64_be(out, (uint64_t)v->i ^ UINT64_C(1) << 63); return;
    case COL_DOUBLE: buf_put_u64_be(out, order_bits(v->d)); return;
    case COL_BOOLEAN: buf_put_u8(out, v->b); return;
    case COL_UUID: buf_put(out, v->u.b, sizeof v->u.b); return;
    case COL_JSONB:
    case COL_STREAM:
    case COL_BLOB: break;
    }
    assert(!"an ordered type");
}

void value_order_key(struct buf *out, enum col_type type, const struct value *v, bool desc, bool nulls_first)
{
    if (v->null) {
        buf_put_u8(out, nulls_first ? 0 : 2);
        return;
    }
    buf_put_u8(out, 1);
    size_t from = out->n;
    order_body(out, type, v);
    for (size_t i = from; desc && i < out->n; i++)
        out->p[i] = (uint8_t)~out->p[i];
}

// ---- stored form ---------------------------------------------------------------------------------------------------

void value_encode(struct buf *out, enum col_type type, const struct value *v)
{
    uint64_t bits;
    assert(!v->null);
    switch (type) {
    case COL_TEXT:
    case COL_JSONB: buf_put_blob(out, v->s); return;
    case COL_INTEGER:
    case COL_BIGINT:
    case COL_TIMESTAMPTZ: buf_put_svarint(out, v->i); return;
    case COL_DOUBLE:
        memcpy(&bits, &v->d, sizeof bits);
        buf_put_u64(out, bits);
        return;
    case COL_BOOLEAN: buf_put_u8(out, v->b); return;
    case COL_UUID: buf_put(out, v->u.b, sizeof v->u.b); return;
    case COL_BLOB: buf_put(out, v->h.b, SHA256_BYTES); return;
    case COL_STREAM: return;
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

void value_decode(struct cur *c, enum col_type type, struct value *v)
{
    *v = (struct value){.null = false};
    switch (type) {
    case COL_TEXT: decode_text(c, v, false); return;
    case COL_JSONB: decode_text(c, v, true); return;
    case COL_INTEGER: decode_integer(c, &v->i, INT32_MIN, INT32_MAX); return;
    case COL_BIGINT: decode_integer(c, &v->i, INT64_MIN, INT64_MAX); return;
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

void value_json(struct jw *w, enum col_type type, const struct value *v)
{
    char text[64];
    assert(type != COL_STREAM && type != COL_BLOB);
    if (v->null) {
        jw_null(w);
        return;
    }
    switch (type) {
    case COL_TEXT: jw_str(w, v->s); return;
    case COL_JSONB: jw_raw(w, v->s); return;
    case COL_INTEGER: jw_int(w, v->i); return;
    case COL_BIGINT:
        if (v->i >= -SAFE_INTEGER && v->i <= SAFE_INTEGER) {
            jw_int(w, v->i);
            return;
        }
        snprintf(text, sizeof text, "%lld", (long long)v->i);
        jw_cstr(w, text);
        return;
    case COL_TIMESTAMPTZ: jw_str(w, SPAN(text, instant_format(v->i, text))); return;
    case COL_DOUBLE: jw_double(w, v->d); return;
    case COL_BOOLEAN: jw_bool(w, v->b); return;
    case COL_UUID:
        uuid_format(v->u, text);
        jw_str(w, SPAN(text, UUID_TEXT));
        return;
    case COL_STREAM:
    case COL_BLOB: return;
    }
}
