// HEAD and GET /apps/<app>/blobs/<sha256>: a blob or a range of it (RFC 9110, sections 13 and 14), each chunk verified on the pool as it is read.
#include "api_blob.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "err.h"
#include "log.h"

int blob_path_digest(const struct request *r, struct sha256 *out, struct problem *p)
{
    if (hex_parse(out->b, SHA256_BYTES, r->path) == 0) return 0;
    return problem_set(p, ERR_BAD_DIGEST, -1, "a blob's path ends in the 64 hexadecimal digits of its SHA-256");
}

// ---- the answer's head ----

struct range {
    uint64_t from, n;
    bool partial;
};

static bool take_number(struct span *s, uint64_t *out)
{
    size_t i = 0;
    *out = 0;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++) {
        if (*out > (UINT64_MAX - 9) / 10) return false;
        *out = 10 * *out + (s->p[i] - '0');
    }
    *s = span_sub(*s, i, SIZE_MAX);
    return i > 0;
}

// One range. Several, other units and malformed ones are read as if there were none (RFC 9110, 14.2). ERR_RANGE_NOT_SATISFIABLE.
static int parse_range(struct span s, uint64_t size, struct range *out)
{
    uint64_t a, b = size - 1;
    if (!span_starts(s, "bytes=")) return 0;
    s = span_sub(s, 6, SIZE_MAX);
    bool suffix = s.n > 0 && s.p[0] == '-';
    if (suffix) s = span_sub(s, 1, SIZE_MAX);
    if (!take_number(&s, &a)) return 0;
    if (suffix) {
        if (s.n != 0) return 0;
        if (a == 0 || size == 0) return ERR_RANGE_NOT_SATISFIABLE;
        a = a < size ? size - a : 0;
    } else {
        if (s.n == 0 || s.p[0] != '-') return 0;
        s = span_sub(s, 1, SIZE_MAX);
        if (s.n > 0 && (!take_number(&s, &b) || s.n != 0 || b < a)) return 0;
        if (a >= size) return ERR_RANGE_NOT_SATISFIABLE;
        if (b >= size) b = size - 1;
    }
    *out = (struct range){.from = a, .n = (suffix ? size - 1 : b) - a + 1, .partial = true};
    return 0;
}

// Is `etag` among the entity tags of a field ("*" is all of them)? Weak tags compare by their text.
static bool has_etag(struct span list, const char *etag)
{
    size_t n = strlen(etag);
    if (span_is(list, "*")) return true;
    for (size_t i = 0; i + n <= list.n; i++)
        if (memcmp(list.p + i, etag, n) == 0) return true;
    return false;
}

static int get_range(struct request *r, const char *etag, uint64_t size, struct range *out)
{
    struct span value, condition;
    *out = (struct range){.n = size};
    if (!request_header(r, "range", &value)) return 0;
    if (request_header(r, "if-range", &condition) && !span_is(condition, etag)) return 0;
    return parse_range(value, size, out);
}

static void head(struct request *r, int status, const char *etag)
{
    reply_start(r, status);
    reply_header(r, "ETag", "%s", etag);
    reply_header(r, "Accept-Ranges", "bytes");
    reply_header(r, "Cache-Control", "private, max-age=31536000, immutable");
    reply_header(r, "Content-Security-Policy", "sandbox"); // whatever type it claims, it runs nothing here
}

