// A schema as stored bytes: in effects and in the table "schemas".
//
//      format version, varint schema version,
//      varint enums, per enum: name, varint labels, per label: text
//      varint tables, per table: name, varint columns,
//          per column: name, varint version that brought it, kind, flags, merge and action on delete, [varint enum], [varint referenced table], [default], [fill]
//          varint last index number, varint indexes,
//          per index: varint number, name, unique, varint columns, per column: signed varint place, desc; condition
//          varint checks, per check: name, condition
//
// Conditions are canonical SQL, empty where there is none: what they mean is what the parser and the compiler make of them.
#include <assert.h>

#include "elements.h"
#include "err.h"
#include "expr.h"
#include "schema.h"
#include "sql.h"
#include "utf8.h"

#define FORMAT 3
#define AST_BYTES_MAX (8 * MIB) // of one condition while it is read

enum { NOT_NULL = 1, REFERENCES = 2, FILL = 4, ARRAY = 8, DEFAULT_SHIFT = 4, FLAGS_END = 64, ACTION_SHIFT = 4 };

// ---- encoding ------------------------------------------------------------------------------------------------------

static void encode_column(struct buf *out, const struct schema *s, const struct column *c)
{
    bool fill = !c->fill.null;
    buf_put_blob(out, c->name);
    buf_put_varint(out, c->born);
    buf_put_u8(out, (uint8_t)c->type.kind);
    buf_put_u8(out, (uint8_t)((c->not_null ? NOT_NULL : 0) | (c->references ? REFERENCES : 0) | (fill ? FILL : 0) |
                              (c->type.array ? ARRAY : 0) | c->has_default << DEFAULT_SHIFT));
    buf_put_u8(out, (uint8_t)(c->merge | c->on_delete << ACTION_SHIFT));
    if (c->type.labels) buf_put_varint(out, (uint64_t)(c->type.labels - s->enums));
    if (c->references) buf_put_varint(out, c->references);
    if (c->has_default == DEFAULT_CONST) value_encode(out, &c->type, &c->def);
    if (fill) value_encode(out, &c->type, &c->fill);
}

static void encode_condition(struct buf *out, const struct expr *e)
{
    struct buf text;
    buf_init(&text, SQL_SCHEMA_MAX);
    if (e) expr_sql(&text, e);
    if (text.err && !out->err) out->err = text.err;
    buf_put_blob(out, buf_span(&text));
    buf_free(&text);
}

static void encode_index(struct buf *out, const struct index *ix)
{
    buf_put_varint(out, ix->no);
    buf_put_blob(out, ix->name);
    buf_put_u8(out, ix->unique);
    buf_put_varint(out, ix->column_count);
    for (size_t i = 0; i < ix->column_count; i++) {
        buf_put_svarint(out, ix->columns[i].column);
        buf_put_u8(out, ix->columns[i].desc);
    }
    encode_condition(out, ix->where);
}

static void encode_table(struct buf *out, const struct schema *s, const struct table *t)
{
    buf_put_blob(out, t->name);
    buf_put_varint(out, t->column_count);
    for (size_t k = 0; k < t->column_count; k++)
        encode_column(out, s, &t->columns[k]);
    buf_put_varint(out, t->index_last);
    buf_put_varint(out, t->index_count);
    for (size_t k = 0; k < t->index_count; k++)
        encode_index(out, &t->indexes[k]);
    buf_put_varint(out, t->check_count);
    for (size_t k = 0; k < t->check_count; k++) {
        buf_put_blob(out, t->checks[k].name);
        encode_condition(out, t->checks[k].expr);
    }
}

void schema_encode(const struct schema *s, struct buf *out)
{
    buf_put_u8(out, FORMAT);
    buf_put_varint(out, s->version);
    buf_put_varint(out, s->enum_count);
    for (size_t i = 0; i < s->enum_count; i++) {
        buf_put_blob(out, s->enums[i].name);
        buf_put_varint(out, s->enums[i].count);
        for (size_t k = 0; k < s->enums[i].count; k++)
            buf_put_blob(out, s->enums[i].labels[k]);
    }
    buf_put_varint(out, s->table_count);
    for (size_t i = 0; i < s->table_count; i++)
        encode_table(out, s, &s->tables[i]);
}

