// One connection that does not wait: appends go out while those before are on their way, as many as a window allows, and are acknowledged many at a time.
// As fast as it goes, or tokens: so many a second into each of many streams, each an append of its own; and perhaps a tail of each: a connection that
// follows it.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "load.h"
#include "text.h"
#include "wire.h"

#define MESSAGE_BYTES (32u << 10) // of records put into one message
#define TICK_NS 1000000u          // how often tokens that are due are looked for
#define CONTENT_BYTES (4u << 20)
#define EVENTS 512
#define STALL_NS 10000000000u

struct pipeline {
    struct load *load;
    struct link link;
    bool redis;
    uint64_t sent, settled;
    uint32_t next_stream;
    uint64_t *sent_ns; // when each of the window's appends went out
    struct histogram latency;
    struct buf message;
    uint8_t *content;
    uint32_t *at; // of each stream: what comes next
    uint64_t made; // streams
    struct link *tails;
    uint64_t delivered; // bytes of content
};

static void stream_name(uint32_t stream, char name[32])
{
    snprintf(name, 32, "tokens/bench-%04u", stream);
}

// ---- what goes out ----

// Each stream is a text of its own.
static struct span next_content(struct pipeline *p, uint32_t stream)
{
    uint32_t at = p->at[stream];
    p->at[stream] = (at + (uint32_t)p->load->bytes) % CONTENT_BYTES;
    return SPAN(p->content + at, p->load->bytes);
}

static void put_record(struct pipeline *p, uint32_t stream)
{
    char name[32];
    stream_name(stream, name);
    buf_put_u16(&p->message, (uint16_t)strlen(name));
    buf_put_str(&p->message, name);
    buf_put_u32(&p->message, (uint32_t)p->load->bytes);
    buf_put_span(&p->message, next_content(p, stream));
}

static void put_xadd(struct pipeline *p, uint32_t stream)
{
    char name[32];
    stream_name(stream, name);
    buf_printf(&p->link.out, "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$1\r\nd\r\n$%zu\r\n", strlen(name), name, (size_t)p->load->bytes);
    buf_put_span(&p->link.out, next_content(p, stream));
    buf_put_str(&p->link.out, "\r\n");
}

static void message_begin(struct pipeline *p)
{
    buf_clear(&p->message);
    buf_put_u8(&p->message, 1);
}

static void message_end(struct pipeline *p)
{
    if (p->message.n > 1) ws_put_binary(&p->link.out, buf_span(&p->message));
    message_begin(p);
}

static void put_append(struct pipeline *p)
{
    uint32_t stream = p->next_stream;
    p->next_stream = (stream + 1) % p->load->streams;
    p->sent_ns[p->sent % p->load->window] = now_ns();
    if (p->redis) put_xadd(p, stream);
    else put_record(p, stream);
    p->sent++;
    if (p->message.n > MESSAGE_BYTES) message_end(p);
}

// ---- what comes back ----

static void settle(struct pipeline *p, uint64_t upto)
{
    uint64_t now = now_ns();
    if (upto > p->sent) die("more was acknowledged than was sent");
    for (; p->settled < upto; p->settled++)
        histogram_add(&p->latency, now - p->sent_ns[p->settled % p->load->window]);
}

// The lines behind `event: data` that are whole. Content has no line's end, and no space, which a reader would take for the field's.
static void take_tail(struct pipeline *p, struct link *l)
{
    size_t at = 0;
    const uint8_t *end;
    while ((end = memchr(l->in.p + at, '\n', l->in.n - at)) != NULL) {
        struct span line = SPAN(l->in.p + at, (size_t)(end - l->in.p) - at);
        if (span_starts(line, "event: ")) l->begun = span_is(line, "event: data");
        else if (l->begun && span_starts(line, "data:")) p->delivered += line.n - 5;
        at += line.n + 1;
    }
    link_consume(l, at);
}

static void take_frame(struct pipeline *p, struct span payload)
{
    static const char upto[] = "{\"type\":\"fate\",\"upto\":";
    uint64_t n = 0;
    if (span_starts(payload, "{\"type\":\"error\"") || memmem(payload.p, payload.n, "rejected", 8) != NULL) die("a bad reply: %.*s", SPAN_FMT(payload));
    if (span_starts(payload, "{\"type\":\"fate\",\"id\":")) p->made++;
    if (!span_starts(payload, upto)) return;
    for (size_t i = sizeof upto - 1; i < payload.n && payload.p[i] >= '0' && payload.p[i] <= '9'; i++)
        n = n * 10 + payload.p[i] - '0';
    settle(p, n);
}

static void take_replies(struct pipeline *p)
{
    struct span in = buf_span(&p->link.in), payload;
    size_t at = 0;
    long n;
    int opcode;
    for (;; at += (size_t)n) {
        struct span rest = span_sub(in, at, in.n - at);
        n = p->redis ? resp_reply(rest) : ws_frame(rest, &opcode, &payload);
        if (n < 0) die("a bad reply: %.*s", SPAN_FMT(span_sub(rest, 0, 200)));
        if (n == 0) break;
        if (p->redis) settle(p, p->settled + 1);
        else if (opcode == 9) ws_put_pong(&p->link.out, payload);
        else take_frame(p, payload);
    }
    link_consume(&p->link, at);
}

// Sends what there is, then waits at most `ns` for something to come.
static void turn(struct pipeline *p, uint64_t ns)
{
    struct epoll_event events[EVENTS];
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    link_send(&p->link, p->load->epoll);
    int n = epoll_pwait2(p->load->epoll, events, EVENTS, &t, NULL);
    if (n < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct link *l = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) link_send(l, p->load->epoll);
        if ((events[i].events & ~(uint32_t)EPOLLOUT) == 0) continue;
        if (!link_read(l)) die("the server hung up");
        if (l == &p->link) take_replies(p);
        else take_tail(p, l);
    }
}

