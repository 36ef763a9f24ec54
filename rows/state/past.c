#include "past.h"

#include <assert.h>

#include "compress.h"
#include "err.h"

enum { WHOLE = 1, DIFFERENCE = 2, PACKED = 128 };

#define PACK_BYTES 1024 // a smaller one is not worth it
#define PACK_LEVEL 1

// One seq in sixteen.
static bool kept_whole(uint64_t seq)
{
    return (seq * UINT64_C(0x9e3779b97f4a7c15)) >> 60 == 0;
}

static bool same_cell(const struct table *t, size_t i, const struct cell *a, const struct cell *b)
{
    return a->seq == b->seq && value_equal(&t->columns[i].type, &a->v, &b->v);
}

static void put_cell(struct buf *out, const struct table *t, size_t i, size_t passed, const struct row *old)
{
    const struct cell *cell = &old->cells[i];
    buf_put_varint(out, passed);
    buf_put_varint(out, (old->seq - cell->seq) << 1 | cell->v.null);
    if (!cell->v.null) value_encode(out, &t->columns[i].type, &cell->v);
}

static void put_difference(struct buf *out, const struct table *t, const struct row *old, const struct row *new)
{
    size_t n = 0, next = 0;
    assert(old->count == t->column_count && new->count == t->column_count);
    for (size_t i = 0; i < old->count; i++)
        n += !same_cell(t, i, &old->cells[i], &new->cells[i]);
    buf_put_varint(out, old->version);
    buf_put_varint(out, n);
    for (size_t i = 0; i < old->count; i++) {
        if (same_cell(t, i, &old->cells[i], &new->cells[i])) continue;
        put_cell(out, t, i, i - next, old);
        next = i + 1;
    }
}

static void put_body(struct buf *out, uint8_t kind, struct span body)
{
    size_t at = out->n;
    struct buf packed;
    buf_init(&packed, body.n);
    bool smaller = body.n >= PACK_BYTES && zstd_pack(&packed, body, PACK_LEVEL) == 0 && packed.n < body.n - body.n / 8;
    buf_put_u8(out, smaller ? kind | PACKED : kind);
    buf_put_span(out, smaller ? buf_span(&packed) : body);
    buf_free(&packed);
    assert(out->err || out->n > at);
}

void past_encode(struct buf *out, const struct table *t, const struct row *old, const struct row *new, struct span record)
{
    struct buf difference;
    buf_init(&difference, ROW_BYTES_MAX);
    bool differs = row_live(old) && row_live(new) && !kept_whole(old->seq);
    if (differs) put_difference(&difference, t, old, new);
    differs = differs && !difference.err && difference.n < record.n;
    put_body(out, differs ? DIFFERENCE : WHOLE, differs ? buf_span(&difference) : record);
    buf_free(&difference);
}

int past_open(struct span stored, struct arena *room, struct span *body, bool *whole)
{
    struct buf unpacked;
    uint8_t kind = stored.n > 0 ? stored.p[0] & ~PACKED : 0;
    int err = kind == WHOLE || kind == DIFFERENCE ? 0 : ERR_CORRUPT;
    struct span rest = span_sub(stored, 1, stored.n);
    if (!err && stored.p[0] & PACKED) {
        buf_init(&unpacked, ROW_BYTES_MAX);
        err = zstd_unpack(&unpacked, rest, ROW_BYTES_MAX);
        if (!err && !arena_copy_span(room, buf_span(&unpacked), &rest)) err = ERR_NOMEM;
        buf_free(&unpacked);
    }
    if (err) return err == ERR_NOMEM ? err : ERR_CORRUPT;
    *body = rest;
    *whole = kind == WHOLE;
    return 0;
}

int past_apply(struct row_space *row, const struct table *t, uint64_t seq, struct span body)
{
    struct cur c;
    size_t at = 0;
    cur_init(&c, body);
    uint64_t version = cur_varint(&c), n = cur_varint(&c);
    if (!row_live(&row->row) || version < 1 || version > row->row.version || n > t->column_count) cur_fail(&c);
    for (; n > 0 && !c.err; n--, at++) {
        uint64_t passed = cur_varint(&c), word = cur_varint(&c);
        if (passed >= t->column_count - at || word >> 1 > seq) cur_fail(&c);
        if (c.err) break;
        at += passed;
        struct cell *cell = &row->cells[at];
        *cell = (struct cell){.v = VALUE_NULL, .seq = seq - (word >> 1)};
        if (!(word & 1)) value_decode(&c, &t->columns[at].type, &cell->v);
    }
    row->row.seq = seq;
    row->row.version = (uint32_t)version;
    return cur_end(&c);
}
