// What happens to a row store that somebody follows, as data: a schema, queries, and batches, all from one seed. So a run that goes wrong can be run again without
// some of it, until nothing is left out any more.
#ifndef SEGUE_LIVE_SCRIPT_H
#define SEGUE_LIVE_SCRIPT_H

#include <stdio.h>

#include "rows_rig.h"

#define LIVE_QUERIES 8
#define LIVE_BATCHES 40

enum live_op_kind { LIVE_INSERT, LIVE_UPDATE, LIVE_DELETE, LIVE_RESTORE, LIVE_STREAM };

struct live_op {
    enum live_op_kind kind;
    size_t table;
    unsigned id;
    char *json; // of an insert or update
    bool left_out;
};

enum live_batch_kind {
    LIVE_ROWS,
    LIVE_SCHEMA,  // the indexes come, or go, or a column comes
    LIVE_HORIZON, // moves up
    LIVE_RESTART, // everybody leaves, and the store is opened again
};

struct live_batch {
    enum live_batch_kind kind;
    uint64_t dice;  // what readers do behind it follows from this, so that it does not change when other batches are left out
    bool unpublished; // becomes visible only together with the next one
    char *schema;
    struct live_op *ops;
    size_t op_count;
    bool left_out;
};

struct live_query {
    char *sql;
    bool ordered, total; // as dice_make_live_query has them
    bool left_out;
};

struct live_script {
    uint64_t seed;
    char *schema;
    struct live_query queries[LIVE_QUERIES];
    struct live_batch batches[LIVE_BATCHES];
};

struct live_script *live_script_new(uint64_t seed);
void live_script_free(struct live_script *s);
// What is not left out, to be read by people.
void live_script_print(const struct live_script *s, FILE *out);

// Applies a batch, and publishes it if it is not to wait. A batch that is refused leaves everything as it was: what it needs may have been left out.
void live_batch_apply(const struct live_batch *b, struct rows_rig *g);

#endif
