// Writing to streams by the Durable Streams protocol (PROTOCOL.md, "streams"): each request is a batch of one operation.
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "err.h"

struct write {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    bool creates, submitted;
};

static void write_free(struct write *w)
{
    buf_free(&w->encoded);
    free(w);
}

static void reply_refusal(struct request *r, const struct fate *f)
{
    struct stream_info info;
    struct fate told = *f;
    struct buf b;
    // What a batch calls a rejection is a missing page to a client of this surface.
    if (f->err == ERR_STREAM_NOT_FOUND) {
        told.err = ERR_NO_SUCH_STREAM;
        told.problem = PROBLEM_NONE;
        problem_set(&told.problem, told.err, -1, "%s", err_text(told.err));
    }
    buf_init(&b, 4 * KIB);
    buf_put_str(&b, "{");
    problem_members(&b, &told.problem);
    buf_put_str(&b, "}");
    reply_start(r, err_status(told.err));
    if (told.err == ERR_STREAM_CLOSED && app_txn(r->app) != NULL && streams_find(app_streams(r->app), app_txn(r->app), r->path, &info)) stream_headers(r, info.offset, false, true);
    reply_body(r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

// A path as it stands in a header: everything that is not plain is escaped.
static void put_location(struct request *r)
{
    struct buf b;
    buf_init(&b, 4 * STREAM_PATH_MAX);
    for (size_t i = 0; i < r->path.n; i++) {
        uint8_t c = r->path.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != 0 && strchr("-._~/:@", c) != NULL);
        buf_printf(&b, plain ? "%c" : "%%%02X", c);
    }
    reply_header(r, "Location", "/apps/%s/v1/stream/%.*s", app_name(r->app), SPAN_FMT(buf_span(&b)));
    buf_free(&b);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct write *w = (struct write *)s;
    struct request *r = w->r;
    struct result result = {0};
    struct stream_info info = {0};
    w->submitted = false;
    if (r == NULL) {
        write_free(w);
        return;
    }
    if (f->err != 0) {
        reply_refusal(r, f);
        return;
    }
    struct span rest = f->results;
    while (result_read(&rest, &result) > 0)
        continue; // the last one says where the stream ends now
    if (app_txn(r->app) != NULL) streams_find(app_streams(r->app), app_txn(r->app), r->path, &info);
    reply_start(r, w->creates ? 201 : 204);
    if (w->creates) put_location(r);
    stream_headers(r, result.offset, false, info.closed);
    if (w->creates) reply_body(r, info.type, SPAN_NONE);
    else reply_body(r, NULL, SPAN_NONE);
}

static bool wants_close(const struct request *r)
{
    struct span value;
    return request_header(r, "stream-closed", &value) && span_is(value, "true");
}

static int get_type(const struct request *r, struct span *type, struct problem *p)
{
    *type = SPAN_NONE;
    if (!request_header(r, "content-type", type)) return 0;
    if (type->n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    return 0;
}

static void put_op(struct write *w, enum batch_op_kind kind, struct span type, struct span data, bool first)
{
    struct batch_op op = {.kind = kind, .stream = {.path = w->r->path, .type = type, .data = data, .has_expect = first}};
    batch_put_op(&w->encoded, &op);
}

static int submit(struct write *w)
{
    if (w->encoded.err != 0) return w->encoded.err;
    w->submission = (struct submission){.identity = w->r->identity, .request = buf_span(&w->encoded), .done = on_fate};
    int err = app_submit(w->r->app, &w->submission);
    w->submitted = err == 0;
    return err;
}

static int create(struct write *w, struct span type, struct problem *p)
{
    struct request *r = w->r;
    struct stream_info info;
    if (streams_find(app_streams(r->app), app_txn(r->app), r->path, &info)) {
        if (type.n > 0 && !span_is(type, info.type)) return problem_set(p, ERR_STREAM_EXISTS, -1, "the stream exists with the type %s", info.type);
        if (wants_close(r) && !info.closed) return problem_set(p, ERR_STREAM_EXISTS, -1, "the stream exists and is not closed");
        reply_start(r, 200);
        stream_headers(r, info.offset, false, info.closed);
        reply_body(r, info.type, SPAN_NONE);
        return 0;
    }
    w->creates = true;
    put_op(w, BATCH_CREATE, type, SPAN_NONE, false);
    if (r->body.n > 0) put_op(w, BATCH_APPEND, SPAN_NONE, buf_span(&r->body), true);
    if (wants_close(r)) put_op(w, BATCH_CLOSE, SPAN_NONE, SPAN_NONE, false);
    return submit(w);
}

static int append(struct write *w, struct span type, struct problem *p)
{
    struct request *r = w->r;
    struct stream_info info;
    bool close = wants_close(r);
    if (!streams_find(app_streams(r->app), app_txn(r->app), r->path, &info)) return ERR_NO_SUCH_STREAM;
    if (r->body.n == 0 && !close) return problem_set(p, ERR_BAD_REQUEST, -1, "an append has a body, or Stream-Closed: true");
    if (r->body.n > 0 && type.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "an append needs a Content-Type");
    if (r->body.n > 0) put_op(w, BATCH_APPEND, type, buf_span(&r->body), false);
    if (close) put_op(w, BATCH_CLOSE, SPAN_NONE, SPAN_NONE, false);
    return submit(w);
}

static void write_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct span type;
    struct write *w = malloc(sizeof *w);
    int err = w == NULL ? ERR_NOMEM : app_txn(r->app) == NULL ? ERR_BUSY : 0;
    r->data = w;
    if (w != NULL) *w = (struct write){.r = r};
    if (err == 0) {
        buf_init(&w->encoded, 2 * STREAM_APPEND_MAX);
        err = get_type(r, &type, &p);
    }
    if (err == 0 && r->path.n > STREAM_PATH_MAX) err = problem_set(&p, ERR_URI_TOO_LONG, -1, "a stream's path has at most %d bytes", STREAM_PATH_MAX);
    if (err == 0) err = r->method == METHOD_PUT ? create(w, type, &p) : append(w, type, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void write_done(struct request *r)
{
    struct write *w = r->data;
    if (w == NULL) return;
    w->r = NULL;
    if (!w->submitted) write_free(w);
}

const struct handler api_stream_put = {.begin = write_begin, .done = write_done, .body_max = STREAM_APPEND_MAX};
const struct handler api_stream_post = {.begin = write_begin, .done = write_done, .body_max = STREAM_APPEND_MAX};
