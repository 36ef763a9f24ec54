// The elements of an array or a set: what the bytes of such a value are.
//
//      per element: [of a set: varint cell seq - seq of the commit that added it], the element's stored form
//
// Of a set they stand in the order of value_compare, each once. So a set that nobody writes keeps its bytes while its row changes,
// and an element's age is told from the seq of the cell.
#ifndef SEGUE_ROWS_ELEMENTS_H
#define SEGUE_ROWS_ELEMENTS_H

#include "value.h"

struct elements {
    struct cur c;
    struct type item;
    bool set;
};

// `v` is not null; `type` is its own, an array or a set. The elements' spans point into v's.
void elements_open(struct elements *e, const struct type *type, const struct value *v);
// False: no more. `behind` (may be NULL): how many seqs the commit that added it lies behind the cell's; 0 in an array.
bool elements_next(struct elements *e, struct value *item, uint64_t *behind);
size_t elements_count(const struct type *type, const struct value *v);

// Appends one; the order, the uniqueness and the number (ARRAY_ELEMENTS_MAX) are the caller's to keep.
void elements_put(struct buf *out, const struct type *type, const struct value *item, uint64_t behind);

// The largest `behind` of a set: no element is older than the commits before the first.
uint64_t elements_oldest(const struct type *type, const struct value *v);

// For value.c: as value_compare, value_order_key's body, value_decode, value_json; and an SQL literal's content: {"a","b"}.
int elements_compare(const struct type *type, const struct value *a, const struct value *b);
void elements_order(struct buf *out, const struct type *type, const struct value *v);
void elements_check(struct cur *c, const struct type *type, const struct value *v);
void elements_json(struct jw *w, const struct type *type, const struct value *v);
void elements_literal(struct buf *out, const struct type *type, const struct value *v);

// For value_convert.c: from a JSON array, or an SQL literal's content.
int elements_convert(struct value *out, const struct value_target *target, const struct row_value *in, struct arena *a, struct problem *p);

#endif
