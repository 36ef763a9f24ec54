#include "record.h"

#include <assert.h>

#include "elements.h"
#include "err.h"

#define FORMAT 1

enum { DELETED = 1, UNIFORM = 2 };

static bool is_uniform(const struct row *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->cells[i].seq != r->seq) return false;
    return true;
}

static void encode_nulls(struct buf *out, const struct row *r)
{
    for (size_t i = 0; i < r->count; i += 8) {
        uint8_t bits = 0;
        for (size_t k = i; k < r->count && k < i + 8; k++)
            bits |= (uint8_t)(r->cells[k].v.null << (k - i));
        buf_put_u8(out, bits);
    }
}

void record_encode(struct buf *out, const struct table *t, const struct row *r)
{
    assert(r->exists && r->count <= t->column_count && (!r->deleted || r->count == 0));
    bool uniform = !r->deleted && is_uniform(r);
    buf_put_u8(out, FORMAT);
    buf_put_u8(out, (uint8_t)((r->deleted ? DELETED : 0) | (uniform ? UNIFORM : 0)));
    buf_put_varint(out, r->version);
    buf_put_varint(out, r->seq);
    if (r->deleted) return;
    buf_put_varint(out, r->count);
    for (size_t i = 0; !uniform && i < r->count; i++) {
        assert(r->cells[i].seq <= r->seq);
        buf_put_varint(out, r->seq - r->cells[i].seq);
    }
    encode_nulls(out, r);
    for (size_t i = 0; i < r->count; i++)
        if (!r->cells[i].v.null) value_encode(out, &t->columns[i].type, &r->cells[i].v);
}

static uint8_t decode_head(struct cur *c, struct row *r)
{
    if (cur_u8(c) != FORMAT) cur_fail(c);
    uint8_t flags = cur_u8(c);
    uint64_t version = cur_varint(c);
    if ((flags != 0 && flags != DELETED && flags != UNIFORM) || version < 1 || version > UINT32_MAX) cur_fail(c);
    *r = (struct row){.exists = true, .deleted = flags & DELETED, .version = (uint32_t)version, .seq = cur_varint(c)};
    if (r->seq < 1) cur_fail(c);
    return flags;
}

static void decode_seqs(struct cur *c, struct row *r, bool uniform)
{
    for (size_t i = 0; i < r->count; i++) {
        uint64_t behind = uniform ? 0 : cur_varint(c);
        if (behind > r->seq) cur_fail(c);
        r->cells[i].seq = c->err ? 0 : r->seq - behind;
    }
    if (!uniform && is_uniform(r)) cur_fail(c); // one row, one encoding
}

// No element came before the first commit.
static void check_set(struct cur *c, const struct type *type, const struct cell *cell)
{
    if (!c->err && elements_oldest(type, &cell->v) > cell->seq) cur_fail(c);
}

static void decode_values(struct cur *c, const struct table *t, struct row *r)
{
    struct span nulls = cur_span(c, (r->count + 7) / 8);
    if (c->err) return;
    if (r->count % 8 && nulls.p[nulls.n - 1] >> r->count % 8) cur_fail(c);
    for (size_t i = 0; i < r->count; i++) {
        bool null = nulls.p[i / 8] >> i % 8 & 1;
        r->cells[i].v = VALUE_NULL;
        if (!null) value_decode(c, &t->columns[i].type, &r->cells[i].v);
        if (!null && t->columns[i].type.set) check_set(c, &t->columns[i].type, &r->cells[i]);
        if (null && t->columns[i].type.kind == COL_STREAM) cur_fail(c);
    }
}

static void fill(const struct table *t, struct row *r)
{
    for (; r->count < t->column_count; r->count++) {
        const struct column *c = &t->columns[r->count];
        r->cells[r->count] = (struct cell){.v = c->fill};
        if (c->type.kind == COL_STREAM) r->cells[r->count].v.null = false;
    }
}

int record_decode(struct row_space *out, const struct table *t, struct span bytes)
{
    struct cur c;
    assert(out && t);
    cur_init(&c, bytes);
    uint8_t flags = decode_head(&c, &out->row);
    out->row.cells = out->cells;
    if (!out->row.deleted) {
        uint64_t count = cur_varint(&c);
        if (count > t->column_count) cur_fail(&c);
        out->row.count = c.err ? 0 : count;
        decode_seqs(&c, &out->row, flags & UNIFORM);
        decode_values(&c, t, &out->row);
        fill(t, &out->row);
    }
    return cur_end(&c);
}

int record_head(struct span bytes, bool *deleted, uint64_t *seq)
{
    struct cur c;
    struct row r;
    cur_init(&c, bytes);
    decode_head(&c, &r);
    if (c.err) return c.err;
    *deleted = r.deleted;
    *seq = r.seq;
    return 0;
}
