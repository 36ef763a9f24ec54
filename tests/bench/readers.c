// Many readers. Fan-out: a writer appends messages that carry their time, and every reader notes how long each took to come. Idle: they only
// sit there, and what the service grew by is what one of them takes.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"
#include "wire.h"

#define EVENTS 512
#define SETTLE_NS 400000000 // without a byte: everything that was under way has come
#define OPEN_AT_ONCE 500    // connections between two looks at what came
#define LAST_WAIT_NS 5000000000

struct crowd {
    struct load *load;
    struct link *readers;
    struct link *writers; // of the one stream; one if there is a rate
    uint32_t writer_count;
    uint64_t sent, end_ns; // without a rate: each writer sends again when it is answered, until then
    bool with_stamps; // what is read is looked through for stamps
    bool ws, row;     // the carrier; a query of rows is followed, not a stream
    uint64_t delivered, last_ns;
    struct histogram latency;
};

static bool kind_is(const struct crowd *c, const char *kind)
{
    return strcmp(c->load->kind, kind) == 0;
}

// ---- subscribing ----

static void stream_name(const struct crowd *c, uint32_t index, char name[64])
{
    bool own = strcmp(c->load->command, "idle") == 0;
    snprintf(name, 64, own ? "bench-idle-%u" : "bench-fanout", own ? index : 0u);
}

