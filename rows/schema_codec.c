// A schema as stored bytes: in effects and in the table "schemas".
//
//      format version, varint schema version, varint tables, per table: name, varint columns,
//      per column: name, type, flags, [varint referenced table], [default], [fill]
#include <assert.h>

#include "err.h"
#include "schema.h"

#define FORMAT 1

enum { NOT_NULL = 1, REFERENCES = 2, FILL = 4, DEFAULT_SHIFT = 4 };

static void encode_column(struct buf *out, const struct column *c)
{
    bool fill = !c->fill.null;
    buf_put_blob(out, c->name);
    buf_put_u8(out, (uint8_t)c->type.kind);
    buf_put_u8(out, (uint8_t)((c->not_null ? NOT_NULL : 0) | (c->references ? REFERENCES : 0) | (fill ? FILL : 0) |
                              c->has_default << DEFAULT_SHIFT));
    if (c->references) buf_put_varint(out, c->references);
    if (c->has_default == DEFAULT_CONST) value_encode(out, &c->type, &c->def);
    if (fill) value_encode(out, &c->type, &c->fill);
}

void schema_encode(const struct schema *s, struct buf *out)
{
    buf_put_u8(out, FORMAT);
    buf_put_varint(out, s->version);
    buf_put_varint(out, s->table_count);
    for (size_t i = 0; i < s->table_count; i++) {
        const struct table *t = &s->tables[i];
        buf_put_blob(out, t->name);
        buf_put_varint(out, t->column_count);
        for (size_t k = 0; k < t->column_count; k++)
            encode_column(out, &t->columns[k]);
    }
}

// ---- decoding ------------------------------------------------------------------------------------------------------

static struct span decode_name(struct cur *c, struct arena *a)
{
    struct span name = cur_blob(c), copy = SPAN_NONE;
    if (name.n < 1 || name.n > NAME_MAX_BYTES || memchr(name.p, '/', name.n) || memchr(name.p, '"', name.n) || memchr(name.p, 0, name.n))
        cur_fail(c);
    if (!c->err && !arena_copy_span(a, name, &copy)) cur_fail(c);
    return copy;
}

static struct value decode_value(struct cur *c, const struct type *type, struct arena *a)
{
    struct value v, copy = VALUE_NULL;
    value_decode(c, type, &v);
    if (!c->err && !value_copy(&copy, type, &v, a)) cur_fail(c);
    return copy;
}

static void decode_column(struct cur *c, struct column *col, struct schema *s)
{
    *col = (struct column){.name = decode_name(c, s->arena), .def = VALUE_NULL, .fill = VALUE_NULL};
    col->type = TYPE((enum col_type)cur_u8(c));
    uint8_t flags = cur_u8(c);
    col->not_null = flags & NOT_NULL;
    col->has_default = (enum default_kind)(flags >> DEFAULT_SHIFT);
    if (!col_type_name(col->type.kind) || flags >> DEFAULT_SHIFT > DEFAULT_UUID || flags & 8 || span_is(col->name, "id")) cur_fail(c);
    if (flags & REFERENCES) {
        uint64_t no = cur_varint(c);
        if (no < 1 || no > s->table_count || col->type.kind != COL_UUID) cur_fail(c);
        col->references = (uint32_t)no;
    }
    bool no_default = col->type.kind == COL_STREAM || col->type.kind == COL_BLOB;
    if (no_default && (col->has_default != DEFAULT_NONE || flags & FILL)) cur_fail(c);
    if (col->has_default == DEFAULT_NOW && col->type.kind != COL_TIMESTAMPTZ) cur_fail(c);
    if (col->has_default == DEFAULT_UUID && col->type.kind != COL_UUID) cur_fail(c);
    if (c->err) return;
    if (col->has_default == DEFAULT_CONST) col->def = decode_value(c, &col->type, s->arena);
    if (flags & FILL) col->fill = decode_value(c, &col->type, s->arena);
}

static void decode_table(struct cur *c, struct table *t, struct schema *s)
{
    t->name = decode_name(c, s->arena);
    uint64_t count = cur_varint(c);
    if (count > COLUMNS_MAX) cur_fail(c);
    if (c->err) return;
    t->columns = arena_array(s->arena, count, sizeof *t->columns);
    if (!t->columns) {
        cur_fail(c);
        return;
    }
    t->column_count = count;
    for (size_t i = 0; i < count && !c->err; i++)
        decode_column(c, &t->columns[i], s);
}

static void decode_tables(struct cur *c, struct schema *s)
{
    if (cur_u8(c) != FORMAT) cur_fail(c);
    uint64_t version = cur_varint(c), count = cur_varint(c);
    if (version < 1 || version > UINT32_MAX || count > TABLES_MAX) cur_fail(c);
    if (c->err) return;
    s->version = (uint32_t)version;
    s->tables = arena_array(s->arena, count, sizeof *s->tables);
    if (!s->tables) {
        cur_fail(c);
        return;
    }
    s->table_count = count;
    for (size_t i = 0; i < count && !c->err; i++) {
        s->tables[i].no = (uint32_t)i + 1;
        decode_table(c, &s->tables[i], s);
    }
}

int schema_decode(struct schema **out, struct span bytes)
{
    struct cur c;
    struct schema *s = schema_empty();
    assert(out);
    if (!s) return ERR_NOMEM;
    cur_init(&c, bytes);
    decode_tables(&c, s);
    int err = cur_end(&c);
    if (!err) err = schema_finish(s);
    if (err) {
        schema_unref(s);
        return err == ERR_NOMEM ? err : ERR_CORRUPT;
    }
    *out = s;
    return 0;
}
