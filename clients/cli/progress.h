// How far a transfer is, on a terminal: one line of standard error.
//
//   [############                  ]  41 %    1:12 left   103.2 MiB/s
#ifndef SEGUE_CLI_PROGRESS_H
#define SEGUE_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;    // somebody looks
    bool begun, open; // the line is on the screen
    uint64_t began_us, began_at, shown_us;
    uint64_t done, size;
};

// `beside`: a descriptor that the content goes to; where that is a terminal too, the line would stand in the middle of it. -1: none.
void progress_init(struct progress *p, int beside);

// For segue_put and segue_get: `ctx` is a struct progress.
void progress_take(void *ctx, uint64_t done, uint64_t size);

// Shows where it ended, and ends the line. What was over before it could be seen leaves no line behind.
void progress_end(struct progress *p);

#endif