static void put_subscription(struct crowd *c, struct link *l)
{
    char name[64];
    const char *prefix = c->load->prefix;
    stream_name(c, l->index, name);
    if (kind_is(c, "ds"))
        buf_printf(&l->out, "GET %s/apps/default/v1/stream/%s?offset=now&live=sse HTTP/1.1\r\nHost: bench\r\n\r\n", prefix, name);
    else if (kind_is(c, "row"))
        buf_printf(&l->out, "GET %s/apps/default/subscribe?query=select+body+from+fan+where+room=7 HTTP/1.1\r\nHost: bench\r\n\r\n", prefix);
    else if (kind_is(c, "sse"))
        buf_printf(&l->out, "GET %s/apps/default/subscribe?stream=%s HTTP/1.1\r\nHost: bench\r\n\r\n", prefix, name);
    else if (c->ws)
        buf_printf(&l->out,
                   "GET %s/apps/default/sync HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                   prefix);
    else if (!kind_is(c, "bare"))
        die("%s has no kind %s", c->load->command, c->load->kind);
}

static void put_ws_subscribe(struct crowd *c, struct link *l)
{
    char name[64], text[160];
    stream_name(c, l->index, name);
    ws_put_text(&l->out, SPAN_LIT("{\"type\":\"hello\",\"protocol\":1}"));
    int n = c->row ? snprintf(text, sizeof text, "{\"type\":\"subscribe\",\"name\":\"q1\",\"query\":\"select body from fan where room = 7\"}")
                   : snprintf(text, sizeof text, "{\"type\":\"subscribe\",\"name\":\"s1\",\"stream\":\"%s\"}", name);
    ws_put_text(&l->out, SPAN(text, (size_t)n));
}

// The head of the reply, taken once. A service without this carrier says so, and that is a figure too: none.
static bool head_take(struct crowd *c, struct link *l)
{
    int status = 0;
    size_t n = http_head(buf_span(&l->in), &status);
    if (n == 0) return false;
    if (c->ws && (status == 404 || status == 426 || status == 501)) {
        printf("skip=the service speaks no WebSocket here (%d)\n", status);
        exit(0);
    }
    if (status != (c->ws ? 101 : 200)) die("a bad reply: %.*s", (int)(l->in.n < 600 ? l->in.n : 600), (const char *)l->in.p);
    link_consume(l, n);
    l->begun = true;
    return true;
}

// ---- reading ----

static void note_stamps(struct crowd *c, struct span in, size_t *at)
{
    uint64_t sent, now = now_ns();
    while (stamp_next(in, at, &sent)) {
        histogram_add(&c->latency, now > sent ? now - sent : 0);
        c->delivered++;
        c->last_ns = now;
    }
}

static void read_frames(struct crowd *c, struct link *l)
{
    int opcode = 0;
    struct span payload;
    long n;
    while ((n = ws_frame(buf_span(&l->in), &opcode, &payload)) > 0) {
        size_t at = 0;
        if (opcode == 9) {
            ws_put_pong(&l->out, payload);
            link_send(l, c->load->epoll);
        }
        if (c->with_stamps) note_stamps(c, payload, &at);
        link_consume(l, (size_t)n);
    }
    if (n < 0) die("the service closed a reader");
}

static void reader_read(struct crowd *c, struct link *l)
{
    if (!link_read(l)) die("the service hung up on a reader");
    bool http = !kind_is(c, "bare");
    if (http && !l->begun) {
        if (!head_take(c, l)) return;
        if (c->ws) {
            put_ws_subscribe(c, l);
            link_send(l, c->load->epoll);
        }
    }
    if (c->ws) {
        read_frames(c, l);
        return;
    }
    if (c->with_stamps)
        note_stamps(c, buf_span(&l->in), &l->in_at);
    else
        l->in_at = l->in.n;
    link_consume(l, l->in_at);
}

static void writer_put(struct crowd *c, struct link *l, struct span body, const char *method)
{
    if (!kind_is(c, "bare"))
        buf_printf(
            &l->out,
            "%s %s/apps/default/v1/stream/bench-fanout HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
            method, c->load->prefix, body.n);
    buf_put_span(&l->out, body);
    link_send(l, c->load->epoll);
}

static void post(struct crowd *c, struct link *l, const char *method, const char *path, const char *type, struct span body)
{
    buf_printf(&l->out, "%s %s/apps/default/%s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", method, c->load->prefix, path, type, body.n);
    buf_put_span(&l->out, body);
    link_send(l, c->load->epoll);
}

// The row as each writer leaves it: its text is the message.
static void row_put(struct crowd *c, struct link *l, struct span message)
{
    char json[4400];
    int n = snprintf(json, sizeof json, "{\"ops\":[{\"op\":\"upsert\",\"table\":\"fan\",\"id\":\"01890a5d-ac96-774b-bcce-%012u\",\"values\":{\"room\":7,\"body\":\"%.*s\"}}]}", l->index,
                     SPAN_FMT(message));
    post(c, l, "POST", "batch", "application/json", SPAN(json, (size_t)n));
}

static void message_put(struct crowd *c, struct link *l)
{
    uint8_t message[4096];
    memset(message, 'x', sizeof message);
    stamp_put(message, now_ns());
    if (c->row) row_put(c, l, SPAN(message, c->load->bytes));
    else writer_put(c, l, SPAN(message, c->load->bytes), "POST");
    c->sent++;
}

// How many replies came; they say nothing else that is needed.
static size_t writer_replies(struct crowd *c, struct link *l)
{
    int status = 200;
    size_t count = 0;
    long n;
    if (!link_read(l)) die("the service hung up on a writer");
    if (kind_is(c, "bare")) {
        count = l->in.n;
        link_consume(l, l->in.n);
        return count;
    }
    while ((n = http_reply(buf_span(&l->in), &status)) > 0) {
        if (status >= 300) die("a bad reply: %.*s", (int)l->in.n, (const char *)l->in.p);
        link_consume(l, (size_t)n);
        count++;
    }
    return count;
}

static void writer_read(struct crowd *c, struct link *l)
{
    size_t count = writer_replies(c, l);
    if (count > 0 && now_ns() < c->end_ns) message_put(c, l);
}

static bool is_writer(const struct crowd *c, const struct link *l)
{
    return l >= c->writers && l < c->writers + c->writer_count;
}

// One round of events, waiting at most until `until_ns`. How many there were.
static int round_of_events(struct crowd *c, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now = now_ns(), wait = until_ns > now ? until_ns - now : 0;
    struct timespec t = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
    int n = epoll_pwait2(c->load->epoll, events, EVENTS, &t, NULL);
    if (n < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct link *l = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) link_send(l, c->load->epoll);
        if ((events[i].events & ~(uint32_t)EPOLLOUT) == 0) continue;
        if (is_writer(c, l))
            writer_read(c, l);
        else
            reader_read(c, l);
    }
    return n;
}

static void settle(struct crowd *c)
{
    while (round_of_events(c, now_ns() + SETTLE_NS) > 0)
        continue;
}

// ---- opening ----

static void readers_open(struct crowd *c)
{
    struct load *load = c->load;
    c->readers = calloc(load->readers, sizeof *c->readers);
    if (c->readers == NULL) die("no memory");
    for (uint32_t i = 0; i < load->readers; i++) {
        struct link *l = &c->readers[i];
        link_open(l, load->epoll, load->host, load->port, i);
        put_subscription(c, l);
        link_send(l, load->epoll);
        if (i % OPEN_AT_ONCE == OPEN_AT_ONCE - 1) round_of_events(c, 0);
    }
}

