#include "llm.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "err.h"
#include "file.h"
#include "json_write.h"
#include "call.h"
#include "llm_sse.h"
#include "log.h"

#define URL_SUFFIX "/chat/completions"
#define SWEEP_MAX (2 * LLM_JOBS_MAX) // live jobs looked at in one sweep

struct llm_job {
    struct submission submission; // first
    struct llm *llm;
    struct llm_job *next, *prev;
    struct app *app;
    struct app_user user;
    struct job record;
    struct buf kept; // what the record points into
    struct llm_waiter *waiters;

    struct call *call; // NULL: none, or over
    struct llm_sse sse;
    struct buf text;     // came, and is in no batch yet
    uint64_t text_bytes; // of the whole reply

    struct buf batch; // made, perhaps on its way
    enum { BATCH_NONE, BATCH_TEXT, BATCH_END } made;
    bool on_its_way;

    enum job_state ending; // 0: not yet
    struct problem why;
    // What of the target is left to be ended with the job: less after each rejection.
    enum { END_WHOLE, END_WITHOUT_TEXT, END_JOB_ALONE } end_level;
    bool begun, counted;
};

struct provider {
    char name[NAME_MAX_BYTES + 1];
    char *url, *key;
};

struct llm {
    struct server *server;
    struct call_times times;
    struct provider providers[LLM_PROVIDERS_MAX];
    size_t provider_count;
    struct llm_job *first;
    bool stopping;
    struct llm_counts counts;
    // Per app, in the server's order: its recoveries + 1 when all its live jobs were known to be worked on; 0: not since.
    uint64_t *swept;
    size_t swept_count;
};

static void job_tick(struct llm_job *j);

// ---- providers ------------------------------------------------------------------------------------------------------

static int provider_add(struct llm *l, const struct option_provider *o, struct problem *p)
{
    struct provider *provider = &l->providers[l->provider_count];
    const char *key = o->key_env[0] != '\0' ? getenv(o->key_env) : NULL;
    if (o->key_env[0] != '\0' && key == NULL)
        return problem_set(p, ERR_USAGE, -1, "the provider %s needs its key in the environment: %s is not set", o->name, o->key_env);
    for (const char *c = key; c != NULL && *c != '\0'; c++)
        if (*c <= ' ' || *c > '~') return problem_set(p, ERR_USAGE, -1, "the provider %s: %s is not a key", o->name, o->key_env);
    size_t n = strlen(o->url);
    while (n > 0 && o->url[n - 1] == '/')
        n--;
    provider->url = malloc(n + sizeof URL_SUFFIX);
    provider->key = key != NULL ? strdup(key) : NULL;
    l->provider_count++;
    if (provider->url == NULL || (key != NULL && provider->key == NULL)) return problem_set(p, ERR_NOMEM, -1, "no memory");
    memcpy(provider->name, o->name, strlen(o->name) + 1);
    memcpy(provider->url, o->url, n);
    memcpy(provider->url + n, URL_SUFFIX, sizeof URL_SUFFIX);
    return 0;
}

static void providers_free(struct llm *l)
{
    for (size_t i = 0; i < l->provider_count; i++) {
        if (l->providers[i].key != NULL) explicit_bzero(l->providers[i].key, strlen(l->providers[i].key));
        free(l->providers[i].key);
        free(l->providers[i].url);
    }
}

static const struct provider *provider_find(const struct llm *l, struct span name)
{
    for (size_t i = 0; i < l->provider_count; i++)
        if (name.n == 0 || span_is(name, l->providers[i].name)) return &l->providers[i];
    return NULL;
}

const char *llm_provider(const struct llm *l, struct span name)
{
    const struct provider *provider = provider_find(l, name);
    return provider != NULL ? provider->name : NULL;
}

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

static void waiters_tell(struct llm_job *j)
{
    while (j->waiters != NULL) {
        struct llm_waiter *w = j->waiters;
        llm_waiter_remove(w);
        w->over(w);
    }
}

// ---- a job comes and goes -------------------------------------------------------------------------------------------

static void on_reset(struct app_user *u, int err);

static struct llm_job *job_alloc(struct llm *l, struct app *app, const struct job *record)
{
    struct llm_job *j = calloc(1, sizeof *j);
    if (j == NULL) return NULL;
    j->llm = l;
    j->app = app;
    j->why = PROBLEM_NONE;
    buf_init(&j->kept, 16 * KIB);
    // A piece is up to one event more than what fits, and only whole pieces are taken.
    buf_init(&j->text, LLM_BUFFER_MAX + 2 * LLM_EVENT_MAX);
    buf_init(&j->batch, LLM_BUFFER_MAX + 2 * LLM_EVENT_MAX + 16 * KIB);
    llm_sse_init(&j->sse, &j->text);
    job_encode(&j->kept, record);
    if (j->kept.err == 0 && job_decode(buf_span(&j->kept), record->id, &j->record) == 0) return j;
    llm_job_free(j);
    return NULL;
}

