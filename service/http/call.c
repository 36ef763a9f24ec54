#include "call.h"

#include <assert.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include <curl/curl.h>

#include "err.h"
#include "file.h"
#include "limits.h"

#define REFUSAL_CUT MIB // bytes of a refusal before it is cut off: the peer may go on for ever

struct calls {
    uv_loop_t *loop;
    uv_timer_t timer;
    CURLM *multi;
    struct call *first;
    size_t handles; // of libuv, not closed yet
};

// A socket of the library's that the loop looks at.
struct watch {
    uv_poll_t poll;
    struct calls *calls;
    curl_socket_t socket;
};

struct call {
    struct calls *calls;
    struct call *next, *prev;
    struct call_options options;
    CURL *easy;
    struct curl_slist *headers;
    struct buf body;
    struct buf refusal; // the body of an answer that is not 2xx
    size_t head_bytes, refusal_bytes;
    struct call_head head;
    char request_id[CALL_ID_MAX];
    uint64_t began_ms, heard_ms; // heard: 0 before the first byte of the answer
    bool started, headed, paused, out_of_reach, odd;
    bool first_came;
    char error[CURL_ERROR_SIZE];
};

static uint64_t now_ms(void)
{
    return clock_mono_us() / 1000;
}

// ---- sockets and time: the library asks, the loop answers -----------------------------------------------------------

static void handle_closed(struct calls *cs)
{
    assert(cs->handles > 0);
    if (--cs->handles == 0) free(cs);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *w = handle->data;
    struct calls *cs = w->calls;
    free(w);
    handle_closed(cs);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void take_ended(struct calls *cs);

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    struct calls *cs = w->calls;
    int flags = 0, running;
    if (status < 0) flags = CURL_CSELECT_ERR;
    if (events & UV_READABLE) flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE) flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(cs->multi, w->socket, flags, &running); // `w` may be gone behind it
    take_ended(cs);
}

static struct watch *watch_new(struct calls *cs, curl_socket_t socket)
{
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL) return NULL;
    w->calls = cs;
    w->socket = socket;
    if (uv_poll_init_socket(cs->loop, &w->poll, socket) < 0) {
        free(w);
        return NULL;
    }
    w->poll.data = w;
    cs->handles++;
    curl_multi_assign(cs->multi, socket, w);
    return w;
}

static int on_want_socket(CURL *easy, curl_socket_t socket, int what, void *ctx, void *assigned)
{
    struct calls *cs = ctx;
    struct watch *w = assigned;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w == NULL) return 0;
        curl_multi_assign(cs->multi, socket, NULL);
        uv_poll_stop(&w->poll); // at once: the library closes the socket behind this
        uv_close((uv_handle_t *)&w->poll, on_watch_closed);
        return 0;
    }
    if (w == NULL) w = watch_new(cs, socket);
    if (w == NULL) return -1; // the transfers of this socket fail
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&w->poll, events, on_socket) < 0 ? -1 : 0;
}

