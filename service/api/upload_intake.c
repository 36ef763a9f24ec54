// A body goes through the stages of a blob while more of it arrives; every few MiB, every second, and at its end, however that
// comes, what arrived is made durable and its progress is committed.
//
//            body ──> incoming (at most a window; then the socket waits)
//                        │
//    WAIT ──granted──> LOAD (pool) ──> IDLE ── swap ──> CHUNK (pool) ──> place (here) ──> WRITE (pool) ─┬─> IDLE …
//                                       ^                                                              │ a pause, or the last window:
//                                       └──────────────── FATE (the batch) <── synced ─────────────────┘
//                                                           └──> the last window's, or nothing comes any more: ended
//    Nobody waits for the write of a window in between: the pool does it before it cuts the next one.
//
// A body that is small and whole is cut, hashed and written here, which costs less than two ways to the pool and back, and shares
// the barrier with others like it: WRITE begins with the wait for that.
//
// Nothing comes any more when the body is complete, when the peer is gone, when a newer request asks for the upload, and when the
// service stops: what is here is saved all the same. Only where the app is built again it is dropped: the offset is then that of
// the last commit, which is all that anybody was told. What has a digest of its own is kept as a whole or not at all.
#include "upload_intake.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "api_upload.h"
#include "err.h"
#include "file.h"
#include "pool.h"
#include "upload_care.h"

#define WINDOW (BLOB_WINDOW / 2)             // two of them and what the stages hold are less than 2 MiB
#define WINDOW_FULL (WINDOW - HTTP_READ_MAX) // one more piece from the socket still fits
#define ONCE_BYTES (2 * UPLOAD_PROGRESS_BYTES)   // between two commits of what nobody goes on with: they only bound a batch
#define HERE_MAX (2 * BLOB_CHUNK_MIN)             // of a body that is stored without the pool
#define MADE_MAX (UPLOAD_METADATA_MAX + UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES + 4 * KIB)

enum stage { WAIT, MAKE, LOAD, IDLE, CHUNK, WRITE, FATE, DROP, OVER };

struct intake {
    struct submission submission; // first
    struct app_user user;
    struct hold hold;
    struct care_sync sync;
    struct app_wait left; // the request went while the app was in flight
    struct request *r; // NULL once the request is gone
    struct server *server;
    struct app *app;
    struct identity identity;
    struct intake_plan plan;
    struct sha256 promised;
    struct blob_upload *upload;
    uint64_t length;  // of the whole, as far as known
    uint64_t from;    // where this body begins
    uint64_t kept;    // the offset that is durable; of a `once`, which tells nobody, what is no whole chunk yet beside
    uint64_t arrived; // the offset behind all that came
    uint64_t seq;     // of the last commit that moved it; 0: none yet
    uint64_t ttl_ms, changed_ms;
    struct buf incoming, window, encoded, op;
    struct buf make; // the operation that makes it, until it was committed
    char link[UPLOAD_LINK_MAX];
    size_t link_n;
    char type[STREAM_TYPE_MAX];
    size_t type_n;
    struct digests *digests; // of the body
    unsigned expected;       // of which kinds a value was given
    uint8_t expect[3][DIGEST_BYTES_MAX];
    size_t expect_n[3];
    struct sha256 digest;
    uint64_t size;
    struct problem problem; // why it ends early
    int refused;            // the body went wrong while a batch was under way, whose answer comes here first
    bool exists;     // it is in the store
    bool set_length; // its length is to be said with the next batch
    bool done, stored_before;
    bool complete; // the body is
    bool ended;    // nothing comes any more
    bool told;     // `ended` was called
    bool timed;    // the timer runs
    bool due;      // what is here has waited long enough
    bool pausing;  // the window being worked on ends in a pause
    bool last;     // or is the last
    bool owed;     // the window before has its places, and is written on the next way to the pool
    bool bare;     // the batch under way has no bytes
    bool here;     // it is stored without the pool
    bool drop;     // nobody may wait for us
    enum stage stage;
    enum stage task; // what the pool does; `stage` may change meanwhile, this may not
    bool working;    // on the pool
    int err;
    struct pool_job work;
};

static void tick(struct intake *u);

// ---- the end -------------------------------------------------------------------------------------------------------

// Letting go comes last: whoever waits is granted from within.
static void let_go(struct intake *u)
{
    blobs_upload_close(u->upload);
    u->upload = NULL;
    app_user_remove(&u->user);
    hold_release(&u->hold);
}

