#include "client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "err.h"
#include "file.h"
#include "json_read.h"
#include "limits.h"
#include "uuid.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
#define RETRY_S 30 // how long a broken request is tried again, where nobody says otherwise
#define DETAIL_MAX (4 * KIB)

// ---- the client ------------------------------------------------------------------------------------------------

struct segue *segue_new(const struct segue_options *options)
{
    static const struct segue_options none;
    const struct segue_options *o = options != NULL ? options : &none;
    struct segue *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    buf_init(&s->url, HTTP_TARGET_MAX);
    buf_init(&s->app, HTTP_TARGET_MAX);
    buf_init(&s->key, HTTP_HEADERS_MAX);
    buf_init(&s->detail, DETAIL_MAX);
    buf_put_str(&s->url, o->url != NULL ? o->url : "http://127.0.0.1:7420");
    buf_put_str(&s->app, o->app != NULL ? o->app : "default");
    s->retry_s = o->retry_s;
    s->stop = o->stop;
    uuid_format(uuid_new(), s->replica);
    client_begin(s);
    if (o->key != NULL) buf_put_str(&s->key, o->key);
    s->has_key = o->key != NULL;
    const char *url = client_string(&s->url), *app = client_string(&s->app);
    client_string(&s->key);
    if (s->url.err == 0 && s->app.err == 0 && s->key.err == 0) s->http = http_new(url, app, o->key);
    if (s->http != NULL) return s;
    segue_free(s);
    return NULL;
}

void segue_free(struct segue *s)
{
    if (s == NULL) return;
    http_free(s->http);
    buf_free(&s->url);
    buf_free(&s->app);
    buf_free(&s->key);
    buf_free(&s->detail);
    free(s);
}

struct segue *client_like(const struct segue *s)
{
    const struct segue_options same = {
        .url = (const char *)s->url.p,
        .app = (const char *)s->app.p,
        .key = s->has_key ? (const char *)s->key.p : NULL,
        .retry_s = s->retry_s,
        .stop = s->stop,
    };
    struct segue *like = segue_new(&same);
    if (like != NULL) like->reached = s->reached;
    return like;
}

void client_begin(struct segue *s)
{
    s->answered = false;
    s->error = (struct segue_error){.result = SEGUE_OK, .code = err_wire(0), .detail = "", .position = -1};
}

const struct segue_error *segue_error(const struct segue *s)
{
    return &s->error;
}

const char *segue_answer(const struct segue *s, size_t *n)
{
    struct span body = s->answered ? http_body(s->http) : SPAN_NONE;
    if (n != NULL) *n = body.n;
    return body.n > 0 ? (const char *)body.p : "";
}

void segue_id(char text[37])
{
    uuid_format(uuid_new(), text);
    text[UUID_TEXT] = 0;
}

// ---- how calls end ---------------------------------------------------------------------------------------------

// A detail that is too long, or for which there is no memory, is cut: it is for people.
static int end_with(struct segue *s, int result, int status)
{
    s->error.result = result;
    s->error.status = status;
    s->error.code = s->code;
    s->detail.err = 0;
    if (s->detail.n == s->detail.max) buf_truncate(&s->detail, s->detail.n - 1);
    buf_put_u8(&s->detail, 0);
    s->error.detail = s->detail.err == 0 ? (const char *)s->detail.p : "";
    return result;
}

int client_fail(struct segue *s, int result, int err, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    assert(result != SEGUE_OK);
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_clear(&s->detail);
    buf_put_str(&s->detail, text);
    snprintf(s->code, sizeof s->code, "%s", err_wire(err));
    return end_with(s, result, 0);
}

int client_take_end(struct segue *s, const struct segue *from, int result)
{
    if (result == SEGUE_OK) return result;
    snprintf(s->code, sizeof s->code, "%s", from->error.code);
    buf_clear(&s->detail);
    buf_put_str(&s->detail, from->error.detail);
    s->error.position = from->error.position;
    return end_with(s, result, from->error.status);
}

int client_canceled(struct segue *s)
{
    return client_fail(s, SEGUE_CANCELED, ERR_CANCELED, "%s", err_text(ERR_CANCELED));
}

bool client_stopped(const struct segue *s)
{
    return s->stop != NULL && *s->stop != 0;
}

