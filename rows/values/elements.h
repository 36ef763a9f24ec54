// The elements of an array or a set: what the bytes of such a value are.
//
//      per element: [of a set: per commit that added it, varint (cell seq - its seq) * 2, + 1 if one more follows],
//                   the element's stored form
//
// Of a set they stand in the order of value_compare, each once. An element was added by one commit, or by several whose writers had
// not seen each other's; the newest comes first. A set that nobody writes keeps its bytes while its row changes, and an element's
// age is told from the seq of the cell.
#ifndef SEGUE_ROWS_ELEMENTS_H
#define SEGUE_ROWS_ELEMENTS_H

#include "limits.h"
#include "value.h"

struct elements {
    struct cur c;
    struct type item;
    bool set;
    // Of the element read last: how many seqs the commits that added it lie behind the cell's, ascending.
    uint64_t behind[SET_WRITERS_MAX];
    size_t behind_count;
};

// `v` is not null; `type` is its own, an array or a set. The elements' spans point into v's.
void elements_open(struct elements *e, const struct type *type, const struct value *v);
// False: no more. `behind` (may be NULL): e->behind[0]; 0 in an array.
bool elements_next(struct elements *e, struct value *item, uint64_t *behind);
size_t elements_count(const struct type *type, const struct value *v);

// Appends one; the order, the uniqueness and the number (ARRAY_ELEMENTS_MAX) are the caller's to keep.
void elements_put(struct buf *out, const struct type *type, const struct value *item, uint64_t behind);
// Of a set, one that `n` commits added: 1 to SET_WRITERS_MAX, ascending, none twice.
void elements_put_added(struct buf *out, const struct type *type, const struct value *item, const uint64_t *behind, size_t n);

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
