#include "api_llm_ask.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "json_write.h"
#include "stream_headers.h"

static struct llm_ask *ask_of_tail(struct llm_tail *t)
{
    return (struct llm_ask *)((char *)t - offsetof(struct llm_ask, tail));
}

static void ask_free(struct llm_ask *a)
{
    llm_job_free(a->job);
    buf_free(&a->encoded);
    free(a);
}

struct llm_ask *llm_ask_new(struct request *r)
{
    struct llm_ask *a = calloc(1, sizeof *a);
    if (a == NULL) {
        reply_error(r, ERR_NOMEM);
        return NULL;
    }
    a->r = r;
    buf_init(&a->encoded, 16 * KIB);
    r->data = a;
    return a;
}

int llm_ask_path(struct llm_ask *a, struct span path, struct problem *p)
{
    if (path.n == 0 || path.n > STREAM_PATH_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "a stream's path has 1 to %d bytes", STREAM_PATH_MAX);
    memcpy(a->path_room, path.p, path.n);
    a->path = SPAN(a->path_room, path.n);
    return 0;
}

int llm_ask_may(const struct llm_ask *a, enum verb verb)
{
    const struct request *r = a->r;
    return may(server_auth(r->server), &r->identity, verb, SPAN_STR(app_name(r->app)), a->path);
}

// ---- answers --------------------------------------------------------------------------------------------------------

void llm_reply_problem(struct request *r, int err, const struct problem *why)
{
    struct problem p = *why;
    struct buf b;
    struct jw w;
    problem_set(&p, err, -1, "%s", err_text(err));
    buf_init(&b, 8 * KIB);
    buf_put_u8(&b, '{');
    problem_members(&b, &p);
    buf_put_str(&b, ",\"error\":");
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "message"), jw_cstr(&w, problem_text(&p));
    jw_key(&w, "type"), jw_cstr(&w, "segue_error");
    jw_key(&w, "code"), jw_cstr(&w, err_wire(p.err));
    jw_end(&w);
    buf_put_u8(&b, '}');
    reply_start(r, err_status(p.err));
    if (p.err == ERR_BUSY || p.err == ERR_TOO_MANY) reply_header(r, "Retry-After", "1");
    reply_header(r, "Cache-Control", "no-store");
    reply_body(r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

// A path as it stands in a header: everything that is not plain is escaped.
static void put_path(struct request *r, struct span path)
{
    struct buf b;
    buf_init(&b, 4 * STREAM_PATH_MAX);
    for (size_t i = 0; i < path.n; i++) {
        uint8_t c = path.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != 0 && strchr("-._~/:@", c) != NULL);
        buf_printf(&b, plain ? "%c" : "%%%02X", c);
    }
    reply_header(r, "Segue-Stream", "%.*s", SPAN_FMT(buf_span(&b)));
    buf_free(&b);
}

static void put_names(const struct llm_ask *a)
{
    char id[UUID_TEXT];
    char cursor[STREAM_OFFSET_TEXT];
    put_path(a->r, a->path);
    if (a->has_id) {
        uuid_format(a->id, id);
        reply_header(a->r, "Segue-Job", "%.*s", UUID_TEXT, id);
    }
    if (a->waiter.request_id[0] != '\0') reply_header(a->r, a->api == LLM_MESSAGES ? "request-id" : "x-request-id", "%s", a->waiter.request_id);
    stream_offset_text(a->tail.offset, cursor);
    reply_header(a->r, "Segue-Cursor", "%s", cursor);
    reply_header(a->r, "Cache-Control", "no-cache, no-transform");
}

// The provider's own words.
static int reply_refusal(struct llm_ask *a, const struct job *j)
{
    struct request *r = a->r;
    struct buf body;
    buf_init(&body, CALL_REFUSAL_MAX + KIB);
    int err = streams_read(app_streams(r->app), app_txn(r->app), a->path, 0, CALL_REFUSAL_MAX, &body);
    if (err == 0) err = body.err;
    if (err == 0) {
        bool json = body.n > 0 && (body.p[0] == '{' || body.p[0] == '[');
        reply_start(r, (int)j->status);
        if (a->waiter.has_retry_after) reply_header(r, "Retry-After", "%llu", (unsigned long long)(a->waiter.retry_after_ms + 999) / 1000);
        put_names(a);
        reply_body(r, json ? "application/json" : "text/plain; charset=utf-8", buf_span(&body));
    }
    buf_free(&body);
    return err;
}

// The job has ended, and nothing of an answer is there: `j` may be NULL.
static void reply_failure(struct llm_ask *a, const struct job *j)
{
    struct problem p = PROBLEM_NONE;
    int err = j != NULL && j->err != 0 ? j->err : ERR_PROVIDER_CUT;
    if (j != NULL && j->err != 0) problem_set(&p, err, -1, "%.*s", SPAN_FMT(j->text));
    llm_reply_problem(a->r, err, &p);
}

// ---- the stream as an answer ----------------------------------------------------------------------------------------

bool llm_job_was_refused(const struct job *j)
{
    return j->state == JOB_FAILED && j->form == LLM_FORM_RAW && j->status != 0 && (j->status < 200 || j->status >= 300);
}

