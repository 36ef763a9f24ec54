#include "ws.h"

#include <stdio.h>
#include <stdlib.h>

#include <wslay/wslay.h>

#include "base64.h"
#include "digest.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "socket.h"
#include "uuid.h"
#include "ws_answer.h"

#define MESSAGE_MAX (8 * MIB)         // of one that comes in: the ids of a whole batch are a tenth of that
#define ANSWER_MAX (256 * KIB)        // of the upgrade's answer
#define ANSWER_US (30 * 1000 * 1000)  // and how long to wait for it
#define SILENCE_US (3ull * HEARTBEAT_MS * 1000)
#define STEP_MS 100

struct ws {
    struct socket *socket;
    wslay_event_context_ptr wslay;
    struct buf in; // bytes that came with the answer to the upgrade
    size_t in_used;
    bool gone;
    uint64_t heard_us;
    int (*on_text)(void *ctx, struct span text); // of the step under way
    void *ctx;
    int result; // of on_text
};

// ---- the library's ends ----------------------------------------------------------------------------------------

static ssize_t on_recv(wslay_event_context_ptr c, uint8_t *p, size_t n, int flags, void *ctx)
{
    struct ws *w = ctx;
    (void)flags;
    ssize_t got;
    if (w->in_used < w->in.n) {
        got = (ssize_t)(n < w->in.n - w->in_used ? n : w->in.n - w->in_used);
        memcpy(p, w->in.p + w->in_used, (size_t)got);
        w->in_used += (size_t)got;
    } else {
        got = w->gone ? ERR_UNREACHABLE : socket_recv(w->socket, p, n);
    }
    if (got > 0) w->heard_us = clock_mono_us();
    if (got > 0) return got;
    if (got < 0) w->gone = true;
    wslay_event_set_error(c, got == 0 ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr c, const uint8_t *p, size_t n, int flags, void *ctx)
{
    struct ws *w = ctx;
    (void)flags;
    ssize_t sent = w->gone ? ERR_UNREACHABLE : socket_send(w->socket, p, n);
    if (sent > 0) return sent;
    if (sent < 0) w->gone = true;
    wslay_event_set_error(c, sent == 0 ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static int on_mask(wslay_event_context_ptr c, uint8_t *p, size_t n, void *ctx)
{
    (void)c, (void)ctx;
    random_bytes(p, n);
    return 0;
}

static void on_message(wslay_event_context_ptr c, const struct wslay_event_on_msg_recv_arg *m, void *ctx)
{
    struct ws *w = ctx;
    (void)c;
    if (m->opcode == WSLAY_TEXT_FRAME && w->result == 0) w->result = w->on_text(w->ctx, SPAN(m->msg, m->msg_length));
}

// ---- the upgrade -----------------------------------------------------------------------------------------------

#define KEY_BYTES 16

// What the service has to answer with, so that nobody else's answer is taken for its.
static void put_accept(struct buf *out, struct span key)
{
    uint8_t sum[SHA1_BYTES];
    struct buf b;
    buf_init(&b, 128);
    buf_put_span(&b, key);
    buf_put_str(&b, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    sha1_of(buf_span(&b), sum);
    base64_encode(out, SPAN(sum, sizeof sum));
    buf_free(&b);
}

static void put_request(struct buf *out, const struct segue *s, struct span key)
{
    struct span url = SPAN_STR((const char *)s->url.p);
    const uint8_t *host = memmem(url.p, url.n, "://", 3);
    struct span rest = host != NULL ? span_sub(url, (size_t)(host + 3 - url.p), url.n) : url;
    const uint8_t *slash = memchr(rest.p, '/', rest.n);
    size_t authority = slash != NULL ? (size_t)(slash - rest.p) : rest.n;
    while (rest.n > authority && rest.p[rest.n - 1] == '/')
        rest.n--;
    buf_put_str(out, "GET ");
    buf_put_span(out, span_sub(rest, authority, rest.n));
    buf_printf(out, "/apps/%s/sync HTTP/1.1\r\nHost: %.*s\r\n", (const char *)s->app.p, (int)authority, (const char *)rest.p);
    buf_printf(out, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nUser-Agent: segue\r\nSec-WebSocket-Key: %.*s\r\n", SPAN_FMT(key));
    if (s->has_key) buf_printf(out, "Authorization: Bearer %s\r\n", (const char *)s->key.p);
    buf_put_str(out, "\r\n");
}

static int send_request(struct ws *w, const struct segue *s, struct span key)
{
    struct buf request;
    buf_init(&request, HTTP_HEADERS_MAX + HTTP_TARGET_MAX);
    put_request(&request, s, key);
    int err = request.err;
    for (size_t sent = 0; err == 0 && sent < request.n;) {
        ssize_t n = socket_send(w->socket, request.p + sent, request.n - sent);
        if (n < 0) err = (int)n;
        if (n == 0) socket_wait(w->socket, true, STEP_MS);
        if (n == 0 && client_stopped(s)) err = ERR_CANCELED;
        if (n > 0) sent += (size_t)n;
    }
    buf_free(&request);
    return err;
}

static int await_answer(struct ws *w, const struct segue *s, struct ws_answer *answer)
{
    uint64_t end_us = clock_mono_us() + ANSWER_US;
    while (!ws_answer_read(answer, buf_span(&w->in))) {
        uint8_t *room = buf_reserve(&w->in, 4 * KIB);
        if (room == NULL) return w->in.err == ERR_NOMEM ? ERR_NOMEM : ERR_UNREACHABLE;
        ssize_t n = socket_recv(w->socket, room, 4 * KIB);
        if (n < 0) return (int)n;
        w->in.n += (size_t)n;
        if (client_stopped(s)) return ERR_CANCELED;
        if (n == 0 && clock_mono_us() > end_us) return ERR_UNREACHABLE;
        if (n == 0) socket_wait(w->socket, false, STEP_MS);
    }
    return 0;
}

static int upgrade(struct ws *w, const struct segue *s, int *status, struct buf *body)
{
    uint8_t random[KEY_BYTES];
    struct ws_answer answer = {.status = 0};
    struct buf key, accept;
    buf_init(&key, 64);
    buf_init(&accept, 64);
    random_bytes(random, sizeof random);
    base64_encode(&key, SPAN(random, sizeof random));
    put_accept(&accept, buf_span(&key));
    int err = key.err != 0 || accept.err != 0 ? ERR_NOMEM : send_request(w, s, buf_span(&key));
    if (err == 0) err = await_answer(w, s, &answer);
    *status = answer.status;
    if (err == 0 && *status >= 300) {
        buf_put_span(body, answer.body);
        err = ERR_BAD_REQUEST;
    } else if (err == 0 && (*status != 101 || !span_equal(answer.accept, buf_span(&accept)))) {
        buf_put_str(body, "the answer is no WebSocket's");
        err = ERR_UNREACHABLE;
    } else if (err == ERR_UNREACHABLE) {
        buf_put_str(body, "the connection broke before an answer");
    }
    w->in_used = answer.head_n;
    buf_free(&key);
    buf_free(&accept);
    return err;
}

// ---- life ------------------------------------------------------------------------------------------------------

// A line break in it would be a header field of its own.
static bool is_plain(const struct buf *string)
{
    for (size_t i = 0; i + 1 < string->n; i++)
        if (string->p[i] <= ' ' || string->p[i] == 0x7f) return false;
    return true;
}

int ws_open(struct ws **out, const struct segue *s, int *status, struct buf *body)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv, .send_callback = on_send, .genmask_callback = on_mask, .on_msg_recv_callback = on_message};
    char why[SOCKET_WHY_MAX] = "";
    struct ws *w = calloc(1, sizeof *w);
    buf_clear(body);
    *status = 0;
    if (w == NULL) return ERR_NOMEM;
    buf_init(&w->in, ANSWER_MAX);
    int err = is_plain(&s->app) && is_plain(&s->key) ? 0 : ERR_USAGE;
    if (err == 0) err = socket_open(&w->socket, (const char *)s->url.p, s->stop, why);
    if (err != 0) buf_put_str(body, why);
    if (err == 0) err = upgrade(w, s, status, body);
    if (err == 0 && wslay_event_context_client_init(&w->wslay, &callbacks, w) != 0) err = ERR_NOMEM;
    if (err != 0) {
        ws_close(w);
        return err;
    }
    wslay_event_config_set_max_recv_msg_length(w->wslay, MESSAGE_MAX);
    w->heard_us = clock_mono_us();
    *out = w;
    return 0;
}

void ws_close(struct ws *w)
{
    if (w == NULL) return;
    if (w->wslay != NULL && !w->gone && wslay_event_queue_close(w->wslay, 1000, NULL, 0) == 0) wslay_event_send(w->wslay);
    wslay_event_context_free(w->wslay);
    socket_close(w->socket);
    buf_free(&w->in);
    free(w);
}

int ws_send_text(struct ws *w, struct span text)
{
    const struct wslay_event_msg message = {.opcode = WSLAY_TEXT_FRAME, .msg = text.p, .msg_length = text.n};
    int rc = wslay_event_queue_msg(w->wslay, &message);
    return rc == WSLAY_ERR_NOMEM ? ERR_NOMEM : 0; // where no more may be queued the connection is over, which the next step tells
}

size_t ws_queued(const struct ws *w)
{
    return wslay_event_get_queued_msg_length(w->wslay);
}

int ws_step(struct ws *w, int timeout_ms, int (*on_text)(void *ctx, struct span text), void *ctx)
{
    w->on_text = on_text;
    w->ctx = ctx;
    w->result = 0;
    bool writes = wslay_event_want_write(w->wslay);
    if (w->in_used == w->in.n) socket_wait(w->socket, writes, timeout_ms);
    bool ok = wslay_event_recv(w->wslay) == 0 && w->result == 0 && wslay_event_send(w->wslay) == 0;
    if (w->result != 0) return w->result;
    // It reads no more behind a close, or what is against the protocol.
    bool over = !wslay_event_get_read_enabled(w->wslay) || wslay_event_get_close_received(w->wslay) || clock_mono_us() - w->heard_us > SILENCE_US;
    return ok && !w->gone && !over ? 0 : ERR_UNREACHABLE;
}
