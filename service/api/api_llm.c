// POST /apps/<app>/llm/jobs, GET and DELETE /apps/<app>/llm/jobs/<id>: calls to LLM providers, made by the service (PROTOCOL.md, "LLM
// jobs"). The reply to a POST is that the job is durable: the client may go away then.
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "llm.h"

// A job on its way to be made. Lives until its request and its submission are through.
struct post {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct llm_job *job;          // until it begins
    struct buf encoded, body, scratch;
    struct jr_tree *tree;
    struct job record;
    bool submitted;
};

static void post_free(struct post *post)
{
    llm_job_free(post->job);
    jr_free(post->tree);
    buf_free(&post->encoded);
    buf_free(&post->body);
    buf_free(&post->scratch);
    free(post);
}

// ---- the request ----------------------------------------------------------------------------------------------------

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const known[] = {"job", "provider", "request", "target", "status",
                                        "usage", "insert", "api", "form", "background", "on_restart"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(key, known[i])) return 0;
    return problem_set(ctx, ERR_BAD_REQUEST, -1, "a job has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

// Left out, or a name that can be one.
static int get_name(const struct jr *object, const char *key, bool needed, struct span *out, struct problem *p)
{
    const struct jr *value = jr_get(object, key);
    *out = jr_str(value);
    if (value == NULL && !needed) return 0;
    if (out->n > 0 && out->n <= NAME_MAX_BYTES) return 0;
    return problem_set(p, ERR_BAD_REQUEST, -1, "\"%s\" is not a name", key);
}

// A UUID, or a new one where it may be left out.
static int get_uuid(const struct jr *object, const char *key, bool needed, struct uuid *out, struct problem *p)
{
    const struct jr *value = jr_get(object, key);
    if (value == NULL && !needed) {
        *out = uuid_new();
        return 0;
    }
    return uuid_parse(out, jr_str(value)) == 0 ? 0 : problem_set(p, ERR_BAD_REQUEST, -1, "\"%s\" is not a UUID", key);
}

// A row's column, or a stream of the job's own.
static int get_target(const struct jr *root, struct job *j, struct problem *p)
{
    const struct jr *target = jr_get(root, "target");
    if (jr_type(target) != JR_OBJECT) return problem_set(p, ERR_BAD_REQUEST, -1, "\"target\" is not an object");
    if (jr_get(target, "stream") == NULL) {
        int err = get_name(target, "table", true, &j->table, p);
        if (err == 0) err = get_uuid(target, "id", jr_get(root, "insert") == NULL, &j->row, p);
        if (err == 0) err = get_name(target, "column", true, &j->column, p);
        return err;
    }
    j->path = jr_str(jr_get(target, "stream"));
    if (j->path.n == 0 || j->path.n > STREAM_PATH_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "\"stream\" is not the path of a stream");
    if (jr_count(target) > 1 || jr_get(root, "insert") != NULL || jr_get(root, "status") != NULL || jr_get(root, "usage") != NULL)
        return problem_set(p, ERR_BAD_REQUEST, -1, "a stream has no row and no columns");
    return 0;
}

// How the provider is spoken to, and what becomes of its reply.
static int get_manner(const struct jr *root, struct job *j, struct problem *p)
{
    const struct jr *api = jr_get(root, "api"), *form = jr_get(root, "form"), *background = jr_get(root, "background");
    const struct jr *restart = jr_get(root, "on_restart");
    enum llm_api a = 0;
    enum llm_form f = LLM_FORM_TEXT;
    if (api != NULL && !llm_api_parse(&a, jr_str(api))) return problem_set(p, ERR_BAD_REQUEST, -1, "\"api\" is chat, responses or messages");
    if (form != NULL && !llm_form_parse(&f, jr_str(form)))
        return problem_set(p, ERR_BAD_REQUEST, -1, "\"form\" is text, messages, raw or ui");
    if (background != NULL && jr_type(background) != JR_BOOL) return problem_set(p, ERR_BAD_REQUEST, -1, "\"background\" is true or false");
    if (restart != NULL && !span_is(jr_str(restart), "fork") && !span_is(jr_str(restart), "interrupt"))
        return problem_set(p, ERR_BAD_REQUEST, -1, "\"on_restart\" is interrupt or fork");
    j->api = (uint8_t)a;
    j->form = (uint8_t)f;
    j->background = jr_bool(background, false);
    j->fork = span_is(jr_str(restart), "fork");
    if (j->path.n == 0 && f != LLM_FORM_TEXT) return problem_set(p, ERR_BAD_REQUEST, -1, "the column of a row takes the form \"text\" alone");
    if (j->path.n == 0 && j->fork) return problem_set(p, ERR_BAD_REQUEST, -1, "a row's column has no forks");
    return 0;
}

static int get_record(const struct jr *root, struct job *j, struct problem *p)
{
    if (jr_type(root) != JR_OBJECT) return problem_set(p, ERR_BAD_REQUEST, -1, "a job is a JSON object");
    int err = jr_each(root, check_member, p);
    if (err == 0) err = get_uuid(root, "job", false, &j->id, p);
    if (err == 0) err = get_name(root, "provider", false, &j->provider, p);
    if (err == 0) err = get_target(root, j, p);
    if (err == 0) err = get_manner(root, j, p);
    if (err == 0) err = get_name(root, "status", false, &j->status_column, p);
    if (err == 0) err = get_name(root, "usage", false, &j->usage_column, p);
    if (err == 0 && j->status_column.n > 0 && span_equal(j->status_column, j->usage_column))
        err = problem_set(p, ERR_BAD_REQUEST, -1, "\"status\" and \"usage\" are one column");
    return err;
}

// What the service sets itself.
static int check_own(void *ctx, struct span key, const struct jr *value)
{
    static const char *const refused[] = {"stream", "stream_options", "background"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (span_is(key, refused[i]))
            return problem_set(ctx, ERR_BAD_REQUEST, -1, "the request must not have the member \"%s\"", refused[i]);
    if (span_is(key, "n") && jr_int(value, 0) != 1) return problem_set(ctx, ERR_BAD_REQUEST, -1, "the request must ask for one choice");
    return 0;
}

// What would make an answer that is more than text: refused where only that is kept, because the rest would be lost.
static int check_text(void *ctx, struct span key, const struct jr *value)
{
    static const char *const refused[] = {"tools", "tool_choice", "functions", "function_call", "modalities", "audio"};
    (void)value;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (span_is(key, refused[i]))
            return problem_set(ctx, ERR_BAD_REQUEST, -1, "a reply as text must not have the member \"%s\": ask for the form \"messages\"", refused[i]);
    return 0;
}

static void put_json(struct jw *w, const struct jr *value);

static int put_member(void *ctx, struct span key, const struct jr *value)
{
    jw_key_span(ctx, key);
    put_json(ctx, value);
    return 0;
}

// As it came, with its members in their order: models answer in the order of a schema's properties.
static void put_json(struct jw *w, const struct jr *value)
{
    switch (jr_type(value)) {
    case JR_ABSENT:
    case JR_NULL: jw_null(w); break;
    case JR_BOOL: jw_bool(w, jr_bool(value, false)); break;
    case JR_INT: jw_int(w, jr_int(value, 0)); break;
    case JR_REAL: jw_double(w, jr_real(value, 0)); break;
    case JR_STRING: jw_str(w, jr_str(value)); break;
    case JR_ARRAY:
        jw_array(w);
        for (size_t i = 0; i < jr_count(value); i++)
            put_json(w, jr_at(value, i));
        jw_end(w);
        break;
    case JR_OBJECT:
        jw_object(w);
        jr_each(value, put_member, w);
        jw_end(w);
        break;
    }
}

static int make_body(struct post *post, const struct jr *request, struct problem *p)
{
    const struct job *j = &post->record;
    struct jw w;
    if (jr_type(request) != JR_OBJECT) return problem_set(p, ERR_BAD_REQUEST, -1, "\"request\" is not an object");
    int err = jr_each(request, check_own, p);
    if (err == 0 && j->form == LLM_FORM_TEXT) err = jr_each(request, check_text, p);
    if (err == 0 && j->background && j->api != LLM_RESPONSES)
        err = problem_set(p, ERR_BAD_REQUEST, -1, "only \"responses\" can go on in the background");
    if (err != 0) return err;
    jw_init(&w, &post->body);
    jw_object(&w);
    jr_each(request, put_member, &w);
    jw_key(&w, "stream"), jw_bool(&w, true);
    if (j->api == LLM_CHAT) jw_key(&w, "stream_options"), jw_raw(&w, SPAN_LIT("{\"include_usage\":true}"));
    if (j->background) jw_key(&w, "background"), jw_bool(&w, true);
    jw_end(&w);
    return post->body.err;
}

// ---- its batch ------------------------------------------------------------------------------------------------------

struct columns {
    struct post *post;
    struct row_column *list;
    size_t count;
    struct problem *p;
};

static int get_column(void *ctx, struct span key, const struct jr *value)
{
    struct columns *c = ctx;
    struct row_column *column = &c->list[c->count++];
    column->name = key;
    if (key.n == 0 || key.n > NAME_MAX_BYTES) return problem_set(c->p, ERR_BAD_REQUEST, -1, "a column name is empty or too long");
    return batch_value_from_json(value, &c->post->scratch, &column->value);
}

static int put_insert(struct post *post, const struct jr *values, size_t text_bytes, struct problem *p)
{
    const struct job *j = &post->record;
    if (jr_type(values) != JR_OBJECT || jr_count(values) > COLUMNS_MAX)
        return problem_set(p, ERR_BAD_REQUEST, -1, "\"insert\" is not an object of columns");
    // The scratch must not move while values point into it.
    buf_init(&post->scratch, 4 * text_bytes);
    if (buf_reserve(&post->scratch, post->scratch.max) == NULL) return ERR_NOMEM;
    struct row_column list[COLUMNS_MAX];
    struct columns columns = {.post = post, .list = list, .p = p};
    int err = jr_each(values, get_column, &columns);
    if (err != 0) return err;
    batch_put_op(
        &post->encoded,
        &(struct batch_op){
            .kind = BATCH_INSERT,
            .row = {.kind = ROW_INSERT, .table = j->table, .has_id = true, .id = j->row, .columns = list, .column_count = columns.count}});
    return post->encoded.err;
}

// From its first commit on the row says how its job stands; and a column that could not be set later is refused now.
static void put_columns(struct post *post)
{
    const struct job *j = &post->record;
    struct row_column list[2];
    size_t n = 0;
    if (j->status_column.n > 0)
        list[n++] =
            (struct row_column){.name = j->status_column, .value = {.kind = ROW_TEXT, .s = SPAN_STR(job_state_name(llm_job_state(post->job)))}};
    if (j->usage_column.n > 0) list[n++] = (struct row_column){.name = j->usage_column, .value = {.kind = ROW_NULL}};
    if (n == 0) return;
    batch_put_op(&post->encoded,
                 &(struct batch_op){
                     .kind = BATCH_UPDATE,
                     .row = {.kind = ROW_UPDATE, .table = j->table, .has_id = true, .id = j->row, .columns = list, .column_count = n}});
}

// ---- POST -----------------------------------------------------------------------------------------------------------

static void put_uuid(struct jw *w, const char *key, struct uuid id)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    jw_key(w, key), jw_str(w, SPAN(text, UUID_TEXT));
}

static void put_stream(struct jw *w, const struct job *j)
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    job_path(&path, j);
    jw_key(w, "stream"), jw_str(w, buf_span(&path));
}