// ---- decoding ------------------------------------------------------------------------------------------------------

// `no_memory` tells a cursor's failure from ours.
struct decoding {
    struct cur c;
    struct schema *s;
    bool no_memory;
};

static void *room(struct decoding *d, uint64_t count, uint64_t max, size_t size)
{
    if (count > max) cur_fail(&d->c);
    if (d->c.err) return NULL;
    void *p = arena_array(d->s->arena, count, size);
    if (!p) {
        d->no_memory = true;
        cur_fail(&d->c);
    }
    return p;
}

static struct span decode_text(struct decoding *d)
{
    struct span text = cur_blob(&d->c), copy = SPAN_NONE;
    if (text.n < 1 || text.n > NAME_MAX_BYTES || memchr(text.p, 0, text.n) || !utf8_valid(text)) cur_fail(&d->c);
    if (!d->c.err && !arena_copy_span(d->s->arena, text, &copy)) {
        d->no_memory = true;
        cur_fail(&d->c);
    }
    return copy;
}

static struct span decode_name(struct decoding *d)
{
    struct span name = decode_text(d);
    if (name.n > 0 && (memchr(name.p, '/', name.n) || memchr(name.p, '"', name.n))) cur_fail(&d->c);
    return name;
}

static void decode_enum(struct decoding *d, struct labels *out)
{
    out->name = decode_name(d);
    uint64_t count = cur_varint(&d->c);
    out->labels = room(d, count, ENUM_LABELS_MAX, sizeof *out->labels);
    for (uint64_t i = 0; i < count && !d->c.err; i++) {
        struct span label = decode_text(d);
        if (labels_find(out, label) >= 0) cur_fail(&d->c);
        out->labels[out->count++] = label;
    }
}

static void decode_enums(struct decoding *d)
{
    uint64_t count = cur_varint(&d->c);
    d->s->enums = room(d, count, ENUMS_MAX, sizeof *d->s->enums);
    for (uint64_t i = 0; i < count && !d->c.err; i++) {
        decode_enum(d, &d->s->enums[i]);
        for (uint64_t k = 0; k < i; k++)
            if (span_equal(d->s->enums[k].name, d->s->enums[i].name)) cur_fail(&d->c);
        d->s->enum_count++;
    }
}

static struct value decode_value(struct decoding *d, const struct type *type)
{
    struct value v, copy = VALUE_NULL;
    value_decode(&d->c, type, &v);
    if (!d->c.err && !value_copy(&copy, type, &v, d->s->arena)) {
        d->no_memory = true;
        cur_fail(&d->c);
    }
    return copy;
}

static void decode_type(struct decoding *d, struct column *col, bool array)
{
    const struct schema *s = d->s;
    struct type *t = &col->type;
    t->array = array;
    t->set = col->merge == MERGE_SET;
    if (!col_type_name(t->kind) || (array && !type_element(t->kind)) || (t->set && !array)) cur_fail(&d->c);
    if ((t->kind == COL_COUNTER) != (col->merge == MERGE_COUNTER)) cur_fail(&d->c);
    if (col->merge != MERGE_LWW && !type_ordered(t)) cur_fail(&d->c);
    if (t->kind == COL_COUNTER && (!col->not_null || col->has_default != DEFAULT_CONST)) cur_fail(&d->c);
    if (t->kind != COL_ENUM) return;
    uint64_t no = cur_varint(&d->c);
    if (no >= s->enum_count) cur_fail(&d->c);
    t->labels = &s->enums[d->c.err ? 0 : no];
}