static void free_when_done(struct intake *u)
{
    if (u->r != NULL || u->working || u->stage != OVER) return;
    let_go(u);
    app_wait_drop(&u->left);
    buf_free(&u->incoming);
    buf_free(&u->window);
    buf_free(&u->encoded);
    buf_free(&u->op);
    buf_free(&u->make);
    digests_free(u->digests);
    free(u);
}

static struct intake_state state_of(const struct intake *u)
{
    return (struct intake_state){.offset = u->kept,
                                 .length = u->length,
                                 .seq = u->seq,
                                 .exists = u->exists,
                                 .done = u->done,
                                 .digest = u->digest,
                                 .size = u->size,
                                 .stored_before = u->stored_before,
                                 .expires_ms = u->ttl_ms > 0 && !u->done ? u->changed_ms + u->ttl_ms : 0,
                                 .problem = u->problem.err != 0 ? &u->problem : NULL};
}

// To whoever asked, if they are still there.
static void tell_end(struct intake *u)
{
    if (u->r == NULL || u->told) return;
    struct intake_state s = state_of(u);
    u->told = true;
    u->plan.ended(u->plan.ctx, &s);
}

static void on_dropped(struct submission *s, const struct fate *f)
{
    struct intake *u = (struct intake *)s;
    (void)f; // what is left is found by the look at all uploads
    u->stage = OVER;
    hold_release(&u->hold);
    free_when_done(u);
}

// What nobody can go on with.
static bool drop_begin(struct intake *u)
{
    if (!u->plan.once || !u->exists || u->done || u->working || u->drop || app_txn(u->app) == NULL) return false;
    buf_clear(&u->encoded);
    buf_clear(&u->op);
    blobs_upload_put_drop(&u->op, u->plan.id);
    upload_put_op(&u->encoded, buf_span(&u->op));
    u->submission = (struct submission){.identity = u->identity, .request = buf_span(&u->encoded), .done = on_dropped};
    return u->op.err == 0 && u->encoded.err == 0 && app_submit(u->app, &u->submission) == 0;
}

// Everything that can be said was said.
static void end(struct intake *u)
{
    u->stage = OVER;
    if (u->working) return; // on_work comes here again
    blobs_upload_close(u->upload);
    u->upload = NULL;
    app_user_remove(&u->user);
    if (drop_begin(u)) u->stage = DROP;
    else let_go(u);
    free_when_done(u);
}

static void fail(struct intake *u, const struct problem *p, int err)
{
    if (u->problem.err == 0 && p != NULL) u->problem = *p;
    problem_set(&u->problem, err, -1, "%s", err_text(err));
    u->stage = OVER;
    tell_end(u);
    end(u);
}

// No byte is waiting any more, and none will come.
static void finish(struct intake *u)
{
    u->stage = OVER;
    tell_end(u);
    end(u);
}

// Nothing more is taken; what is here is saved.
static void wind_up(struct intake *u, int err)
{
    if (!u->ended) problem_set(&u->problem, err, -1, "%s", err_text(err));
    u->ended = true;
    if (u->r != NULL) request_pause(u->r);
    tick(u);
}

#define INTAKE_OF(p, member) ((struct intake *)(void *)((char *)(p) - offsetof(struct intake, member)))

static void on_reset(struct app_user *user, int err)
{
    struct intake *u = INTAKE_OF(user, user);
    if (u->stage == OVER || u->stage == DROP) return; // its work on the pool is on the way back
    if (err == ERR_SHUTTING_DOWN && u->r != NULL && u->stage != WAIT) {
        wind_up(u, err);
        return;
    }
    u->drop = true;
    if (u->stage != FATE && u->stage != MAKE) {
        fail(u, NULL, err);
        return;
    }
    // The answer comes from the app. Its store may be gone by then.
    blobs_upload_close(u->upload);
    u->upload = NULL;
    app_user_remove(&u->user);
}

static void on_stop(struct hold *h)
{
    intake_stop(INTAKE_OF(h, hold), ERR_UPLOAD_TAKEN);
}

// ---- the pool ------------------------------------------------------------------------------------------------------

static void do_chunk(struct intake *u)
{
    if (u->digests != NULL) digests_update(u->digests, buf_span(&u->window));
    u->err = blobs_upload_chunk(u->upload, buf_span(&u->window), u->last);
}

