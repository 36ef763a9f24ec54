// A job's life and its batches.
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "file.h"
#include "json_write.h"
#include "llm_impl.h"
#include "log.h"

#define OUT_MAX (6 * MIB) // LLM_BUFFER_MAX on its way, as much that waits, and what one more piece can come to
#define LOOK_MS 1000 // between two looks at a job's stream
#define END_MAX (4 * KIB) // of the end's own words behind it

// ---- coming and going -----------------------------------------------------------------------------------------------

static void on_reset(struct app_user *u, int err);

int llm_job_alloc(struct llm_job **out, struct llm *l, struct app *app, const struct job *record, struct problem *p)
{
    const struct llm_provider *provider = llm_provider_find(l, record->provider);
    struct llm_job *j = calloc(1, sizeof *j);
    size_t place = llm_app_place(l, app);
    if (j == NULL || place == SIZE_MAX) {
        free(j);
        return problem_set(p, ERR_NOMEM, -1, "no memory for the job");
    }
    *j = (struct llm_job){.llm = l, .app = app, .place = place, .provider = provider, .why = PROBLEM_NONE};
    j->asked_ms = clock_mono_us() / 1000;
    l->apps[place].jobs++;
    buf_init(&j->kept, 64 * KIB);
    buf_init(&j->body, 8 * LLM_REQUEST_MAX);
    buf_init(&j->more, LLM_MORE_HEADERS_MAX * KIB);
    buf_init(&j->message, KIB);
    buf_init(&j->answer, LLM_EVENT_MAX - KIB);
    buf_init(&j->out, OUT_MAX);
    buf_init(&j->batch, ENTRY_BYTES_MAX / 2);
    job_encode(&j->kept, record);
    int err = j->kept.err;
    if (err == 0) err = job_decode(buf_span(&j->kept), record->id, &j->record);
    if (err == 0) err = llm_reply_begin(j);
    if (err == 0) {
        *out = j;
        return 0;
    }
    llm_job_free(j);
    return problem_set(p, err, -1, "%s", err_text(err));
}

void llm_job_link(struct llm_job *j)
{
    struct llm *l = j->llm;
    j->begun = true;
    j->prev = l->last;
    *(l->last != NULL ? &l->last->next : &l->first) = j;
    l->last = j;
    app_user_add(j->app, &j->user, on_reset);
}

void llm_job_free(struct llm_job *j)
{
    if (j == NULL) return;
    struct llm *l = j->llm;
    assert(!j->on_its_way);
    llm_reply_drop(j);
    l->apps[j->place].jobs--;
    if (j->begun) {
        *(j->prev != NULL ? &j->prev->next : &l->first) = j->next;
        *(j->next != NULL ? &j->next->prev : &l->last) = j->prev;
        app_user_remove(&j->user);
    }
    llm_waiters_tell(j);
    if (j->farewell != NULL) j->farewell->job = NULL;
    llm_job_free(j->heir);
    llm_parser_free(j->parser);
    llm_writer_free(&j->writer);
    buf_free(&j->body);
    buf_free(&j->more);
    buf_free(&j->message);
    buf_free(&j->answer);
    buf_free(&j->out);
    buf_free(&j->batch);
    buf_free(&j->kept);
    free(j);
}

struct llm_job *llm_job_find(const struct llm *l, const struct app *app, struct uuid id)
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
             LF_STR("state", job_state_name(j->ending != 0 ? j->ending : j->record.state)), LF_UINT("bytes", j->out_bytes),
             LF_STR("code", err_wire(j->why.err)));
}