static void decode_reference(struct decoding *d, struct column *col, bool references, uint8_t action)
{
    uint64_t no = references ? cur_varint(&d->c) : 0;
    if (references && (no < 1 || no > d->s->table_count || col->type.kind != COL_UUID || col->type.array)) cur_fail(&d->c);
    if (action > REF_SET_NULL || (action != REF_RESTRICT && !references) || (action == REF_SET_NULL && col->not_null)) cur_fail(&d->c);
    col->references = (uint32_t)no;
    col->on_delete = (enum ref_action)action;
}

static void decode_defaults(struct decoding *d, struct column *col, bool fill)
{
    bool none = col->type.kind == COL_STREAM || col->type.kind == COL_BLOB;
    if (none && (col->has_default != DEFAULT_NONE || fill)) cur_fail(&d->c);
    if (col->has_default == DEFAULT_NOW && (col->type.kind != COL_TIMESTAMPTZ || col->type.array)) cur_fail(&d->c);
    if (col->has_default == DEFAULT_UUID && (col->type.kind != COL_UUID || col->type.array)) cur_fail(&d->c);
    if (d->c.err) return;
    if (col->has_default == DEFAULT_CONST) col->def = decode_value(d, &col->type);
    if (fill) col->fill = decode_value(d, &col->type);
    // What was there before any commit was added by none.
    bool old = col->type.set && ((!col->def.null && elements_oldest(&col->type, &col->def)) ||
                                 (!col->fill.null && elements_oldest(&col->type, &col->fill)));
    if (!d->c.err && old) cur_fail(&d->c);
}

static void decode_column(struct decoding *d, struct column *col, uint32_t before)
{
    *col = (struct column){.name = decode_name(d), .def = VALUE_NULL, .fill = VALUE_NULL};
    uint64_t born = cur_varint(&d->c);
    if (born < before || born < 1 || born > d->s->version) cur_fail(&d->c);
    col->born = (uint32_t)born;
    col->type = TYPE((enum col_type)cur_u8(&d->c));
    uint8_t flags = cur_u8(&d->c), how = cur_u8(&d->c);
    col->not_null = flags & NOT_NULL;
    col->has_default = (enum default_kind)(flags >> DEFAULT_SHIFT);
    col->merge = (enum merge_kind)(how & ((1 << ACTION_SHIFT) - 1));
    if (flags >= FLAGS_END || !merge_name(col->merge) || span_is(col->name, "id")) cur_fail(&d->c);
    decode_type(d, col, flags & ARRAY);
    decode_reference(d, col, flags & REFERENCES, how >> ACTION_SHIFT);
    decode_defaults(d, col, flags & FILL);
}

// What it means must be written just so.
static struct expr *decode_condition(struct decoding *d, const struct table *t)
{
    struct span text = cur_blob(&d->c);
    struct ast_expr *ast;
    struct expr *e = NULL;
    struct buf again;
    if (d->c.err || text.n == 0) return NULL;
    struct arena *arena = arena_new(AST_BYTES_MAX);
    int err = arena ? sql_parse_expr(text, arena, &ast, NULL) : ERR_NOMEM;
    if (!err) err = expr_compile_check(d->s->arena, t, ast, &e, NULL);
    arena_free(arena);
    buf_init(&again, SQL_SCHEMA_MAX);
    if (!err) expr_sql(&again, e);
    d->no_memory |= err == ERR_NOMEM || again.err == ERR_NOMEM;
    if (err || again.err || !span_equal(buf_span(&again), text)) cur_fail(&d->c);
    buf_free(&again);
    return e;
}

static void decode_index_column(struct decoding *d, const struct table *t, struct index *ix)
{
    int64_t at = cur_svarint(&d->c);
    uint8_t desc = cur_u8(&d->c);
    if (desc > 1 || at < COLUMN_ID || at >= (int64_t)t->column_count) cur_fail(&d->c);
    if (!d->c.err && at != COLUMN_ID && !type_ordered(&t->columns[at].type)) cur_fail(&d->c);
    if (d->c.err) return;
    for (size_t i = 0; i < ix->column_count; i++)
        if (ix->columns[i].column == at) cur_fail(&d->c);
    ix->columns[ix->column_count++] = (struct index_column){.column = (int)at, .desc = desc == 1};
}

