// What is done for an app's uploads beside the requests: the barrier that small ones share, and the tick that looks at all uploads
// in turn: whose time is over loses its bytes, then its name; what a broken request left is dropped; one that is made of others is
// gone on with, once they are done. The turn is long where many are remembered, so some are looked at first. Thread: the app's owner.
#ifndef SEGUE_UPLOAD_CARE_H
#define SEGUE_UPLOAD_CARE_H

#include "app.h"
#include "holds.h"
#include "pool.h"

struct server;
struct upload_join;

#define CARE_FIRST_MAX 64

// Somebody for whom the pool shall make durable what was written.
struct care_sync {
    struct care_sync *next;
    struct blob_upload *upload;
    int err;
    void (*done)(struct care_sync *s);
};

struct upload_care {
    struct server *server;
    struct app *app;
    struct holds holds;
    uint64_t ttl_ms; // of uploads that are made; 0: they do not expire
    // The barrier: one round at a time, and those who come meanwhile wait for the next.
    struct care_sync *waiting, **waiting_end, *round;
    bool joined;    // somebody has come in this turn
    int turns;      // that those who wait have waited
    bool last;      // there will be no more turns: a round begins at once
    struct pool_job sync_work;
    // The look at all uploads.
    struct uuid cursor;
    uint64_t looked_ms;
    struct submission submission;
    struct buf encoded;
    bool submitted;
    struct uuid first[CARE_FIRST_MAX]; // looked at first until they are not open any more
    size_t first_count, first_next;
    struct upload_join *joins; // under way
    uint64_t joins_from_ms;    // one has failed: none begins before
};

void upload_care_init(struct upload_care *c, struct server *s, struct app *a, uint64_t ttl_ms);
void upload_care_free(struct upload_care *c); // nothing is under way
bool upload_care_quiet(const struct upload_care *c); // nothing is
// Calls s->done in a later turn of the loop, when blobs_upload_sync was called for s->upload. A round begins when a turn has brought nobody more.
void upload_care_sync(struct upload_care *c, struct care_sync *s);
// At the end of each turn; and before the loop waits: is another turn wanted at once?
void upload_care_turn(struct upload_care *c);
bool upload_care_pending(const struct upload_care *c);
void upload_care_last(struct upload_care *c); // there will be no more turns
// Of a running service, now and then.
void upload_care_tick(struct upload_care *c, uint64_t now_ms);
// The upload is looked at before its turn comes, where there is room: it is to be dropped, or somebody waits for it.
void upload_care_first(struct upload_care *c, struct uuid id);
// The upload is made of others: its joining begins, or goes on, now or when it can.
void upload_care_join(struct upload_care *c, struct uuid id);

#endif
