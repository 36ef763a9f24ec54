// GET /apps/<app>/sync: the subscription protocol over a WebSocket (RFC 6455; PROTOCOL.md, "WebSocket"). Between the connection (http.h), the frames
// (ws_frames.h) and the protocol (sync.h):
//
//      socket ─> raw ─> frames ─> text, binary ─> sync          while sync is not busy; then the socket is not read
//      sync ─> send ─> a frame ─> reply_write                    full: until drain
//
//      OPEN ── a peer's fault or close, the service's end: sync_end ──> the last fate is told ──> close frame, FIN
//
// A peer that says nothing is pinged after a heartbeat, and given up after another; one that does not say hello in that time, too.
#include <assert.h>
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "file.h"
#include "message.h"
#include "sync.h"
#include "ws_handshake.h"

#define SMALL 4096 // bytes of a frame that are copied into the connection's page; of a larger one the memory is handed over

struct ws {
    struct request *r;
    struct sync *sync;
    struct ws_frames *frames;
    uint64_t heard_us; // when something last came
    bool pinged;       // and nothing came since
    unsigned beats;
    bool closed;       // the close frame is sent
};

// Of all connections of this loop, which has its share of the whole.
static _Thread_local size_t partial_bytes;

// ---- out -----------------------------------------------------------------------------------------------------------------

static bool write_frame(struct ws *ws, struct buf *frame)
{
    bool room = true;
    if (frame->err != 0) {
        reply_break(ws->r);
    } else if (frame->n <= SMALL) {
        room = reply_write_span(ws->r, buf_span(frame));
    } else {
        struct bytes *bytes = buf_take(frame);
        if (bytes == NULL) reply_break(ws->r);
        else room = reply_write(ws->r, bytes);
        bytes_unref(bytes);
    }
    buf_free(frame);
    return room;
}

static bool on_send(void *carrier, struct span message)
{
    struct ws *ws = carrier;
    struct buf b;
    if (ws->closed) return true;
    buf_init(&b, message.n + 16);
    ws_frames_put_text(ws->frames, &b, message);
    return write_frame(ws, &b);
}

static bool shared_make(struct ws *ws, const struct message *m, struct reply_frame *out)
{
    struct buf text, b;
    buf_init(&text, m->json->n + 256);
    buf_init(&b, m->json->n + 300);
    sync_put_message(&text, m);
    if (text.err == 0) ws_frames_put_text(ws->frames, &b, buf_span(&text));
    out->n = b.n;
    out->wire = text.err == 0 ? buf_take(&b) : NULL;
    buf_free(&text);
    buf_free(&b);
    return out->wire != NULL;
}

static bool send_large(struct ws *ws, struct message *m)
{
    struct buf head, tail;
    size_t n = m->json->n;
    buf_init(&head, 16);
    buf_init(&tail, 256);
    size_t kept = sync_put_tail(&tail, m);
    ws_frames_put_text_head(&head, kept + tail.n);
    assert(head.err == 0 && tail.err == 0 && kept <= n);
    bool room = reply_write_around(ws->r, buf_span(&head), m->json, 0, kept, buf_span(&tail));
    buf_free(&head);
    buf_free(&tail);
    return room;
}

// A service's frames are the same for all: nothing masks them.
static bool on_send_shared(void *carrier, struct message *m)
{
    struct ws *ws = carrier;
    struct reply_frame *frame = &m->wire[MESSAGE_WS];
    if (ws->closed) return true;
    if (m->json->n >= MESSAGE_LARGE) return send_large(ws, m);
    if (frame->wire != NULL || shared_make(ws, m, frame)) return reply_write_frame(ws->r, frame);
    reply_break(ws->r);
    return true;
}

static void on_end(void *carrier, enum ws_code code, const char *reason)
{
    struct ws *ws = carrier;
    struct buf b;
    if (ws->closed) return;
    ws->closed = true;
    buf_init(&b, 256);
    ws_frames_put_close(ws->frames, &b, code, reason);
    write_frame(ws, &b);
    request_timer(ws->r, -1, NULL);
    reply_end(ws->r);
}

static void on_resume(void *carrier)
{
    struct ws *ws = carrier;
    request_resume(ws->r);
}

static const struct sync_carrier ws_carrier = {.send = on_send, .send_shared = on_send_shared, .end = on_end, .resume = on_resume};

// ---- in ------------------------------------------------------------------------------------------------------------------

// False: there is no room for more of these.
static bool pong(struct ws *ws, struct span payload)
{
    struct buf b;
    if (ws->closed) return true;
    buf_init(&b, 256);
    ws_frames_put_pong(ws->frames, &b, payload);
    return write_frame(ws, &b);
}

// One event. False: nothing more may be taken now.
static bool take(struct ws *ws, struct span *in)
{
    struct span payload;
    switch (ws_frames_take(ws->frames, in, &payload)) {
    case WS_MORE: return false;
    case WS_TEXT: sync_text(ws->sync, payload); break;
    case WS_BINARY: sync_binary(ws->sync, payload); break;
    case WS_PING: return pong(ws, payload);
    case WS_PONG: break;
    case WS_CLOSE: sync_end(ws->sync, ws_frames_code(ws->frames), "", NULL); break;
    case WS_VIOLATION: sync_end(ws->sync, ws_frames_code(ws->frames), ws_frames_reason(ws->frames), NULL); break;
    }
    return true;
}

