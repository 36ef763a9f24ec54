#include "record.h"

#include <assert.h>

#include "elements.h"
#include "err.h"

#define FORMAT 3
#define FLAG_BITS 5

enum { DELETED = 1, UNIFORM = 2, PAIR = 4, NULLS = 8, COLUMNS = 16 };

// ---- the seqs of cells ---------------------------------------------------------------------------------------------

static unsigned bits_for(size_t places)
{
    unsigned bits = 0;
    while ((size_t)1 << bits < places)
        bits++;
    return bits;
}

static size_t place_of(const uint64_t *list, size_t n, uint64_t behind)
{
    size_t at = 0;
    while (at < n && list[at] < behind)
        at++;
    return at;
}

// The distinct distances from the row's seq, ascending.
static size_t list_seqs(const struct row *r, uint64_t list[COLUMNS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) {
        assert(r->cells[i].seq <= r->seq);
        uint64_t behind = r->seq - r->cells[i].seq;
        size_t at = place_of(list, n, behind);
        if (at < n && list[at] == behind) continue;
        memmove(&list[at + 1], &list[at], (n - at) * sizeof *list);
        list[at] = behind;
        n++;
    }
    return n;
}

// What the list says of the row: UNIFORM, PAIR, or neither.
static uint8_t shape(const uint64_t *list, size_t n)
{
    if (n == 0 || (n == 1 && list[0] == 0)) return UNIFORM;
    return n == 2 && list[0] == 0 ? PAIR : 0;
}

static void encode_places(struct buf *out, const struct row *r, const uint64_t *list, size_t n)
{
    unsigned bits = bits_for(n), filled = 0;
    uint32_t word = 0;
    for (size_t i = 0; i < r->count && bits > 0; i++) {
        word |= (uint32_t)place_of(list, n, r->seq - r->cells[i].seq) << filled;
        for (filled += bits; filled >= 8; filled -= 8, word >>= 8)
            buf_put_u8(out, (uint8_t)word);
    }
    if (filled > 0) buf_put_u8(out, (uint8_t)word);
}

static void encode_seqs(struct buf *out, const struct row *r, const uint64_t *list, size_t n)
{
    switch (shape(list, n)) {
    case UNIFORM: return;
    case PAIR: buf_put_varint(out, list[1]); break;
    default:
        buf_put_varint(out, n);
        for (size_t i = 0; i < n; i++)
            buf_put_varint(out, list[i]);
    }
    encode_places(out, r, list, n);
}

// Only one of its shapes fits a row: that is how it must be written.
static size_t decode_list(struct cur *c, const struct row *r, uint8_t flags, uint64_t list[COLUMNS_MAX])
{
    bool pair = flags & PAIR;
    uint64_t n = pair ? 2 : cur_varint(c);
    if (n < 1 || n > r->count) cur_fail(c);
    for (uint64_t i = 0; i < n && !c->err; i++) {
        list[i] = pair && i == 0 ? 0 : cur_varint(c);
        if (list[i] > r->seq || (i > 0 && list[i] <= list[i - 1])) cur_fail(c);
    }
    if (!c->err && shape(list, n) != (flags & PAIR)) cur_fail(c);
    return c->err ? 0 : n;
}

static void decode_seqs(struct cur *c, struct row *r, uint8_t flags)
{
    uint64_t list[COLUMNS_MAX];
    uint8_t used[(COLUMNS_MAX + 7) / 8] = {0};
    size_t n = decode_list(c, r, flags, list), seen = 0;
    unsigned bits = bits_for(n), filled = 0;
    uint32_t word = 0;
    for (size_t i = 0; i < r->count && !c->err; i++) {
        for (; filled < bits; filled += 8)
            word |= (uint32_t)cur_u8(c) << filled;
        size_t at = word & ((1u << bits) - 1);
        word >>= bits;
        filled -= bits;
        if (at >= n) cur_fail(c);
        if (c->err) return;
        seen += !(used[at / 8] >> at % 8 & 1);
        used[at / 8] |= (uint8_t)(1 << at % 8);
        r->cells[i].seq = r->seq - list[at];
    }
    if (seen != n || word != 0) cur_fail(c);
}

