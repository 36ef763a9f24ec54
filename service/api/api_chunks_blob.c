// PUT /apps/<app>/blobs/<sha256> with a list of chunks instead of content; and PATCH /apps/<app>/uploads/<id> with a page of one.
//
//      pool: parse ─> { look the next chunks up (here) ─> pool: read and hash them ─> one batch: progress } … ─> completion ─> 201
//                              │ not there                                                  │ gone in between
//                              └───────────────────────> 409, with the missing ones <───────┘
//
// Every step is committed under an UPLOAD_ONCE, so no batch grows with the blob, and what was looked at once stays. Where it ends early, the look at
// uploads drops it. A page goes into the upload that it names, at its offset, and is its last one where that has its length then: so a list of any
// length comes in pages, and goes on after whatever broke.
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "api_blob.h"
#include "api_upload.h"
#include "chunk_list.h"
#include "err.h"
#include "file.h"
#include "json_write.h"
#include "pool.h"
#include "upload_care.h"

#define OP_MAX (512 * KIB)

struct listing {
    struct submission submission; // first
    struct app_user user;
    struct hold hold;
    struct request *r; // NULL once the peer is gone
    struct server *server;
    struct app *app;
    struct blob_join *join;
    struct uuid id;
    struct sha256 promised;
    struct buf body, op, encoded;
    struct chunk_list list;
    size_t at; // chunks before this step
    uint64_t seq;
    bool page;       // of an upload's list
    uint64_t offset; // of it: how far the upload is
    uint64_t bytes;  // of the step under way
    bool waiting;    // somebody else has it
    bool taken;      // somebody newer wants it
    bool parsed, submitted, created, last, stored_before, over;
    int err;
    struct problem problem;
    struct pool_job work;
};

static void listing_free(struct listing *l)
{
    buf_free(&l->body);
    buf_free(&l->op);
    buf_free(&l->encoded);
    buf_free(&l->list.chunks);
    free(l);
}

static void reply_page(struct listing *l)
{
    upload_reply_state(l->r, 204, &(struct intake_state){.offset = l->offset, .seq = l->seq, .done = l->last, .digest = l->promised});
    reply_body(l->r, NULL, SPAN_NONE);
}

static void reply_stored(struct listing *l)
{
    char hex[SHA256_HEX];
    struct buf b;
    struct jw w;
    hex_format(hex, SPAN(l->promised.b, SHA256_BYTES));
    buf_init(&b, KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "blob"), jw_str(&w, SPAN(hex, SHA256_HEX));
    jw_key(&w, "size"), jw_uint(&w, l->list.size);
    jw_key(&w, "seq"), jw_uint(&w, l->seq);
    jw_end(&w);
    reply_json(l->r, l->stored_before ? 200 : 201, &b);
    buf_free(&b);
}

// Of a page from this step on; at least one, unless what was missing has come meanwhile.
static void put_missing(struct listing *l, struct jw *w)
{
    struct span list = buf_span(&l->list.chunks);
    for (size_t i = l->at; i < l->at + CHUNKS_ASK_MAX && i * BLOB_LISTED_BYTES < list.n; i++) {
        struct sha256 sha;
        memcpy(sha.b, list.p + i * BLOB_LISTED_BYTES, SHA256_BYTES);
        if (!blobs_chunk_stored(app_blobs(l->app), app_txn(l->app), &sha)) jw_uint(w, i);
    }
}

