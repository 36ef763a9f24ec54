// Resumable Uploads for HTTP, the IETF's draft (PROTOCOL.md, "Resumable Uploads for HTTP"), on the uploads and the engine that tus has: an upload
// that one of them made the other one can go on with. HEAD and DELETE are api_upload.c's; they reply from here.
//
//   POST uploads, POST or PUT blobs ─> the engine: batch (create) ─> 104 Location ─┐
//   PATCH uploads/<id>              ─> the engine ─────────────────────────────────┴─> 104 Upload-Offset … ─> 201, 204
//                                         └─ it can never end well: batch (drop) ─> 400, 413, 422
//
// Only an offset that is durable is told, for the client may forget what lies before it.
#include <stdlib.h>

#include "api_blob.h"
#include "api_upload.h"
#include "base64.h"
#include "err.h"
#include "file.h"
#include "http_select.h"
#include "json_write.h"
#include "rufh.h"

#define TYPES "https://iana.org/assignments/http-problem-types#"

// How a request speaks.
struct tongue {
    unsigned version; // that was said and is spoken; 0: none, so no interim replies
    bool opposite;    // with Upload-Incomplete
    bool says;        // whether the upload is complete with it, too:
    bool complete;
};

// A POST, PUT or PATCH under way.
struct draft {
    struct submission submission; // first: drops an upload that can never end well
    struct request *r;            // NULL once it is gone
    struct intake *intake;
    struct tongue tongue;
    struct uuid id;
    bool made;    // by this request
    bool once;    // and by nobody to be gone on with
    bool begun;   // the body was let in
    bool checked; // it has a digest of its own
    bool has_offset;
    uint64_t offset; // where the client believes the upload to be
    bool submitted;  // and not answered
    struct buf batch;
    struct problem problem; // told when the upload is dropped
};

static struct tongue tongue_of(const struct request *r)
{
    struct span complete = upload_field(r, "upload-complete"), incomplete = upload_field(r, "upload-incomplete");
    struct tongue t = {.version = rufh_version(upload_field(r, "upload-draft-interop-version"))};
    t.opposite = t.version == 3 || (complete.p == NULL && incomplete.p != NULL);
    t.says = rufh_complete(complete, incomplete, &t.complete);
    return t;
}

static bool is_announced(const struct draft *d)
{
    return d->tongue.version > 0 && request_may_upgrade(d->r);
}

// ---- replies -------------------------------------------------------------------------------------------------------

// Empty for versions that have no limits.
#define LIMITS_MAX 96
static void limits(char text[LIMITS_MAX], unsigned version, uint64_t expires_ms)
{
    uint64_t now = clock_wall_ms();
    text[0] = 0;
    if (version == 3 || version == 5) return;
    int n = snprintf(text, LIMITS_MAX, "max-size=%llu", (unsigned long long)BLOB_BYTES_MAX);
    if (expires_ms <= now) return;
    snprintf(text + n, LIMITS_MAX - (size_t)n, ", %s=%llu", version == 6 ? "expires" : "max-age", (unsigned long long)((expires_ms - now) / 1000));
}

static void put_limits(struct request *r, unsigned version, uint64_t expires_ms)
{
    char text[LIMITS_MAX];
    limits(text, version, expires_ms);
    if (text[0] != 0) reply_header(r, "Upload-Limit", "%s", text);
}

static void put_complete(struct request *r, const struct tongue *t, bool complete)
{
    reply_header(r, t->opposite ? "Upload-Incomplete" : "Upload-Complete", complete != t->opposite ? "?1" : "?0");
}

static void put_digest(struct request *r, const struct sha256 *digest)
{
    char hex[SHA256_HEX];
    struct span want = SPAN_NONE;
    struct buf text;
    hex_format(hex, SPAN(digest->b, SHA256_BYTES));
    reply_header(r, "Segue-Blob", "%.64s", hex);
    if (request_header(r, "want-repr-digest", &want) && !http_wants_sha256(want)) return;
    buf_init(&text, 64);
    base64_encode(&text, SPAN(digest->b, SHA256_BYTES));
    if (text.err == 0) reply_header(r, "Repr-Digest", "sha-256=:%.*s:", SPAN_FMT(buf_span(&text)));
    buf_free(&text);
}