// `seq` 0: it was made before, by the same request.
static void reply_made(struct request *r, const struct job *j, uint64_t seq)
{
    char id[UUID_TEXT];
    struct buf b;
    struct jw w;
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    put_uuid(&w, "job", j->id);
    if (j->path.n == 0) put_uuid(&w, "id", j->row);
    put_stream(&w, j);
    if (seq != 0)
        jw_key(&w, "seq"), jw_uint(&w, seq);
    else
        jw_key(&w, "again"), jw_bool(&w, true);
    jw_end(&w);
    uuid_format(j->id, id);
    reply_start(r, 202);
    reply_header(r, "Location", "/apps/%s/llm/jobs/%.*s", app_name(r->app), UUID_TEXT, id);
    reply_body(r, "application/json", buf_span(&b));
    buf_free(&b);
}

// A retry of the request that made this job?
static bool was_made(struct request *r, const struct post *post, struct job *found)
{
    return app_job(r->app, post->record.id, found) == 1 && sha256_equal(&found->request, &post->record.request) &&
           found->identity.kind == r->identity.kind;
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct post *post = (struct post *)s;
    struct request *r = post->r;
    struct llm_job *job = post->job;
    struct job found;
    post->submitted = false;
    if (f->err == 0) {
        post->job = NULL;
        llm_job_begin(job);
    }
    if (r == NULL) {
        post_free(post);
        return;
    }
    if (f->err == 0)
        reply_made(r, &post->record, f->seq);
    else if (f->journaled && was_made(r, post, &found))
        reply_made(r, &found, 0);
    else
        reply_fate_problem(r, f);
}

