// Running a plan, in steps between which the transaction may change. Nothing waits, and nothing is kept but what is said here.
//
//      joined rows ──> [groups] ──> [having] ──> [distinct] ──> [sorted] ──> offset, limit ──> a row to show
//
// Joined rows come by going through the levels: each level's table is looked through once for every row of the levels before. A select
// within is run when an expression first asks for it, and its value kept until a row that it depends on moves on.
#ifndef SEGUE_ROWS_EXEC_H
#define SEGUE_ROWS_EXEC_H

#include "key_set.h"
#include "select.h"
#include "source.h"

struct exec;

// What a table's level did, over all of a run.
struct level_stats {
    uint64_t opened, looked_at, rows; // times looked through; keys or rows looked at; rows that passed
};

struct run_sub;

struct run {
    const struct plan *plan;
    struct row_source src;
    struct value *params, *slots;
    struct expr_row *rows; // by table slot
    struct level_stats *stats; // by table slot
    struct run_sub *subs;
    struct exec *top;
    struct arena *scratch; // emptied before each expression
    struct expr_env env;
    uint32_t needed; // the select within that an expression asked for
    size_t budget, given; // keys that may still be looked at in this step, and at its beginning
    uint64_t looked_at;
    uint64_t step_end_us; // when a step should end, whatever is left of it; 0: it takes as long as it takes
    uint32_t met;         // rows looked for
    size_t bytes; // held by groups, sets and values of selects within
    struct problem problem;
    bool suspended;
};

// `params`: as many values as the plan has parameters; they live as long as the run. src->txn is the first step's. ERR_NOMEM.
int run_open(struct run *run, const struct plan *plan, const struct row_source *src, const struct value *params);
void run_close(struct run *run);

#define EXEC_MORE 1 // the step is over, there is more to do

// Before the first step: rows that are equal in what the query orders by, or, where it limits them, all of them, come by their keys. Two runs
// over the same rows then give the same rows in the same order, whatever way their plans go. Without an order and a limit it says nothing.
void run_by_keys(struct run *run);

// The next row of the result: *row, and until run_taken its targets can be evaluated in run->env; or there are none left.
// EXEC_MORE; ERR_QUERY_TOO_EXPENSIVE, ERR_BAD_VALUE …, with the words in run->problem.
int run_next(struct run *run, bool *row);
void run_taken(struct run *run);

// An expression of the row, with the selects within that it asks for. As run_next.
int run_eval(struct run *run, const struct expr *e, struct value *out);

// The key of the row at hand, which no other row of the result has, and which it has in each run: of joined rows, for each table of the top select in the
// order of the text, 1 and the row's id, or 0 alone where a left join found none; of a group or a distinct row a digest of its values. As run_next.
#define RUN_DIGEST_BYTES 16
int run_key(struct run *run, struct buf *out);
void run_rows_key(const struct run *run, uint64_t slots, struct buf *out); // of joined rows: which of these table slots' rows are at hand
void run_digest(struct span values, uint8_t digest[RUN_DIGEST_BYTES]); // of values as value_key writes them, one behind the other
// As clients see it: the ids joined by "." with nothing where there is no row; a digest in base64url.
void run_key_text(const struct select *s, struct span key, struct buf *out);

// Before each step, with its transaction and how many keys it may look at; and after it. ERR_CANCELED: an index that the plan uses is gone.
int run_begin_step(struct run *run, struct db_txn *txn, size_t budget);
int run_end_step(struct run *run); // ERR_NOMEM

// ---- for exec_*.c --------------------------------------------------------------------------------------------------

int exec_new(struct run *run, const struct select *s, struct exec **out);
void exec_free(struct exec *x); // NULL is fine
void exec_reset(struct exec *x); // as new
int exec_next(struct exec *x, bool *row);
void exec_taken(struct exec *x);
int exec_suspend(struct exec *x); // ERR_NOMEM
int exec_resume(struct exec *x);
const struct select *exec_select(const struct exec *x);
struct span exec_group_key(const struct exec *x); // of the group at hand: what is grouped by, as value_key writes it
void exec_by_keys(struct exec *x);

// More memory is held, or less. ERR_QUERY_TOO_EXPENSIVE past QUERY_MEMORY_MAX.
int run_hold(struct run *run, size_t before, size_t now);

// Forgets the values of selects within that depend on these table slots.
void run_forget(struct run *run, uint64_t slots);

// exec_sub.c
int sub_value(struct expr_env *env, const struct expr *e, const struct value *left, struct value *out);
int sub_advance(struct run *run, uint32_t no); // until its value is known
int subs_new(struct run *run);
void subs_free(struct run *run);
int subs_suspend(struct run *run);
int subs_resume(struct run *run);
// The keys of an `in` select's values, once known; *has_null: one is null.
const struct key_set *sub_keys(const struct run *run, uint32_t no, bool *has_null);

// exec_group.c
struct groups;
int groups_new(struct run *run, const struct select *s, struct groups **out);
void groups_free(struct groups *g);
int groups_add(struct groups *g); // the rows of run->env
size_t groups_count(const struct groups *g);
bool groups_have_value(const struct groups *g); // of the only aggregate, in the only group
int groups_show(struct groups *g, size_t i); // its values into the slots
struct span groups_key(const struct groups *g, size_t i);

// exec_access.c: from a level's access to the ranges of its cursor.
struct ranges {
    struct sort_keys each; // values of the list, as keys
    size_t at;
    struct buf prefix; // of what is equal
    bool empty;        // a null: no row is equal to it
};
int ranges_begin(struct ranges *ranges, struct run *run, const struct level *level, const struct table *t, const struct index *ix);
// The next range into the cursor's bounds. False: there are no more.
int ranges_next(struct ranges *ranges, struct run *run, const struct level *level, const struct table *t, const struct index *ix,
                struct buf *from, struct buf *to, bool *more);
void ranges_free(struct ranges *ranges);

// A value as what is looked for in sets: equal ones are equal bytes.
void value_key(struct buf *out, const struct type *type, const struct value *v);

#endif
