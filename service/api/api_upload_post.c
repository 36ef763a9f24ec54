// POST /apps/<app>/uploads: an upload is made: of a length or none yet, with its first bytes in the same batch where the request brings some, or of
// others, which need not be done yet.
//
//   POST                       ─> batch (create; of nothing: create and complete) ─> 201
//   POST with bytes            ─> the engine ─> batch (create, progress, complete) ─> 201
//   POST of parts              ─> batch (create) ─> 201, and its joining goes on by itself
#include <stdlib.h>

#include "api_upload.h"
#include "err.h"
#include "file.h"
#include "upload_care.h"

#define OP_MAX (UPLOAD_METADATA_MAX + UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES + 4 * KIB)

// A POST without bytes under way.
struct post {
    struct upload_call call;      // first: it has no intake
    struct submission submission;
    struct buf batch;
    struct intake_state state;
    bool joined;
    bool submitted; // and not answered
};

// What an upload is made with, and the room for its spans.
struct making {
    struct upload_new make;
    char type[STREAM_TYPE_MAX + 1];
    uint8_t owner[UPLOAD_OWNER_MAX];
    struct buf parts;
    uint64_t length; // of the parts, as far as it is known
    bool unfinished; // one of them is not done
};

// ---- reading what is asked for -------------------------------------------------------------------------------------

struct span upload_owner(const struct identity *who, uint8_t room[UPLOAD_OWNER_MAX])
{
    size_t n = strlen(who->name);
    room[0] = (uint8_t)who->kind;
    memcpy(room + 1, who->name, n);
    return SPAN(room, n + 1);
}
_Static_assert(sizeof((struct identity *)0)->name < UPLOAD_OWNER_MAX, "an identity fits");

// A link is written by the batch that completes the upload: whoever may not write one may not have it written.
int upload_read_link(struct request *r, struct span *link, struct problem *p)
{
    struct tus_link to;
    *link = upload_field(r, "segue-link");
    if (link->p == NULL) return 0;
    if (link->n > UPLOAD_LINK_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "Segue-Link is table/id/column");
    int err = tus_link(*link, &to, p);
    return err != 0 ? err : may(server_auth(r->server), &r->identity, MAY_WRITE_BATCH, SPAN_STR(app_name(r->app)), to.table);
}

static int add_part(struct request *r, struct uuid id, struct making *m, struct problem *p)
{
    struct upload_info part;
    if (!blobs_upload_find(app_blobs(r->app), app_txn(r->app), id, &part)) return ERR_NO_SUCH_UPLOAD;
    if (part.made.kind != UPLOAD_PARTIAL) return problem_set(p, ERR_BAD_REQUEST, -1, "a part was not made with Upload-Concat: partial");
    if (blobs_upload_past(&part, clock_wall_ms())) return ERR_UPLOAD_EXPIRED;
    if (m->parts.n == m->parts.max) return problem_set(p, ERR_TOO_LARGE, -1, "an upload may have %d parts", UPLOAD_PARTS_MAX);
    bool done = part.state == UPLOAD_DONE;
    m->length += done || part.made.length == UPLOAD_LENGTH_UNKNOWN ? part.offset : part.made.length;
    m->unfinished = m->unfinished || !done;
    if (m->length > BLOB_BYTES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "the parts are longer than an upload may be");
    buf_put(&m->parts, id.b, sizeof id.b);
    buf_put(&m->parts, part.digest.b, sizeof part.digest.b);
    return m->parts.err;
}

static int read_parts(struct request *r, struct tus_concat *c, struct making *m, struct problem *p)
{
    char base[NAME_MAX_BYTES + 32];
    struct uuid id;
    int found;
    size_t n = (size_t)snprintf(base, sizeof base, "/apps/%s/uploads", app_name(r->app));
    m->make.kind = UPLOAD_JOINED;
    while ((found = tus_concat_next(c, SPAN(base, n), &id, p)) > 0) {
        int err = add_part(r, id, m, p);
        if (err != 0) return err;
    }
    m->make.parts = buf_span(&m->parts);
    m->make.length = m->unfinished ? UPLOAD_LENGTH_UNKNOWN : m->length;
    return found;
}

static int read_length(struct request *r, struct making *m, struct problem *p)
{
    struct tus_concat concat = {0};
    struct span length = upload_field(r, "upload-length"), defer = upload_field(r, "upload-defer-length"), text = upload_field(r, "upload-concat");
    int err = text.p != NULL ? tus_concat(text, &concat, p) : 0;
    if (err != 0) return err;
    if (concat.final && (length.p != NULL || defer.p != NULL)) return problem_set(p, ERR_BAD_REQUEST, -1, "the length of an upload of parts is theirs");
    if (concat.final) return read_parts(r, &concat, m, p);
    if (text.p != NULL) m->make.kind = UPLOAD_PARTIAL;
    return tus_length(length, defer, &m->make.length, p);
}

