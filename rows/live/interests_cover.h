// What conditions on one row say of single columns: alternatives of which one must hold wherever all of the conditions do.
#ifndef SEGUE_ROWS_INTERESTS_COVER_H
#define SEGUE_ROWS_INTERESTS_COVER_H

#include "expr.h"

#define COVER_ALTERNATIVES_MAX 4096 // conditions of more say nothing
#define COVER_ATOMS_MAX 16          // in one alternative; further ones say nothing

// A column is equal to a value (null: is null), or lies in a range, whose bounds belong to it: it may be wider than what was written.
struct atom {
    int column; // or COLUMN_ID
    struct type type; // the column's
    bool range;
    bool has_low, has_high;
    struct value equal, low, high;
};

struct alternative {
    struct atom *atoms; // all hold; at least one
    size_t count;
};

struct cover {
    struct alternative *alternatives; // none: the conditions never hold
    size_t count;
};

// Of all these conditions together. NULL: they say nothing of single columns, or too much for the arena. Made in the arena; values lie in it, in the
// expressions or in the parameters.
const struct cover *cover_conditions(struct arena *a, uint32_t slot, struct expr *const *conditions, size_t count, const struct value *params);

#endif
