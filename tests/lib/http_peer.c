#include "http_peer.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000

struct peer {
    int fd;
    size_t n, at; // of what was read ahead
    char ahead[65536];
};

struct peer *peer_open(uint16_t port)
{
    struct peer *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (p->fd >= 0 && connect(p->fd, (struct sockaddr *)&to, sizeof to) == 0) return p;
    peer_close(p);
    return NULL;
}

void peer_close(struct peer *p)
{
    if (p == NULL) return;
    if (p->fd >= 0) close(p->fd);
    free(p);
}

void peer_reset(struct peer *p)
{
    struct linger hard = {.l_onoff = 1};
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    peer_close(p);
}

void peer_end(struct peer *p)
{
    shutdown(p->fd, SHUT_WR);
}

static bool wait_for(struct peer *p, short events, int ms)
{
    struct pollfd f = {.fd = p->fd, .events = events};
    return poll(&f, 1, ms) > 0;
}

bool peer_ready(struct peer *p, int ms)
{
    return p->at < p->n || wait_for(p, POLLIN, ms);
}

bool peer_send_n(struct peer *p, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        if (!wait_for(p, POLLOUT, WAIT_MS)) return false;
        ssize_t sent = send(p->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0) return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool peer_send(struct peer *p, const char *text)
{
    return peer_send_n(p, text, strlen(text));
}

// The next byte, or -1 at the end.
static int next(struct peer *p)
{
    if (p->at < p->n) return (unsigned char)p->ahead[p->at++];
    if (!wait_for(p, POLLIN, WAIT_MS)) return -1;
    ssize_t n = recv(p->fd, p->ahead, sizeof p->ahead, 0);
    if (n <= 0) return -1;
    p->n = (size_t)n;
    p->at = 1;
    return (unsigned char)p->ahead[0];
}

size_t peer_read_n(struct peer *p, void *bytes, size_t n)
{
    char *to = bytes;
    for (size_t i = 0; i < n; i++) {
        int c = next(p);
        if (c < 0) return i;
        to[i] = (char)c;
    }
    return n;
}

bool peer_ended(struct peer *p)
{
    return next(p) < 0;
}

struct text {
    char *p;
    size_t n, cap;
};

static void text_put(struct text *t, int c)
{
    if (t->n + 2 > t->cap) {
        t->cap = t->cap == 0 ? 1024 : t->cap * 2;
        t->p = realloc(t->p, t->cap);
        if (t->p == NULL) abort();
    }
    t->p[t->n++] = (char)c;
    t->p[t->n] = '\0';
}

static bool read_head(struct peer *p, struct text *head)
{
    while (head->n < 4 || memcmp(head->p + head->n - 4, "\r\n\r\n", 4) != 0) {
        int c = next(p);
        if (c < 0) return false;
        text_put(head, c);
    }
    return true;
}

const char *peer_field(const struct peer_reply *r, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);
    for (const char *line = strstr(r->head, "\r\n"); line != NULL && line[2] != '\0'; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) != 0 || line[2 + n] != ':') continue;
        snprintf(value, sizeof value, "%.*s", (int)strcspn(line + 4 + n, "\r"), line + 4 + n);
        return value;
    }
    return NULL;
}

static bool read_count(struct peer *p, struct text *body, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int c = next(p);
        if (c < 0) return false;
        text_put(body, c);
    }
    return true;
}

static bool read_chunks(struct peer *p, struct text *body)
{
    for (;;) {
        char line[64];
        size_t n = 0;
        for (int c = next(p); c != '\n'; c = next(p)) {
            if (c < 0 || n == sizeof line - 1) return false;
            line[n++] = (char)c;
        }
        line[n] = '\0';
        size_t size = strtoull(line, NULL, 16);
        if (!read_count(p, body, size)) return false;
        char crlf[2];
        if (peer_read_n(p, crlf, 2) != 2 || memcmp(crlf, "\r\n", 2) != 0) return false;
        if (size == 0) return true;
    }
}

static bool read_body(struct peer *p, struct peer_reply *r, struct text *body)
{
    if (peer_field(r, "transfer-encoding") != NULL) return read_chunks(p, body);
    const char *length = peer_field(r, "content-length");
    if (length != NULL) return read_count(p, body, strtoull(length, NULL, 10));
    for (int c = next(p); c >= 0; c = next(p))
        text_put(body, c);
    return true;
}

bool peer_read(struct peer *p, struct peer_reply *r, bool to_head)
{
    struct text head = {0}, body = {0};
    memset(r, 0, sizeof *r);
    if (!read_head(p, &head) || sscanf(head.p, "HTTP/1.1 %d ", &r->status) != 1) {
        free(head.p);
        return false;
    }
    r->head = head.p;
    bool bodiless = to_head || r->status < 200 || r->status == 204 || r->status == 304;
    r->whole = bodiless || read_body(p, r, &body);
    if (body.p == NULL) body.p = calloc(1, 1);
    r->body = body.p;
    r->n = body.n;
    return true;
}

void peer_reply_free(struct peer_reply *r)
{
    free(r->head);
    free(r->body);
    memset(r, 0, sizeof *r);
}
