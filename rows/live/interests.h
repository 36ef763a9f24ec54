// Who is concerned by a changed row: the index of everybody's conditions on the rows of one table.
//
//      conditions ──interests_cover.c──> alternatives ──> entries, each of a shape (columns that are equal, then one in a range) with its arguments
//
//      changed row ──> of each shape of its table: the hash of the row's own values ──> a bucket: a list, or a tree of ranges ──> interests
//
// An interest is a table and conditions that must all hold, told apart into their shape, shared by all that differ in constants alone, and their arguments (those
// constants), of which a hash is kept. It hears of a row when its conditions may hold on the row before or after the change: always when they do, at times when
// they do not. What is found by no column hears of every changed row of the table: it is scanned, if it has conditions that such rows may fail.
#ifndef SEGUE_ROWS_INTERESTS_H
#define SEGUE_ROWS_INTERESTS_H

#include "expr.h"
#include "view.h"

struct interests;
struct interest_entry;

// Embedded by who wants to hear. The first part is filled in by it before interests_add, and stays as it is until interests_remove.
struct interest {
    // Once for a changed row. May add and remove interests: those that are added hear of later rows, those that are removed hear of nothing more.
    void (*hear)(struct interest *i, uint64_t seq, const struct row_change *change);
    void *owner;
    uint32_t table; // its number
    uint32_t slot;  // of the table in the conditions
    bool scanned;   // interests_add says: there are conditions on the rows alone, and every changed row of the table is tried against them

    // Private from here on.
    uint32_t found_at;
    uint64_t no; // later ones have greater numbers
    struct interest_entry *entries; // one for each alternative
};

struct interests *interests_new(void);    // NULL: no memory
void interests_free(struct interests *x); // all have been removed; NULL is fine

// Conditions that reach to other slots, or have selects within, narrow nothing. Nothing of what is given is kept. ERR_NOMEM.
int interests_add(struct interests *x, struct interest *i, struct expr *const *conditions, size_t count, const struct value *params);
void interests_remove(struct interests *x, struct interest *i);

// Has all whom the change may concern hear of it, each once. Not from within `hear`.
void interests_find(struct interests *x, uint64_t seq, const struct row_change *change);

// Tells of all whom the change may concern, each once; nobody hears. Nobody comes or goes meanwhile.
void interests_each(struct interests *x, const struct row_change *change, void (*fn)(void *ctx, struct interest *i), void *ctx);
// Is anybody interested in this table?
bool interests_in(const struct interests *x, uint32_t table);
// The number of the last interest that was added.
uint64_t interests_last(const struct interests *x);

struct interests_counts {
    uint64_t all, scanned;
    uint64_t entries; // of all; an interest that never hears has none
    uint64_t shapes;
};
struct interests_counts interests_counts(const struct interests *x);

#endif
