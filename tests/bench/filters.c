// Many live queries, each with a filter of its own, over a few WebSockets, and a writer of single rows each of which concerns one of them: what a commit costs the
// service, and how long a row takes to its subscriber.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "file.h"
#include "load.h"
#include "uuid.h"
#include "wire.h"

#define EVENTS 256
#define SETTLE_NS 400000000   // without a byte: all subscriptions are there
#define LAST_WAIT_NS 10000000000u
#define WARM_SHARE 0.2        // of the time, not counted
#define RANGE 100             // whole numbers in the range of one filter

struct filters {
    struct load *load;
    bool range, scan;
    struct link writer, *readers;
    uint32_t reader_count;
    struct buf message;
    struct histogram latency;
    uint64_t sent, settled, delivered;
};

static uint64_t dice(void)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

// ---- opening -------------------------------------------------------------------------------------------------------

static void exchange(struct filters *f, struct link *l, int wanted, bool whole)
{
    int status = 0;
    long n;
    link_send(l, f->load->epoll);
    while ((n = whole ? http_reply(buf_span(&l->in), &status) : (long)http_head(buf_span(&l->in), &status)) == 0) {
        poll(&(struct pollfd){.fd = l->fd, .events = POLLIN}, 1, -1);
        if (!link_read(l)) die("the server hung up");
    }
    if (n < 0 || status != wanted) die("a bad reply: %.*s", SPAN_FMT(buf_span(&l->in)));
    link_consume(l, (size_t)n);
}

static void shake_hands(struct filters *f, struct link *l)
{
    buf_printf(&l->out, "GET %s/apps/default/sync HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", f->load->prefix);
    exchange(f, l, 101, false);
    ws_put_text(&l->out, SPAN_LIT("{\"type\":\"hello\",\"protocol\":1}"));
}

static void publish(struct filters *f)
{
    static const char sql[] = "create table items (owner integer not null, n bigint not null, body text not null)";
    struct link l;
    link_open(&l, f->load->epoll, f->load->host, f->load->port, 0);
    buf_printf(&l.out, "PUT %s/apps/default/schema HTTP/1.1\r\nHost: bench\r\nContent-Type: application/sql\r\nContent-Length: %zu\r\n\r\n%s", f->load->prefix,
               sizeof sql - 1, sql);
    exchange(f, &l, 200, true);
    link_close(&l);
}

static void put_subscription(struct filters *f, struct link *l, uint32_t no)
{
    buf_clear(&f->message);
    buf_printf(&f->message, "{\"type\":\"subscribe\",\"name\":\"q%u\",\"query\":\"select n, body from items where ", no);
    if (f->range) buf_printf(&f->message, "n between $1 and $2\",\"params\":[%u,%u]}", no * RANGE, no * RANGE + RANGE - 1);
    else buf_printf(&f->message, "owner%s = $1\",\"params\":[%u]}", f->scan ? " + 0" : "", no);
    ws_put_text(&l->out, buf_span(&f->message));
}

static void open_all(struct filters *f)
{
    struct load *load = f->load;
    f->reader_count = load->connections < load->readers ? load->connections : load->readers;
    f->readers = calloc(f->reader_count, sizeof *f->readers);
    if (f->readers == NULL) die("no memory");
    publish(f);
    link_open(&f->writer, load->epoll, load->host, load->port, 0);
    shake_hands(f, &f->writer);
    for (uint32_t i = 0; i < f->reader_count; i++) {
        link_open(&f->readers[i], load->epoll, load->host, load->port, i);
        shake_hands(f, &f->readers[i]);
        for (uint32_t no = i; no < load->readers; no += f->reader_count)
            put_subscription(f, &f->readers[i], no);
    }
}

// ---- what comes ----------------------------------------------------------------------------------------------------

static void note_rows(struct filters *f, struct span payload)
{
    uint64_t sent, now = now_ns();
    size_t at = 0;
    while (stamp_next(payload, &at, &sent)) {
        histogram_add(&f->latency, now > sent ? now - sent : 0);
        f->delivered++;
    }
}