static void reply_unsatisfiable(struct request *r, uint64_t size)
{
    struct problem p = PROBLEM_NONE;
    struct buf b;
    problem_set(&p, ERR_RANGE_NOT_SATISFIABLE, -1, "the blob has %llu bytes", (unsigned long long)size);
    buf_init(&b, 4 * KIB);
    buf_put_str(&b, "{");
    problem_members(&b, &p);
    buf_put_str(&b, "}");
    reply_start(r, 416);
    reply_header(r, "Content-Range", "bytes */%llu", (unsigned long long)size);
    reply_body(r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

// ---- the answer's body ----

struct get {
    struct app_user user; // first
    struct request *r;    // NULL once the peer is gone
    struct blob_reader *reader;
    struct buf piece;
    bool done;    // the piece is the last
    bool working; // on the pool
    bool over;
    int err;
    uv_work_t work;
};

static void read_next(struct get *g);

static void get_close(struct get *g)
{
    g->over = true;
    if (g->working) return;
    blobs_reader_close(g->reader);
    g->reader = NULL;
    app_user_remove(&g->user);
}

static void get_free_when_done(struct get *g)
{
    if (g->r != NULL || g->working) return;
    get_close(g);
    buf_free(&g->piece);
    free(g);
}

static void on_reset(struct app_user *user, int err)
{
    struct get *g = (struct get *)user;
    (void)err;
    if (!g->over && g->r != NULL) reply_break(g->r);
    get_close(g);
}

static void work(uv_work_t *w)
{
    struct get *g = w->data;
    g->err = blobs_reader_read(g->reader, &g->piece, &g->done);
}

static void break_off(struct get *g, int err)
{
    log_warn("blob", "an answer broke off", LF_UINT("request", request_id(g->r)), LF_ERR(err));
    get_close(g);
    reply_break(g->r);
}

static void on_work(uv_work_t *w, int status)
{
    struct get *g = w->data;
    g->working = false;
    if (g->over || g->r == NULL) {
        get_close(g);
        get_free_when_done(g);
        return;
    }
    int err = status != 0 ? ERR_CANCELED : g->err;
    if (err != 0) {
        break_off(g, err);
        return;
    }
    struct bytes *piece = buf_take(&g->piece);
    if (piece == NULL) {
        break_off(g, ERR_NOMEM);
        return;
    }
    bool room = reply_write(g->r, piece);
    bytes_unref(piece);
    if (g->done) {
        get_close(g);
        reply_end(g->r);
    } else if (room) {
        read_next(g);
    }
}

static void read_next(struct get *g)
{
    struct request *r = g->r;
    if (g->over || g->working) return;
    int err = app_txn(r->app) == NULL ? ERR_BUSY : blobs_reader_next(g->reader, app_txn(r->app), BLOB_CHUNK_MAX);
    if (err != 0) {
        break_off(g, err);
        return;
    }
    buf_clear(&g->piece);
    g->working = true;
    g->work.data = g;
    int status = uv_queue_work(server_loop(r->server), &g->work, work, on_work);
    assert(status == 0); // fails only without a callback
}

static int begin_body(struct request *r, const struct blob_info *info, const struct range *range, const char *etag)
{
    struct get *g = calloc(1, sizeof *g);
    if (g == NULL) return ERR_NOMEM;
    int err = blobs_reader_open(app_blobs(r->app), app_txn(r->app), &info->digest, range->from, range->n, &g->reader);
    if (err != 0) return free(g), err;
    g->r = r;
    buf_init(&g->piece, 2 * BLOB_WINDOW);
    app_user_add(r->app, &g->user, on_reset);
    r->data = g;
    head(r, range->partial ? 206 : 200, etag);
    if (range->partial)
        reply_header(r, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)range->from, (unsigned long long)(range->from + range->n - 1), (unsigned long long)info->size);
    reply_stream(r, info->type, (int64_t)range->n);
    read_next(g);
    return 0;
}

static int answer(struct request *r, struct problem *p)
{
    struct sha256 digest;
    struct blob_info info;
    struct range range;
    struct span value;
    char etag[SHA256_HEX + 3] = "\"";
    int err = blob_path_digest(r, &digest, p);
    if (err == 0 && app_txn(r->app) == NULL) err = ERR_BUSY;
    if (err != 0) return err;
    if (!blobs_find(app_blobs(r->app), app_txn(r->app), &digest, &info)) return ERR_NO_SUCH_BLOB;
    hex_format(etag + 1, SPAN(digest.b, SHA256_BYTES));
    memcpy(etag + 1 + SHA256_HEX, "\"", 2);
    if (request_header(r, "if-none-match", &value) && has_etag(value, etag)) {
        head(r, 304, etag);
        reply_body(r, NULL, SPAN_NONE);
        return 0;
    }
    if (get_range(r, etag, info.size, &range) != 0) {
        reply_unsatisfiable(r, info.size);
        return 0;
    }
    if (r->method == METHOD_GET && range.n > 0) return begin_body(r, &info, &range, etag);
    head(r, range.partial ? 206 : 200, etag);
    reply_stream(r, info.type, (int64_t)range.n);
    reply_end(r);
    return 0;
}

static void get_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = answer(r, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void get_drain(struct request *r)
{
    if (r->data != NULL) read_next(r->data);
}

static void get_done(struct request *r)
{
    struct get *g = r->data;
    if (g == NULL) return;
    g->r = NULL;
    g->over = true;
    get_free_when_done(g);
}

const struct handler api_blob_get = {.begin = get_begin, .drain = get_drain, .done = get_done};
const struct handler api_blob_head = {.begin = get_begin, .done = get_done};