// A record that is no longer kept is of a call long ago: what its stream has is what there is.
static bool find_job(struct llm_ask *a, struct job *j)
{
    return a->has_id && app_job(a->r->app, a->id, j) == 1;
}

static bool on_whole(struct llm_tail *t)
{
    struct job j;
    struct llm_ask *a = ask_of_tail(t);
    return a->ui || !find_job(a, &j) || j.state == JOB_DONE; // a UI message says itself how it ended
}

// The stream is closed: is there something else to say than what is in it?
static bool answered_otherwise(struct llm_ask *a, const struct stream_info *info, bool answer)
{
    struct job j;
    bool found = find_job(a, &j);
    bool refused = found && llm_job_was_refused(&j);
    if (info->offset > 0 && !refused && !(answer && found && j.state != JOB_DONE)) return false;
    llm_tail_close(&a->tail);
    int err = refused ? reply_refusal(a, &j) : 0;
    if (!refused || err != 0) reply_failure(a, found ? &j : NULL);
    return true;
}

static bool on_begin(struct llm_tail *t, const struct stream_info *info)
{
    struct llm_ask *a = ask_of_tail(t);
    bool answer = strcmp(info->type, LLM_ANSWER_TYPE) == 0; // told when it is whole
    if (!info->closed && (answer || info->offset == 0)) return false;
    if (info->closed && answered_otherwise(a, info, answer)) return false;
    reply_start(a->r, 200);
    put_names(a);
    if (a->ui) reply_header(a->r, "x-vercel-ai-ui-message-stream", "v1");
    reply_header(a->r, "X-Accel-Buffering", "no");
    if (answer)
        reply_stream(a->r, "application/json", (int64_t)(info->offset - t->offset));
    else
        reply_stream(a->r, info->type, -1);
    return true;
}

int llm_ask_attach(struct llm_ask *a, uint64_t offset)
{
    int err = llm_tail_open(&a->tail, a->r, a->path, offset);
    if (err != 0) return err;
    a->tail.begin = on_begin;
    a->tail.whole = on_whole;
    llm_tail_look(&a->tail);
    return 0;
}

// ---- making ---------------------------------------------------------------------------------------------------------

// What the tail has to know is in the waiter, and it is woken by the stream.
static void on_over(struct llm_waiter *w)
{
    (void)w;
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct llm_ask *a = (struct llm_ask *)s;
    struct llm_job *job = a->job;
    struct job found;
    a->submitted = false;
    a->job = f->err == 0 ? NULL : a->job;
    if (f->err == 0) llm_job_begin(job);
    if (f->err == 0 && a->r != NULL) llm_wait(server_llm(a->r->server), a->r->app, a->id, &a->waiter);
    if (a->r == NULL) {
        ask_free(a);
        return;
    }
    int err = f->err;
    // The same request, twice at once: both are answered by the first one's job.
    if (err == 0 || app_job(a->r->app, a->id, &found) == 1) err = llm_ask_attach(a, 0);
    if (err != 0) llm_reply_problem(a->r, err, &f->problem);
}

int llm_ask_make(struct llm_ask *a, const struct llm_ask_call *call, struct problem *p)
{
    struct request *r = a->r;
    const char *provider = llm_provider(server_llm(r->server), call->provider, NULL);
    if (provider == NULL) return problem_set(p, ERR_NO_SUCH_PROVIDER, -1, "no provider is called \"%.*s\"", SPAN_FMT(call->provider));
    struct job record = {.id = a->id,
                         .identity = r->identity,
                         .api = (uint8_t)call->api,
                         .form = (uint8_t)call->form,
                         .provider = SPAN_STR(provider),
                         .path = a->path,
                         .request = sha256_of(call->body)};
    a->has_id = true;
    a->api = call->api;
    a->waiter.over = on_over;
    int err = llm_job_new(&a->job, server_llm(r->server), r->app, &record, call->body, p);
    if (err == 0) err = llm_job_more(a->job, &call->more);
    if (err != 0) return err;
    struct batch_op drop = {.kind = BATCH_DROP, .stream = {.path = a->path}};
    if (call->drop) batch_put_op(&a->encoded, &drop);
    llm_job_batch(a->job, &a->encoded);
    if (a->encoded.err != 0) return a->encoded.err;
    a->submission = (struct submission){.identity = r->identity, .request = buf_span(&a->encoded), .done = on_fate};
    err = app_submit(r->app, &a->submission);
    a->submitted = err == 0;
    return err;
}

// ---- the request ----------------------------------------------------------------------------------------------------

void llm_ask_drain(struct request *r)
{
    struct llm_ask *a = r->data;
    if (a == NULL) return;
    if (a->pass != NULL)
        llm_pass_drain(a->pass);
    else
        llm_tail_drain(&a->tail);
}

void llm_ask_done(struct request *r)
{
    struct llm_ask *a = r->data;
    if (a == NULL) return;
    a->r = NULL;
    llm_pass_free(a->pass);
    a->pass = NULL;
    llm_tail_close(&a->tail);
    llm_waiter_remove(&a->waiter);
    if (!a->submitted) ask_free(a);
}
