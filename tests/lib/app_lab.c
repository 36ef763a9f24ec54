#include "app_lab.h"

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app_internal.h" // to let time pass
#include "err.h"
#include "flights.h"
#include "preview.h"
#include "llm_event.h"
#include "tmp.h"

void app_lab_init(struct app_lab *l)
{
    *l = (struct app_lab){.folder = tmp_make()};
    l->path = tmp_path(l->folder, "app");
    l->options = (struct app_options){.name = "default", .db_map_bytes = 256 * MIB, .journal_segment_bytes = LAB_SEGMENT, .retry_ms = 5};
    if (getenv("SEGUE_LAB_FLIGHTS") != NULL) flights_thread(&l->options);
}

static void on_visible(void *host, struct app *a)
{
    (void)a;
    struct hub *hub = host;
    while (hub->first != NULL) // a run ends behind a reader who has more to do
        hub_run(hub);
}

void app_lab_wake(struct app_lab *l, struct hub *hub)
{
    l->options.host = hub;
    l->options.visible = on_visible;
}

void app_lab_open(struct app_lab *l)
{
    struct problem p = PROBLEM_NONE;
    l->options.path = l->path;
    int err = app_open(&l->app, &l->options, &p);
    if (err == 0) return;
    fprintf(stderr, "cannot open the app: %s (%s)\n", err_wire(err), p.text);
    abort();
}

void app_lab_close(struct app_lab *l)
{
    app_close(l->app);
    l->app = NULL;
}

void app_lab_free(struct app_lab *l)
{
    app_lab_close(l);
    lab_batch_free(&l->last);
    free(l->path);
    tmp_remove(l->folder);
}

void app_lab_reopen(struct app_lab *l)
{
    app_lab_close(l);
    app_lab_open(l);
}

// ---- folders -------------------------------------------------------------------------------------------------------

static const char *copy_from, *copy_to; // nftw has no context

static void copy_file(const char *from, const char *to)
{
    static char block[64 * 1024];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, block, sizeof block)) != 0;)
        if (n < 0 || write(out, block, (size_t)n) != n) abort();
    close(in);
    close(out);
}

static int copy_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)ftw;
    char *to = NULL;
    if (asprintf(&to, "%s%s", copy_to, path + strlen(copy_from)) < 0) abort();
    if (type == FTW_D && mkdir(to, 0700) != 0) abort();
    if (type == FTW_F) copy_file(path, to);
    free(to);
    return 0;
}

void folder_copy(const char *from, const char *to)
{
    copy_from = from;
    copy_to = to;
    if (nftw(from, copy_one, 16, FTW_PHYS) != 0) abort();
}

void folder_remove(const char *path)
{
    tmp_remove(strdup(path));
}

void app_lab_fork(struct app_lab *l, struct app_lab *copy)
{
    app_lab_init(copy);
    copy->options = l->options;
    folder_copy(l->path, copy->path);
    app_lab_open(copy);
}

// ---- batches -------------------------------------------------------------------------------------------------------

char *lab_json(const char *text)
{
    char *json = strdup(text);
    for (char *c = json; *c != '\0'; c++)
        if (*c == '\'') *c = '"';
    return json;
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct lab_batch *b = (struct lab_batch *)s;
    b->done = true;
    b->calls++;
    b->readable = app_txn(b->app) != NULL;
    b->fate = *f;
    buf_put_span(&b->results, f->results);
    b->fate.results = buf_span(&b->results);
}

static void batch_init(struct lab_batch *b)
{
    *b = (struct lab_batch){.submission = {.done = on_fate, .identity = {IDENTITY_ADMIN, "admin"}}};
    buf_init(&b->request, ENTRY_BYTES_MAX / 2);
    buf_init(&b->results, ENTRY_BYTES_MAX);
}