static size_t ws_raw(struct request *r, struct span in)
{
    struct ws *ws = r->data;
    size_t all = in.n;
    if (in.n > 0) {
        ws->heard_us = clock_mono_us();
        ws->pinged = false;
    }
    sync_retry(ws->sync);
    while (!ws->closed && !sync_busy(ws->sync) && !reply_full(r) && take(ws, &in)) {
    }
    return all - in.n;
}

static void ws_drain(struct request *r)
{
    struct ws *ws = r->data;
    if (ws->closed) return;
    sync_drain(ws->sync);
    request_resume(r);
}

// ---- silence ---------------------------------------------------------------------------------------------------------------

static void on_heartbeat(struct request *r)
{
    struct ws *ws = r->data;
    uint64_t ms = (uint64_t)server_heartbeat_ms(r->server);
    uint64_t silent = (clock_mono_us() - ws->heard_us) / 1000;
    request_timer(r, (int64_t)ms, on_heartbeat);
    // While its input waits here, or it takes nothing, its silence says nothing; the connection has a time-out of its own for that.
    if (sync_busy(ws->sync) || reply_full(r)) return;
    if (!sync_begun(ws->sync) && ++ws->beats == 2) {
        sync_end(ws->sync, WS_POLICY, "no hello came", NULL);
        return;
    }
    if (ws->pinged && silent >= ms) {
        sync_end(ws->sync, WS_INTERNAL, "no answer to a ping", NULL);
        return;
    }
    if (silent < ms) return;
    struct buf b;
    buf_init(&b, 16);
    ws_frames_put_ping(ws->frames, &b);
    ws->pinged = true;
    write_frame(ws, &b);
}

// ---- opening -----------------------------------------------------------------------------------------------------------------

static int upgrade_wanted(struct request *r, struct problem *p)
{
    struct span upgrade, connection, version;
    bool wanted = request_may_upgrade(r) && request_header(r, "upgrade", &upgrade) && ws_list_has(upgrade, "websocket") &&
                  request_header(r, "connection", &connection) && ws_list_has(connection, "upgrade");
    if (!wanted) return problem_set(p, ERR_UPGRADE_REQUIRED, -1, "this path speaks WebSocket: GET it with Upgrade: websocket");
    if (!request_header(r, "sec-websocket-version", &version) || !span_is(version, "13"))
        return problem_set(p, ERR_UPGRADE_REQUIRED, -1, "only version 13 of WebSocket is spoken here");
    return 0;
}

static int check(struct request *r, char accept[WS_ACCEPT_TEXT], struct problem *p)
{
    struct span key = SPAN_NONE, origin = SPAN_NONE, host = SPAN_NONE;
    int err = upgrade_wanted(r, p);
    if (err != 0) return err;
    request_header(r, "sec-websocket-key", &key);
    request_header(r, "origin", &origin);
    request_header(r, "host", &host);
    if (ws_accept(key, accept) != 0) return problem_set(p, ERR_BAD_REQUEST, -1, "Sec-WebSocket-Key is 16 bytes in base64");
    if (!ws_origin_allowed(origin, host, SPAN_STR(server_allow_origin(r->server)), server_dev(r->server)))
        return problem_set(p, ERR_FORBIDDEN, -1, "pages of this origin may not connect: allow-origin names those that may");
    return 0;
}

static int open_parts(struct request *r)
{
    struct ws *ws = calloc(1, sizeof *ws);
    r->data = ws;
    if (ws == NULL) return ERR_NOMEM;
    ws->r = r;
    ws->heard_us = clock_mono_us();
    ws->frames = ws_frames_new(WS_MESSAGE_MAX, &partial_bytes, WS_PARTIAL_MAX / server_loops(r->server));
    if (ws->frames == NULL) return ERR_NOMEM;
    struct sync_options options = {.app = r->app, .hub = server_hub(r->server, r->app), .auth = server_auth(r->server), .identity = r->identity, .connection = request_connection(r)};
    return sync_open(&ws->sync, &options, &ws_carrier, ws);
}

static void refuse(struct request *r, const struct problem *p)
{
    if (p->err == ERR_UPGRADE_REQUIRED) r->fields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    reply_problem(r, p);
}

static void ws_begin(struct request *r)
{
    char accept[WS_ACCEPT_TEXT];
    struct problem p = PROBLEM_NONE;
    int err = check(r, accept, &p);
    if (err == 0) err = open_parts(r);
    if (err != 0) {
        problem_set(&p, err, -1, "%s", err_text(err));
        refuse(r, &p);
        return;
    }
    reply_start(r, 101);
    reply_header(r, "Upgrade", "%s", "websocket");
    reply_header(r, "Sec-WebSocket-Accept", "%.*s", WS_ACCEPT_TEXT, accept);
    reply_upgrade(r);
    request_timer(r, server_heartbeat_ms(r->server), on_heartbeat);
}

static void ws_done(struct request *r)
{
    struct ws *ws = r->data;
    if (ws == NULL) return;
    ws->closed = true;
    sync_close(ws->sync);
    ws_frames_free(ws->frames);
    free(ws);
}

const struct handler api_sync_get = {.begin = ws_begin, .drain = ws_drain, .done = ws_done, .raw = ws_raw};
