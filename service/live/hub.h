// Readers of one app that were woken: collected while the stores publish, run afterwards, when everything of the group is visible.
//
// A turn runs some of them, then looks at its sockets again: what was appended meanwhile goes out with the next ones, in one larger piece.
// So a crowd of readers never keeps the writers waiting, and the busier a stream is, the fewer writes a byte of it takes.
#ifndef SEGUE_HUB_H
#define SEGUE_HUB_H

#include <stdbool.h>
#include <stddef.h>

struct hub_item {
    void (*run)(struct hub_item *item); // sends what there is; may remove its own item, or others
    struct hub_item *next, *prev;
    struct hub *hub; // while it waits to be run
    bool answers;    // marked by hub_wake_answer
};

struct hub {
    struct hub_item *first, *last;
    size_t left; // while it runs: readers that this run may still serve
};

// Marks the item to be run; marking twice is marking. A reader that is marked while it waits keeps its place.
void hub_wake(struct hub *hub, struct hub_item *item);
// The same for an answer to a writer: it runs before all readers, and no run leaves it.
void hub_wake_answer(struct hub *hub, struct hub_item *item);
// From within a `run` that has more to do than a turn may take: marks the item, and ends this run behind it, so that all others come first.
void hub_later(struct hub *hub, struct hub_item *item);
// Takes the mark back; for an item that goes away.
void hub_drop(struct hub_item *item);

// Runs every marked item once, in the order of marking, those included that are marked meanwhile.
void hub_run(struct hub *hub);
// The same, but stops when about `max` readers were served; the others keep their marks.
void hub_run_some(struct hub *hub, size_t max);
// From within a `run` that serves many readers: may it serve one more, after the first? If not, it marks its item again and returns.
bool hub_serve(struct hub *hub);

#endif
