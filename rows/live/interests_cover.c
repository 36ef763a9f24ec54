// A condition's cover follows its tree: an `and` takes what all of its parts say of columns at once and multiplies it with the shortest choice among them, an `or`
// needs a cover of each of its parts. A negation is pushed down to what stands below. What is not understood says nothing, which is always right.
#include "interests_cover.h"

#include <assert.h>
#include <string.h>

#include "elements.h"

#define AFTER_ALL 16 // bytes that no text has, behind the beginning of some: they end the range of those

struct cover_of {
    struct arena *a;
    uint32_t slot;
    const struct value *params;
};

static const struct cover *cover(const struct cover_of *c, const struct expr *e, bool negate);

// ---- making --------------------------------------------------------------------------------------------------------

static struct cover *make(const struct cover_of *c, size_t count)
{
    struct cover *out = count > COVER_ALTERNATIVES_MAX ? NULL : arena_alloc(c->a, sizeof *out);
    if (!out) return NULL;
    out->alternatives = arena_array(c->a, count, sizeof *out->alternatives);
    out->count = count;
    return out->alternatives ? out : NULL;
}

static const struct cover *never(const struct cover_of *c)
{
    return make(c, 0);
}

static bool put_atom(const struct cover_of *c, struct alternative *alternative, const struct atom *atom)
{
    alternative->atoms = arena_alloc(c->a, sizeof *atom);
    if (!alternative->atoms) return false;
    *alternative->atoms = *atom;
    alternative->count = 1;
    return true;
}

static const struct cover *one_atom(const struct cover_of *c, const struct atom *atom)
{
    struct cover *out = make(c, 1);
    return out && put_atom(c, &out->alternatives[0], atom) ? out : NULL;
}

// ---- comparisons ---------------------------------------------------------------------------------------------------

static bool is_whole(const struct type *t)
{
    return !t->array && (t->kind == COL_INTEGER || t->kind == COL_BIGINT || t->kind == COL_COUNTER);
}

// A column of the slot that is compared as what it is, and as bytes are.
static bool is_column(const struct cover_of *c, const struct expr *e, const struct type *compared)
{
    if (e->kind != EX_COLUMN || e->slot != c->slot || e->type.array || !type_ordered(&e->type)) return false;
    return type_same(&e->type, compared) || (is_whole(&e->type) && is_whole(compared));
}

// False: it is not the same for all rows, or cannot be evaluated.
static bool constant(const struct cover_of *c, const struct expr *e, struct value *out)
{
    struct expr_env env = {.params = c->params, .scratch = c->a};
    return e->uses == 0 && !e->subs && !e->slots && expr_eval(e, &env, out) == 0;
}

static struct atom equal_atom(const struct expr *column, struct value v)
{
    return (struct atom){.column = column->column, .type = column->type, .equal = v};
}

static int turned(int op)
{
    static const enum ast_op turns[] = {[OP_LT] = OP_GT, [OP_LE] = OP_GE, [OP_GT] = OP_LT, [OP_GE] = OP_LE};
    return op == OP_LT || op == OP_LE || op == OP_GT || op == OP_GE ? (int)turns[op] : op;
}

static int negated(int op)
{
    static const enum ast_op turns[] = {[OP_EQ] = OP_NE, [OP_NE] = OP_EQ,   [OP_LT] = OP_GE,         [OP_LE] = OP_GT,
                                        [OP_GT] = OP_LE, [OP_GE] = OP_LT, [OP_SAME] = OP_DISTINCT, [OP_DISTINCT] = OP_SAME};
    return (int)turns[op];
}