static void work(struct pool_job *w)
{
    struct intake *u = w->data;
    if (u->task == LOAD) {
        u->err = blobs_upload_load(u->upload);
    } else if (u->task == CHUNK) {
        if (u->owed) u->err = blobs_upload_write(u->upload);
        if (u->err == 0) do_chunk(u);
    } else {
        u->err = blobs_upload_write(u->upload);
        if (u->err == 0 && (u->last || u->pausing)) u->err = blobs_upload_sync(u->upload);
    }
}

static void work_back(struct intake *u)
{
    u->working = false;
    if (u->stage != OVER)
        tick(u);
    else
        end(u);
}

static void on_work(struct pool_job *w)
{
    work_back(w->data);
}

static void start(struct intake *u, enum stage stage)
{
    u->stage = u->task = stage;
    u->err = 0;
    u->working = true;
    u->work.data = u;
    pool_submit(&u->work, server_pool(u->server), u->app, work, on_work);
}

static void on_synced(struct care_sync *s)
{
    struct intake *u = INTAKE_OF(s, sync);
    u->err = s->err;
    work_back(u);
}

static int place(struct intake *u)
{
    return app_txn(u->app) == NULL ? ERR_BUSY : blobs_upload_place(u->upload, app_txn(u->app));
}

// All of a small body, in this turn. The barrier is the pool's all the same.
static void store_here(struct intake *u)
{
    u->err = 0;
    do_chunk(u);
    if (u->err == 0) u->err = place(u);
    if (u->err == 0) u->err = blobs_upload_write(u->upload);
    if (u->err != 0) {
        fail(u, NULL, u->err);
        return;
    }
    u->stage = WRITE;
    u->working = true;
    u->sync = (struct care_sync){.upload = u->upload, .done = on_synced};
    upload_care_sync(server_uploads(u->server, u->app), &u->sync);
}

// ---- the batch -----------------------------------------------------------------------------------------------------

static void settled(struct intake *u, const struct fate *f)
{
    u->exists = u->exists || u->make.n > 0;
    buf_clear(&u->make);
    u->set_length = false;
    if (!u->stored_before) u->seq = f->seq;
    u->changed_ms = app_visible_ms(u->app);
}

static void tell_kept(struct intake *u)
{
    if (u->r == NULL || u->ended || u->plan.kept == NULL) return;
    struct intake_state s = state_of(u);
    u->plan.kept(u->plan.ctx, &s);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct intake *u = (struct intake *)s;
    u->stage = IDLE;
    if (f->err != 0 || u->upload == NULL) { // or it was committed, and we were told to let go before
        fail(u, &f->problem, f->err != 0 ? f->err : ERR_BUSY);
        return;
    }
    settled(u, f);
    if (!u->bare) u->kept = blobs_upload_size(u->upload);
    if (u->last) {
        u->problem = PROBLEM_NONE; // it is done, whatever else was wanted meanwhile
        u->done = true;
        u->exists = !u->plan.once; // such a one was dropped in the same batch, or never made
        finish(u);
        return;
    }
    if (!u->bare) blobs_upload_kept(u->upload);
    u->pausing = u->bare = false;
    tell_kept(u);
    tick(u);
}

static void put_op(struct intake *u)
{
    if (u->op.err == 0)
        upload_put_op(&u->encoded, buf_span(&u->op));
    else
        u->encoded.err = u->op.err;
    buf_clear(&u->op);
}

static int check_promise(const struct intake *u)
{
    return u->plan.promised == NULL || sha256_equal(&u->digest, &u->promised) ? 0 : ERR_DIGEST_MISMATCH;
}

// What ends the upload: it is a blob, the row that waits for it learns its name, and nobody has to forget what nobody can go on with.
static int put_completion(struct intake *u)
{
    blobs_upload_complete(u->upload, &u->op, &u->digest);
    u->size = blobs_upload_size(u->upload);
    struct blob_info info;
    u->stored_before = u->plan.once && blobs_find(app_blobs(u->app), app_txn(u->app), &u->digest, &info);
    if (u->stored_before) u->seq = info.created_seq;
    int err = check_promise(u);
    if (err != 0) return err;
    put_op(u);
    upload_put_link(&u->encoded, SPAN(u->link, u->link_n), &u->digest);
    if (u->plan.once) blobs_upload_put_drop(&u->op, u->plan.id), put_op(u);
    return u->encoded.err;
}

