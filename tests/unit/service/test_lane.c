// Jobs on threads of their own: each is run and done once, also when the lane is closed meanwhile.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lane.h"

#define JOBS 500

struct job {
    struct lane_job lane; // first
    struct lane *again;   // submits itself there once more
    atomic_int runs;
    int dones;
};

static void on_run(struct lane_job *j)
{
    atomic_fetch_add(&((struct job *)j)->runs, 1);
}

static void on_run_slow(struct lane_job *j)
{
    usleep(1000);
    on_run(j);
}

static void on_done(struct lane_job *j)
{
    struct job *job = (struct job *)j;
    job->dones++;
    assert_int_equal(atomic_load(&job->runs), job->dones);
    if (job->again != NULL && job->dones == 1) lane_submit(job->again, j);
}

static void every_job_is_done_once_for_each_time_it_is_submitted(void **state)
{
    (void)state;
    static struct job jobs[JOBS];
    uv_loop_t loop;
    struct lane *l;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(lane_open(&l, &loop, 2), 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); // without work it keeps nothing alive
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){.lane = {.run = on_run, .done = on_done}, .again = i % 2 == 0 ? l : NULL};
        lane_submit(l, &jobs[i].lane);
    }
    assert_int_equal(jobs[0].dones, 0); // never before the loop's next turn
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(jobs[i].dones, i % 2 == 0 ? 2 : 1);
    lane_close(l);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void lane_that_is_closed_does_what_it_has(void **state)
{
    (void)state;
    static struct job jobs[20];
    uv_loop_t loop;
    struct lane *l;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(lane_open(&l, &loop, 2), 0);
    for (int i = 0; i < 20; i++) {
        jobs[i] = (struct job){.lane = {.run = on_run_slow, .done = on_done}};
        lane_submit(l, &jobs[i].lane);
    }
    lane_close(l);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 20; i++)
        assert_int_equal(jobs[i].dones, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
    lane_close(NULL);
}

// What a job's end asks for is done, too: nothing of a chain of work is left behind by a loop that ends.
static void a_job_may_be_submitted_again_while_the_lane_closes(void **state)
{
    (void)state;
    struct job job = {.runs = 0};
    uv_loop_t loop;
    struct lane *l;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(lane_open(&l, &loop, 1), 0);
    job.lane = (struct lane_job){.run = on_run_slow, .done = on_done};
    job.again = l;
    lane_submit(l, &job.lane);
    lane_close(l);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(job.dones, 2);
    assert_int_equal(uv_loop_close(&loop), 0);
}

// Jobs that each wait for all others: as many threads as there may be are begun.
static atomic_int meeting;

static void on_run_meeting(struct lane_job *j)
{
    atomic_fetch_add(&meeting, 1);
    while (atomic_load(&meeting) < 4)
        usleep(1000);
    on_run(j);
}

static void so_many_jobs_are_at_work_at_once(void **state)
{
    (void)state;
    static struct job jobs[4];
    uv_loop_t loop;
    struct lane *l;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(lane_open(&l, &loop, 4), 0);
    for (int i = 0; i < 4; i++) {
        jobs[i] = (struct job){.lane = {.run = on_run_meeting, .done = on_done}};
        lane_submit(l, &jobs[i].lane);
    }
    lane_close(l);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 4; i++)
        assert_int_equal(jobs[i].dones, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_done_once_for_each_time_it_is_submitted),
        cmocka_unit_test(lane_that_is_closed_does_what_it_has),
        cmocka_unit_test(a_job_may_be_submitted_again_while_the_lane_closes),
        cmocka_unit_test(so_many_jobs_are_at_work_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
