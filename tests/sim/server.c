// The engine's side of the world: questions, batches, turns, and what becomes of all that when the power goes off.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "app_internal.h" // to let its database be due for a commit
#include "batch_reads.h"
#include "disk.h"
#include "err.h"
#include "machine.h"
#include "preview.h"
#include "read_set.h"
#include "tmp.h"
#include "world.h"

#define SEGMENT (64 * 1024) // of the journal: small, so that a run fills several
#define TURN_US_MAX 1500    // from a batch's coming to the turn that decides it
#define TICK_US 10000

// A batch on its way through the engine.
struct pending {
    struct submission submission; // first
    struct world *w;
    struct task *task;
    struct buf request;
};

// ---- starting and stopping -----------------------------------------------------------------------------------------

static char *app_path(void)
{
    return tmp_path(machine_folder(), "app");
}

static int open_app(struct world *w, struct problem *p)
{
    char *path = app_path();
    w->options.path = path;
    int err = app_open(&w->app, &w->options, p);
    free(path);
    w->options.path = NULL;
    return err;
}

static void alive(struct world *w)
{
    w->cut = w->turn_due = false;
    world_event(w, TICK_US, (struct event){.kind = EVENT_TICK, .n = ++w->life});
    world_note(w, 100, app_visible(w->app), w->life);
}

static void at_once_done(struct submission *s, const struct fate *f)
{
    struct pending *p = (struct pending *)s;
    if (f->err != 0) world_find(p->w, "beginning", "the first batches are refused: %s", problem_text(&f->problem));
}

// A batch in a turn of its own, before the world begins.
static void at_once(struct world *w, struct pending *p)
{
    p->w = w;
    p->submission.done = at_once_done;
    p->submission.identity = (struct identity){IDENTITY_ADMIN, "admin"};
    p->submission.request = buf_span(&p->request);
    if (app_submit(w->app, &p->submission) != 0) abort();
    app_turn(w->app);
    app_land(w->app);
    buf_free(&p->request);
}

void server_start(struct world *w)
{
    struct problem p = PROBLEM_NONE;
    struct batch_head head;
    struct pending schema = {.w = w}, rows = {.w = w};
    struct buf ops, json;
    w->options = (struct app_options){.name = "sim", .db_map_bytes = 256 * MIB, .journal_segment_bytes = SEGMENT, .retry_ms = 5};
    w->watchers = watchers_new(&w->options);
    flight_options(w);
    w->options.journal_keep_all = w->seed % 4 != 0; // the others are not decided again, but their journal forgets
    if (open_app(w, &p) != 0) abort();
    buf_init(&schema.request, MIB);
    batch_put_op(&schema.request, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = SPAN_STR(works_schema)});
    at_once(w, &schema);
    buf_init(&ops, MIB);
    buf_init(&json, MIB);
    buf_init(&rows.request, MIB);
    works_rows(&ops);
    buf_printf(&json, "{\"stamp\":\"1\",\"ops\":[%.*s]}", (int)ops.n - 1, (const char *)ops.p);
    if (batch_from_json(buf_span(&json), &head, &rows.request, &p) != 0) fprintf(stderr, "%s\n", p.text), abort();
    rows.submission.stamp = head.stamp; // whatever clocks say, all that is written later shows over it
    at_once(w, &rows);
    buf_free(&ops);
    buf_free(&json);
    alive(w);
}

void server_stop(struct world *w)
{
    w->cut = true;
    disk_fail_clear();
    watchers_leave(w, w->watchers);
    app_close(w->app);
    w->app = NULL;
}

// ---- questions -----------------------------------------------------------------------------------------------------

struct sink {
    struct feed_sink sink; // first
    struct buf *out;
};

static int emit(struct feed_sink *sink, struct bytes *value)
{
    struct buf *out = ((struct sink *)sink)->out;
    if (out->n > 1) buf_put_str(out, ",");
    buf_put_span(out, bytes_span(value));
    return out->err;
}

