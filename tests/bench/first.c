// First load: a client that has nothing subscribes to a whole table, and is whole when the range comes that names its subscription live. Again and
// again, on a connection of its own each time. And what it is compared with: a server that writes as many bytes from its memory.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"
#include "wire.h"

#define READ_BYTES (256u << 10)
#define BATCH 1000
#define BODY 64 // bytes: with an id and a number a row of 100
#define STREAM_STEP (64u << 10)
#define KEEP 64 // bytes of the end of what came, for words that were cut

static const char live_word[] = "\"live\":[";

struct first {
    const struct load *load;
    int fd;
    uint8_t *in; // KEEP bytes from before, then what came
    size_t kept;
};

static void open_socket(struct first *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(f->load->port)};
    int one = 1;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, f->load->host, &at.sin_addr) != 1 || connect(f->fd, (struct sockaddr *)&at, sizeof at) != 0)
        die("cannot connect: %s", strerror(errno));
    setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    f->kept = 0;
}

static void send_all(struct first *f, struct span s)
{
    for (ssize_t n; s.n > 0; s = span_sub(s, (size_t)n, s.n))
        if ((n = write(f->fd, s.p, s.n)) <= 0) die("cannot send: %s", strerror(errno));
}

static void ask(struct first *f, const char *method, const char *path, const char *type, struct span body)
{
    struct buf reply, out;
    int status = 0;
    long n = 0;
    buf_init(&reply, 1 << 20);
    buf_init(&out, 1 << 20);
    buf_printf(&out, "%s %s/apps/default/%s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", method, f->load->prefix, path, type, body.n);
    buf_put_span(&out, body);
    send_all(f, buf_span(&out));
    while (n == 0) {
        uint8_t more[4096];
        ssize_t got = read(f->fd, more, sizeof more);
        if (got <= 0) die("the service hung up");
        buf_put_span(&reply, SPAN(more, (size_t)got));
        n = http_reply(buf_span(&reply), &status);
    }
    if (n < 0 || status >= 300) die("a bad reply: %.*s", (int)reply.n, (const char *)reply.p);
    buf_free(&reply);
    buf_free(&out);
}

static void fill_table(struct first *f)
{
    struct buf json;
    buf_init(&json, 1 << 20);
    open_socket(f);
    ask(f, "PUT", "schema", "application/sql", SPAN_LIT("create table item (room bigint, body text)"));
    for (uint64_t i = 0; i < f->load->count;) {
        buf_clear(&json);
        buf_put_str(&json, "{\"ops\":[");
        for (int k = 0; k < BATCH && i < f->load->count; k++, i++) {
            buf_printf(&json, "%s{\"op\":\"insert\",\"table\":\"item\",\"values\":{\"room\":%llu,\"body\":\"", k == 0 ? "" : ",", (unsigned long long)i % 100);
            for (int c = 0; c < BODY; c++)
                buf_put_u8(&json, (uint8_t)('a' + (i * 31 + (uint64_t)c * 7) % 26));
            buf_put_str(&json, "\"}}");
        }
        buf_put_str(&json, "]}");
        ask(f, "POST", "batch", "application/json", buf_span(&json));
    }
    close(f->fd);
    buf_free(&json);
}

// ---- what it is compared with ------------------------------------------------------------------------------------------

void stream_serve(const struct load *load)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    char request[4096];
    int fd, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t *bytes = calloc(1, load->bytes + 1);
    if (bytes == NULL || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 8) != 0 || getsockname(listener, (struct sockaddr *)&at, &n) != 0)
        die("cannot listen: %s", strerror(errno));
    memset(bytes, 'x', load->bytes);
    memcpy(bytes + load->bytes - sizeof live_word, live_word, sizeof live_word - 1);
    printf("listening on 127.0.0.1:%u\n", ntohs(at.sin_port));
    fflush(stdout);
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct first f = {.load = load, .fd = fd};
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (read(fd, request, sizeof request) <= 0) die("no request");
        for (size_t i = 0; i < load->bytes; i += STREAM_STEP)
            send_all(&f, SPAN(bytes + i, load->bytes - i < STREAM_STEP ? load->bytes - i : STREAM_STEP));
        close(fd);
    }
}

// ---- the reader ------------------------------------------------------------------------------------------------------------

static void subscribe(struct first *f, bool ws)
{
    struct buf out;
    buf_init(&out, 4096);
    if (!ws) {
        buf_printf(&out, "GET %s/apps/default/subscribe?query=select+*+from+item HTTP/1.1\r\nHost: bench\r\n\r\n", f->load->prefix);
    } else {
        buf_printf(&out, "GET %s/apps/default/sync HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", f->load->prefix);
        ws_put_text(&out, SPAN_LIT("{\"type\":\"hello\",\"protocol\":1,\"subscribe\":{\"q1\":{\"query\":\"select * from item\"}}}"));
    }
    send_all(f, buf_span(&out));
    buf_free(&out);
}

// Reads until the subscription is live: bytes that came.
static size_t read_all(struct first *f)
{
    size_t all = 0;
    for (;;) {
        ssize_t n = read(f->fd, f->in + f->kept, READ_BYTES);
        if (n <= 0) die("the service hung up");
        all += (size_t)n;
        size_t have = f->kept + (size_t)n, tail = have < 4096 ? have : 4096; // the last message is a short one
        if (memmem(f->in + have - tail, tail, live_word, sizeof live_word - 1) != NULL) return all;
        f->kept = have < KEEP ? have : KEEP;
        memmove(f->in, f->in + have - f->kept, f->kept);
    }
}

void load_first(struct load *load)
{
    static struct histogram times;
    struct first f = {.load = load, .in = malloc(READ_BYTES + KEEP)};
    bool ws = strcmp(load->kind, "ws") == 0;
    size_t bytes = 0;
    if (f.in == NULL) die("no memory");
    if (load->count == 0) load->count = 100000;
    if (strcmp(load->kind, "stream") != 0) fill_table(&f);
    struct usage before = usage_of(load->pid);
    uint64_t begun = now_ns(), end = begun + (uint64_t)(load->seconds * 1e9), loads = 0;
    for (; now_ns() < end || loads < 3; loads++) {
        open_socket(&f);
        uint64_t begin = now_ns();
        subscribe(&f, ws);
        bytes = read_all(&f);
        histogram_add(&times, now_ns() - begin);
        close(f.fd);
    }
    print_latency(&times);
    // Of its own memory: pages of the database are read, and may be dropped again.
    uint64_t grown = usage_of(load->pid).anon_bytes;
    printf("bytes=%zu\nrate=%.1f\n", bytes, (double)bytes / 1e6 / ((double)histogram_quantile(&times, .5) / 1e9));
    printf("grown_kib=%llu\n", (unsigned long long)(grown > before.anon_bytes ? grown - before.anon_bytes : 0) / 1024);
    print_usage(load, &before, loads);
    free(f.in);
}
