// A schema as canonical SQL and as JSON.
#include "expr.h"
#include "schema.h"
#include "sql_words.h"

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
    sql_put_text(out, buf_span(&text));
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

static const char *action_name(enum ref_action action)
{
    return action == REF_CASCADE ? "cascade" : action == REF_SET_NULL ? "set null" : "restrict";
}

// A counter begins with 0 unless it is said otherwise.
static bool says_default(const struct column *c)
{
    return c->has_default != DEFAULT_NONE && !(c->merge == MERGE_COUNTER && c->def.i == 0);
}

static void put_column(struct buf *out, const struct schema *s, const struct column *c)
{
    buf_put_str(out, ",\n    ");
    sql_put_name(out, c->name);
    buf_put_u8(out, ' ');
    sql_put_type(out, &c->type);
    if (c->merge != MERGE_LWW && c->merge != MERGE_COUNTER) buf_printf(out, " options (merge '%s')", merge_name(c->merge));
    if (c->not_null && c->merge != MERGE_COUNTER) buf_put_str(out, " not null");
    if (says_default(c)) buf_put_str(out, " default ");
    if (says_default(c)) put_default(out, c);
    if (!c->references) return;
    buf_put_str(out, " references ");
    sql_put_name(out, s->tables[c->references - 1].name);
    if (c->on_delete != REF_RESTRICT) buf_printf(out, " on delete %s", action_name(c->on_delete));
}

// Where the parentheses that a text begins with end; 0: it begins with none. They are none within quotes.
static size_t closing(struct span s)
{
    size_t depth = 0;
    uint8_t quote = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (quote != 0 ? c == quote : c == '\'' || c == '"') quote = quote != 0 ? 0 : c;
        if (quote == 0) depth += (c == '(') - (c == ')');
        if (depth == 0) return i;
    }
    return 0;
}

// An expression without the parentheses around all of it.
static void put_condition(struct buf *out, const struct expr *e)
{
    struct buf text;
    buf_init(&text, out->max);
    expr_sql(&text, e);
    struct span s = buf_span(&text);
    if (s.n > 2 && closing(s) == s.n - 1) s = span_sub(s, 1, s.n - 2);
    if (text.err && !out->err) out->err = text.err;
    buf_put_span(out, s);
    buf_free(&text);
}

static void put_check(struct buf *out, const struct check *check)
{
    buf_put_str(out, ",\n    constraint ");
    sql_put_name(out, check->name);
    buf_put_str(out, " check (");
    put_condition(out, check->expr);
    buf_put_u8(out, ')');
}

static void put_index(struct buf *out, const struct table *t, const struct index *ix)
{
    buf_put_str(out, ix->unique ? "create unique index " : "create index ");
    sql_put_name(out, ix->name);
    buf_put_str(out, " on ");
    sql_put_name(out, t->name);
    for (size_t i = 0; i < ix->column_count; i++) {
        buf_put_str(out, i > 0 ? ", " : " (");
        sql_put_name(out, table_column_name(t, ix->columns[i].column));
        if (ix->columns[i].desc) buf_put_str(out, " desc");
    }
    buf_put_u8(out, ')');
    if (ix->where) buf_put_str(out, " where ");
    if (ix->where) put_condition(out, ix->where);
    buf_put_str(out, ";\n");
}

static void put_enum(struct buf *out, const struct labels *l)
{
    buf_put_str(out, "create type ");
    sql_put_type(out, &(struct type){.kind = COL_ENUM, .labels = l});
    buf_put_str(out, " as enum (");
    for (size_t i = 0; i < l->count; i++) {
        if (i > 0) buf_put_str(out, ", ");
        sql_put_text(out, l->labels[i]);
    }
    buf_put_str(out, ");\n");
}

// The place of the enum that comes next by name after `last`; false: it was the last one.
static bool next_enum(const struct schema *s, const struct labels **last)
{
    const struct labels *next = NULL;
    for (size_t i = 0; i < s->enum_count; i++) {
        const struct labels *l = &s->enums[i];
        if (*last && span_compare(l->name, (*last)->name) <= 0) continue;
        if (!next || span_compare(l->name, next->name) < 0) next = l;
    }
    *last = next;
    return next != NULL;
}