static int may_write(const struct request *r, const struct job *j)
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    job_path(&path, j);
    return may(server_auth(r->server), &r->identity, MAY_WRITE_BATCH, SPAN_STR(app_name(r->app)), buf_span(&path));
}

static int make(struct request *r, struct post *post, struct problem *p)
{
    int err = jr_parse(&post->tree, buf_span(&r->body), p);
    if (err != 0) return err;
    const struct jr *root = jr_root(post->tree);
    struct job *j = &post->record;
    struct job found;
    err = get_record(root, j, p);
    if (err != 0) return err;
    j->request = sha256_of(buf_span(&r->body));
    j->identity = r->identity;
    // The door was for calls; what they write has one of its own.
    err = may_write(r, j);
    if (err != 0) return err;
    if (was_made(r, post, &found)) {
        reply_made(r, &found, 0);
        return 0;
    }
    enum llm_api api = LLM_CHAT;
    const char *provider = llm_provider(server_llm(r->server), j->provider, &api);
    if (provider == NULL) return problem_set(p, ERR_NO_SUCH_PROVIDER, -1, "no provider is called \"%.*s\"", SPAN_FMT(j->provider));
    j->provider = SPAN_STR(provider);
    if (j->api == 0) j->api = (uint8_t)api;
    err = make_body(post, jr_get(root, "request"), p);
    if (err == 0 && jr_get(root, "insert") != NULL) err = put_insert(post, jr_get(root, "insert"), r->body.n, p);
    if (err == 0) err = llm_job_new(&post->job, server_llm(r->server), r->app, j, buf_span(&post->body), p);
    buf_free(&post->body);
    if (err != 0) return err;
    put_columns(post);
    llm_job_batch(post->job, &post->encoded);
    if (post->encoded.err != 0) return post->encoded.err;
    post->submission = (struct submission){.identity = r->identity, .request = buf_span(&post->encoded), .inserts = true, .done = on_fate};
    err = app_submit(r->app, &post->submission);
    post->submitted = err == 0;
    return err;
}

