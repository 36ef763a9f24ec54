// Who may call: an app has so many calls at once, the engine has so many in all, and what comes beyond waits in order.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "llm_impl.h"

size_t llm_app_place(struct llm *l, struct app *app)
{
    for (size_t i = 0; i < l->app_count; i++)
        if (l->apps[i].app == app) return i;
    struct llm_app *apps = realloc(l->apps, (l->app_count + 1) * sizeof *apps);
    if (apps == NULL) return SIZE_MAX;
    l->apps = apps;
    l->apps[l->app_count] = (struct llm_app){.app = app};
    return l->app_count++;
}

bool llm_slot_take(struct llm_job *j)
{
    struct llm *l = j->llm;
    struct llm_app *a = &l->apps[j->place];
    if (j->has_slot) return true;
    if (a->calls >= l->jobs_max || l->counts.calls >= LLM_JOBS_MAX) return false;
    a->calls++;
    l->counts.calls++;
    j->has_slot = true;
    return true;
}

void llm_slot_give(struct llm_job *j)
{
    if (!j->has_slot) return;
    struct llm_app *a = &j->llm->apps[j->place];
    assert(a->calls > 0 && j->llm->counts.calls > 0);
    a->calls--;
    j->llm->counts.calls--;
    j->has_slot = false;
}

void llm_queue_run(struct llm *l)
{
    uint64_t now = clock_mono_us() / 1000;
    for (struct llm_job *j = l->first, *next; j != NULL && !l->stopping; j = next) {
        next = j->next;
        if (j->ending != 0 || j->call != NULL || j->due_ms == 0 || j->due_ms > now || !llm_slot_take(j)) continue;
        llm_reply_call(j);
        llm_job_tick(j);
    }
}