int upload_has_room(struct app *a, struct problem *p)
{
    if (blobs_uploads_open(app_blobs(a), app_txn(a), false) < UPLOADS_OPEN_MAX) return 0;
    return problem_set(p, ERR_TOO_MANY, -1, "%d uploads of this app are not done", UPLOADS_OPEN_MAX);
}

static int read_making(struct request *r, struct making *m, struct problem *p)
{
    *m = (struct making){.make.ttl_ms = server_uploads(r->server, r->app)->ttl_ms};
    buf_init(&m->parts, UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES);
    m->make.owner = upload_owner(&r->identity, m->owner);
    m->make.metadata = upload_field(r, "upload-metadata");
    int err = tus_check_version(upload_field(r, "tus-resumable"), p);
    if (err == 0) err = tus_metadata(m->make.metadata, m->type, p);
    if (err == 0) err = upload_may_write(r->app);
    if (err == 0) err = read_length(r, m, p);
    if (err == 0) err = upload_read_link(r, &m->make.link, p);
    if (err != 0) return err;
    m->make.type = SPAN_STR(m->type);
    return upload_has_room(r->app, p);
}

// ---- one batch, then an answer ---------------------------------------------------------------------------------------

static void post_free_when_done(struct post *c)
{
    if (c->call.r != NULL || c->submitted) return;
    buf_free(&c->batch);
    free(c);
}

static void reply_created(struct post *c, uint64_t seq)
{
    struct request *r = c->call.r;
    c->state.seq = seq;
    upload_reply_state(r, 201, &c->state);
    upload_reply_location(r, c->call.id);
    reply_body(r, NULL, SPAN_NONE);
}

static void on_created(struct submission *s, const struct fate *f)
{
    struct post *c = (struct post *)((char *)s - offsetof(struct post, submission));
    struct request *r = c->call.r;
    c->submitted = false;
    if (r == NULL) {
        post_free_when_done(c);
        return;
    }
    if (f->err != 0) {
        reply_fate_problem(r, f);
        return;
    }
    if (c->joined) upload_care_join(server_uploads(r->server, r->app), c->call.id);
    reply_created(c, f->seq);
}

static void put_op(struct post *c, struct buf *op)
{
    if (op->err == 0)
        upload_put_op(&c->batch, buf_span(op));
    else
        c->batch.err = op->err;
    buf_clear(op);
}

// Of nothing: it is done at once.
static void put_empty(struct post *c, struct buf *op, struct span link)
{
    c->state.done = true;
    c->state.digest = sha256_of(SPAN_NONE);
    blobs_upload_put_complete(op, c->call.id, &c->state.digest);
    put_op(c, op);
    upload_put_link(&c->batch, link, &c->state.digest);
}

static int create(struct request *r, const struct upload_new *make)
{
    struct buf op;
    struct post *c = calloc(1, sizeof *c);
    r->data = c;
    if (c == NULL) return ERR_NOMEM;
    c->call = (struct upload_call){.r = r, .id = uuid_new()};
    c->state = (struct intake_state){.length = make->length, .exists = true};
    c->joined = make->kind == UPLOAD_JOINED && make->length > 0;
    if (c->joined) c->state.offset = UPLOAD_LENGTH_UNKNOWN;
    if (make->ttl_ms > 0 && make->length > 0) c->state.expires_ms = clock_wall_ms() + make->ttl_ms;
    buf_init(&c->batch, 2 * OP_MAX);
    buf_init(&op, OP_MAX);
    blobs_upload_put_create(&op, c->call.id, make);
    put_op(c, &op);
    if (make->length == 0) put_empty(c, &op, make->link);
    buf_free(&op);
    if (c->batch.err != 0) return c->batch.err;
    c->submission = (struct submission){.identity = r->identity, .request = buf_span(&c->batch), .done = on_created};
    int err = app_submit(r->app, &c->submission);
    c->submitted = err == 0;
    return err;
}

static bool has_bytes(const struct request *r)
{
    struct span coding;
    return r->content_length > 0 || request_header(r, "transfer-encoding", &coding);
}

static int post(struct request *r, struct problem *p)
{
    struct making m;
    int err = read_making(r, &m, p);
    if (err == 0 && !has_bytes(r)) {
        err = create(r, &m.make);
    } else if (err == 0 && m.make.kind == UPLOAD_JOINED) {
        err = ERR_UPLOAD_FINAL;
    } else if (err == 0) {
        struct intake_plan plan = {.id = uuid_new(), .make = &m.make};
        err = upload_take_body(r, &plan, p);
    }
    buf_free(&m.parts);
    return err;
}

static void post_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = post(r, &p);
    if (err != 0) upload_reply_problem(r, &p, err);
}

static void post_done(struct request *r)
{
    struct upload_call *c = r->data;
    if (c == NULL) return;
    c->r = NULL;
    if (c->created) {
        intake_leave(c->intake);
        free(c);
    } else {
        post_free_when_done((struct post *)c);
    }
}

const struct handler api_upload_post = {
    .begin = post_begin, .body = upload_body, .body_room = upload_body_room, .body_end = upload_body_end, .done = post_done, .body_max = BLOB_BYTES_MAX};
