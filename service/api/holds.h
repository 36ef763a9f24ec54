// Who works on which upload of an app: one request at a time, and the newest one wins. A newcomer asks the holder to stop; it
// saves what it has and lets go; those that wait are granted in their order, see that somebody newer waits, and give up or are quick. Thread: the app's owner.
#ifndef SEGUE_HOLDS_H
#define SEGUE_HOLDS_H

#include <stdbool.h>

#include "uuid.h"

struct hold {
    struct hold *next, *prev;
    struct holds *set; // while it waits or holds
    struct uuid id;
    bool granted;
    struct hold *due_next; // granted, and not told yet
    bool due;
    void (*grant)(struct hold *h); // it is yours, until hold_release
    void (*stop)(struct hold *h);  // somebody newer waits: come to an end soon. May be called more than once, and release at once
};

struct holds {
    struct hold *first, *last; // in the order of their coming
    struct hold *due;
    bool granting;
};

// `grant` and `stop` must be set. Grants at once where nobody else has it.
void hold_take(struct holds *set, struct hold *h, struct uuid id);
// Lets go, or gives up waiting; the next one is granted before this returns, or, where it is called from within a grant, behind that. Not taken: fine.
void hold_release(struct hold *h);
// Does anybody have it?
bool holds_taken(const struct holds *set, struct uuid id);
// Somebody newer waits for it.
bool hold_contended(const struct hold *h);

#endif
