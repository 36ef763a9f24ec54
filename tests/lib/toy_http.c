#include "toy_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "err.h"

// ---- toy handlers ------------------------------------------------------------------------------------------------

atomic_int toy_begun, toy_done;
atomic_size_t toy_queued_max, toy_body_seen;
atomic_bool toy_go_on, toy_held;
atomic_uint toy_total;

static void on_done(struct request *r)
{
    atomic_fetch_add(&toy_done, 1);
    free(r->data);
}

static void hello(struct request *r)
{
    atomic_fetch_add(&toy_begun, 1);
    reply_start(r, 200);
    reply_body(r, "text/plain", SPAN_LIT("hello"));
}
static const struct handler hello_handler = {.begin = hello, .done = on_done};

static void echo(struct request *r)
{
    atomic_fetch_add(&toy_begun, 1);
    reply_start(r, 200);
    reply_body(r, "application/octet-stream", buf_span(&r->body));
}
static const struct handler echo_handler = {.begin = echo, .done = on_done, .body_max = 1 << 20};

// Sends every piece back as it comes; when the reader is slow, so is the writer.
static void stream_begin(struct request *r)
{
    reply_start(r, 200);
    reply_stream(r, "application/octet-stream", -1);
}
static void stream_body(struct request *r, struct span piece)
{
    if (!reply_write_span(r, piece)) request_pause(r);
    if (reply_queued(r) > toy_queued_max) toy_queued_max = reply_queued(r);
}
static void stream_end(struct request *r)
{
    reply_end(r);
}
static void stream_drain(struct request *r)
{
    request_resume(r);
}
static const struct handler stream_handler = {
    .begin = stream_begin, .body = stream_body, .body_end = stream_end, .drain = stream_drain, .done = on_done, .body_max = 1ull << 32};

// Takes one piece, then nothing until the test says so.
static void hold_begin(struct request *r)
{
    (void)r;
    atomic_fetch_add(&toy_begun, 1);
}
static void hold_look(struct request *r)
{
    if (toy_go_on)
        request_resume(r);
    else
        request_timer(r, 5, hold_look);
}
static void hold_body(struct request *r, struct span piece)
{
    toy_body_seen += piece.n;
    if (toy_go_on) return;
    request_pause(r);
    request_timer(r, 5, hold_look);
}
static void hold_end(struct request *r)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", (size_t)toy_body_seen);
    reply_start(r, 200);
    reply_body(r, "text/plain", SPAN_STR(text));
}
static const struct handler hold_handler = {
    .begin = hold_begin, .body = hold_body, .body_end = hold_end, .done = on_done, .body_max = 1ull << 32};

// As many bytes as the query says, in shared pieces.
static void big_write(struct request *r)
{
    size_t *left = r->data;
    while (*left > 0) {
        size_t n = *left < 40000 ? *left : 40000;
        struct bytes *b = bytes_alloc(n);
        memset(b->p, 'x', n);
        bool more = reply_write(r, b);
        bytes_unref(b);
        *left -= n;
        if (reply_queued(r) > toy_queued_max) toy_queued_max = reply_queued(r);
        if (!more) return;
    }
    reply_end(r);
}
static void big_begin(struct request *r)
{
    struct buf scratch;
    struct span n;
    buf_init(&scratch, 100);
    size_t *left = r->data = malloc(sizeof *left);
    *left = 0;
    if (request_param(r, "n", &scratch, &n) == 1) {
        for (size_t i = 0; i < n.n; i++) // no terminator behind a span
            *left = 10 * *left + (n.p[i] - '0');
    }
    buf_free(&scratch);
    reply_start(r, 200);
    reply_stream(r, "text/plain", request_header(r, "x-length", &n) ? (int64_t)*left : -1);
    big_write(r);
}
static const struct handler big_handler = {.begin = big_begin, .drain = big_write, .done = on_done};

// AROUND_PIECES pieces of growing length, each "<" "x…" ">".
static void around_write(struct request *r)
{
    size_t *i = r->data;
    for (bool more = true; *i < AROUND_PIECES && more; ++*i) {
        size_t n = *i * 1001;
        struct bytes *b = bytes_alloc(n + 3);
        memset(b->p, 'x', n + 3);
        more = reply_write_around(r, SPAN_LIT("<"), b, 1, n, SPAN_LIT(">"));
        bytes_unref(b);
        if (reply_queued(r) > toy_queued_max) toy_queued_max = reply_queued(r);
    }
    if (*i == AROUND_PIECES) reply_end(r);
}
static void around_begin(struct request *r)
{
    r->data = calloc(1, sizeof(size_t));
    reply_start(r, 200);
    reply_stream(r, "text/plain", -1);
    around_write(r);
}
static const struct handler around_handler = {.begin = around_begin, .drain = around_write, .done = on_done};

