// An HTTP service with toy handlers, on a thread of its own: the other side of tests/lib/http_peer.h.
//
//   /hello            "hello"                        /later   "later", after 60 ms
//   /echo             the body, collected            /never   no reply at all
//   /stream           the body, piece by piece       /drip    an endless reply
//   /hold             takes one piece, then waits    /reject  refuses before the body
//                     for toy_go_on; counts bytes    /break   ends in the middle
//   /big?n=N          N bytes; X-Length: with their  /empty   204
//                     number told                    /cut     all that there is, and not its end
//   /block            keeps its loop until toy_go_on  /tied  of two: a timer of one ends both
//
// Of a pair, each on a thread of its own, the second one has these with /2 before them; connections go to and fro.
#ifndef SEGUE_TOY_HTTP_H
#define SEGUE_TOY_HTTP_H

#include <pthread.h>
#include <stdatomic.h>

#include "conns.h"

// What the handlers have seen since toy_start.
extern atomic_int toy_begun, toy_done;
extern atomic_size_t toy_queued_max, toy_body_seen;
extern atomic_bool toy_go_on;
extern atomic_bool toy_held; // no handler is called; until toy_release
extern atomic_uint toy_total; // connections of a pair

struct toy {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t stop, cut, release;
    struct conns *conns;
    uint16_t port;
    struct toy *other; // of a pair
    bool second;
    struct mailbox *mailbox;
};

// Ends the program if it cannot.
// How many pieces /around writes: number i has i * 1001 bytes between "<" and ">".
#define AROUND_PIECES 300
struct toy *toy_start(struct conn_limits limits);
void toy_start_pair(struct conn_limits limits, struct toy *pair[2]);
// What was held goes on.
void toy_release(struct toy *t);
// conns_stop, on its thread.
void toy_stop(struct toy *t);
// conns_close, until the loop has ended. False: something of the loop was left.
bool toy_end(struct toy *t);
bool toy_end_pair(struct toy *pair[2]);

// Waits until `*n` has reached `want`, for at most five seconds.
bool toy_reaches(atomic_int *n, int want);

#endif
