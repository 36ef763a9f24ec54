// /apps/<app>/llm/<provider>/…: what the official SDKs ask a provider, asked of the service (PROTOCOL.md, "Drop-in endpoints"). A completion is a
// job: it is durable before the provider is asked, its bytes go into a stream, and the caller reads them from there. What else the SDKs need
// is passed on as it is (api_llm_pass.c).
#include <stdio.h>

#include "api.h"
#include "api_llm_ask.h"
#include "api_llm_pass.h"
#include "digest.h"
#include "err.h"
#include "json_read.h"
#include "percent.h"
#include "stream_headers.h"

#define OWN_PATH "llm/" // of a stream that is made for a call that names none
#define ATTEMPTS_MAX 1000 // of one request under one name

// <provider>/<rest>
static struct span split(struct span path, struct span *provider)
{
    size_t n = 0;
    while (n < path.n && path.p[n] != '/')
        n++;
    *provider = span_sub(path, 0, n);
    return span_sub(path, n < path.n ? n + 1 : n, path.n);
}

static bool api_of(struct span rest, enum llm_api *api)
{
    if (span_is(rest, "v1/chat/completions"))
        *api = LLM_CHAT;
    else if (span_is(rest, "v1/responses"))
        *api = LLM_RESPONSES;
    else if (span_is(rest, "v1/messages"))
        *api = LLM_MESSAGES;
    else
        return false;
    return true;
}

// ---- names ----------------------------------------------------------------------------------------------------------

// The header's value, decoded into the ask. 1: there is one.
static int get_name(struct llm_ask *a, struct problem *p)
{
    struct span value;
    struct buf path;
    if (!request_header(a->r, "segue-stream", &value)) return 0;
    buf_init(&path, HTTP_HEADERS_MAX);
    int err = percent_decode(&path, value, false);
    if (err != 0) err = problem_set(p, ERR_BAD_REQUEST, -1, "Segue-Stream is not the path of a stream");
    if (err == 0) err = llm_ask_path(a, buf_span(&path), p);
    if (err == 0 && span_starts(a->path, "rows/")) err = ERR_RESERVED_PATH;
    buf_free(&path);
    return err != 0 ? err : 1;
}

// The same request under the same name is the same job, so that an SDK may send it again: its id is made from both. A request that
// failed before its first byte may be made again: `attempt` tells them apart.
static struct uuid named_id(const struct llm_ask *a, struct span target, struct sha256 body, unsigned attempt)
{
    struct sha256 sum;
    struct uuid id;
    struct buf b;
    buf_init(&b, 4 * STREAM_PATH_MAX);
    buf_put_blob(&b, a->path);
    buf_put_blob(&b, target);
    buf_put_u32(&b, attempt);
    buf_put(&b, body.b, sizeof body.b);
    sum = sha256_of(buf_span(&b));
    buf_free(&b);
    memcpy(id.b, sum.b, sizeof id.b);
    id.b[6] = (uint8_t)((id.b[6] & 0x0f) | 0x80); // RFC 9562: version 8, of our own making
    id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80);
    return id;
}

// What has been asked under this name before.
enum before { NEVER, FAILED, THERE };

// a->id becomes the last attempt's, *next what the one behind it would have.
static enum before look_back(struct llm_ask *a, struct span target, bool has_bytes, struct uuid *next)
{
    struct job j;
    struct sha256 body = sha256_of(buf_span(&a->r->body));
    enum before before = NEVER;
    for (unsigned n = 0; n < ATTEMPTS_MAX; n++) {
        *next = named_id(a, target, body, n);
        if (app_job(a->r->app, *next, &j) != 1) break;
        a->id = *next;
        a->has_id = true;
        bool live = job_is_live(j.state);
        before = live || (has_bytes && !llm_job_was_refused(&j)) ? THERE : FAILED;
        if (live) break;
    }
    return before;
}

// ---- POST -----------------------------------------------------------------------------------------------------------

// Headers that change what a provider does; keys and accounts are the service's.
struct headers {
    char lines[3][512];
    const char *list[LLM_MORE_HEADERS_MAX];
    size_t n;
};

static void get_headers(const struct request *r, enum llm_api api, struct headers *h)
{
    static const struct {
        enum llm_api api;
        const char *name, *as;
    } known[] = {{LLM_MESSAGES, "anthropic-version", "anthropic-version"},
                 {LLM_MESSAGES, "anthropic-beta", "anthropic-beta"},
                 {LLM_RESPONSES, "openai-beta", "OpenAI-Beta"}};
    h->n = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct span value;
        if (known[i].api != api || !request_header(r, known[i].name, &value) || value.n > 400) continue;
        snprintf(h->lines[h->n], sizeof h->lines[0], "%s: %.*s", known[i].as, SPAN_FMT(value));
        h->list[h->n] = h->lines[h->n];
        h->n++;
    }
}

// Does the request ask for an event stream?
static int wants_stream(const struct request *r, bool *stream, struct problem *p)
{
    struct jr_tree *tree;
    int err = jr_parse(&tree, buf_span(&r->body), p);
    if (err != 0) return err;
    if (jr_type(jr_root(tree)) != JR_OBJECT) err = problem_set(p, ERR_BAD_REQUEST, -1, "the request is not an object");
    *stream = jr_bool(jr_get(jr_root(tree), "stream"), false);
    jr_free(tree);
    return err;
}

