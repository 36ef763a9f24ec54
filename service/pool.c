#include "pool.h"

#include <assert.h>

static void on_work(uv_work_t *work)
{
    struct pool_job *j = work->data;
    j->run(j);
}

static void on_landed(struct app_wait *w)
{
    struct pool_job *j = (struct pool_job *)((char *)w - offsetof(struct pool_job, wait));
    j->done(j);
}

static void on_done(uv_work_t *work, int status)
{
    struct pool_job *j = work->data;
    assert(status == 0); // nobody cancels
    if (!app_wait(j->app, &j->wait, on_landed)) j->done(j);
}

void pool_submit(struct pool_job *j, uv_loop_t *loop, struct app *app, void (*run)(struct pool_job *j), void (*done)(struct pool_job *j))
{
    j->work.data = j;
    j->wait = (struct app_wait){0};
    j->app = app;
    j->run = run;
    j->done = done;
    int status = uv_queue_work(loop, &j->work, on_work, on_done);
    assert(status == 0); // fails only without a callback
}
