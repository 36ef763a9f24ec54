#include "http.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include <curl/curl.h>

#include "err.h"
#include "limits.h"

#define BODY_MAX (QUERY_RESULT_MAX + MIB) // of a collected answer
#define CONNECT_MS 5000
#define SILENCE_S 60

struct http {
    CURL *curl;
    struct buf base; // http://host:port/apps/name/
    size_t origin;   // bytes of it up to the "apps"
    struct buf authorization;
    struct buf url;
    struct buf head; // "name: value\n", as received
    struct buf body;
    const struct http_request *request;
    uint64_t sent;
    int failure; // what a callback found
    int status;
    bool connected;
    char error[CURL_ERROR_SIZE];
};

// ---- callbacks -------------------------------------------------------------------------------------------------

static bool is_success(int status)
{
    return status >= 200 && status < 300;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct http *h = ctx;
    struct span line = SPAN(p, size * n);
    while (line.n > 0 && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == '\n'))
        line.n--;
    if (span_starts(line, "HTTP/")) buf_clear(&h->head); // an answer after "100 Continue"
    buf_put_span(&h->head, line);
    buf_put_u8(&h->head, '\n');
    return h->head.err == 0 ? size * n : 0;
}

static size_t on_piece(char *p, size_t size, size_t n, void *ctx)
{
    struct http *h = ctx;
    long status = 0;
    struct span piece = SPAN(p, size * n);
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    h->status = (int)status;
    if (is_success(h->status) && h->request->on_body != NULL) {
        if (h->request->on_body(h->request->ctx, piece) == 0) return piece.n;
        h->failure = ERR_CANCELED;
        return 0;
    }
    buf_put_span(&h->body, piece);
    h->failure = h->body.err;
    return h->failure == 0 ? piece.n : 0;
}

static size_t on_read(char *p, size_t size, size_t n, void *ctx)
{
    struct http *h = ctx;
    size_t got = 0;
    h->failure = h->request->read(h->request->ctx, h->sent, (uint8_t *)p, size * n, &got);
    if (h->failure != 0) return CURL_READFUNC_ABORT;
    h->sent += got;
    return got;
}

// The library sends a body again when a kept connection turns out to be dead.
static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    struct http *h = ctx;
    if (origin != SEEK_SET || offset < 0) return CURL_SEEKFUNC_FAIL;
    h->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    struct http *h = ctx;
    (void)down_total, (void)down, (void)up_total, (void)up;
    if (h->request->stop == NULL || *h->request->stop == 0) return 0;
    h->failure = ERR_CANCELED;
    return 1;
}

// ---- requests --------------------------------------------------------------------------------------------------

struct http *http_new(const char *url, const char *app, const char *key)
{
    struct http *h = calloc(1, sizeof *h);
    if (h == NULL) return NULL;
    buf_init(&h->base, HTTP_TARGET_MAX);
    buf_init(&h->authorization, HTTP_HEADERS_MAX);
    buf_init(&h->url, 2 * HTTP_TARGET_MAX);
    buf_init(&h->head, HTTP_HEADERS_MAX);
    buf_init(&h->body, BODY_MAX);
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    buf_printf(&h->base, "%.*s/apps/%s/", (int)n, url, app);
    h->origin = n + 1;
    if (key != NULL) buf_printf(&h->authorization, "Authorization: Bearer %s", key);
    buf_put_u8(&h->authorization, 0);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0) h->curl = curl_easy_init();
    if (h->curl != NULL && h->base.err == 0 && h->authorization.err == 0) return h;
    http_free(h);
    return NULL;
}

void http_free(struct http *h)
{
    if (h == NULL) return;
    curl_easy_cleanup(h->curl);
    buf_free(&h->base);
    buf_free(&h->authorization);
    buf_free(&h->url);
    buf_free(&h->head);
    buf_free(&h->body);
    free(h);
}

// A line break in a value would be a header field of its own.
static bool add_header(struct curl_slist **list, const char *line)
{
    for (const char *c = line; *c != 0; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) return false;
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer != NULL) *list = longer;
    return longer != NULL;
}