// Begins a reply that says where an upload stands.
static void reply_state(struct request *r, const struct tongue *t, int status, const struct intake_state *s)
{
    reply_start(r, status);
    reply_header(r, "Upload-Offset", "%llu", (unsigned long long)s->offset);
    put_complete(r, t, s->done);
    if (!s->done) put_limits(r, t->version, s->expires_ms);
    reply_header(r, "Cache-Control", "no-store");
    if (s->seq > 0) reply_header(r, "Segue-Seq", "%llu", (unsigned long long)s->seq);
    if (s->done) put_digest(r, &s->digest);
}

static struct intake_state state_of_info(const struct upload_info *info)
{
    struct intake_state s = {.offset = info->offset, .length = info->made.length, .exists = true, .done = info->state == UPLOAD_DONE, .digest = info->digest};
    if (info->made.ttl_ms > 0 && !s.done) s.expires_ms = info->changed_ms + info->made.ttl_ms;
    return s;
}

static bool find(const struct request *r, struct uuid id, struct upload_info *info)
{
    return app_txn(r->app) != NULL && blobs_upload_find(app_blobs(r->app), app_txn(r->app), id, info);
}

void draft_reply_info(struct request *r, const struct upload_info *info)
{
    struct tongue t = tongue_of(r);
    struct intake_state s = state_of_info(info);
    reply_state(r, &t, 204, &s);
    if (s.length != UPLOAD_LENGTH_UNKNOWN) reply_header(r, "Upload-Length", "%llu", (unsigned long long)s.length);
    reply_body(r, NULL, SPAN_NONE);
}

// What of a problem the draft has names of its own for.
static const char *type_of(int err)
{
    switch (err) {
    case ERR_UPLOAD_OFFSET: return TYPES "mismatching-upload-offset";
    case ERR_UPLOAD_LENGTH: return TYPES "inconsistent-upload-length";
    case ERR_UPLOAD_COMPLETE: return TYPES "completed-upload";
    default: return "about:blank";
    }
}

// `d` is NULL for a request that has no body. The fields of a state go with it where the upload is there.
static void reply_draft_problem(struct request *r, const struct problem *p, const struct draft *d, const struct intake_state *s)
{
    struct tongue t = tongue_of(r);
    int status = p->err == ERR_CHECKSUM ? 400 : err_status(p->err); // tus alone has 460
    struct buf json;
    buf_init(&json, 4 * KIB);
    buf_put_u8(&json, '{');
    problem_members_typed(&json, p, type_of(p->err), status);
    if (p->err == ERR_UPLOAD_OFFSET && s != NULL) buf_printf(&json, ",\"expected-offset\":%llu,\"provided-offset\":%llu", (unsigned long long)s->offset, (unsigned long long)d->offset);
    buf_put_u8(&json, '}');
    reply_start(r, status);
    if (s != NULL) reply_header(r, "Upload-Offset", "%llu", (unsigned long long)s->offset);
    // A true value would say that this is the answer to the whole.
    put_complete(r, &t, false);
    if ((s != NULL && !s->done) || p->err == ERR_TOO_LARGE) put_limits(r, t.version, s != NULL ? s->expires_ms : 0);
    if (s != NULL && d != NULL && d->made) upload_reply_location(r, d->id);
    if (p->err == ERR_UNSUPPORTED_MEDIA_TYPE) reply_header(r, "Accept-Patch", RUFH_BODY_TYPE);
    if (p->err == ERR_BUSY || p->err == ERR_TOO_MANY || p->err == ERR_SHUTTING_DOWN) reply_header(r, "Retry-After", "1");
    reply_header(r, "Cache-Control", "no-store");
    reply_body(r, "application/problem+json", buf_span(&json));
    buf_free(&json);
}

void draft_reply_problem(struct request *r, struct problem *p)
{
    reply_draft_problem(r, p, NULL, NULL);
}