void lab_batch_free(struct lab_batch *b)
{
    assert(b->submission.done == NULL || b->calls <= 1);
    if (b->submission.done == NULL) return;
    buf_free(&b->request);
    buf_free(&b->results);
    *b = (struct lab_batch){0};
}

static int send(struct app_lab *l, struct lab_batch *b)
{
    b->app = l->app;
    b->submission.request = buf_span(&b->request);
    int err = app_submit(l->app, &b->submission);
    if (err != 0) lab_batch_free(b);
    return err;
}

int lab_submit(struct app_lab *l, struct lab_batch *b, const char *json)
{
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    char *text = lab_json(json);
    batch_init(b);
    int err = batch_from_json(SPAN_STR(text), &head, &b->request, &p);
    if (err != 0) {
        fprintf(stderr, "%s: %s\n", text, p.text);
        abort();
    }
    free(text);
    b->submission.name = head.name;
    b->submission.base = head.base;
    b->submission.stamp = head.stamp;
    b->submission.inserts = head.inserts;
    return send(l, b);
}

static int turn(struct app_lab *l)
{
    while (app_pending(l->app))
        app_turn(l->app);
    assert(l->last.done && l->last.calls == 1);
    return l->last.fate.err;
}

int lab_run(struct app_lab *l, const char *json, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, json);
    if (vasprintf(&text, json, args) < 0) abort();
    va_end(args);
    lab_batch_free(&l->last);
    int err = lab_submit(l, &l->last, text);
    free(text);
    return err != 0 ? err : turn(l);
}

int lab_ops(struct app_lab *l, const struct batch_op *ops, size_t count, const char *key)
{
    lab_batch_free(&l->last);
    batch_init(&l->last);
    for (size_t i = 0; i < count; i++) {
        batch_put_op(&l->last.request, &ops[i]);
        l->last.submission.inserts |= ops[i].kind == BATCH_INSERT;
    }
    if (key != NULL) {
        l->last.submission.name.kind = BATCH_KEY;
        strcpy(l->last.submission.name.key, key);
    }
    int err = send(l, &l->last);
    return err != 0 ? err : turn(l);
}

int lab_schema(struct app_lab *l, const char *sql)
{
    return lab_ops(l, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = SPAN_STR(sql)}, 1, NULL);
}

static int upload(struct app_lab *l, struct blob_upload *u, struct span content)
{
    int err = blobs_upload_chunk(u, content, true);
    if (err == 0) err = blobs_upload_place(u, app_txn(l->app));
    if (err == 0) err = blobs_upload_write(u);
    return err == 0 ? blobs_upload_sync(u) : err;
}

int lab_blob(struct app_lab *l, struct span content, const char *type, struct sha256 *digest)
{
    struct blob_upload *u;
    struct batch_op op = {.kind = BATCH_BLOB, .blob = {.type = SPAN_STR(type)}};
    struct buf manifest;
    uint64_t size;
    int err = app_txn(l->app) == NULL ? ERR_BUSY : blobs_upload_open(app_blobs(l->app), &u);
    if (err != 0) return err;
    buf_init(&manifest, MIB);
    err = upload(l, u, content);
    if (err == 0) {
        blobs_upload_result(u, &op.blob.digest, &size, &manifest);
        op.blob.manifest = buf_span(&manifest);
        *digest = op.blob.digest;
        lab_batch_free(&l->last);
        batch_init(&l->last);
        batch_put_op(&l->last.request, &op);
        err = send(l, &l->last);
    }
    // The places it took in the packs are its own until the batch is decided.
    bool sent = err == 0;
    while (sent && app_pending(l->app) && app_state(l->app) == APP_READY && !l->last.done) {
        struct app *a = l->app;
        app_turn(a);
    }
    blobs_upload_close(u);
    buf_free(&manifest);
    return sent ? l->last.fate.err : err;
}

// ---- time ----------------------------------------------------------------------------------------------------------

