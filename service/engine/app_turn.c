// One turn: what was submitted becomes one journal group with one barrier, then is shown and answered in one step.
//
//   submissions ─> settled before? ─> the fate it had
//               └> decide ─> entry into the group ─> apply to memory and the open transaction
//   the barrier (app_flight.c): at once, or in flight
//   publish ─> answer ─> the host sends
//   … and from time to time: database commit ─> journal recycling
//
// Nothing is said to anyone before the barrier; if it fails, nothing of the group is ever shown (app_fail).
#include <assert.h>
#include <stdlib.h>

#include "app_internal.h"
#include "bug.h"
#include "err.h"
#include "file.h"
#include "log.h"

// Of the submissions of one group: an operation takes 5 bytes at least, and its result 20 at most.
#define RESULTS_MAX (4ul * SUBMITTED_BYTES_MAX)
#define ANSWERS_KEPT 256

int app_submit(struct app *a, struct submission *s)
{
    assert(s->done != NULL && s->request.n > 0 && s->request.n <= ENTRY_BYTES_MAX / 2);
    if (a->dropped) return ERR_NO_SUCH_APP;
    if (app_state(a) == APP_FULL && !(s->frees && app_may_free(a))) return ERR_NO_SPACE;
    if (a->state == APP_READ_ONLY) return ERR_READ_ONLY;
    if (a->state == APP_RECOVERING) return ERR_BUSY;
    if (a->waiting >= SUBMITTED_MAX || a->waiting_bytes + s->request.n > SUBMITTED_BYTES_MAX) return ERR_BUSY;
    s->next = NULL;
    if (a->last != NULL) a->last->next = s;
    else a->first = s;
    a->last = s;
    a->waiting++;
    a->waiting_bytes += s->request.n;
    return 0;
}

bool app_pending(const struct app *a)
{
    return a->first != NULL && a->flight.task == FLIGHT_NONE;
}

static struct submission *take(struct app *a)
{
    struct submission *s = a->first;
    a->first = s->next;
    if (a->first == NULL) a->last = NULL;
    a->waiting--;
    a->waiting_bytes -= s->request.n;
    return s;
}

bool app_is_open(const struct app *a)
{
    return a->state == APP_READY || a->state == APP_FULL;
}

bool app_may_free(const struct app *a)
{
    return a->state == APP_READY || (a->state == APP_FULL && app_now_ms() >= a->free_ms);
}

static void answer_error(struct submission *s, int err)
{
    struct fate f = {.err = err, .problem = PROBLEM_NONE};
    problem_set(&f.problem, err, -1, "%s", err_text(err));
    s->done(s, &f);
}

void app_go_on(struct app *a, bool all)
{
    if (a->reservations.active == 0 && a->reservations.held == NULL) return;
    struct submission *held = reservations_release(&a->reservations, app_now_ms(), all), *last = held;
    if (held == NULL) return;
    for (struct submission *s = held; s != NULL; s = s->next) {
        a->waiting++;
        a->waiting_bytes += s->request.n;
        last = s;
    }
    last->next = a->first;
    if (a->first == NULL) a->last = last;
    a->first = held;
}

void app_refuse(struct app *a, int err)
{
    app_go_on(a, true);
    while (a->first != NULL)
        answer_error(take(a), err);
}

// ---- building the group ----

static int group_add(struct group *g, struct submission *s, const struct fate *f)
{
    if (g->count == g->cap) {
        size_t cap = g->cap == 0 ? 64 : 2 * g->cap;
        struct answer *answers = realloc(g->answers, cap * sizeof *answers);
        if (answers == NULL) return ERR_NOMEM;
        g->answers = answers;
        g->cap = cap;
    }
    struct answer *answer = &g->answers[g->count];
    *answer = (struct answer){.submission = s, .fate = *f, .results_at = g->results.n, .results_n = f->results.n};
    buf_put_span(&g->results, f->results);
    if (g->results.err != 0) return g->results.err;
    g->count++;
    return 0;
}

