// Calls that are one request each: apps, schemas, batches, queries, jobs.
#include <stdio.h>

#include "client.h"
#include "digest.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "uuid.h"

// ---- apps ------------------------------------------------------------------------------------------------------

int segue_app_list(struct segue *s)
{
    client_begin(s);
    const struct http_request request = {.method = "GET", .path = "apps", .of_service = true};
    return client_call(s, &request);
}

static int call_app(struct segue *s, const char *method, const char *name)
{
    struct buf path;
    client_begin(s);
    buf_init(&path, HTTP_TARGET_MAX);
    buf_put_str(&path, "apps/");
    client_put_encoded(&path, SPAN_STR(name), false);
    const struct http_request request = {.method = method, .path = client_string(&path), .of_service = true};
    int result = path.err != 0 ? client_fail(s, SEGUE_USAGE, path.err, "%s", err_text(path.err)) : client_call(s, &request);
    buf_free(&path);
    return result;
}

int segue_app_create(struct segue *s, const char *name)
{
    return call_app(s, "PUT", name);
}

int segue_app_drop(struct segue *s, const char *name)
{
    return call_app(s, "DELETE", name);
}

// ---- schemas ---------------------------------------------------------------------------------------------------

int segue_schema_put(struct segue *s, const char *sql, size_t n)
{
    client_begin(s);
    const struct http_request request = {
        .method = "PUT",
        .path = "schema",
        .headers = {"Content-Type: application/sql"},
        .has_body = true,
        .body = SPAN(sql, n),
    };
    return client_call(s, &request);
}

static int get_schema(struct segue *s, const char *path, bool as_json)
{
    client_begin(s);
    const struct http_request request = {
        .method = "GET",
        .path = path,
        .headers = {as_json ? "Accept: application/json" : "Accept: application/sql"},
    };
    return client_call(s, &request);
}

int segue_schema_get(struct segue *s, bool as_json)
{
    return get_schema(s, "schema", as_json);
}

int segue_schema_get_old(struct segue *s, const char *hash, bool as_json)
{
    struct buf path;
    buf_init(&path, 2 * KIB);
    buf_put_str(&path, "schema?hash=");
    client_put_encoded(&path, span_sub(SPAN_STR(hash), 0, SHA256_HEX + 1), false);
    int result = get_schema(s, client_string(&path), as_json);
    buf_free(&path);
    return result;
}

int segue_schemas(struct segue *s, unsigned before)
{
    char path[64];
    client_begin(s);
    snprintf(path, sizeof path, before > 0 ? "schemas?before=%u" : "schemas", before);
    const struct http_request request = {.method = "GET", .path = path};
    return client_call(s, &request);
}

// ---- history ---------------------------------------------------------------------------------------------------

static int get_path(struct segue *s, struct buf *path)
{
    const struct http_request request = {.method = "GET", .path = client_string(path)};
    int result = path->err != 0 ? client_fail(s, SEGUE_USAGE, path->err, "%s", err_text(path->err)) : client_call(s, &request);
    buf_free(path);
    return result;
}

int segue_fate(struct segue *s, const char *name, uint64_t counter)
{
    struct buf path;
    client_begin(s);
    buf_init(&path, HTTP_TARGET_MAX);
    buf_put_str(&path, counter > 0 ? "fate?replica=" : "fate?key=");
    client_put_encoded(&path, SPAN_STR(name), false);
    if (counter > 0) buf_printf(&path, "&counter=%llu", (unsigned long long)counter);
    return get_path(s, &path);
}

int segue_history(struct segue *s, const char *table, const char *id, uint64_t at)
{
    struct buf path;
    client_begin(s);
    buf_init(&path, HTTP_TARGET_MAX);
    buf_put_str(&path, "history/");
    client_put_encoded(&path, SPAN_STR(table), false);
    buf_put_str(&path, "/");
    client_put_encoded(&path, SPAN_STR(id), false);
    if (at > 0) buf_printf(&path, "?at=%llu", (unsigned long long)at);
    return get_path(s, &path);
}

int segue_diff(struct segue *s, uint64_t from, uint64_t to, const char *table)
{
    struct buf path;
    client_begin(s);
    buf_init(&path, HTTP_TARGET_MAX);
    buf_printf(&path, "diff?from=%llu", (unsigned long long)from);
    if (to > 0) buf_printf(&path, "&to=%llu", (unsigned long long)to);
    if (table != NULL) buf_put_str(&path, "&table="), client_put_encoded(&path, SPAN_STR(table), false);
    return get_path(s, &path);
}

int segue_preview(struct segue *s, const char *json, size_t n)
{
    client_begin(s);
    const struct http_request request = {
        .method = "POST", .path = "preview", .headers = {"Content-Type: application/json"}, .has_body = true, .body = SPAN(json, n)};
    return client_call(s, &request);
}

