// The type of a column: what its values are made of.
#ifndef SEGUE_ROWS_TYPE_H
#define SEGUE_ROWS_TYPE_H

#include "buf.h"

enum col_type {
    COL_TEXT = 1,
    COL_INTEGER,
    COL_BIGINT,
    COL_DOUBLE,
    COL_BOOLEAN,
    COL_TIMESTAMPTZ,
    COL_UUID,
    COL_JSONB,
    COL_STREAM,
    COL_BLOB,
    COL_ENUM,
    COL_BYTEA,
    COL_COUNTER, // a bigint that concurrent writers add to
};
#define COL_TYPE_LAST COL_COUNTER

// What `create type … as enum` declares. Labels only come to stand behind those that are there: a value is a label's place.
struct labels {
    struct span name;
    struct span *labels;
    size_t count;
    const struct labels *grown; // the same type as a later schema declares it, whose values rows may have by now; NULL: this is what it is
};

struct type {
    enum col_type kind;
    bool array; // of `kind`, one dimension, no nulls
    bool set;   // an array whose elements are sorted, each once, and know the commit that added them (merge 'set')
    const struct labels *labels; // of COL_ENUM; belongs to a schema
};

#define TYPE(k) ((const struct type){.kind = (k)})

// The name of a kind in canonical SQL; "enum" for COL_ENUM. NULL for a number that is none.
const char *col_type_name(enum col_type kind);

// "text[]", "mood": for messages.
#define TYPE_TEXT_MAX 80
const char *type_text(const struct type *type, char text[TYPE_TEXT_MAX]);

// May it stand in `order by`, in an index, and beside < <= > >=?
bool type_ordered(const struct type *type);
// May an array of it be?
bool type_element(enum col_type kind);
// What an array's elements are.
static inline struct type type_of_element(const struct type *array)
{
    return (struct type){.kind = array->kind, .labels = array->labels};
}
// Is a value of it a span of bytes?
static inline bool type_is_span(const struct type *t)
{
    return t->array || t->kind == COL_TEXT || t->kind == COL_JSONB || t->kind == COL_BYTEA;
}
// The same kind, and the same enum by its name.
bool type_same(const struct type *a, const struct type *b);

// A label's place; -1: none.
int labels_find(const struct labels *l, struct span label);
// How many there are by now, and the label of a value: what was compiled by an earlier schema meets rows of later ones.
size_t labels_count(const struct labels *l);
struct span labels_at(const struct labels *l, int64_t value);

#endif
