// Deadlines of many connections under one timer: coarse, and next to free to move.
//
// An entry is put where it will fire at the earliest; a deadline that moves later (the usual case: something arrived) only
// changes a number, and is put further when its old place comes up. Pure: the caller brings the time.
#ifndef SEGUE_WHEEL_H
#define SEGUE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define WHEEL_TICK_MS 25
#define WHEEL_SLOTS 1024 // 25.6 s; what is due later goes around again

struct wheel_entry {
    struct wheel_entry *next, *prev;
    uint64_t due_ms; // when it fires
    uint64_t placed; // the tick of its slot
    void (*fire)(struct wheel_entry *e);
};

struct wheel {
    struct wheel_entry *slots[WHEEL_SLOTS];
    uint64_t tick; // all slots up to this one were looked at
    uint32_t count;
};

void wheel_init(struct wheel *w, uint64_t now_ms);

// Sets or moves an entry (zeroed at first). Never fires early, at most two ticks late.
void wheel_set(struct wheel *w, struct wheel_entry *e, uint64_t due_ms, void (*fire)(struct wheel_entry *e));
// An entry that is not set is fine.
void wheel_unset(struct wheel *w, struct wheel_entry *e);
static inline bool wheel_is_set(const struct wheel_entry *e)
{
    return e->fire != 0;
}

// Unsets and fires what is due. `fire` may set and unset any entry.
void wheel_run(struct wheel *w, uint64_t now_ms);

// Milliseconds until wheel_run has something to look at; -1: nothing is set.
int64_t wheel_wait(const struct wheel *w, uint64_t now_ms);

#endif