// It is in the engine's hands now.
static void job_link(struct llm_job *j)
{
    struct llm *l = j->llm;
    j->begun = true;
    j->next = l->first;
    if (l->first != NULL) l->first->prev = j;
    l->first = j;
    app_user_add(j->app, &j->user, on_reset);
}

static void call_drop(struct llm_job *j)
{
    if (j->counted) j->llm->counts.calls--;
    j->counted = false;
    call_free(j->call);
    j->call = NULL;
}

void llm_job_free(struct llm_job *j)
{
    if (j == NULL) return;
    assert(!j->on_its_way);
    call_drop(j);
    if (j->begun) {
        struct llm *l = j->llm;
        if (l->first == j) l->first = j->next;
        if (j->next != NULL) j->next->prev = j->prev;
        if (j->prev != NULL) j->prev->next = j->next;
        app_user_remove(&j->user);
    }
    waiters_tell(j);
    llm_sse_free(&j->sse);
    buf_free(&j->text);
    buf_free(&j->batch);
    buf_free(&j->kept);
    free(j);
}

static struct llm_job *job_find(const struct llm *l, const struct app *app, struct uuid id)
{
    for (struct llm_job *j = l->first; j != NULL; j = j->next)
        if (j->app == app && uuid_equal(j->record.id, id)) return j;
    return NULL;
}

static void log_job(const struct llm_job *j, const char *what)
{
    char id[UUID_TEXT];
    uuid_format(j->record.id, id);
    log_info("llm", what, LF_STR("app", app_name(j->app)), LF_SPAN("job", SPAN(id, UUID_TEXT)), LF_SPAN("provider", j->record.provider),
             LF_STR("state", job_state_name(j->ending != 0 ? j->ending : j->record.state)), LF_UINT("bytes", j->text_bytes),
             LF_STR("code", err_wire(j->why.err)));
}

// ---- batches --------------------------------------------------------------------------------------------------------

static void put_stream_op(struct llm_job *j, enum batch_op_kind kind, struct span data)
{
    const struct job *r = &j->record;
    batch_put_op(&j->batch,
                 &(struct batch_op){.kind = kind, .stream = {.table = r->table, .id = r->row, .column = r->column, .data = data}});
}

static void put_columns(struct llm_job *j, enum job_state state, bool with_usage, struct span usage)
{
    const struct job *r = &j->record;
    struct row_column columns[2];
    size_t n = 0;
    if (r->status_column.n > 0)
        columns[n++] = (struct row_column){.name = r->status_column, .value = {.kind = ROW_TEXT, .s = SPAN_STR(job_state_name(state))}};
    if (with_usage && r->usage_column.n > 0)
        columns[n++] = (struct row_column){.name = r->usage_column, .value = {.kind = usage.n > 0 ? ROW_JSON : ROW_NULL, .s = usage}};
    if (n == 0) return;
    batch_put_op(&j->batch,
                 &(struct batch_op){
                     .kind = BATCH_UPDATE,
                     .row = {.kind = ROW_UPDATE, .table = r->table, .has_id = true, .id = r->row, .columns = columns, .column_count = n}});
}

static void put_step(struct llm_job *j, enum job_state state, struct span usage)
{
    struct batch_job step = {.id = j->record.id, .state = state};
    if (!job_is_live(state)) {
        step.err = j->why.err;
        step.text = j->why.err != 0 ? SPAN_STR(problem_text(&j->why)) : SPAN_NONE;
        step.usage = usage;
        step.finish = SPAN_STR(j->sse.finish);
    }
    batch_put_op(&j->batch, &(struct batch_op){.kind = BATCH_JOB, .job = step});
}

// The first text also moves the job and the row on.
static void make_text(struct llm_job *j)
{
    put_stream_op(j, BATCH_APPEND, buf_span(&j->text));
    if (j->record.state == JOB_CONNECTING) {
        put_columns(j, JOB_STREAMING, false, SPAN_NONE);
        put_step(j, JOB_STREAMING, SPAN_NONE);
    }
    if (j->batch.err == 0) buf_clear(&j->text);
    j->made = BATCH_TEXT;
}