// ---- records -------------------------------------------------------------------------------------------------------

// How many columns the table had in a schema version.
static size_t columns_of(const struct table *t, uint32_t version)
{
    size_t n = t->column_count;
    while (n > 0 && t->columns[n - 1].born > version)
        n--;
    return n;
}

static bool has_nulls(const struct row *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->cells[i].v.null) return true;
    return false;
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
    uint64_t list[COLUMNS_MAX + 1];
    size_t n = r->deleted ? 0 : list_seqs(r, list);
    uint8_t flags = r->deleted ? DELETED : shape(list, n);
    if (!r->deleted && has_nulls(r)) flags |= NULLS;
    if (!r->deleted && r->count != columns_of(t, r->version)) flags |= COLUMNS;
    buf_put_u8(out, (uint8_t)(FORMAT << FLAG_BITS | flags));
    buf_put_varint(out, r->version);
    buf_put_varint(out, r->seq);
    if (r->deleted) return;
    if (flags & COLUMNS) buf_put_varint(out, r->count);
    encode_seqs(out, r, list, n);
    if (flags & NULLS) encode_nulls(out, r);
    for (size_t i = 0; i < r->count; i++)
        if (!r->cells[i].v.null) value_encode(out, &t->columns[i].type, &r->cells[i].v);
    if (flags & UNIFORM) buf_put(out, (const uint8_t[RECORD_SPARE]){0}, RECORD_SPARE);
}

static uint8_t decode_head(struct cur *c, struct row *r)
{
    uint8_t first = cur_u8(c), flags = first & ((1 << FLAG_BITS) - 1);
    uint64_t version = cur_varint(c);
    if (first >> FLAG_BITS != FORMAT || (flags & DELETED && flags != DELETED) || (flags & UNIFORM && flags & PAIR) || version < 1 || version > UINT32_MAX) cur_fail(c);
    *r = (struct row){.exists = true, .deleted = flags & DELETED, .version = (uint32_t)version, .seq = cur_varint(c)};
    if (r->seq < 1) cur_fail(c);
    return flags;
}

static size_t decode_count(struct cur *c, const struct table *t, const struct row *r, uint8_t flags)
{
    size_t plain = columns_of(t, r->version);
    if (!(flags & COLUMNS)) return plain;
    uint64_t count = cur_varint(c);
    if (count > t->column_count || count == plain) cur_fail(c);
    return c->err ? 0 : count;
}

// No element came before the first commit.
static void check_set(struct cur *c, const struct type *type, const struct cell *cell)
{
    if (!c->err && elements_oldest(type, &cell->v) > cell->seq) cur_fail(c);
}

static void decode_values(struct cur *c, const struct table *t, struct row *r, bool has)
{
    struct span nulls = has ? cur_span(c, (r->count + 7) / 8) : SPAN_NONE;
    bool any = false;
    if (c->err) return;
    if (has && r->count % 8 && nulls.p[nulls.n - 1] >> r->count % 8) cur_fail(c);
    for (size_t i = 0; i < r->count && !c->err; i++) {
        bool null = has && (nulls.p[i / 8] >> i % 8 & 1);
        const struct type *type = &t->columns[i].type;
        any |= null;
        r->cells[i].v = VALUE_NULL;
        if (!null) value_decode(c, type, &r->cells[i].v);
        if (!null && type->set) check_set(c, type, &r->cells[i]);
        if (null && type->kind == COL_STREAM) cur_fail(c);
    }
    if (has && !any) cur_fail(c);
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
    out->unpacked = false;
    if (!out->row.deleted && !c.err) {
        out->row.count = decode_count(&c, t, &out->row, flags);
        for (size_t i = 0; i < out->row.count; i++)
            out->cells[i].seq = out->row.seq;
        if (!(flags & UNIFORM)) decode_seqs(&c, &out->row, flags);
        decode_values(&c, t, &out->row, flags & NULLS);
        for (int i = 0; i < RECORD_SPARE && flags & UNIFORM; i++)
            if (cur_u8(&c) != 0) cur_fail(&c);
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
