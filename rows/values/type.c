#include "type.h"

#include <assert.h>
#include <stdio.h>

const char *col_type_name(enum col_type kind)
{
    switch (kind) {
    case COL_TEXT: return "text";
    case COL_INTEGER: return "integer";
    case COL_BIGINT: return "bigint";
    case COL_DOUBLE: return "double precision";
    case COL_BOOLEAN: return "boolean";
    case COL_TIMESTAMPTZ: return "timestamptz";
    case COL_UUID: return "uuid";
    case COL_JSONB: return "jsonb";
    case COL_STREAM: return "stream";
    case COL_BLOB: return "blob";
    case COL_ENUM: return "enum";
    case COL_BYTEA: return "bytea";
    case COL_COUNTER: return "counter";
    }
    return NULL;
}

const char *type_text(const struct type *type, char text[TYPE_TEXT_MAX])
{
    const char *array = type->array ? "[]" : "";
    if (type->labels) {
        snprintf(text, TYPE_TEXT_MAX, "%.*s%s", SPAN_FMT(type->labels->name), array);
    } else {
        snprintf(text, TYPE_TEXT_MAX, "%s%s", col_type_name(type->kind), array);
    }
    return text;
}

bool type_ordered(const struct type *type)
{
    return type->kind != COL_JSONB && type->kind != COL_STREAM && type->kind != COL_BLOB;
}

bool type_element(enum col_type kind)
{
    return kind != COL_STREAM && kind != COL_BLOB && kind != COL_COUNTER;
}

bool type_same(const struct type *a, const struct type *b)
{
    if (a->kind != b->kind || a->array != b->array || a->set != b->set || !a->labels != !b->labels) return false;
    return !a->labels || span_equal(a->labels->name, b->labels->name);
}

int labels_find(const struct labels *l, struct span label)
{
    for (size_t i = 0; i < l->count; i++)
        if (span_equal(l->labels[i], label)) return (int)i;
    return -1;
}

static const struct labels *grown(const struct labels *l)
{
    while (l->grown)
        l = l->grown;
    return l;
}

size_t labels_count(const struct labels *l)
{
    return grown(l)->count;
}

struct span labels_at(const struct labels *l, int64_t value)
{
    if (value >= (int64_t)l->count) l = grown(l);
    assert(value >= 0 && value < (int64_t)l->count);
    return l->labels[value];
}
