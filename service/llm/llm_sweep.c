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

#define SUFFIX 9 // "~" and eight digits

// The path of a fork: the job's own, and behind it which job's. A fork of a fork takes the other's place there.
static bool fork_path(struct buf *out, const struct job *r, struct uuid heir)
{
    char id[UUID_TEXT];
    struct span path = r->path;
    uuid_format(heir, id);
    if (path.n > SUFFIX && path.p[path.n - SUFFIX] == '~') path.n -= SUFFIX;
    buf_put_span(out, path);
    buf_put_u8(out, '~');
    buf_put(out, id + UUID_TEXT - 8, 8);
    return out->err == 0;
}

// Its request was kept, so that it can be asked again: into a fork of its stream, by a job that comes with this one's end.
static void leave_heir(struct llm_job *j)
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct job record = j->record;
    struct llm_job *heir;
    if (!record.fork || record.path.n == 0 || j->provider == NULL || j->llm->stopping) return;
    record.id = uuid_new();
    if (!fork_path(&path, &j->record, record.id)) return;
    record.path = buf_span(&path);
    record.state = JOB_QUEUED;
    record.created_ms = record.begun_ms = record.first_ms = 0;
    record.progress = SPAN_NONE;
    if (llm_job_alloc(&heir, j->llm, j->app, &record, NULL) != 0) return;
    if (!app_jobs_ask(j->app, j->record.id, &heir->body) || heir->body.err != 0) {
        llm_job_free(heir);
        return;
    }
    if (llm_slot_take(heir)) heir->record.state = JOB_CONNECTING;
    j->heir = heir;
}

// Ends or resumes the live jobs of an app that nobody works on: their number.
static size_t sweep(struct llm *l, struct app *app)
{
    struct uuid ids[SWEEP_MAX];
    size_t n = app_jobs_live(app, ids, SWEEP_MAX), orphans = 0;
    for (size_t i = 0; i < n; i++) {
        struct llm_job *j = llm_job_find(l, app, ids[i]);
        if (j != NULL) continue;
        orphans++;
        if (llm_job_adopt(l, app, ids[i], &j) != 0 || resume(j)) continue;
        leave_heir(j);
        llm_job_interrupt(j, ERR_RESTARTED);
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
        if (app_in_flight(app)) more = true; // looked at when it has landed
        else if (sweep(l, app) == 0)
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
