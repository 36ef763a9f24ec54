// The stages of an upload, each alone: what a pipeline of them cannot be faster than.
//
//      stages cut|hash|cut_hash|copy     GB/s of one processor over noise in memory: rate=…
//      stages disk DIR BYTES             MB/s of plain synced writes of a MiB past the page cache (through it where that is not possible)
//      stages receive BYTES              a server that reads one body and drops it; MB/s from its first byte on
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "blobs.h"
#include "digest.h"

#define NOISE_BYTES (64 * MIB)
#define STEP_BYTES (1 * MIB)
#define PAGE 4096
#define TURNS 4 // the first is not counted

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint8_t *noise(size_t n)
{
    uint64_t x = 88172645463325252u;
    uint8_t *p = aligned_alloc(PAGE, n);
    if (p == NULL) die("memory");
    for (size_t i = 0; i < n; i += sizeof x) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(p + i, &x, sizeof x);
    }
    return p;
}

// ---- in memory -------------------------------------------------------------------------------------------------

static unsigned kept; // so that nothing is left out as useless

static void hash(struct span s)
{
    kept += sha256_of(s).b[0];
}

static void cut_all(struct span s, bool with_hash)
{
    while (s.n > 0) {
        size_t n = blobs_cut(s);
        if (with_hash) hash(SPAN(s.p, n));
        kept += (unsigned)n;
        s = span_sub(s, n, s.n);
    }
}

static void copy(struct span s)
{
    static uint8_t to[STEP_BYTES];
    for (size_t i = 0; i < s.n; i += sizeof to) {
        memcpy(to, s.p + i, sizeof to);
        kept += to[i % sizeof to];
    }
}

static void in_memory(const char *what)
{
    struct span s = SPAN(noise(NOISE_BYTES), NOISE_BYTES);
    double begin = 0;
    for (int i = 0; i < TURNS; i++) {
        if (i == 1) begin = seconds(CLOCK_PROCESS_CPUTIME_ID);
        if (strcmp(what, "hash") == 0) hash(s);
        else if (strcmp(what, "copy") == 0) copy(s);
        else cut_all(s, strcmp(what, "cut_hash") == 0);
    }
    double took = seconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
    printf("rate=%.3f\nkept=%u\n", (TURNS - 1) * (double)s.n / took / 1e9, kept);
}

// ---- the disk --------------------------------------------------------------------------------------------------

static void disk(const char *folder, size_t bytes)
{
    char path[4096];
    uint8_t *p = noise(STEP_BYTES);
    snprintf(path, sizeof path, "%s/stage", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    if (fd < 0) fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) die(path);
    double begin = seconds(CLOCK_MONOTONIC);
    for (size_t at = 0; at < bytes; at += STEP_BYTES)
        if (pwrite(fd, p, STEP_BYTES, (off_t)at) != STEP_BYTES) die("write");
    if (fdatasync(fd) != 0) die("sync");
    printf("rate=%.1f\n", (double)bytes / (seconds(CLOCK_MONOTONIC) - begin) / 1e6);
    close(fd);
    unlink(path);
}

// ---- the socket ------------------------------------------------------------------------------------------------

static int accept_one(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 1) != 0 || getsockname(s, (struct sockaddr *)&a, &n) != 0) die("listen");
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);
    int fd = accept(s, NULL, NULL);
    if (fd < 0) die("accept");
    close(s);
    return fd;
}

static void say(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0) die("write");
}

static void receive(size_t bytes)
{
    static char piece[64 * KIB];
    int fd = accept_one();
    size_t got = 0;
    // The request's head fits one read; who asks whether the body may come is told so.
    ssize_t n = read(fd, piece, sizeof piece - 1);
    if (n <= 0) die("read");
    piece[n] = '\0';
    char *body = strstr(piece, "\r\n\r\n");
    if (body != NULL) got = (size_t)(piece + n - body - 4);
    say(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    double begin = seconds(CLOCK_MONOTONIC);
    while (got < bytes && (n = read(fd, piece, sizeof piece)) > 0)
        got += (size_t)n;
    printf("rate=%.1f\n", (double)got / (seconds(CLOCK_MONOTONIC) - begin) / 1e6);
    say(fd, "HTTP/1.1 204 No Content\r\n\r\n");
    close(fd);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "disk") == 0 && argc == 4) disk(argv[2], strtoull(argv[3], NULL, 10));
    else if (strcmp(what, "receive") == 0 && argc == 3) receive(strtoull(argv[2], NULL, 10));
    else if (argc == 2) in_memory(what);
    else return 2;
    return 0;
}
