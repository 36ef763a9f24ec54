#include "llm_call.h"

#include <assert.h>
#include <stdlib.h>
#include <strings.h>

#include <curl/curl.h>

#include "err.h"
#include "file.h"
#include "limits.h"
#include "llm_sse.h"

#define UNWANTED_MAX MIB // bytes of an answer that is no stream before it is cut off

struct llm_calls {
    uv_loop_t *loop;
    uv_timer_t timer;
    CURLM *multi;
    struct llm_call *first;
    size_t handles; // of libuv, not closed yet
};

// A socket of the library's that the loop looks at.
struct watch {
    uv_poll_t poll;
    struct llm_calls *calls;
    curl_socket_t socket;
};

struct llm_call {
    struct llm_calls *calls;
    struct llm_call *next, *prev;
    struct llm_call_options options;
    CURL *easy;
    struct curl_slist *headers;
    struct buf body;
    struct buf refusal; // of an answer that is no stream
    size_t head_bytes, unwanted;
    uint64_t began_ms, heard_ms; // heard: 0 before the first byte of the answer
    bool started, looked, stream, paused;
    char error[CURL_ERROR_SIZE];
};

static uint64_t now_ms(void)
{
    return clock_mono_us() / 1000;
}

// ---- sockets and time: the library asks, the loop answers -----------------------------------------------------------

static void handle_closed(struct llm_calls *cs)
{
    assert(cs->handles > 0);
    if (--cs->handles == 0) free(cs);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *w = handle->data;
    struct llm_calls *cs = w->calls;
    free(w);
    handle_closed(cs);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void take_ended(struct llm_calls *cs);

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    struct llm_calls *cs = w->calls;
    int flags = 0, running;
    if (status < 0) flags = CURL_CSELECT_ERR;
    if (events & UV_READABLE) flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE) flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(cs->multi, w->socket, flags, &running); // `w` may be gone behind it
    take_ended(cs);
}

static struct watch *watch_new(struct llm_calls *cs, curl_socket_t socket)
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
    struct llm_calls *cs = ctx;
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
    struct llm_calls *cs = timer->data;
    int running;
    curl_multi_socket_action(cs->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_ended(cs);
}

static int on_want_timer(CURLM *multi, long ms, void *ctx)
{
    struct llm_calls *cs = ctx;
    (void)multi;
    if (ms < 0)
        uv_timer_stop(&cs->timer);
    else
        uv_timer_start(&cs->timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

int llm_calls_open(struct llm_calls **out, uv_loop_t *loop)
{
    struct llm_calls *cs = calloc(1, sizeof *cs);
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

void llm_calls_close(struct llm_calls *cs)
{
    if (cs == NULL) return;
    assert(cs->first == NULL);
    curl_multi_cleanup(cs->multi);
    curl_global_cleanup();
    uv_close((uv_handle_t *)&cs->timer, on_timer_closed);
}

// ---- what the provider answers --------------------------------------------------------------------------------------

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct llm_call *c = ctx;
    (void)p;
    c->head_bytes += size * n;
    return c->head_bytes <= LLM_HEADERS_MAX ? size * n : 0;
}

static long status_of(const struct llm_call *c)
{
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static bool is_stream(const struct llm_call *c)
{
    const char *type = NULL;
    long status = status_of(c);
    curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
    return status >= 200 && status < 300 && type != NULL && strncasecmp(type, "text/event-stream", 17) == 0;
}

static size_t on_piece(char *p, size_t size, size_t n, void *ctx)
{
    struct llm_call *c = ctx;
    struct span piece = SPAN(p, size * n);
    if (!c->looked) c->stream = is_stream(c);
    c->looked = true;
    if (c->stream && c->options.full(c->options.ctx)) {
        c->paused = true;
        return CURL_WRITEFUNC_PAUSE; // the library keeps this one, and gives it again
    }
    c->heard_ms = now_ms();
    if (c->stream) return c->options.data(c->options.ctx, piece) ? piece.n : 0;
    buf_put_span(&c->refusal, span_sub(piece, 0, c->refusal.max - c->refusal.n));
    c->unwanted += piece.n;
    return c->unwanted <= UNWANTED_MAX ? piece.n : 0;
}

// ---- the end of a call ----------------------------------------------------------------------------------------------

static int refused(const struct llm_call *c, struct problem *p)
{
    char message[PROBLEM_TEXT_MAX];
    long status = status_of(c);
    if (llm_error_message(buf_span(&c->refusal), message))
        return problem_set(p, ERR_PROVIDER_REFUSED, -1, "status %ld: %s", status, message);
    return problem_set(p, ERR_PROVIDER_REFUSED, -1, "the provider answered with status %ld", status);
}

static int explain(const struct llm_call *c, CURLcode code, struct problem *p)
{
    long status = status_of(c);
    if (c->head_bytes > LLM_HEADERS_MAX)
        return problem_set(p, ERR_PROVIDER_MALFORMED, -1, "the head of the provider's answer is too large");
    if (status != 0 && (status < 200 || status >= 300) && c->head_bytes > 0) return refused(c, p);
    if (c->stream && code == CURLE_WRITE_ERROR) return ERR_CANCELED;
    if (status != 0 && (c->looked || code == CURLE_OK) && !is_stream(c))
        return problem_set(p, ERR_PROVIDER_MALFORMED, -1, "the provider's answer is no event stream");
    if (code == CURLE_OK) return 0;
    const char *why = c->error[0] != '\0' ? c->error : curl_easy_strerror(code);
    if (code == CURLE_OUT_OF_MEMORY) return problem_set(p, ERR_NOMEM, -1, "%s", why);
    if (status != 0) return problem_set(p, ERR_PROVIDER_CUT, -1, "%s", why);
    if (code == CURLE_OPERATION_TIMEDOUT) return problem_set(p, ERR_PROVIDER_TIMEOUT, -1, "%s", why);
    if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL)
        return problem_set(p, ERR_PROVIDER_MALFORMED, -1, "%s", why);
    return problem_set(p, ERR_PROVIDER_UNREACHABLE, -1, "%s", why);
}

static void unlink_call(struct llm_call *c)
{
    struct llm_calls *cs = c->calls;
    if (!c->started) return;
    c->started = false;
    if (cs->first == c) cs->first = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    if (c->prev != NULL) c->prev->next = c->next;
    curl_multi_remove_handle(cs->multi, c->easy);
}

static void end(struct llm_call *c, const struct problem *p)
{
    unlink_call(c);
    c->options.ended(c->options.ctx, p); // `c` may be gone behind it
}

static void take_ended(struct llm_calls *cs)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(cs->multi, &left)) != NULL;) {
        struct problem p = PROBLEM_NONE;
        struct llm_call *c = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode code = m->data.result; // gone with the handle
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        p.err = 0;
        int err = explain(c, code, &p);
        p.err = err;
        end(c, &p);
    }
}

