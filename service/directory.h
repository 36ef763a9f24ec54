// Which loop has which app. Beside the mailboxes it is all that the loops share and change; what else they share is made before them.
//
// An entry is there while its loop makes, has or drops the app: a request that names it goes to that loop, which knows more. Thread: any.
#ifndef SEGUE_DIRECTORY_H
#define SEGUE_DIRECTORY_H

#include <stdbool.h>

#include "bytes.h"
#include "limits.h"
#include "problem.h"

struct directory;

int directory_open(struct directory **out, unsigned loops); // 1 to LOOPS_MAX; ERR_NOMEM
void directory_close(struct directory *d);                  // NULL is fine

// The loop that has the app of this name; -1: none has.
int directory_find(struct directory *d, struct span name);
// The same; where none has, the one that should make it: that which has least to do (`loads`, thousandths of a core for each loop, about), among equals that with the
// fewest apps. Nothing is entered.
int directory_place(struct directory *d, struct span name, const unsigned *loads);
// `loop` makes this app, or opens it. ERR_BUSY: another loop has it; ERR_TOO_MANY: APPS_MAX are entered.
int directory_enter(struct directory *d, struct span name, unsigned loop);
void directory_leave(struct directory *d, struct span name);
// The next name of a loop, in the order of entering; *at is 0 at first. False: no more.
bool directory_next(struct directory *d, unsigned loop, size_t *at, char name[NAME_MAX_BYTES + 1]);

// One more app is dropped. ERR_TOO_MANY: that were APPS_DROPPED_MAX since the start.
int directory_drop(struct directory *d);

#endif
