#include "routes.h"

#include <assert.h>
#include <stdio.h>

#include "api.h"
#include "blob_link.h"
#include "chunk_list.h"
#include "conns.h"
#include "err.h"
#include "percent.h"
#include "server.h"

#define ROUTE_METHODS 6
#define LLM "/apps/*/llm/"
#define UPLOADS "/apps/*/uploads" // what is below it speaks tus, or the IETF's draft
#define ONE_APP "/apps/*"          // the app itself, which need not be there: its name is one segment
#define BLOBS "/apps/*/blobs"     // takes uploads that may turn resumable

struct route {
    const char *pattern; // "/apps/*" is followed by an app's name; a '*' at the end takes the rest of the path, a second one before it one segment: neither may be empty
    bool open;           // asks nobody
    struct {
        enum method method;
        enum verb verb;
        const struct handler *handler;
    } methods[ROUTE_METHODS];
    bool own; // its handler asks: a wake's token speaks for itself
    bool links; // what is read there may be asked for by a link that speaks for itself
};

// Looked through in this order: what is asked for most comes first.
static const struct route routes[] = {
    {"/apps/*/v1/stream/__ds/*",
     false,
     {{METHOD_PUT, MAY_CONTROL_SUBSCRIPTIONS, &api_ds},
      {METHOD_POST, MAY_CONTROL_SUBSCRIPTIONS, &api_ds},
      {METHOD_GET, MAY_CONTROL_SUBSCRIPTIONS, &api_ds},
      {METHOD_DELETE, MAY_CONTROL_SUBSCRIPTIONS, &api_ds}},
     true},
    {"/apps/*/v1/stream/*",
     false,
     {{METHOD_PUT, MAY_WRITE_BATCH, &api_stream_put},
      {METHOD_POST, MAY_WRITE_BATCH, &api_stream_post},
      {METHOD_GET, MAY_READ_STREAM, &api_stream_get},
      {METHOD_HEAD, MAY_READ_STREAM, &api_stream_head},
      {METHOD_DELETE, MAY_WRITE_BATCH, &api_stream_delete},
      {METHOD_PATCH, MAY_WRITE_BATCH, &api_stream_patch}}},
    {"/healthz", true, {{METHOD_GET, MAY_READ_APP, &api_healthz_get}, {METHOD_HEAD, MAY_READ_APP, &api_healthz_get}}},
    {"/metrics", false, {{METHOD_GET, MAY_READ_METRICS, &api_metrics_get}, {METHOD_HEAD, MAY_READ_METRICS, &api_metrics_get}}},
    {"/apps/*/schema",
     false,
     {{METHOD_GET, MAY_READ_APP, &api_schema_get},
      {METHOD_HEAD, MAY_READ_APP, &api_schema_get},
      {METHOD_PUT, MAY_PUBLISH_SCHEMA, &api_schema_put}}},
    {"/apps/*/schemas", false, {{METHOD_GET, MAY_READ_APP, &api_schemas_get}, {METHOD_HEAD, MAY_READ_APP, &api_schemas_get}}},
    {"/apps/*/batch", false, {{METHOD_POST, MAY_WRITE_BATCH, &api_batch_post}}},
    {"/apps/*/begin", false, {{METHOD_POST, MAY_QUERY, &api_begin_post}}},
    {"/apps/*/fate", false, {{METHOD_GET, MAY_WRITE_BATCH, &api_fate_get}}},
    {"/apps/*/history/*", false, {{METHOD_GET, MAY_QUERY, &api_history_get}}},
    {"/apps/*/diff", false, {{METHOD_GET, MAY_QUERY, &api_diff_get}}},
    {"/apps/*/preview", false, {{METHOD_POST, MAY_QUERY, &api_preview_post}}},
    {"/apps/*/query", false, {{METHOD_GET, MAY_QUERY, &api_query_get}, {METHOD_POST, MAY_QUERY, &api_query_post}}},
    {"/apps/*/branches", false, {{METHOD_GET, MAY_QUERY, &api_branches_get}}},
    {"/apps/*/branches/*/diff", false, {{METHOD_GET, MAY_QUERY, &api_branch_diff}}},
    {"/apps/*/branches/*/merge", false, {{METHOD_POST, MAY_WRITE_BATCH, &api_branch_merge}}},
    {"/apps/*/branches/*",
     false,
     {{METHOD_GET, MAY_QUERY, &api_branch_get}, {METHOD_PUT, MAY_WRITE_BATCH, &api_branch_put}, {METHOD_DELETE, MAY_WRITE_BATCH, &api_branch_delete}}},
    {"/apps/*/subscribe", false, {{METHOD_GET, MAY_SUBSCRIBE, &api_subscribe_get}}},
    {"/apps/*/sync", false, {{METHOD_GET, MAY_SUBSCRIBE, &api_sync_get}}},
    {"/apps/*/llm/jobs", false, {{METHOD_POST, MAY_CALL_LLM, &api_llm_post}}},
    {"/apps/*/llm/jobs/*", false, {{METHOD_GET, MAY_CALL_LLM, &api_llm_get}, {METHOD_DELETE, MAY_CALL_LLM, &api_llm_delete}}},
    // A provider called "jobs" is none.
    {"/apps/*/llm/*",
     false,
     {{METHOD_GET, MAY_CALL_LLM, &api_llm_proxy_get},
      {METHOD_POST, MAY_CALL_LLM, &api_llm_proxy_post},
      {METHOD_DELETE, MAY_CALL_LLM, &api_llm_proxy_delete}}},
    {UPLOADS, false, {{METHOD_POST, MAY_UPLOAD, &api_upload_post}}},
    {UPLOADS "/*/content", false, {{METHOD_GET, MAY_READ_BLOB, &api_upload_content_get}, {METHOD_HEAD, MAY_READ_BLOB, &api_upload_content_get}}},
    {UPLOADS "/*",
     false,
     {{METHOD_HEAD, MAY_UPLOAD, &api_upload_head}, {METHOD_PATCH, MAY_UPLOAD, &api_upload_patch}, {METHOD_DELETE, MAY_UPLOAD, &api_upload_delete}}},
    {"/apps/*/chunks/missing", false, {{METHOD_POST, MAY_UPLOAD, &api_chunks_missing}}},
    {"/apps/*/chunks", false, {{METHOD_POST, MAY_UPLOAD, &api_chunks_post}}},
    {"/apps/*/blob-check", false, {{METHOD_POST, MAY_CARE_FOR_BLOBS, &api_blob_check}}},
    {"/apps/*/blob-usage", false, {{METHOD_GET, MAY_CARE_FOR_BLOBS, &api_blob_usage}}},
    {"/apps/*/blob-pins", false, {{METHOD_POST, MAY_CARE_FOR_BLOBS, &api_blob_pins}}},
    {"/apps/*/blob-pins/*", false, {{METHOD_PUT, MAY_CARE_FOR_BLOBS, &api_blob_pin}, {METHOD_DELETE, MAY_CARE_FOR_BLOBS, &api_blob_pin}}},
    {"/apps/*/blobs/*/sign", false, {{METHOD_POST, MAY_UPLOAD, &api_blob_sign}}},
    {BLOBS, false, {{METHOD_POST, MAY_UPLOAD, &api_resumable}}},
    {BLOBS "/*",
     false,
     {{METHOD_PUT, MAY_UPLOAD, &api_blob_put}, {METHOD_GET, MAY_READ_BLOB, &api_blob_get}, {METHOD_HEAD, MAY_READ_BLOB, &api_blob_head}},
     false,
     true},
    {"/apps", false, {{METHOD_GET, MAY_MANAGE_APPS, &api_apps_get}}},
    {ONE_APP,
     false,
     {{METHOD_GET, MAY_MANAGE_APPS, &api_app_get}, {METHOD_PUT, MAY_MANAGE_APPS, &api_app_put}, {METHOD_DELETE, MAY_MANAGE_APPS, &api_app_delete}}},
};