static void make_end(struct llm_job *j)
{
    struct buf usage;
    buf_init(&usage, 4 * KIB);
    llm_sse_usage(&j->sse, &usage);
    if (j->end_level == END_WHOLE && j->text.n > 0) put_stream_op(j, BATCH_APPEND, buf_span(&j->text));
    if (j->end_level != END_JOB_ALONE) {
        put_stream_op(j, BATCH_CLOSE, SPAN_NONE);
        put_columns(j, j->ending, true, buf_span(&usage));
    }
    put_step(j, j->ending, buf_span(&usage));
    buf_free(&usage);
    j->made = BATCH_END;
}

// ---- what became of a batch -----------------------------------------------------------------------------------------

// Decides how the job ends, once. The call goes as soon as it may.
static void job_end(struct llm_job *j, enum job_state state, int err, const char *text)
{
    if (j->ending != 0) return;
    j->ending = state;
    if (err != 0) problem_set(&j->why, err, -1, "%s", text);
}

static void job_over(struct llm_job *j)
{
    struct llm_counts *c = &j->llm->counts;
    log_job(j, "a job is over");
    *(j->ending == JOB_DONE        ? &c->done
      : j->ending == JOB_FAILED    ? &c->failed
      : j->ending == JOB_CANCELLED ? &c->cancelled
                                   : &c->interrupted) += 1;
    llm_job_free(j);
}

// Somebody has to look at this app's live jobs again.
static void sweep_again(struct llm_job *j)
{
    for (size_t i = 0; i < j->llm->swept_count; i++)
        if (server_app_at(j->llm->server, i) == j->app) j->llm->swept[i] = 0;
}

// The target refuses: the row was deleted, or the stream closed by somebody else. What was to be appended has no place any more.
static void text_rejected(struct llm_job *j, const struct fate *f)
{
    job_end(j, JOB_FAILED, f->err, problem_text(&f->problem));
    call_drop(j);
    buf_clear(&j->text);
    job_tick(j);
}

// Less is asked for, down to the job alone, which can always end. A reply that did not get whole into its row is not done.
static void end_rejected(struct llm_job *j, const struct fate *f)
{
    if (j->end_level == END_JOB_ALONE) {
        if (f->err != ERR_JOB_ENDED) log_error("llm", "the end of a job was rejected", LF_ERR(f->err));
        job_over(j);
        return;
    }
    j->end_level = j->end_level == END_WHOLE && j->text.n > 0 ? END_WITHOUT_TEXT : END_JOB_ALONE;
    if (j->ending == JOB_DONE) {
        j->ending = JOB_FAILED;
        problem_set(&j->why, f->err, -1, "%s", problem_text(&f->problem));
    }
    job_tick(j);
}

// No fate: the app is being built again (then on_reset follows), or this batch could not be decided. It is not known to be harmless to
// send it twice.
static void batch_lost(struct llm_job *j, bool was_end, int err)
{
    if (app_state(j->app) == APP_RECOVERING) return;
    job_end(j, JOB_FAILED, err, err_text(err));
    call_drop(j);
    if (!was_end) {
        job_tick(j);
        return;
    }
    sweep_again(j);
    llm_job_free(j);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct llm_job *j = (struct llm_job *)s;
    bool was_end = j->made == BATCH_END;
    j->on_its_way = false;
    j->made = BATCH_NONE;
    if (f->err != 0 && !f->journaled) {
        batch_lost(j, was_end, f->err);
    } else if (was_end) {
        if (f->err == 0)
            job_over(j);
        else
            end_rejected(j, f);
    } else if (f->err != 0) {
        text_rejected(j, f);
    } else {
        j->record.state = JOB_STREAMING;
        if (j->call != NULL) call_resume(j->call);
        job_tick(j);
    }
}

// ---- the story of a job ---------------------------------------------------------------------------------------------

