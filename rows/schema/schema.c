#include "schema.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "expr.h"

#define SCHEMA_BYTES_MAX (32 * MIB) // of one schema in memory

struct schema *schema_empty(void)
{
    struct schema *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->refs = 1;
    s->arena = arena_new(SCHEMA_BYTES_MAX);
    if (!s->arena) {
        free(s);
        return NULL;
    }
    return s;
}

struct schema *schema_ref(struct schema *s)
{
    assert(s->refs > 0);
    s->refs++;
    return s;
}

// It may have been the last that kept its successor, and so on.
void schema_unref(struct schema *s)
{
    while (s) {
        struct schema *successor = s->successor;
        assert(s->refs > 0);
        if (--s->refs > 0) return;
        arena_free(s->arena);
        free(s);
        s = successor;
    }
}

void schema_succeed(struct schema *before, struct schema *after)
{
    assert(before != after && !before->successor && after->enum_count >= before->enum_count);
    before->successor = schema_ref(after);
    for (size_t i = 0; i < before->enum_count; i++) {
        assert(span_equal(before->enums[i].name, after->enums[i].name));
        before->enums[i].grown = &after->enums[i];
    }
}

const struct table *schema_table(const struct schema *s, struct span name)
{
    size_t low = 0, high = s->table_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct table *t = &s->tables[s->by_name[mid]];
        int c = span_compare(name, t->name);
        if (c == 0) return t;
        if (c < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return NULL;
}

const struct table *schema_table_no(const struct schema *s, uint64_t no)
{
    return no >= 1 && no <= s->table_count ? &s->tables[no - 1] : NULL;
}

int table_column(const struct table *t, struct span name)
{
    size_t low = 0, high = t->column_count;
    if (span_is(name, "id")) return COLUMN_ID;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = span_compare(name, t->columns[t->by_name[mid]].name);
        if (c == 0) return t->by_name[mid];
        if (c < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return COLUMN_NONE;
}

// ---- sorting -------------------------------------------------------------------------------------------------------

static int by_table_name(const void *a, const void *b, void *ctx)
{
    const struct schema *s = ctx;
    return span_compare(s->tables[*(const uint16_t *)a].name, s->tables[*(const uint16_t *)b].name);
}

static int by_column_name(const void *a, const void *b, void *ctx)
{
    const struct table *t = ctx;
    return span_compare(t->columns[*(const uint16_t *)a].name, t->columns[*(const uint16_t *)b].name);
}

static int by_index_name(const void *a, const void *b, void *ctx)
{
    const struct table *t = ctx;
    return span_compare(t->indexes[*(const uint16_t *)a].name, t->indexes[*(const uint16_t *)b].name);
}

static uint16_t *sorted(struct arena *a, size_t count, int (*compare)(const void *, const void *, void *), void *ctx)
{
    uint16_t *order = arena_array(a, count, sizeof *order);
    if (!order) return NULL;
    for (size_t i = 0; i < count; i++)
        order[i] = (uint16_t)i;
    qsort_r(order, count, sizeof *order, compare, ctx);
    return order;
}

int schema_sort_columns(struct schema *s, struct table *t)
{
    t->by_name = sorted(s->arena, t->column_count, by_column_name, t);
    if (!t->by_name) return ERR_NOMEM;
    for (size_t i = 1; i < t->column_count; i++)
        if (span_equal(t->columns[t->by_name[i - 1]].name, t->columns[t->by_name[i]].name)) return ERR_EXISTS;
    return 0;
}

int schema_sort(struct schema *s)
{
    assert(s->table_count <= TABLES_MAX);
    for (size_t i = 0; i < s->table_count; i++) {
        int err = s->tables[i].by_name ? 0 : schema_sort_columns(s, &s->tables[i]);
        if (err) return err;
    }
    s->by_name = sorted(s->arena, s->table_count, by_table_name, s);
    if (!s->by_name) return ERR_NOMEM;
    for (size_t i = 1; i < s->table_count; i++)
        if (span_equal(s->tables[s->by_name[i - 1]].name, s->tables[s->by_name[i]].name)) return ERR_EXISTS;
    return 0;
}

int schema_finish(struct schema *s)
{
    struct buf text;
    assert(s->by_name);
    for (size_t i = 0; i < s->table_count; i++) {
        struct table *t = &s->tables[i];
        t->indexes_by_name = sorted(s->arena, t->index_count, by_index_name, t);
        if (!t->indexes_by_name) return ERR_NOMEM;
        for (size_t k = 1; k < t->index_count; k++)
            if (span_equal(t->indexes[t->indexes_by_name[k - 1]].name, t->indexes[t->indexes_by_name[k]].name)) return ERR_EXISTS;
    }
    buf_init(&text, SCHEMA_BYTES_MAX);
    schema_sql(s, &text);
    int err = text.err;
    if (!err) s->hash = sha256_of(buf_span(&text));
    buf_free(&text);
    return err;
}

// ---- parts ---------------------------------------------------------------------------------------------------------

const char *merge_name(enum merge_kind merge)
{
    switch (merge) {
    case MERGE_LWW: return "lww";
    case MERGE_COUNTER: return "counter";
    case MERGE_MAX: return "max";
    case MERGE_MIN: return "min";
    case MERGE_SET: return "set";
    }
    return NULL;
}

struct span table_column_name(const struct table *t, int column)
{
    assert(column == COLUMN_ID || (column >= 0 && (size_t)column < t->column_count));
    return column == COLUMN_ID ? SPAN_LIT("id") : t->columns[column].name;
}

const struct index *table_index_no(const struct table *t, uint32_t no)
{
    for (size_t i = 0; i < t->index_count; i++)
        if (t->indexes[i].no == no) return &t->indexes[i];
    return NULL;
}

bool index_same(const struct index *a, const struct index *b)
{
    if (!span_equal(a->name, b->name) || a->unique != b->unique || a->column_count != b->column_count || !a->where != !b->where)
        return false;
    for (size_t i = 0; i < a->column_count; i++)
        if (a->columns[i].column != b->columns[i].column || a->columns[i].desc != b->columns[i].desc) return false;
    return !a->where || expr_same(a->where, b->where);
}

void schema_renumber(struct schema *s, uint32_t version)
{
    assert(s->refs == 1 && version <= s->version);
    s->version = version;
    for (size_t i = 0; i < s->table_count; i++)
        for (size_t k = 0; k < s->tables[i].column_count; k++)
            if (s->tables[i].columns[k].born > version) s->tables[i].columns[k].born = version;
}

// ---- growth --------------------------------------------------------------------------------------------------------

static bool same_column(const struct column *a, const struct column *b)
{
    return span_equal(a->name, b->name) && type_same(&a->type, &b->type) && a->merge == b->merge && a->born == b->born &&
           a->not_null == b->not_null && a->references == b->references && a->on_delete == b->on_delete && a->has_default == b->has_default &&
           value_equal(&a->type, &a->def, &b->def) && value_equal(&a->type, &a->fill, &b->fill);
}

static bool enum_extends(const struct labels *after, const struct labels *before)
{
    if (!span_equal(after->name, before->name) || after->count < before->count) return false;
    for (size_t i = 0; i < before->count; i++)
        if (!span_equal(after->labels[i], before->labels[i])) return false;
    return true;
}

// Numbers that were given stay with what they were given to, or are gone.
static bool indexes_extend(const struct table *after, const struct table *before)
{
    if (after->index_last < before->index_last) return false;
    for (size_t i = 0; i < after->index_count; i++) {
        const struct index *ix = &after->indexes[i], *old = table_index_no(before, ix->no);
        if (ix->no <= before->index_last && !(old && index_same(ix, old))) return false;
    }
    return true;
}

// May rows that exist do without having been given this one?
static bool lets_old_rows_be(const struct column *c)
{
    bool filled = !c->fill.null || c->type.kind == COL_STREAM;
    return (!c->not_null || filled) && !(c->references && filled) && c->has_default != DEFAULT_UUID;
}

static bool table_extends(const struct table *after, const struct table *before, uint32_t version)
{
    if (!span_equal(after->name, before->name) || after->column_count < before->column_count) return false;
    for (size_t i = 0; i < before->column_count; i++)
        if (!same_column(&after->columns[i], &before->columns[i])) return false;
    for (size_t i = before->column_count; i < after->column_count; i++)
        if (after->columns[i].born != version || !lets_old_rows_be(&after->columns[i])) return false;
    return indexes_extend(after, before);
}

bool schema_extends(const struct schema *after, const struct schema *before)
{
    if (after->version != before->version + 1 || after->table_count < before->table_count || after->enum_count < before->enum_count)
        return false;
    for (size_t i = 0; i < before->enum_count; i++)
        if (!enum_extends(&after->enums[i], &before->enums[i])) return false;
    for (size_t i = 0; i < before->table_count; i++)
        if (!table_extends(&after->tables[i], &before->tables[i], after->version)) return false;
    return true;
}
