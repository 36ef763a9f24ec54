// PUT /apps/<app>/blobs/<sha256>: a body that nobody can go on with is taken by the engine of uploads; when all of it is synced and has the
// digest that the path promised, a batch makes it a blob. A small one is that one batch; of a larger one its chunks are committed as they come, so that
// no batch grows with it, under an upload that is dropped where the body breaks.
#include <stdlib.h>

#include "api_blob.h"
#include "err.h"
#include "json_write.h"
#include "upload_intake.h"

struct put {
    struct request *r;
    struct intake *intake;
    struct sha256 promised;
};

static void reply_stored(struct request *r, const struct intake_state *s)
{
    char hex[SHA256_HEX];
    struct buf b;
    struct jw w;
    hex_format(hex, SPAN(s->digest.b, SHA256_BYTES));
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "blob"), jw_str(&w, SPAN(hex, SHA256_HEX));
    jw_key(&w, "size"), jw_uint(&w, s->size);
    jw_key(&w, "seq"), jw_uint(&w, s->seq);
    jw_end(&w);
    reply_json(r, s->stored_before ? 200 : 201, &b);
    buf_free(&b);
}

static void on_ended(void *ctx, const struct intake_state *s)
{
    struct put *u = ctx;
    if (s->problem != NULL) reply_problem(u->r, s->problem);
    else reply_stored(u->r, s);
}

static int put_open(struct request *r, struct problem *p)
{
    struct span type = SPAN_NONE;
    struct put *u = calloc(1, sizeof *u);
    if (u == NULL) return ERR_NOMEM;
    r->data = u;
    u->r = r;
    int err = blob_path_digest(r, &u->promised, p);
    if (err != 0) return err;
    if (request_header(r, "content-type", &type) && type.n > STREAM_TYPE_MAX)
        return problem_set(p, ERR_BAD_REQUEST, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    if (r->content_length > (int64_t)BLOB_BYTES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a blob may have %llu bytes", (unsigned long long)BLOB_BYTES_MAX);
    struct upload_new make = {.kind = UPLOAD_ONCE, .length = UPLOAD_LENGTH_UNKNOWN, .type = type};
    if (r->content_length >= 0) make.length = (uint64_t)r->content_length;
    struct intake_plan plan = {
        .id = uuid_new(), .make = &make, .once = true, .end = INTAKE_AT_END, .promised = &u->promised, .ctx = u, .ended = on_ended};
    return intake_begin(r, &plan, &u->intake);
}

static void put_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = put_open(r, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void put_body(struct request *r, struct span piece)
{
    struct put *u = r->data;
    if (u != NULL) intake_body(u->intake, piece);
}

static uint8_t *put_body_room(struct request *r, size_t *n)
{
    struct put *u = r->data;
    return u != NULL ? intake_room(u->intake, n) : NULL;
}

static void put_body_end(struct request *r)
{
    struct put *u = r->data;
    if (u != NULL) intake_body_end(u->intake);
}

static void put_done(struct request *r)
{
    struct put *u = r->data;
    if (u == NULL) return;
    intake_leave(u->intake);
    free(u);
}

const struct handler api_blob_put = {
    .begin = put_begin, .body = put_body, .body_room = put_body_room, .body_end = put_body_end, .done = put_done, .body_max = BLOB_BYTES_MAX};