static void check_time(struct llm_call *c, uint64_t now)
{
    const struct llm_times *t = &c->options.times;
    struct problem p = PROBLEM_NONE;
    if (now - c->began_ms > t->total_ms)
        problem_set(&p, ERR_PROVIDER_TIMEOUT, -1, "the call took longer than %llu ms", (unsigned long long)t->total_ms);
    else if (c->paused)
        return; // it is we who let it wait
    else if (c->heard_ms == 0 && now - c->began_ms > t->first_ms)
        problem_set(&p, ERR_PROVIDER_TIMEOUT, -1, "the provider sent nothing for %llu ms", (unsigned long long)t->first_ms);
    else if (c->heard_ms != 0 && now > c->heard_ms && now - c->heard_ms > t->idle_ms)
        problem_set(&p, ERR_PROVIDER_TIMEOUT, -1, "the provider fell silent for %llu ms", (unsigned long long)t->idle_ms);
    if (p.err != 0) end(c, &p);
}

void llm_calls_tick(struct llm_calls *cs)
{
    uint64_t now = now_ms();
    for (struct llm_call *c = cs->first, *next; c != NULL; c = next) {
        next = c->next;
        check_time(c, now);
    }
}

// ---- a call ---------------------------------------------------------------------------------------------------------

static bool add_header(struct llm_call *c, const char *line)
{
    struct curl_slist *longer = curl_slist_append(c->headers, line);
    if (longer != NULL) c->headers = longer;
    return longer != NULL;
}

static bool add_headers(struct llm_call *c)
{
    bool ok = add_header(c, "Content-Type: application/json") && add_header(c, "Accept: text/event-stream") &&
              add_header(c, "User-Agent: segued") && add_header(c, "Expect:");
    if (!ok || c->options.key == NULL) return ok;
    struct buf line;
    buf_init(&line, 8 * KIB);
    buf_printf(&line, "Authorization: Bearer %s", c->options.key);
    buf_put_u8(&line, 0);
    ok = line.err == 0 && add_header(c, (const char *)line.p);
    if (line.p != NULL) explicit_bzero(line.p, line.n);
    buf_free(&line);
    return ok;
}

static bool set_options(struct llm_call *c)
{
    CURL *e = c->easy;
    return curl_easy_setopt(e, CURLOPT_URL, c->options.url) == CURLE_OK && // copied by the library
           curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)c->options.times.connect_ms) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK && curl_easy_setopt(e, CURLOPT_HEADERDATA, c) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_piece) == CURLE_OK && curl_easy_setopt(e, CURLOPT_WRITEDATA, c) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PRIVATE, c) == CURLE_OK && curl_easy_setopt(e, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDS, (const char *)c->body.p) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.n) == CURLE_OK;
}

int llm_call_new(struct llm_call **out, struct llm_calls *cs, const struct llm_call_options *options)
{
    struct llm_call *c = calloc(1, sizeof *c);
    if (c == NULL) return ERR_NOMEM;
    assert(options->body.n > 0);
    c->calls = cs;
    c->options = *options;
    buf_init(&c->body, options->body.n);
    buf_init(&c->refusal, LLM_ERROR_BODY_MAX);
    buf_put_span(&c->body, options->body);
    c->options.body = buf_span(&c->body);
    c->easy = curl_easy_init();
    if (c->body.err != 0 || c->easy == NULL || !add_headers(c) || !set_options(c)) {
        llm_call_free(c);
        return ERR_NOMEM;
    }
    c->options.url = c->options.key = NULL; // the library has its own copies
    *out = c;
    return 0;
}

int llm_call_start(struct llm_call *c)
{
    struct llm_calls *cs = c->calls;
    assert(!c->started);
    if (curl_multi_add_handle(cs->multi, c->easy) != CURLM_OK) return ERR_NOMEM;
    c->started = true;
    c->began_ms = now_ms();
    c->next = cs->first;
    if (cs->first != NULL) cs->first->prev = c;
    cs->first = c;
    return 0;
}

void llm_call_resume(struct llm_call *c)
{
    if (!c->paused || !c->started) return;
    c->paused = false;
    c->heard_ms = now_ms();
    curl_easy_pause(c->easy, CURLPAUSE_CONT);
}

void llm_call_free(struct llm_call *c)
{
    if (c == NULL) return;
    unlink_call(c);
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    buf_free(&c->body);
    buf_free(&c->refusal);
    free(c);
}
