// One reader of a whole file, again and again. What arrives is dropped in the kernel, so that it is the server that is measured.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"
#include "wire.h"

#define STEP (1u << 20)

// Sends the request and reads up to the end of the head; what came of the body with it is counted.
static uint64_t begin(const struct load *load, int fd)
{
    char text[8192];
    size_t n = 0, head = 0;
    int status = 0;
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", load->prefix);
    if (write(fd, text, (size_t)length) != length) die("the server hung up");
    while (head == 0) {
        ssize_t got = read(fd, text + n, sizeof text - n);
        if (got <= 0) die("the server hung up");
        n += (size_t)got;
        head = http_head(SPAN(text, n), &status);
    }
    if (status != 200) die("a bad reply: %.*s", (int)n, text);
    return n - head;
}

static void download(const struct load *load, int fd)
{
    static char nothing[STEP];
    for (uint64_t n = begin(load, fd); n < load->size;) {
        uint64_t left = load->size - n;
        ssize_t got = recv(fd, nothing, left < STEP ? left : STEP, MSG_TRUNC);
        if (got <= 0) die("the server hung up");
        n += (uint64_t)got;
    }
}

void load_download(struct load *load)
{
    struct link l;
    uint64_t count = 0;
    link_open(&l, load->epoll, load->host, load->port, 0);
    struct timeval patience = {.tv_sec = 60};
    setsockopt(l.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int flags = fcntl(l.fd, F_GETFL);
    if (flags < 0 || fcntl(l.fd, F_SETFL, flags & ~O_NONBLOCK) != 0) die("the socket cannot be made to wait");
    download(load, l.fd); // so that it is in memory, and verified
    struct usage before = usage_of(load->pid);
    uint64_t from = now_ns();
    do {
        download(load, l.fd);
        count++;
    } while (now_ns() - from < (uint64_t)(load->seconds * 1e9));
    double took = (double)(now_ns() - from) / 1e9;
    printf("rate=%.1f\n", (double)count * (double)load->size / took / 1e6);
    print_usage(load, &before, count);
    link_close(&l);
}
