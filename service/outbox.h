// What waits to be written to one socket: pieces of shared bytes, and small copies gathered into pages of its own.
#ifndef SEGUE_OUTBOX_H
#define SEGUE_OUTBOX_H

#include <sys/uio.h>

#include "bytes.h"

struct outbox_piece {
    struct bytes *bytes;
    size_t from, n;
};

struct outbox {
    struct outbox_piece *pieces; // a ring
    uint32_t first, count, cap;
    size_t n;  // bytes in all
    bool page; // the last piece is a page that takes more copies
};

// Zeroed memory is an empty outbox.
void outbox_free(struct outbox *o);

// Shares `b` (takes a reference). False: no memory; a part may be queued, so the connection is of no more use.
bool outbox_share(struct outbox *o, struct bytes *b);
bool outbox_share_part(struct outbox *o, struct bytes *b, size_t from, size_t n); // n bytes of it, however few
bool outbox_copy(struct outbox *o, struct span s);

// The first pieces, at most `max` of them; returns how many. They stay valid until consumed.
int outbox_gather(const struct outbox *o, struct iovec *iov, int max);
// The first `n` bytes were taken by the socket.
void outbox_consume(struct outbox *o, size_t n);

#endif