static void take(struct filters *f, struct link *l)
{
    struct span payload, in = buf_span(&l->in);
    size_t at = 0;
    int opcode;
    long n;
    while ((n = ws_frame(span_sub(in, at, in.n - at), &opcode, &payload)) > 0) {
        at += (size_t)n;
        if (opcode == 9) ws_put_pong(&l->out, payload);
        if (span_starts(payload, "{\"type\":\"error\"") || memmem(payload.p, payload.n, "rejected", 8)) die("a bad reply: %.*s", SPAN_FMT(payload));
        if (l == &f->writer) f->settled += span_starts(payload, "{\"type\":\"fate\"");
        else note_rows(f, payload);
    }
    if (n < 0) die("the service closed a connection");
    link_consume(l, at);
}

// One round of events, waiting at most until then. How many there were.
static int round_of_events(struct filters *f, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now = now_ns(), wait = until_ns > now ? until_ns - now : 0;
    struct timespec t = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
    int n = epoll_pwait2(f->load->epoll, events, EVENTS, &t, NULL);
    if (n < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct link *l = events[i].data.ptr;
        if (events[i].events & ~(uint32_t)EPOLLOUT) {
            if (!link_read(l)) die("the service hung up");
            take(f, l);
        }
        link_send(l, f->load->epoll);
    }
    return n;
}

static void settle(struct filters *f)
{
    for (uint32_t i = 0; i < f->reader_count; i++)
        link_send(&f->readers[i], f->load->epoll);
    link_send(&f->writer, f->load->epoll);
    while (round_of_events(f, now_ns() + SETTLE_NS) > 0)
        continue;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static void put_row(struct filters *f)
{
    uint32_t whose = (uint32_t)(dice() >> 20) % f->load->readers;
    uint64_t random[2] = {dice(), dice()};
    char id[UUID_TEXT + 1] = {0};
    uint8_t body[STAMP_BYTES];
    uuid_format(uuid_v7(clock_wall_ms(), (const uint8_t *)random), id);
    stamp_put(body, now_ns());
    buf_clear(&f->message);
    buf_printf(&f->message, "{\"type\":\"batch\",\"id\":%llu,\"ops\":[{\"op\":\"insert\",\"table\":\"items\",\"id\":\"%s\",\"values\":{\"owner\":%u,\"n\":%llu,\"body\":\"",
               (unsigned long long)++f->sent, id, whose, (unsigned long long)(whose * RANGE + (dice() >> 20) % RANGE));
    buf_put(&f->message, body, sizeof body);
    for (uint64_t i = STAMP_BYTES; i < f->load->bytes; i++)
        buf_put_u8(&f->message, 'x');
    buf_put_str(&f->message, "\"}}]}");
    ws_put_text(&f->writer.out, buf_span(&f->message));
    link_send(&f->writer, f->load->epoll);
}

static void await(struct filters *f)
{
    for (uint64_t end = now_ns() + LAST_WAIT_NS; (f->delivered < f->sent || f->settled < f->sent) && now_ns() < end;)
        round_of_events(f, end);
    if (f->delivered != f->sent || f->settled != f->sent)
        die("%llu rows were sent, %llu settled, %llu came", (unsigned long long)f->sent, (unsigned long long)f->settled, (unsigned long long)f->delivered);
}

// At its rate; without one, each row when the one before has come.
static void write_for(struct filters *f, double seconds)
{
    uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9), gap = f->load->rate > 0 ? (uint64_t)(1e9 / f->load->rate) : 0;
    for (uint64_t due = begin; (gap > 0 ? due : now_ns()) < end; due += gap) {
        while (gap > 0 && now_ns() < due)
            round_of_events(f, due);
        put_row(f);
        if (gap == 0) await(f);
    }
    await(f);
}

void load_filters(struct load *load)
{
    static struct filters f;
    f = (struct filters){.load = load, .range = strcmp(load->kind, "range") == 0, .scan = strcmp(load->kind, "scan") == 0};
    if (load->readers == 0 || load->connections == 0) die("filters needs --readers and --connections");
    buf_init(&f.message, 64u << 10);
    uint64_t begin = now_ns();
    open_all(&f);
    settle(&f);
    printf("opened_ms=%.1f\n", (double)(now_ns() - begin - SETTLE_NS) / 1e6);
    write_for(&f, load->seconds * WARM_SHARE);
    f.latency = (struct histogram){0};
    uint64_t first = f.sent;
    struct usage before = usage_of(load->pid);
    write_for(&f, load->seconds);
    print_usage(load, &before, f.sent - first);
    print_latency(&f.latency);
    for (uint32_t i = 0; i < f.reader_count; i++)
        link_close(&f.readers[i]);
    free(f.readers);
    link_close(&f.writer);
    buf_free(&f.message);
}