void schema_sql(const struct schema *s, struct buf *out)
{
    const struct labels *l = NULL;
    while (next_enum(s, &l))
        put_enum(out, l);
    for (size_t i = 0; i < s->table_count; i++) {
        const struct table *t = &s->tables[s->by_name[i]];
        buf_put_str(out, out->n > 0 ? "\ncreate table " : "create table ");
        sql_put_name(out, t->name);
        buf_put_str(out, " (\n    id uuid primary key");
        for (size_t k = 0; k < t->column_count; k++)
            put_column(out, s, &t->columns[t->by_name[k]]);
        for (size_t k = 0; k < t->check_count; k++)
            put_check(out, &t->checks[k]);
        buf_put_str(out, "\n);\n");
        for (size_t k = 0; k < t->index_count; k++)
            put_index(out, t, &t->indexes[t->indexes_by_name[k]]);
    }
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static void json_default(struct jw *w, const struct column *c)
{
    struct buf text;
    if (!says_default(c)) return;
    jw_key(w, "default");
    buf_init(&text, w->out->max);
    put_default(&text, c);
    if (text.err) w->out->err = text.err;
    jw_str(w, buf_span(&text));
    buf_free(&text);
}

static void json_expr(struct jw *w, const char *key, const struct expr *e)
{
    struct buf text;
    jw_key(w, key);
    buf_init(&text, w->out->max);
    put_condition(&text, e);
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
    if (c->merge != MERGE_LWW) {
        jw_key(w, "merge");
        jw_cstr(w, merge_name(c->merge));
    }
    jw_key(w, "not_null");
    jw_bool(w, c->not_null);
    json_default(w, c);
    if (c->references) {
        jw_key(w, "references");
        jw_str(w, s->tables[c->references - 1].name);
        jw_key(w, "on_delete");
        jw_cstr(w, action_name(c->on_delete));
    }
    jw_end(w);
}

static void json_index(struct jw *w, const struct table *t, const struct index *ix)
{
    jw_object(w);
    jw_key(w, "name");
    jw_str(w, ix->name);
    jw_key(w, "unique");
    jw_bool(w, ix->unique);
    jw_key(w, "columns");
    jw_array(w);
    for (size_t i = 0; i < ix->column_count; i++) {
        jw_object(w);
        jw_key(w, "name");
        jw_str(w, table_column_name(t, ix->columns[i].column));
        jw_key(w, "desc");
        jw_bool(w, ix->columns[i].desc);
        jw_end(w);
    }
    jw_end(w);
    if (ix->where) json_expr(w, "where", ix->where);
    jw_end(w);
}

static void json_checks(struct jw *w, const struct table *t)
{
    jw_key(w, "checks");
    jw_array(w);
    for (size_t i = 0; i < t->check_count; i++) {
        jw_object(w);
        jw_key(w, "name");
        jw_str(w, t->checks[i].name);
        json_expr(w, "check", t->checks[i].expr);
        jw_end(w);
    }
    jw_end(w);
}

static void json_table(struct jw *w, const struct schema *s, const struct table *t)
{
    static const struct column id = {.name = {(const uint8_t *)"id", 2}, .type = {.kind = COL_UUID}, .not_null = true};
    jw_object(w);
    jw_key(w, "name");
    jw_str(w, t->name);
    jw_key(w, "columns");
    jw_array(w);
    json_column(w, s, &id);
    for (size_t k = 0; k < t->column_count; k++)
        json_column(w, s, &t->columns[k]);
    jw_end(w);
    jw_key(w, "indexes");
    jw_array(w);
    for (size_t k = 0; k < t->index_count; k++)
        json_index(w, t, &t->indexes[t->indexes_by_name[k]]);
    jw_end(w);
    json_checks(w, t);
    jw_end(w);
}

static void json_enums(struct jw *w, const struct schema *s)
{
    const struct labels *l = NULL;
    jw_key(w, "enums");
    jw_array(w);
    while (next_enum(s, &l)) {
        jw_object(w);
        jw_key(w, "name");
        jw_str(w, l->name);
        jw_key(w, "labels");
        jw_array(w);
        for (size_t i = 0; i < l->count; i++)
            jw_str(w, l->labels[i]);
        jw_end(w);
        jw_end(w);
    }
    jw_end(w);
}

void schema_json(const struct schema *s, struct buf *out)
{
    char hash[SHA256_HEX];
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "hash");
    hex_format(hash, SPAN(s->hash.b, SHA256_BYTES));
    jw_str(&w, SPAN(hash, SHA256_HEX));
    json_enums(&w, s);
    jw_key(&w, "tables");
    jw_array(&w);
    for (size_t i = 0; i < s->table_count; i++)
        json_table(&w, s, &s->tables[s->by_name[i]]);
    jw_end(&w);
    jw_end(&w);
}
