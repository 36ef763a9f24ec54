// One socket of the load generator: bytes out as far as the socket takes them, bytes in as they come. Never blocks after opening.
#ifndef SEGUE_BENCH_LINK_H
#define SEGUE_BENCH_LINK_H

#include <stdbool.h>

#include "buf.h"

struct link {
    int fd;
    uint32_t index;   // the caller's
    struct buf out;   // what is to be sent first
    struct span body; // and what follows it; borrowed until it is sent
    size_t out_at, body_at;
    struct buf in;    // what came and was not consumed
    size_t in_at;     // of it, looked at
    uint64_t sent_ns; // when the request was begun
    bool begun;       // the reply was: its head is consumed
    bool waits_to_write;
};

uint64_t now_ns(void);

// Connects and adds itself to `epoll` for reading. Ends the program with a sentence when it cannot.
void link_open(struct link *l, int epoll, const char *host, uint16_t port, uint32_t index);
void link_close(struct link *l);

// Sends what is left of out and body; when the socket is full, epoll tells of room. Call again on EPOLLOUT.
void link_send(struct link *l, int epoll);
bool link_sent(const struct link *l);
// Reads once. False: the other side has ended.
bool link_read(struct link *l);
// Drops the first `n` bytes that were read.
void link_consume(struct link *l, size_t n);

// Prints a sentence and ends the program: a figure from a run that went wrong is worse than none.
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