static void on_timer(uv_timer_t *timer)
{
    struct calls *cs = timer->data;
    int running;
    curl_multi_socket_action(cs->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_ended(cs);
}

static int on_want_timer(CURLM *multi, long ms, void *ctx)
{
    struct calls *cs = ctx;
    (void)multi;
    if (ms < 0)
        uv_timer_stop(&cs->timer);
    else
        uv_timer_start(&cs->timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

int calls_open(struct calls **out, uv_loop_t *loop)
{
    struct calls *cs = calloc(1, sizeof *cs);
    if (cs == NULL) return ERR_NOMEM;
    cs->loop = loop;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0) cs->multi = curl_multi_init();
    if (cs->multi == NULL) {
        free(cs);
        return ERR_NOMEM;
    }
    curl_multi_setopt(cs->multi, CURLMOPT_SOCKETFUNCTION, on_want_socket);
    curl_multi_setopt(cs->multi, CURLMOPT_SOCKETDATA, cs);
    curl_multi_setopt(cs->multi, CURLMOPT_TIMERFUNCTION, on_want_timer);
    curl_multi_setopt(cs->multi, CURLMOPT_TIMERDATA, cs);
    uv_timer_init(loop, &cs->timer);
    cs->timer.data = cs;
    cs->handles = 1;
    *out = cs;
    return 0;
}

void calls_close(struct calls *cs)
{
    if (cs == NULL) return;
    assert(cs->first == NULL);
    curl_multi_cleanup(cs->multi);
    curl_global_cleanup();
    uv_close((uv_handle_t *)&cs->timer, on_timer_closed);
}

// ---- what the peer answers ------------------------------------------------------------------------------------------

static int status_of(const struct call *c)
{
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

static bool is_good(const struct call *c)
{
    return c->head.status >= 200 && c->head.status < 300;
}

// The value, if the line has this name (which ends with the colon).
static bool header_is(struct span line, const char *name, struct span *value)
{
    size_t n = strlen(name);
    if (line.n < n || strncasecmp((const char *)line.p, name, n) != 0) return false;
    *value = span_sub(line, n, line.n);
    while (value->n > 0 && (value->p[0] == ' ' || value->p[0] == '\t'))
        *value = span_sub(*value, 1, value->n);
    while (value->n > 0 && value->p[value->n - 1] <= ' ')
        value->n--;
    return true;
}

static void retry_after(struct call *c, struct span value, uint64_t unit_ms)
{
    char text[64];
    uint64_t ms = 0;
    if (value.n == 0 || value.n >= sizeof text) return;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (text[0] >= '0' && text[0] <= '9' && strchr(text, ':') == NULL) {
        double n = strtod(text, NULL) * (double)unit_ms; // some send fractions of a second
        ms = n > (double)CALL_RETRY_AFTER_MAX_MS ? CALL_RETRY_AFTER_MAX_MS : (uint64_t)n;
    } else {
        time_t at = curl_getdate(text, NULL), now = (time_t)(clock_wall_ms() / 1000);
        if (at == -1) return;
        ms = at > now ? (uint64_t)(at - now) * 1000 : 0;
    }
    c->head.has_retry_after = true;
    c->head.retry_after_ms = ms < CALL_RETRY_AFTER_MAX_MS ? ms : CALL_RETRY_AFTER_MAX_MS;
}

// What callers tell others again must not end a line of theirs: HTTP libraries let a lone CR through.
static bool is_printable(struct span value)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < ' ' || value.p[i] > '~') return false;
    return true;
}

static void take_header(struct call *c, struct span line)
{
    struct span value;
    if (header_is(line, "retry-after-ms:", &value)) {
        retry_after(c, value, 1);
    } else if (header_is(line, "retry-after:", &value)) {
        if (!c->head.has_retry_after) retry_after(c, value, 1000);
    } else if (header_is(line, "x-request-id:", &value) || header_is(line, "request-id:", &value)) {
        if (value.n >= sizeof c->request_id || !is_printable(value)) return;
        memcpy(c->request_id, value.p, value.n);
        c->head.request_id = SPAN(c->request_id, value.n);
    }
}

// The head is whole. One of the 1xx announces another; a number beyond 599 says nothing that could be passed on.
static bool take_head(struct call *c)
{
    const char *type = NULL;
    c->head.status = status_of(c);
    if (c->head.status < 200) return true;
    c->odd = c->head.status > 599;
    if (c->odd) return false;
    c->headed = true;
    curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
    if (type != NULL && is_printable(SPAN_STR(type))) c->head.type = SPAN_STR(type);
    return c->options.head == NULL || c->options.head(c->options.ctx, &c->head);
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct call *c = ctx;
    struct span line = SPAN(p, size * n);
    c->head_bytes += line.n;
    if (c->head_bytes > CALL_HEADERS_MAX) return 0;
    if (c->headed) return line.n; // a trailer
    if (line.n > 0 && line.p[0] != '\r' && line.p[0] != '\n')
        take_header(c, line);
    else if (!take_head(c))
        return 0;
    return line.n;
}

static size_t on_piece(char *p, size_t size, size_t n, void *ctx)
{
    struct call *c = ctx;
    struct span piece = SPAN(p, size * n);
    if (is_good(c) && c->options.full != NULL && c->options.full(c->options.ctx)) {
        c->paused = true;
        return CURL_WRITEFUNC_PAUSE; // the library keeps this one, and gives it again
    }
    c->heard_ms = now_ms();
    if (!c->options.tells_first) c->first_came = true;
    if (is_good(c)) return c->options.data == NULL || c->options.data(c->options.ctx, piece) ? piece.n : 0;
    buf_put_span(&c->refusal, span_sub(piece, 0, c->refusal.max - c->refusal.n));
    c->refusal_bytes += piece.n;
    return c->refusal_bytes <= REFUSAL_CUT ? piece.n : 0;
}

// ---- whom it may call -----------------------------------------------------------------------------------------------

static curl_socket_t on_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct call *c = ctx;
    if (purpose != CURLSOCKTYPE_IPCXN || !reach_allows(c->options.reach, &address->addr)) {
        c->out_of_reach = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// ---- the end of a call ----------------------------------------------------------------------------------------------

static int explain(const struct call *c, CURLcode code, struct problem *p)
{
    const char *why = c->error[0] != '\0' ? c->error : curl_easy_strerror(code);
    if (c->head_bytes > CALL_HEADERS_MAX) return problem_set(p, ERR_PROVIDER_MALFORMED, -1, "the head of the answer is too large");
    if (c->odd || (code == CURLE_OK && !c->headed)) return problem_set(p, ERR_PROVIDER_MALFORMED, -1, "status %d is no answer", c->head.status);
    if (code == CURLE_OK || c->refusal_bytes > REFUSAL_CUT) return 0;
    if (code == CURLE_WRITE_ERROR) return problem_set(p, ERR_CANCELED, -1, "the call was called off");
    if (code == CURLE_OUT_OF_MEMORY) return problem_set(p, ERR_NOMEM, -1, "%s", why);
    if (c->headed) return problem_set(p, ERR_PROVIDER_CUT, -1, "%s", why);
    if (c->out_of_reach) return problem_set(p, ERR_FORBIDDEN, -1, "the address may not be called");
    if (code == CURLE_OPERATION_TIMEDOUT) return problem_set(p, ERR_PROVIDER_TIMEOUT, -1, "%s", why);
    if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
        return problem_set(p, ERR_PROVIDER_MALFORMED, -1, "%s", why);
    return problem_set(p, ERR_PROVIDER_UNREACHABLE, -1, "%s", why);
}

static void unlink_call(struct call *c)
{
    struct calls *cs = c->calls;
    if (!c->started) return;
    c->started = false;
    if (cs->first == c) cs->first = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    if (c->prev != NULL) c->prev->next = c->next;
    curl_multi_remove_handle(cs->multi, c->easy);
}

static void end(struct call *c, const struct problem *p)
{
    curl_off_t connected = 0;
    curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    struct call_end e = {.problem = *p,
                         .status = c->headed ? c->head.status : 0,
                         .body = buf_span(&c->refusal),
                         .has_retry_after = c->head.has_retry_after,
                         .retry_after_ms = c->head.retry_after_ms,
                         .sent = connected > 0};
    unlink_call(c);
    c->options.ended(c->options.ctx, &e); // `c` may be gone behind it
}

static void take_ended(struct calls *cs)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(cs->multi, &left)) != NULL;) {
        struct problem p = PROBLEM_NONE;
        struct call *c = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode code = m->data.result; // gone with the handle
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        explain(c, code, &p);
        end(c, &p);
    }
}

