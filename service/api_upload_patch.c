// PATCH /apps/<app>/uploads/<id>: a body goes through the stages of a blob while more of it arrives; every few MiB, every
// second, and at its end, however that comes, what arrived is made durable and its progress is committed.
//
//            body ──> incoming (at most a window; then the socket waits)
//                        │
//    WAIT ──granted──> LOAD (pool) ──> IDLE ── swap ──> CHUNK (pool) ──> place (here) ──> WRITE (pool) ─┬─> IDLE …
//                                       ^                                                              │ a pause, or the last window:
//                                       └──────────────── FATE (the batch) <── synced ─────────────────┘
//                                                           └──> the last window's, or nothing comes any more: replied
//
// Nothing comes any more when the body is complete, when the peer is gone, when a newer request asks for the upload, and when the
// service stops: what is here is saved all the same. Only where the app is built again it is dropped: the offset is then
// that of the last commit, which is all that anybody was told.
#include <assert.h>
#include <stdlib.h>
#include <uv.h>

#include "api_upload.h"
#include "err.h"

#define WINDOW_FULL (BLOB_WINDOW - HTTP_READ_MAX) // one more piece from the socket still fits

enum stage { WAIT, LOAD, IDLE, CHUNK, WRITE, FATE, OVER };

struct patch {
    struct submission submission; // first
    struct app_user user;
    struct hold hold;
    struct request *r; // NULL once the peer is gone
    struct server *server;
    struct app *app;
    struct identity identity;
    struct blob_upload *upload;
    struct uuid id;
    uint64_t expected; // the offset that the client named
    uint64_t length;   // of the whole
    uint64_t kept;     // the offset that is durable
    uint64_t arrived;  // the offset behind all that came
    uint64_t seq;      // of the last commit that moved it; 0: none yet
    struct buf incoming, window, encoded, op;
    struct sha256 digest;
    int refusal;  // why nothing comes any more; 0: the body is complete, or the peer is gone
    bool ended;   // nothing comes any more
    bool timed;   // the timer runs
    bool due;     // what is here has waited long enough
    bool pausing; // the window being worked on ends in a pause
    bool last;    // or is the last
    bool drop;    // nobody may wait for us
    enum stage stage;
    enum stage task; // what the pool does; `stage` may change meanwhile, this may not
    bool working;    // on the pool
    int err;
    uv_work_t work;
};

static void tick(struct patch *u);

// ---- the end -------------------------------------------------------------------------------------------------------

// Letting go comes last: whoever waits is granted from within.
static void patch_close(struct patch *u)
{
    blobs_upload_close(u->upload);
    u->upload = NULL;
    app_user_remove(&u->user);
    hold_release(&u->hold);
}

static void patch_free_when_done(struct patch *u)
{
    if (u->r != NULL || u->working || u->stage != OVER) return;
    patch_close(u);
    buf_free(&u->incoming);
    buf_free(&u->window);
    buf_free(&u->encoded);
    buf_free(&u->op);
    free(u);
}

// Everything that can be said was said.
static void patch_end(struct patch *u)
{
    u->stage = OVER;
    if (!u->working) patch_close(u);
    patch_free_when_done(u);
}

static void fail(struct patch *u, struct problem *p, int err)
{
    struct request *r = u->r;
    u->stage = OVER;
    if (r != NULL) upload_reply_problem(r, p, err);
    patch_end(u);
}

static void fail_err(struct patch *u, int err)
{
    struct problem p = PROBLEM_NONE;
    fail(u, &p, err);
}

// No byte is waiting any more, and none will come.
static void finish(struct patch *u)
{
    if (u->refusal != 0) {
        fail_err(u, u->refusal);
        return;
    }
    if (u->r != NULL) {
        upload_reply_start(u->r, 204, u->kept, u->last ? &u->digest : NULL, u->seq);
        reply_body(u->r, NULL, SPAN_NONE);
    }
    patch_end(u);
}

// Nothing more is taken; what is here is saved.
static void wind_up(struct patch *u, int refusal)
{
    if (!u->ended) u->refusal = refusal;
    u->ended = true;
    if (u->r != NULL) request_pause(u->r);
    tick(u);
}

static struct patch *patch_of_user(struct app_user *user)
{
    return (struct patch *)((char *)user - offsetof(struct patch, user));
}

static struct patch *patch_of_hold(struct hold *h)
{
    return (struct patch *)((char *)h - offsetof(struct patch, hold));
}

static void on_reset(struct app_user *user, int err)
{
    struct patch *u = patch_of_user(user);
    if (u->stage == OVER) return; // its work on the pool is on the way back
    if (err == ERR_SHUTTING_DOWN && u->r != NULL && u->stage != WAIT) {
        wind_up(u, err);
        return;
    }
    u->drop = true;
    if (u->stage != FATE) {
        fail_err(u, err);
        return;
    }
    // The answer comes from the app. Its store may be gone by then.
    blobs_upload_close(u->upload);
    u->upload = NULL;
    app_user_remove(&u->user);
}

