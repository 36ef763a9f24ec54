#include "history_care.h"

#include "batch.h"
#include "err.h"
#include "log.h"

#define LOOK_MS 1000 // between two looks when there was nothing to do

void history_care_init(struct history_care *c, struct app *a, uint64_t keep_ms, uint64_t keep_commits)
{
    *c = (struct history_care){.app = a, .keep_ms = keep_ms, .keep_commits = keep_commits};
}

static void on_fate(struct submission *s, const struct fate *fate)
{
    struct history_care *c = (struct history_care *)((char *)s - offsetof(struct history_care, submission));
    c->submitted = false;
    buf_free(&c->encoded);
    if (fate->err == 0) {
        c->next_ms = 0; // there may be more
        return;
    }
    log_warn("history", "the horizon was not moved", LF_STR("app", app_name(c->app)), LF_ERR(fate->err));
}

static void move(struct history_care *c, uint64_t upto)
{
    buf_init(&c->encoded, KIB);
    batch_put_op(&c->encoded, &(struct batch_op){.kind = BATCH_HORIZON, .horizon = upto});
    c->submission = (struct submission){.identity = identity_of(IDENTITY_ADMIN), .request = buf_span(&c->encoded), .done = on_fate};
    c->submitted = c->encoded.err == 0 && app_submit(c->app, &c->submission) == 0;
    if (!c->submitted) buf_free(&c->encoded);
}

// A branch keeps the history that it stands on.
static bool lower(void *ctx, const struct branch *b)
{
    uint64_t *upto = ctx;
    if (b->base < *upto) *upto = b->base;
    return true;
}

void history_care_tick(struct history_care *c, uint64_t now_ms)
{
    struct db_txn *txn = app_txn(c->app);
    uint64_t visible = app_visible(c->app), upto = 0;
    if (c->submitted || txn == NULL || app_state(c->app) != APP_READY || now_ms < c->next_ms) return;
    c->next_ms = now_ms + LOOK_MS;
    if (visible <= c->keep_commits || now_ms <= c->keep_ms) return;
    uint64_t limit = visible - c->keep_commits;
    int err = app_branches_each(c->app, lower, &limit);
    if (err == 0) err = rows_horizon_due(app_rows(c->app), txn, limit, now_ms - c->keep_ms, &upto);
    if (err == 0 && upto > 0) move(c, upto);
}

bool history_care_busy(const struct history_care *c)
{
    return c->submitted || c->next_ms == 0;
}