// Does `path` match? The app's name and the tail are raw.
static bool route_match(const char *pattern, struct span path, struct span *app, struct span *tail)
{
    *app = *tail = SPAN_NONE;
    size_t i = 0;
    for (const char *c = pattern; *c != '\0'; c++) {
        if (*c != '*') {
            if (i == path.n || path.p[i++] != (uint8_t)*c) return false;
            continue;
        }
        size_t from = i;
        if (c[1] == '\0') {
            *tail = span_sub(path, i, path.n);
            return true;
        }
        while (i < path.n && path.p[i] != '/')
            i++;
        *(app->p == NULL ? app : tail) = span_sub(path, from, i - from);
    }
    return i == path.n;
}

struct span routes_app(struct span path)
{
    size_t from = sizeof "/apps/" - 1, to = from;
    if (!span_starts(path, "/apps/")) return SPAN_NONE;
    while (to < path.n && path.p[to] != '/')
        to++;
    return span_sub(path, from, to - from);
}

static const struct route *route_find(struct span path, struct span *app, struct span *tail)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!route_match(routes[i].pattern, path, app, tail)) continue;
        bool deeper = tail->n > 0 && memchr(tail->p, '/', tail->n) != NULL;
        if (!deeper || strcmp(routes[i].pattern, ONE_APP) != 0) return &routes[i];
    }
    return NULL;
}