int lab_seal(struct app_lab *l)
{
    int failed = 0;
    for (struct streams_seal *job; failed == 0 && (job = app_seal_begin(l->app)) != NULL;) {
        failed = streams_seal_write(job);
        app_seal_end(l->app, job, failed);
    }
    return failed;
}

bool lab_commit_db(struct app_lab *l)
{
    uint64_t before = app_counts(l->app).db_commits;
    l->app->dirty_since_ms = 0; // long ago
    app_tick(l->app);
    return app_counts(l->app).db_commits > before;
}

void lab_settle(struct app_lab *l)
{
    for (int i = 0; i < 2; i++) {
        lab_commit_db(l);
        app_tick(l->app);
    }
}

bool lab_recover(struct app_lab *l)
{
    for (int i = 0; i < 400; i++) {
        app_tick(l->app);
        if (app_state(l->app) == APP_READY) return true;
        usleep(2000);
    }
    return false;
}

// ---- looking -------------------------------------------------------------------------------------------------------

struct sink {
    struct feed_sink sink; // first
    struct buf *out;
    bool any;
};

static int emit(struct feed_sink *sink, struct bytes *value)
{
    struct sink *s = (struct sink *)sink;
    if (s->any) buf_put_str(s->out, ",");
    buf_put_span(s->out, bytes_span(value));
    s->any = true;
    return s->out->err;
}

static int query_rows(struct app_lab *l, const char *sql, const struct query_source *source, struct buf *out)
{
    struct problem p = PROBLEM_NONE;
    struct query *q = NULL;
    struct query_run *run = NULL;
    struct sink sink = {.sink = {.emit = emit}, .out = out};
    bool done = false;
    int err = query_compile(app_rows(l->app), SPAN_STR(sql), NULL, 0, &q, &p);
    if (err == 0) err = query_open_source(app_rows(l->app), app_txn(l->app), q, source, &run, &p);
    buf_put_str(out, "[");
    while (err == 0 && !done)
        err = query_next(run, app_txn(l->app), 1000, &sink.sink, &done);
    buf_put_str(out, "]");
    query_close(run);
    query_unref(q);
    if (err != 0) fprintf(stderr, "%s: %s (%s)\n", sql, err_wire(err), p.text);
    return err;
}

int lab_query(struct app_lab *l, const char *sql, uint64_t at, struct buf *out)
{
    return query_rows(l, sql, &(struct query_source){.at = at}, out);
}

int lab_branch_query(struct app_lab *l, const char *branch, const char *sql, uint64_t at, struct buf *out)
{
    struct rows_preview *v = NULL;
    struct branch b;
    int err = app_branch(l->app, SPAN_STR(branch), &b);
    if (err == 0) err = app_branch_preview_at(l->app, &b, at, &v, NULL);
    if (err == 0) err = query_rows(l, sql, &(struct query_source){.at = b.live ? at : b.base, .overlay = rows_preview_overlay(v)}, out);
    rows_preview_free(v);
    return err;
}

static bool says(const struct buf *b, const char *text)
{
    if (span_is(buf_span(b), text)) return true;
    fprintf(stderr, "not %s but %.*s\n", text, SPAN_FMT(buf_span(b)));
    return false;
}

bool lab_rows_are(struct app_lab *l, const char *sql, const char *rows)
{
    struct buf out;
    char *text = lab_json(rows);
    buf_init(&out, 64 * MIB);
    bool same = lab_query(l, sql, app_visible(l->app), &out) == 0 && says(&out, text);
    buf_free(&out);
    free(text);
    return same;
}

int lab_stream(struct app_lab *l, const char *path, struct buf *out)
{
    struct stream_info info;
    if (!streams_find(app_streams(l->app), app_txn(l->app), SPAN_STR(path), &info)) return ERR_NO_SUCH_STREAM;
    int err = 0;
    for (uint64_t at = 0; err == 0 && at < info.offset;) {
        size_t before = out->n;
        err = streams_read(app_streams(l->app), app_txn(l->app), SPAN_STR(path), at, MIB, out);
        at += out->n - before;
    }
    return err;
}

