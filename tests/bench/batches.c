// Batches of rows over HTTP or WebSocket connections, --window of them on their way on each: named, so that a retry would not count twice, and with ids as a
// client makes them. Until the time is up, or --count batches are settled.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "file.h"
#include "load.h"
#include "uuid.h"
#include "wire.h"

#define EVENTS 256
#define WARM_SHARE 0.2 // of the time, not counted
#define OWNERS 10000
#define STALL_MS 10000

struct batches {
    struct load *load;
    bool ws;
    struct link *links;
    struct writer {
        struct uuid replica;
        uint64_t sent, settled;
        uint64_t *sent_ns; // of each batch in the window
    } *writers;
    struct buf message;
    struct histogram latency;
    uint64_t under_way, begun;
    uint64_t bytes_out, bytes_in, ops_bytes; // on the wire; of them what the operations alone are
};

static uint64_t dice(void)
{
    static uint64_t x;
    if (x == 0) x = now_ns() | 1;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

static void put_id(struct buf *out)
{
    uint64_t random[2] = {dice(), dice()};
    char text[UUID_TEXT + 1] = {0};
    uuid_format(uuid_v7(clock_wall_ms(), (const uint8_t *)random), text);
    buf_put_str(out, text);
}

// The table of rows.c.
static void put_ops(struct batches *b)
{
    const struct load *load = b->load;
    size_t before = b->message.n;
    for (uint32_t i = 0; i < load->ops; i++) {
        buf_put_str(&b->message, i == 0 ? "[{\"op\":\"insert\",\"table\":\"items\",\"id\":\"" : ",{\"op\":\"insert\",\"table\":\"items\",\"id\":\"");
        put_id(&b->message);
        buf_printf(&b->message, "\",\"values\":{\"owner\":%u,\"n\":%u,\"state\":%u,\"body\":\"", (unsigned)(dice() % OWNERS), (unsigned)(dice() % 1000000),
                   (unsigned)(dice() % 1000));
        for (uint64_t k = 0; k < load->bytes; k++)
            buf_put_u8(&b->message, (uint8_t)('a' + (dice() >> 24) % 26));
        buf_put_str(&b->message, "\"}}");
    }
    buf_put_str(&b->message, "]}");
    b->ops_bytes += b->message.n - before - 1;
}

static void put_head(struct link *l, const struct load *load, const char *method, const char *path, const char *type, size_t n)
{
    buf_printf(&l->out, "%s %s/apps/%s/%s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", method, load->prefix, load->app, path, type, n);
}

static void put_batch(struct batches *b, struct link *l)
{
    struct writer *w = &b->writers[l->index];
    char replica[UUID_TEXT + 1] = {0};
    uuid_format(w->replica, replica);
    size_t before = l->out.n;
    buf_clear(&b->message);
    w->sent_ns[w->sent % b->load->window] = now_ns();
    w->sent++;
    buf_put_str(&b->message, "{");
    if (b->ws) buf_printf(&b->message, "\"type\":\"batch\",\"id\":%llu,", (unsigned long long)w->sent);
    buf_printf(&b->message, "\"replica\":\"%s\",\"counter\":%llu,\"ops\":", replica, (unsigned long long)w->sent);
    put_ops(b);
    if (b->ws) {
        ws_put_text(&l->out, buf_span(&b->message));
    } else {
        put_head(l, b->load, "POST", "batch", "application/json", b->message.n);
        buf_put_span(&l->out, buf_span(&b->message));
    }
    if (l->out.err != 0 || b->message.err != 0) die("a batch is too large");
    b->bytes_out += l->out.n - before;
    b->under_way++;
    b->begun++;
}

// ---- what comes back ----

static void settle(struct batches *b, struct link *l)
{
    struct writer *w = &b->writers[l->index];
    if (w->settled == w->sent) die("more was answered than was asked");
    histogram_add(&b->latency, now_ns() - w->sent_ns[w->settled++ % b->load->window]);
    b->under_way--;
}

// Bytes of the message at the front, 0 while there is none that is whole.
static size_t take_ws(struct batches *b, struct link *l, struct span in)
{
    struct span payload;
    int opcode;
    long n = ws_frame(in, &opcode, &payload);
    if (n < 0) die("a bad reply: %.*s", SPAN_FMT(span_sub(in, 0, in.n < 200 ? in.n : 200)));
    if (n == 0) return 0;
    if (opcode == 9) {
        ws_put_pong(&l->out, payload);
    } else if (span_starts(payload, "{\"type\":\"fate\"")) {
        if (memmem(payload.p, payload.n, "accepted", 8) == NULL) die("a bad reply: %.*s", SPAN_FMT(payload));
        settle(b, l);
    } else if (span_starts(payload, "{\"type\":\"error\"")) {
        die("a bad reply: %.*s", SPAN_FMT(payload));
    }
    return (size_t)n;
}

static size_t take_http(struct batches *b, struct link *l, struct span in)
{
    int status = 0;
    long n = http_reply(in, &status);
    if (n < 0 || (n > 0 && status >= 300)) die("a bad reply: %.*s", SPAN_FMT(span_sub(in, 0, in.n < 600 ? in.n : 600)));
    if (n > 0) settle(b, l);
    return (size_t)n;
}

static void take(struct batches *b, struct link *l)
{
    struct span in = buf_span(&l->in);
    size_t at = 0, n;
    do {
        struct span rest = span_sub(in, at, in.n - at);
        n = b->ws ? take_ws(b, l, rest) : take_http(b, l, rest);
        at += n;
    } while (n > 0);
    b->bytes_in += at;
    link_consume(l, at);
}

// ---- the run ----

// Sends, and waits for the head of the answer or, of a whole reply, for that.
static void exchange(struct batches *b, struct link *l, int wanted, bool whole)
{
    int status = 0;
    long n;
    link_send(l, b->load->epoll);
    while ((n = whole ? http_reply(buf_span(&l->in), &status) : (long)http_head(buf_span(&l->in), &status)) == 0) {
        poll(&(struct pollfd){.fd = l->fd, .events = POLLIN}, 1, -1);
        if (!link_read(l)) die("the server hung up");
    }
    if (n < 0 || status != wanted) die("a bad reply: %.*s", SPAN_FMT(buf_span(&l->in)));
    link_consume(l, (size_t)n);
}

static void publish(struct batches *b, struct link *l)
{
    static const char sql[] = "create table items (owner integer not null, n integer not null, state integer not null, body text not null);"
                              "create index items_owner on items (owner, n)";
    put_head(l, b->load, "PUT", "schema", "application/sql", sizeof sql - 1);
    buf_put_str(&l->out, sql);
    exchange(b, l, 200, true);
}

static void open_all(struct batches *b)
{
    struct load *load = b->load;
    b->links = calloc(load->connections, sizeof *b->links);
    b->writers = calloc(load->connections, sizeof *b->writers);
    if (b->links == NULL || b->writers == NULL) die("no memory");
    for (uint32_t i = 0; i < load->connections; i++) {
        struct link *l = &b->links[i];
        uint64_t random[2] = {dice(), dice()};
        b->writers[i] = (struct writer){.replica = uuid_v7(clock_wall_ms(), (const uint8_t *)random), .sent_ns = calloc(load->window, sizeof(uint64_t))};
        if (b->writers[i].sent_ns == NULL) die("no memory");
        link_open(l, load->epoll, load->host, load->port, i);
        if (i == 0) publish(b, l);
        if (!b->ws) continue;
        buf_printf(&l->out, "GET %s/apps/%s/sync HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", load->prefix, load->app);
        exchange(b, l, 101, false);
        ws_put_text(&l->out, SPAN_LIT("{\"type\":\"hello\",\"protocol\":1}"));
    }
}

static void fill(struct batches *b, struct link *l, uint64_t end)
{
    struct writer *w = &b->writers[l->index];
    while (now_ns() < end && (b->load->count == 0 || b->begun < b->load->count) && w->sent - w->settled < b->load->window)
        put_batch(b, l);
    link_send(l, b->load->epoll);
}

// Until the time is up and everything under way is settled; how long it took, in seconds.
static double run_for(struct batches *b, double seconds)
{
    struct epoll_event events[EVENTS];
    uint64_t begun = now_ns(), end = begun + (uint64_t)(seconds * 1e9);
    b->latency = (struct histogram){0};
    b->begun = b->bytes_out = b->bytes_in = b->ops_bytes = 0;
    for (uint32_t i = 0; i < b->load->connections; i++)
        fill(b, &b->links[i], end);
    while (b->under_way > 0) {
        int n = epoll_wait(b->load->epoll, events, EVENTS, STALL_MS);
        if (n == 0) die("nothing was answered for ten seconds");
        for (int i = 0; i < n; i++) {
            struct link *l = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) link_send(l, b->load->epoll);
            if ((events[i].events & ~(uint32_t)EPOLLOUT) == 0) continue;
            if (!link_read(l)) die("the server hung up");
            take(b, l);
            fill(b, l, end);
        }
    }
    return (double)(now_ns() - begun) / 1e9;
}

void load_rows(struct load *load)
{
    static struct batches b;
    b = (struct batches){.load = load, .ws = strcmp(load->kind, "ws") == 0};
    if (!b.ws && load->window != 1) die("HTTP: one batch at a time on a connection");
    buf_init(&b.message, 8u << 20);
    open_all(&b);
    if (load->count == 0) run_for(&b, load->seconds * WARM_SHARE);
    struct usage before = usage_of(load->pid);
    double took = run_for(&b, load->count > 0 ? 1e6 : load->seconds);
    uint64_t rows = b.latency.count * load->ops;
    printf("rate=%.1f\ntook_ms=%.2f\n", (double)rows / took, took * 1e3);
    printf("out_bytes=%llu\nin_bytes=%llu\nops_bytes=%llu\n", (unsigned long long)b.bytes_out, (unsigned long long)b.bytes_in, (unsigned long long)b.ops_bytes);
    print_latency(&b.latency);
    print_usage(load, &before, rows);
    for (uint32_t i = 0; i < load->connections; i++) {
        link_close(&b.links[i]);
        free(b.writers[i].sent_ns);
    }
    free(b.links);
    free(b.writers);
    buf_free(&b.message);
}