static void later_fire(struct request *r)
{
    reply_start(r, 200);
    reply_header(r, "X-Test", "%d", 7);
    reply_body(r, "text/plain", SPAN_LIT("later"));
}
static void later_begin(struct request *r)
{
    request_timer(r, 60, later_fire);
}
static const struct handler later_handler = {.begin = later_begin, .done = on_done};

static void never_begin(struct request *r)
{
    (void)r;
    atomic_fetch_add(&toy_begun, 1);
}
static const struct handler never_handler = {.begin = never_begin, .done = on_done};

// Begins an endless reply.
static void drip_fire(struct request *r)
{
    reply_write_span(r, SPAN_LIT("drip"));
    request_timer(r, 20, drip_fire);
}
static void drip_begin(struct request *r)
{
    reply_start(r, 200);
    reply_stream(r, "text/plain", -1);
    drip_fire(r);
}
static const struct handler drip_handler = {.begin = drip_begin, .done = on_done};

static void reject_begin(struct request *r)
{
    reply_error(r, ERR_STREAM_CLOSED);
}
static void reject_body(struct request *r, struct span piece)
{
    (void)r;
    toy_body_seen += piece.n;
}
static const struct handler reject_handler = {.begin = reject_begin, .body = reject_body, .done = on_done, .body_max = 1ull << 32};

static void break_begin(struct request *r)
{
    reply_start(r, 200);
    reply_stream(r, "text/plain", 100);
    reply_write_span(r, SPAN_LIT("0123456789"));
    reply_break(r);
}
static const struct handler break_handler = {.begin = break_begin, .done = on_done};

static void cut_begin(struct request *r)
{
    reply_start(r, 200);
    reply_stream(r, "text/plain", -1);
    reply_write_span(r, SPAN_LIT("0123456789"));
    reply_cut(r);
}
static const struct handler cut_handler = {.begin = cut_begin, .done = on_done};

// Keeps its whole loop until the test says so.
static void block_begin(struct request *r)
{
    atomic_fetch_add(&toy_begun, 1);
    while (!toy_go_on)
        usleep(1000);
    reply_start(r, 200);
    reply_body(r, "text/plain", SPAN_LIT("through"));
}
static const struct handler block_handler = {.begin = block_begin, .done = on_done};

static void empty_begin(struct request *r)
{
    reply_start(r, 204);
    reply_body(r, NULL, SPAN_NONE);
}
static const struct handler empty_handler = {.begin = empty_begin, .done = on_done};

// Both of two have a timer for the same moment; whichever comes first says so, and ends both.
static struct request *tied[2];
static void tied_fire(struct request *r)
{
    reply_write_span(r, SPAN_LIT("first"));
    for (int i = 0; i < 2; i++)
        reply_end(tied[i]);
}
static void tied_begin(struct request *r)
{
    int i = atomic_fetch_add(&toy_begun, 1) % 2;
    tied[i] = r;
    reply_start(r, 200);
    reply_stream(r, "text/plain", -1);
    for (int k = 0; i == 1 && k < 2; k++)
        request_timer(tied[k], 20, tied_fire);
}
static const struct handler tied_handler = {.begin = tied_begin, .done = on_done};

static void dispatch(struct request *r)
{
    static const struct {
        const char *path;
        const struct handler *handler;
    } table[] = {{"/hello", &hello_handler},   {"/echo", &echo_handler},   {"/stream", &stream_handler}, {"/hold", &hold_handler},
                 {"/big", &big_handler},       {"/later", &later_handler}, {"/never", &never_handler},   {"/drip", &drip_handler},
                 {"/reject", &reject_handler}, {"/break", &break_handler}, {"/empty", &empty_handler},
                 {"/cut", &cut_handler},       {"/around", &around_handler}, {"/block", &block_handler},
                 {"/tied", &tied_handler}};
    struct span path = span_starts(r->path, "/2/") ? span_sub(r->path, 2, r->path.n) : r->path;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (!span_is(path, table[i].path)) continue;
        r->handler = table[i].handler;
        return;
    }
    reply_error(r, ERR_NOT_FOUND);
}