bool lab_stream_is(struct app_lab *l, const char *path, const char *text)
{
    struct buf out;
    buf_init(&out, 64 * MIB);
    int err = lab_stream(l, path, &out);
    bool same = err == 0 && says(&out, text);
    if (err != 0) fprintf(stderr, "%s: %s\n", path, err_wire(err));
    buf_free(&out);
    return same;
}

void lab_hash(struct app_lab *l, char out[65])
{
    struct sha256 hash;
    if (app_state_hash(l->app, &hash) != 0) abort();
    hex_format(out, SPAN(hash.b, SHA256_BYTES));
    out[64] = '\0';
}

// ---- a workload ----------------------------------------------------------------------------------------------------

const char lab_workload_schema[] = "create table chats (title text not null);"
                                   "create table messages (chat uuid not null references chats, body stream, status text not null default 'streaming',"
                                   " tokens bigint, score double, done boolean, at timestamptz default now(), meta jsonb, image blob);"
                                   "create type mood as enum ('sad', 'ok');"
                                   "create table tallies (name text unique, n counter, top integer options (merge 'max'), tags text[] options (merge 'set'),"
                                   " mood mood default 'ok', check (top < 1000000));"
                                   "create table marks (tally uuid references tallies on delete cascade, spare uuid references tallies on delete set null);"
                                   "create index by_top on tallies (top desc, name) where top > 10;";

#define CHAT_ID "01890a5d-ac96-774b-bcce-%012x"

static void workload_id(char out[37], unsigned kind, unsigned n)
{
    snprintf(out, 37, CHAT_ID, (kind << 24) + n);
}

static int workload_blob(struct app_lab *l, unsigned i)
{
    struct sha256 digest;
    char hex[65] = {0}, text[4096], id[37], chat[37];
    for (size_t n = 0; n < sizeof text; n++)
        text[n] = (char)('a' + (n * (i + 3) + n / 7) % 26);
    int err = lab_blob(l, SPAN(text, 1000 + i * 13 % 3000), "image/png", &digest);
    if (err != 0) return err;
    hex_format(hex, SPAN(digest.b, SHA256_BYTES));
    workload_id(id, 2, i);
    workload_id(chat, 1, 0);
    return lab_run(l, "{'key':'blob-%u','ops':[{'op':'insert','table':'messages','id':'%s','values':{'chat':'%s','image':{'blob':'%s'}}}]}", i, id, chat, hex);
}

// A step of a job that writes a message's body.
static int workload_job(struct app_lab *l, unsigned i, const char *message, enum job_state state)
{
    struct batch_op op = {.kind = BATCH_JOB, .job = {.make = state == JOB_CONNECTING, .state = state, .api = LLM_CHAT, .form = LLM_FORM_TEXT, .provider = SPAN_LIT("local"), .table = SPAN_LIT("messages"), .column = SPAN_LIT("body")}};
    op.job.status_column = SPAN_LIT("status");
    if (state == JOB_DONE) op.job.usage = SPAN_LIT("{\"output_tokens\":2}"), op.job.finish = SPAN_LIT("stop");
    memset(op.job.id.b, (int)(i / 12 + 1), sizeof op.job.id.b);
    memset(op.job.request.b, 7, SHA256_BYTES);
    if (uuid_parse(&op.job.row, SPAN_STR(message)) != 0) abort();
    return lab_ops(l, &op, 1, NULL);
}

// A transaction: every other one had read a row that came into being since.
static int workload_transaction(struct app_lab *l, unsigned i, const char *chat)
{
    char id[37], absent[37];
    workload_id(id, 4, i);
    workload_id(absent, 5, i);
    int err = lab_run(l, "{'key':'tx-%u','mode':'transaction','base':1,'rows':[['chats','%s']],'ops':[{'op':'insert','table':'chats','id':'%s','values':{'title':'tx'}}]}", i,
                      i % 24 == 5 ? chat : absent, id);
    return err == ERR_CONFLICT || err == ERR_TOO_OLD ? 0 : err;
}