static int read_source(struct world *w, const char *sql, const struct query_source *source, struct buf *out)
{
    struct problem p = PROBLEM_NONE;
    struct query *q = NULL;
    struct query_run *run = NULL;
    struct sink sink = {.sink = {.emit = emit}, .out = out};
    bool done = false;
    int err = query_compile(app_rows(w->app), SPAN_STR(sql), NULL, 0, &q, &p);
    if (err == 0) err = query_open_source(app_rows(w->app), app_txn(w->app), q, source, &run, &p);
    buf_put_str(out, "[");
    while (err == 0 && !done)
        err = query_next(run, app_txn(w->app), 1000, &sink.sink, &done);
    buf_put_str(out, "]");
    query_close(run);
    query_unref(q);
    if (err != 0 && err != ERR_TOO_OLD) world_find(w, "cannot be read", "%s as of %llu: %s (%s)", sql, (unsigned long long)source->at, err_wire(err), p.text);
    return err;
}

static int read_at(struct world *w, const char *sql, uint64_t at, struct read_set *reads, struct buf *out)
{
    return read_source(w, sql, &(struct query_source){.at = at, .reads = reads}, out);
}

int server_read_over(struct world *w, const char *sql, uint64_t at, const struct overlay *overlay, struct buf *rows)
{
    buf_clear(rows);
    return read_source(w, sql, &(struct query_source){.at = at, .overlay = overlay}, rows);
}

void server_read(struct world *w, const char *sql, uint64_t at, struct buf *rows)
{
    buf_clear(rows);
    if (read_at(w, sql, at, NULL, rows) != 0) world_find(w, "cannot be read", "%s as of %llu", sql, (unsigned long long)at);
}

// What the task means to write, as its own transaction would see it.
static int own_rows(struct world *w, const struct task *t, struct rows_preview *v)
{
    struct problem p = PROBLEM_NONE;
    struct batch_head head;
    struct buf json, ops;
    buf_init(&json, MIB);
    buf_init(&ops, MIB);
    buf_printf(&json, "{\"ops\":[%.*s]}", (int)t->ops.n - 1, (const char *)t->ops.p);
    int err = batch_from_json(buf_span(&json), &head, &ops, &p);
    if (err == 0) err = batch_preview(v, app_txn(w->app), buf_span(&ops), &p);
    if (err != 0 && err != ERR_TOO_OLD) world_find(w, "cannot be read", "what task %u has written: %s", t->number, problem_text(&p));
    buf_free(&json);
    buf_free(&ops);
    return err;
}

static int answer(struct world *w, const struct task *t, struct ask *ask, struct read_set *reads)
{
    if (!ask->over) return read_at(w, ask->sql, t->base, reads, &ask->rows);
    struct rows_preview *own = rows_preview_new(app_rows(w->app), app_txn(w->app), t->base, t->base, app_visible_ms(w->app));
    if (own == NULL) abort();
    int err = own_rows(w, t, own);
    struct query_source source = {.at = t->base, .reads = reads, .overlay = rows_preview_overlay(own)};
    if (err == 0) err = read_source(w, ask->sql, &source, &ask->rows);
    rows_preview_free(own);
    return err;
}

// All questions of a task are answered as of one commit, however long they take.
void server_ask(struct world *w, struct task *t, size_t n)
{
    struct ask *ask = &t->asks[n];
    if (w->app == NULL || app_txn(w->app) == NULL || t->over || t->answered != n || ask->rows.n > 0) return;
    struct read_set *reads = read_set_new();
    if (n == 0) t->base = app_visible(w->app);
    int err = answer(w, t, ask, reads);
    if (read_set_finish(reads) != 0) abort();
    reads_token_put(&ask->token, t->base, reads);
    read_set_free(reads);
    if (err != 0) return; // the horizon went over its base: it gets no answer, and lets it be
    if (t->base > w->told) w->told = t->base;
    world_event(w, 50 + dice_below(&w->dice, dice_chance(&w->dice, 10) ? 30000 : 1000), (struct event){.kind = EVENT_ANSWER, .task = t, .n = n});
}

// ---- batches -------------------------------------------------------------------------------------------------------