static void entry_of(struct app *a, const struct submission *s, struct entry *e)
{
    uint64_t now = clock_wall_ms();
    *e = (struct entry){.name = s->name, .identity = s->identity, .base_said = s->base, .stamp_said = s->stamp};
    e->commit.group = a->applied_group + 1;
    e->commit.arrival_ms = now > a->arrival_ms ? now : a->arrival_ms;
    e->commit.base = s->base != 0 ? s->base : a->applied_seq;
    e->commit.stamp = s->stamp != 0 ? s->stamp : hlc_next(&a->clock, e->commit.arrival_ms);
    if (s->name.kind == BATCH_REPLICA) e->commit.writer = s->name.replica;
    if (s->inserts) random_bytes(e->commit.seed, sizeof e->commit.seed);
    e->commit.request = app_shorten(a, s);
    e->commit.transaction = batch_is_transaction(s->request);
}

// Would this change what is reserved for somebody else's transaction? Then it waits. It is decided again later: deciding has changed nothing.
static int hold_back(struct app *a, struct submission *s, const struct entry *e, bool *held)
{
    struct reservations *rs = &a->reservations;
    *held = false;
    if (e->fate.err != 0 || e->rows.n == 0 || !reservations_may_hold(rs, s)) return 0;
    for (size_t i = 0; i < RESERVATIONS_MAX && !*held; i++) {
        const struct read_set *reads = reservations_against(rs, s, i);
        int err = reads != NULL ? rows_effects_meet(a->rows, a->txn, e->rows, reads, held) : 0;
        if (err != 0) return err;
    }
    if (*held) reservations_hold(rs, s, app_now_ms());
    return 0;
}

// It waits behind its writer's. Where that is too much, nobody waits any longer: what is reserved is a favour, the order is a promise.
static void hold_behind(struct app *a, struct submission *s)
{
    if (reservations_room(&a->reservations, s)) {
        reservations_hold(&a->reservations, s, app_now_ms());
        return;
    }
    s->next = a->first;
    if (a->first == NULL) a->last = s;
    a->first = s;
    a->waiting++;
    a->waiting_bytes += s->request.n;
    app_go_on(a, true);
}

// 0: the submission is held, or has its answer, to be given behind the barrier. An error leaves the app to be recovered.
static int decide_one(struct app *a, struct group *g, struct submission *s)
{
    struct fate f;
    struct entry e;
    bool held = false;
    int found = 0;
    if (reservations_behind(&a->reservations, s)) {
        hold_behind(a, s);
        return 0;
    }
    if (s->name.kind != BATCH_UNNAMED && !bug("no_dedup")) found = fates_find(a->txn, TABLE_FATES, &s->name, &s->identity, fates_content(s->request, s->base, s->stamp), &f);
    if (db_txn_err(a->txn) != 0) return db_txn_err(a->txn); // found nothing because it could not look
    if (found != 0) {
        a->counts.retries += found > 0;
        return group_add(g, s, &f);
    }
    entry_of(a, s, &e);
    int err = app_decide(a, &e);
    if (err != 0 && db_txn_err(a->txn) == 0) { // nothing has changed, and it concerns this batch alone
        f = (struct fate){.err = err, .problem = PROBLEM_NONE};
        problem_set(&f.problem, err, -1, "%s", err_text(err));
        return group_add(g, s, &f);
    }
    if (err == 0) err = hold_back(a, s, &e, &held);
    if (err != 0 || held) return err;
    if (e.commit.transaction) reservations_told(&a->reservations, s, e.fate.err, &a->decision.reads, app_now_ms());
    entry_put(&a->group, &g->place, &e);
    if (a->group.err != 0) return a->group.err;
    err = group_add(g, s, &e.fate);
    if (err != 0) return err;
    g->entries++;
    g->accepted += e.fate.err == 0;
    return app_apply(a, &e);
}

// Until the next entry might not fit. *failed: the submission at which it failed, if it is not in the group.
static int build(struct app *a, struct group *g, struct submission **failed)
{
    buf_clear(&a->group);
    for (;;) {
        app_go_on(a, false);
        if (a->first == NULL || g->count >= GROUP_ENTRIES_MAX || a->group.n + ENTRY_BYTES_MAX + KIB > GROUP_BYTES_MAX) return 0;
        struct submission *s = take(a);
        size_t count = g->count;
        int err = decide_one(a, g, s);
        if (err != 0 && g->count == count) *failed = s;
        if (err != 0) return err;
    }
}

