// A schema as canonical SQL and as JSON.
#include <assert.h>
#include <stdlib.h>

#include "schema.h"

// PostgreSQL's reserved words, those reserved for functions and types included: they need quotes as names.
static const char *const reserved[] = {
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
};

static int compare_word(const void *key, const void *word)
{
    return span_compare(*(const struct span *)key, SPAN_STR(*(const char *const *)word));
}

static bool needs_quotes(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] >= 'A' && name.p[i] <= 'Z') return true;
    return bsearch(&name, reserved, sizeof reserved / sizeof *reserved, sizeof *reserved, compare_word) != NULL;
}

static void put_name(struct buf *out, struct span name)
{
    const char *quote = needs_quotes(name) ? "\"" : "";
    buf_put_str(out, quote);
    buf_put_span(out, name);
    buf_put_str(out, quote);
}

static void put_text(struct buf *out, struct span s)
{
    buf_put_u8(out, '\'');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\'') buf_put_u8(out, '\'');
        buf_put_u8(out, s.p[i]);
    }
    buf_put_u8(out, '\'');
}

static void put_constant(struct buf *out, const struct type *type, const struct value *v)
{
    bool number = type->kind == COL_INTEGER || type->kind == COL_BIGINT || type->kind == COL_COUNTER || type->kind == COL_DOUBLE;
    if (!type->array && (number || type->kind == COL_BOOLEAN)) {
        value_text(out, type, v);
        return;
    }
    struct buf text;
    buf_init(&text, out->max);
    value_text(&text, type, v);
    if (text.err) out->err = text.err;
    put_text(out, buf_span(&text));
    buf_free(&text);
}

static void put_default(struct buf *out, const struct column *c)
{
    switch (c->has_default) {
    case DEFAULT_NONE: return;
    case DEFAULT_NOW: buf_put_str(out, "now()"); return;
    case DEFAULT_UUID: buf_put_str(out, "gen_random_uuid()"); return;
    case DEFAULT_CONST: put_constant(out, &c->type, &c->def); return;
    }
}

static void put_column(struct buf *out, const struct schema *s, const struct column *c)
{
    buf_put_str(out, ",\n    ");
    put_name(out, c->name);
    buf_put_u8(out, ' ');
    type_put_name(out, &c->type);
    if (c->not_null) buf_put_str(out, " not null");
    if (c->has_default != DEFAULT_NONE) buf_put_str(out, " default ");
    put_default(out, c);
    if (!c->references) return;
    buf_put_str(out, " references ");
    put_name(out, s->tables[c->references - 1].name);
}

void schema_sql(const struct schema *s, struct buf *out)
{
    for (size_t i = 0; i < s->table_count; i++) {
        const struct table *t = &s->tables[s->by_name[i]];
        buf_put_str(out, i > 0 ? "\ncreate table " : "create table ");
        put_name(out, t->name);
        buf_put_str(out, " (\n    id uuid primary key");
        for (size_t k = 0; k < t->column_count; k++)
            put_column(out, s, &t->columns[t->by_name[k]]);
        buf_put_str(out, "\n);\n");
    }
}

static void json_default(struct jw *w, const struct column *c)
{
    struct buf text;
    if (c->has_default == DEFAULT_NONE) return;
    jw_key(w, "default");
    buf_init(&text, w->out->max);
    put_default(&text, c);
    if (text.err) w->out->err = text.err;
    jw_str(w, buf_span(&text));
    buf_free(&text);
}

static void json_column(struct jw *w, const struct schema *s, const struct column *c)
{
    jw_object(w);
    jw_key(w, "name");
    jw_str(w, c->name);
    jw_key(w, "type");
    jw_cstr(w, type_text(&c->type, (char[TYPE_TEXT_MAX]){0}));
    jw_key(w, "not_null");
    jw_bool(w, c->not_null);
    json_default(w, c);
    if (c->references) {
        jw_key(w, "references");
        jw_str(w, s->tables[c->references - 1].name);
    }
    jw_end(w);
}

void schema_json(const struct schema *s, struct buf *out)
{
    static const struct column id = {.name = {(const uint8_t *)"id", 2}, .type = {.kind = COL_UUID}, .not_null = true};
    char hash[SHA256_HEX];
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "hash");
    hex_format(hash, SPAN(s->hash.b, SHA256_BYTES));
    jw_str(&w, SPAN(hash, SHA256_HEX));
    jw_key(&w, "tables");
    jw_array(&w);
    for (size_t i = 0; i < s->table_count; i++) {
        const struct table *t = &s->tables[s->by_name[i]];
        jw_object(&w);
        jw_key(&w, "name");
        jw_str(&w, t->name);
        jw_key(&w, "columns");
        jw_array(&w);
        json_column(&w, s, &id);
        for (size_t k = 0; k < t->column_count; k++)
            json_column(&w, s, &t->columns[k]);
        jw_end(&w);
        jw_end(&w);
    }
    jw_end(&w);
    jw_end(&w);
}