static int put_progress(struct intake *u)
{
    if (u->make.n > 0) upload_put_op(&u->encoded, buf_span(&u->make));
    if (u->last && u->length == UPLOAD_LENGTH_UNKNOWN) {
        u->length = u->arrived;
        u->set_length = true;
    }
    if (u->set_length) blobs_upload_put_length(&u->op, u->plan.id, u->length), put_op(u);
    if (u->bare) return u->encoded.err;
    blobs_upload_progress(u->upload, &u->op);
    if (u->op.n > 0 || u->op.err != 0) put_op(u);
    return u->last ? put_completion(u) : u->encoded.err;
}

// All there is fits into one batch, and no upload was ever made. *stored: there is nothing to do.
static int put_blob(struct intake *u, bool *stored)
{
    struct buf manifest;
    struct blob_info info;
    buf_init(&manifest, ENTRY_BYTES_MAX / 4);
    blobs_upload_result(u->upload, &u->digest, &u->size, &manifest);
    int err = manifest.err != 0 ? manifest.err : check_promise(u);
    u->stored_before = err == 0 && blobs_find(app_blobs(u->app), app_txn(u->app), &u->digest, &info);
    if (u->stored_before) u->seq = info.created_seq;
    *stored = u->stored_before && info.free_ms == 0 && !blobs_upload_brought(u->upload);
    struct batch_op op = {.kind = BATCH_BLOB, .blob = {.digest = u->digest, .type = SPAN(u->type, u->type_n), .manifest = buf_span(&manifest)}};
    if (err == 0 && !*stored) batch_put_op(&u->encoded, &op);
    buf_free(&manifest);
    return err != 0 ? err : u->encoded.err;
}

static int check_digests(struct intake *u)
{
    uint8_t is[DIGEST_BYTES_MAX];
    if (u->digests == NULL) return 0;
    if (u->expected == 0) return ERR_CHECKSUM;
    for (unsigned i = 0; i < 3; i++) {
        if ((u->expected & 1u << i) == 0) continue;
        size_t n = digests_final(u->digests, (enum digest_kind)(1u << i), is);
        if (n != u->expect_n[i] || memcmp(is, u->expect[i], n) != 0) return ERR_CHECKSUM;
    }
    digests_free(u->digests);
    u->digests = NULL;
    return 0;
}

static int submit(struct intake *u)
{
    bool stored = false, small = u->plan.once && !u->exists && u->last;
    if (app_txn(u->app) == NULL) return ERR_BUSY;
    int err = u->complete ? check_digests(u) : 0;
    buf_clear(&u->encoded);
    buf_clear(&u->op);
    if (small) buf_clear(&u->make);
    if (err == 0) err = small ? put_blob(u, &stored) : put_progress(u);
    if (err != 0) return err;
    if (stored) {
        u->done = true;
        finish(u);
        return 0;
    }
    u->submission = (struct submission){.identity = u->identity, .request = buf_span(&u->encoded), .done = on_fate};
    u->stage = FATE;
    return app_submit(u->app, &u->submission);
}

// ---- the whole story -------------------------------------------------------------------------------------------------

// Is it time to make durable what came since the last time?
static bool is_due(const struct intake *u)
{
    uint64_t fresh = u->arrived - u->kept;
    if (u->digests != NULL) return false;
    if (u->plan.end != INTAKE_NEVER && u->arrived == u->length) return false; // the end is at hand, and completes it
    return fresh > 0 && (u->due || fresh >= (u->plan.once ? ONCE_BYTES : UPLOAD_PROGRESS_BYTES));
}

static bool completes(const struct intake *u)
{
    if (!u->ended || u->done || u->plan.end == INTAKE_NEVER) return false;
    // All of a length that is known is all there is, whether or not the body's end could be told.
    return u->arrived == u->length || (u->plan.end == INTAKE_AT_END && u->complete && u->problem.err == 0);
}

// The body broke or is not what it was to be, and a part of it is worth nothing: it has a digest of its own, or nobody can or would know how to go on.
static bool is_worthless(const struct intake *u)
{
    if (!u->ended || (u->complete && (!u->plan.once || u->problem.err == 0))) return false;
    return u->digests != NULL || u->plan.once || (!u->exists && u->r == NULL);
}

