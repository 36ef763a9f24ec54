// The admin's side of blobs: PUT and DELETE /apps/<app>/blob-pins/<sha256>, GET /apps/<app>/blob-usage, POST /apps/<app>/blob-check.
//
//      check:  PAGES of the database on the pool; if they are sound: READ ─ plan on the owner, read on the pool, until all chunks are through ─> FINISH on the pool, over a snapshot ─> answer
#include <assert.h>
#include <stdlib.h>

#include "api_blob.h"
#include "batch.h"
#include "db.h"
#include "err.h"
#include "json_write.h"
#include "pool.h"

#define CHECK_BYTES (4 * MIB) // read in one go
#define USERS_MAX 1000        // damaged places in blobs that are told one by one
#define REPORT_MAX (4 * MIB)

// ---- pins --------------------------------------------------------------------------------------------------------

struct pin {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    bool submitted;
};

static void pin_free(struct pin *pin)
{
    buf_free(&pin->encoded);
    free(pin);
}

static void pin_on_fate(struct submission *s, const struct fate *f)
{
    struct pin *pin = (struct pin *)s;
    pin->submitted = false;
    if (pin->r == NULL) {
        pin_free(pin);
        return;
    }
    reply_fate(pin->r, f, 1, 200);
}

static int pin_submit(struct pin *pin, struct problem *p)
{
    struct request *r = pin->r;
    struct sha256 digest;
    struct blob_info info;
    struct buf step;
    int err = blob_path_digest(r, &digest, p);
    if (err == 0 && app_txn(r->app) == NULL) err = ERR_BUSY;
    if (err != 0) return err;
    err = blobs_look(app_blobs(r->app), app_txn(r->app), &digest, &info);
    if (err != 0) return err;
    buf_init(&step, 4 * KIB);
    blobs_step_put_pin(&step, &digest, r->method == METHOD_PUT);
    batch_put_op(&pin->encoded, &(struct batch_op){.kind = BATCH_BLOB_STEP, .step = buf_span(&step)});
    buf_free(&step);
    pin->submission = (struct submission){.identity = r->identity, .request = buf_span(&pin->encoded), .frees = r->method == METHOD_DELETE, .done = pin_on_fate};
    err = pin->encoded.err != 0 ? pin->encoded.err : app_submit(r->app, &pin->submission);
    pin->submitted = err == 0;
    return err;
}

static void pin_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct pin *pin = calloc(1, sizeof *pin);
    if (pin == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    pin->r = r;
    r->data = pin;
    buf_init(&pin->encoded, 4 * KIB);
    int err = pin_submit(pin, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void pin_done(struct request *r)
{
    struct pin *pin = r->data;
    if (pin == NULL) return;
    pin->r = NULL;
    if (!pin->submitted) pin_free(pin);
}

const struct handler api_blob_pin = {.begin = pin_begin, .done = pin_done};

// ---- looking at all of it -------------------------------------------------------------------------------------------

enum stage { PAGES, READ, FINISH, USAGE };

#define PAGES_TRIES 8 // with a new snapshot, where too many commits came meanwhile

struct look {
    struct request *r; // NULL once the peer is gone
    struct app *app;
    struct app_user user;
    struct pool_job work;
    struct blobs *blobs; // for it: the app may be in flight
    bool working;
    enum stage stage;
    int err;
    int cancelled; // why; the pool is let finish
    struct blobs_audit *audit;
    struct blobs_usage usage;
    uint64_t wrong;
    struct buf users; // JSON: the elements of "users"
    struct jw users_jw;
    size_t user_count;
    uint64_t index_damaged;
    struct buf index; // JSON: the elements of "index"
    struct jw index_jw;
    size_t index_count;
};

static void look_next(struct look *l);

static void look_close(struct look *l)
{
    blobs_audit_close(l->audit);
    l->audit = NULL;
    app_user_remove(&l->user);
}

static void look_free_when_done(struct look *l)
{
    if (l->r != NULL || l->working) return;
    look_close(l);
    buf_free(&l->users);
    buf_free(&l->index);
    free(l);
}

static void put_hex(struct jw *w, const char *key, const struct sha256 *sha)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(sha->b, SHA256_BYTES));
    jw_key(w, key), jw_str(w, SPAN(hex, SHA256_HEX));
}

