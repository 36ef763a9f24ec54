#include "elements.h"

#include <assert.h>

#include "limits.h"

void elements_open(struct elements *e, const struct type *type, const struct value *v)
{
    assert(type->array && !v->null);
    cur_init(&e->c, v->s);
    e->item = type_of_element(type);
    e->set = type->set;
    e->behind_count = 0;
}

static void read_added(struct elements *e)
{
    uint64_t word;
    e->behind_count = 0;
    do {
        word = cur_varint(&e->c);
        bool ascends = e->behind_count == 0 || word >> 1 > e->behind[e->behind_count - 1];
        if (!ascends || e->behind_count == SET_WRITERS_MAX) cur_fail(&e->c);
        if (e->c.err) return;
        e->behind[e->behind_count++] = word >> 1;
    } while (word & 1);
}

bool elements_next(struct elements *e, struct value *item, uint64_t *behind)
{
    if (cur_left(&e->c) == 0) return false;
    if (e->set) read_added(e);
    value_decode(&e->c, &e->item, item);
    if (behind) *behind = e->set ? e->behind[0] : 0;
    return e->c.err == 0;
}

size_t elements_count(const struct type *type, const struct value *v)
{
    struct elements e;
    struct value item;
    size_t n = 0;
    elements_open(&e, type, v);
    while (elements_next(&e, &item, NULL))
        n++;
    return n;
}

void elements_put_added(struct buf *out, const struct type *type, const struct value *item, const uint64_t *behind, size_t n)
{
    struct type element = type_of_element(type);
    assert(type->set && n >= 1 && n <= SET_WRITERS_MAX);
    for (size_t i = 0; i < n; i++) {
        assert(i == 0 || behind[i] > behind[i - 1]);
        buf_put_varint(out, behind[i] << 1 | (i + 1 < n));
    }
    value_encode(out, &element, item);
}

void elements_put(struct buf *out, const struct type *type, const struct value *item, uint64_t behind)
{
    struct type element = type_of_element(type);
    assert(type->set || behind == 0);
    if (type->set) {
        elements_put_added(out, type, item, &behind, 1);
    } else {
        value_encode(out, &element, item);
    }
}

uint64_t elements_oldest(const struct type *type, const struct value *v)
{
    struct elements e;
    struct value item;
    uint64_t oldest = 0;
    elements_open(&e, type, v);
    while (elements_next(&e, &item, NULL))
        if (e.behind[e.behind_count - 1] > oldest) oldest = e.behind[e.behind_count - 1];
    return oldest;
}

int elements_compare(const struct type *type, const struct value *a, const struct value *b)
{
    struct elements ea, eb;
    struct value x, y;
    elements_open(&ea, type, a);
    elements_open(&eb, type, b);
    for (;;) {
        bool more_a = elements_next(&ea, &x, NULL), more_b = elements_next(&eb, &y, NULL);
        if (!more_a || !more_b) return more_a - more_b; // the one that the other begins with comes first
        int c = value_compare(&ea.item, &x, &y);
        if (c != 0) return c;
    }
}

// No element's key begins with a zero, so that one ends the array.
void elements_order(struct buf *out, const struct type *type, const struct value *v)
{
    struct elements e;
    struct value item;
    elements_open(&e, type, v);
    while (elements_next(&e, &item, NULL))
        value_order_key(out, &e.item, &item, false, false);
    buf_put_u8(out, 0);
}

void elements_check(struct cur *c, const struct type *type, const struct value *v)
{
    struct elements e;
    struct value item, before;
    size_t n = 0;
    elements_open(&e, type, v);
    while (elements_next(&e, &item, NULL)) {
        if (type->set && n > 0 && value_compare(&e.item, &before, &item) >= 0) cur_fail(c);
        if (++n > ARRAY_ELEMENTS_MAX) cur_fail(c);
        if (c->err) return;
        before = item;
    }
    if (e.c.err) cur_fail(c);
}

void elements_json(struct jw *w, const struct type *type, const struct value *v)
{
    struct elements e;
    struct value item;
    jw_array(w);
    elements_open(&e, type, v);
    while (elements_next(&e, &item, NULL))
        value_json(w, &e.item, &item);
    jw_end(w);
}

// ---- literals ------------------------------------------------------------------------------------------------------

// As PostgreSQL writes array constants, but with every element in quotes: there is nothing to know about the others.
void elements_literal(struct buf *out, const struct type *type, const struct value *v)
{
    struct elements e;
    struct value item;
    struct buf text;
    buf_init(&text, out->max);
    buf_put_u8(out, '{');
    elements_open(&e, type, v);
    for (size_t i = 0; elements_next(&e, &item, NULL); i++) {
        buf_clear(&text);
        value_text(&text, &e.item, &item);
        buf_put_str(out, i > 0 ? ",\"" : "\"");
        for (size_t k = 0; k < text.n; k++) {
            if (text.p[k] == '"' || text.p[k] == '\\') buf_put_u8(out, '\\');
            buf_put_u8(out, text.p[k]);
        }
        buf_put_u8(out, '"');
    }
    buf_put_u8(out, '}');
    if (text.err) out->err = text.err;
    buf_free(&text);
}