// True: there is nothing more to store, and the story is over or goes on with a batch.
static bool nothing_left(struct intake *u)
{
    if (!u->ended || u->arrived != u->kept || completes(u)) return false;
    int err = u->complete ? check_digests(u) : 0; // of no bytes, too
    if (err != 0) {
        fail(u, NULL, err);
        return true;
    }
    if (u->upload == NULL || (u->make.n == 0 && !u->set_length) || u->problem.err != 0) {
        finish(u);
        return true;
    }
    u->bare = true;
    err = submit(u);
    if (err != 0) fail(u, NULL, err);
    return true;
}

static bool fits_here(const struct intake *u)
{
    return u->last && u->kept == 0 && u->window.n == u->arrived && u->window.n <= HERE_MAX;
}

static void take_window(struct intake *u)
{
    struct buf swap = u->window;
    u->window = u->incoming;
    u->incoming = swap;
    buf_clear(&u->incoming);
}

static void next_window(struct intake *u)
{
    bool due = is_due(u);
    if (!u->ended && !due && u->incoming.n < WINDOW_FULL) return;
    if (is_worthless(u)) {
        fail(u, NULL, u->problem.err != 0 ? u->problem.err : ERR_CANCELED);
        return;
    }
    if (nothing_left(u)) return;
    take_window(u);
    u->last = completes(u);
    // The end of a body with a digest is where it is stored, and so is a last window.
    u->pausing = !u->last && (u->ended || due);
    if (u->pausing) blobs_upload_pause(u->upload);
    if (u->pausing) u->due = false;
    if (u->r != NULL && !u->ended) request_resume(u->r);
    if (fits_here(u)) store_here(u);
    else start(u, CHUNK);
}

static void tick(struct intake *u)
{
    if (u->working || u->stage == OVER || u->stage == FATE || u->stage == WAIT || u->stage == MAKE || u->stage == DROP) return;
    if (u->err == 0) u->err = u->drop ? ERR_CANCELED : u->refused;
    if (u->err == 0 && u->stage == CHUNK) {
        u->err = place(u);
        u->owed = u->err == 0 && !u->last && !u->pausing;
        if (u->err == 0 && !u->owed) {
            start(u, WRITE);
            return;
        }
    }
    if (u->err == 0 && u->stage == WRITE && (u->last || u->pausing)) {
        u->err = submit(u);
        if (u->err == 0) return;
    }
    if (u->err != 0) {
        fail(u, NULL, u->err);
        return;
    }
    u->stage = IDLE;
    next_window(u);
}

// Not while the app has our submission: its answer must find us. Then nothing more is taken, and that answer ends it.
static void refuse(struct intake *u, int err)
{
    if (u->stage != FATE && u->stage != MAKE) {
        fail(u, NULL, err);
        return;
    }
    u->refused = err;
    u->ended = true;
    if (u->r != NULL) request_pause(u->r);
}

static void on_timer(struct request *r)
{
    struct intake *u = r->timed;
    u->timed = false;
    u->due = true;
    tick(u);
}

static bool takes_body(const struct intake *u)
{
    return u != NULL && u->stage != OVER && u->stage != DROP && !u->ended;
}

uint8_t *intake_room(struct intake *u, size_t *n)
{
    if (!takes_body(u)) return NULL;
    size_t room = WINDOW - u->incoming.n;
    if (*n > room) *n = room;
    return buf_reserve(&u->incoming, *n);
}

// It may have come to where it belongs.
static void take_piece(struct buf *to, struct span piece)
{
    if (piece.p == to->p + to->n && piece.n <= to->cap - to->n) to->n += piece.n;
    else buf_put_span(to, piece);
}

void intake_body(struct intake *u, struct span piece)
{
    if (!takes_body(u)) return;
    uint64_t whole = u->length < BLOB_BYTES_MAX ? u->length : BLOB_BYTES_MAX;
    if (piece.n > whole - u->arrived || (u->plan.body_max > 0 && u->arrived - u->from + piece.n > u->plan.body_max)) {
        refuse(u, ERR_TOO_LARGE); // what is wrong at its end is not to be trusted before
        return;
    }
    take_piece(&u->incoming, piece);
    u->arrived += piece.n;
    if (u->incoming.err != 0) {
        refuse(u, u->incoming.err);
        return;
    }
    if (!u->timed && !u->plan.once && u->plan.digests == 0) {
        u->r->timed = u;
        request_timer(u->r, UPLOAD_PROGRESS_MS, on_timer);
        u->timed = true;
    }
    if (u->incoming.n < WINDOW_FULL) return;
    request_pause(u->r);
    tick(u);
}