// Those who subscribe, and never read: the kernel takes what fits into their sockets, and no more goes anywhere.
static void stuck_open(struct crowd *c)
{
    struct link *stuck = calloc(c->load->stuck + 1, sizeof *stuck);
    int nobody = epoll_create1(EPOLL_CLOEXEC);
    if (stuck == NULL || nobody < 0) die("no memory");
    for (uint32_t i = 0; i < c->load->stuck; i++) {
        struct link *l = &stuck[i];
        link_open(l, nobody, c->load->host, c->load->port, i);
        int little = 4096; // else it takes megabytes until it is full
        setsockopt(l->fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
        put_subscription(c, l);
        if (c->ws) put_ws_subscribe(c, l);
        link_send(l, nobody);
    }
}

static void writers_open(struct crowd *c)
{
    struct load *load = c->load;
    c->writer_count = load->rate > 0 ? 1 : load->connections;
    c->writers = calloc(c->writer_count, sizeof *c->writers);
    if (c->writers == NULL || c->writer_count == 0) die("no writers");
    for (uint32_t i = 0; i < c->writer_count; i++)
        link_open(&c->writers[i], load->epoll, load->host, load->port, i);
    if (c->row) post(c, &c->writers[0], "PUT", "schema", "application/sql", SPAN_LIT("create table fan (room bigint, body text)"));
    else if (!kind_is(c, "bare")) writer_put(c, &c->writers[0], SPAN_NONE, "PUT");
    settle(c);
}

// ---- fan-out ----

static void write_on_time(struct crowd *c)
{
    struct load *load = c->load;
    uint64_t begin = now_ns(), end = begin + (uint64_t)(load->seconds * 1e9), gap = (uint64_t)(1e9 / load->rate);
    for (uint64_t due = begin; due < end; due += gap) {
        while (now_ns() < due)
            round_of_events(c, due);
        message_put(c, &c->writers[0]);
    }
}

static void write_all_the_time(struct crowd *c)
{
    c->end_ns = now_ns() + (uint64_t)(c->load->seconds * 1e9);
    for (uint32_t i = 0; i < c->writer_count; i++)
        message_put(c, &c->writers[i]);
    while (now_ns() < c->end_ns)
        round_of_events(c, c->end_ns);
}

void load_fanout(struct load *load)
{
    static struct crowd c;
    c = (struct crowd){.load = load, .ws = strcmp(load->kind, "ws") == 0 || strcmp(load->kind, "row_ws") == 0, .row = strncmp(load->kind, "row", 3) == 0};
    if (load->bytes < STAMP_BYTES || load->bytes > 4096 || load->rate < 0) die("a message has %d to 4096 bytes", STAMP_BYTES);
    // Someone has to make the stream before a reader of `ds` may ask for it; the bare server takes its writer last.
    bool first = strcmp(load->kind, "bare") != 0;
    if (first) writers_open(&c);
    readers_open(&c);
    stuck_open(&c);
    if (first)
        settle(&c);
    else
        writers_open(&c);
    c.with_stamps = true;
    struct usage before = usage_of(load->pid);
    printf("rss_before_kib=%llu\n", (unsigned long long)before.rss_bytes / 1024);
    uint64_t begin = now_ns();
    if (load->rate > 0)
        write_on_time(&c);
    else
        write_all_the_time(&c);
    uint64_t wanted = c.sent * load->readers;
    for (uint64_t end = now_ns() + LAST_WAIT_NS; c.delivered < wanted && now_ns() < end;)
        round_of_events(&c, end);
    if (c.delivered < wanted) die("%llu of %llu messages came", (unsigned long long)c.delivered, (unsigned long long)wanted);
    printf("rate=%.1f\n", (double)c.delivered / ((double)(c.last_ns - begin) / 1e9));
    print_latency(&c.latency);
    print_usage(load, &before, c.delivered);
}

// ---- idle ----

void load_idle(struct load *load)
{
    static struct crowd c;
    c = (struct crowd){.load = load, .ws = strcmp(load->kind, "ws") == 0};
    if (load->pid == 0 || load->readers == 0) die("idle needs --pid and --readers");
    struct usage before = usage_of(load->pid);
    readers_open(&c);
    settle(&c);
    struct usage after = usage_of(load->pid);
    printf("process_kib=%llu\n", (unsigned long long)before.rss_bytes / 1024);
    printf("subscribers_kib=%llu\n", (unsigned long long)after.rss_bytes / 1024);
    printf("subscriber_bytes=%.0f\n", (double)(after.rss_bytes - before.rss_bytes) / load->readers);
}
