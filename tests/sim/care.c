// What the service and its admins do while clients work: history is forgotten, indexes come and go, branches live and die.
#include <stdio.h>

#include "err.h"
#include "json_read.h"
#include "preview.h"
#include "world.h"

static void again(struct world *w, struct event e, uint32_t us)
{
    if (!w->ending) world_event(w, us / 8 + dice_below(&w->dice, us), e);
}

// As the service does it by itself, but sooner.
void care_horizon(struct world *w)
{
    uint64_t upto = 0, keep = 10 + dice_below(&w->dice, 40);
    again(w, (struct event){.kind = EVENT_HORIZON}, 500000);
    if (w->app == NULL || app_state(w->app) != APP_READY || app_visible(w->app) <= keep) return;
    if (rows_horizon_due(app_rows(w->app), app_txn(w->app), app_visible(w->app) - keep, UINT64_MAX, &upto) != 0 || upto == 0) return;
    server_own(w, &(struct batch_op){.kind = BATCH_HORIZON, .horizon = upto});
    w->horizons++;
}

void care_schema(struct world *w)
{
    char text[4096];
    int n = snprintf(text, sizeof text, "%s", works_schema);
    again(w, (struct event){.kind = EVENT_SCHEMA}, 600000);
    for (size_t i = 0; i < WORKS_INDEXES; i++)
        if (dice_chance(&w->dice, 50)) n += snprintf(text + n, sizeof text - (size_t)n, "%s", works_indexes[i]);
    server_own(w, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = SPAN_STR(text)});
}

// ---- branches ----------------------------------------------------------------------------------------------------------

// What clients keep true of a state is true of a branch that lies over it.
static void look(struct world *w, const struct branch *b, struct rows_preview *preview)
{
    struct buf rows;
    struct jr_tree *tree = NULL;
    int64_t sum = 0;
    buf_init(&rows, MIB);
    int err = server_read_over(w, "select n from pots", app_branch_at(w->app, b), rows_preview_overlay(preview), &rows);
    if (err == 0) err = jr_parse(&tree, buf_span(&rows), NULL);
    for (size_t i = 0; err == 0 && i < jr_count(jr_root(tree)); i++)
        sum += jr_int(jr_get(jr_at(jr_root(tree), i), "n"), 0);
    if (err != 0) world_find(w, "cannot be read", "branch %s: %s", b->name, err_wire(err));
    else if (sum != 0) world_find(w, "wrong sum", "branch %s as of %llu has a sum of %lld", b->name, (unsigned long long)app_branch_at(w->app, b), (long long)sum);
    jr_free(tree);
    buf_free(&rows);
}

static void look_at(struct world *w, struct span name)
{
    struct branch b;
    struct rows_preview *preview = NULL;
    struct problem p = PROBLEM_NONE;
    if (w->app == NULL || app_txn(w->app) == NULL || app_branch(w->app, name, &b) != 0) return;
    int err = app_branch_preview(w->app, &b, &preview, &p);
    if (err == 0) look(w, &b, preview);
    else world_find(w, "cannot be read", "branch %s: %s", b.name, problem_text(&p));
    rows_preview_free(preview);
}

static void write_to(struct world *w, struct batch_op *op)
{
    struct buf json, ops;
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    buf_init(&json, MIB);
    buf_init(&ops, MIB);
    works_branch_ops(w, &json);
    if (batch_from_json(buf_span(&json), &head, &ops, &p) != 0) world_find(w, "beginning", "%s", problem_text(&p));
    op->branch.ops = buf_span(&ops);
    server_own(w, op);
    buf_free(&json);
    buf_free(&ops);
}

void care_branch(struct world *w)
{
    static const char *const names[] = {"draft", "what-if"};
    static const enum branch_step steps[] = {BRANCH_CREATE, BRANCH_WRITE, BRANCH_WRITE, BRANCH_WRITE, BRANCH_DROP, BRANCH_MERGE, BRANCH_COMMIT};
    const char *name = names[dice_below(&w->dice, 2)];
    struct batch_op op = {.kind = BATCH_BRANCH, .branch = {.name = SPAN_STR(name), .step = steps[dice_below(&w->dice, 7)]}};
    again(w, (struct event){.kind = EVENT_BRANCH}, 60000);
    op.branch.live = op.branch.step == BRANCH_CREATE && dice_chance(&w->dice, 50);
    if (dice_chance(&w->dice, 30)) {
        look_at(w, op.branch.name);
        return;
    }
    w->branches++;
    if (op.branch.step == BRANCH_WRITE) write_to(w, &op);
    else server_own(w, &op);
}

bool care_may_fail(int err)
{
    return err == 0 || err == ERR_BRANCH_EXISTS || err == ERR_NO_SUCH_BRANCH || err == ERR_CONFLICT || err == ERR_TOO_OLD;
}
