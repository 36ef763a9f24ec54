// GET and PUT /apps/<app>/schema: the schema as it is or was, and publishing the next one, which is a batch like any other.
// GET /apps/<app>/schemas: all that were published.
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "json_write.h"

#define SCHEMAS_LISTED 1000 // in one answer

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

// ---- reading -------------------------------------------------------------------------------------------------------

// The answer stands in `b`, or there is a problem.
static void answer(struct request *r, struct buf *b, bool json, int err, struct problem *p)
{
    if (err == 0) err = b->err;
    if (err != 0) {
        problem_set(p, err, -1, "%s", err_text(err));
        reply_problem(r, p);
    } else if (json) {
        reply_json(r, 200, b);
    } else {
        reply_start(r, 200);
        reply_may_code(r);
        reply_body(r, "application/sql; charset=utf-8", buf_span(b));
    }
}

// The current schema, or that of ?hash=.
static void schema_get(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct span accept, text;
    struct sha256 hash;
    struct buf b, scratch;
    struct db_txn *txn = app_txn(r->app);
    if (txn == NULL) {
        reply_error(r, ERR_BUSY);
        return;
    }
    bool json = !(request_header(r, "accept", &accept) && span_is(accept, "application/sql"));
    buf_init(&b, 8 * SQL_SCHEMA_MAX);
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "hash", &scratch, &text), err = 0;
    if (found < 0 || (found == 1 && hex_parse(hash.b, SHA256_BYTES, text) != 0)) {
        err = problem_set(&p, ERR_BAD_PARAMETER, -1, "\"hash\" is not 64 hexadecimal digits");
    } else if (found == 1) {
        err = rows_schema_read(app_rows(r->app), txn, &hash, json, &b);
    } else if (json) {
        rows_schema_json(app_rows(r->app), &b);
    } else {
        rows_schema_sql(app_rows(r->app), &b);
    }
    answer(r, &b, json, err, &p);
    buf_free(&scratch);
    buf_free(&b);
}

// A number from 1 on, at most `max`; absent: `otherwise`.
static int get_number(struct request *r, const char *name, uint32_t otherwise, uint32_t max, uint32_t *out, struct problem *p)
{
    struct buf scratch;
    struct span text;
    uint64_t v = 0;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, name, &scratch, &text);
    bool bad = found < 0 || (found == 1 && (text.n == 0 || text.n > 10));
    for (size_t i = 0; found == 1 && !bad && i < text.n; i++) {
        bad = text.p[i] < '0' || text.p[i] > '9';
        v = v * 10 + (text.p[i] - '0');
    }
    buf_free(&scratch);
    if (bad || (found == 1 && (v < 1 || v > max))) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"%s\" is not a number from 1 to %u", name, max);
    *out = found == 1 ? (uint32_t)v : otherwise;
    return 0;
}

// All that were published, the newest first.
static void schemas_get(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct buf b;
    uint32_t limit, before;
    struct db_txn *txn = app_txn(r->app);
    if (txn == NULL) {
        reply_error(r, ERR_BUSY);
        return;
    }
    buf_init(&b, MIB);
    int err = get_number(r, "limit", SCHEMAS_LISTED, SCHEMAS_LISTED, &limit, &p);
    if (err == 0) err = get_number(r, "before", 0, UINT32_MAX, &before, &p);
    if (err == 0) err = rows_schemas_json(app_rows(r->app), txn, before, limit, &b);
    answer(r, &b, true, err, &p);
    buf_free(&b);
}

const struct handler api_schema_get = {.begin = schema_get};
const struct handler api_schemas_get = {.begin = schemas_get};
const struct handler api_schema_put = {.begin = schema_put, .done = schema_done, .body_max = SQL_SCHEMA_MAX};