int llm_job_new(struct llm_job **out, struct llm *l, struct app *app, const struct job *record, struct span body, struct problem *p)
{
    enum llm_api api;
    size_t place = llm_app_place(l, app);
    struct job made = *record;
    if (llm_provider(l, record->provider, &api) == NULL)
        return problem_set(p, ERR_NO_SUCH_PROVIDER, -1, "no provider is called \"%.*s\"", SPAN_FMT(record->provider));
    if (place == SIZE_MAX) return problem_set(p, ERR_NOMEM, -1, "no memory for the job");
    if (l->apps[place].jobs >= l->jobs_max + LLM_QUEUE_MAX)
        return problem_set(p, ERR_TOO_MANY, -1, "%zu jobs of this app have not ended", l->apps[place].jobs);
    if (l->tokens_day > 0 && app_jobs_tokens(app, clock_wall_ms()) >= l->tokens_day)
        return problem_set(p, ERR_TOKENS_SPENT, -1, "the app's jobs have used the %llu tokens of this day (UTC)", (unsigned long long)l->tokens_day);
    if (made.api == 0) made.api = (uint8_t)api;
    if (made.form == 0) made.form = LLM_FORM_TEXT;
    made.state = JOB_QUEUED;
    struct llm_job *j;
    int err = llm_job_alloc(&j, l, app, &made, p);
    if (err != 0) return err;
    buf_put_span(&j->body, body);
    if (j->body.err != 0) {
        llm_job_free(j);
        return problem_set(p, ERR_NOMEM, -1, "no memory for the request");
    }
    if (llm_slot_take(j)) j->record.state = JOB_CONNECTING;
    *out = j;
    return 0;
}

int llm_job_more(struct llm_job *j, const struct llm_job_more *more)
{
    assert(!j->begun && more->header_count <= LLM_MORE_HEADERS_MAX);
    for (size_t i = 0; i < more->header_count; i++)
        buf_put(&j->more, more->headers[i], strlen(more->headers[i]) + 1);
    buf_put_span(&j->message, more->message);
    j->direct = more->direct;
    j->type = more->type;
    if (j->record.form == LLM_FORM_UI) llm_writer_ui_name(&j->writer, more->message);
    return j->more.err != 0 ? j->more.err : j->message.err;
}

enum job_state llm_job_state(const struct llm_job *j)
{
    return j->record.state;
}

// The next start has all it needs: what the provider holds for us, or the request itself.
static bool can_wait(const struct llm_job *j)
{
    return j->ending == 0 && (j->progress_kept || j->record.fork);
}

static void leave(struct llm_job *j)
{
    j->leaving = true;
    llm_reply_drop(j);
    if (!j->on_its_way) llm_job_free(j);
}

void llm_job_begin(struct llm_job *j)
{
    struct llm *l = j->llm;
    llm_job_link(j);
    l->counts.begun++;
    log_job(j, "a job begins");
    j->due_ms = 1;
    if (l->stopping) {
        if (can_wait(j))
            leave(j);
        else
            llm_job_interrupt(j, ERR_SHUTTING_DOWN);
        return;
    }
    if (j->has_slot) llm_reply_call(j);
    llm_job_tick(j);
}

// ---- batches --------------------------------------------------------------------------------------------------------

static struct batch_stream stream_of(const struct job *r)
{
    return r->path.n > 0 ? (struct batch_stream){.path = r->path} : (struct batch_stream){.table = r->table, .id = r->row, .column = r->column};
}

static void put_stream_op(struct llm_job *j, enum batch_op_kind kind, struct span data)
{
    struct batch_op op = {.kind = kind, .stream = stream_of(&j->record)};
    op.stream.data = data;
    op.stream.messages = kind == BATCH_APPEND && j->writer.json;
    batch_put_op(&j->batch, &op);
}

// In as many appends as it takes; one of messages has whole ones, each of which is far smaller than an append may be.
static void put_bytes(struct llm_job *j, struct span data)
{
    while (data.n > 0) {
        size_t n = data.n < STREAM_APPEND_MAX ? data.n : STREAM_APPEND_MAX;
        while (j->writer.json && n > 1 && data.p[n - 1] != '\n')
            n--;
        put_stream_op(j, BATCH_APPEND, span_sub(data, 0, n));
        data = span_sub(data, n, data.n);
    }
}

