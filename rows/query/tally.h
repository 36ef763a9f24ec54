// What one aggregate of one group has come to. Values can be taken out again, so that a live group follows its rows: counts and sums follow
// exactly; of min and max it may have to be said that what is left is not known.
#ifndef SEGUE_ROWS_TALLY_H
#define SEGUE_ROWS_TALLY_H

#include "exact_sum.h"
#include "select.h"

// Zero is empty.
struct tally {
    uint64_t count; // values that are not null; of AGG_FIRST rows
    uint64_t ties;  // of min and max: how many are `best`
    __int128 whole;
    struct exact_sum real;
    struct value best; // of min, max and first
    uint8_t *copy;     // that it lies in
    bool lost;         // all that are left are no better than `best`, and which one is the best of them has to be looked for
};

// Nulls count for nothing, but for AGG_FIRST. Of a distinct aggregate only what is new, or the last of its kind, may come here. ERR_NOMEM.
int tally_add(struct tally *t, const struct aggregate *a, const struct value *v);
// A value that was added. Of AGG_FIRST all rows of the group have the same one.
int tally_remove(struct tally *t, const struct aggregate *a, const struct value *v);
// Spans of *out lie in the tally, which is not lost. ERR_BAD_VALUE: a sum is past 64 bits, or the range of double precision.
int tally_result(const struct tally *t, const struct aggregate *a, struct value *out, struct problem *p);

int tally_copy(struct tally *out, const struct tally *t, const struct aggregate *a); // ERR_NOMEM
size_t tally_bytes(const struct tally *t, const struct aggregate *a); // of memory, beside the tally's own
void tally_free(struct tally *t); // and leaves it empty

#endif
