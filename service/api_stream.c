// PUT, POST, HEAD and GET /apps/<app>/v1/stream/<path>: streams by the Durable Streams protocol, a strict subset of it
// (PROTOCOL.md, "streams"). Following (live=…) is in api_stream_live.c.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "err.h"

// ---- offsets ----

#define OFFSET_DIGITS 20 // of the largest: so texts sort as their numbers do

void stream_offset_text(uint64_t offset, char text[STREAM_OFFSET_TEXT])
{
    text[OFFSET_DIGITS] = '\0';
    for (int i = OFFSET_DIGITS - 1; i >= 0; i--, offset /= 10)
        text[i] = (char)('0' + offset % 10);
}

int stream_offset_parse(struct span text, uint64_t *out)
{
    uint64_t v = 0;
    if (text.n == 0 || text.n > 20) return ERR_BAD_OFFSET;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return ERR_BAD_OFFSET;
        if (v > (UINT64_MAX - 9) / 10) return ERR_BAD_OFFSET;
        v = 10 * v + (text.p[i] - '0');
    }
    *out = v;
    return 0;
}

void stream_headers(struct request *r, uint64_t next, bool up_to_date, bool closed)
{
    char text[STREAM_OFFSET_TEXT];
    stream_offset_text(next, text);
    reply_header(r, "Stream-Next-Offset", "%s", text);
    if (up_to_date) reply_header(r, "Stream-Up-To-Date", "true");
    if (closed) reply_header(r, "Stream-Closed", "true");
}

// ---- writing: create, append, close ----

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

// ---- reading ----

static void head_begin(struct request *r)
{
    struct stream_info info;
    int err = app_txn(r->app) == NULL ? ERR_BUSY : streams_find(app_streams(r->app), app_txn(r->app), r->path, &info) ? 0 : ERR_NO_SUCH_STREAM;
    if (err != 0) {
        reply_error(r, err);
        return;
    }
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, info.offset, false, info.closed);
    reply_body(r, info.type, SPAN_NONE);
}

static bool not_modified(struct request *r, const char *etag)
{
    struct span value;
    return request_header(r, "if-none-match", &value) && span_is(value, etag);
}

int stream_reply_read(struct request *r, uint64_t offset, const struct stream_info *info)
{
    struct buf b;
    char etag[96];
    buf_init(&b, STREAM_READ_MAX);
    int err = streams_read(app_streams(r->app), app_txn(r->app), r->path, offset, STREAM_READ_MAX, &b);
    if (err == 0) err = b.err;
    if (err != 0) {
        buf_free(&b);
        return err;
    }
    bool at_tail = offset + b.n == info->offset;
    snprintf(etag, sizeof etag, "\"%llu-%llu-%llu%s\"", (unsigned long long)info->number, (unsigned long long)offset, (unsigned long long)(offset + b.n), at_tail && info->closed ? "-closed" : "");
    bool same = not_modified(r, etag);
    reply_start(r, same ? 304 : 200);
    reply_header(r, "ETag", "%s", etag);
    reply_header(r, "Cache-Control", "no-cache");
    stream_headers(r, offset + b.n, at_tail, at_tail && info->closed);
    if (same) reply_body(r, NULL, SPAN_NONE);
    else reply_body(r, info->type, buf_span(&b));
    buf_free(&b);
    return 0;
}

// Where to begin: `offset` of the query, of which "-1" is the beginning and "now" the tail.
static int get_offset(struct request *r, const struct stream_info *info, uint64_t *offset, bool *given, bool *now, struct problem *p)
{
    struct buf scratch;
    struct span text;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "offset", &scratch, &text);
    int err = found < 0 ? ERR_BAD_OFFSET : 0;
    *given = found == 1;
    *offset = 0;
    *now = found == 1 && span_is(text, "now");
    if (*now) *offset = info->offset;
    else if (found == 1 && !span_is(text, "-1")) err = stream_offset_parse(text, offset);
    buf_free(&scratch);
    if (err == 0 && *offset > info->offset) err = ERR_BAD_OFFSET;
    return err != 0 ? problem_set(p, err, -1, "the offset is malformed, given twice, or beyond the stream's end") : 0;
}

static int get_live(struct request *r, enum stream_live *live, struct problem *p)
{
    struct buf scratch;
    struct span text = SPAN_NONE;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "live", &scratch, &text);
    *live = found != 1 ? STREAM_CATCH_UP : span_is(text, "long-poll") ? STREAM_LONG_POLL : STREAM_SSE;
    bool bad = found < 0 || (*live == STREAM_SSE && !span_is(text, "sse"));
    buf_free(&scratch);
    return bad ? problem_set(p, ERR_BAD_PARAMETER, -1, "\"live\" is long-poll or sse") : 0;
}

static int read_stream(struct request *r, struct problem *p)
{
    struct stream_info info;
    enum stream_live live;
    uint64_t offset;
    bool given, now;
    if (app_txn(r->app) == NULL) return ERR_BUSY;
    if (!streams_find(app_streams(r->app), app_txn(r->app), r->path, &info)) return ERR_NO_SUCH_STREAM;
    int err = get_offset(r, &info, &offset, &given, &now, p);
    if (err == 0) err = get_live(r, &live, p);
    if (err != 0) return err;
    if (live != STREAM_CATCH_UP && !given) return problem_set(p, ERR_BAD_PARAMETER, -1, "following a stream needs an offset");
    if (live == STREAM_SSE || (live == STREAM_LONG_POLL && offset == info.offset && !info.closed)) return stream_follow(r, live, offset, &info);
    if (live == STREAM_LONG_POLL && offset == info.offset) {
        reply_start(r, 204);
        stream_headers(r, offset, true, true);
        reply_body(r, NULL, SPAN_NONE);
        return 0;
    }
    if (!now) return stream_reply_read(r, offset, &info);
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, offset, true, info.closed);
    reply_body(r, info.type, SPAN_NONE);
    return 0;
}

static void read_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = read_stream(r, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

const struct handler api_stream_put = {.begin = write_begin, .done = write_done, .body_max = STREAM_APPEND_MAX};
const struct handler api_stream_post = {.begin = write_begin, .done = write_done, .body_max = STREAM_APPEND_MAX};
const struct handler api_stream_head = {.begin = head_begin};
const struct handler api_stream_get = {.begin = read_begin, .drain = stream_follow_drain, .done = stream_follow_done};
