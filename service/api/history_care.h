// Moves an app's horizon: what is older than the history that is to be kept goes in batches of the service, one at a time.
#ifndef SEGUE_HISTORY_CARE_H
#define SEGUE_HISTORY_CARE_H

#include "app.h"

struct history_care {
    struct app *app;
    uint64_t keep_ms, keep_commits; // what both keep stays
    uint64_t next_ms;               // when to look again
    struct submission submission;
    struct buf encoded;
    bool submitted;
};

void history_care_init(struct history_care *c, struct app *a, uint64_t keep_ms, uint64_t keep_commits);
// Call with the app's own tick.
void history_care_tick(struct history_care *c, uint64_t now_ms);
bool history_care_busy(const struct history_care *c); // tick again soon

#endif
