// PATCH /apps/<app>/uploads/<id>, and the body of a POST that makes one: what tus says about a body, around the engine that takes it.
#include <stdlib.h>

#include "api_upload.h"
#include "err.h"

static void put_location(struct request *r, const struct problem *p, void *ctx)
{
    (void)p;
    upload_reply_location(r, *(struct uuid *)ctx);
}

// A client that made an upload is told its address even where its body broke.
static void reply_refused(struct upload_call *c, const struct intake_state *s)
{
    struct problem p = *s->problem;
    if (c->created && s->exists)
        reply_problem_with(c->r, &p, err_status(p.err), put_location, &c->id);
    else
        upload_reply_problem(c->r, &p, p.err);
}

static void on_ended(void *ctx, const struct intake_state *s)
{
    struct upload_call *c = ctx;
    if (s->problem != NULL) {
        reply_refused(c, s);
        return;
    }
    upload_reply_state(c->r, c->created ? 201 : 204, s);
    if (c->created) upload_reply_location(c->r, c->id);
    reply_body(c->r, NULL, SPAN_NONE);
}

static int read_checksum(struct request *r, struct intake_plan *plan, struct tus_checksum *sum, bool *trailer, struct problem *p)
{
    struct span field = upload_field(r, "upload-checksum");
    sum->n = 0;
    *trailer = field.p == NULL && tus_lists(upload_field(r, "trailer"), "upload-checksum");
    int err = field.p != NULL ? tus_checksum(field, sum, p) : 0;
    if (field.p != NULL) plan->digests = sum->kind;
    if (*trailer) plan->digests = DIGEST_SHA1 | DIGEST_SHA256;
    if (plan->digests != 0) plan->body_max = UPLOAD_CHECKED_MAX;
    return err;
}

int upload_take_body(struct request *r, struct intake_plan *plan, struct problem *p)
{
    struct tus_checksum sum;
    bool trailer;
    int err = tus_check_type(upload_field(r, "content-type"), p);
    if (err == 0) err = read_checksum(r, plan, &sum, &trailer, p);
    if (err != 0) return err;
    struct upload_call *c = calloc(1, sizeof *c);
    if (c == NULL) return ERR_NOMEM;
    *c = (struct upload_call){.r = r, .id = plan->id, .created = plan->make != NULL, .trailer = trailer};
    r->data = c;
    plan->end = INTAKE_AT_LENGTH;
    plan->ctx = c;
    plan->ended = on_ended;
    err = intake_begin(r, plan, &c->intake);
    if (err == 0 && sum.n > 0) intake_expect(c->intake, sum.kind, SPAN(sum.value, sum.n));
    return err;
}

void upload_body(struct request *r, struct span piece)
{
    struct upload_call *c = r->data;
    if (c != NULL) intake_body(c->intake, piece);
}

uint8_t *upload_body_room(struct request *r, size_t *n)
{
    struct upload_call *c = r->data;
    return c != NULL ? intake_room(c->intake, n) : NULL;
}

static int expect_trailer(struct upload_call *c)
{
    struct tus_checksum sum;
    struct span value;
    struct problem p = PROBLEM_NONE;
    if (!request_trailer(c->r, "upload-checksum", &value)) return ERR_BAD_REQUEST;
    int err = tus_checksum(value, &sum, &p);
    if (err == 0) intake_expect(c->intake, sum.kind, SPAN(sum.value, sum.n));
    return err;
}

void upload_body_end(struct request *r)
{
    struct upload_call *c = r->data;
    if (c == NULL || c->intake == NULL) return;
    int err = c->trailer ? expect_trailer(c) : 0;
    if (err != 0) intake_stop(c->intake, err);
    else intake_body_end(c->intake);
}

// ---- PATCH -------------------------------------------------------------------------------------------------------------

static int patch(struct request *r, struct problem *p)
{
    struct intake_plan plan = {.has_offset = true};
    struct span length = upload_field(r, "upload-length");
    int err = upload_path_id(r, &plan.id, p);
    if (err == 0) err = tus_check_type(upload_field(r, "content-type"), p);
    if (err == 0) err = tus_number(upload_field(r, "upload-offset"), "Upload-Offset", &plan.offset, p);
    if (err == 0 && length.p != NULL) {
        plan.has_length = true;
        err = tus_length(length, SPAN_NONE, &plan.length, p);
    }
    return err != 0 ? err : upload_take_body(r, &plan, p);
}

static void patch_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = patch(r, &p);
    if (err != 0) upload_reply_problem(r, &p, err);
}

static void patch_done(struct request *r)
{
    struct upload_call *c = r->data;
    if (c == NULL) return;
    intake_leave(c->intake);
    free(c);
}

const struct handler api_upload_patch = {
    .begin = patch_begin, .body = upload_body, .body_room = upload_body_room, .body_end = upload_body_end, .done = patch_done, .body_max = BLOB_BYTES_MAX};