void intake_expect(struct intake *u, enum digest_kind kind, struct span value)
{
    unsigned i = kind == DIGEST_SHA1 ? 0 : kind == DIGEST_SHA256 ? 1 : 2;
    if (value.n > DIGEST_BYTES_MAX) value.n = 0; // matches nothing
    u->expected |= kind;
    u->expect_n[i] = value.n;
    if (value.n > 0) memcpy(u->expect[i], value.p, value.n);
}

void intake_body_end(struct intake *u)
{
    if (!takes_body(u)) return;
    u->ended = u->complete = true;
    if (u->plan.end == INTAKE_AT_END && u->length != UPLOAD_LENGTH_UNKNOWN && u->arrived != u->length) {
        problem_set(&u->problem, ERR_UPLOAD_LENGTH, -1, "the upload was to have %llu bytes", (unsigned long long)u->length);
        u->complete = u->digests == NULL; // then what came is kept
    }
    tick(u);
}

void intake_stop(struct intake *u, int err)
{
    if (u->stage != OVER && u->stage != DROP) wind_up(u, err);
}

// ---- beginning -------------------------------------------------------------------------------------------------------

static void tell_begun(struct intake *u)
{
    u->stage = IDLE;
    struct intake_state s = state_of(u);
    if (u->r != NULL && u->plan.begun != NULL) u->plan.begun(u->plan.ctx, &s);
    if (u->r != NULL) request_resume(u->r);
}

static int check_length(struct intake *u, struct problem *p)
{
    const struct intake_plan *plan = &u->plan;
    int64_t body = u->r->content_length;
    if (plan->has_length && u->length != UPLOAD_LENGTH_UNKNOWN && plan->length != u->length)
        return problem_set(p, ERR_UPLOAD_LENGTH, -1, "the upload has %llu bytes", (unsigned long long)u->length);
    if (plan->has_length && plan->length < u->kept) return problem_set(p, ERR_UPLOAD_LENGTH, -1, "%llu bytes are here already", (unsigned long long)u->kept);
    if (plan->has_length && u->length == UPLOAD_LENGTH_UNKNOWN) {
        u->length = plan->length;
        u->set_length = true;
    }
    uint64_t room = (u->length < BLOB_BYTES_MAX ? u->length : BLOB_BYTES_MAX) - u->kept;
    if (body > 0 && ((uint64_t)body > room || (plan->body_max > 0 && (uint64_t)body > plan->body_max)))
        return problem_set(p, ERR_TOO_LARGE, -1, "%llu bytes are missing", (unsigned long long)room);
    return 0;
}

static int take_found(struct intake *u, const struct upload_info *info, struct problem *p)
{
    if (blobs_upload_past(info, clock_wall_ms())) return ERR_UPLOAD_EXPIRED;
    if (info->made.kind == UPLOAD_CHUNKS) return ERR_NO_SUCH_UPLOAD;
    if (info->made.kind == UPLOAD_JOINED) return ERR_UPLOAD_FINAL;
    if (u->plan.has_offset && info->offset != u->plan.offset)
        return problem_set(p, ERR_UPLOAD_OFFSET, -1, "the upload is at offset %llu", (unsigned long long)info->offset);
    u->exists = true;
    u->length = info->made.length;
    u->from = u->kept = u->arrived = info->offset;
    u->ttl_ms = info->made.ttl_ms;
    u->changed_ms = info->changed_ms;
    u->link_n = info->made.link.n;
    if (u->link_n > 0) memcpy(u->link, info->made.link.p, u->link_n);
    u->done = info->state == UPLOAD_DONE;
    u->digest = info->digest;
    u->size = info->offset;
    return 0;
}

// It is ours: is it what the client takes it for?
static int take_up(struct intake *u, struct problem *p)
{
    struct upload_info info;
    int err = upload_may_write(u->app);
    if (err != 0) return err;
    if (hold_contended(&u->hold)) return ERR_UPLOAD_TAKEN;
    if (!blobs_upload_find(app_blobs(u->app), app_txn(u->app), u->plan.id, &info)) return ERR_NO_SUCH_UPLOAD;
    err = take_found(u, &info, p);
    if (err == 0) err = check_length(u, p);
    if (err != 0 || u->done) return err; // of one that is done, nothing but an end can come
    return blobs_upload_resume(app_blobs(u->app), app_txn(u->app), u->plan.id, &u->upload);
}

