// Writes that many connections get at once, made by further threads: the loop goes on while they are under way.
//
//      loop:  egress_put … egress_put, egress_flush ~~> threads: one send each, as much as the socket takes ~~> loop: `done` of each
//
// A connection has one frame away at most, and waits for it as for a full socket: so the queue is bounded by the number of connections, a slow reader never
// holds more than one, and what comes meanwhile is told in one larger piece. What a socket did not take is the loop's again.
//
// A few frames are written sooner than a thread is woken for them: only what a burst has beyond EGRESS_BURST goes away. Thread: the loop's.
#ifndef SEGUE_EGRESS_H
#define SEGUE_EGRESS_H

#include <uv.h>

#include "bytes.h"

struct egress;

#define EGRESS_BURST 16 // frames of a burst that the loop writes itself

// A frame on its way. The caller's; it stays in place until `done`.
struct egress_frame {
    struct egress_frame *next;
    struct bytes *bytes; // referenced
    size_t from, n;
    size_t taken; // of n, by the socket
    int fd, err;  // of the socket; an errno that ends the connection
    bool away;
};

// `done` is called once for each frame, from a later turn of the loop or from egress_close. ERR_NOMEM.
int egress_open(struct egress **out, uv_loop_t *loop, unsigned threads, void (*done)(struct egress_frame *f));
// The caller is about to write a frame: shall it go away? Counts it as one of the burst. A burst ends with a turn that had none.
bool egress_takes(struct egress *e);
void egress_put(struct egress *e, struct egress_frame *f, int fd, struct bytes *bytes, size_t from, size_t n);
// At the end of a turn: what was put goes to the threads. NULL is fine.
void egress_flush(struct egress *e);
// Waits for what is under way, and has it done. What is left is given back once the loop has run. NULL is fine.
void egress_close(struct egress *e);

#endif
