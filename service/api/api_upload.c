// /apps/<app>/uploads: resumable uploads as tus 1.0.0 has them (PROTOCOL.md, "uploads"): looking, ending, and what all of it shares. POST
// is in api_upload_post.c, PATCH in api_upload_patch.c. What an upload is, is state of the blob store; everything here that changes it is a batch.
//
//   HEAD    ─> hold (a PATCH under way saves what it has) ─> 200
//   DELETE  ─> hold ─> batch (drop) ─> 204
#include "api_upload.h"

#include <stdlib.h>

#include "err.h"
#include "file.h"

#define OP_MAX (UPLOAD_METADATA_MAX + 4 * KIB)

// The route's own line, and for those who speak another version, which one is spoken.
#define FIELDS_TUS "Tus-Resumable: " TUS_SPOKEN "\r\n"

// ---- what both halves use ----------------------------------------------------------------------------------------

struct span upload_field(const struct request *r, const char *name)
{
    struct span value;
    if (!request_header(r, name, &value)) return SPAN_NONE;
    return value.p != NULL ? value : SPAN_LIT("");
}

bool upload_is_draft(const struct request *r)
{
    struct span value;
    if (request_header(r, "tus-resumable", &value)) return false;
    if ((r->method & (METHOD_POST | METHOD_PUT | METHOD_PATCH)) == 0) return true;
    return request_header(r, "upload-complete", &value) || request_header(r, "upload-incomplete", &value) || request_header(r, "upload-draft-interop-version", &value);
}

int upload_path_id(struct request *r, struct uuid *id, struct problem *p)
{
    int err = upload_is_draft(r) ? draft_check_bare(r, p) : tus_check_version(upload_field(r, "tus-resumable"), p);
    if (err != 0) return err;
    return uuid_parse(id, r->path) == 0 ? 0 : ERR_NO_SUCH_UPLOAD;
}

int upload_may_write(struct app *a)
{
    if (app_txn(a) == NULL) return ERR_BUSY;
    if (app_state(a) == APP_FULL) return ERR_NO_SPACE;
    return app_state(a) == APP_READ_ONLY ? ERR_READ_ONLY : 0;
}

void upload_reply_problem(struct request *r, struct problem *p, int err)
{
    problem_set(p, err, -1, "%s", err_text(err));
    if (upload_is_draft(r)) {
        draft_reply_problem(r, p);
        return;
    }
    if (p->err == ERR_TUS_VERSION) r->fields = FIELDS_TUS "Tus-Version: " TUS_SPOKEN "\r\n";
    reply_problem(r, p);
}

void upload_reply_location(struct request *r, struct uuid id)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    reply_header(r, "Location", "/apps/%s/uploads/%.36s", app_name(r->app), text);
}

void upload_reply_state(struct request *r, int status, const struct intake_state *s)
{
    char hex[SHA256_HEX], date[HTTP_DATE];
    reply_start(r, status);
    if (s->offset != UPLOAD_LENGTH_UNKNOWN) reply_header(r, "Upload-Offset", "%llu", (unsigned long long)s->offset);
    reply_header(r, "Cache-Control", "no-store");
    if (s->seq > 0) reply_header(r, "Segue-Seq", "%llu", (unsigned long long)s->seq);
    if (s->expires_ms > 0) {
        http_date(s->expires_ms, date);
        reply_header(r, "Upload-Expires", "%s", date);
    }
    if (!s->done) return;
    hex_format(hex, SPAN(s->digest.b, SHA256_BYTES));
    reply_header(r, "Segue-Blob", "%.64s", hex);
}

void upload_put_op(struct buf *batch, struct span op)
{
    batch_put_op(batch, &(struct batch_op){.kind = BATCH_UPLOAD, .upload = op});
}

// The link is kept as it was given and checked: table/id/column.
void upload_put_link(struct buf *batch, struct span link, const struct sha256 *digest)
{
    struct tus_link to;
    char json[16 + SHA256_HEX] = "{\"blob\":\"";
    if (link.n == 0 || tus_link(link, &to, NULL) != 0) return;
    size_t n = strlen(json);
    hex_format(json + n, SPAN(digest->b, SHA256_BYTES));
    memcpy(json + n + SHA256_HEX, "\"}", 2);
    struct row_column column = {.name = to.column, .value = {.kind = ROW_JSON, .s = SPAN(json, n + SHA256_HEX + 2)}};
    struct row_op row = {.kind = ROW_UPDATE, .table = to.table, .has_id = true, .id = to.id, .columns = &column, .column_count = 1};
    batch_put_op(batch, &(struct batch_op){.kind = BATCH_UPDATE, .row = row});
}