// ---- the run ----

static void begin(struct pipeline *p)
{
    struct buf *out = &p->link.out;
    char name[32];
    if (p->redis) return;
    buf_printf(out, "GET %s/apps/default/sync HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", p->load->prefix);
    link_send(&p->link, p->load->epoll);
    int status = 0;
    size_t n;
    while ((n = http_head(buf_span(&p->link.in), &status)) == 0) {
        poll(&(struct pollfd){.fd = p->link.fd, .events = POLLIN}, 1, -1);
        if (!link_read(&p->link)) die("the server hung up");
    }
    if (status != 101) die("a bad reply: %.*s", SPAN_FMT(buf_span(&p->link.in)));
    link_consume(&p->link, n);
    ws_put_text(out, SPAN_LIT("{\"type\":\"hello\",\"protocol\":1}"));
    for (uint32_t i = 0; i < p->load->streams; i++) {
        struct buf text = {.max = 256};
        stream_name(i, name);
        buf_printf(&text, "{\"type\":\"batch\",\"id\":%u,\"ops\":[{\"op\":\"create\",\"stream\":\"%s\",\"type\":\"text/plain\"}]}", i, name);
        ws_put_text(out, buf_span(&text));
        buf_free(&text);
    }
}

static void tails_open(struct pipeline *p)
{
    char name[32];
    while (!p->redis && p->made < p->load->streams)
        turn(p, STALL_NS);
    p->tails = calloc(p->load->readers + 1, sizeof *p->tails);
    if (p->tails == NULL) die("no memory");
    for (uint32_t i = 0; i < p->load->readers; i++) {
        struct link *l = &p->tails[i];
        stream_name(i % p->load->streams, name);
        link_open(l, p->load->epoll, p->load->host, p->load->port, i);
        buf_printf(&l->out, "GET %s/apps/default/v1/stream/%s?offset=-1&live=sse HTTP/1.1\r\nHost: bench\r\n\r\n", p->load->prefix, name);
        link_send(l, p->load->epoll);
        if (i % 500 == 499) turn(p, TICK_NS);
    }
    for (size_t i = 0; p->load->readers > 0 && i < CONTENT_BYTES + p->load->bytes; i++)
        if (p->content[i] == ' ') p->content[i] = '_';
}

// What is acknowledged may still be on its way to the tails. How long that takes, in milliseconds; one for each stream is assumed.
static double tails_await(struct pipeline *p)
{
    uint64_t begun = now_ns(), wanted = p->sent * p->load->bytes;
    if (p->load->readers == 0) return 0;
    while (p->delivered < wanted && now_ns() - begun < STALL_NS)
        turn(p, TICK_NS);
    if (p->delivered != wanted) die("%llu bytes of %llu came", (unsigned long long)p->delivered, (unsigned long long)wanted);
    return (double)(now_ns() - begun) / 1e6;
}

// Until `end`, then until all is acknowledged. Tokens: each stream's share is due at its time, and one that cannot go out yet is late, not lost.
static double run_for(struct pipeline *p, double seconds)
{
    uint64_t begun = now_ns(), end = begun + (uint64_t)(seconds * 1e9), first = p->sent, heard = begun, settled = p->settled;
    double per_ns = p->load->rate * p->load->streams / 1e9;
    for (uint64_t now = begun; now < end || p->settled < p->sent; now = now_ns()) {
        uint64_t due = p->load->rate > 0 ? (uint64_t)((double)((now < end ? now : end) - begun) * per_ns) : UINT64_MAX;
        message_begin(p);
        while (now < end && p->sent - first < due && p->sent - p->settled < p->load->window && p->link.out.n < 4 * MESSAGE_BYTES)
            put_append(p);
        message_end(p);
        turn(p, p->load->rate > 0 ? TICK_NS : STALL_NS / 10);
        if (p->settled != settled) settled = p->settled, heard = now;
        if (now - heard > STALL_NS) die("nothing was acknowledged for ten seconds");
    }
    return (double)(now_ns() - begun) / 1e9;
}

void load_pipeline(struct load *load)
{
    static struct pipeline p;
    p = (struct pipeline){.load = load, .redis = strcmp(load->kind, "redis") == 0};
    p.sent_ns = calloc(load->window, sizeof *p.sent_ns);
    p.content = text_make(load->text, CONTENT_BYTES + load->bytes);
    p.at = calloc(load->streams, sizeof *p.at);
    if (p.sent_ns == NULL || p.at == NULL) die("no memory");
    for (uint32_t i = 0; i < load->streams; i++)
        p.at[i] = i * 7919u % CONTENT_BYTES;
    buf_init(&p.message, 8u << 20);
    link_open(&p.link, load->epoll, load->host, load->port, 0);
    begin(&p);
    tails_open(&p);
    run_for(&p, load->seconds * 0.2);
    p.latency = (struct histogram){0};
    struct usage before = usage_of(load->pid);
    uint64_t first = p.sent;
    double took = run_for(&p, load->seconds);
    printf("behind_ms=%.1f\n", tails_await(&p));
    printf("rate=%.1f\n", (double)(p.sent - first) / took);
    print_latency(&p.latency);
    print_usage(load, &before, p.sent - first);
    for (uint32_t i = 0; i < load->readers; i++)
        link_close(&p.tails[i]);
    free(p.tails);
    link_close(&p.link);
    buf_free(&p.message);
    free(p.sent_ns);
    free(p.content);
    free(p.at);
}
