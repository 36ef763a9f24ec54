#include "tally.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "err.h"

static bool is_double(const struct type *t)
{
    return t->kind == COL_DOUBLE && !t->array;
}

static int keep(struct tally *t, const struct type *type, const struct value *v)
{
    struct value best = *v;
    uint8_t *copy = NULL;
    if (!v->null && type_is_span(type)) {
        copy = malloc(v->s.n + 1);
        if (!copy) return ERR_NOMEM;
        if (v->s.n > 0) memcpy(copy, v->s.p, v->s.n);
        best.s.p = copy;
    }
    free(t->copy);
    t->copy = copy;
    t->best = best;
    return 0;
}

// Below 0: better than what is kept.
static int compare_best(const struct tally *t, const struct aggregate *a, const struct value *v)
{
    int c = value_compare(&a->type, v, &t->best);
    return a->kind == AGG_MIN ? c : -c;
}

static int add_extreme(struct tally *t, const struct aggregate *a, const struct value *v)
{
    int c = t->count == 0 ? -1 : compare_best(t, a, v);
    if (c > 0) return 0;
    if (c == 0 && !t->lost) {
        t->ties++;
        return 0;
    }
    int err = keep(t, &a->type, v);
    if (err) return err;
    t->ties = 1;
    t->lost = false;
    return 0;
}

int tally_add(struct tally *t, const struct aggregate *a, const struct value *v)
{
    int err = 0;
    if (a->kind == AGG_FIRST) {
        err = t->count == 0 ? keep(t, &a->type, v) : 0;
    } else if (v->null) {
        return 0;
    } else if (a->kind == AGG_MIN || a->kind == AGG_MAX) {
        err = add_extreme(t, a, v);
    } else if (a->kind != AGG_COUNT && is_double(&a->arg->type)) {
        err = exact_sum_add(&t->real, v->d);
    } else if (a->kind != AGG_COUNT) {
        t->whole += v->i;
    }
    if (!err) t->count++;
    return err;
}

static void remove_extreme(struct tally *t, const struct aggregate *a, const struct value *v)
{
    if (t->lost || compare_best(t, a, v) != 0) return;
    assert(t->ties > 0);
    t->lost = --t->ties == 0;
}

int tally_remove(struct tally *t, const struct aggregate *a, const struct value *v)
{
    int err = 0;
    if (v->null && a->kind != AGG_FIRST) return 0;
    assert(t->count > 0);
    if (a->kind == AGG_MIN || a->kind == AGG_MAX) remove_extreme(t, a, v);
    else if ((a->kind == AGG_SUM || a->kind == AGG_AVG) && is_double(&a->arg->type)) err = exact_sum_subtract(&t->real, v->d);
    else if (a->kind == AGG_SUM || a->kind == AGG_AVG) t->whole -= v->i;
    if (err || --t->count > 0) return err;
    tally_free(t);
    return 0;
}

// ---- results -------------------------------------------------------------------------------------------------------

static int real_of(double d, struct value *out, struct problem *p)
{
    if (!isfinite(d)) return problem_set(p, ERR_BAD_VALUE, -1, "a sum is out of the range of double precision");
    *out = (struct value){.d = d};
    return 0;
}

static int sum_of(const struct aggregate *a, const struct tally *t, struct value *out, struct problem *p)
{
    if (is_double(&a->type)) return real_of(exact_sum_value(&t->real), out, p);
    if (t->whole > INT64_MAX || t->whole < INT64_MIN) return problem_set(p, ERR_BAD_VALUE, -1, "a sum is past 64 bits");
    *out = (struct value){.i = (int64_t)t->whole};
    return 0;
}

static int average_of(const struct aggregate *a, const struct tally *t, struct value *out, struct problem *p)
{
    struct value sum = {.d = (double)t->whole};
    int err = is_double(&a->arg->type) ? real_of(exact_sum_value(&t->real), &sum, p) : 0;
    if (!err) *out = (struct value){.d = sum.d / (double)t->count};
    return err;
}

int tally_result(const struct tally *t, const struct aggregate *a, struct value *out, struct problem *p)
{
    assert(!t->lost);
    *out = VALUE_NULL;
    if (a->kind == AGG_COUNT) *out = (struct value){.i = (int64_t)t->count};
    if (a->kind == AGG_COUNT || t->count == 0) return 0;
    if (a->kind == AGG_SUM) return sum_of(a, t, out, p);
    if (a->kind == AGG_AVG) return average_of(a, t, out, p);
    *out = t->best;
    return 0;
}

// ---- memory --------------------------------------------------------------------------------------------------------

int tally_copy(struct tally *out, const struct tally *t, const struct aggregate *a)
{
    struct tally copy = *t;
    copy.copy = NULL;
    copy.real.limbs = NULL;
    int err = t->count > 0 && (a->kind == AGG_MIN || a->kind == AGG_MAX || a->kind == AGG_FIRST) ? keep(&copy, &a->type, &t->best) : 0;
    if (!err && t->real.n > 0) {
        copy.real.limbs = malloc(exact_sum_bytes(&t->real));
        if (copy.real.limbs) memcpy(copy.real.limbs, t->real.limbs, exact_sum_bytes(&t->real));
        else err = ERR_NOMEM;
    }
    if (err) free(copy.copy);
    else *out = copy;
    return err;
}

size_t tally_bytes(const struct tally *t, const struct aggregate *a)
{
    return exact_sum_bytes(&t->real) + (t->copy && type_is_span(&a->type) ? t->best.s.n + 1 : 0);
}

void tally_free(struct tally *t)
{
    exact_sum_free(&t->real);
    free(t->copy);
    *t = (struct tally){.count = 0};
}
