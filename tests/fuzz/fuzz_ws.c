// What a WebSocket's peer may send, through frames and messages into an app. The first byte says how the rest is meant:
//
//   even   bytes of the socket, handed over in pieces of a size that the byte says
//   odd    messages, a line each: a text one, or behind a '!' a binary one, in which '|' stands for the line's end
//
// Whatever comes: what was declared costs nothing, nothing is said after the end, and nothing stays behind.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth.h"
#include "limits.h"
#include "log.h"
#include "sync.h"
#include "tmp.h"

#define MESSAGE_MAX 4096
#define SAID_MAX (1 * MIB) // then the carrier is full

struct peer {
    struct ws_frames *frames;
    struct sync *sync;
    size_t partial, said;
    bool ended;
};

static struct app *app;
static struct auth *auth;
static struct hub hub;

static bool on_send(void *carrier, struct span message)
{
    struct peer *p = carrier;
    assert(!p->ended && message.n >= 2 && message.p[0] == '{' && message.p[message.n - 1] == '}');
    p->said += message.n;
    return p->said < SAID_MAX;
}

static void on_end(void *carrier, enum ws_code code, const char *reason)
{
    struct peer *p = carrier;
    assert(!p->ended && code >= 1000 && code < 5000 && reason != NULL);
    p->ended = true;
}

static void on_resume(void *carrier)
{
    assert(!((struct peer *)carrier)->ended);
}

static void on_visible(void *host, struct app *a)
{
    (void)a;
    hub_run(host);
}

static char *folder;

static void remove_folder(void)
{
    app_close(app);
    auth_close(auth);
    tmp_remove(folder);
}

static void open_app(void)
{
    struct problem p = PROBLEM_NONE;
    folder = tmp_make();
    char *path = tmp_path(folder, "app");
    log_set_level(LOG_ERROR);
    int err = app_open(&app, &(struct app_options){.name = "default", .path = path, .db_map_bytes = 256 * MIB, .journal_segment_bytes = 256 * KIB, .host = &hub, .visible = on_visible}, &p);
    if (err == 0) err = auth_open(&auth, &(struct auth_options){.dev = true, .path = folder});
    assert(err == 0);
    free(path);
    atexit(remove_folder);
}

static void turn(void)
{
    app_turn(app);
    hub_run(&hub);
    app_tick(app);
}

static void event(struct peer *p, enum ws_event e, struct span payload)
{
    struct buf out;
    buf_init(&out, 256);
    switch (e) {
    case WS_TEXT: sync_text(p->sync, payload); break;
    case WS_BINARY: sync_binary(p->sync, payload); break;
    case WS_PING: ws_frames_put_pong(p->frames, &out, payload); break;
    case WS_CLOSE:
    case WS_VIOLATION: sync_end(p->sync, ws_frames_code(p->frames), "", NULL); break;
    default: break;
    }
    buf_free(&out);
}

// False: nothing more is taken.
static bool ready(struct peer *p)
{
    for (int i = 0; i < 4 && sync_busy(p->sync) && !p->ended; i++) {
        turn();
        p->said = 0;
        sync_drain(p->sync);
        sync_retry(p->sync);
    }
    assert(p->ended || !sync_busy(p->sync));
    return !p->ended;
}

static void take_bytes(struct peer *p, struct span in, size_t step)
{
    while (in.n > 0 && !p->ended) {
        struct span piece = span_sub(in, 0, step), payload;
        in = span_sub(in, step, SIZE_MAX);
        while (ready(p)) {
            enum ws_event e = ws_frames_take(p->frames, &piece, &payload);
            if (e == WS_MORE) break;
            assert(payload.n <= MESSAGE_MAX);
            event(p, e, payload);
        }
        assert(p->partial <= MESSAGE_MAX);
    }
}

static void take_line(struct peer *p, struct span line)
{
    if (line.n == 0 || line.p[0] != '!') {
        sync_text(p->sync, line);
        return;
    }
    struct buf b;
    buf_init(&b, line.n);
    buf_put_span(&b, span_sub(line, 1, line.n));
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] == '|') b.p[i] = '\n';
    sync_binary(p->sync, buf_span(&b));
    buf_free(&b);
}

static void take_lines(struct peer *p, struct span in)
{
    while (in.n > 0 && ready(p)) {
        const uint8_t *end = memchr(in.p, '\n', in.n);
        size_t n = end == NULL ? in.n : (size_t)(end - in.p);
        take_line(p, span_sub(in, 0, n));
        in = span_sub(in, n + 1, SIZE_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sync_carrier ops = {.send = on_send, .end = on_end, .resume = on_resume};
    struct peer p = {0};
    if (size == 0) return 0;
    if (app == NULL) open_app();
    struct sync_options options = {.app = app, .hub = &hub, .auth = auth, .identity = identity_of(IDENTITY_ANONYMOUS_DEV)};
    p.frames = ws_frames_new(MESSAGE_MAX, &p.partial, 2 * MESSAGE_MAX);
    int err = sync_open(&p.sync, &options, &ops, &p);
    assert(p.frames != NULL && err == 0);
    if (data[0] % 2 == 0) take_bytes(&p, SPAN(data + 1, size - 1), data[0] == 0 ? SIZE_MAX : data[0] / 2u);
    else take_lines(&p, SPAN(data + 1, size - 1));
    // Half of them leave with everything on its way.
    if (size % 2 == 0) turn();
    sync_close(p.sync);
    ws_frames_free(p.frames);
    turn();
    assert(p.partial == 0 && hub.first == NULL && !app_pending(app));
    return 0;
}
