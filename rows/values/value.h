// Typed values: what a cell, a default or a bound constant is. The type is the column's and stands beside the value.
#ifndef SEGUE_ROWS_VALUE_H
#define SEGUE_ROWS_VALUE_H

#include "arena.h"
#include "ast.h"
#include "buf.h"
#include "cur.h"
#include "digest.h"
#include "json_write.h"
#include "problem.h"
#include "rows.h"
#include "uuid.h"

// A stream column has no value of its own: its stream follows from the row. It is never null.
struct value {
    bool null;
    union {
        bool b;          // boolean
        int64_t i;       // integer, bigint, counter; timestamptz: microseconds since 1970; an enum's label by its place
        double d;        // double precision; never NaN, infinite or -0
        struct uuid u;   // uuid
        struct sha256 h; // blob
        struct span s;   // text: UTF-8 without NUL; jsonb: canonical text; bytea; arrays and sets: their elements (elements.h)
    };
};

#define VALUE_NULL ((struct value){.null = true})

// Where an untyped value comes from decides how freely it is read.
enum value_source {
    VALUE_WRITTEN,   // a cell in an operation: a string for jsonb is a JSON string
    VALUE_PARAMETER, // $n: also a blob by its digest's hexadecimal text
    VALUE_LITERAL,   // SQL text: as a parameter, and a string for jsonb is JSON text
};

// What an untyped value is converted for: names it in the problem.
struct value_target {
    const struct type *type;
    enum value_source source;
    struct span column;
    int64_t position;
};

// Spans of *out are copies in the arena. Every element of a set is then one of the cell's own commit. ERR_WRONG_TYPE, ERR_BAD_VALUE, ERR_NOMEM (arena full or no memory).
int value_convert(struct value *out, const struct value_target *target, const struct row_value *in, struct arena *a, struct problem *p);

// Deep copy. False: the arena is full.
bool value_copy(struct value *out, const struct type *type, const struct value *in, struct arena *a);

// Both not null, the type ordered or compared for equality alone. Of sets the elements alone count, not who added them when.
int value_compare(const struct type *type, const struct value *a, const struct value *b);
// The same stored form; null equals null here.
bool value_equal(const struct type *type, const struct value *a, const struct value *b);

// Bytes whose order is the value's order, nulls included; no such string is the beginning of another one. Short: a null, a truth
// and a small integer are one byte or two.
void value_order_key(struct buf *out, const struct type *type, const struct value *v, bool desc, bool nulls_first);

// The stored form of a value that is not null; decoding is strict (the cursor's sticky error). Spans point into the cursor's bytes.
void value_encode(struct buf *out, const struct type *type, const struct value *v);
void value_decode(struct cur *c, const struct type *type, struct value *v);

// As the text between the quotes of an SQL constant: value_convert takes it as VALUE_LITERAL. Not for streams and blobs.
void value_text(struct buf *out, const struct type *type, const struct value *v);
// As JSON; not for streams and blobs, which need their store.
void value_json(struct jw *w, const struct type *type, const struct value *v);

#endif