static void put_make(const struct llm_job *j, struct buf *batch)
{
    const struct job *r = &j->record;
    batch_put_op(batch, &(struct batch_op){.kind = BATCH_JOB,
                                           .job = {.id = r->id,
                                                   .make = true,
                                                   .state = r->state,
                                                   .api = r->api,
                                                   .form = r->form,
                                                   .background = r->background,
                                                   .fork = r->fork,
                                                   .provider = r->provider,
                                                   .path = r->path,
                                                   .table = r->table,
                                                   .row = r->row,
                                                   .column = r->column,
                                                   .status_column = r->status_column,
                                                   .usage_column = r->usage_column,
                                                   .request = r->request,
                                                   .ask = r->fork ? buf_span(&j->body) : SPAN_NONE,
                                                   .start = r->start}});
}

void llm_job_batch(const struct llm_job *j, struct buf *batch)
{
    const struct job *r = &j->record;
    struct span type = SPAN_STR(j->type != NULL ? j->type : j->writer.type);
    if (r->path.n > 0) batch_put_op(batch, &(struct batch_op){.kind = BATCH_CREATE, .stream = {.path = r->path, .type = type}});
    put_make(j, batch);
}

// The stream that the heir writes begins where this one's did.
static void put_heir(struct llm_job *j)
{
    const struct job *r = &j->heir->record;
    struct batch_stream fork = {.path = r->path, .fork_of = j->record.path, .has_fork_offset = true, .fork_offset = r->start};
    batch_put_op(&j->batch, &(struct batch_op){.kind = BATCH_CREATE, .stream = fork});
    put_make(j->heir, &j->batch);
}

static void put_columns(struct llm_job *j, enum job_state state, bool with_usage, struct span usage)
{
    const struct job *r = &j->record;
    struct row_column columns[2];
    size_t n = 0;
    if (r->status_column.n > 0)
        columns[n++] = (struct row_column){.name = r->status_column, .value = {.kind = ROW_TEXT, .s = SPAN_STR(job_state_name(state))}};
    if (with_usage && r->usage_column.n > 0)
        columns[n++] = (struct row_column){.name = r->usage_column, .value = {.kind = ROW_JSON, .s = usage}};
    if (n == 0) return;
    batch_put_op(&j->batch,
                 &(struct batch_op){
                     .kind = BATCH_UPDATE,
                     .row = {.kind = ROW_UPDATE, .table = r->table, .has_id = true, .id = r->row, .columns = columns, .column_count = n}});
}

// The state, and what a resumption needs where one is possible: the parser as it is behind the bytes of this very batch.
static void put_step(struct llm_job *j, enum job_state state, bool with_progress)
{
    struct batch_job step = {.id = j->record.id, .state = state};
    struct buf saved;
    buf_init(&saved, 16 * KIB);
    if (with_progress) {
        buf_put(&saved, j->writer.state, sizeof j->writer.state);
        llm_parser_save(j->parser, &saved);
    }
    step.progress = buf_span(&saved);
    if (saved.err == 0)
        batch_put_op(&j->batch, &(struct batch_op){.kind = BATCH_JOB, .job = step});
    else
        j->batch.err = saved.err;
    buf_free(&saved);
    j->made = BATCH_STEP;
    j->made_state = state;
}

// The first bytes also move the job and the row on. A raw reply is cut between two events, so that it can go on there.
static void make_bytes(struct llm_job *j, size_t n)
{
    put_bytes(j, span_sub(buf_span(&j->out), 0, n));
    if (j->record.state != JOB_STREAMING) put_columns(j, JOB_STREAMING, false, SPAN_NONE);
    bool progress = j->progress_due || j->progress_kept;
    if (j->record.state != JOB_STREAMING || progress)
        put_step(j, JOB_STREAMING, progress);
    j->sending = n;
    j->made = BATCH_STEP;
    j->made_state = JOB_STREAMING;
}