static void reply_failed(struct draft *d, struct problem *p, int err)
{
    struct upload_info info;
    struct intake_state s;
    problem_set(p, err, -1, "%s", err_text(err));
    bool there = !d->once && find(d->r, d->id, &info) && !blobs_upload_past(&info, clock_wall_ms());
    if (there) s = state_of_info(&info);
    reply_draft_problem(d->r, p, d, there ? &s : NULL);
}

// What the target of the whole upload says; the same again where it was lost on its way.
static void reply_final(struct draft *d, struct intake_state s)
{
    struct upload_info info;
    char hex[SHA256_HEX];
    struct buf b;
    struct jw w;
    bool again = s.seq == 0 && find(d->r, d->id, &info);
    s.offset = s.size;
    if (again) s.seq = info.changed_seq;
    hex_format(hex, SPAN(s.digest.b, SHA256_BYTES));
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "blob"), jw_str(&w, SPAN(hex, SHA256_HEX));
    jw_key(&w, "size"), jw_uint(&w, s.size);
    jw_key(&w, "seq"), jw_uint(&w, s.seq);
    jw_end(&w);
    reply_state(d->r, &d->tongue, s.stored_before ? 200 : 201, &s);
    if (d->made && !d->once) upload_reply_location(d->r, d->id);
    reply_body(d->r, "application/json", buf_span(&b));
    buf_free(&b);
}

// More is to come.
static void reply_kept(struct draft *d, const struct intake_state *s)
{
    bool old = d->tongue.version > 0 && d->tongue.version < 7;
    reply_state(d->r, &d->tongue, d->made || old ? 201 : 204, s);
    if (d->made) upload_reply_location(d->r, d->id);
    reply_body(d->r, NULL, SPAN_NONE);
}

static void interim(struct draft *d, const struct intake_state *s, bool offset)
{
    char id[UUID_TEXT], limit[LIMITS_MAX];
    struct buf b;
    buf_init(&b, KIB);
    buf_printf(&b, "Upload-Draft-Interop-Version: %u\r\n", d->tongue.version);
    if (offset) {
        buf_printf(&b, "Upload-Offset: %llu\r\n", (unsigned long long)s->offset);
    } else {
        uuid_format(d->id, id);
        limits(limit, d->tongue.version, s->expires_ms);
        buf_printf(&b, "Location: /apps/%s/uploads/%.36s\r\n", app_name(d->r->app), id);
        if (limit[0] != 0) buf_printf(&b, "Upload-Limit: %s\r\n", limit);
    }
    if (b.err == 0) reply_interim(d->r, 104, buf_span(&b));
    buf_free(&b);
}

// ---- an upload that can never end well -----------------------------------------------------------------------------

static void free_when_done(struct draft *d)
{
    if (d->r != NULL || d->submitted) return;
    buf_free(&d->batch);
    free(d);
}

static void on_dropped(struct submission *s, const struct fate *f)
{
    struct draft *d = (struct draft *)s;
    (void)f; // whoever dropped it before us did the same
    d->submitted = false;
    if (d->r != NULL) reply_failed(d, &d->problem, d->problem.err);
    free_when_done(d);
}

static bool drop(struct draft *d)
{
    struct buf op;
    if (upload_may_write(d->r->app) != 0) return false;
    buf_init(&op, KIB);
    buf_init(&d->batch, 4 * KIB);
    blobs_upload_put_drop(&op, d->id);
    if (op.err == 0) upload_put_op(&d->batch, buf_span(&op));
    bool ok = op.err == 0 && d->batch.err == 0;
    buf_free(&op);
    d->submission = (struct submission){.identity = d->r->identity, .request = buf_span(&d->batch), .done = on_dropped};
    d->submitted = ok && app_submit(d->r->app, &d->submission) == 0;
    return d->submitted;
}

// The whole is not what it was to be, or is longer.
static bool is_hopeless(const struct draft *d, const struct intake_state *s)
{
    if (!s->exists || s->done || d->once) return false;
    if (s->problem->err == ERR_DIGEST_MISMATCH) return true;
    return s->problem->err == ERR_TOO_LARGE && d->begun && !d->checked;
}