static void on_stop(struct hold *h)
{
    struct patch *u = patch_of_hold(h);
    if (u->stage != OVER) wind_up(u, ERR_UPLOAD_TAKEN);
}

// ---- the pool ------------------------------------------------------------------------------------------------------

static void work(uv_work_t *w)
{
    struct patch *u = w->data;
    if (u->task == LOAD) {
        u->err = blobs_upload_load(u->upload);
    } else if (u->task == CHUNK) {
        u->err = blobs_upload_chunk(u->upload, buf_span(&u->window), u->last);
    } else {
        u->err = blobs_upload_write(u->upload);
        if (u->err == 0 && (u->last || u->pausing)) u->err = blobs_upload_sync(u->upload);
    }
}

static void on_work(uv_work_t *w, int status)
{
    struct patch *u = w->data;
    u->working = false;
    if (status != 0 && u->err == 0) u->err = ERR_CANCELED;
    if (u->stage != OVER)
        tick(u);
    else
        patch_end(u);
}

static void start(struct patch *u, enum stage stage)
{
    u->stage = u->task = stage;
    u->err = 0;
    u->working = true;
    u->work.data = u;
    int status = uv_queue_work(server_loop(u->server), &u->work, work, on_work);
    assert(status == 0); // fails only without a callback
}

// ---- the batch -----------------------------------------------------------------------------------------------------

static void on_fate(struct submission *s, const struct fate *f)
{
    struct patch *u = (struct patch *)s;
    u->stage = IDLE;
    if (f->err != 0 || u->upload == NULL) { // or it was committed, and we were told to let go before
        struct problem p = f->problem;
        fail(u, &p, f->err != 0 ? f->err : ERR_BUSY);
        return;
    }
    u->kept = blobs_upload_size(u->upload);
    u->seq = f->seq;
    if (u->last) {
        u->refusal = 0; // it is done, whatever else was wanted meanwhile
        finish(u);
        return;
    }
    blobs_upload_kept(u->upload);
    u->pausing = false;
    tick(u);
}

// The upload's row learns its blob in the batch that completes it.
static int put_link(struct patch *u)
{
    struct upload_info info;
    if (!blobs_upload_find(app_blobs(u->app), app_txn(u->app), u->id, &info)) return ERR_NO_SUCH_UPLOAD;
    upload_put_link(&u->encoded, info.made.link, &u->digest);
    return u->encoded.err;
}

static int submit(struct patch *u)
{
    if (app_txn(u->app) == NULL) return ERR_BUSY;
    buf_clear(&u->encoded);
    buf_clear(&u->op);
    blobs_upload_progress(u->upload, &u->op);
    if (u->op.err != 0) return u->op.err;
    upload_put_op(&u->encoded, buf_span(&u->op));
    if (u->last) {
        buf_clear(&u->op);
        blobs_upload_complete(u->upload, &u->op, &u->digest);
        if (u->op.err != 0) return u->op.err;
        upload_put_op(&u->encoded, buf_span(&u->op));
        int err = put_link(u);
        if (err != 0) return err;
    }
    if (u->encoded.err != 0) return u->encoded.err;
    u->submission = (struct submission){.identity = u->identity, .request = buf_span(&u->encoded), .done = on_fate};
    u->stage = FATE;
    return app_submit(u->app, &u->submission);
}

// ---- the whole story -------------------------------------------------------------------------------------------------

// Is it time to make durable what came since the last time?
static bool is_due(const struct patch *u)
{
    uint64_t fresh = u->arrived - u->kept;
    if (u->arrived == u->length) return false; // the end is at hand, and completes it
    return fresh > 0 && (u->due || fresh >= UPLOAD_PROGRESS_BYTES);
}

static void next_window(struct patch *u)
{
    bool due = is_due(u);
    if (!u->ended && !due && u->incoming.n < WINDOW_FULL) return;
    if (u->ended && u->arrived == u->kept) {
        finish(u);
        return;
    }
    struct buf swap = u->window;
    u->window = u->incoming;
    u->incoming = swap;
    buf_clear(&u->incoming);
    u->last = u->ended && u->arrived == u->length;
    u->pausing = !u->last && (u->ended || due);
    if (u->pausing) blobs_upload_pause(u->upload);
    if (u->pausing) u->due = false;
    if (u->r != NULL && !u->ended) request_resume(u->r);
    start(u, CHUNK);
}

static int place(struct patch *u)
{
    return app_txn(u->app) == NULL ? ERR_BUSY : blobs_upload_place(u->upload, app_txn(u->app));
}

static void tick(struct patch *u)
{
    if (u->working || u->stage == OVER || u->stage == FATE || u->stage == WAIT) return;
    if (u->err == 0 && u->drop) u->err = ERR_CANCELED;
    if (u->err == 0 && u->stage == CHUNK) {
        u->err = place(u);
        if (u->err == 0) {
            start(u, WRITE);
            return;
        }
    }
    if (u->err == 0 && u->stage == WRITE && (u->last || u->pausing)) {
        u->err = submit(u);
        if (u->err == 0) return;
    }
    if (u->err != 0) {
        fail_err(u, u->err);
        return;
    }
    u->stage = IDLE;
    next_window(u);
}

