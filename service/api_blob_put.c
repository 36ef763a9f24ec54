// PUT /apps/<app>/blobs/<sha256>: a body is chunked, hashed and written on the pool while more of it arrives; when all of it is
// synced and has the digest that the path promised, a batch makes it a blob.
//
//            body ──> incoming (at most a window; then the socket waits)
//                        │
//    IDLE ── swap ──> CHUNK (pool) ──> place (here) ──> WRITE (pool) ──> IDLE … after the last window:
//                                                      WRITE + SYNC ──> FATE (the batch) ──> replied
//
// The peer may leave and the app may be built again at any moment; the upload then ends when its work on the pool is back.
#include <assert.h>
#include <stdlib.h>
#include <uv.h>

#include "api_blob.h"
#include "err.h"
#include "json_write.h"
#include "log.h"

#define WINDOW_FULL (BLOB_WINDOW - HTTP_READ_MAX) // one more piece from the socket still fits

enum stage { IDLE, CHUNK, WRITE, FATE, OVER };

struct put {
    struct submission submission; // first
    struct app_user user;
    struct request *r; // NULL once the peer is gone
    struct blob_upload *upload;
    uint64_t known_seq; // of the blob that was there; 0: none was
    struct sha256 promised, digest;
    uint64_t size;
    struct buf incoming, window;
    struct buf encoded;
    bool ended; // the body is complete
    bool last;  // the window being worked on is the last
    enum stage stage;
    enum stage task; // what the pool does; `stage` may change meanwhile, this may not
    bool working;    // on the pool
    int err;
    uv_work_t work;
    char type[STREAM_TYPE_MAX + 1];
};

static void tick(struct put *u);

static void put_close(struct put *u)
{
    blobs_upload_close(u->upload);
    u->upload = NULL;
    app_user_remove(&u->user);
}

static void put_free_when_done(struct put *u)
{
    if (u->r != NULL || u->working || u->stage == FATE) return;
    put_close(u);
    buf_free(&u->incoming);
    buf_free(&u->window);
    buf_free(&u->encoded);
    free(u);
}

// The end, one way or another; the reply if somebody still listens.
static void fail(struct put *u, const struct problem *p)
{
    u->stage = OVER;
    if (!u->working) put_close(u);
    if (u->r != NULL) reply_problem(u->r, p);
    else put_free_when_done(u);
}

static void fail_err(struct put *u, int err)
{
    struct problem p = PROBLEM_NONE;
    problem_set(&p, err, -1, "%s", err_text(err));
    fail(u, &p);
}

static void on_reset(struct app_user *user, int err)
{
    struct put *u = (struct put *)((char *)user - offsetof(struct put, user));
    if (u->stage == FATE) {
        put_close(u); // the answer comes from the app, as an error
        return;
    }
    if (u->stage != OVER) fail_err(u, err);
}

// ---- the pool ----

static void work(uv_work_t *w)
{
    struct put *u = w->data;
    if (u->task == CHUNK) {
        u->err = blobs_upload_chunk(u->upload, buf_span(&u->window), u->last);
        return;
    }
    u->err = blobs_upload_write(u->upload);
    if (u->err == 0 && u->last) u->err = blobs_upload_sync(u->upload);
}

static void on_work(uv_work_t *w, int status)
{
    struct put *u = w->data;
    u->working = false;
    if (status != 0 && u->err == 0) u->err = ERR_CANCELED;
    if (u->stage != OVER) {
        tick(u);
        return;
    }
    put_close(u);
    put_free_when_done(u);
}

static void start(struct put *u, enum stage stage)
{
    u->stage = u->task = stage;
    u->err = 0;
    u->working = true;
    u->work.data = u;
    int status = uv_queue_work(server_loop(u->r->server), &u->work, work, on_work);
    assert(status == 0); // fails only without a callback
}

// ---- the batch ----

static void reply_stored(struct put *u, int status, uint64_t seq)
{
    char hex[SHA256_HEX];
    struct buf b;
    struct jw w;
    hex_format(hex, SPAN(u->digest.b, SHA256_BYTES));
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "blob"), jw_str(&w, SPAN(hex, SHA256_HEX));
    jw_key(&w, "size"), jw_uint(&w, u->size);
    jw_key(&w, "seq"), jw_uint(&w, seq);
    jw_end(&w);
    reply_json(u->r, status, &b);
    buf_free(&b);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct put *u = (struct put *)s;
    u->stage = OVER;
    put_close(u);
    if (u->r == NULL) put_free_when_done(u);
    else if (f->err != 0) reply_fate_problem(u->r, f);
    else reply_stored(u, u->known_seq > 0 ? 200 : 201, u->known_seq > 0 ? u->known_seq : f->seq);
}

