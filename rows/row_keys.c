#include "row_keys.h"

#include <assert.h>

#include "err.h"

#define FORMAT 1

enum { PREFIX_ROW = 1, PREFIX_REFERENCE = 2 };
enum { ROW_KEY_BYTES = 21, REFERENCE_KEY_BYTES = 43, HISTORY_KEY_BYTES = 28 };

static void put(struct key *k, uint64_t v, int bytes)
{
    assert(k->n + (size_t)bytes <= sizeof k->b);
    for (int i = bytes - 1; i >= 0; i--)
        k->b[k->n++] = (uint8_t)(v >> i * 8);
}

static void put_id(struct key *k, struct uuid id)
{
    assert(k->n + sizeof id.b <= sizeof k->b);
    memcpy(k->b + k->n, id.b, sizeof id.b);
    k->n += sizeof id.b;
}

static uint64_t get(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static struct uuid get_id(const uint8_t *p)
{
    struct uuid id;
    memcpy(id.b, p, sizeof id.b);
    return id;
}

struct key key_row_table(uint32_t table)
{
    struct key k = {.n = 0};
    put(&k, PREFIX_ROW, 1);
    put(&k, table, 4);
    return k;
}

struct key key_row(uint32_t table, struct uuid id)
{
    struct key k = key_row_table(table);
    put_id(&k, id);
    return k;
}

bool key_row_parse(struct span key, uint32_t table, struct uuid *id)
{
    if (key.n != ROW_KEY_BYTES || key.p[0] != PREFIX_ROW || get(key.p + 1, 4) != table) return false;
    *id = get_id(key.p + 5);
    return true;
}

struct key key_references_to(uint32_t table, struct uuid id)
{
    struct key k = {.n = 0};
    put(&k, PREFIX_REFERENCE, 1);
    put(&k, table, 4);
    put_id(&k, id);
    return k;
}

struct key key_reference(const struct reference *ref)
{
    struct key k = key_references_to(ref->table, ref->id);
    put(&k, ref->from_table, 4);
    put(&k, ref->from_column, 2);
    put_id(&k, ref->from_id);
    return k;
}

bool key_reference_parse(struct span key, struct reference *ref)
{
    if (key.n != REFERENCE_KEY_BYTES || key.p[0] != PREFIX_REFERENCE) return false;
    ref->table = (uint32_t)get(key.p + 1, 4);
    ref->id = get_id(key.p + 5);
    ref->from_table = (uint32_t)get(key.p + 21, 4);
    ref->from_column = (uint16_t)get(key.p + 25, 2);
    ref->from_id = get_id(key.p + 27);
    return true;
}

struct key key_history(uint32_t table, struct uuid id, uint64_t seq)
{
    struct key k = {.n = 0};
    put(&k, table, 4);
    put_id(&k, id);
    put(&k, seq, 8);
    return k;
}

bool key_history_parse(struct span key, uint32_t table, struct uuid id, uint64_t *seq)
{
    if (key.n != HISTORY_KEY_BYTES || get(key.p, 4) != table || !uuid_equal(get_id(key.p + 4), id)) return false;
    *seq = get(key.p + 20, 8);
    return true;
}

struct key key_commit(uint64_t seq)
{
    struct key k = {.n = 0};
    put(&k, seq, 8);
    return k;
}

uint64_t key_commit_parse(struct span key)
{
    return key.n == 8 ? get(key.p, 8) : 0;
}

struct key key_schema(uint32_t version)
{
    struct key k = {.n = 0};
    put(&k, version, 4);
    return k;
}

void commit_record_begin(struct buf *out, const struct commit_head *head)
{
    buf_put_u8(out, FORMAT);
    buf_put_u64(out, head->stamp);
    buf_put_u64(out, head->arrival_ms);
    buf_put(out, head->writer.b, sizeof head->writer.b);
    buf_put_u8(out, head->schema);
    buf_put_varint(out, head->touched);
}

void commit_record_row(struct buf *out, uint32_t table, struct uuid id)
{
    buf_put_varint(out, table);
    buf_put(out, id.b, sizeof id.b);
}

int commit_record_read(struct cur *c, struct span record, struct commit_head *head)
{
    cur_init(c, record);
    if (cur_u8(c) != FORMAT) cur_fail(c);
    *head = (struct commit_head){.stamp = cur_u64(c)};
    head->arrival_ms = cur_u64(c);
    struct span writer = cur_span(c, sizeof head->writer.b);
    if (!c->err) head->writer = get_id(writer.p);
    head->schema = cur_u8(c) == 1;
    head->touched = cur_varint(c);
    if (head->touched > cur_left(c)) cur_fail(c);
    return c->err;
}

void commit_record_next(struct cur *c, uint32_t *table, struct uuid *id)
{
    uint64_t no = cur_varint(c);
    struct span s = cur_span(c, sizeof id->b);
    if (no > UINT32_MAX) cur_fail(c);
    if (c->err) return;
    *table = (uint32_t)no;
    *id = get_id(s.p);
}