static const struct cover *comparison(const struct cover_of *c, const struct expr *e, bool negate)
{
    bool turn = !is_column(c, e->args[0], &e->compared);
    const struct expr *column = e->args[turn];
    int op = turn ? turned(e->op) : e->op;
    struct value v;
    if (negate) op = negated(op);
    if (!is_column(c, column, &e->compared) || !constant(c, e->args[!turn], &v)) return NULL;
    struct atom atom = equal_atom(column, v);
    switch (op) {
    case OP_EQ: return v.null ? never(c) : one_atom(c, &atom);
    case OP_SAME: return one_atom(c, &atom);
    case OP_LT:
    case OP_LE: atom.range = atom.has_high = true, atom.high = v; break;
    case OP_GT:
    case OP_GE: atom.range = atom.has_low = true, atom.low = v; break;
    default: return NULL;
    }
    return v.null ? never(c) : one_atom(c, &atom);
}

static const struct cover *in_list(const struct cover_of *c, const struct expr *e)
{
    struct cover *out = is_column(c, e->args[0], &e->compared) ? make(c, e->count - 1) : NULL;
    size_t n = 0;
    for (size_t i = 1; i < e->count && out; i++) {
        struct value v;
        if (!constant(c, e->args[i], &v)) return NULL;
        struct atom atom = equal_atom(e->args[0], v);
        if (!v.null && !put_atom(c, &out->alternatives[n++], &atom)) return NULL;
    }
    if (out) out->count = n;
    return out;
}

static const struct cover *in_array(const struct cover_of *c, const struct expr *e)
{
    struct value array, item;
    struct elements all;
    if (e->op != OP_EQ || !is_column(c, e->args[0], &e->compared) || !constant(c, e->args[1], &array)) return NULL;
    if (array.null) return never(c);
    struct cover *out = make(c, elements_count(&e->args[1]->type, &array));
    size_t n = 0;
    elements_open(&all, &e->args[1]->type, &array);
    while (out && elements_next(&all, &item, NULL)) {
        struct atom atom = equal_atom(e->args[0], item);
        if (!put_atom(c, &out->alternatives[n++], &atom)) return NULL;
    }
    return out;
}

// Texts that begin with what stands before the pattern's first wildcard.
static const struct cover *like(const struct cover_of *c, const struct expr *e)
{
    struct value pattern;
    size_t n = 0;
    if (e->op != 0 || !is_column(c, e->args[0], &e->args[0]->type) || !constant(c, e->args[1], &pattern)) return NULL;
    if (pattern.null) return never(c);
    while (n < pattern.s.n && !strchr("%_\\", pattern.s.p[n]))
        n++;
    uint8_t *high = n > 0 ? arena_alloc(c->a, n + AFTER_ALL) : NULL;
    if (!high) return NULL;
    memcpy(high, pattern.s.p, n);
    memset(high + n, 0xff, AFTER_ALL);
    struct atom atom = {.column = e->args[0]->column, .type = e->args[0]->type, .range = true, .has_low = true, .has_high = true};
    atom.low.s = SPAN(pattern.s.p, n);
    atom.high.s = SPAN(high, n + AFTER_ALL);
    return one_atom(c, &atom);
}

static const struct cover *boolean(const struct cover_of *c, const struct expr *e, bool negate)
{
    struct value v;
    if (is_column(c, e, &e->type)) {
        struct atom atom = equal_atom(e, (struct value){.b = !negate});
        return one_atom(c, &atom);
    }
    if (!constant(c, e, &v)) return NULL;
    return v.null || v.b == negate ? never(c) : NULL;
}

static const struct cover *null_test(const struct cover_of *c, const struct expr *e, bool negate)
{
    const struct expr *column = e->args[0];
    if (e->negate != negate || !is_column(c, column, &column->type)) return NULL;
    struct atom atom = equal_atom(column, VALUE_NULL);
    return one_atom(c, &atom);
}

static const struct cover *truth_test(const struct cover_of *c, const struct expr *e, bool negate)
{
    if (e->negate != negate) return NULL; // `is not true` holds of nulls, too
    if (e->op != AST_UNKNOWN) return cover(c, e->args[0], e->op == AST_FALSE);
    if (!is_column(c, e->args[0], &e->args[0]->type)) return NULL;
    struct atom atom = equal_atom(e->args[0], VALUE_NULL);
    return one_atom(c, &atom);
}