static void put_ms(struct jw *w, const char *key, uint64_t from, uint64_t to)
{
    jw_key(w, key);
    from != 0 && to >= from ? jw_uint(w, to - from) : jw_null(w);
}

static void put_count(struct jw *w, const char *key, int64_t n)
{
    jw_key(w, key);
    n >= 0 ? jw_int(w, n) : jw_null(w);
}

static void put_word(struct jw *w, const char *key, const char *word)
{
    jw_key(w, key);
    word != NULL && word[0] != '\0' ? jw_cstr(w, word) : jw_null(w);
}

// Canonical: a row keeps it as it is.
static void put_usage(const struct llm_job *j, struct buf *out)
{
    const struct llm_reply *r = llm_parser_reply(j->parser);
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    put_count(&w, "cached_tokens", r->usage.cached);
    put_count(&w, "completion_tokens", r->usage.output);
    put_word(&w, "finish", llm_finish_name(r->finish));
    put_word(&w, "finish_reason", r->reason);
    jw_key(&w, "known"), jw_bool(&w, llm_usage_known(&r->usage));
    put_word(&w, "model", r->model);
    put_count(&w, "prompt_tokens", r->usage.input);
    put_count(&w, "reasoning_tokens", r->usage.reasoning);
    jw_key(&w, "timings"), jw_object(&w);
    put_ms(&w, "first_ms", j->called_ms, j->first_ms);
    put_ms(&w, "queued_ms", j->called_ms != 0 ? j->asked_ms : 0, j->called_ms);
    put_ms(&w, "total_ms", j->asked_ms, clock_mono_us() / 1000);
    jw_end(&w);
    put_count(&w, "total_tokens", r->usage.total);
    jw_end(&w);
}

static void tell_end(struct llm_job *j)
{
    struct llm_event e = {.kind = LLM_END, .state = job_state_name(j->ending)};
    if (j->end_told) return;
    j->end_told = true;
    if (j->why.err != 0) {
        e.code = SPAN_STR(err_wire(j->why.err));
        e.message = SPAN_STR(problem_text(&j->why));
    }
    // Also where the reply did not fit: what came of it stands.
    j->out.max = OUT_MAX + END_MAX;
    j->out.err = 0;
    if (j->record.form != LLM_FORM_RAW) j->writer.event(&j->writer, &e, &j->out);
}

// What a provider did not sum up is counted as far as it was told.
static uint64_t tokens_of(const struct llm_usage *u)
{
    if (u->total > 0) return (uint64_t)u->total;
    return (u->input > 0 ? (uint64_t)u->input : 0) + (u->output > 0 ? (uint64_t)u->output : 0);
}

static void make_end(struct llm_job *j)
{
    const struct llm_reply *reply = llm_parser_reply(j->parser);
    bool with_bytes = j->end_level == END_WHOLE || j->end_level == END_WITHOUT_COLUMNS;
    bool with_columns = j->end_level == END_WHOLE || j->end_level == END_WITHOUT_BYTES;
    struct buf usage;
    struct batch_job step = {.id = j->record.id, .state = j->ending, .err = j->why.err, .status = j->status};
    buf_init(&usage, 4 * KIB);
    put_usage(j, &usage);
    tell_end(j);
    if (with_bytes) put_bytes(j, buf_span(&j->out));
    if (j->end_level != END_JOB_ALONE) put_stream_op(j, BATCH_CLOSE, SPAN_NONE);
    if (with_columns) put_columns(j, j->ending, true, buf_span(&usage));
    if (j->heir != NULL) {
        put_heir(j);
        step.successor = j->heir->record.path;
        step.heir = j->heir->record.id;
    }
    step.text = j->why.err != 0 ? SPAN_STR(problem_text(&j->why)) : SPAN_NONE;
    step.usage = buf_span(&usage);
    step.finish = SPAN_STR(reply->reason);
    step.tokens = tokens_of(&reply->usage);
    batch_put_op(&j->batch, &(struct batch_op){.kind = BATCH_JOB, .job = step});
    buf_free(&usage);
    j->made = BATCH_END;
}