static void check_time(struct call *c, uint64_t now)
{
    const struct call_times *t = &c->options.times;
    struct problem p = PROBLEM_NONE;
    if (now - c->began_ms > t->total_ms)
        problem_set(&p, ERR_PROVIDER_TIMEOUT, -1, "the call took longer than %llu ms", (unsigned long long)t->total_ms);
    else if (c->paused)
        return; // it is we who let it wait
    else if (!c->first_came && now - c->began_ms <= t->first_ms)
        return;
    else if (!c->first_came)
        problem_set(&p, ERR_PROVIDER_TIMEOUT, -1, "%s for %llu ms", c->heard_ms == 0 ? "the peer sent nothing" : "no answer began",
                    (unsigned long long)t->first_ms);
    else if (now > c->heard_ms && now - c->heard_ms > t->idle_ms)
        problem_set(&p, ERR_PROVIDER_TIMEOUT, -1, "the peer fell silent for %llu ms", (unsigned long long)t->idle_ms);
    if (p.err != 0) end(c, &p);
}

void calls_tick(struct calls *cs)
{
    uint64_t now = now_ms();
    for (struct call *c = cs->first, *next; c != NULL; c = next) {
        next = c->next;
        check_time(c, now);
    }
}

// ---- a call ---------------------------------------------------------------------------------------------------------

