// POST /apps/<app>/chunks/missing: which of these chunks are not stored. POST /apps/<app>/chunks: a body of chunks is stored, under an upload that
// keeps them for CHUNKS_KEPT_MS; a blob that names them meanwhile keeps them from then on.
//
//      frames ─> pool: hash, pack ─> place (here) ─> pool: write, and the next window … ─> pool: sync ─> one batch: create, progress ─> 200
#include <assert.h>
#include <stdlib.h>

#include "api_upload.h"
#include "chunk_frames.h"
#include "chunk_list.h"
#include "err.h"
#include "json_write.h"
#include "pool.h"

// ---- asking --------------------------------------------------------------------------------------------------------

static void put_missing(struct request *r, struct span names, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "missing"), jw_array(&w);
    for (size_t at = 0; at < names.n; at += SHA256_BYTES) {
        struct sha256 sha;
        memcpy(sha.b, names.p + at, SHA256_BYTES);
        if (!blobs_chunk_stored(app_blobs(r->app), app_txn(r->app), &sha)) jw_uint(&w, at / SHA256_BYTES);
    }
    jw_end(&w);
    jw_end(&w);
}

static void missing_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct buf names, out;
    buf_init(&names, CHUNKS_ASK_MAX * SHA256_BYTES);
    buf_init(&out, CHUNKS_ASK_MAX * 8 + KIB);
    int err = app_txn(r->app) == NULL ? ERR_BUSY : chunk_names_parse(&names, buf_span(&r->body), &p);
    if (err == 0) put_missing(r, buf_span(&names), &out);
    if (err == 0) err = out.err;
    if (err == 0) {
        reply_json(r, 200, &out);
    } else {
        problem_set(&p, err, -1, "%s", err_text(err));
        reply_problem(r, &p);
    }
    buf_free(&names);
    buf_free(&out);
}

const struct handler api_chunks_missing = {.begin = missing_begin, .body_max = CHUNKS_ASK_MAX * 80 + KIB};

// ---- sending -------------------------------------------------------------------------------------------------------

struct send {
    struct submission submission; // first
    struct app_user user;
    struct request *r; // NULL once the peer is gone
    struct server *server;
    struct app *app;
    struct blob_upload *upload;
    struct uuid id;
    struct buf body, op, encoded;
    struct blob_given *given; // their contents lie in the body
    size_t count, taken;
    uint64_t seq;
    bool placed, synced, over;
    int err;
    struct pool_job work;
};

static void send_free(struct send *s)
{
    buf_free(&s->body);
    buf_free(&s->op);
    buf_free(&s->encoded);
    free(s->given);
    free(s);
}

static void reply_stored(struct send *s)
{
    struct buf b;
    struct jw w;
    buf_init(&b, KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "stored"), jw_uint(&w, s->count);
    jw_key(&w, "seq"), jw_uint(&w, s->seq);
    jw_end(&w);
    reply_json(s->r, 200, &b);
    buf_free(&b);
}

// The last thing that is done: `done` frees it from within the reply.
static void finish(struct send *s, int err, const struct problem *told)
{
    struct problem p = told != NULL ? *told : PROBLEM_NONE;
    blobs_upload_close(s->upload);
    s->upload = NULL;
    app_user_remove(&s->user);
    s->over = true;
    if (s->r == NULL) {
        send_free(s);
    } else if (err == 0) {
        reply_stored(s);
    } else {
        problem_set(&p, err, -1, "%s", err_text(err));
        reply_problem(s->r, &p);
    }
}

static void on_fate(struct submission *sub, const struct fate *f)
{
    struct send *s = (struct send *)sub;
    s->seq = f->seq;
    finish(s, f->err, &f->problem);
}