static void jobs_post(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct post *post = calloc(1, sizeof *post);
    if (post == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = post;
    post->r = r;
    // What an app takes, and room for the end of a job that comes with this one made again (llm_sweep.c).
    buf_init(&post->encoded, ENTRY_BYTES_MAX / 2 - 64 * KIB);
    // An escape of six bytes may come out as six bytes again, numbers as up to 24.
    buf_init(&post->body, 8 * LLM_REQUEST_MAX);
    int err = make(r, post, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void jobs_post_done(struct request *r)
{
    struct post *post = r->data;
    if (post == NULL) return;
    post->r = NULL;
    if (!post->submitted) post_free(post);
}

// ---- GET ------------------------------------------------------------------------------------------------------------

static void put_target(struct jw *w, const struct job *j)
{
    jw_key(w, "target"), jw_object(w);
    if (j->path.n > 0) {
        jw_key(w, "stream"), jw_str(w, j->path);
        jw_end(w);
        return;
    }
    jw_key(w, "table"), jw_str(w, j->table);
    put_uuid(w, "id", j->row);
    jw_key(w, "column"), jw_str(w, j->column);
    jw_end(w);
}

static void put_end(struct jw *w, const struct job *j)
{
    jw_key(w, "ended"), jw_time_ms(w, (int64_t)j->ended_ms);
    if (j->err != 0) {
        jw_key(w, "error"), jw_object(w);
        jw_key(w, "code"), jw_cstr(w, err_wire(j->err));
        jw_key(w, "detail"), jw_str(w, j->text);
        if (j->status != 0) jw_key(w, "status"), jw_uint(w, j->status);
        jw_end(w);
    }
    jw_key(w, "finish_reason");
    if (j->finish.n > 0)
        jw_str(w, j->finish);
    else
        jw_null(w);
    jw_key(w, "usage");
    if (j->usage.n > 0)
        jw_raw(w, j->usage);
    else
        jw_null(w);
}

static void reply_job(struct request *r, const struct job *j)
{
    struct buf b;
    struct jw w;
    buf_init(&b, 32 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    put_uuid(&w, "job", j->id);
    jw_key(&w, "state"), jw_cstr(&w, job_state_name(j->state));
    jw_key(&w, "provider"), jw_str(&w, j->provider);
    put_target(&w, j);
    put_stream(&w, j);
    jw_key(&w, "api"), jw_cstr(&w, llm_api_name((enum llm_api)j->api));
    jw_key(&w, "form"), jw_cstr(&w, llm_form_name((enum llm_form)j->form));
    jw_key(&w, "created"), jw_time_ms(&w, (int64_t)j->created_ms);
    if (j->begun_ms != 0) jw_key(&w, "begun"), jw_time_ms(&w, (int64_t)j->begun_ms);
    if (j->first_ms != 0) jw_key(&w, "first_token"), jw_time_ms(&w, (int64_t)j->first_ms);
    if (j->successor.n > 0) {
        jw_key(&w, "continued_in"), jw_str(&w, j->successor);
        put_uuid(&w, "continued_by", j->heir);
    }
    if (!job_is_live(j->state)) put_end(&w, j);
    jw_end(&w);
    if (b.err != 0)
        reply_error(r, b.err);
    else
        reply_json(r, 200, &b);
    buf_free(&b);
}

static int find(struct request *r, struct job *j)
{
    struct uuid id;
    if (uuid_parse(&id, r->path) != 0) return ERR_NO_SUCH_JOB;
    int found = app_job(r->app, id, j);
    return found == 0 ? ERR_NO_SUCH_JOB : found < 0 ? found : 0;
}

static void job_get(struct request *r)
{
    struct job j;
    int err = find(r, &j);
    if (err != 0)
        reply_error(r, err);
    else
        reply_job(r, &j);
}

// ---- DELETE ---------------------------------------------------------------------------------------------------------

struct cancel {
    struct llm_waiter waiter; // first
    struct request *r;
};

// The job's end is durable, or the app is built again: then the client is asked to come back.
static void on_over(struct llm_waiter *w)
{
    struct cancel *c = (struct cancel *)w;
    struct job j;
    int err = find(c->r, &j);
    if (err == 0 && job_is_live(j.state)) err = ERR_BUSY;
    if (err != 0)
        reply_error(c->r, err);
    else
        reply_job(c->r, &j);
}

static void job_delete(struct request *r)
{
    struct job j;
    int err = find(r, &j);
    struct cancel *c = err == 0 && job_is_live(j.state) ? calloc(1, sizeof *c) : NULL;
    if (err == 0 && !job_is_live(j.state)) {
        reply_job(r, &j); // it has ended, whatever its end
        return;
    }
    if (err == 0 && c == NULL) err = ERR_NOMEM;
    if (err == 0) {
        r->data = c;
        c->r = r;
        c->waiter.over = on_over;
        err = llm_cancel(server_llm(r->server), r->app, j.id, &c->waiter);
    }
    if (err != 0) reply_error(r, err);
}

static void job_delete_done(struct request *r)
{
    struct cancel *c = r->data;
    if (c == NULL) return;
    llm_waiter_remove(&c->waiter);
    free(c);
}

const struct handler api_llm_post = {.begin = jobs_post, .done = jobs_post_done, .body_max = LLM_REQUEST_MAX};
const struct handler api_llm_get = {.begin = job_get};
const struct handler api_llm_delete = {.begin = job_delete, .done = job_delete_done};
