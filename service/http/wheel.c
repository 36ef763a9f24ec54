#include "wheel.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    memset(w, 0, sizeof *w);
    w->tick = now_ms / WHEEL_TICK_MS;
}

static void unlink_entry(struct wheel *w, struct wheel_entry *e)
{
    struct wheel_entry **slot = &w->slots[e->placed % WHEEL_SLOTS];
    if (*slot == e) *slot = e->next;
    if (e->next != NULL) e->next->prev = e->prev;
    if (e->prev != NULL) e->prev->next = e->next;
    e->next = e->prev = NULL;
    w->count--;
}

// In the slot of its due time, or the furthest there is.
static void place(struct wheel *w, struct wheel_entry *e)
{
    uint64_t tick = (e->due_ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
    if (tick <= w->tick) tick = w->tick + 1;
    if (tick > w->tick + WHEEL_SLOTS - 1) tick = w->tick + WHEEL_SLOTS - 1;
    e->placed = tick;
    struct wheel_entry **slot = &w->slots[tick % WHEEL_SLOTS];
    e->prev = NULL;
    e->next = *slot;
    if (*slot != NULL) (*slot)->prev = e;
    *slot = e;
    w->count++;
}

void wheel_set(struct wheel *w, struct wheel_entry *e, uint64_t due_ms, void (*fire)(struct wheel_entry *e))
{
    assert(fire != NULL);
    bool was = wheel_is_set(e);
    e->fire = fire;
    e->due_ms = due_ms;
    if (was && due_ms >= e->placed * WHEEL_TICK_MS) return;
    if (was) unlink_entry(w, e);
    place(w, e);
}

void wheel_unset(struct wheel *w, struct wheel_entry *e)
{
    if (!wheel_is_set(e)) return;
    unlink_entry(w, e);
    e->fire = NULL;
}

static void slot_run(struct wheel *w, uint64_t now_ms)
{
    struct wheel_entry **slot = &w->slots[w->tick % WHEEL_SLOTS];
    // Whatever is put while this runs goes to a later slot, so the list only shrinks.
    while (*slot != NULL) {
        struct wheel_entry *e = *slot;
        assert(e->placed == w->tick);
        unlink_entry(w, e);
        if (e->due_ms > now_ms) {
            place(w, e);
            continue;
        }
        void (*fire)(struct wheel_entry *) = e->fire;
        e->fire = NULL;
        fire(e);
    }
}

void wheel_run(struct wheel *w, uint64_t now_ms)
{
    uint64_t end = now_ms / WHEEL_TICK_MS;
    // After a long sleep one round sees every slot; the ticks in between are skipped with nothing in them.
    while (w->tick < end && w->count > 0) {
        w->tick++;
        slot_run(w, now_ms);
    }
    if (w->tick < end) w->tick = end;
}

int64_t wheel_wait(const struct wheel *w, uint64_t now_ms)
{
    if (w->count == 0) return -1;
    for (uint64_t tick = w->tick + 1; tick < w->tick + WHEEL_SLOTS; tick++) {
        if (w->slots[tick % WHEEL_SLOTS] == NULL) continue;
        uint64_t at = tick * WHEEL_TICK_MS;
        return at > now_ms ? (int64_t)(at - now_ms) : 0;
    }
    assert(!"an entry in no slot");
    return -1;
}