// ---- one batch, then an answer -----------------------------------------------------------------------------------

// A HEAD or DELETE under way.
struct call {
    struct submission submission; // first
    struct hold hold;
    struct request *r; // NULL once the peer is gone
    struct uuid id;
    struct buf batch;
    bool submitted; // and not answered
    bool frees;     // a full disk does not refuse it
};

static struct call *call_new(struct request *r)
{
    struct call *c = calloc(1, sizeof *c);
    r->data = c;
    if (c == NULL) return NULL;
    c->r = r;
    buf_init(&c->batch, 2 * OP_MAX);
    return c;
}

static void call_free_when_done(struct call *c)
{
    if (c->r != NULL || c->submitted) return;
    hold_release(&c->hold);
    buf_free(&c->batch);
    free(c);
}

static void call_done(struct request *r)
{
    struct call *c = r->data;
    if (c == NULL) return;
    c->r = NULL;
    call_free_when_done(c);
}

static int call_submit(struct call *c, void (*done)(struct submission *s, const struct fate *f))
{
    if (c->batch.err != 0) return c->batch.err;
    c->submission = (struct submission){.identity = c->r->identity, .request = buf_span(&c->batch), .frees = c->frees, .done = done};
    int err = app_submit(c->r->app, &c->submission);
    c->submitted = err == 0;
    return err;
}

static void put_op(struct call *c, struct buf *op)
{
    if (op->err == 0)
        upload_put_op(&c->batch, buf_span(op));
    else
        c->batch.err = op->err;
    buf_clear(op);
}

// ---- HEAD ----------------------------------------------------------------------------------------------------------

static struct call *call_of(struct hold *h)
{
    return (struct call *)((char *)h - offsetof(struct call, hold));
}

// Whoever has it for the moment of an answer or of one batch is at its end already.
static void on_stop(struct hold *h)
{
    (void)h;
}

// What it was made of, as its maker said it.
static void put_concat(struct request *r, const struct upload_new *made)
{
    struct buf list;
    if (made->kind == UPLOAD_PARTIAL) reply_header(r, "Upload-Concat", "partial");
    if (made->kind != UPLOAD_JOINED) return;
    buf_init(&list, 64 * KIB);
    for (size_t at = 0; at < made->parts.n; at += UPLOAD_PART_BYTES) {
        struct uuid id;
        char text[UUID_TEXT];
        memcpy(id.b, made->parts.p + at, sizeof id.b);
        uuid_format(id, text);
        buf_put_str(&list, at > 0 ? " /apps/" : "/apps/");
        buf_put_str(&list, app_name(r->app));
        buf_put_str(&list, "/uploads/");
        buf_put(&list, text, sizeof text);
    }
    if (list.err == 0) reply_header(r, "Upload-Concat", "final;%.*s", SPAN_FMT(buf_span(&list)));
    buf_free(&list);
}

bool upload_parts_length(struct app *a, struct span parts, uint64_t *out)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < parts.n; at += UPLOAD_PART_BYTES) {
        struct upload_info part;
        struct uuid id;
        memcpy(id.b, parts.p + at, sizeof id.b);
        if (!blobs_upload_find(app_blobs(a), app_txn(a), id, &part) || part.made.length == UPLOAD_LENGTH_UNKNOWN) return false;
        sum += part.made.length;
    }
    *out = sum;
    return true;
}

// As soon as it is known, and of an upload of parts that is before they are done.
static void put_length(struct request *r, const struct upload_new *made)
{
    uint64_t length = made->length;
    bool known = length != UPLOAD_LENGTH_UNKNOWN;
    if (!known && made->kind == UPLOAD_JOINED) known = upload_parts_length(r->app, made->parts, &length);
    if (known) reply_header(r, "Upload-Length", "%llu", (unsigned long long)length);
    else if (made->kind != UPLOAD_JOINED) reply_header(r, "Upload-Defer-Length", "1");
}

