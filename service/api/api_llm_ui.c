// …/llm/<provider>/ui: the UI message stream of the Vercel AI SDK (PROTOCOL.md, "Drop-in endpoints"). A chat has one stream: that of its running, or
// last, message. The chat's history is the client's.
#include <stdlib.h>

#include "api.h"
#include "api_llm_ask.h"
#include "err.h"
#include "json_read.h"
#include "llm_ui_request.h"

#define CHAT_MAX 200 // bytes of a chat's id

// llm/ui/<provider>/<chat>
static int set_path(struct llm_ask *a, struct span provider, struct span chat, struct problem *p)
{
    struct buf path;
    if (chat.n == 0 || chat.n > CHAT_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "the chat's id has 1 to %d bytes", CHAT_MAX);
    buf_init(&path, STREAM_PATH_MAX + KIB);
    buf_put_str(&path, "llm/ui/");
    buf_put_span(&path, provider);
    buf_put_u8(&path, '/');
    buf_put_span(&path, chat);
    int err = path.err != 0 ? path.err : llm_ask_path(a, buf_span(&path), p);
    buf_free(&path);
    a->ui = true;
    return err;
}

// ---- POST -----------------------------------------------------------------------------------------------------------

static int make(struct llm_ask *a, struct span provider, const struct jr *body, struct problem *p)
{
    struct stream_info info;
    struct buf request;
    char id[UUID_TEXT];
    enum llm_api api;
    struct app *app = a->r->app;
    if (llm_provider(server_llm(a->r->server), provider, &api) == NULL)
        return problem_set(p, ERR_NO_SUCH_PROVIDER, -1, "no provider is called \"%.*s\"", SPAN_FMT(provider));
    // An escape of six bytes may come out as six bytes again, numbers as up to 24.
    buf_init(&request, 8 * LLM_REQUEST_MAX);
    int err = llm_ui_request(&request, api, body, p);
    a->id = uuid_new();
    uuid_format(a->id, id);
    struct span continued = llm_ui_continued(body);
    struct llm_ask_call call = {.provider = provider,
                                .api = api,
                                .form = LLM_FORM_UI,
                                .body = buf_span(&request),
                                .more = {.message = continued.n > 0 ? continued : SPAN(id, UUID_TEXT)},
                                .drop = streams_find(app_streams(app), app_txn(app), a->path, &info)};
    if (err == 0) err = llm_ask_make(a, &call, p);
    buf_free(&request);
    return err;
}

static void on_stopped(struct llm_waiter *w);

// Makes the message, once none of this chat is running.
static int post_message(struct llm_ask *a, struct span provider, struct problem *p)
{
    struct jr_tree *tree;
    struct uuid live;
    struct app *app = a->r->app;
    if (app_txn(app) == NULL) return ERR_BUSY;
    int err = jr_parse(&tree, buf_span(&a->r->body), p);
    if (err != 0) return err;
    const struct jr *body = jr_root(tree);
    err = jr_type(body) == JR_OBJECT ? set_path(a, provider, jr_str(jr_get(body, "id")), p)
                                     : problem_set(p, ERR_BAD_REQUEST, -1, "the request is not an object");
    if (err == 0 && app_job_writing(app, a->path, &live)) {
        // A client that stops reading says nothing: a new message says that the last one is not wanted any more.
        a->provider = provider;
        a->waiter.over = on_stopped;
        err = llm_cancel(server_llm(a->r->server), app, live, &a->waiter);
    } else if (err == 0) {
        err = make(a, provider, body, p);
    }
    jr_free(tree);
    return err;
}

static void begin(struct llm_ask *a, struct span provider)
{
    struct problem p = PROBLEM_NONE;
    int err = post_message(a, provider, &p);
    if (err != 0) llm_reply_problem(a->r, err, &p);
}

static void on_stopped(struct llm_waiter *w)
{
    struct llm_ask *a = (struct llm_ask *)((char *)w - offsetof(struct llm_ask, waiter));
    begin(a, a->provider);
}

void llm_ui_post(struct request *r, struct span provider)
{
    struct llm_ask *a = llm_ask_new(r);
    if (a != NULL) begin(a, provider);
}

// ---- GET and DELETE -------------------------------------------------------------------------------------------------

// <chat>/stream
static int path_of_chat(struct llm_ask *a, struct span provider, struct span rest, struct problem *p)
{
    static const char tail[] = "/stream";
    size_t n = sizeof tail - 1;
    if (rest.n <= n || !span_is(span_sub(rest, rest.n - n, rest.n), tail)) return ERR_NOT_FOUND;
    if (app_txn(a->r->app) == NULL) return ERR_BUSY;
    return set_path(a, provider, span_sub(rest, 0, rest.n - n), p);
}

static void reply_none(struct request *r)
{
    reply_start(r, 204);
    reply_header(r, "Cache-Control", "no-store");
    reply_body(r, NULL, SPAN_NONE);
}

void llm_ui_get(struct request *r, struct span provider, struct span rest)
{
    struct problem p = PROBLEM_NONE;
    struct stream_info info;
    struct llm_ask *a = llm_ask_new(r);
    if (a == NULL) return;
    int err = path_of_chat(a, provider, rest, &p);
    if (err == 0) err = llm_ask_may(a, MAY_READ_STREAM);
    bool running = err == 0 && app_job_writing(r->app, a->path, &a->id) &&
                   streams_find(app_streams(r->app), app_txn(r->app), a->path, &info) && !info.closed;
    a->has_id = running;
    if (err == 0 && !running) {
        reply_none(r);
        return;
    }
    if (err == 0) err = llm_ask_attach(a, 0);
    if (err != 0) llm_reply_problem(r, err, &p);
}

// The end is durable.
static void on_over(struct llm_waiter *w)
{
    struct llm_ask *a = (struct llm_ask *)((char *)w - offsetof(struct llm_ask, waiter));
    reply_none(a->r);
}

void llm_ui_delete(struct request *r, struct span provider, struct span rest)
{
    struct problem p = PROBLEM_NONE;
    struct llm_ask *a = llm_ask_new(r);
    if (a == NULL) return;
    int err = path_of_chat(a, provider, rest, &p);
    if (err == 0 && app_job_writing(r->app, a->path, &a->id)) {
        a->waiter.over = on_over;
        err = llm_cancel(server_llm(r->server), r->app, a->id, &a->waiter);
        if (err == 0) return;
        if (err == ERR_JOB_ENDED || err == ERR_NO_SUCH_JOB) err = 0;
    }
    if (err == 0)
        reply_none(r);
    else
        llm_reply_problem(r, err, &p);
}