int client_broken(struct segue *s, int err)
{
    assert(err != 0);
    if (err == ERR_CANCELED) return client_canceled(s);
    if (err == ERR_UNREACHABLE) return client_fail(s, SEGUE_UNREACHABLE, err, "%s", http_error(s->http));
    return client_fail(s, SEGUE_REFUSED, err, "%s", err_text(err));
}

int client_refused(struct segue *s)
{
    return client_refuse(s, http_status(s->http), http_body(s->http));
}

int client_refuse(struct segue *s, int status, struct span body)
{
    struct jr_tree *tree = NULL;
    snprintf(s->code, sizeof s->code, "http_%d", status);
    buf_clear(&s->detail);
    if (jr_parse(&tree, body, NULL) == 0) {
        const struct jr *problem = jr_root(tree);
        struct span wire = jr_str(jr_get(problem, "code")), words = jr_str(jr_get(problem, "detail"));
        if (wire.n > 0) snprintf(s->code, sizeof s->code, "%.*s", SPAN_FMT(span_sub(wire, 0, sizeof s->code - 1)));
        if (words.n == 0) words = jr_str(jr_get(problem, "title"));
        buf_put_span(&s->detail, span_sub(words, 0, DETAIL_MAX - 1));
        s->error.position = jr_int(jr_get(problem, "position"), -1);
    }
    if (s->detail.n == 0) buf_printf(&s->detail, "the service answered with status %d", status);
    jr_free(tree);
    return end_with(s, SEGUE_REFUSED, status);
}

int client_end(struct segue *s, int err)
{
    return err != 0 ? client_broken(s, err) : client_refused(s);
}

// ---- requests --------------------------------------------------------------------------------------------------

bool client_backoff(const struct segue *s, struct backoff *b, bool forever)
{
    uint64_t now = clock_mono_us();
    if (s->retry_s < 0 || (!s->reached && s->retry_s == 0)) return false;
    if (b->began_us == 0) {
        b->began_us = now;
        b->wait_ms = BACKOFF_FIRST_MS;
    }
    double limit = s->retry_s > 0 ? s->retry_s : RETRY_S;
    if ((!forever || s->retry_s > 0) && (double)(now - b->began_us) / 1e6 >= limit) return false;
    struct timespec t = {b->wait_ms / 1000, (long)(b->wait_ms % 1000) * 1000000};
    nanosleep(&t, NULL);
    b->wait_ms = b->wait_ms * 2 < BACKOFF_MAX_MS ? b->wait_ms * 2 : BACKOFF_MAX_MS;
    return true;
}

bool client_again(const struct segue *s)
{
    int status = http_status(s->http);
    return status == 503 || status == 429 || status == 408;
}

int client_send(struct segue *s, const struct http_request *request)
{
    int err = http_send(s->http, request);
    if (err == 0 || http_connected(s->http)) s->reached = true;
    return err;
}

int client_ask(struct segue *s, const struct http_request *request)
{
    struct backoff backoff = {0};
    for (;;) {
        int err = client_send(s, request);
        if (err == 0 && !client_again(s)) return SEGUE_OK;
        if (err != 0 && err != ERR_UNREACHABLE) return client_broken(s, err);
        if (request->stop != NULL && *request->stop != 0) return client_canceled(s);
        if (!client_backoff(s, &backoff, false)) return client_end(s, err);
    }
}

int client_call(struct segue *s, const struct http_request *request)
{
    int result = client_ask(s, request), status = http_status(s->http);
    if (result != SEGUE_OK) return result;
    if (status < 200 || status > 299) return client_refused(s);
    s->answered = true;
    return SEGUE_OK;
}

int client_post(struct segue *s, const char *path, struct span body, const char *header)
{
    const struct http_request request = {
        .method = "POST",
        .path = path,
        .headers = {"Content-Type: application/json", header},
        .has_body = true,
        .body = body,
    };
    return client_call(s, &request);
}

// ---- texts -----------------------------------------------------------------------------------------------------

void client_put_encoded(struct buf *out, struct span s, bool keep_slash)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL;
        if ((plain && c != 0) || (c == '/' && keep_slash))
            buf_put_u8(out, c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

const char *client_string(struct buf *b)
{
    if (b->n == 0 || b->p[b->n - 1] != 0) buf_put_u8(b, 0);
    return b->err == 0 ? (const char *)b->p : "";
}
