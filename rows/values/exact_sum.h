// A sum of doubles that is exact until it is read, and rounded once then: it hangs on which numbers are in it, not on the order in which they came, and one
// that is taken out again leaves nothing behind. So a live sum is the one that is summed afresh, in every bit.
#ifndef SEGUE_ROWS_EXACT_SUM_H
#define SEGUE_ROWS_EXACT_SUM_H

#include <stddef.h>
#include <stdint.h>

// A whole number of units of 2^-1074, the smallest double, in two's complement: limbs[i] counts 2^(64 * (low + i)) of them. Only as many
// limbs as the numbers so far have needed; the last one is nothing but sign. Zero is an empty sum.
struct exact_sum {
    uint64_t *limbs;
    unsigned low, n;
};

// `d` is finite. ERR_NOMEM: the sum is as it was.
int exact_sum_add(struct exact_sum *s, double d);
int exact_sum_subtract(struct exact_sum *s, double d);
// The nearest double, of two the even one; infinite where it is past the greatest.
double exact_sum_value(const struct exact_sum *s);
size_t exact_sum_bytes(const struct exact_sum *s); // of memory
void exact_sum_free(struct exact_sum *s); // and leaves it empty

#endif
