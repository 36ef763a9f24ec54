// What keeps a transaction with a wide read set from never getting through: after RESERVATION_CONFLICTS conflicts in a row its client has what it read
// to itself for a short time, and whatever would change that waits.
//
//      conflict, conflict, conflict ─> granted ──┬─ its client's next transaction is decided ─┬─> over: those that waited are decided, in their order
//                                                └─ RESERVATION_MS_MAX have passed ───────────┘
//
// A batch is held once at most, and no longer than one reservation lasts; what comes from the same writer behind it waits with it, in
// order. In memory alone, and never part of a decision: that a batch was held is nowhere to be seen but in when it arrived in the journal.
// Thread: the app's owner.
#ifndef SEGUE_RESERVATIONS_H
#define SEGUE_RESERVATIONS_H

#include "app.h"
#include "read_set.h"

#define RESERVATION_CLIENTS 256 // whose conflicts are counted; of more the one that met one longest ago is forgotten

struct reservation_client {
    struct uuid replica;
    uint64_t connection;
};

struct reservation {
    struct reservation_client client;
    struct read_set *reads; // NULL: this place is free
    uint64_t until_ms;
};

struct reservations {
    struct {
        struct reservation_client client;
        unsigned conflicts; // 0: this place is free
        uint64_t told_ms;
    } clients[RESERVATION_CLIENTS];
    struct reservation granted[RESERVATIONS_MAX];
    size_t active;
    struct submission *held, *held_last;
    size_t held_count, held_bytes;
    uint64_t grants, holds; // since the start
};

void reservations_init(struct reservations *rs);
void reservations_free(struct reservations *rs); // nothing is held

// A transaction was decided. `reads` (finished; may be NULL) is what it read: taken over if a reservation is granted, then *reads is NULL.
void reservations_told(struct reservations *rs, const struct submission *s, int err, struct read_set **reads, uint64_t now_ms);

// May this batch be held, now or because one of its writer's is?
bool reservations_may_hold(const struct reservations *rs, const struct submission *s);
bool reservations_behind(const struct reservations *rs, const struct submission *s);
// Is there room for one more that waits?
bool reservations_room(const struct reservations *rs, const struct submission *s);
// The i-th read set that others are to leave alone, but for its own client, who may change what it likes. NULL: there is none in this place.
const struct read_set *reservations_against(const struct reservations *rs, const struct submission *s, size_t i);
void reservations_hold(struct reservations *rs, struct submission *s, uint64_t now_ms);

// Ends those whose time is over. Gives back what may go on, in order, linked by `next`; NULL: nothing. With `all`, all of it, whatever is reserved.
struct submission *reservations_release(struct reservations *rs, uint64_t now_ms, bool all);

#endif