// ---- the thread -----------------------------------------------------------------------------------------------------

static void *elsewhere(void *ctx, struct span path)
{
    struct toy *t = ctx;
    return span_starts(path, "/2/") == t->second ? NULL : t->other;
}

static void on_arrived(struct letter *l)
{
    struct conn_moved *m = (struct conn_moved *)l;
    conns_adopt(((struct toy *)m->to)->conns, m);
}

static void hand(void *ctx, struct conn_moved *m)
{
    (void)ctx;
    m->letter.read = on_arrived;
    if (!mailbox_send(((struct toy *)m->to)->mailbox, &m->letter)) conn_moved_drop(m);
}

static void on_stop(uv_async_t *async)
{
    struct toy *t = async->data;
    conns_stop(t->conns);
}

static void on_release(uv_async_t *async)
{
    struct toy *t = async->data;
    toy_held = false;
    conns_release(t->conns);
}

void toy_release(struct toy *t)
{
    uv_async_send(&t->release);
}

static bool is_held(void *ctx, const struct request *r)
{
    (void)ctx, (void)r;
    return toy_held;
}

static void on_cut(uv_async_t *async)
{
    struct toy *t = async->data;
    conns_close(t->conns);
    if (t->mailbox != NULL) mailbox_close(t->mailbox);
    uv_close((uv_handle_t *)&t->stop, NULL);
    uv_close((uv_handle_t *)&t->cut, NULL);
    uv_close((uv_handle_t *)&t->release, NULL);
}

static void *run(void *arg)
{
    struct toy *t = arg;
    uv_run(&t->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void open_toy(struct toy *t, struct conn_limits limits)
{
    if (uv_loop_init(&t->loop) != 0) abort();
    struct conns_options options = {.loop = &t->loop, .limits = limits, .dispatch = dispatch, .held = is_held, .ctx = t};
    struct problem p = PROBLEM_NONE;
    if (t->other != NULL) {
        options.elsewhere = elsewhere;
        options.hand = hand;
        options.total = &toy_total;
        if (mailbox_open(&t->mailbox, &t->loop) != 0) abort();
    }
    if (conns_open(&t->conns, &options) != 0 || conns_listen(t->conns, "127.0.0.1", 0, &p) != 0) abort();
    t->port = conns_port(t->conns);
    uv_async_init(&t->loop, &t->stop, on_stop);
    uv_async_init(&t->loop, &t->cut, on_cut);
    uv_async_init(&t->loop, &t->release, on_release);
    t->stop.data = t->cut.data = t->release.data = t;
}

static void start_threads(struct toy **toys, int n)
{
    toy_begun = toy_done = 0;
    toy_queued_max = toy_body_seen = 0;
    toy_go_on = toy_held = false;
    for (int i = 0; i < n; i++)
        if (pthread_create(&toys[i]->thread, NULL, run, toys[i]) != 0) abort();
}

struct toy *toy_start(struct conn_limits limits)
{
    struct toy *t = calloc(1, sizeof *t);
    if (t == NULL) abort();
    open_toy(t, limits);
    start_threads(&t, 1);
    return t;
}

void toy_start_pair(struct conn_limits limits, struct toy *pair[2])
{
    for (int i = 0; i < 2; i++)
        if ((pair[i] = calloc(1, sizeof **pair)) == NULL) abort();
    for (int i = 0; i < 2; i++) {
        pair[i]->other = pair[1 - i];
        pair[i]->second = i == 1;
        open_toy(pair[i], limits);
    }
    start_threads(pair, 2);
}

void toy_stop(struct toy *t)
{
    uv_async_send(&t->stop);
}

static void end_thread(struct toy *t)
{
    uv_async_send(&t->cut);
    pthread_join(t->thread, NULL);
}

static bool give_back(struct toy *t)
{
    bool clean = uv_loop_close(&t->loop) == 0;
    mailbox_free(t->mailbox);
    free(t);
    return clean;
}

bool toy_end(struct toy *t)
{
    end_thread(t);
    return give_back(t);
}

bool toy_end_pair(struct toy *pair[2])
{
    end_thread(pair[0]);
    end_thread(pair[1]);
    bool first = give_back(pair[0]);
    return give_back(pair[1]) && first;
}

bool toy_reaches(atomic_int *n, int want)
{
    for (int i = 0; i < 1000 && *n < want; i++)
        usleep(5000);
    return *n == want;
}
