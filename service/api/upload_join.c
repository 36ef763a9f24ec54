#include "upload_join.h"

#include <assert.h>
#include <stdlib.h>

#include "api_upload.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "pool.h"
#include "upload_care.h"

#define JOINS_MAX 4 // of an app at once; each reads on the pool
#define OP_MAX (512 * KIB)
#define RETRY_MS 10000

struct upload_join {
    struct submission submission; // first
    struct app_user user;
    struct hold hold;
    struct upload_join *next;
    struct upload_care *care;
    struct blob_join *join;
    struct uuid id;
    struct buf encoded, op;
    struct sha256 digest;
    bool working, submitted, stopped, last;
    int err;
    struct pool_job work;
};

static void step(struct upload_join *j);

static void join_free(struct upload_join *j)
{
    struct upload_join **at = &j->care->joins;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    blobs_join_close(j->join);
    app_user_remove(&j->user);
    buf_free(&j->encoded);
    buf_free(&j->op);
    hold_release(&j->hold); // whoever waits is granted from within
    free(j);
}

// It stops where it is; the look at all uploads begins it again.
static void give_up(struct upload_join *j, int err)
{
    char id[UUID_TEXT];
    uuid_format(j->id, id);
    if (err != 0 && err != ERR_BUSY && err != ERR_SHUTTING_DOWN && err != ERR_UPLOAD_TAKEN) {
        log_error("uploads", "parts cannot be joined", LF_SPAN("upload", SPAN(id, UUID_TEXT)), LF_ERR(err));
        j->care->joins_from_ms = clock_wall_ms() + RETRY_MS;
    }
    join_free(j);
}

static void work(struct pool_job *w)
{
    struct upload_join *j = w->data;
    j->err = blobs_join_read(j->join);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct upload_join *j = (struct upload_join *)s;
    j->submitted = false;
    if (f->err == 0 && j->last) j->care->looked_ms = 0; // others may have waited for it to end
    if (f->err != 0 || j->last || j->stopped) {
        give_up(j, f->err);
        return;
    }
    blobs_join_kept(j->join);
    step(j);
}

static int put_end(struct upload_join *j)
{
    struct app *a = j->care->app;
    struct upload_info info;
    if (!blobs_upload_find(app_blobs(a), app_txn(a), j->id, &info)) return ERR_NO_SUCH_UPLOAD;
    buf_clear(&j->op);
    blobs_join_complete(j->join, &j->op, &j->digest);
    if (j->op.err != 0) return j->op.err;
    upload_put_op(&j->encoded, buf_span(&j->op));
    upload_put_link(&j->encoded, info.made.link, &j->digest);
    return 0;
}

static int submit(struct upload_join *j)
{
    struct app *a = j->care->app;
    if (app_txn(a) == NULL) return ERR_BUSY;
    buf_clear(&j->encoded);
    buf_clear(&j->op);
    j->last = blobs_join_last(j->join);
    blobs_join_progress(j->join, &j->op);
    if (j->op.n > 0) upload_put_op(&j->encoded, buf_span(&j->op));
    int err = j->op.err != 0 ? j->op.err : j->last ? put_end(j) : 0;
    if (err == 0) err = j->encoded.err;
    if (err != 0) return err;
    j->submission = (struct submission){.identity = identity_of(IDENTITY_ADMIN), .request = buf_span(&j->encoded), .done = on_fate};
    err = app_submit(a, &j->submission);
    j->submitted = err == 0;
    return err;
}

static void on_work(struct pool_job *w)
{
    struct upload_join *j = w->data;
    j->working = false;
    if (j->stopped && j->err == 0) j->err = ERR_BUSY;
    if (j->err == 0) j->err = submit(j);
    if (j->err != 0) give_up(j, j->err);
}

static void step(struct upload_join *j)
{
    struct app *a = j->care->app;
    int err = app_txn(a) == NULL ? ERR_BUSY : blobs_join_next(j->join, app_txn(a));
    if (err != 0) {
        give_up(j, err);
        return;
    }
    j->working = true;
    j->work.data = j;
    pool_submit(&j->work, server_pool(j->care->server), a, work, on_work);
}

// The app is built again, the service stops, or a request wants the upload: what was committed is kept, the rest is read again.
static void stop(struct upload_join *j, int err)
{
    j->stopped = true;
    if (!j->working && !j->submitted) give_up(j, err);
}

static void on_reset(struct app_user *user, int err)
{
    struct upload_join *j = (struct upload_join *)((char *)user - offsetof(struct upload_join, user));
    if (!j->working) { // its store may be gone when the app answers
        blobs_join_close(j->join);
        j->join = NULL;
        app_user_remove(&j->user);
    }
    stop(j, err);
}

static void on_stop(struct hold *h)
{
    stop((struct upload_join *)((char *)h - offsetof(struct upload_join, hold)), ERR_UPLOAD_TAKEN);
}

static void on_grant(struct hold *h)
{
    (void)h; // nobody else has it: that was looked at before
}

void upload_join_begin(struct upload_care *c, struct uuid id)
{
    size_t count = 0;
    for (struct upload_join *j = c->joins; j != NULL; j = j->next)
        count++;
    if (count >= JOINS_MAX || holds_taken(&c->holds, id) || app_txn(c->app) == NULL) return;
    struct upload_join *j = calloc(1, sizeof *j);
    if (j == NULL) return;
    int err = blobs_join_open(app_blobs(c->app), app_txn(c->app), id, &j->join);
    if (err != 0) {
        free(j);
        return;
    }
    j->care = c;
    j->id = id;
    j->hold.grant = on_grant;
    j->hold.stop = on_stop;
    buf_init(&j->encoded, 2 * OP_MAX);
    buf_init(&j->op, OP_MAX);
    j->next = c->joins;
    c->joins = j;
    app_user_add(c->app, &j->user, on_reset);
    hold_take(&c->holds, &j->hold, id);
    step(j);
}
