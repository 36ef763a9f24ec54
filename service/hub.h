// Readers of one app that were woken during a turn: collected while the stores publish, run afterwards, when everything of the group is visible.
#ifndef SEGUE_HUB_H
#define SEGUE_HUB_H

#include <stdbool.h>
#include <stddef.h>

struct hub_item {
    void (*run)(struct hub_item *item); // sends what there is; may remove its own item, or others
    struct hub_item *next, *prev;
    struct hub *hub; // while it waits to be run
};

struct hub {
    struct hub_item *first, *last;
};

// Marks the item to be run; marking twice is marking.
void hub_wake(struct hub *hub, struct hub_item *item);
// Takes the mark back; for an item that goes away.
void hub_drop(struct hub_item *item);
// Runs every marked item once, in the order of marking, those included that are marked meanwhile.
void hub_run(struct hub *hub);

#endif
