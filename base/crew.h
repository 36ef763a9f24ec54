// Helper threads for what a thread can do beside its own work: it offers a task, goes on, and joins it when it needs the outcome.
//
//      offer ──> queued ──a helper is free──> running ──> done
//                  └──joined before any was──> the joining thread runs it itself
//
// So a task never waits for a helper, however busy they are, and without any helper all is done as if in one thread.
// The helpers are started when there is work for them. Any thread.
#ifndef SEGUE_CREW_H
#define SEGUE_CREW_H

struct crew;

#define CREW_MAX 4 // helpers of one crew; fewer, but two, where the machine has fewer processors

// The caller's, zero at first; it stays in place until it is joined.
struct crew_task {
    void (*run)(void *arg);
    void *arg;
    struct crew_task *next; // queued
    int state;
};

struct crew *crew_new(void);       // NULL when memory is exhausted
void crew_free(struct crew *c);    // every task was joined; NULL is fine
// The task is not on offer.
void crew_offer(struct crew *c, struct crew_task *t, void (*run)(void *), void *arg);
// Returns when it has run; at once for one that is not on offer. What it did can be seen then.
void crew_join(struct crew *c, struct crew_task *t);

#endif
