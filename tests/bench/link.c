#include "link.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINK_BUFFER_MAX (64u << 20)
#define READ_STEP (32u << 10)

void die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "load: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void link_open(struct link *l, int epoll, const char *host, uint16_t port, uint32_t index)
{
    int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    *l = (struct link){.index = index, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1) die("%s is not an IPv4 address", host);
    if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&at, sizeof at) != 0)
        die("cannot connect to %s:%u: %s", host, port, strerror(errno));
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(l->fd, F_SETFL, O_NONBLOCK);
    buf_init(&l->out, LINK_BUFFER_MAX);
    buf_init(&l->in, LINK_BUFFER_MAX);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, l->fd, &e) != 0) die("epoll: %s", strerror(errno));
}

void link_close(struct link *l)
{
    close(l->fd);
    buf_free(&l->out);
    buf_free(&l->in);
}

bool link_sent(const struct link *l)
{
    return l->out_at == l->out.n && l->body_at == l->body.n;
}

static void wait_to_write(struct link *l, int epoll, bool wait)
{
    if (l->waits_to_write == wait) return;
    struct epoll_event e = {.events = EPOLLIN | (wait ? EPOLLOUT : 0u), .data.ptr = l};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, l->fd, &e) != 0) die("epoll: %s", strerror(errno));
    l->waits_to_write = wait;
}

void link_send(struct link *l, int epoll)
{
    while (!link_sent(l)) {
        struct iovec iov[2] = {{.iov_base = l->out.p + l->out_at, .iov_len = l->out.n - l->out_at},
                               {.iov_base = (void *)(l->body.p + l->body_at), .iov_len = l->body.n - l->body_at}};
        ssize_t n = writev(l->fd, iov, iov[1].iov_len > 0 ? 2 : 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) die("cannot send: %s", strerror(errno));
        size_t head = (size_t)n < iov[0].iov_len ? (size_t)n : iov[0].iov_len;
        l->out_at += head;
        l->body_at += (size_t)n - head;
    }
    wait_to_write(l, epoll, !link_sent(l));
    if (!link_sent(l)) return;
    buf_clear(&l->out);
    l->body = SPAN_NONE;
    l->out_at = l->body_at = 0;
}

bool link_read(struct link *l)
{
    uint8_t *to = buf_reserve(&l->in, READ_STEP);
    if (to == NULL) die("a reply is longer than %u bytes", LINK_BUFFER_MAX);
    ssize_t n = read(l->fd, to, READ_STEP);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    l->in.n += (size_t)n;
    return n > 0;
}

void link_consume(struct link *l, size_t n)
{
    assert(n <= l->in.n);
    buf_consume(&l->in, n);
    l->in_at = l->in_at > n ? l->in_at - n : 0;
}
