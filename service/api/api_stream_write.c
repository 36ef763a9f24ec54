// Writing to streams by the Durable Streams protocol (PROTOCOL.md, "streams"): each request is a batch of one operation, so that whatever it asks for
// together happens together. What the header fields say is read here; what the state says is decided with the batch.
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "err.h"
#include "file.h"
#include "json_lines.h"
#include "origin.h"
#include "percent.h"

#define ENCODED_MAX (2 * STREAM_APPEND_MAX + 64 * KIB) // each element of an array takes a byte more as a message

struct write {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    struct buf messages; // the body of a JSON stream
    struct buf source;   // a fork's, decoded
    enum batch_op_kind kind;
    bool appends;        // there is data
    uint64_t pseq;       // that the producer sent
    bool submitted;
};

static void write_free(struct write *w)
{
    buf_free(&w->encoded);
    buf_free(&w->messages);
    buf_free(&w->source);
    free(w);
}

// ---- replies -----------------------------------------------------------------------------------------------------

// The stream's whole URL; everything in its path that is not plain is escaped.
static void put_location(struct request *r)
{
    struct buf b;
    buf_init(&b, 4 * STREAM_PATH_MAX + KIB);
    origin_put(r, &b);
    buf_printf(&b, "/apps/%s/v1/stream/", app_name(r->app));
    for (size_t i = 0; i < r->path.n; i++) {
        uint8_t c = r->path.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != 0 && strchr("-._~/:@", c) != NULL);
        buf_printf(&b, plain ? "%c" : "%%%02X", c);
    }
    buf_put_u8(&b, 0);
    if (b.err == 0) reply_header(r, "Location", "%s", (const char *)b.p);
    buf_free(&b);
}

static void reply_created(struct request *r, const struct result *made)
{
    struct stream_info info = {0};
    bool found = app_txn(r->app) != NULL && streams_find(app_streams(r->app), app_txn(r->app), r->path, &info);
    reply_start(r, made->created ? 201 : 200);
    if (made->created) put_location(r);
    stream_headers(r, made->offset, false, made->closed);
    reply_body(r, found ? info.type : NULL, SPAN_NONE);
}

static void reply_appended(struct write *w, const struct result *end, const struct result *producer)
{
    struct request *r = w->r;
    bool produced = producer->kind == RESULT_PRODUCER;
    // A producer is told by the status whether this request brought something new.
    reply_start(r, produced && w->appends && !producer->duplicate ? 200 : 204);
    stream_headers(r, end->offset, false, end->closed);
    if (produced) {
        reply_header(r, "Producer-Epoch", "%llu", (unsigned long long)producer->epoch);
        reply_header(r, "Producer-Seq", "%llu", (unsigned long long)producer->seq);
    }
    reply_body(r, NULL, SPAN_NONE);
}

static void reply_done(struct write *w, struct span results)
{
    struct request *r = w->r;
    struct result result = {0}, end = {0}, producer = {0};
    while (result_read(&results, &result) > 0) {
        if (result.kind == RESULT_PRODUCER) producer = result;
        else end = result;
    }
    switch (w->kind) {
    case BATCH_CREATE: reply_created(r, &end); break;
    case BATCH_DROP:
        reply_start(r, 204);
        reply_body(r, NULL, SPAN_NONE);
        break;
    default: reply_appended(w, &end, &producer); break;
    }
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct write *w = (struct write *)s;
    w->submitted = false;
    if (w->r == NULL) write_free(w);
    else if (f->err != 0) stream_reply_problem(w->r, &f->problem, w->pseq);
    else reply_done(w, f->results);
}

// ---- header fields -----------------------------------------------------------------------------------------------

static bool wants_close(const struct request *r)
{
    struct span value;
    return request_header(r, "stream-closed", &value) && value.n == 4 && strncasecmp((const char *)value.p, "true", 4) == 0;
}

