// Work of an app's on libuv's pool. What it brings back is not looked at while the app is in flight (app.h): it waits for the landing.
#ifndef SEGUE_POOL_H
#define SEGUE_POOL_H

#include <uv.h>

#include "app.h"

// The caller's. It stays in place until `done` is called, from a later turn of the loop.
struct pool_job {
    uv_work_t work;
    struct app_wait wait;
    struct app *app;
    void *data; // the caller's
    void (*run)(struct pool_job *j); // on a thread of the pool
    void (*done)(struct pool_job *j);
};

void pool_submit(struct pool_job *j, uv_loop_t *loop, struct app *app, void (*run)(struct pool_job *j), void (*done)(struct pool_job *j));

#endif
