// A small blocking HTTP client that can also misbehave: for tests of the service over a real socket. Every wait ends after
// ten seconds with a failure instead of hanging.
#ifndef SEGUE_HTTP_PEER_H
#define SEGUE_HTTP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer;

struct peer_reply {
    int status;
    char *head; // status line and fields, with a terminator
    char *body; // decoded, with a terminator
    size_t n;   // bytes of body
    bool whole; // it ended where it said it would
};

// NULL when there is no connection to be had.
struct peer *peer_open(uint16_t port);
void peer_close(struct peer *p);
// Closes by a reset, as a machine that lost its memory would.
void peer_reset(struct peer *p);

bool peer_send(struct peer *p, const char *text);
bool peer_send_n(struct peer *p, const void *bytes, size_t n);
// Ends this side; the other may still talk.
void peer_end(struct peer *p);

// Reads one reply, interim ones (100) not skipped. False: the connection ended before its head. `to_head`: the request was a HEAD.
bool peer_read(struct peer *p, struct peer_reply *r, bool to_head);
void peer_reply_free(struct peer_reply *r);
// A field's value in a head, or NULL; lives until the next call.
const char *peer_field(const struct peer_reply *r, const char *name);

// Nothing more comes: the other side has ended.
bool peer_ended(struct peer *p);
// Reads exactly `n` bytes, or until the end. Returns how many.
size_t peer_read_n(struct peer *p, void *bytes, size_t n);
// Is there something to read within `ms`? An end counts.
bool peer_ready(struct peer *p, int ms);

#endif
