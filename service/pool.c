#include "pool.h"

#include <stddef.h>

static struct pool_job *job_of(struct lane_job *work)
{
    return (struct pool_job *)work;
}

static void on_work(struct lane_job *work)
{
    job_of(work)->run(job_of(work));
}

static void on_landed(struct app_wait *w)
{
    struct pool_job *j = (struct pool_job *)((char *)w - offsetof(struct pool_job, wait));
    j->done(j);
}

static void on_done(struct lane_job *work)
{
    struct pool_job *j = job_of(work);
    if (!app_wait(j->app, &j->wait, on_landed)) j->done(j);
}

void pool_submit(struct pool_job *j, struct lane *pool, struct app *app, void (*run)(struct pool_job *j), void (*done)(struct pool_job *j))
{
    j->work = (struct lane_job){.run = on_work, .done = on_done};
    j->wait = (struct app_wait){0};
    j->app = app;
    j->run = run;
    j->done = done;
    lane_submit(pool, &j->work);
}
