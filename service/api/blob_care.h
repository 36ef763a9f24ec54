// Looks after an app's blobs: steps that are due (blobs.h, "life") become batches of the service, one at a time; copying out of packs
// that are mostly garbage, and the scrub, go to the pool, one piece at a time. Thread: the app's owner.
#ifndef SEGUE_BLOB_CARE_H
#define SEGUE_BLOB_CARE_H

#include <uv.h>

#include "app.h"
#include "pool.h"

struct blob_care {
    struct app *app;
    struct lane *pool;
    uint64_t grace_ms; // that a blob lives without a reference
    struct blobs_pace pace;
    struct submission submission;
    struct buf encoded;
    bool submitted;
    bool more; // the last batch was a full one, or steps lead to further ones
    struct pool_job work;
    struct blobs_work *piece; // on the pool
};

void blob_care_init(struct blob_care *c, struct lane *pool, struct app *a, uint64_t grace_ms, const struct blobs_pace *pace);
// Call with the app's own tick.
void blob_care_tick(struct blob_care *c, uint64_t now_ms);
bool blob_care_busy(const struct blob_care *c); // tick again soon

#endif
