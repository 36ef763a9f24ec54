// Threads of a loop's own for work that must not hold it up; several lanes, so that short work does not wait behind long work: what reads a blob does not queue behind
// uploads that hash and sync (pool.h). First come, first served. Thread: the loop's, but for `run`.
#ifndef SEGUE_LANE_H
#define SEGUE_LANE_H

#include <uv.h>

struct lane;

#define LANE_THREADS_MAX 4

// The caller's; it stays in place until `done` is called, from a later turn of the loop, which may submit it again.
struct lane_job {
    void (*run)(struct lane_job *j); // on a thread of the lane
    void (*done)(struct lane_job *j);
    struct lane_job *next;
};

int lane_open(struct lane **out, uv_loop_t *loop, int threads); // at most LANE_THREADS_MAX, each begun when all before it are at work; fewer will do. ERR_NOMEM
void lane_submit(struct lane *l, struct lane_job *j);
// Waits for a job that is done, if any is under way, and calls what is due then.
void lane_wait(struct lane *l);
// Frees itself when all jobs are done, and those that these still submit, and the loop has let go. NULL is fine.
void lane_close(struct lane *l);

#endif
