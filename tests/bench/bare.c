// A server that does the least a durable one must: read what the writers have, put it into a file written all over before, sync once, hand
// it to every reader, answer the writers. No protocol, no state, no protection: what it reaches is what this machine gives.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define FILE_BYTES (64u << 20)
#define SECTOR 512u
#define MESSAGE_MAX 4096u
#define GROUP_MAX 64 // messages of one sync

static int file_make(const char *dir)
{
    char path[4096];
    static const uint8_t zeros[1 << 20];
    snprintf(path, sizeof path, "%s/bare.tmp", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (off_t at = 0; at < FILE_BYTES; at += (off_t)sizeof zeros) {
        if (fd < 0 || pwrite(fd, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros) die("%s: %s", path, strerror(errno));
    }
    if (fsync(fd) != 0) die("%s: %s", path, strerror(errno));
    unlink(path);
    return fd;
}

static int listen_anywhere(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &n) != 0)
        die("cannot listen: %s", strerror(errno));
    printf("listening on 127.0.0.1:%u\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static int take_one(int listener)
{
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0) die("cannot accept: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void watch(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("epoll: %s", strerror(errno));
}

static void put(int fd, const uint8_t *p, size_t n)
{
    for (ssize_t sent; n > 0; p += sent, n -= (size_t)sent) {
        sent = write(fd, p, n);
        if (sent <= 0) die("cannot send: %s", strerror(errno));
    }
}

struct bare {
    const struct load *load;
    int epoll, listener, file;
    int *readers;
    uint64_t at;
    uint8_t group[GROUP_MAX * MESSAGE_MAX];
};

static void file_append(struct bare *b, size_t n)
{
    if (b->at + n > FILE_BYTES) b->at = 0;
    if (pwrite(b->file, b->group, n, (off_t)b->at) != (ssize_t)n || fdatasync(b->file) != 0) die("cannot write: %s", strerror(errno));
    b->at += n;
}

// Takes a message of each writer that has one; `writers` become those to be answered. A message comes in one piece: it is small.
static int take_messages(struct bare *b, const struct epoll_event *events, int n, int *writers)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        if (fd == b->listener) {
            watch(b->epoll, take_one(b->listener));
            continue;
        }
        ssize_t got = read(fd, b->group + (size_t)count * b->load->bytes, b->load->bytes);
        if (got == (ssize_t)b->load->bytes)
            writers[count++] = fd;
        else if (got > 0)
            die("half a message");
        else
            exit(0);
    }
    return count;
}

void bare_serve(const struct load *load)
{
    static struct bare b;
    b = (struct bare){.load = load, .epoll = load->epoll, .file = file_make(load->dir), .listener = listen_anywhere()};
    if (load->bytes == 0 || load->bytes > MESSAGE_MAX) die("a bare message has 1 to %u bytes", MESSAGE_MAX);
    b.readers = calloc(load->readers + 1, sizeof *b.readers);
    if (b.readers == NULL) die("no memory");
    for (uint32_t i = 0; i < load->readers; i++)
        b.readers[i] = take_one(b.listener);
    watch(b.epoll, b.listener);
    for (;;) {
        struct epoll_event events[GROUP_MAX];
        int writers[GROUP_MAX];
        int n = epoll_wait(b.epoll, events, GROUP_MAX, -1);
        int count = take_messages(&b, events, n, writers);
        if (count == 0) continue;
        file_append(&b, ((size_t)count * load->bytes + SECTOR - 1) / SECTOR * SECTOR);
        for (uint32_t i = 0; i < load->readers; i++)
            put(b.readers[i], b.group, (size_t)count * load->bytes);
        for (int i = 0; i < count; i++)
            put(writers[i], b.group, 1);
    }
}