static void submit(struct llm_job *j)
{
    if (j->batch.err != 0) { // memory alone can be the reason, for everything in it is bounded: the next tick tries its end
        j->made = BATCH_NONE;
        job_end(j, JOB_FAILED, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    j->submission = (struct submission){.identity = j->record.identity, .request = buf_span(&j->batch), .done = on_fate};
    // A refusal passes (the app has too much to do), or on_reset comes: until then the batch waits for a tick.
    j->on_its_way = app_submit(j->app, &j->submission) == 0;
}

static void job_tick(struct llm_job *j)
{
    if (j->on_its_way) return;
    if (j->made == BATCH_NONE) {
        buf_clear(&j->batch);
        if (j->ending != 0)
            make_end(j);
        else if (j->text.n > 0)
            make_text(j);
        else
            return;
    }
    submit(j);
}

// ---- the call -------------------------------------------------------------------------------------------------------

static bool on_data(void *ctx, struct span piece)
{
    struct llm_job *j = ctx;
    size_t before = j->text.n;
    int err = llm_sse_feed(&j->sse, piece);
    j->text_bytes += j->text.n - before;
    if (err == 0 && j->text_bytes > LLM_TEXT_MAX) job_end(j, JOB_FAILED, ERR_TOO_LARGE, "the reply is longer than the limit");
    // An end waits for on_ended: it takes the rest of the text along.
    if (err != 0 || j->sse.done || j->ending != 0) return false;
    job_tick(j);
    return j->ending == 0;
}

static bool on_full(void *ctx)
{
    const struct llm_job *j = ctx;
    return j->text.n > LLM_BUFFER_MAX;
}

static bool on_head(void *ctx, const struct call_head *head)
{
    struct llm_job *j = ctx;
    if (head->status < 200 || head->status >= 300) return true; // on_ended gets the reason
    if (head->type.n >= 17 && strncasecmp((const char *)head->type.p, "text/event-stream", 17) == 0) return true;
    job_end(j, JOB_FAILED, ERR_PROVIDER_MALFORMED, "the provider's answer is not an event stream");
    return false;
}

static void refused(struct llm_job *j, const struct call_end *end)
{
    char message[PROBLEM_TEXT_MAX], text[PROBLEM_TEXT_MAX];
    if (llm_error_message(end->body, message))
        snprintf(text, sizeof text, "status %d: %s", end->status, message);
    else
        snprintf(text, sizeof text, "the provider answered with status %d", end->status);
    job_end(j, JOB_FAILED, ERR_PROVIDER_REFUSED, text);
}

static void on_ended(void *ctx, const struct call_end *end)
{
    struct llm_job *j = ctx;
    const struct problem *p = &end->problem;
    bool complete = p->err == 0 ? llm_sse_end(&j->sse) : llm_sse_complete(&j->sse);
    const struct problem *said = &j->sse.problem;
    if (p->err == 0 && (end->status < 200 || end->status >= 300))
        refused(j, end);
    else if (said->err != 0)
        job_end(j, JOB_FAILED, said->err, problem_text(said));
    else if (complete)
        job_end(j, JOB_DONE, 0, "");
    else if (p->err == 0)
        job_end(j, JOB_INTERRUPTED, ERR_PROVIDER_CUT, "the provider's stream ended before its reply did");
    else
        job_end(j, p->err == ERR_PROVIDER_CUT ? JOB_INTERRUPTED : JOB_FAILED, p->err, problem_text(p));
    call_drop(j);
    job_tick(j);
}

// Headers are copied by the call.
static int call_make(struct llm_job *j, const struct provider *provider, struct span body)
{
    struct buf key;
    const char *headers[] = {"Content-Type: application/json", "Accept: text/event-stream", "User-Agent: segued", NULL};
    struct call_options options = {.method = "POST",
                                   .url = provider->url,
                                   .headers = headers,
                                   .header_count = provider->key != NULL ? 4 : 3,
                                   .body = body,
                                   .times = j->llm->times,
                                   .ctx = j,
                                   .head = on_head,
                                   .data = on_data,
                                   .full = on_full,
                                   .ended = on_ended};
    buf_init(&key, 8 * KIB);
    buf_printf(&key, "Authorization: Bearer %s", provider->key != NULL ? provider->key : "");
    buf_put_u8(&key, 0);
    headers[3] = (const char *)key.p;
    int err = key.err == 0 ? call_new(&j->call, server_calls(j->llm->server), &options) : key.err;
    if (key.p != NULL) explicit_bzero(key.p, key.n);
    buf_free(&key);
    return err;
}

int llm_job_new(struct llm_job **out, struct llm *l, struct app *app, const struct job *record, struct span body, struct problem *p)
{
    const struct provider *provider = provider_find(l, record->provider);
    if (provider == NULL) return problem_set(p, ERR_NO_SUCH_PROVIDER, -1, "no provider is called \"%.*s\"", SPAN_FMT(record->provider));
    if (l->counts.calls >= LLM_JOBS_MAX) return problem_set(p, ERR_TOO_MANY, -1, "%d calls to providers are under way", LLM_JOBS_MAX);
    struct llm_job *j = job_alloc(l, app, record);
    if (j == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory for the job");
    int err = call_make(j, provider, body);
    if (err != 0) {
        llm_job_free(j);
        return problem_set(p, err, -1, "no memory for the call");
    }
    j->counted = true;
    l->counts.calls++;
    *out = j;
    return 0;
}

void llm_job_begin(struct llm_job *j)
{
    struct llm *l = j->llm;
    job_link(j);
    l->counts.begun++;
    log_job(j, "a job begins");
    if (l->stopping)
        job_end(j, JOB_INTERRUPTED, ERR_SHUTTING_DOWN, err_text(ERR_SHUTTING_DOWN));
    else if (call_start(j->call) != 0)
        job_end(j, JOB_FAILED, ERR_NOMEM, "the call could not be made");
    if (j->ending == 0) return;
    call_drop(j);
    job_tick(j);
}

// ---- ends from outside ----------------------------------------------------------------------------------------------

static void interrupt(struct llm_job *j, int err)
{
    job_end(j, JOB_INTERRUPTED, err, err_text(err));
    call_drop(j);
    job_tick(j);
}

// The app is built again: its state may be without our last batch, or with it. The job is ended by a sweep when the app is back.
static void on_reset(struct app_user *u, int err)
{
    struct llm_job *j = (struct llm_job *)((char *)u - offsetof(struct llm_job, user));
    if (err == ERR_SHUTTING_DOWN && app_state(j->app) != APP_RECOVERING) {
        interrupt(j, err); // leaves when its last batch is durable
        return;
    }
    assert(!j->on_its_way); // the app has answered everything
    sweep_again(j);
    llm_job_free(j);
}

// A job that nobody works on, to be ended.
static int job_adopt(struct llm *l, struct app *app, struct uuid id, struct llm_job **out)
{
    struct job record;
    int found = app_job(app, id, &record);
    if (found < 0) return found;
    if (found == 0) return ERR_NO_SUCH_JOB;
    if (!job_is_live(record.state)) return ERR_JOB_ENDED;
    struct llm_job *j = job_alloc(l, app, &record);
    if (j == NULL) return ERR_NOMEM;
    job_link(j);
    *out = j;
    return 0;
}

int llm_cancel(struct llm *l, struct app *app, struct uuid id, struct llm_waiter *w)
{
    struct llm_job *j = job_find(l, app, id);
    int err = j == NULL ? job_adopt(l, app, id, &j) : 0;
    if (err != 0) return err;
    waiter_add(j, w);
    job_end(j, JOB_CANCELLED, ERR_CANCELED, "the job was cancelled");
    call_drop(j);
    job_tick(j);
    return 0;
}

// ---- sweeping, ticking ----------------------------------------------------------------------------------------------

// Ends the live jobs of an app that nobody works on: its number.
static size_t sweep(struct llm *l, struct app *app)
{
    static struct uuid ids[SWEEP_MAX];
    size_t n = app_jobs_live(app, ids, SWEEP_MAX), orphans = 0;
    for (size_t i = 0; i < n; i++) {
        struct llm_job *j = job_find(l, app, ids[i]);
        if (j != NULL) continue;
        orphans++;
        if (job_adopt(l, app, ids[i], &j) == 0) interrupt(j, ERR_RESTARTED);
    }
    return orphans;
}

static bool sweep_apps(struct llm *l)
{
    bool more = false;
    struct app *app;
    for (size_t i = 0; (app = server_app_at(l->server, i)) != NULL; i++) {
        if (i == l->swept_count) {
            uint64_t *swept = realloc(l->swept, (i + 1) * sizeof *swept);
            if (swept == NULL) return false;
            swept[i] = 0;
            l->swept = swept;
            l->swept_count++;
        }
        uint64_t now = app_counts(app).recoveries + 1;
        if (app_state(app) != APP_READY || l->swept[i] == now) continue;
        if (sweep(l, app) == 0)
            l->swept[i] = now;
        else
            more = true;
    }
    return more;
}

bool llm_tick(struct llm *l)
{
    for (struct llm_job *j = l->first, *next; j != NULL; j = next) {
        next = j->next;
        if (!j->on_its_way) job_tick(j);
    }
    return sweep_apps(l);
}

// ---- the engine -----------------------------------------------------------------------------------------------------

int llm_open(struct llm **out, struct server *server, const struct options *options, struct problem *p)
{
    struct llm *l = calloc(1, sizeof *l);
    if (l == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory");
    l->server = server;
    l->times = (struct call_times){options->llm_connect_ms, options->llm_first_ms, options->llm_idle_ms, options->llm_total_ms};
    int err = 0;
    for (size_t i = 0; i < options->provider_count && err == 0; i++)
        err = provider_add(l, &options->providers[i], p);
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
    providers_free(l);
    free(l->swept);
    free(l);
}

struct llm_counts llm_counts(const struct llm *l)
{
    return l->counts;
}