static int get_type(const struct request *r, struct span *type, struct problem *p)
{
    if (!request_header(r, "content-type", type)) return 0;
    bool plain = type->n <= STREAM_TYPE_MAX;
    for (size_t i = 0; plain && i < type->n; i++)
        plain = type->p[i] >= ' ' && type->p[i] <= '~';
    return plain ? 0 : problem_set(p, ERR_BAD_REQUEST, -1, "a content type is at most %d bytes of printable ASCII", STREAM_TYPE_MAX);
}

static int get_expiry(const struct request *r, struct batch_stream *s, struct problem *p)
{
    struct span ttl, at;
    s->has_ttl = request_header(r, "stream-ttl", &ttl);
    bool has_at = request_header(r, "stream-expires-at", &at);
    if (s->has_ttl && has_at) return problem_set(p, ERR_BAD_REQUEST, -1, "Stream-TTL and Stream-Expires-At exclude each other");
    if (s->has_ttl && !stream_number_parse(ttl, STREAM_TTL_S_MAX, &s->ttl_s))
        return problem_set(p, ERR_BAD_REQUEST, -1, "Stream-TTL is a plain number of seconds, at most %llu", (unsigned long long)STREAM_TTL_S_MAX);
    if (has_at && !stream_time_parse(at, &s->expires_ms)) return problem_set(p, ERR_BAD_REQUEST, -1, "Stream-Expires-At is a timestamp of RFC 3339 with its zone");
    return 0;
}

// The path of a stream's URL on this server, with or without the app in front: clients know streams by their base, which may end there.
static int source_path(struct write *w, struct span url, struct span *path, struct problem *p)
{
    char prefix[NAME_MAX_BYTES + 8];
    snprintf(prefix, sizeof prefix, "/apps/%s/", app_name(w->r->app));
    if (span_starts(url, prefix)) url = span_sub(url, strlen(prefix) - 1, url.n);
    if (!span_starts(url, "/v1/stream/")) return problem_set(p, ERR_BAD_REQUEST, -1, "Stream-Forked-From is the path of a stream's URL in this app");
    buf_init(&w->source, HTTP_HEADERS_MAX);
    int err = percent_decode(&w->source, span_sub(url, strlen("/v1/stream/"), url.n), false);
    *path = buf_span(&w->source);
    if (err == 0 && path->n > 0) return 0;
    return problem_set(p, ERR_BAD_REQUEST, -1, "Stream-Forked-From names no stream");
}

static int get_fork(struct write *w, struct batch_stream *s, struct problem *p)
{
    struct span from, offset, sub;
    bool forks = request_header(w->r, "stream-forked-from", &from);
    bool has_sub = request_header(w->r, "stream-fork-sub-offset", &sub);
    s->has_fork_offset = request_header(w->r, "stream-fork-offset", &offset);
    if (!forks) return s->has_fork_offset || has_sub ? problem_set(p, ERR_BAD_REQUEST, -1, "a fork's offset needs Stream-Forked-From") : 0;
    int err = source_path(w, from, &s->fork_of, p);
    if (err == 0 && s->has_fork_offset && stream_offset_parse(offset, &s->fork_offset) != 0) err = problem_set(p, ERR_BAD_OFFSET, -1, "Stream-Fork-Offset is no offset");
    if (err == 0 && has_sub && !stream_number_parse(sub, STREAM_NUMBER_MAX, &s->fork_sub))
        err = problem_set(p, ERR_BAD_FORK, -1, "Stream-Fork-Sub-Offset is a plain number");
    if (err == 0 && s->fork_sub > 0 && !s->has_fork_offset) err = problem_set(p, ERR_BAD_FORK, -1, "nothing lies behind the source's end");
    return err;
}