static void reply_info(struct request *r, const struct upload_info *info)
{
    if (upload_is_draft(r)) {
        draft_reply_info(r, info);
        return;
    }
    struct intake_state s = {.offset = info->offset, .done = info->state == UPLOAD_DONE, .digest = info->digest};
    if (info->made.kind == UPLOAD_JOINED && !s.done) s.offset = UPLOAD_LENGTH_UNKNOWN; // tus has it told when it is done only
    if (info->made.ttl_ms > 0 && !s.done) s.expires_ms = info->changed_ms + info->made.ttl_ms;
    upload_reply_state(r, 200, &s);
    put_length(r, &info->made);
    if (info->made.metadata.n > 0) reply_header(r, "Upload-Metadata", "%.*s", SPAN_FMT(info->made.metadata));
    put_concat(r, &info->made);
    reply_body(r, NULL, SPAN_NONE);
}

// ERR_NO_SUCH_UPLOAD, ERR_UPLOAD_EXPIRED, ERR_BUSY.
static int find(struct app *a, struct uuid id, struct upload_info *info)
{
    if (app_txn(a) == NULL) return ERR_BUSY;
    if (!blobs_upload_find(app_blobs(a), app_txn(a), id, info)) return ERR_NO_SUCH_UPLOAD;
    return blobs_upload_past(info, clock_wall_ms()) ? ERR_UPLOAD_EXPIRED : 0;
}

static void on_head_grant(struct hold *h)
{
    struct call *c = call_of(h);
    struct request *r = c->r;
    struct problem p = PROBLEM_NONE;
    struct upload_info info;
    int err = find(r->app, c->id, &info);
    if (err != 0)
        upload_reply_problem(r, &p, err);
    else
        reply_info(r, &info);
    hold_release(h);
}

static void take(struct request *r, void (*grant)(struct hold *h))
{
    struct problem p = PROBLEM_NONE;
    struct call *c = call_new(r);
    int err = c == NULL ? ERR_NOMEM : upload_path_id(r, &c->id, &p);
    if (err != 0) {
        upload_reply_problem(r, &p, err);
        return;
    }
    struct upload_info info;
    if (grant == on_head_grant && find(r->app, c->id, &info) == 0 && info.made.kind == UPLOAD_JOINED) {
        reply_info(r, &info); // whoever asks how far it is does not disturb it
        return;
    }
    c->hold.grant = grant;
    c->hold.stop = on_stop;
    hold_take(server_holds(r->server, r->app), &c->hold, c->id);
}

static void head_begin(struct request *r)
{
    take(r, on_head_grant);
}

// ---- DELETE --------------------------------------------------------------------------------------------------------

static void on_dropped(struct submission *s, const struct fate *f)
{
    struct call *c = (struct call *)s;
    struct request *r = c->r;
    c->submitted = false;
    if (r != NULL && f->err != 0) {
        reply_fate_problem(r, f);
    } else if (r != NULL) {
        reply_start(r, 204);
        reply_body(r, NULL, SPAN_NONE);
    }
    hold_release(&c->hold);
    call_free_when_done(c);
}

static int drop(struct call *c)
{
    struct app *a = c->r->app;
    struct upload_info info;
    int err = upload_may_write(a);
    if (err == ERR_NO_SPACE) err = 0; // it makes room
    if (err == 0) err = find(a, c->id, &info);
    if (err != 0) return err;
    struct buf op;
    buf_init(&op, OP_MAX);
    c->frees = true;
    blobs_upload_put_drop(&op, c->id);
    put_op(c, &op);
    buf_free(&op);
    return call_submit(c, on_dropped);
}

static void on_delete_grant(struct hold *h)
{
    struct call *c = call_of(h);
    struct problem p = PROBLEM_NONE;
    int err = drop(c);
    if (err == 0) return;
    upload_reply_problem(c->r, &p, err);
    hold_release(h);
}

static void delete_begin(struct request *r)
{
    take(r, on_delete_grant);
}

// ---- the route -----------------------------------------------------------------------------------------------------

void upload_options(struct request *r)
{
    reply_header(r, "Tus-Version", TUS_SPOKEN);
    reply_header(r, "Tus-Extension", "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,concatenation,concatenation-unfinished");
    reply_header(r, "Tus-Checksum-Algorithm", TUS_CHECKSUMS);
    reply_header(r, "Tus-Max-Size", "%llu", (unsigned long long)BLOB_BYTES_MAX);
}

const char upload_fields[] = FIELDS_TUS;
const struct handler api_upload_head = {.begin = head_begin, .done = call_done, .body_max = 0};
const struct handler api_upload_delete = {.begin = delete_begin, .done = call_done, .body_max = 0};