// ---- and, or -------------------------------------------------------------------------------------------------------

static const struct cover *one_of(const struct cover_of *c, struct expr *const *parts, size_t count, bool negate)
{
    const struct cover **covers = arena_array(c->a, count, sizeof *covers);
    size_t all = 0, n = 0;
    for (size_t i = 0; i < count && covers; i++) {
        covers[i] = cover(c, parts[i], negate);
        if (!covers[i]) return NULL;
        all += covers[i]->count;
    }
    struct cover *out = covers ? make(c, all) : NULL;
    for (size_t i = 0; i < count && out; i++)
        for (size_t k = 0; k < covers[i]->count; k++)
            out->alternatives[n++] = covers[i]->alternatives[k];
    return out;
}

static void add_atoms(struct alternative *to, const struct alternative *from)
{
    for (size_t i = 0; i < from->count && to->count < COVER_ATOMS_MAX; i++)
        to->atoms[to->count++] = from->atoms[i];
}

// `base` beside each of the choices.
static const struct cover *multiply(const struct cover_of *c, const struct alternative *base, const struct cover *choices)
{
    struct cover *out = make(c, choices->count);
    for (size_t i = 0; i < choices->count && out; i++) {
        const struct alternative *choice = &choices->alternatives[i];
        struct alternative *to = &out->alternatives[i];
        to->atoms = arena_array(c->a, choice->count + base->count, sizeof *to->atoms);
        if (!to->atoms) return NULL;
        add_atoms(to, choice);
        add_atoms(to, base);
    }
    return out;
}

// The choice whose alternatives are the fewest stands for all: each more would multiply their number.
static const struct cover *all_of(const struct cover_of *c, struct expr *const *parts, size_t count, bool negate)
{
    const struct cover *choice = NULL;
    struct alternative base = {.atoms = arena_array(c->a, COVER_ATOMS_MAX, sizeof *base.atoms)};
    for (size_t i = 0; i < count && base.atoms; i++) {
        const struct cover *part = cover(c, parts[i], negate);
        if (!part) continue;
        if (part->count == 0) return part;
        if (part->count == 1) add_atoms(&base, &part->alternatives[0]);
        else if (!choice || part->count < choice->count) choice = part;
    }
    if (base.atoms && choice && base.count == 0) return choice;
    if (!base.atoms || (!choice && base.count == 0)) return NULL;
    if (choice) return multiply(c, &base, choice);
    struct cover *out = make(c, 1);
    if (out) out->alternatives[0] = base;
    return out;
}

static const struct cover *cover(const struct cover_of *c, const struct expr *e, bool negate)
{
    switch (e->kind) {
    case EX_AND: return negate ? one_of(c, e->args, e->count, true) : all_of(c, e->args, e->count, false);
    case EX_OR: return negate ? all_of(c, e->args, e->count, true) : one_of(c, e->args, e->count, false);
    case EX_NOT: return cover(c, e->args[0], !negate);
    case EX_COMPARE: return comparison(c, e, negate);
    case EX_IS_NULL: return null_test(c, e, negate);
    case EX_IS_TRUTH: return truth_test(c, e, negate);
    case EX_IN: return e->negate == negate ? in_list(c, e) : NULL;
    case EX_ANY: return e->negate == negate ? in_array(c, e) : NULL;
    case EX_LIKE: return e->negate == negate ? like(c, e) : NULL;
    case EX_CONST:
    case EX_PARAM:
    case EX_COLUMN: return boolean(c, e, negate);
    default: return NULL;
    }
}

const struct cover *cover_conditions(struct arena *a, uint32_t slot, struct expr *const *conditions, size_t count, const struct value *params)
{
    const struct cover_of c = {.a = a, .slot = slot, .params = params};
    assert(a);
    return all_of(&c, conditions, count, false);
}
