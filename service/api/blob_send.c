#include "blob_send.h"

#include <stddef.h>

#include "err.h"
#include "log.h"

#define PLAN_BYTES (512 * KIB) // looked up at once, and read at once where it has to be verified
#define FILES_QUEUED (1 * MIB) // at most, of files
#define READ_MAX (PLAN_BYTES + 2 * BLOB_CHUNK_MAX) // a plan ends with a whole chunk, and a frame may be longer than its content

static void pump(struct blob_send *s);

static void let_go(struct blob_send *s)
{
    s->over = true;
    if (s->ops->release != NULL) s->ops->release(s);
    if (s->working) return;
    blobs_reader_close(s->reader);
    s->reader = NULL;
    app_user_remove(&s->user);
}

static void free_when_done(struct blob_send *s)
{
    if (s->r != NULL || s->working) return;
    let_go(s);
    buf_free(&s->read);
    s->ops->free(s);
}

static void fail(struct blob_send *s, int err)
{
    struct request *r = s->r;
    log_warn("blob", s->told ? "an answer broke off" : "an answer is refused", LF_UINT("request", request_id(r)), LF_ERR(err));
    let_go(s);
    if (s->told) reply_break(r);
    else reply_error(r, err);
}

static void on_reset(struct app_user *user, int err)
{
    struct blob_send *s = (struct blob_send *)user;
    if (!s->over && s->r != NULL) fail(s, err);
    else let_go(s);
}

static void finish(struct blob_send *s)
{
    let_go(s);
    if (s->ops->end != NULL) s->ops->end(s);
    reply_end(s->r);
}

static void tell(struct blob_send *s)
{
    if (s->part_told) return;
    s->ops->tell(s, !s->told);
    s->told = s->part_told = true;
}

// ---- the lane's part -----------------------------------------------------------------------------------------------

static struct blob_send *send_of(struct lane_job *j)
{
    return (struct blob_send *)((char *)j - offsetof(struct blob_send, work));
}

static void work(struct lane_job *j)
{
    struct blob_send *s = send_of(j);
    s->err = blobs_reader_read(s->reader, &s->read);
}

static void on_work(struct lane_job *j);

static int send_read(struct blob_send *s)
{
    s->ready = false;
    if (s->err != 0) return s->err;
    struct bytes *b = buf_take(&s->read);
    buf_free(&s->read); // not kept: most of the time is spent waiting for the socket
    if (b == NULL) return ERR_NOMEM;
    tell(s);
    reply_write(s->r, b);
    bytes_unref(b);
    return 1;
}

static void on_landed(struct app_wait *w)
{
    on_work(&((struct blob_send *)((char *)w - offsetof(struct blob_send, wait)))->work);
}

static void on_work(struct lane_job *j)
{
    struct blob_send *s = send_of(j);
    if (s->r != NULL && app_wait(s->r->app, &s->wait, on_landed)) return;
    s->working = false;
    if (s->over || s->r == NULL) {
        let_go(s);
        free_when_done(s);
        return;
    }
    s->ready = true;
    pump(s);
}

static void read_aside(struct blob_send *s)
{
    s->working = true;
    s->work = (struct lane_job){.run = work, .done = on_work};
    lane_submit(server_lane(s->r->server), &s->work);
}

// ---- step by step --------------------------------------------------------------------------------------------------

static int plan(struct blob_send *s)
{
    struct db_txn *txn = app_txn(s->r->app);
    if (txn == NULL) return ERR_BUSY;
    int err = blobs_reader_next(s->reader, txn, PLAN_BYTES);
    if (err != 0 || blobs_reader_planned(s->reader) || blobs_reader_done(s->reader)) return err != 0 ? err : 1;
    tell(s); // it waits for more: what there was is sent
    return 0;
}

static int next_part(struct blob_send *s)
{
    s->part_told = false;
    int got = app_txn(s->r->app) == NULL ? ERR_BUSY : s->ops->open(s, &s->reader);
    if (got == 0) finish(s);
    return got;
}

// Nothing is taken as it lies while the socket is full; what has to be read is read meanwhile. Pieces of files take no memory: more of them may wait.
static int give(struct blob_send *s, bool full)
{
    struct blob_piece piece;
    bool lies = blobs_reader_verified(s->reader);
    full = full && (!lies || reply_queued(s->r) >= FILES_QUEUED);
    if (full && lies) return 0;
    int got = full ? 0 : blobs_reader_piece(s->reader, &piece);
    if (got == 0) read_aside(s);
    if (got != 1) return got;
    tell(s);
    if (piece.bytes == NULL) {
        reply_write_file(s->r, piece.fd, piece.position, piece.n);
        return 1;
    }
    reply_write(s->r, piece.bytes);
    bytes_unref(piece.bytes);
    return 1;
}

// 1: go on; 0: wait, or it is over; negative: it failed.
static int step(struct blob_send *s)
{
    bool full = s->told && reply_full(s->r);
    if (s->ready) return full ? 0 : send_read(s);
    if (s->reader != NULL && blobs_reader_planned(s->reader)) return give(s, full);
    if (s->reader != NULL && !blobs_reader_done(s->reader)) return plan(s);
    if (full) return 0;
    if (s->reader == NULL) return next_part(s);
    tell(s); // a part without bytes is told too
    blobs_reader_close(s->reader);
    s->reader = NULL;
    return 1;
}

static void pump(struct blob_send *s)
{
    int got = 1;
    while (got == 1 && !s->over && !s->working)
        got = step(s);
    if (got < 0) fail(s, got);
}

void blob_send_begin(struct blob_send *s, struct request *r, const struct blob_send_ops *ops)
{
    s->ops = ops;
    s->r = r;
    buf_init(&s->read, READ_MAX);
    r->data = s;
    app_user_add(r->app, &s->user, on_reset);
    pump(s);
}

void blob_send_go(struct blob_send *s)
{
    if (s->r != NULL) pump(s);
}

void blob_send_drain(struct request *r)
{
    if (r->data != NULL) blob_send_go(r->data);
}

void blob_send_done(struct request *r)
{
    struct blob_send *s = r->data;
    if (s == NULL) return;
    s->r = NULL;
    s->over = true;
    free_when_done(s);
}