// Nothing is heard of a server that has no power.
static void on_fate(struct submission *s, const struct fate *f)
{
    struct pending *p = (struct pending *)s;
    struct world *w = p->w;
    if (!w->cut && p->task == NULL && f->journaled && !care_may_fail(f->err)) world_find(w, "refused", "the service's own batch: %s", problem_text(&f->problem));
    if (!w->cut && p->task != NULL) {
        struct event e = {.kind = EVENT_FATE, .task = p->task, .err = f->err, .journaled = f->journaled, .seq = f->seq};
        bool lost = !w->ending && dice_chance(&w->dice, 6);
        world_note(w, 200, (uint64_t)f->err, f->seq);
        w->lost += lost;
        if (f->seq > w->told) w->told = f->seq;
        if (!lost) world_event(w, 50 + dice_below(&w->dice, 2000), e);
    }
    buf_free(&p->request);
    free(p);
}

static struct pending *pending_new(struct world *w, struct task *t)
{
    struct pending *p = calloc(1, sizeof *p);
    if (p == NULL) abort();
    *p = (struct pending){.w = w, .task = t, .submission = {.done = on_fate, .identity = {IDENTITY_ADMIN, "admin"}}};
    buf_init(&p->request, ENTRY_BYTES_MAX / 2);
    return p;
}

static void submit(struct world *w, struct pending *p)
{
    p->submission.request = buf_span(&p->request);
    if (app_submit(w->app, &p->submission) != 0) {
        buf_free(&p->request);
        free(p);
        return;
    }
    if (!w->turn_due) world_event(w, dice_below(&w->dice, TURN_US_MAX), (struct event){.kind = EVENT_TURN});
    w->turn_due = true;
}

void server_send(struct world *w, struct task *t)
{
    struct batch_head head;
    struct problem problem = PROBLEM_NONE;
    if (w->app == NULL) return;
    struct pending *p = pending_new(w, t);
    p->submission.connection = t->process;
    if (batch_from_json(buf_span(&t->json), &head, &p->request, &problem) != 0) fprintf(stderr, "%.*s: %s\n", SPAN_FMT(buf_span(&t->json)), problem.text), abort();
    p->submission.name = head.name;
    p->submission.base = head.base;
    p->submission.stamp = head.stamp;
    p->submission.inserts = head.inserts;
    submit(w, p);
}

void server_own(struct world *w, const struct batch_op *op)
{
    if (w->app == NULL) return;
    struct pending *p = pending_new(w, NULL);
    batch_put_op(&p->request, op);
    submit(w, p);
}

void server_turn(struct world *w)
{
    w->turn_due = false;
    if (w->app == NULL || !app_pending(w->app)) return;
    app_turn(w->app);
    world_note(w, 300, app_visible(w->app), 0);
}

void server_landed(struct world *w)
{
    if (!app_pending(w->app) || w->turn_due) return;
    world_event(w, dice_below(&w->dice, TURN_US_MAX), (struct event){.kind = EVENT_TURN});
    w->turn_due = true;
}

void server_tick(struct world *w)
{
    if (w->app == NULL) return;
    flight_tick(w);
    app_tick(w->app);
    if (app_pending(w->app)) server_turn(w); // what was held back for somebody
    if (!app_in_flight(w->app)) watchers_tick(w, w->watchers);
    world_event(w, TICK_US, (struct event){.kind = EVENT_TICK, .n = w->life});
}

// The app is built again from what the disk has, when its users have let go.
void server_fault(struct world *w)
{
    static const unsigned ops[] = {DISK_WRITE, DISK_SYNC, DISK_WRITE | DISK_SYNC, DISK_ALL};
    world_event(w, 100000 + dice_below(&w->dice, 800000), (struct event){.kind = EVENT_FAULT});
    if (w->app == NULL) return;
    disk_fail(ops[dice_below(&w->dice, 4)], machine_folder(), 1 + dice_below(&w->dice, 12), EIO, 1 + dice_below(&w->dice, 3));
    w->faults++;
}

void server_log(struct world *w, struct buf *out)
{
    struct stream_info info;
    int err = streams_find(app_streams(w->app), app_txn(w->app), SPAN_LIT("log"), &info) ? 0 : ERR_STREAM_NOT_FOUND;
    while (err == 0 && out->n < info.offset)
        err = streams_read(app_streams(w->app), app_txn(w->app), SPAN_LIT("log"), out->n, MIB, out);
    if (err != 0) world_find(w, "cannot be read", "the stream: %s", err_wire(err));
}