// The engine says "too large" of whatever goes beyond the end.
static void name_problem(struct draft *d, const struct intake_state *s)
{
    int err = d->problem.err;
    if (err != ERR_TOO_LARGE && err != ERR_UPLOAD_LENGTH) return;
    if (s->done) d->problem.err = d->tongue.version == 6 ? ERR_UPLOAD_COMPLETE : ERR_UPLOAD_LENGTH;
    else if (!d->checked && s->length <= BLOB_BYTES_MAX) d->problem.err = ERR_UPLOAD_LENGTH;
}

static void refuse(struct draft *d, const struct intake_state *s)
{
    bool hopeless = is_hopeless(d, s);
    d->problem = *s->problem;
    name_problem(d, s);
    if (hopeless && drop(d)) return;
    reply_failed(d, &d->problem, d->problem.err);
}

// ---- the engine ----------------------------------------------------------------------------------------------------

static void on_begun(void *ctx, const struct intake_state *s)
{
    struct draft *d = ctx;
    d->begun = true;
    if (d->made && !d->once && is_announced(d)) interim(d, s, false);
}

static void on_kept(void *ctx, const struct intake_state *s)
{
    struct draft *d = ctx;
    if (!d->once && d->tongue.version >= 5 && is_announced(d)) interim(d, s, true);
}

static void on_ended(void *ctx, const struct intake_state *s)
{
    struct draft *d = ctx;
    if (s->problem != NULL)
        refuse(d, s);
    else if (s->done)
        reply_final(d, *s);
    else
        reply_kept(d, s);
}

// ---- what is asked for ---------------------------------------------------------------------------------------------

// From both ways in which a length is said.
static int read_length(const struct draft *d, struct intake_plan *plan, struct problem *p)
{
    int64_t body = d->r->content_length;
    bool counted = d->tongue.says && d->tongue.complete && body >= 0;
    plan->has_length = rufh_integer(upload_field(d->r, "upload-length"), &plan->length);
    uint64_t whole = d->offset + (counted ? (uint64_t)body : 0);
    if (plan->has_length && counted && plan->length != whole)
        return problem_set(p, ERR_UPLOAD_LENGTH, -1, "Upload-Length is %llu, and the body ends at %llu", (unsigned long long)plan->length, (unsigned long long)whole);
    if (counted) plan->length = whole;
    plan->has_length = plan->has_length || counted;
    if (!plan->has_length || plan->length <= BLOB_BYTES_MAX) return 0;
    return problem_set(p, ERR_TOO_LARGE, -1, "an upload may have %llu bytes", (unsigned long long)BLOB_BYTES_MAX);
}

// A digest that cannot be understood protects nothing: better that the client knows.
static int read_digests(struct request *r, const char *name, struct rufh_digests *out, struct problem *p)
{
    struct span field = upload_field(r, name);
    *out = (struct rufh_digests){0};
    if (field.p == NULL || rufh_digests(field, out)) return 0;
    return problem_set(p, ERR_BAD_REQUEST, -1, "%s is no list of digests", name);
}

static int begin(struct draft *d, struct intake_plan *plan, struct problem *p)
{
    struct rufh_digests sums;
    int err = read_digests(d->r, "content-digest", &sums, p);
    if (err != 0) return err;
    d->checked = sums.kinds != 0;
    plan->digests = sums.kinds;
    if (d->checked) plan->body_max = UPLOAD_CHECKED_MAX;
    plan->id = d->id;
    plan->end = d->once || d->tongue.complete ? INTAKE_AT_END : INTAKE_NEVER;
    plan->ctx = d;
    plan->begun = on_begun;
    plan->kept = on_kept;
    plan->ended = on_ended;
    err = intake_begin(d->r, plan, &d->intake);
    if (err == 0 && (sums.kinds & DIGEST_SHA256)) intake_expect(d->intake, DIGEST_SHA256, SPAN(sums.sha256, SHA256_BYTES));
    if (err == 0 && (sums.kinds & DIGEST_SHA512)) intake_expect(d->intake, DIGEST_SHA512, SPAN(sums.sha512, DIGEST_BYTES_MAX));
    return err;
}

// ---- creation ------------------------------------------------------------------------------------------------------

