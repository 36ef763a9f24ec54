#include "effects.h"

#include <assert.h>

#include "err.h"

#define FORMAT 1

void effects_begin(struct buf *out, struct span schema, size_t rows)
{
    buf_put_u8(out, FORMAT);
    buf_put_blob(out, schema);
    buf_put_varint(out, rows);
}

static void put_name(struct buf *out, const struct effect_row *row)
{
    buf_put_varint(out, row->table);
    buf_put(out, row->id.b, sizeof row->id.b);
}

void effects_row(struct buf *out, const struct effect_row *row)
{
    assert(row->record.n > 0);
    put_name(out, row);
    buf_put_blob(out, row->record);
}

void effects_touched(struct buf *out, size_t touched)
{
    buf_put_varint(out, touched);
}

void effects_touch(struct buf *out, const struct effect_row *row)
{
    put_name(out, row);
}

void effects_open(struct effects *e, struct span bytes)
{
    *e = (struct effects){.first = true};
    cur_init(&e->c, bytes);
    if (cur_u8(&e->c) != FORMAT) cur_fail(&e->c);
    e->schema = cur_blob(&e->c);
    e->rows = cur_varint(&e->c);
}

static bool next_name(struct effects *e, struct effect_row *row)
{
    uint64_t table = cur_varint(&e->c);
    struct span id = cur_span(&e->c, sizeof row->id.b);
    if (table < 1 || table > UINT32_MAX) cur_fail(&e->c);
    if (e->c.err) return false;
    *row = (struct effect_row){.table = (uint32_t)table};
    memcpy(row->id.b, id.p, sizeof row->id.b);
    bool ascends = e->first || row->table > e->last.table || (row->table == e->last.table && uuid_compare(row->id, e->last.id) > 0);
    if (!ascends) cur_fail(&e->c);
    e->last = *row;
    e->first = false;
    return ascends;
}

bool effects_next_row(struct effects *e, struct effect_row *row)
{
    if (e->rows > 0) {
        e->rows--;
        if (!next_name(e, row)) return false;
        row->record = cur_blob(&e->c);
        return e->c.err == 0;
    }
    e->touched = cur_varint(&e->c);
    e->first = true;
    return false;
}

bool effects_next_touch(struct effects *e, struct effect_row *row)
{
    if (e->c.err || e->touched == 0) return false;
    e->touched--;
    return next_name(e, row);
}

void effects_put_horizon(struct buf *out, uint64_t seq)
{
    assert(seq > 0);
    buf_put_varint(out, seq);
}

uint64_t effects_horizon(struct effects *e)
{
    if (e->rows > 0 || e->touched > 0 || cur_left(&e->c) == 0) return 0;
    uint64_t seq = cur_varint(&e->c);
    if (seq == 0) cur_fail(&e->c);
    return seq;
}

int effects_end(const struct effects *e)
{
    return e->rows > 0 || e->touched > 0 ? ERR_CORRUPT : cur_end(&e->c);
}