// In rounds of four: a row that merges in every way is upserted twice, deleted with what refers to it, and comes back with that.
static int workload_tally(struct app_lab *l, unsigned i)
{
    char id[37], mark[37];
    workload_id(id, 6, 0);
    workload_id(mark, 7, i / 48);
    switch (i / 12 % 4) {
    case 0:
        return lab_run(l, "{'key':'tally-%u','ops':[{'op':'upsert','table':'tallies','id':'%s','values':{'name':'n%u','n':{'increment':%u},'top':%u,'tags':{'add':['a%u','b']}}},"
                          "{'op':'insert','table':'marks','id':'%s','values':{'tally':'%s'}},{'op':'insert','table':'marks','values':{'spare':'%s'}}]}", i, id, i, i, i % 50, i % 5, mark, id, id);
    case 1:
        return lab_run(l, "{'replica':'01890a5d-0000-774b-bcce-000000000002','counter':%u,'base':%llu,'stamp':%u,'ops':[{'op':'upsert','table':'tallies','id':'%s',"
                          "'values':{'mood':'sad','n':{'increment':-3},'top':%u,'tags':{'add':['c'],'remove':['b','c']}}}]}", i / 48 + 1, (unsigned long long)app_visible(l->app) - 3, i, id, i);
    case 2: return lab_run(l, "{'ops':[{'op':'delete','table':'tallies','id':'%s'}]}", id);
    default: return lab_run(l, "{'ops':[{'op':'restore','table':'tallies','id':'%s'},{'op':'restore','table':'marks','id':'%s'}]}", id, mark);
    }
}

// History reaches back some thirty commits.
static int workload_horizon(struct app_lab *l)
{
    struct batch_op op = {.kind = BATCH_HORIZON, .horizon = app_visible(l->app) > 30 ? app_visible(l->app) - 30 : 0};
    return op.horizon > 0 ? lab_ops(l, &op, 1, NULL) : 0;
}

// A branch that is written to, and merged twelve batches later; every third one is dropped.
static int workload_branch(struct app_lab *l, unsigned i)
{
    char name[20], before[20], id[37];
    snprintf(name, sizeof name, "b%u", i);
    snprintf(before, sizeof before, "b%u", i - 12);
    workload_id(id, 8, i);
    struct batch_op step = {.kind = BATCH_BRANCH, .branch = {.step = BRANCH_CREATE, .name = SPAN_STR(name), .live = i % 24 == 11}};
    int err = lab_ops(l, &step, 1, NULL);
    if (err == 0) err = lab_run(l, "{'branch':'%s','ops':[{'op':'insert','table':'chats','values':{'title':'no id'}},{'op':'insert','table':'chats','id':'%s','values':{'title':'from a branch'}}]}", name, id);
    if (err != 0 || i < 12) return err;
    step.branch = (struct batch_branch){.step = i % 36 == 35 ? BRANCH_DROP : i % 24 == 11 ? BRANCH_COMMIT : BRANCH_MERGE, .name = SPAN_STR(before)};
    err = lab_ops(l, &step, 1, NULL);
    return err == ERR_TOO_OLD ? 0 : err;
}