// What an upload is made with, and the room for its spans.
struct making {
    struct upload_new make;
    char type[STREAM_TYPE_MAX + 1];
    uint8_t owner[UPLOAD_OWNER_MAX];
    struct buf metadata;
    bool promises;
    struct sha256 promise;
};

// The path of a blob is a promise of what it will be, and Repr-Digest is one, too.
static int read_promise(struct draft *d, struct making *m, struct problem *p)
{
    struct rufh_digests sums;
    int err = read_digests(d->r, "repr-digest", &sums, p);
    if (err != 0) return err;
    m->promises = sums.kinds & DIGEST_SHA256;
    if (m->promises) memcpy(m->promise.b, sums.sha256, SHA256_BYTES);
    if (d->r->method != METHOD_PUT) return 0;
    err = blob_path_digest(d->r, &m->promise, p);
    if (err == 0 && m->promises && memcmp(m->promise.b, sums.sha256, SHA256_BYTES) != 0) err = ERR_DIGEST_MISMATCH;
    m->promises = true;
    return err;
}

// The client's own, as with tus, and the promise: whoever completes the upload keeps it.
static int read_metadata(struct draft *d, struct making *m, struct problem *p)
{
    struct span own = upload_field(d->r, "upload-metadata");
    if (own.p != NULL) buf_put_span(&m->metadata, own);
    if (m->promises) {
        buf_put_str(&m->metadata, own.n > 0 ? "," RUFH_PROMISE_KEY " " : RUFH_PROMISE_KEY " ");
        base64_encode(&m->metadata, SPAN(m->promise.b, SHA256_BYTES));
    }
    if (m->metadata.err != 0) return m->metadata.err;
    m->make.metadata = buf_span(&m->metadata);
    return tus_metadata(m->make.metadata, m->type, p);
}

