// Closed loop: as many requests are under way as there are connections. Appends, batches and uploads differ only in what a request is and
// where its reply ends.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "digest.h"
#include "load.h"
#include "wire.h"

#define EVENTS 256
#define WARM_SHARE 0.2 // of the time, not counted: caches, and the first segment of everything

struct work {
    const char *command, *kind;
    // The request that is answered once before the load begins; may be NULL.
    void (*prepare)(const struct load *load, struct link *l);
    void (*request)(const struct load *load, struct link *l);
    // Bytes of the complete reply in l->in, 0: not yet; ends the program on a bad one.
    long (*reply)(const struct link *l);
};

static uint8_t *content;      // load->bytes for each connection, for a body is read while it is being sent
static uint64_t content_made; // how often some of it was changed

// What no upload of this run has been before.
static struct span fresh_content(const struct load *load, const struct link *l)
{
    uint8_t *mine = content + l->index * load->bytes;
    content_made++;
    if (load->bytes >= STAMP_BYTES) stamp_put(mine, content_made);
    return SPAN(mine, load->bytes);
}

static void put_head(struct link *l, const char *method, const char *path, const char *type, size_t length)
{
    buf_printf(&l->out, "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", method, path, type, length);
}

static long http_good(const struct link *l)
{
    int status = 0;
    long n = http_reply(buf_span(&l->in), &status);
    if (n < 0 || (n > 0 && status >= 300)) die("a bad reply: %.*s", (int)(l->in.n < 600 ? l->in.n : 600), (const char *)l->in.p);
    return n;
}

// ---- append ----

static void segue_append_path(const struct load *load, const struct link *l, char path[256])
{
    snprintf(path, 256, "%s/apps/%s/v1/stream/bench-%u", load->prefix, load->app, l->index);
}

static void segue_append_prepare(const struct load *load, struct link *l)
{
    char path[256];
    segue_append_path(load, l, path);
    put_head(l, "PUT", path, "text/plain", 0);
}

static void segue_append(const struct load *load, struct link *l)
{
    char path[256];
    segue_append_path(load, l, path);
    put_head(l, "POST", path, "text/plain", load->bytes);
    buf_put(&l->out, content, load->bytes);
}

static void redis_append(const struct load *load, struct link *l)
{
    char key[32];
    int n = snprintf(key, sizeof key, "bench-%u", l->index);
    buf_printf(&l->out, "*5\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\nd\r\n$%zu\r\n", n, key, (size_t)load->bytes);
    buf_put(&l->out, content, load->bytes);
    buf_put_str(&l->out, "\r\n");
}

static long redis_good(const struct link *l)
{
    long n = resp_reply(buf_span(&l->in));
    if (n < 0) die("a bad reply: %.*s", (int)l->in.n, (const char *)l->in.p);
    return n;
}

static void bare_append(const struct load *load, struct link *l)
{
    buf_put(&l->out, content, load->bytes);
}

static long bare_good(const struct link *l)
{
    return (long)l->in.n;
}

// ---- batch ----

static void batch_prepare(const struct load *load, struct link *l)
{
    static const char sql[] = "create table bench (n bigint not null, text text not null)";
    char path[256];
    snprintf(path, sizeof path, "%s/apps/%s/schema", load->prefix, load->app);
    put_head(l, "PUT", path, "application/sql", sizeof sql - 1);
    buf_put_str(&l->out, sql);
}

static void batch_request(const struct load *load, struct link *l)
{
    static struct buf body = {.max = 4u << 20};
    char path[256];
    buf_clear(&body);
    buf_put_str(&body, "{\"ops\":[");
    for (uint32_t i = 0; i < load->ops; i++) {
        buf_printf(&body, "%s{\"op\":\"insert\",\"table\":\"bench\",\"values\":{\"n\":%llu,\"text\":\"", i == 0 ? "" : ",",
                   (unsigned long long)++content_made);
        buf_put(&body, content, load->bytes);
        buf_put_str(&body, "\"}}");
    }
    buf_put_str(&body, "]}");
    if (body.err != 0) die("the batch is too large");
    snprintf(path, sizeof path, "%s/apps/%s/batch", load->prefix, load->app);
    put_head(l, "POST", path, "application/json", body.n);
    buf_put_span(&l->out, buf_span(&body));
}

// ---- upload ----

static void segue_upload(const struct load *load, struct link *l)
{
    char path[256], hex[SHA256_HEX + 1] = {0};
    struct span body = fresh_content(load, l);
    struct sha256 digest = sha256_of(body);
    hex_format(hex, SPAN(digest.b, sizeof digest.b));
    snprintf(path, sizeof path, "%s/apps/default/blobs/%s", load->prefix, hex);
    put_head(l, "PUT", path, "application/octet-stream", body.n);
    l->body = body;
}

static void put_upload(const struct load *load, struct link *l)
{
    char path[256];
    struct span body = fresh_content(load, l);
    snprintf(path, sizeof path, "%s/bench-%llu", load->prefix, (unsigned long long)content_made);
    put_head(l, "PUT", path, "application/octet-stream", body.n);
    l->body = body;
}