// Pool.
static void on_user(void *ctx, const struct sha256 *blob, const struct blobs_damage *d, uint64_t offset)
{
    struct look *l = ctx;
    if (l->user_count++ >= USERS_MAX) return;
    jw_object(&l->users_jw);
    put_hex(&l->users_jw, "blob", blob);
    jw_key(&l->users_jw, "offset"), jw_uint(&l->users_jw, offset);
    jw_key(&l->users_jw, "length"), jw_uint(&l->users_jw, d->length);
    put_hex(&l->users_jw, "chunk", &d->chunk);
    jw_end(&l->users_jw);
}

// Pool.
static void on_entry(void *ctx, const char *table, struct span key)
{
    char hex[2 * 64];
    struct look *l = ctx;
    if (l->index_count++ >= USERS_MAX) return;
    key = span_sub(key, 0, sizeof hex / 2); // no key of these tables is longer, but one that is damaged may be
    hex_format(hex, key);
    jw_object(&l->index_jw);
    jw_key(&l->index_jw, "table"), jw_cstr(&l->index_jw, table);
    jw_key(&l->index_jw, "key"), jw_str(&l->index_jw, SPAN(hex, 2 * key.n));
    jw_end(&l->index_jw);
}

// Pool.
static void on_page(void *ctx, uint64_t page, const char *what)
{
    struct look *l = ctx;
    if (l->index_count++ >= USERS_MAX) return;
    jw_object(&l->index_jw);
    jw_key(&l->index_jw, "page"), jw_uint(&l->index_jw, page);
    jw_key(&l->index_jw, "what"), jw_cstr(&l->index_jw, what);
    jw_end(&l->index_jw);
}

// Before anything is read through the map: a page that points anywhere could be the end of the process.
static void check_pages(struct look *l)
{
    l->err = ERR_BUSY;
    for (int i = 0; i < PAGES_TRIES && l->err == ERR_BUSY; i++) {
        struct db_txn *txn = app_snapshot(l->app);
        l->err = db_pages_check(txn, &l->index_damaged, on_page, l);
        db_abort(txn);
    }
}

static void finish_check(struct look *l, struct db_txn *txn)
{
    l->err = blobs_index_check(l->blobs, txn, &l->index_damaged, on_entry, l);
    if (l->err == 0) l->err = blobs_audit_finish(l->audit, txn, &l->wrong, on_user, l);
}

static void on_work(struct pool_job *work)
{
    struct look *l = work->data;
    if (l->stage == READ) blobs_audit_run(l->audit);
    if (l->stage == PAGES) check_pages(l);
    if (l->stage == READ || l->stage == PAGES) return;
    struct db_txn *txn = app_snapshot(l->app);
    if (l->stage == USAGE) l->err = blobs_usage(l->blobs, txn, &l->usage);
    else finish_check(l, txn);
    db_abort(txn);
}

// ---- answers ----

static void put_damage(struct jw *w, const struct blobs_audit *a)
{
    const struct blobs_damage *list;
    size_t listed;
    uint64_t count = blobs_audit_damage(a, &list, &listed);
    jw_key(w, "damaged"), jw_uint(w, count);
    jw_key(w, "damage");
    jw_array(w);
    for (size_t i = 0; i < listed; i++) {
        jw_object(w);
        jw_key(w, "pack"), jw_uint(w, list[i].pack);
        jw_key(w, "position"), jw_uint(w, list[i].position);
        put_hex(w, "chunk", &list[i].chunk);
        jw_key(w, "length"), jw_uint(w, list[i].length);
        jw_end(w);
    }
    jw_end(w);
}

static void answer_check(struct look *l)
{
    struct buf b;
    struct jw w;
    uint64_t chunks, bytes;
    blobs_audit_counts(l->audit, &chunks, &bytes);
    buf_init(&b, REPORT_MAX);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "chunks"), jw_uint(&w, chunks);
    jw_key(&w, "bytes"), jw_uint(&w, bytes);
    put_damage(&w, l->audit);
    jw_key(&w, "users"), jw_raw(&w, buf_span(&l->users));
    jw_key(&w, "wrong_counts"), jw_uint(&w, l->wrong);
    jw_key(&w, "index_damaged"), jw_uint(&w, l->index_damaged);
    jw_key(&w, "index"), jw_raw(&w, buf_span(&l->index));
    jw_end(&w);
    reply_json(l->r, 200, &b);
    buf_free(&b);
}