// ---- the barrier, and behind it ----

static void publish(struct app *a)
{
    a->visible_seq = a->applied_seq;
    rows_publish(a->rows, a->txn, a->visible_seq);
    result_feeds_publish(a);
    streams_publish(a->streams, a->visible_seq);
    row_texts_publish(a);
    blobs_publish(a->blobs, a->visible_seq);
    branch_feeds_publish(a);
}

static void tell_host(struct app *a)
{
    if (a->options.visible != NULL) a->options.visible(a->options.host, a);
}

static void answer_all(struct group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        struct answer *answer = &g->answers[i];
        answer->fate.results = SPAN(g->results.p + answer->results_at, answer->results_n);
        answer->submission->done(answer->submission, &answer->fate);
    }
    g->count = 0;
}

// The group is not durable, or nobody knows. What was found rather than decided (the fate of a retry, a gap, a name used
// before) may have been found in what this very group did, so it is not said either.
static void answer_failed(struct group *g, int err)
{
    for (size_t i = 0; i < g->count; i++) {
        struct answer *answer = &g->answers[i];
        answer_error(answer->submission, answer->fate.journaled && !answer->fate.again ? err : ERR_BUSY);
    }
    g->count = 0;
}

static void count_group(struct app *a, const struct group *g)
{
    a->applied_group++;
    assert(a->applied_group + 1 == journal_next_group(a->journal));
    a->counts.groups++;
    a->counts.group_bytes += a->flight.bytes;
    a->counts.commits += g->accepted;
    a->counts.rejections += g->entries - g->accepted;
    app_dirty(a);
}

// Nobody may read what is in memory now, least of all a caller that goes on to its next request when it gets its answer: the state changes before
// the first one. Where nothing was written the error itself is the answer, and the batch may be sent again.
static void turn_failed(struct app *a, struct group *g, struct submission *failed, int err, bool unknown)
{
    a->state = APP_RECOVERING;
    answer_failed(g, unknown ? ERR_FATE_UNKNOWN : err);
    if (failed != NULL) answer_error(failed, err);
    app_fail(a, err);
}

// A burst's memory goes back; the usual turn's is there for the next one.
static void group_clear(struct group *g)
{
    bool keep = g->cap <= ANSWERS_KEPT;
    struct group clear = {.answers = keep ? g->answers : NULL, .cap = keep ? g->cap : 0};
    if (!keep) free(g->answers);
    buf_free(&g->results);
    *g = clear;
}

// Behind the barrier; without a barrier where nothing was decided anew, or deciding failed.
static void turn_end(struct app *a, struct submission *failed, int err, bool unknown)
{
    struct group *g = &a->made;
    a->in_turn = true;
    if (err != 0) {
        turn_failed(a, g, failed, err, unknown);
    } else {
        if (g->entries > 0) publish(a);
        answer_all(g);
        tell_host(a);
    }
    a->in_turn = false;
    group_clear(g);
}

void app_group_end(struct app *a)
{
    if (a->flight.err == 0) count_group(a, &a->made);
    turn_end(a, NULL, a->flight.err, a->flight.unknown);
}

// The planted bugs say it too early.
static void bugs_speak(struct app *a, struct group *g)
{
    if (bug("publish_before_barrier")) publish(a), tell_host(a);
    if (bug("ack_before_journal")) answer_all(g), tell_host(a);
}

