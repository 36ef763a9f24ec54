// A difference's inside, shared by delta.c and delta_plan.c.
#ifndef SEGUE_ROWS_DELTA_IMPL_H
#define SEGUE_ROWS_DELTA_IMPL_H

#include "delta.h"

#define NO_PLACE SIZE_MAX
#define DELTA_EXPRS_MAX (8 * MIB)

// A select of the text, and where it stands.
struct delta_place {
    const struct select *s;
    size_t outer;          // the place of the one that it stands in; NO_PLACE: it is the top
    const struct expr *in; // EX_SUB
    bool alone; // as a condition by itself: to be false and to be null are the same
    bool on;    // in the ON of a left join
};

struct delta_slot {
    struct level level; // as its select has it
    size_t place;
    uint64_t used[(COLUMNS_MAX + 63) / 64]; // columns, as bits
    bool stream; // one of its streams is shown, or read
    bool text;   // the text of one is read
    struct expr **conditions; // on its row alone
    size_t condition_count;
    // With this table held to one id: of the core the joined rows, of other tables the rows of the core that may be concerned.
    struct plan *pinned;
};

struct delta {
    unsigned refs;
    struct delta *next, **link; // of those that are shared; link NULL: it is not
    struct rows *r;
    struct plan *plan;
    struct arena *arena;
    struct arena *exprs; // of the plans below
    struct delta_place *places;
    size_t place_count;
    struct delta_slot slots[EXPR_TABLES_MAX];
    // The tables of the top that no left join brings: their rows say which joined rows are looked at together.
    uint32_t core[QUERY_TABLES_MAX];
    size_t core_count;
    struct plan *whole; // all of the core held to one id each
    uint64_t ready;     // which indexes could be used when the plans were made
};

// Takes the plan's text apart. ERR_NOMEM.
int delta_take_apart(struct delta *d);
// The conditions of all slots, with what follows from others. ERR_NOMEM.
int delta_take_conditions(struct delta *d);
bool delta_has_slots(const struct expr *e); // values of a grouped select
struct expr *delta_make_equal(struct arena *arena, struct expr *a, struct expr *b, struct type compared); // NULL: no memory
// No plan is of more tables than one can be. ERR_UNSUPPORTED_SQL, ERR_NOMEM.
int delta_check_tables(struct delta *d, struct problem *p);
bool delta_is_core(const struct delta *d, uint32_t slot);

// The plan with the slot's table held to parameter `param_count`; or (DELTA_WHOLE) the core's to those from there on. Made where it is not there, or cannot
// answer for `at`.
#define DELTA_WHOLE EXPR_TABLES_MAX
int delta_pinned(struct delta *d, uint32_t slot, uint64_t at, const struct plan **out, struct problem *p);
// Lets go of plans that better ones could be made for; `at_once`: of all.
void delta_plans_settle(struct delta *d, bool at_once);

#endif