// ---- blobs -----------------------------------------------------------------------------------------------------

int segue_blobs_check(struct segue *s)
{
    client_begin(s);
    const struct http_request request = {.method = "POST", .path = "blob-check", .has_body = true};
    return client_call(s, &request);
}

int segue_blobs_usage(struct segue *s)
{
    client_begin(s);
    const struct http_request request = {.method = "GET", .path = "blob-usage"};
    return client_call(s, &request);
}

int segue_blob_pin(struct segue *s, const char *digest, bool pinned)
{
    char path[128];
    client_begin(s);
    snprintf(path, sizeof path, "blob-pins/%.64s", digest);
    const struct http_request request = {.method = pinned ? "PUT" : "DELETE", .path = path, .has_body = pinned};
    return client_call(s, &request);
}

// ---- batches ---------------------------------------------------------------------------------------------------

// The body is sent as it is: only whether it names itself is looked at. What is wrong with it the service says better.
static bool names_itself(struct span body)
{
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, body, NULL) != 0) return false;
    bool named = jr_get(jr_root(tree), "replica") != NULL || jr_get(jr_root(tree), "key") != NULL;
    jr_free(tree);
    return named;
}

int segue_batch(struct segue *s, const char *json, size_t n)
{
    char key[64], id[37];
    client_begin(s);
    segue_id(id);
    snprintf(key, sizeof key, "Idempotency-Key: %s", id);
    return client_post(s, "batch", SPAN(json, n), names_itself(SPAN(json, n)) ? NULL : key);
}

// A batch that did not get a fate may have used its number or not: the next one begins a new replica, which has none.
int segue_write(struct segue *s, const char *ops, size_t n)
{
    struct buf body;
    client_begin(s);
    buf_init(&body, 2 * BATCH_BYTES_MAX);
    buf_printf(&body, "{\"replica\":\"%.36s\",\"counter\":%llu,\"ops\":[", s->replica, (unsigned long long)++s->counter);
    buf_put(&body, ops, n);
    buf_put_str(&body, "]}");
    int result =
        body.err != 0 ? client_fail(s, SEGUE_USAGE, body.err, "%s", err_text(body.err)) : client_post(s, "batch", buf_span(&body), NULL);
    buf_free(&body);
    if (result != SEGUE_OK) {
        uuid_format(uuid_new(), s->replica);
        s->counter = 0;
    }
    return result;
}

// ---- queries ---------------------------------------------------------------------------------------------------

// Parameters of a GET are texts that the service reads as the type that they are compared with: nobody has to guess here.
int segue_query(struct segue *s, const struct segue_query_options *what)
{
    struct buf path;
    client_begin(s);
    buf_init(&path, HTTP_TARGET_MAX);
    buf_put_str(&path, "query?sql=");
    client_put_encoded(&path, SPAN_STR(what->sql), false);
    for (size_t i = 0; i < what->param_count; i++) {
        buf_printf(&path, "&p%zu=", i + 1);
        client_put_encoded(&path, SPAN_STR(what->params[i]), false);
    }
    if (what->as_of != NULL) buf_printf(&path, "&as_of=%llu", (unsigned long long)*what->as_of);
    if (what->explain) buf_put_str(&path, "&explain=1");
    if (what->branch != NULL) {
        buf_put_str(&path, "&branch=");
        client_put_encoded(&path, SPAN_STR(what->branch), false);
    }
    const struct http_request request = {.method = "GET", .path = client_string(&path)};
    int result = path.err == 0 ? client_call(s, &request)
                               : client_fail(s, SEGUE_USAGE, ERR_USAGE,
                                             "the query and its parameters are longer than %u bytes together, encoded", HTTP_TARGET_MAX);
    buf_free(&path);
    return result;
}

// ---- jobs ------------------------------------------------------------------------------------------------------

int segue_job_make(struct segue *s, const char *json, size_t n)
{
    client_begin(s);
    return client_post(s, "llm/jobs", SPAN(json, n), NULL);
}

static int call_job(struct segue *s, const char *method, const char *id)
{
    char path[64];
    struct uuid parsed;
    client_begin(s);
    if (uuid_parse(&parsed, SPAN_STR(id)) != 0) return client_fail(s, SEGUE_USAGE, ERR_USAGE, "this is no id of a job");
    snprintf(path, sizeof path, "llm/jobs/%.36s", id);
    const struct http_request request = {.method = method, .path = path};
    return client_call(s, &request);
}

int segue_job_get(struct segue *s, const char *id)
{
    return call_job(s, "GET", id);
}

int segue_job_cancel(struct segue *s, const char *id)
{
    return call_job(s, "DELETE", id);
}
