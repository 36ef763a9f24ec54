// Catching up: one reader takes a whole stream, as often as time allows. And what it is compared with: a server that hands out a file with
// sendfile on the same kind of socket pair.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"
#include "text.h"
#include "wire.h"

#define READ_BYTES (256u << 10)
#define APPEND_BYTES (1u << 20)
#define SETTLE_S 4 // longer than a stream has to be quiet to be sealed

// ---- a plain server -----------------------------------------------------------------------------------------------------------

void sendfile_serve(const struct load *load)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *file = tmpfile();
    uint8_t *text = text_make(load->text, load->bytes);
    if (file == NULL || fwrite(text, 1, load->bytes, file) != load->bytes || fflush(file) != 0) die("no file: %s", strerror(errno));
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 8) != 0 || getsockname(listener, (struct sockaddr *)&at, &n) != 0)
        die("cannot listen: %s", strerror(errno));
    printf("listening on 127.0.0.1:%u\n", ntohs(at.sin_port));
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char request[4096], head[128];
    while (read(fd, request, sizeof request) > 0) {
        int m = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nStream-Up-To-Date: true\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)load->bytes);
        if (send(fd, head, (size_t)m, MSG_MORE) != m) break;
        for (off_t done = 0; done < (off_t)load->bytes;)
            if (sendfile(fd, fileno(file), &done, load->bytes - (size_t)done) <= 0) die("cannot send: %s", strerror(errno));
    }
    free(text);
}

// ---- the reader ---------------------------------------------------------------------------------------------------------------

struct reader {
    const struct load *load;
    int fd;
    uint8_t *in;
    size_t n;
    char offset[64];
    bool up_to_date;
};

static void open_socket(struct reader *r)
{
    int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(r->load->port)};
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, r->load->host, &at.sin_addr);
    if (connect(r->fd, (struct sockaddr *)&at, sizeof at) != 0) die("cannot connect: %s", strerror(errno));
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void fill(struct reader *r)
{
    ssize_t got = read(r->fd, r->in + r->n, READ_BYTES - r->n);
    if (got <= 0) die("the server hung up");
    r->n += (size_t)got;
}

static void send_all(int fd, const void *p, size_t n)
{
    for (ssize_t sent; n > 0; p = (const char *)p + sent, n -= (size_t)sent)
        if ((sent = write(fd, p, n)) <= 0) die("cannot send: %s", strerror(errno));
}

// The value of a field of the head, as text; false: it is not there.
static bool head_field(const struct reader *r, size_t head, const char *name, char *out, size_t room)
{
    char *line = memmem(r->in, head, name, strlen(name));
    if (line == NULL) return false;
    snprintf(out, room, "%.*s", (int)strcspn(line + strlen(name), "\r"), line + strlen(name));
    return true;
}

// Reads one reply and drops its content; bytes of that.
static size_t reply_take(struct reader *r)
{
    int status = 0;
    size_t head;
    char text[64];
    while ((head = http_head(SPAN(r->in, r->n), &status)) == 0)
        fill(r);
    if (status >= 300) die("a bad reply: %.*s", (int)head, (const char *)r->in);
    r->up_to_date = head_field(r, head, "\nStream-Up-To-Date: ", text, sizeof text);
    head_field(r, head, "\nStream-Next-Offset: ", r->offset, sizeof r->offset);
    if (!head_field(r, head, "\nContent-Length: ", text, sizeof text)) {
        if (status != 204) die("a reply without its length: %.*s", (int)head, (const char *)r->in);
        snprintf(text, sizeof text, "0");
    }
    size_t all = strtoull(text, NULL, 10), left = head + all;
    while (left > r->n) {
        left -= r->n;
        r->n = 0;
        fill(r);
    }
    memmove(r->in, r->in + left, r->n - left);
    r->n -= left;
    return all;
}

static void request(struct reader *r, const char *method, const char *query, size_t content)
{
    char head[512];
    int n = snprintf(head, sizeof head, "%s %s/apps/default/v1/stream/catchup%s HTTP/1.1\r\nHost: bench\r\n", method, r->load->prefix, query);
    if (content > 0) n += snprintf(head + n, sizeof head - (size_t)n, "Content-Type: text/plain\r\nContent-Length: %zu\r\n", content);
    n += snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    send_all(r->fd, head, (size_t)n);
}

static void fill_stream(struct reader *r)
{
    uint8_t *text = text_make(r->load->text, r->load->bytes);
    for (size_t at = 0; at < r->load->bytes; at += APPEND_BYTES) {
        size_t n = r->load->bytes - at < APPEND_BYTES ? r->load->bytes - at : APPEND_BYTES;
        request(r, at == 0 ? "PUT" : "POST", "", n);
        send_all(r->fd, text + at, n);
        reply_take(r);
    }
    free(text);
    sleep(SETTLE_S);
}

static void catch_up(struct reader *r)
{
    size_t got = 0;
    char query[96] = "?offset=-1";
    do {
        request(r, "GET", query, 0);
        got += reply_take(r);
        snprintf(query, sizeof query, "?offset=%s", r->offset);
    } while (!r->up_to_date);
    if (got != r->load->bytes) die("%zu bytes came, not %llu", got, (unsigned long long)r->load->bytes);
}

void load_catchup(struct load *load)
{
    static struct histogram times;
    struct reader r = {.load = load, .in = malloc(READ_BYTES)};
    open_socket(&r);
    if (strcmp(load->kind, "sendfile") != 0) fill_stream(&r);
    catch_up(&r); // once for the caches
    struct usage before = usage_of(load->pid);
    uint64_t begun = now_ns(), end = begun + (uint64_t)(load->seconds * 1e9), count = 0;
    for (uint64_t now = begun; now < end || count < 3; count++) {
        catch_up(&r);
        uint64_t then = now;
        now = now_ns();
        histogram_add(&times, now - then);
    }
    printf("rate=%.1f\n", (double)count * (double)load->bytes / 1e6 / ((double)(now_ns() - begun) / 1e9));
    print_latency(&times);
    print_usage(load, &before, count);
    close(r.fd);
    free(r.in);
}
