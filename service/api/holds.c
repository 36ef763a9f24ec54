#include "holds.h"

#include <assert.h>
#include <stddef.h>

static struct hold *next_of(struct hold *from, struct uuid id)
{
    while (from != NULL && !uuid_equal(from->id, id))
        from = from->next;
    return from;
}

void hold_take(struct holds *set, struct hold *h, struct uuid id)
{
    assert(h->set == NULL && h->grant != NULL && h->stop != NULL);
    struct hold *holder = next_of(set->first, id); // those that wait stand behind it, and look for themselves when they are granted
    h->set = set;
    h->id = id;
    h->next = NULL;
    h->prev = set->last;
    h->granted = holder == NULL;
    if (set->last != NULL)
        set->last->next = h;
    else
        set->first = h;
    set->last = h;
    if (holder == NULL)
        h->grant(h);
    else
        holder->stop(holder);
}

static void due_remove(struct holds *set, struct hold *h)
{
    struct hold **at = &set->due;
    while (*at != h)
        at = &(*at)->due_next;
    *at = h->due_next;
    h->due = false;
}

// Whoever is told may let go at once, and the next one after it: one behind the other, so that the stack does not grow with those that wait.
static void grant_due(struct holds *set)
{
    if (set->granting) return;
    set->granting = true;
    while (set->due != NULL) {
        struct hold *h = set->due;
        due_remove(set, h);
        h->grant(h);
    }
    set->granting = false;
}

void hold_release(struct hold *h)
{
    struct holds *set = h->set;
    if (set == NULL) return;
    if (h->prev != NULL)
        h->prev->next = h->next;
    else
        set->first = h->next;
    if (h->next != NULL)
        h->next->prev = h->prev;
    else
        set->last = h->prev;
    if (h->due) due_remove(set, h);
    bool granted = h->granted;
    struct hold *next = granted ? next_of(set->first, h->id) : NULL;
    h->set = NULL;
    h->next = h->prev = NULL;
    h->granted = false;
    if (next == NULL) return;
    next->granted = next->due = true;
    next->due_next = set->due;
    set->due = next;
    grant_due(set);
}

bool holds_taken(const struct holds *set, struct uuid id)
{
    return next_of(set->first, id) != NULL;
}

bool hold_contended(const struct hold *h)
{
    return next_of(h->next, h->id) != NULL;
}