// ---- what became of a batch -----------------------------------------------------------------------------------------

void llm_job_end(struct llm_job *j, enum job_state state, int err, const char *text)
{
    if (j->ending != 0) return;
    j->ending = state;
    if (err == 0) return;
    problem_set(&j->why, err, -1, "%s", text);
    llm_key_hide(j->provider, (uint8_t *)j->why.text, strlen(j->why.text));
}

void llm_job_interrupt(struct llm_job *j, int err)
{
    llm_job_end(j, JOB_INTERRUPTED, err, err_text(err));
    llm_reply_drop(j);
    llm_job_tick(j);
}

void llm_job_look(struct llm_job *j)
{
    uint64_t now = clock_mono_us() / 1000;
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct stream_info info;
    if (j->ending != 0 || j->leaving || now - j->looked_ms < LOOK_MS || app_in_flight(j->app) || app_txn(j->app) == NULL) return;
    j->looked_ms = now;
    job_path(&path, &j->record);
    bool there = streams_find(app_streams(j->app), app_txn(j->app), buf_span(&path), &info) && !info.gone;
    if (there && !info.closed) return;
    int err = there ? ERR_STREAM_CLOSED : ERR_STREAM_NOT_FOUND;
    llm_job_end(j, JOB_FAILED, err, err_text(err));
    llm_reply_drop(j);
}

static void job_over(struct llm_job *j)
{
    struct llm *l = j->llm;
    struct llm_counts *c = &l->counts;
    struct llm_job *heir = j->heir;
    log_job(j, "a job is over");
    *(j->ending == JOB_DONE        ? &c->done
      : j->ending == JOB_FAILED    ? &c->failed
      : j->ending == JOB_CANCELLED ? &c->cancelled
                                   : &c->interrupted) += 1;
    c->tokens += tokens_of(&llm_parser_reply(j->parser)->usage);
    j->heir = NULL;
    llm_job_free(j);
    if (heir != NULL) llm_job_begin(heir);
    llm_queue_run(l);
}

// The target refuses: the row was deleted, the stream closed by somebody else, a column takes no such state. What of it can still be done
// is found out with the end.
static void bytes_rejected(struct llm_job *j, const struct fate *f)
{
    llm_job_end(j, JOB_FAILED, f->err, problem_text(&f->problem));
    llm_reply_drop(j);
    llm_job_tick(j);
}

// Does this level ask for something else than those before it?
static bool is_another(const struct llm_job *j)
{
    bool bytes = j->out.n > 0, columns = j->record.status_column.n > 0 || j->record.usage_column.n > 0;
    switch (j->end_level) {
    case END_WITHOUT_BYTES: return bytes;
    case END_WITHOUT_COLUMNS: return columns;
    case END_CLOSE_ALONE: return bytes && columns;
    default: return true;
    }
}

// Less is asked for, down to the job alone, which can always end. A reply that did not get whole into its target is not done.
static void end_rejected(struct llm_job *j, const struct fate *f)
{
    if (j->heir != NULL) { // it may be what was refused
        llm_job_free(j->heir);
        j->heir = NULL;
        llm_job_tick(j);
        return;
    }
    if (j->end_level == END_JOB_ALONE) {
        if (f->err != ERR_JOB_ENDED) log_error("llm", "the end of a job was rejected", LF_ERR(f->err));
        job_over(j);
        return;
    }
    do
        j->end_level++;
    while (!is_another(j));
    if (j->ending == JOB_DONE) {
        j->ending = JOB_FAILED;
        problem_set(&j->why, f->err, -1, "%s", problem_text(&f->problem));
    }
    llm_job_tick(j);
}