static bool is_below(const struct route *route, const char *pattern)
{
    return route != NULL && span_starts(SPAN_STR(route->pattern), pattern);
}

static void allow(struct request *r, const char *field, const struct route *route)
{
    static const char *const names[] = {
        [METHOD_GET] = "GET", [METHOD_HEAD] = "HEAD", [METHOD_POST] = "POST", [METHOD_PUT] = "PUT", [METHOD_DELETE] = "DELETE", [METHOD_PATCH] = "PATCH"};
    char text[80];
    int n = snprintf(text, sizeof text, "OPTIONS");
    for (int i = 0; i < ROUTE_METHODS && route->methods[i].handler != NULL; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %s", names[route->methods[i].method]);
    reply_header(r, field, "%s", text);
}

// A browser's question before a request from another origin: everything there is, is allowed.
static void reply_options(struct request *r, const struct route *route)
{
    reply_start(r, 204);
    if (route != NULL) {
        allow(r, "Allow", route);
        allow(r, "Access-Control-Allow-Methods", route);
    }
    // The star does not cover Authorization, and older browsers do not know it.
    reply_header(r, "Access-Control-Allow-Headers",
                 "Authorization, Content-Type, If-None-Match, If-Match, If-Range, Want-Repr-Digest, Last-Event-ID, Range, Idempotency-Key, Accept, "
                 "Stream-Closed, Stream-Seq, Stream-TTL, Stream-Expires-At, Stream-Forked-From, Stream-Fork-Offset, Stream-Fork-Sub-Offset, "
                 "Stream-Trim-Before, Producer-Id, Producer-Epoch, Producer-Seq, "
                 "Segue-Stream, Segue-Cursor, X-Api-Key, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length, Upload-Checksum, Upload-Concat, Segue-Link, X-HTTP-Method-Override, "
                 "Upload-Complete, Upload-Incomplete, Upload-Draft-Interop-Version, Content-Digest, Repr-Digest, *");
    if (is_below(route, UPLOADS)) upload_options(r);
    if (is_below(route, UPLOADS) || is_below(route, BLOBS)) draft_options(r);
    reply_header(r, "Access-Control-Max-Age", "86400");
    reply_body(r, NULL, SPAN_NONE);
}

static void reply_not_allowed(struct request *r, const struct route *route)
{
    struct problem p = {.err = ERR_METHOD_NOT_ALLOWED, .position = -1};
    struct buf json;
    buf_init(&json, 1024);
    buf_put_u8(&json, '{');
    problem_members(&json, &p);
    buf_put_u8(&json, '}');
    reply_start(r, err_status(p.err));
    allow(r, "Allow", route);
    if (json.err < 0)
        reply_break(r);
    else
        reply_body(r, "application/problem+json", buf_span(&json));
    buf_free(&json);
}

// The tail as text: percent-decoded. Segments like ".." have no meaning in it.
static int tail_decode(struct request *r, struct span tail)
{
    struct buf *text = request_text(r);
    if (tail.n == 0) return ERR_NOT_FOUND;
    int err = percent_decode(text, tail, false);
    r->path = buf_span(text);
    return err == ERR_BAD_PARAMETER ? ERR_BAD_REQUEST : err;
}

static int admit(struct request *r, const struct route *route, enum verb verb, struct span app)
{
    const struct auth *auth = server_auth(r->server);
    struct span authorization = SPAN_NONE;
    bool told = request_header(r, "authorization", &authorization);
    // Some SDKs of providers have a field of their own for the key.
    char bearer[600];
    struct span key;
    if (!told && span_starts(SPAN_STR(route->pattern), LLM) && request_header(r, "x-api-key", &key) && key.n < 512)
        authorization = SPAN(bearer, (size_t)snprintf(bearer, sizeof bearer, "Bearer %.*s", SPAN_FMT(key)));
    int err = auth_identify(auth, authorization, &r->identity);
    if (err < 0 || route->open) return err;
    return may(auth, &r->identity, verb, app, r->path);
}

// tus has clients that can send nothing but POST say what they mean in a field.
static void override_method(struct request *r)
{
    struct span value;
    if (r->method != METHOD_POST || !request_header(r, "x-http-method-override", &value)) return;
    if (span_is(value, "PATCH")) r->method = METHOD_PATCH;
    if (span_is(value, "DELETE")) r->method = METHOD_DELETE;
    if (span_is(value, "HEAD")) r->method = METHOD_HEAD;
}

// A blob may be sent as the list of its chunks, and an upload go on with a page of one.
static bool is_chunk_list(const struct request *r)
{
    struct span type;
    size_t n = sizeof CHUNK_LIST_TYPE - 1;
    return request_header(r, "content-type", &type) && span_starts(type, CHUNK_LIST_TYPE) && (type.n == n || type.p[n] == ';' || type.p[n] == ' ');
}

static const struct handler *listed_handler(const struct request *r, const struct handler *handler)
{
    if (handler == &api_blob_put && is_chunk_list(r)) return &api_chunks_blob;
    return handler == &api_upload_patch && is_chunk_list(r) ? &api_chunks_page : resumable_handler(r, handler);
}

void routes_dispatch(struct request *r)
{
    struct span app, tail;
    const struct route *route = route_find(r->path, &app, &tail);
    if (is_below(route, UPLOADS)) {
        override_method(r);
        r->fields = r->method == METHOD_OPTIONS || !upload_is_draft(r) ? upload_fields : NULL;
    }
    if (r->method == METHOD_OPTIONS) {
        reply_options(r, route);
        return;
    }
    if (route == NULL) {
        reply_error(r, ERR_NOT_FOUND);
        return;
    }
    int i = 0;
    while (i < ROUTE_METHODS && route->methods[i].handler != NULL && route->methods[i].method != r->method)
        i++;
    if (i == ROUTE_METHODS || route->methods[i].handler == NULL) {
        reply_not_allowed(r, route);
        return;
    }
    int err = tail.p != NULL ? tail_decode(r, tail) : 0;
    bool own = route->own && server_app(r->server, app) != NULL;
    if (err == 0 && route->links && (r->method & (METHOD_GET | METHOD_HEAD)) != 0 && blob_link_is(r)) {
        struct problem p = PROBLEM_NONE;
        err = blob_link_admit(server_signer(r->server), r, app, &p);
        if (err != 0) {
            problem_set(&p, err, -1, "%s", err_text(err));
            reply_problem(r, &p);
            return;
        }
        r->identity = identity_of(IDENTITY_NOBODY);
    } else if (err == 0 && !own) err = admit(r, route, route->methods[i].verb, app);
    // Whether an app exists is told only to those who may ask.
    if (err == 0 && app.p != NULL) r->app = server_app(r->server, app);
    if (err == 0 && app.p != NULL && r->app == NULL) err = ERR_NO_SUCH_APP;
    const struct handler *handler = route->methods[i].handler;
    if (err < 0)
        reply_error(r, err);
    else
        r->handler = listed_handler(r, handler);
}
