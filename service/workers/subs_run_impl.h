// What the two halves of the engine share: subs_run.c (who is woken, and when) and subs_deliver.c (webhooks on their way).
#ifndef SEGUE_SUBS_RUN_IMPL_H
#define SEGUE_SUBS_RUN_IMPL_H

#include <uv.h>

#include "path_set.h"
#include "subs_glob.h"
#include "subs_run.h"

struct delivery;
struct sub_step_run;

// One subscription as the engine follows it: a copy of where it stands, and what can be found again.
struct follow {
    struct follow_app *app;
    struct follow *next;
    struct buf record; // what `sub` points into
    struct sub sub;
    struct subs_glob glob; // of its pattern, if it has one
    struct path_set names, pending;
    bool missed;        // more has changed than `pending` keeps: look at all streams again
    struct sub_step_run *step; // on its way
    uint64_t not_before_ms;    // after a step that was refused

    struct delivery *delivery;
    bool undelivered; // a wake, or another attempt, waits to be sent with `token`
    char token[SUB_TOKEN_MAX];
    enum { OUTCOME_NONE, OUTCOME_DONE, OUTCOME_FAILED } outcome; // of the delivery
    struct buf acks;                                             // with OUTCOME_DONE: all that was told
};

struct follow_app {
    struct app_user user; // first
    struct subs_run *run;
    struct app *app;
    struct app_wait landed;
    bool loaded;
    struct follow *first;
    struct path_set recent; // changed in the group that is being published
    bool recent_full;
    bool sweeping;
    struct buf resume; // where the sweep stands
    bool observed;
    struct stream_observer observer;
    uint64_t expect_ms; // when somebody was last about to make one
};

struct subs_run {
    struct server *server;
    const struct webhook_signer *signer;
    struct follow_app **apps;
    size_t app_count;
    struct delivery *deliveries;
    size_t delivering;
    struct subs_counts counts;
    uv_timer_t *timer; // its own memory: it outlives the engine until the loop has closed it
    uint64_t armed_ms; // wall clock; 0: not
    bool stopping;
};

// Tries to go on with this one: whatever it waits for may have come.
void follow_tick(struct follow *f);
// The same of all: a place is free.
void follows_tick(struct subs_run *r);

// Appends an element for each stream with something new, at most SUB_WAKE_STREAMS_MAX.
void follow_snapshot(struct follow *f, struct jw *w, struct buf *acks);

// Sends the wake as it stands to the webhook. ERR_BUSY: too many are under way; ERR_NOMEM.
int delivery_begin(struct follow *f);
// The answer is not waited for any more; what has begun goes on to its end.
void delivery_detach(struct follow *f);
// Ends all.
void deliveries_free(struct subs_run *r);

#endif
