// What merging batches must come to, said without any order: from all accepted batches together, each of which counts once. Independent of
// rows/batch/merge.c on purpose; merge.h says what the strategies mean.
#ifndef SEGUE_TEST_MODEL_H
#define SEGUE_TEST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_ROWS 8     // of table cells, from 0
#define MODEL_MORTAL 4   // from this one on rows may be deleted
#define MODEL_UNBORN 6   // from this one on they are only there once somebody upserts them
#define MODEL_LETTERS 4  // elements of a set, as bits

// What one batch does to one row. At most one of them for a row in a batch.
struct cell_op {
    uint32_t row;
    bool delete;
    bool has_l, has_n, has_hi, has_lo, has_tags;
    int64_t l, n, hi, lo;   // lww; counter: an increment; max; min
    bool absolute;          // the set is replaced
    unsigned add, remove;   // else changed
};

struct cell_write {
    struct cell_op op;
    uint64_t seq, base, stamp; // of its batch
    uint32_t writer;           // 0: a batch by key, whose writer nobody knows; else greater writers have greater ids
};

struct cell_row {
    bool there;
    bool has_l, has_hi, has_lo;
    int64_t l, n, hi, lo;
    unsigned tags;
};

// The row as it stands behind the writes with a seq up to `at`, in whatever order they are given.
struct cell_row model_row(const struct cell_write *writes, size_t count, uint32_t row, uint64_t at);

#endif
