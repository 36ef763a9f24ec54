#include "llm.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "llm_impl.h"

// ---- waiters --------------------------------------------------------------------------------------------------------

static void waiter_add(struct llm_job *j, struct llm_waiter *w)
{
    w->next = j->waiters;
    w->place = &j->waiters;
    if (w->next != NULL) w->next->place = &w->next;
    j->waiters = w;
}

void llm_waiter_remove(struct llm_waiter *w)
{
    if (w->place == NULL) return;
    *w->place = w->next;
    if (w->next != NULL) w->next->place = w->place;
    w->place = NULL;
}

void llm_waiters_tell(struct llm_job *j)
{
    while (j->waiters != NULL) {
        struct llm_waiter *w = j->waiters;
        llm_waiter_remove(w);
        w->has_retry_after = j->has_retry_after;
        w->retry_after_ms = j->retry_after_ms;
        w->over(w);
    }
}

int llm_wait(struct llm *l, struct app *app, struct uuid id, struct llm_waiter *w)
{
    struct llm_job *j = llm_job_find(l, app, id);
    if (j == NULL) return ERR_NO_SUCH_JOB;
    waiter_add(j, w);
    return 0;
}

int llm_cancel(struct llm *l, struct app *app, struct uuid id, struct llm_waiter *w)
{
    struct llm_job *j = llm_job_find(l, app, id);
    int err = j == NULL ? llm_job_adopt(l, app, id, &j) : 0;
    if (err != 0) return err;
    waiter_add(j, w);
    llm_job_end(j, JOB_CANCELLED, ERR_CANCELED, "the job was cancelled");
    llm_reply_drop(j);
    llm_reply_abandon(j);
    llm_job_tick(j);
    llm_queue_run(l);
    return 0;
}

bool llm_tick(struct llm *l)
{
    for (struct llm_job *j = l->first, *next; j != NULL; j = next) {
        next = j->next;
        llm_job_look(j);
        if (!j->on_its_way) llm_job_tick(j);
    }
    llm_queue_run(l);
    return llm_sweep_apps(l);
}

// ---- the engine -----------------------------------------------------------------------------------------------------

int llm_open(struct llm **out, struct server *server, const struct options *options, struct problem *p)
{
    struct llm *l = calloc(1, sizeof *l);
    if (l == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory");
    l->server = server;
    l->times = (struct call_times){options->llm_connect_ms, options->llm_first_ms, options->llm_idle_ms, options->llm_total_ms};
    l->retries = options->llm_retries;
    l->retry_ms = options->llm_retry_ms;
    l->jobs_max = options->llm_jobs;
    l->tokens_day = options->llm_tokens_day;
    int err = 0;
    for (size_t i = 0; i < options->provider_count && err == 0; i++)
        err = llm_provider_add(l, &options->providers[i], p);
    if (err != 0) {
        llm_close(l);
        return err;
    }
    *out = l;
    return 0;
}

void llm_stop(struct llm *l)
{
    l->stopping = true;
}

void llm_close(struct llm *l)
{
    if (l == NULL) return;
    while (l->first != NULL)
        llm_job_free(l->first);
    llm_farewells_free(l);
    llm_providers_free(l);
    free(l->apps);
    free(l);
}

struct llm_counts llm_counts(const struct llm *l)
{
    struct llm_counts counts = l->counts;
    for (const struct llm_job *j = l->first; j != NULL; j = j->next) {
        if (j->ending != 0) continue;
        counts.queued += j->record.state == JOB_QUEUED;
        counts.connecting += j->record.state == JOB_CONNECTING;
        counts.streaming += j->record.state == JOB_STREAMING;
    }
    return counts;
}