// Created and filled by one request; the address has the path that creates.
static void tus_upload(const struct load *load, struct link *l)
{
    struct span body = fresh_content(load, l);
    buf_printf(&l->out,
               "POST %s HTTP/1.1\r\nHost: bench\r\nTus-Resumable: 1.0.0\r\nUpload-Length: %zu\r\nContent-Type: application/offset+octet-stream\r\n"
               "Content-Length: %zu\r\n\r\n",
               load->prefix, body.n, body.n);
    l->body = body;
}

// ---- get ----

// A part of the file that the URL names, from anywhere in it.
static void get_range(const struct load *load, struct link *l)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    uint64_t from = x % (load->size - load->bytes + 1);
    buf_printf(&l->out, "GET %s HTTP/1.1\r\nHost: bench\r\nRange: bytes=%llu-%llu\r\n\r\n", load->prefix, (unsigned long long)from,
               (unsigned long long)(from + load->bytes - 1));
}

static const struct work works[] = {
    {"get", "segue", NULL, get_range, http_good},
    {"append", "segue", segue_append_prepare, segue_append, http_good},
    {"append", "redis", NULL, redis_append, redis_good},
    {"append", "bare", NULL, bare_append, bare_good},
    {"batch", "segue", batch_prepare, batch_request, http_good},
    {"upload", "segue", NULL, segue_upload, http_good},
    {"upload", "put", NULL, put_upload, http_good},
    {"upload", "tus", NULL, tus_upload, http_good},
};

// ---- the loop ----

struct run {
    struct load *load;
    const struct work *work;
    struct link *links;
    struct histogram latency;
    uint64_t end_ns;
    uint32_t under_way;
};

// Waits for one reply of one link, while the others have nothing to do.
static void answer_wait(const struct work *work, struct link *l)
{
    long n;
    while ((n = work->reply(l)) == 0) {
        poll(&(struct pollfd){.fd = l->fd, .events = POLLIN}, 1, -1);
        if (!link_read(l)) die("the server hung up");
    }
    link_consume(l, (size_t)n);
}

static void links_open(struct run *run)
{
    struct load *load = run->load;
    run->links = calloc(load->connections, sizeof *run->links);
    if (run->links == NULL) die("no memory");
    for (uint32_t i = 0; i < load->connections; i++) {
        struct link *l = &run->links[i];
        link_open(l, load->epoll, load->host, load->port, i);
        if (run->work->prepare == NULL) continue;
        run->work->prepare(load, l);
        link_send(l, load->epoll);
        answer_wait(run->work, l);
    }
}

static void next(struct run *run, struct link *l)
{
    run->work->request(run->load, l);
    if (l->out.err != 0) die("a request is too large");
    l->sent_ns = now_ns();
    link_send(l, run->load->epoll);
}

static void on_event(struct run *run, const struct epoll_event *e)
{
    struct link *l = e->data.ptr;
    if (e->events & EPOLLOUT) link_send(l, run->load->epoll);
    if ((e->events & ~(uint32_t)EPOLLOUT) == 0) return;
    if (!link_read(l)) die("the server hung up");
    long n = run->work->reply(l);
    if (n == 0) return;
    uint64_t now = now_ns();
    histogram_add(&run->latency, now - l->sent_ns);
    link_consume(l, (size_t)n);
    if (now < run->end_ns)
        next(run, l);
    else
        run->under_way--;
}

// Until the time is up and everything under way is answered; how long it took, in seconds.
static double run_for(struct run *run, double seconds)
{
    struct epoll_event events[EVENTS];
    uint64_t begin = now_ns();
    run->latency = (struct histogram){0};
    run->end_ns = begin + (uint64_t)(seconds * 1e9);
    run->under_way = run->load->connections;
    for (uint32_t i = 0; i < run->load->connections; i++)
        next(run, &run->links[i]);
    while (run->under_way > 0) {
        int n = epoll_wait(run->load->epoll, events, EVENTS, 10000);
        if (n == 0) die("nothing was answered for ten seconds");
        for (int i = 0; i < n; i++)
            on_event(run, &events[i]);
    }
    return (double)(now_ns() - begin) / 1e9;
}

static const struct work *work_find(const struct load *load)
{
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        if (strcmp(works[i].command, load->command) == 0 && strcmp(works[i].kind, load->kind) == 0) return &works[i];
    die("%s has no kind %s", load->command, load->kind);
}

// Noise, so that nothing compresses or repeats; letters, so that it stands in JSON as it is.
static void content_make(const struct load *load)
{
    uint64_t x = 88172645463325252u ^ now_ns();
    bool letters = strcmp(load->command, "upload") != 0;
    size_t all = load->bytes * load->connections;
    content = malloc(all + 1);
    if (content == NULL) die("no memory");
    for (size_t i = 0; i < all; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        content[i] = letters ? (uint8_t)('a' + (x >> 24) % 26) : (uint8_t)(x >> 24);
    }
}

void load_closed(struct load *load)
{
    static struct run run;
    run = (struct run){.load = load, .work = work_find(load)};
    content_make(load);
    links_open(&run);
    run_for(&run, load->seconds * WARM_SHARE);
    struct usage before = usage_of(load->pid);
    double took = run_for(&run, load->seconds);
    printf("rate=%.1f\n", (double)run.latency.count / took);
    print_latency(&run.latency);
    print_usage(load, &before, run.latency.count);
    for (uint32_t i = 0; i < load->connections; i++)
        link_close(&run.links[i]);
    free(run.links);
    free(content);
}