static int get_cursor(const struct request *r, bool *has, uint64_t *offset, struct problem *p)
{
    struct span value;
    *has = request_header(r, "segue-cursor", &value);
    *offset = 0;
    if (!*has || span_is(value, "-1") || stream_offset_parse(value, offset) == 0) return 0;
    return problem_set(p, ERR_BAD_OFFSET, -1, "Segue-Cursor is not an offset");
}

static int make(struct llm_ask *a, struct span provider, enum llm_api api, bool drop, struct problem *p)
{
    struct headers headers;
    bool stream;
    int err = wants_stream(a->r, &stream, p);
    if (err != 0) return err;
    get_headers(a->r, api, &headers);
    if (!stream) headers.list[headers.n++] = "Accept: application/json";
    struct llm_ask_call call = {.provider = provider,
                                .api = api,
                                .form = LLM_FORM_RAW,
                                .body = buf_span(&a->r->body),
                                .more = {.headers = headers.list, .header_count = headers.n, .direct = true, .type = stream ? NULL : LLM_ANSWER_TYPE},
                                .drop = drop};
    return llm_ask_make(a, &call, p);
}

static int resume(struct llm_ask *a, struct span target, uint64_t offset)
{
    struct uuid next;
    // A stream that was made for its call is named by it.
    if (span_starts(a->path, OWN_PATH) && uuid_parse(&a->id, span_sub(a->path, sizeof OWN_PATH - 1, a->path.n)) == 0)
        a->has_id = true;
    else if (look_back(a, target, true, &next) == NEVER) // another body, or none: the name alone tells who writes it now
        a->has_id = app_job_writing(a->r->app, a->path, &a->id);
    return llm_ask_attach(a, offset);
}

static int post_named(struct llm_ask *a, struct span provider, enum llm_api api, struct span target, struct problem *p)
{
    struct app *app = a->r->app;
    struct stream_info info;
    bool exists = streams_find(app_streams(app), app_txn(app), a->path, &info);
    struct uuid next;
    enum before before = look_back(a, target, exists && info.offset > 0, &next);
    if (before == THERE) return llm_ask_attach(a, 0);
    // One that nobody has written to yet is taken: somebody may follow it already.
    if (before == NEVER && exists && (info.offset > 0 || info.closed))
        return problem_set(p, ERR_STREAM_EXISTS, -1, "the stream has another call's answer, or something else");
    a->id = next;
    return make(a, provider, api, before == FAILED && exists, p);
}

static int completion(struct llm_ask *a, struct span provider, enum llm_api api, struct problem *p)
{
    char room[64];
    uint64_t offset;
    bool has_cursor;
    struct span target = a->r->path;
    if (app_txn(a->r->app) == NULL) return ERR_BUSY;
    int named = get_name(a, p), err = get_cursor(a->r, &has_cursor, &offset, p);
    if (named < 0 || err != 0) return named < 0 ? named : err;
    if (named == 0 && has_cursor) return problem_set(p, ERR_BAD_REQUEST, -1, "Segue-Cursor needs the Segue-Stream that it is a place of");
    // The door was for calls; what a name names has a door of its own.
    if (named == 1) err = llm_ask_may(a, has_cursor ? MAY_READ_STREAM : MAY_WRITE_BATCH);
    if (err != 0) return err;
    if (has_cursor) return resume(a, target, offset);
    if (named == 1) return post_named(a, provider, api, target, p);
    a->id = uuid_new();
    memcpy(room, OWN_PATH, sizeof OWN_PATH - 1);
    uuid_format(a->id, room + sizeof OWN_PATH - 1);
    err = llm_ask_path(a, SPAN(room, sizeof OWN_PATH - 1 + UUID_TEXT), p);
    return err != 0 ? err : make(a, provider, api, false, p);
}

static void post(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct span provider, rest = split(r->path, &provider);
    enum llm_api api;
    if (span_is(rest, "ui")) {
        llm_ui_post(r, provider);
        return;
    }
    if (!api_of(rest, &api)) {
        llm_pass(r, provider, rest);
        return;
    }
    struct llm_ask *a = llm_ask_new(r);
    if (a == NULL) return;
    int err = completion(a, provider, api, &p);
    if (err != 0) llm_reply_problem(r, err, &p);
}

// ---- the others -----------------------------------------------------------------------------------------------------

static void get(struct request *r)
{
    struct span provider, rest = split(r->path, &provider);
    if (span_starts(rest, "ui/"))
        llm_ui_get(r, provider, span_sub(rest, 3, rest.n));
    else
        llm_pass(r, provider, rest);
}

static void delete(struct request *r)
{
    struct span provider, rest = split(r->path, &provider);
    if (span_starts(rest, "ui/"))
        llm_ui_delete(r, provider, span_sub(rest, 3, rest.n));
    else
        llm_pass(r, provider, rest);
}

const struct handler api_llm_proxy_post = {.begin = post, .drain = llm_ask_drain, .done = llm_ask_done, .body_max = LLM_REQUEST_MAX};
const struct handler api_llm_proxy_get = {.begin = get, .drain = llm_ask_drain, .done = llm_ask_done};
const struct handler api_llm_proxy_delete = {.begin = delete, .drain = llm_ask_drain, .done = llm_ask_done};