// The library's own additions that we do not want are taken out by empty fields.
static bool make_headers(const struct http *h, const struct http_request *r, struct curl_slist **list)
{
    bool ok = add_header(list, "Expect:") && add_header(list, "User-Agent: segue") && add_header(list, "Content-Type:");
    const char *authorization = (const char *)h->authorization.p;
    if (ok && authorization[0] != 0) ok = add_header(list, authorization);
    for (size_t i = 0; ok && i < HTTP_REQUEST_HEADERS_MAX && r->headers[i] != NULL; i++)
        ok = add_header(list, r->headers[i]);
    return ok;
}

static void set_body(struct http *h, const struct http_request *r)
{
    if (r->read != NULL) {
        curl_easy_setopt(h->curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(h->curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(h->curl, CURLOPT_READDATA, h);
        curl_easy_setopt(h->curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(h->curl, CURLOPT_SEEKDATA, h);
        curl_easy_setopt(h->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->read_size);
    } else if (r->has_body) {
        curl_easy_setopt(h->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, r->body.n > 0 ? (const char *)r->body.p : "");
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
    } else if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(h->curl, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, r->method);
}

// curl_easy_reset keeps the connection.
static void set_options(struct http *h, const struct http_request *r, struct curl_slist *headers)
{
    curl_easy_reset(h->curl);
    curl_easy_setopt(h->curl, CURLOPT_URL, (const char *)h->url.p);
    curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_TIME, (long)(r->silence_s != 0 ? r->silence_s : SILENCE_S));
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, h->error);
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(h->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_piece);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, h);
    if (r->stop != NULL) {
        curl_easy_setopt(h->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(h->curl, CURLOPT_XFERINFODATA, h);
        curl_easy_setopt(h->curl, CURLOPT_NOPROGRESS, 0L);
    }
    set_body(h, r);
}

int http_send(struct http *h, const struct http_request *request)
{
    assert(request->method != NULL && request->path != NULL);
    assert(request->read == NULL || !request->has_body);
    buf_clear(&h->url);
    buf_clear(&h->head);
    buf_clear(&h->body);
    buf_put_span(&h->url, span_sub(buf_span(&h->base), 0, request->of_service ? h->origin : h->base.n));
    buf_put_str(&h->url, request->path);
    buf_put_u8(&h->url, 0);
    h->request = request;
    h->sent = 0;
    h->failure = 0;
    h->status = 0;
    h->connected = false;
    h->error[0] = 0;
    struct curl_slist *headers = NULL;
    bool ok = make_headers(h, request, &headers);
    CURLcode code = CURLE_OK;
    if (ok && h->url.err == 0) {
        set_options(h, request, headers);
        code = curl_easy_perform(h->curl);
        long status = 0;
        curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
        h->status = (int)status;
        curl_off_t connect_us = 0;
        curl_easy_getinfo(h->curl, CURLINFO_CONNECT_TIME_T, &connect_us);
        h->connected = connect_us > 0 || status != 0;
    }
    curl_slist_free_all(headers);
    if (!ok) return ERR_BAD_REQUEST;
    if (h->url.err != 0) return h->url.err;
    if (h->failure != 0) return h->failure;
    if (code == CURLE_OUT_OF_MEMORY) return ERR_NOMEM;
    uint8_t *end = buf_reserve(&h->body, 1);
    if (end == NULL) return h->body.err;
    *end = 0;
    if (code != CURLE_OK && h->error[0] == 0) snprintf(h->error, sizeof h->error, "%s", curl_easy_strerror(code));
    return code == CURLE_OK ? 0 : ERR_UNREACHABLE;
}

// ---- the answer ------------------------------------------------------------------------------------------------

int http_status(const struct http *h)
{
    return h->status;
}

bool http_connected(const struct http *h)
{
    return h->connected;
}

struct span http_header(const struct http *h, const char *name)
{
    size_t n = strlen(name);
    struct span rest = buf_span(&h->head);
    while (rest.n > 0) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);
        struct span line = SPAN(rest.p, end == NULL ? rest.n : (size_t)(end - rest.p));
        rest = span_sub(rest, line.n + 1, rest.n);
        if (line.n <= n || line.p[n] != ':' || strncasecmp((const char *)line.p, name, n) != 0) continue;
        line = span_sub(line, n + 1, line.n);
        while (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
            line = span_sub(line, 1, line.n);
        return line;
    }
    return SPAN_NONE;
}

struct span http_body(const struct http *h)
{
    return buf_span(&h->body);
}

const char *http_error(const struct http *h)
{
    return h->error[0] != 0 ? h->error : "no answer";
}