static bool add_header(struct call *c, const char *line)
{
    struct curl_slist *longer = curl_slist_append(c->headers, line);
    if (longer != NULL) c->headers = longer;
    return longer != NULL;
}

// The library would add two of its own: the content type of a form, and an Expect that costs a round trip.
static bool add_headers(struct call *c, const struct call_options *o)
{
    bool ok = add_header(c, "Expect:"), typed = false;
    for (size_t i = 0; ok && i < o->header_count; i++) {
        ok = add_header(c, o->headers[i]);
        typed |= strncasecmp(o->headers[i], "content-type:", 13) == 0;
    }
    return ok && (typed || add_header(c, "Content-Type:"));
}

static bool set_request(struct call *c)
{
    CURL *e = c->easy;
    const char *method = c->options.method;
    bool is_post = strcmp(method, "POST") == 0;
    if (curl_easy_setopt(e, CURLOPT_URL, c->options.url) != CURLE_OK) return false; // copied by the library, all of these
    if (curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers) != CURLE_OK) return false;
    if (!is_post && c->body.n == 0) return strcmp(method, "GET") == 0 || curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method) == CURLE_OK;
    return curl_easy_setopt(e, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDS, c->body.n > 0 ? (const char *)c->body.p : "") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.n) == CURLE_OK &&
           (is_post || curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method) == CURLE_OK);
}

// A connection that is used again was judged by the reach of another call.
static bool set_reach(struct call *c)
{
    CURL *e = c->easy;
    long alone = c->options.reach != REACH_ANY;
    return curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, alone) == CURLE_OK && curl_easy_setopt(e, CURLOPT_FORBID_REUSE, alone) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open_socket) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, c) == CURLE_OK;
}

static bool set_options(struct call *c)
{
    CURL *e = c->easy;
    return curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           // A name that nobody resolves is looked for by a thread of the library: a call that ends does not wait for it.
           curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK && // an answer that is long in the making, and a peer that is gone, are both silent
           curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)c->options.times.connect_ms) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK && curl_easy_setopt(e, CURLOPT_HEADERDATA, c) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_piece) == CURLE_OK && curl_easy_setopt(e, CURLOPT_WRITEDATA, c) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PRIVATE, c) == CURLE_OK && set_reach(c) && set_request(c);
}

int call_new(struct call **out, struct calls *cs, const struct call_options *options)
{
    struct call *c = calloc(1, sizeof *c);
    if (c == NULL) return ERR_NOMEM;
    assert(options->method != NULL && options->url != NULL && options->ended != NULL);
    c->calls = cs;
    c->options = *options;
    buf_init(&c->body, options->body.n);
    buf_init(&c->refusal, CALL_REFUSAL_MAX);
    buf_put_span(&c->body, options->body);
    c->easy = curl_easy_init();
    if (c->body.err != 0 || c->easy == NULL || !add_headers(c, options) || !set_options(c)) {
        call_free(c);
        return ERR_NOMEM;
    }
    // The library has its own copies.
    c->options.url = c->options.method = NULL;
    c->options.headers = NULL;
    c->options.body = SPAN_NONE;
    *out = c;
    return 0;
}

int call_start(struct call *c)
{
    struct calls *cs = c->calls;
    assert(!c->started);
    if (curl_multi_add_handle(cs->multi, c->easy) != CURLM_OK) return ERR_NOMEM;
    c->started = true;
    c->began_ms = now_ms();
    c->next = cs->first;
    if (cs->first != NULL) cs->first->prev = c;
    cs->first = c;
    return 0;
}

void call_resume(struct call *c)
{
    if (!c->paused || !c->started) return;
    c->paused = false;
    c->heard_ms = now_ms();
    // The piece that was held is given again in here. Where it is not wanted, the library tells nobody but us.
    CURLcode code = curl_easy_pause(c->easy, CURLPAUSE_CONT);
    if (code == CURLE_OK) return;
    struct problem p = PROBLEM_NONE;
    explain(c, code, &p);
    end(c, &p);
}

void call_first(struct call *c)
{
    c->first_came = true;
}

// The lines may hold keys.
static void headers_free(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h != NULL; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(headers);
}

void call_free(struct call *c)
{
    if (c == NULL) return;
    unlink_call(c);
    curl_easy_cleanup(c->easy);
    headers_free(c->headers);
    buf_free(&c->body);
    buf_free(&c->refusal);
    free(c);
}
