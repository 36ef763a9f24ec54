// What waits to be written to one socket: pieces of shared bytes, small copies gathered into pages of its own, and pieces of files.
#ifndef SEGUE_OUTBOX_H
#define SEGUE_OUTBOX_H

#include <sys/uio.h>

#include "bytes.h"

struct outbox_piece {
    struct bytes *bytes; // NULL: a piece of a file
    int fd;
    uint64_t from;
    size_t n;
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
bool outbox_share_first(struct outbox *o, struct bytes *b, size_t from, size_t n); // the same, before all that waits
bool outbox_copy(struct outbox *o, struct span s);
// A piece of a file. Takes `fd` over, whatever the result.
bool outbox_file(struct outbox *o, int fd, uint64_t position, size_t n);

// The first piece, if it is of a file; else NULL.
const struct outbox_piece *outbox_first_file(const struct outbox *o);
// Reads the first `max` bytes of such a piece, so that there is something to gather. False: it cannot be read.
bool outbox_load(struct outbox *o, size_t max);
// The first pieces, up to one of a file and at most `max`; returns how many. They stay valid until consumed.
int outbox_gather(const struct outbox *o, struct iovec *iov, int max);
// The first `n` bytes were taken by the socket.
void outbox_consume(struct outbox *o, size_t n);

#endif