// The upload and all of its chunks are one batch, so no chunk is without somebody who keeps it.
static int submit(struct send *s)
{
    struct upload_new make = {.kind = UPLOAD_CHUNKS, .length = blobs_upload_size(s->upload), .ttl_ms = CHUNKS_KEPT_MS};
    blobs_upload_put_create(&s->op, s->id, &make);
    if (s->op.err == 0) upload_put_op(&s->encoded, buf_span(&s->op));
    buf_clear(&s->op);
    blobs_upload_progress(s->upload, &s->op);
    if (s->op.err != 0) return s->op.err;
    upload_put_op(&s->encoded, buf_span(&s->op));
    if (s->encoded.err != 0) return s->encoded.err;
    s->submission.request = buf_span(&s->encoded);
    s->submission.done = on_fate;
    return app_submit(s->app, &s->submission);
}

static void work(struct pool_job *w)
{
    struct send *s = w->data;
    size_t n;
    if (s->placed) s->err = blobs_upload_write(s->upload);
    if (s->err != 0) return;
    if (s->taken < s->count) {
        s->err = blobs_upload_give(s->upload, s->given + s->taken, s->count - s->taken, &n);
        if (s->err == 0) s->taken += n;
    } else {
        s->err = blobs_upload_sync(s->upload);
        s->synced = true;
    }
}

static void on_work(struct pool_job *w);

static void start(struct send *s)
{
    s->work.data = s;
    pool_submit(&s->work, server_pool(s->server), s->app, work, on_work);
}

static void on_work(struct pool_job *w)
{
    struct send *s = w->data;
    int err = s->err;
    if (err == 0 && (s->user.asked || app_txn(s->app) == NULL)) err = ERR_BUSY;
    if (err == 0) err = s->synced ? submit(s) : blobs_upload_place(s->upload, app_txn(s->app));
    s->placed = true;
    if (err != 0)
        finish(s, err, NULL);
    else if (!s->synced)
        start(s);
}

// What is on the pool comes back; what is submitted is answered, though its store may be gone by then.
static void on_reset(struct app_user *user, int err)
{
    struct send *s = (struct send *)((char *)user - offsetof(struct send, user));
    (void)err;
    if (s->submission.done == NULL) return;
    blobs_upload_close(s->upload);
    s->upload = NULL;
    app_user_remove(&s->user);
}

static int read_frames(struct send *s, struct problem *p)
{
    struct span body = buf_span(&s->body);
    if (chunk_frames_count(body, &s->count) != 0)
        return problem_set(p, ERR_BAD_REQUEST, -1, "a body of chunks has for each 32 bytes of SHA-256, 4 of length, and up to %u bytes", BLOB_CHUNK_MAX);
    if (s->count > CHUNKS_ASK_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "at most %d chunks are sent at once", CHUNKS_ASK_MAX);
    s->given = calloc(s->count, sizeof *s->given);
    if (s->given == NULL) return ERR_NOMEM;
    for (size_t i = 0; i < s->count; i++)
        s->given[i] = chunk_frames_next(&body);
    return 0;
}

static void send_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct send *s = calloc(1, sizeof *s);
    if (s == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = s;
    *s = (struct send){.r = r, .server = r->server, .app = r->app, .submission = {.identity = r->identity}, .body = r->body, .id = uuid_new()};
    buf_init(&r->body, 0); // it is ours: the pool reads it even if the request goes
    buf_init(&s->op, ENTRY_BYTES_MAX / 4);
    buf_init(&s->encoded, ENTRY_BYTES_MAX / 2);
    app_user_add(r->app, &s->user, on_reset);
    int err = upload_may_write(r->app);
    if (err == 0 && blobs_uploads_open(app_blobs(r->app), app_txn(r->app), true) >= CHUNKS_BODIES_MAX) err = ERR_TOO_MANY;
    if (err == 0) err = read_frames(s, &p);
    if (err == 0) err = blobs_upload_open(app_blobs(r->app), &s->upload);
    if (err != 0) {
        finish(s, err, &p);
        return;
    }
    blobs_upload_adopt(s->upload, s->id);
    start(s);
}

static void send_done(struct request *r)
{
    struct send *s = r->data;
    if (s == NULL) return;
    s->r = NULL;
    if (s->over) send_free(s);
}

const struct handler api_chunks_post = {.begin = send_begin, .done = send_done, .body_max = CHUNKS_BODY_MAX};
