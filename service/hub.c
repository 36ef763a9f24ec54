#include "hub.h"

#include <assert.h>

void hub_wake(struct hub *hub, struct hub_item *item)
{
    assert(item->run != NULL);
    if (item->hub != NULL) return;
    item->hub = hub;
    item->next = NULL;
    item->prev = hub->last;
    if (hub->last != NULL) hub->last->next = item;
    else hub->first = item;
    hub->last = item;
}

void hub_drop(struct hub_item *item)
{
    struct hub *hub = item->hub;
    if (hub == NULL) return;
    if (item->prev != NULL) item->prev->next = item->next;
    else hub->first = item->next;
    if (item->next != NULL) item->next->prev = item->prev;
    else hub->last = item->prev;
    item->hub = NULL;
    item->next = item->prev = NULL;
}

void hub_run(struct hub *hub)
{
    while (hub->first != NULL) {
        struct hub_item *item = hub->first;
        hub_drop(item);
        item->run(item);
    }
}
