// Several connections at once: threads, each with a client of its own, that share a list of items.
#ifndef SEGUE_C_LANES_H
#define SEGUE_C_LANES_H

#include "segue.h"

#define LANES_MAX 8

struct lanes_work {
    size_t items, lanes; // at most LANES_MAX at once
    // Does one item; many at once, each with another client. Gives what a call of libsegue gives; the first that is not SEGUE_OK is
    // the last one that is begun.
    int (*run)(struct segue *lane, void *ctx, size_t item);
    // May be NULL. Called every tenth of a second, and at the end, from the thread that waits for all.
    void (*tick)(void *ctx);
    void *ctx;
};

// Does all items, in about their order, or ends with the error of one, which is the client's then. Returns when no lane is at work any more.
int lanes_run(struct segue *s, const struct lanes_work *work);

#endif