static void answer_usage(struct look *l)
{
    const struct blobs_usage *u = &l->usage;
    struct buf b;
    struct jw w;
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "blobs"), jw_uint(&w, u->blobs);
    jw_key(&w, "logical"), jw_uint(&w, u->logical);
    jw_key(&w, "chunks"), jw_uint(&w, u->chunks);
    jw_key(&w, "deduplicated"), jw_uint(&w, u->content);
    jw_key(&w, "stored"), jw_uint(&w, u->stored);
    jw_key(&w, "garbage"), jw_uint(&w, u->files > u->stored ? u->files - u->stored : 0);
    jw_end(&w);
    reply_json(l->r, 200, &b);
    buf_free(&b);
}

static void end(struct look *l, int err)
{
    if (l->r == NULL) {
        look_free_when_done(l);
        return;
    }
    jw_end(&l->users_jw), jw_end(&l->index_jw);
    if (err != 0) reply_error(l->r, err);
    else if (l->stage == USAGE) answer_usage(l);
    else answer_check(l);
    look_close(l); // the request's end frees it
}

// ---- the whole story ----

static void on_work_done(struct pool_job *work)
{
    struct look *l = work->data;
    l->working = false;
    int err = l->cancelled != 0 ? l->cancelled : l->err;
    if (l->stage == READ) {
        struct db_txn *txn = app_txn(l->app);
        int read = 0;
        if (blobs_audit_done(l->audit, txn, &read)) app_blobs_touched(l->app);
        if (err == 0) err = txn == NULL ? ERR_BUSY : read;
    }
    bool sound = l->stage == PAGES && l->index_damaged == 0;
    if (sound) l->stage = READ;
    if (l->r == NULL || err != 0 || l->stage != READ) end(l, err);
    else look_next(l);
}

static void start(struct look *l)
{
    l->working = true;
    l->work.data = l;
    l->blobs = app_blobs(l->app);
    pool_submit(&l->work, server_pool(l->r->server), l->app, on_work, on_work_done);
}

static void look_next(struct look *l)
{
    if (app_txn(l->app) == NULL) {
        end(l, ERR_BUSY);
        return;
    }
    if (l->stage == READ && !blobs_audit_plan(l->audit, app_txn(l->app), CHECK_BYTES)) l->stage = FINISH;
    start(l);
}

static void on_reset(struct app_user *user, int err)
{
    struct look *l = (struct look *)((char *)user - offsetof(struct look, user));
    if (l->working) l->cancelled = err;
    else end(l, err);
}

static void look_begin(struct request *r, enum stage stage)
{
    struct look *l = app_txn(r->app) == NULL ? NULL : calloc(1, sizeof *l);
    if (l == NULL) {
        reply_error(r, app_txn(r->app) == NULL ? ERR_BUSY : ERR_NOMEM);
        return;
    }
    l->r = r;
    l->app = r->app;
    l->stage = stage;
    l->usage.files = blobs_pack_bytes(app_blobs(r->app));
    buf_init(&l->users, REPORT_MAX);
    jw_init(&l->users_jw, &l->users);
    jw_array(&l->users_jw);
    buf_init(&l->index, REPORT_MAX);
    jw_init(&l->index_jw, &l->index);
    jw_array(&l->index_jw);
    r->data = l;
    app_user_add(r->app, &l->user, on_reset);
    int err = stage == PAGES ? blobs_audit_open(app_blobs(r->app), &l->audit) : 0;
    if (err != 0) end(l, err);
    else look_next(l);
}

static void check_begin(struct request *r)
{
    look_begin(r, PAGES);
}

static void usage_begin(struct request *r)
{
    look_begin(r, USAGE);
}

static void look_done(struct request *r)
{
    struct look *l = r->data;
    if (l == NULL) return;
    l->r = NULL;
    look_free_when_done(l);
}

const struct handler api_blob_check = {.begin = check_begin, .done = look_done};
const struct handler api_blob_usage = {.begin = usage_begin, .done = look_done};
