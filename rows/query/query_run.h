// A run's inside, for query_run.c and explain.c.
#ifndef SEGUE_ROWS_QUERY_RUN_H
#define SEGUE_ROWS_QUERY_RUN_H

#include "exec.h"
#include "query.h"

struct query_run {
    struct query *q;
    struct plan *plan;
    struct arena *arena; // of the parameters, where the plan is not the query's
    struct run run;
    bool open;
    bool keyed; // rows come with their keys, and by them
    struct buf text;
    uint64_t emitted;
    uint64_t spent_us;
};

// The same query for a seq that the indexes of its plan cannot answer for. As query_compile.
int query_replan(struct rows *r, const struct query *q, uint64_t at, struct plan **out, struct problem *p);
// The plan by which the query is run for `at`, and its parameters: its own, or where that one's indexes cannot answer another one, with an arena of its
// parameters. The caller lets go of *plan and *arena (NULL before), after a failure too.
int query_plan_for(struct rows *r, const struct query *q, uint64_t at, struct plan **plan, struct arena **arena, struct value **params,
                   struct problem *p);

#endif
