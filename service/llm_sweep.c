// Jobs that nobody works on: the service was restarted, or the app built again. None of them is left alive.
#include <string.h>

#include "cur.h"
#include "err.h"
#include "llm_impl.h"

#define SWEEP_MAX 2048 // live jobs looked at in one sweep

int llm_job_adopt(struct llm *l, struct app *app, struct uuid id, struct llm_job **out)
{
    struct job record;
    int found = app_job(app, id, &record);
    if (found < 0) return found;
    if (found == 0) return ERR_NO_SUCH_JOB;
    if (!job_is_live(record.state)) return ERR_JOB_ENDED;
    struct llm_job *j;
    int err = llm_job_alloc(&j, l, app, &record, NULL);
    if (err != 0) return err;
    j->asked_ms = 0; // on another clock
    llm_job_link(j);
    *out = j;
    return 0;
}

// Puts the parser and the form where they were behind the last durable byte.
static bool load_progress(struct llm_job *j)
{
    struct cur c;
    if (j->record.progress.n == 0 || j->provider == NULL) return false;
    cur_init(&c, j->record.progress);
    struct span state = cur_span(&c, sizeof j->writer.state);
    if (c.err != 0) return false;
    memcpy(j->writer.state, state.p, state.n);
    return llm_parser_load(j->parser, span_sub(j->record.progress, state.n, j->record.progress.n)) == 0;
}

// The provider went on while we were away.
static bool resume(struct llm_job *j)
{
    if (j->llm->stopping || !load_progress(j)) return false;
    j->progress_kept = true;
    j->visible = j->record.state == JOB_STREAMING;
    j->due_ms = 1;
    j->llm->counts.resumed++;
    return true;
}

// Ends or resumes the live jobs of an app that nobody works on: their number.
static size_t sweep(struct llm *l, struct app *app)
{
    static struct uuid ids[SWEEP_MAX];
    size_t n = app_jobs_live(app, ids, SWEEP_MAX), orphans = 0;
    for (size_t i = 0; i < n; i++) {
        struct llm_job *j = llm_job_find(l, app, ids[i]);
        if (j != NULL) continue;
        orphans++;
        if (llm_job_adopt(l, app, ids[i], &j) == 0 && !resume(j)) llm_job_interrupt(j, ERR_RESTARTED);
    }
    return orphans;
}

bool llm_sweep_apps(struct llm *l)
{
    bool more = false;
    struct app *app;
    for (size_t i = 0; (app = server_app_at(l->server, i)) != NULL; i++) {
        size_t place = llm_app_place(l, app);
        if (place == SIZE_MAX) return false;
        uint64_t now = app_counts(app).recoveries + 1;
        if (app_state(app) != APP_READY || l->apps[place].swept == now) continue;
        if (sweep(l, app) == 0)
            l->apps[place].swept = now;
        else
            more = true;
    }
    return more;
}

void llm_sweep_again(struct llm_job *j)
{
    j->llm->apps[j->place].swept = 0;
}