void app_turn(struct app *a)
{
    struct group *g = &a->made;
    struct submission *failed = NULL;
    assert(!a->in_turn);
    if (!app_pending(a) || !app_is_open(a)) return;
    row_texts_watch(a);
    if (db_dirty_bytes(a->txn) >= DB_DIRTY_BYTES_MAX) app_commit(a);
    if (!app_pending(a) || !app_is_open(a)) return;
    a->in_turn = true;
    buf_init(&g->results, RESULTS_MAX);
    int err = build(a, g, &failed);
    if (err == 0 && g->entries > 0) bugs_speak(a, g);
    a->in_turn = false;
    if (err == 0 && g->entries > 0) app_fly(a, FLIGHT_GROUP);
    else turn_end(a, failed, err, false);
    if (a->flight.task == FLIGHT_NONE && !a->slow && app_is_open(a) && db_dirty_bytes(a->txn) >= DB_DIRTY_BYTES_MAX) app_commit(a);
}

// ---- now and then ----

static void tend_rows(struct app *a)
{
    bool wrote = false;
    int err = rows_tick(a->rows, a->txn, &wrote);
    if (err != 0) app_fail(a, err);
    else if (wrote) app_dirty(a);
}

void app_tick(struct app *a)
{
    uint64_t now = app_now_ms();
    assert(!a->in_turn);
    if (a->flight.task != FLIGHT_NONE) return;
    app_go_on(a, false);
    if (a->state != APP_READY) app_retry(a, now);
    if (!app_is_open(a)) return;
    app_disk_tick(a, now);
    if (a->flight.task != FLIGHT_NONE) return;
    if (a->state == APP_READY) tend_rows(a);
    if (app_is_open(a) && blobs_tend(a->blobs, a->txn)) app_dirty(a);
    if (app_is_open(a) && streams_reclaim(a->streams, a->txn) && !a->dirty) app_dirty(a);
    if (a->state == APP_READY && journal_wants_room(a->journal)) app_fly(a, FLIGHT_PREPARE);
}

bool app_busy(const struct app *a)
{
    if (a->flight.task != FLIGHT_NONE || a->reservations.active > 0 || a->reservations.held != NULL) return true;
    return a->state == APP_READY ? a->dirty || a->preparing || rows_busy(a->rows) || streams_reclaiming(a->streams) || blobs_tending(a->blobs) : true;
}

// ---- sealing ----

struct streams_seal *app_seal_begin(struct app *a)
{
    if (a->state != APP_READY || a->sealing || a->flight.task != FLIGHT_NONE) return NULL;
    bool force = journal_live_bytes(a->journal) > JOURNAL_LIVE_BYTES_MAX / 2;
    struct streams_seal *job = streams_seal_plan(a->streams, a->txn, clock_wall_ms(), force);
    a->sealing = job != NULL;
    return job;
}

void app_seal_end(struct app *a, struct streams_seal *job, int err)
{
    assert(a->sealing && !app_in_flight(a));
    a->sealing = false;
    if (a->state == APP_RECOVERING && err == 0) err = ERR_CANCELED; // the store it belongs to is about to go
    streams_seal_done(a->streams, a->txn, job, err);
    if (err != 0) {
        log_warn("app", "stream bytes were not sealed; they stay in the journal", LF_STR("app", a->name), LF_ERR(err));
        return;
    }
    a->counts.seals++;
    app_dirty(a);
}

// ---- packs ----

struct blobs_work *app_blob_work_begin(struct app *a, const struct blobs_pace *pace, uint64_t now_ms)
{
    if (!app_is_open(a) || a->blob_working || app_in_flight(a)) return NULL;
    struct blobs_pace now = *pace;
    if (a->state == APP_FULL) now = (struct blobs_pace){.compact_bytes_s = pace->compact_bytes_s, .no_copies = true};
    struct blobs_work *w = blobs_work_plan(a->blobs, a->txn, &now, now_ms);
    a->blob_working = w != NULL;
    return w;
}

void app_blob_work_end(struct app *a, struct blobs_work *w, int err)
{
    assert(a->blob_working && !app_in_flight(a));
    a->blob_working = false;
    bool gone = err != 0 || !app_is_open(a); // the store it belongs to is about to go, or the disk takes nothing
    if (blobs_work_done(a->blobs, gone ? NULL : a->txn, w)) app_dirty(a);
}

void app_blobs_touched(struct app *a)
{
    if (app_is_open(a)) app_dirty(a);
}

struct db_txn *app_snapshot(struct app *a)
{
    return db_begin_read(a->db);
}
