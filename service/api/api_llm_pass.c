#include "api_llm_pass.h"

#include <stdio.h>
#include <stdlib.h>

#include "api_llm_ask.h"
#include "err.h"

#define PATH_MAX_BYTES 2000 // of what is asked, query included

struct llm_pass {
    struct request *r;
    struct call *call;
    struct span provider; // in the request's path
    struct buf type;
    bool begun;
};

// ---- which paths ----------------------------------------------------------------------------------------------------

// '*' stands for one segment.
static bool matches(const char *pattern, struct span path)
{
    size_t i = 0;
    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '*') {
            if (i == path.n || path.p[i++] != (uint8_t)*pattern) return false;
            continue;
        }
        size_t from = i;
        while (i < path.n && path.p[i] != '/')
            i++;
        if (i == from) return false;
    }
    return i == path.n;
}

static bool is_known(enum method method, struct span rest)
{
    static const struct {
        enum method method;
        const char *pattern;
    } known[] = {{METHOD_GET, "v1/models"},        {METHOD_GET, "v1/models/*"},
                 {METHOD_GET, "v1/responses/*"},   {METHOD_GET, "v1/responses/*/input_items"},
                 {METHOD_DELETE, "v1/responses/*"}, {METHOD_POST, "v1/responses/*/cancel"},
                 {METHOD_POST, "v1/messages/count_tokens"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].method == method && matches(known[i].pattern, rest)) return true;
    return false;
}

static bool is_plain(struct span path)
{
    for (size_t i = 0; i < path.n; i++) {
        uint8_t c = path.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == 0 || strchr("-._:/", c) == NULL)) return false;
    }
    return memmem(path.p, path.n, "..", 2) == NULL;
}

// ---- the provider's answer ------------------------------------------------------------------------------------------

static const char *type_of(struct llm_pass *x)
{
    if (x->type.n == 0) return NULL;
    buf_put_u8(&x->type, 0);
    return x->type.err == 0 ? (const char *)x->type.p : NULL;
}

static bool on_head(void *ctx, const struct call_head *head)
{
    struct llm_pass *x = ctx;
    buf_clear(&x->type);
    buf_put_span(&x->type, head->type);
    if (head->status < 200 || head->status >= 300) return true; // its body comes with the end
    reply_start(x->r, head->status);
    if (head->request_id.n > 0) reply_header(x->r, "x-request-id", "%.*s", SPAN_FMT(head->request_id));
    reply_stream(x->r, type_of(x), -1);
    x->begun = true;
    return true;
}

static bool on_data(void *ctx, struct span piece)
{
    struct llm_pass *x = ctx;
    reply_write_span(x->r, piece);
    return true;
}

static bool on_full(void *ctx)
{
    const struct llm_pass *x = ctx;
    return reply_full(x->r);
}

static void reply_refusal(struct llm_pass *x, const struct call_end *end)
{
    struct buf body;
    buf_init(&body, CALL_REFUSAL_MAX);
    buf_put_span(&body, end->body);
    if (body.n > 0) llm_hide_key(server_llm(x->r->server), x->provider, &body);
    reply_start(x->r, end->status);
    if (end->has_retry_after) reply_header(x->r, "Retry-After", "%llu", (unsigned long long)(end->retry_after_ms + 999) / 1000);
    reply_body(x->r, type_of(x), buf_span(&body));
    buf_free(&body);
}

static void on_ended(void *ctx, const struct call_end *end)
{
    struct llm_pass *x = ctx;
    if (x->begun && end->problem.err == 0) {
        reply_end(x->r);
    } else if (x->begun) {
        reply_cut(x->r);
    } else if (end->problem.err == 0) {
        reply_refusal(x, end);
    } else {
        llm_reply_problem(x->r, end->problem.err, &end->problem);
    }
}

// ---- the request ----------------------------------------------------------------------------------------------------

static const char *method_name(enum method method)
{
    return method == METHOD_POST ? "POST" : method == METHOD_DELETE ? "DELETE" : "GET";
}

static int start(struct llm_pass *x, struct span provider, struct span rest, struct problem *p)
{
    struct request *r = x->r;
    char path[PATH_MAX_BYTES + 8];
    x->provider = provider;
    static const char *const headers[] = {"Accept: application/json, text/event-stream"};
    if (!is_known(r->method, rest)) return ERR_NOT_FOUND;
    if (!is_plain(rest) || rest.n + r->query.n > PATH_MAX_BYTES) return problem_set(p, ERR_BAD_REQUEST, -1, "this path cannot be passed on");
    if (llm_provider(server_llm(r->server), provider, NULL) == NULL)
        return problem_set(p, ERR_NO_SUCH_PROVIDER, -1, "no provider is called \"%.*s\"", SPAN_FMT(provider));
    struct span tail = span_sub(rest, 2, rest.n); // without "v1", which the provider's base URL has
    snprintf(path, sizeof path, "%.*s%s%.*s", SPAN_FMT(tail), r->query.n > 0 ? "?" : "", SPAN_FMT(r->query));
    struct call_options options = {.method = method_name(r->method),
                                   .headers = headers,
                                   .header_count = 1,
                                   .body = buf_span(&r->body),
                                   .ctx = x,
                                   .head = on_head,
                                   .data = on_data,
                                   .full = on_full,
                                   .ended = on_ended};
    int err = llm_call(&x->call, server_llm(r->server), provider, path, &options);
    return err != 0 ? err : call_start(x->call);
}

void llm_pass(struct request *r, struct span provider, struct span rest)
{
    struct problem p = PROBLEM_NONE;
    struct llm_ask *a = llm_ask_new(r);
    if (a == NULL) return;
    struct llm_pass *x = calloc(1, sizeof *x);
    int err = x == NULL ? ERR_NOMEM : 0;
    if (err == 0) {
        a->pass = x;
        x->r = r;
        buf_init(&x->type, KIB);
        err = start(x, provider, rest, &p);
    }
    if (err != 0) llm_reply_problem(r, err, &p);
}

void llm_pass_drain(struct llm_pass *x)
{
    if (x->call != NULL) call_resume(x->call);
}

void llm_pass_free(struct llm_pass *x)
{
    if (x == NULL) return;
    call_free(x->call);
    buf_free(&x->type);
    free(x);
}
