// How a write to a cell and what stands there become one value: each column's strategy, behind one function.
//
//      lww       of concurrent writes that of the later stamp shows; of equal stamps that of the greater writer
//      counter   writes are changes, and all of them count; only a row that comes to be is given a value
//      max, min  the greatest, or the least; null is less than nothing: it never takes a value's place
//      set       what was added and not taken away by who had seen it: an addition that a remover had not seen stays. Who takes away in one
//                batch what it added in an earlier one has seen that, whatever its base says
//
// Concurrent writes give the same value in whatever order they arrive; a batch's name sees to it that none counts twice.
#ifndef SEGUE_ROWS_MERGE_H
#define SEGUE_ROWS_MERGE_H

#include "record.h"

struct write {
    bool change;          // of a counter or a set: not the value itself
    struct value v;       // the value; of a counter's change what is added; of a set's what comes into it
    struct value removed; // of a set's change: what goes
};

// Reads what an operation says of a column: a value, or for counters {"increment": n}, for sets {"add": [], "remove": []}. Spans are copies
// in the arena. ERR_WRONG_TYPE, ERR_BAD_VALUE, ERR_TOO_LARGE, ERR_NOMEM (arena full or no memory).
int merge_read(struct write *out, const struct column *c, const struct row_value *in, struct arena *a, struct problem *p);

// What merging has to know of the commit being decided and of others. `seq`s of 0 are nobody's: such a cell holds a default.
struct merge_ctx {
    uint64_t seq; // of the commit
    bool made;    // the row comes to be with this operation
    struct arena *arena;
    struct problem *p;
    void *ctx;
    int (*wins)(void *ctx, uint64_t seq, bool *yes); // does this commit's write show over that one's?
    int (*seen)(void *ctx, uint64_t seq, bool *yes); // had this commit's writer seen that one?
};

// 1: *have is another cell now, of this commit; 0: it stays. Or ERR_BAD_VALUE (an overflow, a counter's value), ERR_TOO_LARGE, ERR_NOMEM (as above), a
// question's error.
int merge_cell(const struct column *c, struct cell *have, const struct write *w, const struct merge_ctx *m);

#endif