// No fate: the app is being built again (then on_reset follows), or this batch could not be decided. It is not known to be harmless to
// send it twice.
static void batch_lost(struct llm_job *j, bool was_end, int err)
{
    if (app_state(j->app) == APP_RECOVERING) return;
    llm_job_end(j, JOB_FAILED, err, err_text(err));
    llm_reply_drop(j);
    if (!was_end) {
        llm_job_tick(j);
        return;
    }
    llm_sweep_again(j);
    llm_job_free(j);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct llm_job *j = (struct llm_job *)s;
    bool was_end = j->made == BATCH_END;
    size_t sent = f->err == 0 ? j->sending : 0;
    j->on_its_way = false;
    j->made = BATCH_NONE;
    j->sending = 0;
    if (sent > 0) buf_consume(&j->out, sent);
    if (f->err != 0 && !f->journaled) {
        batch_lost(j, was_end, f->err);
    } else if (was_end) {
        if (f->err == 0)
            job_over(j);
        else
            end_rejected(j, f);
    } else if (f->err != 0) {
        bytes_rejected(j, f);
    } else {
        j->record.state = j->made_state;
        if (j->leaving) {
            llm_job_free(j);
            return;
        }
        if (j->call != NULL) call_resume(j->call);
        llm_job_tick(j);
    }
}

// ---- the story of a job ---------------------------------------------------------------------------------------------

static void submit(struct llm_job *j)
{
    if (j->batch.err != 0) { // memory alone can be the reason, for everything in it is bounded: the next tick tries its end
        j->made = BATCH_NONE;
        j->sending = 0;
        llm_job_end(j, JOB_FAILED, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    j->submission = (struct submission){.identity = j->record.identity, .request = buf_span(&j->batch), .done = on_fate};
    // A refusal passes (the app has too much to do), or on_reset comes: until then the batch waits for a tick.
    j->on_its_way = app_submit(j->app, &j->submission) == 0;
}

static size_t whole_bytes(const struct llm_job *j)
{
    size_t partial = j->record.form == LLM_FORM_RAW ? llm_parser_partial(j->parser) : 0;
    return partial < j->out.n ? j->out.n - partial : 0;
}

void llm_job_tick(struct llm_job *j)
{
    if (j->on_its_way || !j->begun) return;
    if (j->made == BATCH_NONE) {
        buf_clear(&j->batch);
        if (j->ending != 0) {
            llm_reply_abandon(j);
            if (j->farewell != NULL && !j->llm->stopping && clock_mono_us() / 1000 < j->parting_ms) return;
            make_end(j);
        } else if (j->visible && whole_bytes(j) > 0) {
            make_bytes(j, whole_bytes(j));
            j->progress_kept |= j->progress_due;
            j->progress_due = false;
        } else if (j->progress_due && j->out.n == 0) {
            put_step(j, j->record.state, true);
            j->progress_kept = true;
            j->progress_due = false;
        } else if (j->record.state == JOB_QUEUED && j->called_ms != 0) {
            put_columns(j, JOB_CONNECTING, false, SPAN_NONE);
            put_step(j, JOB_CONNECTING, false);
        } else {
            return;
        }
    }
    submit(j);
}

// The app is built again, or closed: its state may be without our last batch, or with it. The job is looked at by a sweep when the app is
// back.
static void on_reset(struct app_user *u, int err)
{
    struct llm_job *j = (struct llm_job *)((char *)u - offsetof(struct llm_job, user));
    if (err == ERR_SHUTTING_DOWN && app_state(j->app) != APP_RECOVERING) {
        if (can_wait(j))
            leave(j);
        else
            llm_job_interrupt(j, err); // leaves when its last batch is durable
        return;
    }
    assert(!j->on_its_way); // the app has answered everything
    llm_sweep_again(j);
    llm_job_free(j);
}
