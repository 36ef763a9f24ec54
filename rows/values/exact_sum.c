#include "exact_sum.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

#define LIMB_BITS 64
#define LIMBS_MAX 36 // 2098 bits of a double, 64 for how many there are, and the sign
#define SMALLEST (-1074)
#define MANTISSA_BITS 53

static uint64_t sign_limb(const struct exact_sum *s)
{
    return s->n > 0 && s->limbs[s->n - 1] >> (LIMB_BITS - 1) ? UINT64_MAX : 0;
}

// Room for a number whose lowest bit is in limb `at`, and which reaches into the next one; behind that, one that is nothing but sign.
static int reserve(struct exact_sum *s, unsigned at)
{
    unsigned low = s->n > 0 && s->low < at ? s->low : at;
    unsigned end = s->n > 0 && s->low + s->n > at + 3 ? s->low + s->n : at + 3;
    if (s->n > 0 && low == s->low && end == s->low + s->n) return 0;
    assert(end - low <= LIMBS_MAX);
    uint64_t sign = sign_limb(s);
    uint64_t *limbs = malloc((end - low) * sizeof *limbs);
    if (!limbs) return ERR_NOMEM;
    for (unsigned i = low; i < end; i++)
        limbs[i - low] = s->n == 0 || i < s->low ? 0 : i < s->low + s->n ? s->limbs[i - s->low] : sign;
    free(s->limbs);
    *s = (struct exact_sum){.limbs = limbs, .low = low, .n = end - low};
    return 0;
}

static void add_at(uint64_t *limbs, unsigned n, unsigned at, const uint64_t add[2], bool subtract)
{
    uint64_t carry = subtract; // to subtract is to add the complement and one
    uint64_t beyond = subtract ? UINT64_MAX : 0;
    for (unsigned i = at; i < n; i++) {
        uint64_t v = i - at < 2 ? (subtract ? ~add[i - at] : add[i - at]) : beyond, sum;
        bool over = __builtin_add_overflow(limbs[i], v, &sum);
        over |= __builtin_add_overflow(sum, carry, &limbs[i]);
        carry = over;
        if (i - at >= 2 && carry == (uint64_t)subtract) return; // what follows stays as it is
    }
}

static int sum_up(struct exact_sum *s, double d, bool subtract)
{
    int exponent;
    assert(isfinite(d));
    if (d == 0) return 0;
    double fraction = frexp(fabs(d), &exponent); // in [0.5, 1)
    int shift = exponent - MANTISSA_BITS - SMALLEST;
    uint64_t mantissa = (uint64_t)ldexp(fraction, MANTISSA_BITS);
    if (shift < 0) { // a number so small that it has fewer bits
        mantissa >>= -shift;
        shift = 0;
    }
    unsigned at = (unsigned)shift / LIMB_BITS, by = (unsigned)shift % LIMB_BITS;
    // The limb of the sign comes to mean something: there must be another one behind it.
    uint64_t last = s->n > 0 ? s->limbs[s->n - 1] : 0;
    assert(last == 0 || last == UINT64_MAX);
    int err = reserve(s, at);
    if (err) return err;
    const uint64_t add[2] = {mantissa << by, by > 0 ? mantissa >> (LIMB_BITS - by) : 0};
    add_at(s->limbs, s->n, at - s->low, add, subtract != (d < 0));
    last = s->limbs[s->n - 1];
    return last == 0 || last == UINT64_MAX ? 0 : reserve(s, s->low + s->n - 2);
}

int exact_sum_add(struct exact_sum *s, double d)
{
    return sum_up(s, d, false);
}

int exact_sum_subtract(struct exact_sum *s, double d)
{
    return sum_up(s, d, true);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static bool bit_of(const uint64_t *limbs, int bit)
{
    return limbs[bit / LIMB_BITS] >> (bit % LIMB_BITS) & 1;
}

static bool any_below(const uint64_t *limbs, int bit)
{
    for (int i = 0; i < bit / LIMB_BITS; i++)
        if (limbs[i]) return true;
    return bit % LIMB_BITS > 0 && limbs[bit / LIMB_BITS] << (LIMB_BITS - bit % LIMB_BITS);
}

// A number without a sign whose bit 0 is worth 2^exponent; `top` is its highest bit. Below the smallest double there is nothing, so nothing is rounded twice.
static double nearest(const uint64_t *limbs, int top, int exponent)
{
    uint64_t mantissa = 0;
    int low = top - (MANTISSA_BITS - 1) > 0 ? top - (MANTISSA_BITS - 1) : 0;
    for (int bit = top; bit >= low; bit--)
        mantissa = mantissa << 1 | bit_of(limbs, bit);
    bool half = low > 0 && bit_of(limbs, low - 1), more = low > 1 && any_below(limbs, low - 1);
    if (half && (more || (mantissa & 1))) mantissa++;
    return ldexp((double)mantissa, exponent + low);
}

double exact_sum_value(const struct exact_sum *s)
{
    uint64_t limbs[LIMBS_MAX], carry = 1;
    bool negative = sign_limb(s);
    unsigned top = s->n;
    for (unsigned i = 0; i < s->n; i++) {
        limbs[i] = negative ? ~s->limbs[i] + carry : s->limbs[i];
        carry = carry && limbs[i] == 0;
    }
    while (top > 0 && limbs[top - 1] == 0)
        top--;
    if (top == 0) return 0;
    int bit = (int)top * LIMB_BITS - 1 - __builtin_clzll(limbs[top - 1]);
    double d = nearest(limbs, bit, SMALLEST + (int)s->low * LIMB_BITS);
    return negative ? -d : d;
}

size_t exact_sum_bytes(const struct exact_sum *s)
{
    return s->n * sizeof *s->limbs;
}

void exact_sum_free(struct exact_sum *s)
{
    free(s->limbs);
    *s = (struct exact_sum){.limbs = NULL};
}
