#include "blob_care.h"

#include <assert.h>

#include "batch.h"
#include "err.h"
#include "log.h"

#define STEPS_MAX 64 // of one batch

void blob_care_init(struct blob_care *c, struct lane *pool, struct app *a, uint64_t grace_ms, const struct blobs_pace *pace)
{
    *c = (struct blob_care){.app = a, .pool = pool, .grace_ms = grace_ms, .pace = *pace};
}

// ---- steps -------------------------------------------------------------------------------------------------------

static void on_fate(struct submission *s, const struct fate *fate)
{
    struct blob_care *c = (struct blob_care *)((char *)s - offsetof(struct blob_care, submission));
    c->submitted = false;
    if (fate->err != 0) {
        c->more = false;
        log_warn("blobs", "steps in blobs' lives were not taken", LF_STR("app", app_name(c->app)), LF_ERR(fate->err));
    }
    buf_free(&c->encoded);
}

// What is due now, one batch of it.
static size_t collect(struct blob_care *c, uint64_t now_ms)
{
    struct buf step;
    size_t steps = 0;
    buf_init(&step, 4 * KIB);
    for (size_t n = 0; n < STEPS_MAX; n++) {
        buf_clear(&step);
        bool due = blobs_step_due(app_blobs(c->app), app_txn(c->app), now_ms, c->grace_ms, n, &step);
        if (!due && n >= 2) break;
        if (!due) continue;
        batch_put_op(&c->encoded, &(struct batch_op){.kind = BATCH_BLOB_STEP, .step = buf_span(&step)});
        steps++;
    }
    buf_free(&step);
    return steps;
}

static void steps_tick(struct blob_care *c, uint64_t now_ms)
{
    if (c->submitted) return;
    buf_init(&c->encoded, 256 * KIB);
    size_t steps = collect(c, now_ms);
    c->more = steps > 0;
    c->submission = (struct submission){.identity = identity_of(IDENTITY_ADMIN), .request = buf_span(&c->encoded), .frees = true, .done = on_fate};
    c->submitted = steps > 0 && c->encoded.err == 0 && app_submit(c->app, &c->submission) == 0;
    if (!c->submitted) buf_free(&c->encoded);
}

// ---- pieces of work ------------------------------------------------------------------------------------------------

static void on_work(struct pool_job *work)
{
    struct blob_care *c = work->data;
    blobs_work_run(c->piece);
}

static void on_work_done(struct pool_job *work)
{
    struct blob_care *c = work->data;
    struct blobs_work *piece = c->piece;
    c->piece = NULL;
    app_blob_work_end(c->app, piece, 0);
}

static void work_tick(struct blob_care *c, uint64_t now_ms)
{
    if (c->piece != NULL) return;
    c->piece = app_blob_work_begin(c->app, &c->pace, now_ms);
    if (c->piece == NULL) return;
    c->work.data = c;
    pool_submit(&c->work, c->pool, c->app, on_work, on_work_done);
}

void blob_care_tick(struct blob_care *c, uint64_t now_ms)
{
    if (app_txn(c->app) == NULL || !app_may_free(c->app)) return;
    steps_tick(c, now_ms);
    work_tick(c, now_ms);
}

bool blob_care_busy(const struct blob_care *c)
{
    return c->more || c->piece != NULL;
}