static int get_producer(struct write *w, struct batch_stream *s, struct problem *p)
{
    struct span epoch, seq;
    struct request *r = w->r;
    int given = request_header(r, "producer-id", &s->producer) + request_header(r, "producer-epoch", &epoch) + request_header(r, "producer-seq", &seq);
    if (given == 0) return 0;
    if (given != 3) return problem_set(p, ERR_BAD_REQUEST, -1, "Producer-Id, Producer-Epoch and Producer-Seq come together");
    if (s->producer.n == 0 || s->producer.n > STREAM_PRODUCER_ID_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "Producer-Id has 1 to %d bytes", STREAM_PRODUCER_ID_MAX);
    if (!stream_number_parse(epoch, STREAM_NUMBER_MAX, &s->epoch) || !stream_number_parse(seq, STREAM_NUMBER_MAX, &s->pseq))
        return problem_set(p, ERR_BAD_REQUEST, -1, "Producer-Epoch and Producer-Seq are plain numbers up to 2^53-1");
    w->pseq = s->pseq;
    return 0;
}

// Where the stream has to end: what `expect` is to a batch.
static int get_expect(const struct request *r, struct batch_stream *s, struct problem *p)
{
    struct span value;
    if (!request_header(r, "if-match", &value)) return 0;
    int err = stream_match_parse(value, &s->has_expect, &s->expect);
    return err == 0 ? 0 : problem_set(p, err, -1, "If-Match is the offset at which the stream has to end, or *");
}

static int refuse_match(const struct request *r, struct problem *p)
{
    struct span value;
    if (!request_header(r, "if-match", &value) || span_is(value, "*")) return 0;
    return problem_set(p, ERR_BAD_REQUEST, -1, "If-Match is for appends");
}

static int get_seq(const struct request *r, struct batch_stream *s, struct problem *p)
{
    if (!request_header(r, "stream-seq", &s->seq)) return 0;
    return s->seq.n > 0 && s->seq.n <= STREAM_SEQ_MAX ? 0 : problem_set(p, ERR_BAD_REQUEST, -1, "Stream-Seq has 1 to %d bytes", STREAM_SEQ_MAX);
}

// The body as the stream keeps it.
static int get_data(struct write *w, bool json, struct batch_stream *s, struct problem *p)
{
    size_t count;
    if (w->r->body.n == 0) return 0;
    s->data = buf_span(&w->r->body);
    if (!json) return 0;
    buf_init(&w->messages, ENCODED_MAX);
    int err = json_lines_put(&w->messages, s->data, &count, p);
    s->data = buf_span(&w->messages);
    s->messages = err == 0 && s->data.n > 0;
    return err;
}

// ---- what is asked -----------------------------------------------------------------------------------------------

static int put_op(struct write *w, const struct batch_stream *s)
{
    struct batch_op op = {.kind = w->kind, .stream = *s};
    if (s->data.n > STREAM_APPEND_MAX + STREAM_APPEND_MAX / 2) return ERR_TOO_LARGE;
    w->appends = s->data.n > 0;
    buf_init(&w->encoded, ENCODED_MAX);
    buf_reserve(&w->encoded, s->path.n + s->data.n + 2 * STREAM_TYPE_MAX); // in one piece
    batch_put_op(&w->encoded, &op);
    return w->encoded.err;
}

static int create(struct write *w, struct batch_stream *s, struct problem *p)
{
    struct request *r = w->r;
    struct stream_info source;
    w->kind = BATCH_CREATE;
    int err = get_type(r, &s->type, p);
    if (err == 0) err = get_expiry(r, s, p);
    if (err == 0) err = get_fork(w, s, p);
    if (err == 0) err = refuse_match(r, p);
    if (err != 0) return err;
    bool json = stream_type_is_json(s->type);
    if (s->type.n == 0 && s->fork_of.n > 0) json = stream_lookup(r, s->fork_of, &source) == 0 && source.json;
    s->close = wants_close(r);
    return get_data(w, json, s, p);
}