static void on_timer(struct request *r)
{
    struct patch *u = r->data;
    u->timed = false;
    u->due = true;
    tick(u);
}

static void patch_body(struct request *r, struct span piece)
{
    struct patch *u = r->data;
    if (u == NULL || u->stage == OVER || u->ended) return;
    if (piece.n > u->length - u->arrived) {
        fail_err(u, ERR_TOO_LARGE); // what is wrong at its end is not to be trusted before
        return;
    }
    buf_put_span(&u->incoming, piece);
    u->arrived += piece.n;
    if (u->incoming.err != 0) {
        fail_err(u, u->incoming.err);
        return;
    }
    if (!u->timed) request_timer(r, UPLOAD_PROGRESS_MS, on_timer);
    u->timed = true;
    if (u->incoming.n < WINDOW_FULL) return;
    request_pause(r);
    tick(u);
}

static void patch_body_end(struct request *r)
{
    struct patch *u = r->data;
    if (u == NULL || u->stage == OVER) return;
    u->ended = true;
    tick(u);
}

// ---- beginning -------------------------------------------------------------------------------------------------------

// It is ours: is it what the client takes it for?
static int take_up(struct patch *u, struct problem *p)
{
    struct upload_info info;
    int err = upload_may_write(u->app);
    if (err != 0) return err;
    if (hold_contended(&u->hold)) return ERR_UPLOAD_TAKEN;
    if (!blobs_upload_find(app_blobs(u->app), app_txn(u->app), u->id, &info)) return ERR_NO_SUCH_UPLOAD;
    if (info.offset != u->expected) return problem_set(p, ERR_UPLOAD_OFFSET, -1, "the upload is at offset %llu", (unsigned long long)info.offset);
    u->length = info.made.length;
    u->kept = u->arrived = info.offset;
    if (u->r->content_length > 0 && (uint64_t)u->r->content_length > u->length - u->kept)
        return problem_set(p, ERR_TOO_LARGE, -1, "%llu bytes are missing", (unsigned long long)(u->length - u->kept));
    if (info.state == UPLOAD_OPEN) return blobs_upload_resume(app_blobs(u->app), app_txn(u->app), u->id, &u->upload);
    u->digest = info.digest;
    u->last = true;
    return 0;
}

static void on_grant(struct hold *h)
{
    struct patch *u = patch_of_hold(h);
    struct problem p = PROBLEM_NONE;
    int err = take_up(u, &p);
    if (err != 0) {
        fail(u, &p, err);
        return;
    }
    u->stage = IDLE;
    request_resume(u->r);
    if (u->upload != NULL) start(u, LOAD); // of one that is done, nothing but an end can come
}

static int patch_open(struct request *r, struct problem *p)
{
    struct uuid id;
    uint64_t offset;
    int err = upload_path_id(r, &id, p);
    if (err == 0) err = tus_check_type(upload_field(r, "content-type"), p);
    if (err == 0) err = tus_number(upload_field(r, "upload-offset"), "Upload-Offset", &offset, p);
    if (err == 0) err = upload_may_write(r->app);
    if (err != 0) return err;
    struct patch *u = calloc(1, sizeof *u);
    if (u == NULL) return ERR_NOMEM;
    *u = (struct patch){.r = r, .server = r->server, .app = r->app, .identity = r->identity, .id = id, .expected = offset, .stage = WAIT};
    r->data = u;
    buf_init(&u->incoming, BLOB_WINDOW);
    buf_init(&u->window, BLOB_WINDOW);
    buf_init(&u->op, ENTRY_BYTES_MAX / 4);
    buf_init(&u->encoded, ENTRY_BYTES_MAX / 2);
    u->hold.grant = on_grant;
    u->hold.stop = on_stop;
    app_user_add(u->app, &u->user, on_reset);
    request_pause(r);
    hold_take(server_holds(r->server, r->app), &u->hold, id);
    return 0;
}

static void patch_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = patch_open(r, &p);
    if (err != 0) upload_reply_problem(r, &p, err);
}

static void patch_done(struct request *r)
{
    struct patch *u = r->data;
    if (u == NULL) return;
    u->r = NULL;
    if (u->stage == WAIT || (u->user.asked && u->stage != FATE)) u->stage = OVER; // nothing is to be saved, or nobody waits for it
    u->drop = u->drop || u->user.asked;
    u->ended = true;
    if (u->stage == OVER)
        patch_free_when_done(u);
    else
        tick(u); // frees it at the end
}

const struct handler api_upload_patch = {
    .begin = patch_begin, .body = patch_body, .body_end = patch_body_end, .done = patch_done, .body_max = BLOB_BYTES_MAX};