// One batch each, but for the blob's two, the job's steps, a transaction, merges, a branch and the horizon. What is returned is the fate; some are meant to be rejected.
int lab_workload(struct app_lab *l, unsigned i)
{
    char id[37], chat[37], old[37];
    workload_id(id, 2, i);
    workload_id(chat, 1, i / 12);
    workload_id(old, 2, i / 12 * 12 + 1);
    int err = i % 12 == 2   ? workload_job(l, i, old, JOB_CONNECTING)
              : i % 12 == 3 ? workload_job(l, i, old, JOB_STREAMING)
              : i % 12 == 9 ? workload_job(l, i, old, JOB_DONE)
              : i % 12 == 5 ? workload_transaction(l, i, chat)
              : i % 12 == 6 ? workload_tally(l, i)
              : i % 12 == 10 ? workload_horizon(l)
              : i % 12 == 11 ? workload_branch(l, i)
                            : 0;
    if (err != 0) return err;
    switch (i % 12) {
    case 0: return lab_run(l, "{'replica':'01890a5d-0000-774b-bcce-000000000001','counter':%u,'ops':[{'op':'insert','table':'chats','id':'%s','values':{'title':'chat %u'}}]}", i / 12 + 1, chat, i);
    case 1:
        return lab_run(l, "{'key':'begin-%u','ops':[{'op':'insert','table':'messages','id':'%s','values':{'chat':'%s','meta':{'n':[%u,1.5]},'score':0.25}},"
                          "{'op':'append','table':'messages','id':'%s','column':'body','text':'Hello'},{'op':'create','stream':'logs/%u','type':'text/plain'}]}", i, id, chat, i, id, i);
    case 2:
    case 3: return lab_run(l, "{'ops':[{'op':'append','table':'messages','id':'%s','column':'body','text':', token %u'},{'op':'append','stream':'logs/%u','base64':'AP8K'}]}", old, i, i / 12 * 12 + 1);
    case 4: return lab_run(l, "{'ops':[{'op':'append','stream':'logs/%u','text':'half'},{'op':'insert','table':'messages','values':{'status':'no chat'}}]}", i / 12 * 12 + 1);
    case 5: return lab_run(l, "{'key':'no-%u','ops':[{'op':'insert','table':'nowhere','values':{}}]}", i);
    case 6:
        return lab_run(l, "{'ops':[{'op':'insert','table':'messages','values':{'chat':'%s','status':'made here'}},{'op':'create','stream':'free/%u'},"
                          "{'op':'create','stream':'events/%u','type':'application/json','messages':[{'n':%u},2],'ttl':3600},"
                          "{'op':'append','stream':'events/%u','messages':[3],'seq':'a','producer':{'id':'p','epoch':0,'seq':0}},"
                          "{'op':'append','stream':'events/%u','messages':[3],'seq':'a','producer':{'id':'p','epoch':0,'seq':0}},"
                          "{'op':'create','stream':'fork/%u','fork':{'from':'logs/%u','offset':3,'sub':1},'text':'its own'}]}", chat, i, i, i, i, i, i, i / 12 * 12 + 1);
    case 7: return workload_blob(l, i);
    case 8: return lab_run(l, "{'base':1,'stamp':'115000000000000%03u','ops':[{'op':'update','table':'messages','id':'%s','values':{'tokens':%u,'status':'old'}},"
                          "{'op':'trim','stream':'events/%u','tail':true,'messages':[{'all':%u}]}]}", i % 1000, old, i, i / 12 * 12 + 6, i);
    case 9:
        return lab_run(l, "{'ops':[{'op':'update','table':'messages','id':'%s','values':{'status':'done','done':true,'tokens':%u}},{'op':'close','table':'messages','id':'%s','column':'body'},"
                          "{'op':'close','stream':'logs/%u'}]}", old, i, old, i / 12 * 12 + 1);
    case 10: return i % 24 == 10 ? lab_run(l, "{'ops':[{'op':'drop','stream':'free/%u'},{'op':'drop','stream':'logs/%u'}]}", i / 12 * 12 + 6, i / 12 * 12 + 1) : lab_run(l, "{'ops':[{'op':'append','stream':'free/%u','text':'x'}]}", i / 12 * 12 + 6);
    default: return i % 36 == 35 ? lab_run(l, "{'ops':[{'op':'delete','table':'messages','id':'%s'}]}", old) : lab_run(l, "{'ops':[{'op':'append','table':'messages','id':'%s','column':'body','text':'too late'}]}", old);
    }
}
