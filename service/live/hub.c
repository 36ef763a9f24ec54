#include "hub.h"

#include <assert.h>
#include <stdint.h>

static void link_between(struct hub *hub, struct hub_item *prev, struct hub_item *item, struct hub_item *next)
{
    assert(item->run != NULL);
    item->hub = hub;
    item->prev = prev;
    item->next = next;
    if (prev != NULL) prev->next = item;
    else hub->first = item;
    if (next != NULL) next->prev = item;
    else hub->last = item;
}

void hub_wake(struct hub *hub, struct hub_item *item)
{
    if (item->hub != NULL) return;
    item->answers = false;
    link_between(hub, hub->last, item, NULL);
}

void hub_wake_answer(struct hub *hub, struct hub_item *item)
{
    if (item->hub != NULL) return;
    item->answers = true;
    link_between(hub, NULL, item, hub->first);
}

void hub_later(struct hub *hub, struct hub_item *item)
{
    hub_wake(hub, item);
    hub->left = 0;
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

bool hub_serve(struct hub *hub)
{
    if (hub->left == 0) return false;
    hub->left--;
    return true;
}

// Answers stand in front, so where the first is none there is none.
void hub_run_some(struct hub *hub, size_t max)
{
    hub->left = max;
    while (hub->first != NULL && (hub->first->answers || hub->left > 0)) {
        struct hub_item *item = hub->first;
        hub_drop(item);
        if (!item->answers) hub_serve(hub);
        item->run(item);
    }
}

void hub_run(struct hub *hub)
{
    hub_run_some(hub, SIZE_MAX);
}