static void submit(struct put *u)
{
    struct buf manifest;
    struct blob_info info;
    struct request *r = u->r;
    buf_init(&manifest, ENTRY_BYTES_MAX);
    blobs_upload_result(u->upload, &u->digest, &u->size, &manifest);
    int err = manifest.err;
    if (err == 0 && !sha256_equal(&u->digest, &u->promised)) err = ERR_DIGEST_MISMATCH;
    if (err == 0 && blobs_find(app_blobs(r->app), app_txn(r->app), &u->digest, &info)) u->known_seq = info.created_seq;
    if (err == 0 && u->known_seq > 0 && info.free_ms == 0 && !blobs_upload_brought(u->upload)) {
        buf_free(&manifest);
        u->stage = OVER;
        put_close(u);
        reply_stored(u, 200, info.created_seq);
        return;
    }
    if (err == 0) {
        batch_put_op(&u->encoded, &(struct batch_op){.kind = BATCH_BLOB, .blob = {.digest = u->digest, .type = SPAN_STR(u->type), .manifest = buf_span(&manifest)}});
        err = u->encoded.err;
    }
    buf_free(&manifest);
    u->submission = (struct submission){.identity = r->identity, .request = buf_span(&u->encoded), .done = on_fate};
    if (err == 0) err = app_submit(r->app, &u->submission);
    if (err == 0) u->stage = FATE;
    else fail_err(u, err);
}

// ---- the whole story ----

static void next_window(struct put *u)
{
    // Pieces are gathered into windows; the last may be small, or empty.
    if (u->incoming.n < WINDOW_FULL && !u->ended) return;
    struct buf swap = u->window;
    u->window = u->incoming;
    u->incoming = swap;
    buf_clear(&u->incoming);
    u->last = u->ended;
    request_resume(u->r);
    start(u, CHUNK);
}

static void tick(struct put *u)
{
    if (u->working || u->stage == OVER || u->stage == FATE) return;
    if (u->err != 0) {
        fail_err(u, u->err);
        return;
    }
    if (u->stage == CHUNK) {
        int err = app_txn(u->r->app) == NULL ? ERR_BUSY : blobs_upload_place(u->upload, app_txn(u->r->app));
        if (err != 0) fail_err(u, err);
        else start(u, WRITE);
        return;
    }
    if (u->stage == WRITE && u->last) {
        if (app_txn(u->r->app) == NULL) fail_err(u, ERR_BUSY);
        else submit(u);
        return;
    }
    u->stage = IDLE;
    next_window(u);
}

static void put_body(struct request *r, struct span piece)
{
    struct put *u = r->data;
    if (u == NULL || u->stage == OVER) return;
    buf_put_span(&u->incoming, piece);
    if (u->incoming.err != 0) {
        fail_err(u, u->incoming.err);
        return;
    }
    if (u->incoming.n < WINDOW_FULL) return;
    request_pause(r);
    tick(u);
}

static void put_body_end(struct request *r)
{
    struct put *u = r->data;
    if (u == NULL || u->stage == OVER) return;
    u->ended = true;
    tick(u);
}

static int put_open(struct request *r, struct problem *p)
{
    struct span type;
    struct put *u = calloc(1, sizeof *u);
    if (u == NULL) return ERR_NOMEM;
    r->data = u;
    u->r = r;
    buf_init(&u->incoming, BLOB_WINDOW);
    buf_init(&u->window, BLOB_WINDOW);
    buf_init(&u->encoded, ENTRY_BYTES_MAX / 2); // what one submission may have
    u->stage = OVER;
    int err = blob_path_digest(r, &u->promised, p);
    if (err != 0) return err;
    if (request_header(r, "content-type", &type)) {
        if (type.n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
        memcpy(u->type, type.p, type.n);
    }
    if (r->content_length > (int64_t)BLOB_BYTES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a blob may have %llu bytes", (unsigned long long)BLOB_BYTES_MAX);
    if (app_txn(r->app) == NULL) return ERR_BUSY;
    if (app_state(r->app) == APP_FULL) return ERR_NO_SPACE;
    if (app_state(r->app) == APP_READ_ONLY) return ERR_READ_ONLY;
    err = blobs_upload_open(app_blobs(r->app), &u->upload);
    if (err != 0) return err;
    app_user_add(r->app, &u->user, on_reset);
    u->stage = IDLE;
    return 0;
}

static void put_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = put_open(r, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void put_done(struct request *r)
{
    struct put *u = r->data;
    if (u == NULL) return;
    u->r = NULL;
    if (u->stage != FATE) u->stage = OVER;
    put_free_when_done(u);
}

const struct handler api_blob_put = {.begin = put_begin, .body = put_body, .body_end = put_body_end, .done = put_done, .body_max = BLOB_BYTES_MAX};
