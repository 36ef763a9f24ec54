// GET and PUT /apps/<app>/schema: the schema as it is, and publishing the next one, which is a batch like any other.
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "json_write.h"

struct publication {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    struct sha256 before;
    bool submitted;
};

static void publication_free(struct publication *call)
{
    buf_free(&call->encoded);
    free(call);
}

static void put_hash(struct jw *w, const struct sha256 *hash)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(hash->b, SHA256_BYTES));
    jw_str(w, SPAN(hex, SHA256_HEX));
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct publication *call = (struct publication *)s;
    struct request *r = call->r;
    call->submitted = false;
    if (r == NULL) {
        publication_free(call);
        return;
    }
    if (f->err != 0) {
        reply_fate_problem(r, f);
        return;
    }
    struct buf b;
    struct jw w;
    struct sha256 hash = rows_schema_hash(app_rows(r->app));
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "fate"), jw_cstr(&w, "accepted");
    jw_key(&w, "seq"), jw_uint(&w, f->seq);
    jw_key(&w, "hash"), put_hash(&w, &hash);
    jw_key(&w, "changed"), jw_bool(&w, !sha256_equal(&hash, &call->before));
    jw_end(&w);
    reply_json(r, 200, &b);
    buf_free(&b);
}

static int publish(struct request *r, struct publication *call, struct problem *p)
{
    struct span sql = buf_span(&r->body);
    // What does not parse is an error of its sender, no fate; what parses and does not fit the data is decided like any batch.
    int err = sql.n == 0 ? problem_set(p, ERR_BAD_SQL, 0, "the body is empty; it should be the SQL text of the schema") : rows_schema_check(sql, p);
    if (err != 0) return err;
    buf_init(&call->encoded, SQL_SCHEMA_MAX + KIB);
    batch_put_op(&call->encoded, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = sql});
    if (call->encoded.err != 0) return call->encoded.err;
    call->before = rows_schema_hash(app_rows(r->app));
    call->submission = (struct submission){.identity = r->identity, .request = buf_span(&call->encoded), .done = on_fate};
    err = app_submit(r->app, &call->submission);
    call->submitted = err == 0;
    return err;
}

static void schema_put(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct publication *call = calloc(1, sizeof *call);
    if (call == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = call;
    call->r = r;
    int err = app_txn(r->app) == NULL ? ERR_BUSY : publish(r, call, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void schema_done(struct request *r)
{
    struct publication *call = r->data;
    if (call == NULL) return;
    call->r = NULL;
    if (!call->submitted) publication_free(call);
}

static void schema_get(struct request *r)
{
    struct span accept;
    struct buf b;
    if (app_txn(r->app) == NULL) {
        reply_error(r, ERR_BUSY);
        return;
    }
    buf_init(&b, 8 * SQL_SCHEMA_MAX);
    if (request_header(r, "accept", &accept) && span_is(accept, "application/sql")) {
        rows_schema_sql(app_rows(r->app), &b);
        reply_start(r, b.err == 0 ? 200 : 500);
        reply_body(r, "application/sql; charset=utf-8", buf_span(&b));
    } else {
        rows_schema_json(app_rows(r->app), &b);
        if (b.err != 0) reply_error(r, b.err);
        else reply_json(r, 200, &b);
    }
    buf_free(&b);
}

const struct handler api_schema_get = {.begin = schema_get};
const struct handler api_schema_put = {.begin = schema_put, .done = schema_done, .body_max = SQL_SCHEMA_MAX};
