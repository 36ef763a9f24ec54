// Long work of an app's, on its loop's threads for that (lane.h). Not on libuv's pool, which is the process's: uploads to a slow disk would keep the apps of all loops
// waiting. What it brings back is not looked at while the app is in flight (app.h): it waits for the landing.
#ifndef SEGUE_POOL_H
#define SEGUE_POOL_H

#include "app.h"
#include "lane.h"

// The caller's. It stays in place until `done` is called, from a later turn of the loop.
struct pool_job {
    struct lane_job work; // first
    struct app_wait wait;
    struct app *app;
    void *data; // the caller's
    void (*run)(struct pool_job *j); // on a thread of the pool
    void (*done)(struct pool_job *j);
};

void pool_submit(struct pool_job *j, struct lane *pool, struct app *app, void (*run)(struct pool_job *j), void (*done)(struct pool_job *j));

#endif
