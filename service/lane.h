// Threads of their own for short work that must not wait behind long work: what reads a blob does not queue behind uploads that hash and sync on the
// loop's pool. First come, first served. Thread: the loop's, but for `run`.
#ifndef SEGUE_LANE_H
#define SEGUE_LANE_H

#include <uv.h>

struct lane;

#define LANE_THREADS_MAX 4

// The caller's; it stays in place until `done` is called, from a later turn of the loop.
struct lane_job {
    void (*run)(struct lane_job *j); // on a thread of the lane
    void (*done)(struct lane_job *j);
    struct lane_job *next;
};

int lane_open(struct lane **out, uv_loop_t *loop, int threads); // at most LANE_THREADS_MAX; fewer will do. ERR_NOMEM
void lane_submit(struct lane *l, struct lane_job *j);
// Waits for a job that is done, if any is under way, and calls what is due then.
void lane_wait(struct lane *l);
// Frees itself when all jobs are done and the loop has let go. Nothing is submitted from then on. NULL is fine.
void lane_close(struct lane *l);

#endif
