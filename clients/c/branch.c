// Branches: one request each. A step has a name, so that one whose answer was lost is not done twice.
#include <stdio.h>

#include "client.h"
#include "err.h"
#include "limits.h"

static int call_branch(struct segue *s, const char *method, const char *name, const char *what, const char *body)
{
    struct buf path;
    char key[64], id[37];
    client_begin(s);
    segue_id(id);
    snprintf(key, sizeof key, "Idempotency-Key: %s", id);
    buf_init(&path, HTTP_TARGET_MAX);
    buf_put_str(&path, "branches/");
    client_put_encoded(&path, SPAN_STR(name), false);
    buf_put_str(&path, what);
    const struct http_request request = {
        .method = method,
        .path = client_string(&path),
        .headers = {method[0] == 'G' ? NULL : key},
        .has_body = body != NULL,
        .body = body != NULL ? SPAN_STR(body) : SPAN_NONE,
    };
    int result = path.err != 0 ? client_fail(s, SEGUE_USAGE, path.err, "%s", err_text(path.err)) : client_call(s, &request);
    buf_free(&path);
    return result;
}

int segue_branch_list(struct segue *s)
{
    client_begin(s);
    const struct http_request request = {.method = "GET", .path = "branches"};
    return client_call(s, &request);
}

int segue_branch_create(struct segue *s, const char *name, const uint64_t *at, bool live)
{
    char body[80];
    int n = snprintf(body, sizeof body, "{\"live\":%s", live ? "true" : "false");
    if (at != NULL) n += snprintf(body + n, sizeof body - (size_t)n, ",\"at\":%llu", (unsigned long long)*at);
    snprintf(body + n, sizeof body - (size_t)n, "}");
    return call_branch(s, "PUT", name, "", body);
}

int segue_branch_diff(struct segue *s, const char *name)
{
    return call_branch(s, "GET", name, "/diff", NULL);
}

int segue_branch_merge(struct segue *s, const char *name, bool transaction)
{
    return call_branch(s, "POST", name, "/merge", transaction ? "{\"mode\":\"transaction\"}" : "{\"mode\":\"merge\"}");
}

int segue_branch_drop(struct segue *s, const char *name)
{
    return call_branch(s, "DELETE", name, "", NULL);
}
