// The difference of a select between two states, found from the rows that were touched between them, at a cost that follows those rows
// and not the result's size.
//
// What is compared are the *joined rows* of the select at the top: one combination of rows of its tables that its joins and `where` let
// through, before anything is grouped, made distinct, put in order or limited. A joined row's key are the ids of its rows. Which ones may
// differ is found from the touched rows, by plans in which one table is held to one row's id:
//
//   a touched row of                       what may differ
//   a table of the `from`                  the joined rows that it is part of
//   the right side of a left join          all joined rows of the left rows that meet it: one more or less decides of the row of nulls
//   a select within (exists, in, array …)  all joined rows of those rows further out that it is looked at for; conditions that hold
//                                          selects themselves are taken as true for this, so some come up for nothing
//
// Both states are asked, and each such joined row is given to the sink for each state in which it stands, once: those that stand
// before, then those that stand after. One that stands in both may be the same in both: who wants to know compares what it shows of it.
// Rows of which no column that the select uses has changed are passed over from the beginning.
//
// States are row_sources: two seqs of the store, the same seq without and with an overlay, and so on. Nothing is kept between two calls but
// the plans, which are of the select's shape: parameters come with each call.
#ifndef SEGUE_ROWS_DELTA_H
#define SEGUE_ROWS_DELTA_H

#include "exec.h"

// ---- rows that were touched ----------------------------------------------------------------------------------------

// A row, as a table's slot of the plan sees it: a table that stands twice in a text has two.
struct delta_row {
    uint32_t slot;
    struct uuid id;
};

struct delta_rows {
    struct delta_row *rows;
    size_t n, cap;
};

int delta_rows_add(struct delta_rows *rows, uint32_t slot, struct uuid id); // ERR_NOMEM
// Adds it for each slot of the plan that is of this table.
int delta_rows_add_table(struct delta_rows *rows, const struct plan *plan, uint32_t table, struct uuid id); // ERR_NOMEM
void delta_rows_free(struct delta_rows *rows); // and leaves it empty

// ---- the difference ------------------------------------------------------------------------------------------------

struct delta;

// For the selects of this plan, which is referred to. The top select may be grouped, distinct, ordered or limited: its joined rows are meant all
// the same. ERR_UNSUPPORTED_SQL, in words: with a select within it goes through too many tables at once. ERR_NOMEM.
int delta_new(struct rows *r, struct plan *plan, struct delta **out, struct problem *p);
// The same, or one that was made for the same plan and is still there.
int delta_share(struct rows *r, struct plan *plan, struct delta **out, struct problem *p);
void delta_free(struct delta *d); // of a shared one the last call frees it; NULL is fine
const struct plan *delta_plan(const struct delta *d);

// Is this slot of a table looked at? Of a part of the text that is shown from where it stands a second time, there are slots that are not.
bool delta_reads(const struct delta *d, uint32_t slot);
// Is the text of one of its streams read?
bool delta_reads_text(const struct delta *d, uint32_t slot);
// Of a table's slot: does the select use a column in which these two differ, or does the row come or go? Of a row that stands and owns a stream that the
// select shows: always, for no image tells of the stream.
bool delta_concerns(const struct delta *d, uint32_t slot, const struct row *old, const struct row *new);
// Conditions on a slot's row alone, without selects within, those that follow from others among them: a row that meets them in neither state makes no difference. They live as long as `d`.
void delta_conditions(const struct delta *d, uint32_t slot, struct expr *const **conditions, size_t *count);

// Does looking for what a touched row changes go through all of a table? ERR_NOMEM, or what planning says.
int delta_scans(struct delta *d, bool *scans, struct problem *p);

enum delta_side { DELTA_BEFORE, DELTA_AFTER };

struct delta_sink {
    // A joined row of this state. Expressions of the plan's top select (its where, targets, order as compiled; what is grouped by; arguments of aggregates)
    // can be evaluated with run_eval and show_target in `run`, until the call returns. `key` is as delta_key makes it. What it returns ends the difference,
    // EXEC_MORE as well.
    int (*row)(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run);
};

struct delta_states {
    struct row_source before, after; // of the same store; they are not told what was read
    const struct value *params;      // as many as the plan has
    uint64_t end_us;                 // by the clock: past that too many rows would have to be looked at; 0: whenever
};

// `rows` is sorted by this. *budget: keys that may be looked at, and what is left of them. ERR_QUERY_TOO_EXPENSIVE: they were not enough, or too many joined
// rows may differ; ERR_BAD_VALUE and what else an evaluation says (the words in *p, which may be NULL); ERR_NOMEM, ERR_CORRUPT, or the transaction's error.
// After a failure the sink may have been given some of the rows.
int delta_run(struct delta *d, const struct delta_states *states, struct delta_rows *rows, size_t *budget, struct delta_sink *sink,
              struct problem *p);

// The joined row of this key in one state: given to the sink (as DELTA_AFTER) where it stands. *stands may be NULL. As delta_run.
int delta_look_up(struct delta *d, const struct row_source *state, const struct value *params, struct span key, size_t *budget,
                  struct delta_sink *sink, bool *stands, struct problem *p);

// ---- keys ----------------------------------------------------------------------------------------------------------

// The key of the joined row at hand: for each table of the top select, in the order of the text, 1 and the row's id, or 0 alone where a left join
// found none. Of a select that is neither grouped nor distinct it is what run_key makes.
void delta_key(const struct plan *plan, const struct run *run, struct buf *out);

#endif
