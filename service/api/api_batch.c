// POST /apps/<app>/batch: a batch in, its fate out. The reply is the batch's fate, durable; see PROTOCOL.md, "batch".
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "json_write.h"

// A batch on its way. Lives until both its request and its submission are through: a peer that leaves does not take its batch along.
struct call {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    size_t ops;
    bool submitted;
};

static void call_free(struct call *call)
{
    buf_free(&call->encoded);
    free(call);
}

// The offset of a stream that was to be created says that it is new.
static bool is_told(const struct result *r, int kind)
{
    return (int)r->kind == kind || (kind == RESULT_OFFSET && r->kind == RESULT_CREATED && r->created);
}

static void put_results(struct jw *w, const char *key, int kind, size_t ops, struct span results)
{
    struct result r;
    struct span rest = results;
    size_t at = 0;
    bool any = false;
    while (result_read(&rest, &r) > 0)
        any |= is_told(&r, kind);
    if (!any) return;
    jw_key(w, key), jw_array(w);
    for (rest = results; result_read(&rest, &r) > 0;) {
        if (!is_told(&r, kind) || r.op >= ops) continue;
        for (; at < r.op; at++)
            jw_null(w);
        if (kind == RESULT_ID) {
            char id[UUID_TEXT];
            uuid_format(r.id, id);
            jw_str(w, SPAN(id, UUID_TEXT));
        } else {
            jw_uint(w, r.offset);
        }
        at = r.op + 1;
    }
    for (; at < ops; at++)
        jw_null(w);
    jw_end(w);
}

void fate_members(struct jw *w, const struct fate *f, size_t ops)
{
    jw_key(w, "fate"), jw_cstr(w, "accepted");
    jw_key(w, "seq"), jw_uint(w, f->seq);
    if (f->again) jw_key(w, "again"), jw_bool(w, true);
    put_results(w, "ids", RESULT_ID, ops, f->results);
    put_results(w, "offsets", RESULT_OFFSET, ops, f->results);
}

void fate_json(struct buf *out, const struct fate *f, size_t ops)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    fate_members(&w, f, ops);
    jw_end(&w);
}

void fate_conflicts(struct jw *w, const struct fate *f)
{
    static const char *const how[] = {[ROWS_READ_ROW] = "row", [ROWS_READ_RANGE] = "range", [ROWS_READ_TABLE] = "table"};
    struct span rest = f->results;
    struct result r;
    char id[UUID_TEXT];
    jw_array(w);
    while (result_read(&rest, &r) > 0) {
        if (r.kind != RESULT_CONFLICT) continue;
        uuid_format(r.conflict.id, id);
        jw_object(w);
        jw_key(w, "table"), jw_str(w, r.conflict.table);
        jw_key(w, "id"), jw_str(w, SPAN(id, UUID_TEXT));
        jw_key(w, "seq"), jw_uint(w, r.conflict.seq);
        jw_key(w, "read"), jw_cstr(w, how[r.conflict.read]);
        if (r.conflict.index.n > 0) jw_key(w, "index"), jw_str(w, r.conflict.index);
        jw_end(w);
    }
    jw_end(w);
}

void reply_fate_problem(struct request *r, const struct fate *f)
{
    struct buf b;
    buf_init(&b, 64 * KIB);
    buf_put_str(&b, "{");
    problem_members(&b, &f->problem);
    if (f->journaled) buf_put_str(&b, f->again ? ",\"fate\":\"rejected\",\"again\":true" : ",\"fate\":\"rejected\"");
    if (f->err == ERR_CONFLICT) {
        struct jw w;
        buf_put_str(&b, ",\"conflicts\":");
        jw_init(&w, &b);
        fate_conflicts(&w, f);
    }
    if (f->expected != 0) buf_printf(&b, ",\"expected\":%llu", (unsigned long long)f->expected);
    buf_put_str(&b, "}");
    reply_start(r, err_status(f->err));
    reply_body(r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

void reply_fate(struct request *r, const struct fate *f, size_t ops, int status)
{
    if (f->err != 0) {
        reply_fate_problem(r, f);
        return;
    }
    struct buf b;
    buf_init(&b, ENTRY_BYTES_MAX);
    fate_json(&b, f, ops);
    if (b.err != 0) reply_error(r, b.err);
    else reply_json(r, status, &b);
    buf_free(&b);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct call *call = (struct call *)s;
    struct request *r = call->r;
    call->submitted = false;
    if (r == NULL) {
        call_free(call);
        return;
    }
    reply_fate(r, f, call->ops, 200);
}

int batch_name_from_header(struct request *r, struct batch_name *name, struct problem *p)
{
    struct span key;
    if (!request_header(r, "idempotency-key", &key)) return 0;
    if (name->kind != BATCH_UNNAMED) return problem_set(p, ERR_BAD_BATCH, -1, "the batch is named twice: in its body and by Idempotency-Key");
    if (key.n == 0 || key.n > BATCH_KEY_MAX) return problem_set(p, ERR_BAD_BATCH, -1, "Idempotency-Key has 1 to %d bytes", BATCH_KEY_MAX);
    name->kind = BATCH_KEY;
    memcpy(name->key, key.p, key.n);
    name->key[key.n] = '\0';
    return 0;
}

static void batch_begin(struct request *r)
{
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = call;
    call->r = r;
    buf_init(&call->encoded, 2 * BATCH_BYTES_MAX);
    int err = batch_from_json(buf_span(&r->body), &head, &call->encoded, &p);
    if (err == 0) err = batch_name_from_header(r, &head.name, &p);
    if (err == 0) {
        call->ops = head.ops;
        call->submission = (struct submission){.name = head.name, .identity = r->identity, .base = head.base, .stamp = head.stamp, .inserts = head.inserts, .connection = request_connection(r),
                                               .request = buf_span(&call->encoded), .done = on_fate};
        err = app_submit(r->app, &call->submission);
        call->submitted = err == 0;
    }
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void batch_done(struct request *r)
{
    struct call *call = r->data;
    if (call == NULL) return;
    call->r = NULL;
    if (!call->submitted) call_free(call);
}

const struct handler api_batch_post = {.begin = batch_begin, .done = batch_done, .body_max = BATCH_BYTES_MAX};