static void decode_indexes(struct decoding *d, struct table *t)
{
    uint64_t last = cur_varint(&d->c), count = cur_varint(&d->c), before = 0;
    if (last > UINT32_MAX) cur_fail(&d->c);
    t->index_last = (uint32_t)last;
    t->indexes = room(d, count, INDEXES_MAX, sizeof *t->indexes);
    for (uint64_t i = 0; i < count && !d->c.err; i++) {
        struct index *ix = &t->indexes[i];
        uint64_t no = cur_varint(&d->c);
        if (no <= before || no > last) cur_fail(&d->c);
        before = no;
        *ix = (struct index){.no = (uint32_t)no, .name = decode_name(d)};
        uint8_t unique = cur_u8(&d->c);
        uint64_t columns = cur_varint(&d->c);
        if (unique > 1 || columns < 1) cur_fail(&d->c);
        ix->unique = unique == 1;
        ix->columns = room(d, columns, INDEX_COLUMNS_MAX, sizeof *ix->columns);
        for (uint64_t k = 0; k < columns && !d->c.err; k++)
            decode_index_column(d, t, ix);
        ix->where = decode_condition(d, t);
        t->index_count++;
    }
}

static void decode_checks(struct decoding *d, struct table *t)
{
    uint64_t count = cur_varint(&d->c);
    t->checks = room(d, count, CHECKS_MAX, sizeof *t->checks);
    for (uint64_t i = 0; i < count && !d->c.err; i++) {
        struct check *check = &t->checks[t->check_count++];
        check->name = decode_name(d);
        check->expr = decode_condition(d, t);
        if (!check->expr || (i > 0 && span_compare(t->checks[i - 1].name, check->name) >= 0)) cur_fail(&d->c);
    }
}

static void decode_table(struct decoding *d, struct table *t)
{
    t->name = decode_name(d);
    uint64_t count = cur_varint(&d->c);
    t->columns = room(d, count, COLUMNS_MAX, sizeof *t->columns);
    for (uint64_t i = 0; i < count && !d->c.err; i++)
        decode_column(d, &t->columns[t->column_count++], i > 0 ? t->columns[i - 1].born : 0);
    if (d->c.err) return;
    int err = schema_sort_columns(d->s, t);
    d->no_memory |= err == ERR_NOMEM;
    if (err) cur_fail(&d->c);
    decode_indexes(d, t);
    decode_checks(d, t);
}

static void decode_tables(struct decoding *d)
{
    struct schema *s = d->s;
    uint64_t count = cur_varint(&d->c);
    s->tables = room(d, count, TABLES_MAX, sizeof *s->tables);
    if (d->c.err) return;
    s->table_count = count;
    for (size_t i = 0; i < count && !d->c.err; i++) {
        s->tables[i].no = (uint32_t)i + 1;
        decode_table(d, &s->tables[i]);
    }
}

int schema_decode(struct schema **out, struct span bytes)
{
    struct decoding d = {.s = schema_empty()};
    assert(out);
    if (!d.s) return ERR_NOMEM;
    cur_init(&d.c, bytes);
    if (cur_u8(&d.c) != FORMAT) cur_fail(&d.c);
    uint64_t version = cur_varint(&d.c);
    if (version < 1 || version > UINT32_MAX) cur_fail(&d.c);
    d.s->version = (uint32_t)version;
    decode_enums(&d);
    decode_tables(&d);
    int err = d.no_memory ? ERR_NOMEM : cur_end(&d.c);
    if (!err) err = schema_sort(d.s);
    if (!err) err = schema_finish(d.s);
    if (err) {
        schema_unref(d.s);
        return err == ERR_NOMEM ? err : ERR_CORRUPT;
    }
    *out = d.s;
    return 0;
}