// ---- crashes -------------------------------------------------------------------------------------------------------

static void power_off(struct world *w, bool since_mark)
{
    machine_cut();
    disk_fail_clear();
    app_close(w->app); // what it still writes, nobody will find
    w->app = NULL;
    machine_restore(&w->dice, since_mark);
    w->crashes++;
}

// In the middle of a turn, of a commit of the database, or of nothing.
void server_crash(struct world *w)
{
    bool amid = dice_chance(&w->dice, 70);
    world_event(w, 20000 + dice_below(&w->dice, 400000), (struct event){.kind = EVENT_CRASH});
    if (w->app == NULL) return;
    w->cut = true;
    watchers_leave(w, w->watchers); // nobody sees what happens next
    machine_mark();
    if (amid) flight_crash(w);
    if (amid && app_pending(w->app) && app_state(w->app) == APP_READY) app_turn(w->app);
    if (amid && dice_chance(&w->dice, 50)) w->app->dirty_since_ms = 0, app_tick(w->app);
    if (amid) flight_crash(w);
    power_off(w, amid);
    world_event(w, 1000 + dice_below(&w->dice, 200000), (struct event){.kind = EVENT_RESTART});
}

void server_restart(struct world *w)
{
    struct problem p = PROBLEM_NONE;
    machine_mark();
    w->cut = true;
    if (open_app(w, &p) != 0) {
        world_find(w, "does not open", "behind crash %llu: %s", (unsigned long long)w->crashes, problem_text(&p));
        return;
    }
    if (!w->ending && dice_chance(&w->dice, 20)) { // while it recovers
        power_off(w, true);
        world_event(w, 1000, (struct event){.kind = EVENT_RESTART});
        return;
    }
    if (app_visible(w->app) < w->told)
        world_find(w, "commit lost", "commit %llu was told of, and behind crash %llu the app ends at %llu", (unsigned long long)w->told, (unsigned long long)w->crashes, (unsigned long long)app_visible(w->app));
    alive(w);
}

// ---- the journal decided again -------------------------------------------------------------------------------------

struct again {
    struct world *w;
    struct app *app;
};

static int again_group(void *ctx, uint64_t group, struct span payload)
{
    struct again *again = ctx;
    struct problem p = PROBLEM_NONE;
    int err = app_redecide(again->app, payload, &p);
    if (err != 0) world_find(again->w, "decided otherwise", "group %llu: %s", (unsigned long long)group, problem_text(&p));
    return err;
}

static void compare_again(struct world *w, struct app *app, const struct sha256 *hash, uint64_t seq)
{
    struct sha256 is;
    if (app_state_hash(app, &is) != 0) abort();
    if (app_visible(app) != seq || !sha256_equal(&is, hash))
        world_find(w, "another state", "the journal decided again gives another state at commit %llu than there was at %llu", (unsigned long long)app_visible(app), (unsigned long long)seq);
}

void server_check_journal(struct world *w)
{
    struct again again = {.w = w};
    struct sha256 hash;
    struct problem p = PROBLEM_NONE;
    struct journal *j = NULL;
    char *path = app_path(), *folder = tmp_path(machine_folder(), "again"), *journal = tmp_path(path, "journal");
    uint64_t seq = app_visible(w->app);
    if (app_state_hash(w->app, &hash) != 0) abort();
    world_note(w, 400, seq, 0);
    for (size_t i = 0; i < sizeof hash.b; i++)
        world_note(w, 401, hash.b[i], 0);
    server_stop(w);
    if (w->options.journal_keep_all) {
        struct app_options options = w->options;
        options.path = folder;
        options.barrier = APP_BARRIER_LOOP;
        options.fly = NULL;
        if (app_open(&again.app, &options, &p) != 0) abort();
        int err = journal_open(&j, &(struct journal_options){.path = journal, .segment_bytes = SEGMENT, .read_only = true}, again_group, &again, &p);
        if (err == 0) compare_again(w, again.app, &hash, seq);
        else world_find(w, "decided otherwise", "the journal cannot be read again: %s", problem_text(&p));
        if (err == 0) journal_close(j);
        app_close(again.app);
    }
    free(path);
    free(folder);
    free(journal);
}