// There are clients that name the type of a part where they give the first one: it says nothing of the whole.
static int read_type(struct draft *d, struct making *m, struct problem *p)
{
    struct span type = upload_field(d->r, "content-type");
    if (rufh_is_body_type(type)) type = SPAN_NONE;
    if (type.n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    m->make.type = type.n > 0 ? type : SPAN_STR(m->type);
    return 0;
}

static int read_making(struct draft *d, struct making *m, struct problem *p)
{
    m->make = (struct upload_new){.kind = d->once ? UPLOAD_ONCE : UPLOAD_WHOLE, .length = UPLOAD_LENGTH_UNKNOWN};
    m->make.owner = upload_owner(&d->r->identity, m->owner);
    if (!d->once) m->make.ttl_ms = server_uploads(d->r->server, d->r->app)->ttl_ms;
    buf_init(&m->metadata, UPLOAD_METADATA_MAX);
    int err = upload_may_write(d->r->app);
    if (err == 0) err = read_promise(d, m, p);
    if (err == 0) err = read_metadata(d, m, p);
    if (err == 0) err = read_type(d, m, p);
    if (err == 0) err = upload_read_link(d->r, &m->make.link, p);
    if (err == 0 && !d->once) err = upload_has_room(d->r->app, p);
    return err;
}

static bool ends_with(struct span s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

// Below blobs a body is one that nobody goes on with, unless the client says that it would, and can be told where.
static bool is_once(const struct draft *d)
{
    if (d->r->method == METHOD_POST && ends_with(d->r->path, "/uploads")) return false;
    if (upload_field(d->r, "segue-link").p != NULL) return false;
    return !d->tongue.says || (d->tongue.complete && !is_announced(d));
}

static int create(struct draft *d, struct problem *p)
{
    struct making m = {0};
    d->once = is_once(d);
    d->made = true;
    d->id = uuid_new();
    if (!d->once && !d->tongue.says) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Complete is ?1 or ?0");
    struct intake_plan plan = {.make = &m.make, .once = d->once, .make_first = !d->once && is_announced(d)};
    int err = read_making(d, &m, p);
    if (err == 0) err = read_length(d, &plan, p);
    if (err == 0) {
        if (plan.has_length) m.make.length = plan.length;
        plan.has_length = false;
        if (m.promises && (plan.once || d->tongue.complete)) plan.promised = &m.promise;
        err = begin(d, &plan, p);
    }
    buf_free(&m.metadata);
    return err;
}

// ---- appending -------------------------------------------------------------------------------------------------------

static int check_type(const struct draft *d, struct problem *p)
{
    if (d->tongue.version == 3 || d->tongue.version == 5 || rufh_is_body_type(upload_field(d->r, "content-type"))) return 0;
    return problem_set(p, ERR_UNSUPPORTED_MEDIA_TYPE, -1, "the body's type is " RUFH_BODY_TYPE);
}

static bool find_promise(const struct draft *d, const struct rufh_digests *said, struct sha256 *out)
{
    struct upload_info info;
    if (find(d->r, d->id, &info) && rufh_promise(info.made.metadata, out)) return true;
    if ((said->kinds & DIGEST_SHA256) == 0) return false;
    memcpy(out->b, said->sha256, SHA256_BYTES);
    return true;
}

static int append(struct draft *d, struct problem *p)
{
    struct rufh_digests sums;
    struct sha256 promise;
    if (uuid_parse(&d->id, d->r->path) != 0) return ERR_NO_SUCH_UPLOAD;
    d->has_offset = rufh_integer(upload_field(d->r, "upload-offset"), &d->offset);
    if (!d->has_offset) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Offset is a whole number");
    if (!d->tongue.says) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Complete is ?1 or ?0");
    struct intake_plan plan = {.has_offset = true, .offset = d->offset};
    int err = check_type(d, p);
    if (err == 0) err = read_length(d, &plan, p);
    if (err == 0) err = read_digests(d->r, "repr-digest", &sums, p);
    if (err != 0) return err;
    if (d->tongue.complete && find_promise(d, &sums, &promise)) plan.promised = &promise;
    return begin(d, &plan, p);
}

// ---- the route -----------------------------------------------------------------------------------------------------

static void on_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct draft *d = calloc(1, sizeof *d);
    if (d == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = d;
    d->r = r;
    d->tongue = tongue_of(r);
    d->problem = PROBLEM_NONE;
    int err = r->method == METHOD_PATCH ? append(d, &p) : create(d, &p);
    if (err != 0) reply_failed(d, &p, err);
}

static void on_body(struct request *r, struct span piece)
{
    struct draft *d = r->data;
    if (d != NULL) intake_body(d->intake, piece);
}

static uint8_t *on_body_room(struct request *r, size_t *n)
{
    struct draft *d = r->data;
    return d != NULL ? intake_room(d->intake, n) : NULL;
}

static void on_body_end(struct request *r)
{
    struct draft *d = r->data;
    if (d != NULL) intake_body_end(d->intake);
}

static void on_done(struct request *r)
{
    struct draft *d = r->data;
    if (d == NULL) return;
    d->r = NULL;
    intake_leave(d->intake);
    d->intake = NULL;
    free_when_done(d);
}

// Versions before the latest have requests without a body refused where they say what only others say.
int draft_check_bare(const struct request *r, struct problem *p)
{
    struct tongue t = tongue_of(r);
    struct span offset;
    bool old = t.version > 0 && t.version < 7;
    if (!old || (r->method & (METHOD_HEAD | METHOD_DELETE)) == 0) return 0;
    if (!t.says && !request_header(r, "upload-offset", &offset)) return 0;
    return problem_set(p, ERR_BAD_REQUEST, -1, "this request has neither an offset nor an end");
}

void draft_options(struct request *r)
{
    reply_header(r, "Accept-Patch", RUFH_BODY_TYPE);
    put_limits(r, RUFH_LATEST, 0);
}

const struct handler *resumable_handler(const struct request *r, const struct handler *handler)
{
    struct span value;
    if (handler == &api_upload_post || handler == &api_upload_patch) return upload_is_draft(r) ? &api_resumable : handler;
    if (handler != &api_blob_put) return handler;
    return request_header(r, "upload-complete", &value) || request_header(r, "upload-incomplete", &value) ? &api_resumable : handler;
}

// The engine knows the limit, and the reply that has to be given with it.
const struct handler api_resumable = {.begin = on_begin, .body = on_body, .body_room = on_body_room, .body_end = on_body_end, .done = on_done, .body_max = INT64_MAX};
