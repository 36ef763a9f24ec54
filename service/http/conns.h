// The connections of one loop: the listener, the turn, the deadlines. What it serves is the caller's `dispatch`.
//
//      libuv:  timers ─> (idle: only to keep poll from waiting) ─> poll: sockets ─> check: the turn
//      turn:   the caller's own turn (deciding, journal, publishing), then each connection that has something to do:
//              finish, begin the next request, one gathered write
//
// A connection that has something to do marks itself; whatever the reason, it is looked at once per turn.
//
// A service with several loops has a set for each. A request that is another set's is not begun: when what the connection was told before is out, its
// socket goes there with all that came and was not answered (conn_moved), and the other set goes on as if it had read the head itself.
#ifndef SEGUE_CONNS_H
#define SEGUE_CONNS_H

#include <stdatomic.h>
#include <uv.h>

#include "http.h"
#include "limits.h"
#include "mailbox.h"

struct conns;
struct http_parse;

// A connection between two sets, in nobody's thread. The head of a request stands in `parse`.
struct conn_moved {
    struct letter letter; // of whoever carries it; first
    void *to;             // what `elsewhere` said
    int fd;
    struct http_parse *parse;
    struct buf rest;    // what came behind that head
    atomic_uint *total; // it is counted on its way, too: a set that is busy for long does not let more in than there may be
};
// Closes what nobody takes; its request was not begun.
void conn_moved_drop(struct conn_moved *m);

struct conn_limits {
    uint32_t request_ms, body_idle_ms, idle_ms, send_idle_ms, linger_ms;
    size_t outbox; // bytes
    size_t read;   // bytes, also of what is kept unread
    uint32_t connections; // at once, `total` where there is one
    size_t bodies; // bytes, of all connections of the set
};
#define CONN_LIMITS                                                                                                                        \
    ((struct conn_limits){HTTP_REQUEST_MS_MAX, HTTP_BODY_IDLE_MS_MAX, HTTP_IDLE_MS_MAX, HTTP_SEND_IDLE_MS_MAX, HTTP_LINGER_MS_MAX,         \
                          HTTP_OUTBOX_MAX, HTTP_READ_MAX, CONNECTIONS_MAX, HTTP_BODIES_MAX})

struct conns_options {
    uv_loop_t *loop;
    struct server *server; // what requests will name; may be NULL
    struct conn_limits limits;
    // A head has arrived: r->path (raw) and r->query are set. Sets r->handler and the rest, or starts a reply (a refusal).
    void (*dispatch)(struct request *r);
    // At the start of each turn; may be NULL.
    void (*turn)(void *ctx);
    // May a request's handler not be called now? Then the connection waits, with all it has and gets, until conns_release. May be NULL.
    bool (*held)(void *ctx, const struct request *r);
    // Whose a request to this raw path is; NULL: this set's. `hand` gets the connection for it. Both may be NULL.
    void *(*elsewhere)(void *ctx, struct span path);
    void (*hand)(void *ctx, struct conn_moved *m);
    void *ctx;
    unsigned egress; // threads that help to write what many get at once; 0: none
    atomic_uint *total; // connections of all sets; NULL: this one is alone
};

struct conns_counts {
    uint64_t accepted, refused, moved, frames_aside, requests, bytes_in, bytes_out, timeouts, bad_requests;
    uint64_t statuses[6]; // replies by the first digit of their status
};

// On success the caller owns *out.
int conns_open(struct conns **out, const struct conns_options *options);
// Cuts what is left and gives everything back once the loop has run the last of it. Nothing may be called after.
void conns_close(struct conns *cs);

// A numeric address; port 0 takes a free one. ERR_USAGE for another address, ERR_EXISTS where the port is taken, ERR_IO.
int conns_listen(struct conns *cs, const char *host, uint16_t port, struct problem *p);
uint16_t conns_port(const struct conns *cs);

// Goes on with a connection of another set, and takes `m`.
void conns_adopt(struct conns *cs, struct conn_moved *m);

// Those that were held go on, in the order in which they came to be.
void conns_release(struct conns *cs);

// There will be a turn without waiting for a socket.
void conns_wake(struct conns *cs);

// Sends what replies have queued, as every turn does behind its work.
void conns_flush(struct conns *cs);

// Takes no further connection and no further request: idle connections close at once, others after their reply.
void conns_stop(struct conns *cs);
// Those that are left.
uint32_t conns_count(const struct conns *cs);
const struct conns_counts *conns_counts(const struct conns *cs);

// For dispatch: memory that lives as long as the request (a decoded path).
struct buf *request_text(struct request *r);

#endif