static void reply_missing(struct listing *l)
{
    struct buf b;
    struct jw w;
    struct problem p = PROBLEM_NONE;
    problem_set(&p, ERR_CHUNKS_MISSING, -1, "%s", err_text(ERR_CHUNKS_MISSING));
    buf_init(&b, CHUNKS_ASK_MAX * 8 + 4 * KIB);
    buf_put_str(&b, "{");
    problem_members(&b, &p);
    buf_put_str(&b, ",\"missing\":");
    jw_init(&w, &b);
    jw_array(&w);
    if (app_txn(l->app) != NULL) put_missing(l, &w);
    jw_end(&w);
    buf_put_str(&b, "}");
    reply_start(l->r, err_status(ERR_CHUNKS_MISSING));
    reply_body(l->r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

// The last thing that is done: `done` frees it from within the reply.
static void finish(struct listing *l, int err)
{
    blobs_join_close(l->join);
    l->join = NULL;
    app_user_remove(&l->user);
    if (err != 0 && l->created) upload_care_first(server_uploads(l->server, l->app), l->id);
    hold_release(&l->hold);
    l->over = true;
    if (l->r == NULL) {
        listing_free(l);
    } else if (err == 0) {
        if (l->page) reply_page(l);
        else reply_stored(l);
    } else if (err == ERR_CHUNKS_MISSING) {
        reply_missing(l);
    } else if (l->page) {
        upload_reply_problem(l->r, &l->problem, err);
    } else {
        problem_set(&l->problem, err, -1, "%s", err_text(err));
        reply_problem(l->r, &l->problem);
    }
}

static void step(struct listing *l);

// A chunk may have been reclaimed between the look and the batch: then the batch was refused.
static bool lacks_any(const struct listing *l)
{
    struct span list = buf_span(&l->list.chunks);
    for (size_t i = l->at; i < l->at + BLOB_JOIN_CHUNKS && i * BLOB_LISTED_BYTES < list.n && app_txn(l->app) != NULL; i++) {
        struct sha256 sha;
        memcpy(sha.b, list.p + i * BLOB_LISTED_BYTES, SHA256_BYTES);
        if (!blobs_chunk_stored(app_blobs(l->app), app_txn(l->app), &sha)) return true;
    }
    return false;
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct listing *l = (struct listing *)s;
    l->submitted = false;
    if (!l->stored_before) l->seq = f->seq;
    if (f->err != 0) l->problem = f->problem;
    if (f->err == 0) l->offset += l->bytes;
    if (f->err == ERR_BAD_VALUE && lacks_any(l)) {
        finish(l, ERR_CHUNKS_MISSING);
    } else if (f->err != 0 || l->last) {
        finish(l, f->err);
    } else if (l->taken) {
        finish(l, ERR_UPLOAD_TAKEN);
    } else if (l->join == NULL || l->r == NULL) { // it was asked to go, or nobody waits for it
        finish(l, ERR_BUSY);
    } else {
        l->created = true;
        l->at += BLOB_JOIN_CHUNKS;
        blobs_join_kept(l->join);
        if (blobs_join_listed(l->join)) finish(l, 0);
        else step(l);
    }
}

static void put_op(struct listing *l)
{
    if (l->op.err == 0) upload_put_op(&l->encoded, buf_span(&l->op));
    else l->encoded.err = l->op.err;
    buf_clear(&l->op);
}

// The upload is done, and what waits for it learns its name.
static int put_page_end(struct listing *l)
{
    struct upload_info info;
    if (!blobs_upload_find(app_blobs(l->app), app_txn(l->app), l->id, &info)) return ERR_NO_SUCH_UPLOAD;
    blobs_join_complete(l->join, &l->op, &l->promised);
    put_op(l);
    upload_put_link(&l->encoded, info.made.link, &l->promised);
    return 0;
}

// The blob is there, and the upload that made it need not be remembered.
static int put_end(struct listing *l)
{
    struct sha256 digest;
    struct blob_info known;
    blobs_join_complete(l->join, &l->op, &digest);
    if (!sha256_equal(&digest, &l->promised)) return ERR_DIGEST_MISMATCH;
    put_op(l);
    blobs_upload_put_drop(&l->op, l->id), put_op(l);
    l->stored_before = blobs_find(app_blobs(l->app), app_txn(l->app), &digest, &known);
    if (l->stored_before) l->seq = known.created_seq;
    return 0;
}

static int submit(struct listing *l)
{
    buf_clear(&l->encoded);
    buf_clear(&l->op);
    struct upload_new make = {.kind = UPLOAD_ONCE, .length = l->list.size, .type = SPAN_STR(l->list.type)};
    if (!l->created && !l->page) blobs_upload_put_create(&l->op, l->id, &make), put_op(l);
    blobs_join_progress(l->join, &l->op);
    if (l->op.n > 0 || l->op.err != 0) put_op(l);
    l->bytes = blobs_join_bytes(l->join);
    l->last = blobs_join_last(l->join);
    int err = !l->last ? 0 : l->page ? put_page_end(l) : put_end(l);
    if (err == 0) err = l->encoded.err;
    if (err != 0) return err;
    l->submission.request = buf_span(&l->encoded);
    l->submission.done = on_fate;
    err = app_submit(l->app, &l->submission);
    l->submitted = err == 0;
    return err;
}

static void work(struct pool_job *w)
{
    struct listing *l = w->data;
    if (l->parsed) l->err = blobs_join_read(l->join);
    else l->err = chunk_list_parse(&l->list, buf_span(&l->body), &l->problem);
}

// May a page go into this upload, and there?
static int page_ready(struct listing *l)
{
    struct blobs *b = app_blobs(l->app);
    struct upload_info info;
    if (!blobs_upload_find(b, app_txn(l->app), l->id, &info) || info.made.kind == UPLOAD_CHUNKS) return ERR_NO_SUCH_UPLOAD;
    if (blobs_upload_past(&info, clock_wall_ms())) return ERR_UPLOAD_EXPIRED;
    if (info.made.kind == UPLOAD_JOINED) return ERR_UPLOAD_FINAL;
    if (info.offset != l->offset) return problem_set(&l->problem, ERR_UPLOAD_OFFSET, -1, "the upload is at offset %llu", (unsigned long long)info.offset);
    return blobs_join_open_page(b, app_txn(l->app), l->id, l->offset, l->list.size, buf_span(&l->list.chunks), &l->join);
}

// The list is known: is anything to be done? A blob that nothing keeps has its time begun anew by being stored again.
static int list_ready(struct listing *l)
{
    struct blob_info known;
    l->parsed = true;
    buf_free(&l->body);
    if (l->page) return page_ready(l);
    l->stored_before = blobs_find(app_blobs(l->app), app_txn(l->app), &l->promised, &known) && known.free_ms == 0;
    if (!l->stored_before) return blobs_join_open_listed(app_blobs(l->app), l->id, l->list.size, buf_span(&l->list.chunks), &l->join);
    if (known.size != l->list.size) return ERR_DIGEST_MISMATCH;
    l->seq = known.created_seq;
    return 0;
}

static void on_work(struct pool_job *w)
{
    struct listing *l = w->data;
    int err = l->err;
    bool parsed = l->parsed;
    if (err == 0 && (l->r == NULL || l->user.asked || app_txn(l->app) == NULL)) err = ERR_BUSY;
    if (err == 0) err = parsed ? submit(l) : list_ready(l);
    bool nothing = !parsed && l->page && err == 0 && blobs_join_listed(l->join) && !blobs_join_last(l->join); // a page of none
    if (err != 0 || nothing || (!parsed && l->stored_before)) finish(l, err);
    else if (!parsed) step(l);
}

static void start(struct listing *l)
{
    l->work.data = l;
    pool_submit(&l->work, server_pool(l->server), l->app, work, on_work);
}

static void step(struct listing *l)
{
    int err = app_txn(l->app) == NULL ? ERR_BUSY : blobs_join_next(l->join, app_txn(l->app));
    if (err == ERR_BAD_VALUE) problem_set(&l->problem, err, -1, "a chunk has another length than the list says");
    if (err == 0) start(l);
    else finish(l, err == ERR_NOT_FOUND ? ERR_CHUNKS_MISSING : err);
}

// What is on the pool comes back; what is submitted is answered, though its store may be gone by then.
static void on_reset(struct app_user *user, int err)
{
    struct listing *l = (struct listing *)((char *)user - offsetof(struct listing, user));
    if (l->waiting) {
        finish(l, err);
        return;
    }
    if (!l->submitted) return;
    blobs_join_close(l->join);
    l->join = NULL;
    app_user_remove(&l->user);
}

static void on_grant(struct hold *h)
{
    struct listing *l = (struct listing *)((char *)h - offsetof(struct listing, hold));
    l->waiting = false;
    start(l);
}

// What is under way is ended first. Of a list that makes a blob at once nobody else knows the upload.
static void on_taken(struct hold *h)
{
    struct listing *l = (struct listing *)((char *)h - offsetof(struct listing, hold));
    l->taken = true;
    if (l->waiting) finish(l, ERR_UPLOAD_TAKEN);
}

static struct listing *listing_new(struct request *r)
{
    struct listing *l = calloc(1, sizeof *l);
    if (l == NULL) return NULL;
    r->data = l;
    *l = (struct listing){.r = r, .server = r->server, .app = r->app, .submission = {.identity = r->identity}, .body = r->body, .id = uuid_new(), .problem = PROBLEM_NONE};
    buf_init(&r->body, 0); // it is ours: the pool reads it even if the request goes
    buf_init(&l->op, OP_MAX);
    buf_init(&l->encoded, 2 * OP_MAX);
    buf_init(&l->list.chunks, BLOB_LISTED_BYTES * (size_t)(CHUNKS_MANIFEST_MAX / (SHA256_HEX + 5)));
    l->hold.grant = on_grant;
    l->hold.stop = on_taken;
    app_user_add(r->app, &l->user, on_reset);
    return l;
}

static void go(struct listing *l, int err)
{
    l->waiting = err == 0;
    if (err == 0) hold_take(server_holds(l->server, l->app), &l->hold, l->id);
    else finish(l, err);
}

static void listing_begin(struct request *r)
{
    struct listing *l = listing_new(r);
    if (l == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    int err = upload_may_write(r->app);
    go(l, err != 0 ? err : blob_path_digest(r, &l->promised, &l->problem));
}

static void page_begin(struct request *r)
{
    struct listing *l = listing_new(r);
    if (l == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    l->page = true;
    int err = upload_path_id(r, &l->id, &l->problem);
    if (err == 0) err = tus_number(upload_field(r, "upload-offset"), "Upload-Offset", &l->offset, &l->problem);
    go(l, err != 0 ? err : upload_may_write(r->app));
}

static void listing_done(struct request *r)
{
    struct listing *l = r->data;
    if (l == NULL) return;
    l->r = NULL;
    if (l->over) listing_free(l);
    else if (l->waiting) finish(l, ERR_CANCELED);
}

const struct handler api_chunks_blob = {.begin = listing_begin, .done = listing_done, .body_max = CHUNKS_MANIFEST_MAX};
const struct handler api_chunks_page = {.begin = page_begin, .done = listing_done, .body_max = CHUNKS_MANIFEST_MAX};