static void on_made(struct submission *s, const struct fate *f)
{
    struct intake *u = (struct intake *)s;
    u->stage = IDLE;
    if (f->err != 0 || u->upload == NULL) {
        fail(u, &f->problem, f->err != 0 ? f->err : ERR_BUSY);
        return;
    }
    settled(u, f);
    tell_begun(u);
    tick(u); // it may have ended meanwhile
}

// A new one: nobody else knows it.
static int take_new(struct intake *u, struct problem *p)
{
    const struct upload_new *make = u->plan.make;
    u->length = make->length;
    u->ttl_ms = make->ttl_ms;
    u->changed_ms = clock_wall_ms();
    u->link_n = make->link.n;
    u->type_n = make->type.n;
    if (u->link_n > 0) memcpy(u->link, make->link.p, u->link_n);
    if (u->type_n > 0) memcpy(u->type, make->type.p, u->type_n);
    blobs_upload_put_create(&u->make, u->plan.id, make);
    u->plan.make = NULL; // it is the caller's
    int err = u->make.err != 0 ? u->make.err : check_length(u, p);
    if (err == 0) err = blobs_upload_open(app_blobs(u->app), &u->upload);
    if (err != 0) return err;
    if (u->plan.once) blobs_upload_adopt_once(u->upload, u->plan.id);
    else blobs_upload_adopt(u->upload, u->plan.id);
    return 0;
}

static int make_first(struct intake *u)
{
    buf_clear(&u->encoded);
    upload_put_op(&u->encoded, buf_span(&u->make));
    if (u->encoded.err != 0) return u->encoded.err;
    u->submission = (struct submission){.identity = u->identity, .request = buf_span(&u->encoded), .done = on_made};
    int err = app_submit(u->app, &u->submission);
    if (err == 0) u->stage = MAKE;
    return err;
}

static void on_grant(struct hold *h)
{
    struct intake *u = INTAKE_OF(h, hold);
    struct problem p = PROBLEM_NONE;
    bool new = u->plan.make != NULL;
    int err = new ? take_new(u, &p) : take_up(u, &p);
    if (err == 0 && new && u->plan.make_first) {
        err = make_first(u);
        if (err == 0) return;
    }
    if (err != 0) {
        fail(u, &p, err);
        return;
    }
    tell_begun(u);
    if (!new && u->upload != NULL && u->kept > 0 && u->stage == IDLE) start(u, LOAD);
}

int intake_begin(struct request *r, const struct intake_plan *plan, struct intake **out)
{
    int err = upload_may_write(r->app);
    if (err != 0) return err;
    struct intake *u = calloc(1, sizeof *u);
    if (u == NULL) return ERR_NOMEM;
    *u = (struct intake){.r = r, .server = r->server, .app = r->app, .identity = r->identity, .plan = *plan, .stage = WAIT, .problem = PROBLEM_NONE};
    if (plan->promised != NULL) u->promised = *plan->promised;
    u->digests = plan->digests != 0 ? digests_new(plan->digests) : NULL;
    if (plan->digests != 0 && u->digests == NULL) {
        free(u);
        return ERR_NOMEM;
    }
    buf_init(&u->incoming, WINDOW);
    buf_init(&u->window, WINDOW);
    buf_init(&u->make, MADE_MAX);
    buf_init(&u->op, ENTRY_BYTES_MAX / 4);
    buf_init(&u->encoded, ENTRY_BYTES_MAX / 2);
    u->hold.grant = on_grant;
    u->hold.stop = on_stop;
    *out = u;
    app_user_add(u->app, &u->user, on_reset);
    request_pause(r);
    hold_take(server_holds(r->server, r->app), &u->hold, plan->id);
    return 0;
}

static void on_left(struct app_wait *w)
{
    struct intake *u = INTAKE_OF(w, left);
    if (u->stage == WAIT || (u->user.asked && u->stage != FATE && u->stage != MAKE)) u->stage = OVER; // nothing is to be saved, or nobody waits for it
    u->drop = u->drop || u->user.asked;
    u->ended = true;
    if (u->stage == OVER) free_when_done(u);
    else tick(u); // frees it at the end
}

// A connection may be cut at any time; saving what came looks at the app.
void intake_leave(struct intake *u)
{
    if (u == NULL) return;
    u->r = NULL;
    if (u->stage == DROP) return;
    if (u->stage == WAIT || !app_wait(u->app, &u->left, on_left)) on_left(&u->left);
}
