// /apps/<app>/uploads: resumable uploads as tus 1.0.0 has them (PROTOCOL.md, "uploads"): creating, looking, ending. PATCH is in
// api_upload_patch.c. What an upload is, is state of the blob store; everything here that changes it is a batch.
//
//   POST    ─> batch (create; of nothing: create and complete) ─> 201
//   HEAD    ─> hold (a PATCH under way saves what it has) ─> 200
//   DELETE  ─> hold ─> batch (drop) ─> 204
#include "api_upload.h"

#include <stdlib.h>

#include "err.h"

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

int upload_path_id(struct request *r, struct uuid *id, struct problem *p)
{
    int err = tus_check_version(upload_field(r, "tus-resumable"), p);
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
    if (p->err == ERR_TUS_VERSION) r->fields = FIELDS_TUS "Tus-Version: " TUS_SPOKEN "\r\n";
    reply_problem(r, p);
}

void upload_reply_start(struct request *r, int status, uint64_t offset, const struct sha256 *digest, uint64_t seq)
{
    char hex[SHA256_HEX];
    reply_start(r, status);
    reply_header(r, "Upload-Offset", "%llu", (unsigned long long)offset);
    reply_header(r, "Cache-Control", "no-store");
    if (seq > 0) reply_header(r, "Segue-Seq", "%llu", (unsigned long long)seq);
    if (digest == NULL) return;
    hex_format(hex, SPAN(digest->b, SHA256_BYTES));
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

// A POST, HEAD or DELETE under way.
struct call {
    struct submission submission; // first
    struct hold hold;
    struct request *r; // NULL once the peer is gone
    struct uuid id;
    struct buf batch;
    bool submitted; // and not answered
    bool empty;     // a POST of an upload without bytes
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
    c->submission = (struct submission){.identity = c->r->identity, .request = buf_span(&c->batch), .done = done};
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

// ---- POST ----------------------------------------------------------------------------------------------------------

static void on_created(struct submission *s, const struct fate *f)
{
    struct call *c = (struct call *)s;
    struct request *r = c->r;
    c->submitted = false;
    if (r == NULL) {
        call_free_when_done(c);
        return;
    }
    if (f->err != 0) {
        reply_fate_problem(r, f);
        return;
    }
    char id[UUID_TEXT];
    struct sha256 nothing = sha256_of(SPAN_NONE);
    uuid_format(c->id, id);
    upload_reply_start(r, 201, 0, c->empty ? &nothing : NULL, f->seq);
    reply_header(r, "Location", "/apps/%s/uploads/%.36s", app_name(r->app), id);
    reply_body(r, NULL, SPAN_NONE);
}

// What the upload belongs to, for those who ask later: the kind of identity and its name.
static struct span owner_of(const struct identity *who, uint8_t room[UPLOAD_OWNER_MAX])
{
    size_t n = strlen(who->name);
    room[0] = (uint8_t)who->kind;
    memcpy(room + 1, who->name, n);
    return SPAN(room, n + 1);
}
_Static_assert(sizeof((struct identity *)0)->name < UPLOAD_OWNER_MAX, "an identity fits");

// A link is written by the batch that completes the upload: whoever may not write one may not have it written.
static int read_link(struct request *r, struct span *link, struct problem *p)
{
    struct tus_link to;
    *link = upload_field(r, "segue-link");
    if (link->p == NULL) return 0;
    if (link->n > UPLOAD_LINK_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "Segue-Link is table/id/column");
    int err = tus_link(*link, &to, p);
    return err != 0 ? err : may(server_auth(r->server), &r->identity, MAY_WRITE_BATCH, SPAN_STR(app_name(r->app)), to.table);
}

static int create(struct request *r, struct call *c, struct problem *p)
{
    char type[STREAM_TYPE_MAX + 1];
    uint8_t owner[UPLOAD_OWNER_MAX];
    struct upload_new make = {.owner = owner_of(&r->identity, owner), .metadata = upload_field(r, "upload-metadata")};
    int err = tus_check_version(upload_field(r, "tus-resumable"), p);
    if (err == 0) err = tus_length(upload_field(r, "upload-length"), upload_field(r, "upload-defer-length"), &make.length, p);
    if (err == 0) err = tus_metadata(make.metadata, type, p);
    if (err == 0) err = read_link(r, &make.link, p);
    if (err == 0) err = upload_may_write(r->app);
    if (err != 0) return err;
    if (blobs_uploads_open(app_blobs(r->app), app_txn(r->app)) >= UPLOADS_OPEN_MAX)
        return problem_set(p, ERR_TOO_MANY, -1, "%d uploads of this app are not done", UPLOADS_OPEN_MAX);
    make.type = SPAN_STR(type);
    c->id = uuid_new();
    c->empty = make.length == 0;
    struct buf op;
    buf_init(&op, OP_MAX);
    blobs_upload_put_create(&op, c->id, &make);
    put_op(c, &op);
    if (c->empty) {
        struct sha256 nothing = sha256_of(SPAN_NONE);
        blobs_upload_put_complete(&op, c->id, &nothing);
        put_op(c, &op);
        upload_put_link(&c->batch, make.link, &nothing);
    }
    buf_free(&op);
    return call_submit(c, on_created);
}

static void post_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct call *c = call_new(r);
    int err = c == NULL ? ERR_NOMEM : create(r, c, &p);
    if (err != 0) upload_reply_problem(r, &p, err);
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

static void reply_info(struct request *r, const struct upload_info *info)
{
    char text[UPLOAD_METADATA_MAX + 1];
    upload_reply_start(r, 200, info->offset, info->state == UPLOAD_DONE ? &info->digest : NULL, 0);
    reply_header(r, "Upload-Length", "%llu", (unsigned long long)info->made.length);
    memcpy(text, info->made.metadata.p, info->made.metadata.n);
    text[info->made.metadata.n] = 0;
    if (text[0] != 0) reply_header(r, "Upload-Metadata", "%s", text);
    reply_body(r, NULL, SPAN_NONE);
}

static void on_head_grant(struct hold *h)
{
    struct call *c = call_of(h);
    struct request *r = c->r;
    struct problem p = PROBLEM_NONE;
    struct upload_info info;
    if (app_txn(r->app) == NULL)
        upload_reply_problem(r, &p, ERR_BUSY);
    else if (!blobs_upload_find(app_blobs(r->app), app_txn(r->app), c->id, &info))
        upload_reply_problem(r, &p, ERR_NO_SUCH_UPLOAD);
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
    if (err != 0) return err;
    if (!blobs_upload_find(app_blobs(a), app_txn(a), c->id, &info)) return ERR_NO_SUCH_UPLOAD;
    struct buf op;
    buf_init(&op, OP_MAX);
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
    reply_header(r, "Tus-Extension", "creation,termination");
    reply_header(r, "Tus-Max-Size", "%llu", (unsigned long long)BLOB_BYTES_MAX);
}

const char upload_fields[] = FIELDS_TUS;
const struct handler api_upload_post = {.begin = post_begin, .done = call_done, .body_max = 0};
const struct handler api_upload_head = {.begin = head_begin, .done = call_done, .body_max = 0};
const struct handler api_upload_delete = {.begin = delete_begin, .done = call_done, .body_max = 0};