static int append(struct write *w, struct batch_stream *s, struct problem *p)
{
    struct request *r = w->r;
    struct stream_info info;
    w->kind = BATCH_APPEND;
    s->close = wants_close(r);
    int err = stream_lookup(r, r->path, &info);
    if (err == 0) err = get_producer(w, s, p);
    if (err == 0) err = get_seq(r, s, p);
    if (err == 0) err = get_expect(r, s, p);
    if (err != 0) return err;
    if (r->body.n == 0) return s->close ? 0 : problem_set(p, ERR_EMPTY_APPEND, -1, "an append has a body, or Stream-Closed: true");
    err = get_type(r, &s->type, p);
    if (err == 0 && s->type.n == 0) err = problem_set(p, ERR_BAD_REQUEST, -1, "an append needs a Content-Type");
    if (err == 0) err = get_data(w, stream_type_is_json(s->type), s, p);
    if (err == 0 && s->data.n == 0) err = problem_set(p, ERR_EMPTY_APPEND, -1, "an empty array appends nothing");
    return err;
}

static int drop(struct write *w, struct batch_stream *s, struct problem *p)
{
    struct stream_info info;
    (void)s;
    w->kind = BATCH_DROP;
    int err = stream_lookup(w->r, w->r->path, &info);
    return err == 0 ? refuse_match(w->r, p) : err;
}

static int trim(struct write *w, struct batch_stream *s, struct problem *p)
{
    struct request *r = w->r;
    struct stream_info info;
    struct span before, type = SPAN_NONE;
    w->kind = BATCH_TRIM;
    s->close = wants_close(r);
    int err = stream_lookup(r, r->path, &info);
    if (err == 0) err = refuse_match(r, p);
    if (err == 0) err = get_type(r, &type, p);
    if (err != 0) return err;
    if (!request_header(r, "stream-trim-before", &before)) return problem_set(p, ERR_BAD_REQUEST, -1, "a change of a stream needs Stream-Trim-Before");
    s->to_tail = span_is(before, "tail");
    s->has_expect = !s->to_tail;
    if (!s->to_tail && stream_offset_parse(before, &s->expect) != 0) return problem_set(p, ERR_BAD_OFFSET, -1, "Stream-Trim-Before is an offset or \"tail\"");
    if (type.n > 0 && r->body.n > 0 && stream_type_is_json(type) != info.json)
        return problem_set(p, ERR_CONTENT_TYPE_MISMATCH, -1, "a snapshot has the stream's type, %s", info.type);
    return get_data(w, info.json, s, p);
}

static int write_submit(struct write *w)
{
    struct request *r = w->r;
    w->submission = (struct submission){.identity = r->identity, .request = buf_span(&w->encoded), .done = on_fate};
    stream_care_flush(server_care(r->server, r->app));
    int err = app_submit(r->app, &w->submission);
    w->submitted = err == 0;
    return err;
}

static void write_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct batch_stream s = {.path = r->path};
    struct write *w = calloc(1, sizeof *w);
    int err = w == NULL ? ERR_NOMEM : app_txn(r->app) == NULL ? ERR_BUSY : 0;
    r->data = w;
    if (w != NULL) w->r = r;
    if (err == 0 && r->path.n > STREAM_PATH_MAX) err = problem_set(&p, ERR_URI_TOO_LONG, -1, "a stream's path has at most %d bytes", STREAM_PATH_MAX);
    if (err == 0) err = r->method == METHOD_PUT ? create(w, &s, &p) : r->method == METHOD_POST ? append(w, &s, &p) : r->method == METHOD_PATCH ? trim(w, &s, &p) : drop(w, &s, &p);
    if (err == 0) err = put_op(w, &s);
    if (err == 0) err = write_submit(w);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    stream_reply_problem(r, &p, w != NULL ? w->pseq : 0);
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
const struct handler api_stream_patch = {.begin = write_begin, .done = write_done, .body_max = STREAM_SNAPSHOT_MAX};
const struct handler api_stream_delete = {.begin = write_begin, .done = write_done, .body_max = 0};
