// What an app asks of its disk: the barriers of its groups, commits and syncs of its database, room in its journal.
//
//   quick disk:  app_fly ─> run ─> end                                              at once, on the owner's thread
//   slow disk:   app_fly ─> options.fly ~~> app_flight_run ~~> app_flight_end       the middle on the app's thread
//
// A barrier on the owner's thread is over 90 us sooner than one that another thread is woken for, and keeps all other apps of the loop waiting. So it is
// flown only where it takes so long that the way there and back is a tenth of it.
//
// LMDB's lock of the write transaction belongs to the thread that took it. Where commits are flown, the app's thread begins the transactions, too, and
// lends them to the owner (db_take); the first commit after a disk has turned slow is therefore made at once, the first after it has turned
// quick again is still flown.
#include <assert.h>

#include "app_internal.h"
#include "err.h"
#include "file.h"
#include "log.h"

#define SLOW_US 1000 // of the mean barrier: above it is flown,
#define QUICK_US 500 // below not any more
#define MEAN_OF 8    // barriers

// ---- which way ----

static bool hides(enum flight_task task)
{
    return task == FLIGHT_GROUP || task == FLIGHT_COMMIT || task == FLIGHT_BEGIN || task == FLIGHT_ABORT;
}

bool app_in_flight(const struct app *a)
{
    return hides(a->flight.task);
}

static uint64_t mean_us(const struct app *a)
{
    return a->barrier_8us / MEAN_OF;
}

// One barrier of a second counts at once, and is forgotten within some tens of quick ones.
static void measure(struct app *a, uint64_t us)
{
    bool was = a->slow;
    a->barrier_8us += us - mean_us(a);
    a->counts.barrier_us = mean_us(a);
    if (a->options.barrier != APP_BARRIER_AUTO) return;
    a->slow = a->options.fly != NULL && mean_us(a) > (was ? QUICK_US : SLOW_US);
    if (a->slow != was) log_info("app", was ? "the disk is quick again" : "the disk is slow: barriers leave the loop", LF_STR("app", a->name), LF_UINT("mean_us", mean_us(a)));
}

static bool is_flown(const struct app *a, enum flight_task task)
{
    if (task == FLIGHT_COMMIT || task == FLIGHT_ABORT) return a->txn_away; // it has to be the thread that began
    return a->slow;
}

// ---- the tasks ----

static void run_commit(struct app *a, struct flight *f)
{
    f->err = db_commit(a->txn);
    a->txn = f->stays || f->err != 0 ? db_begin_write(a->db) : NULL;
    if (f->err == 0 && a->txn != NULL) f->err = db_txn_err(a->txn); // nothing could be read through it
    // This commit may be lost in a power cut (NOMETASYNC), the one before it cannot any more.
    if (f->err == 0) journal_recycle(a->journal, a->mark.group);
}

static void run_sync(struct app *a, struct flight *f)
{
    f->err = db_sync(a->db);
    if (f->err == 0) journal_recycle(a->journal, a->mark.group);
}

static void run_group(struct app *a, struct flight *f)
{
    uint64_t before = journal_written_bytes(a->journal);
    f->err = journal_append(a->journal, buf_span(&a->group), &f->unknown);
    f->bytes = journal_written_bytes(a->journal) - before;
}

void app_flight_run(struct app *a)
{
    struct flight *f = &a->flight;
    uint64_t begun = clock_mono_us();
    assert(f->task != FLIGHT_NONE && !f->ran);
    switch (f->task) {
    case FLIGHT_GROUP: run_group(a, f); break;
    case FLIGHT_COMMIT: run_commit(a, f); break;
    case FLIGHT_BEGIN: a->txn = db_begin_write(a->db); break;
    case FLIGHT_ABORT: db_abort(a->txn), a->txn = NULL; break;
    case FLIGHT_SYNC: run_sync(a, f); break;
    case FLIGHT_PREPARE: f->more = journal_prepare(a->journal); break;
    case FLIGHT_NONE: break;
    }
    f->took_us = clock_mono_us() - begun;
    f->ran = true;
}

static void commit_kept(struct app *a, const struct flight *f)
{
    a->dirty = false;
    a->commit_took_ms = f->took_us / 1000;
    a->counts.db_commits++;
    a->mark = f->mark;
    streams_committed(a->streams);
    blobs_committed(a->blobs);
}

static void end_commit(struct app *a, const struct flight *f)
{
    bool flown = f->flown && a->txn != NULL;
    if (a->txn == NULL && !a->slow) a->txn = db_begin_write(a->db);
    if (a->txn != NULL) db_take(a->txn);
    a->txn_away = flown;
    int err = f->err != 0 || a->txn == NULL ? f->err : db_txn_err(a->txn);
    if (err != 0) {
        app_fail(a, err);
        return;
    }
    commit_kept(a, f);
    if (a->txn == NULL) app_fly(a, FLIGHT_BEGIN);
}

static void end_begin(struct app *a, const struct flight *f)
{
    a->txn_away = f->flown;
    db_take(a->txn);
    int err = db_txn_err(a->txn);
    if (err != 0) app_fail(a, err);
}

// A sync that failed is not tried again (the kernel may have dropped the pages): the app is built again, which commits anew.
static void end_sync(struct app *a, const struct flight *f)
{
    if (f->err != 0) app_fail(a, f->err);
    else a->mark.group = 0;
}

static void end(struct app *a)
{
    struct flight f = a->flight;
    assert(f.ran);
    a->flight.task = FLIGHT_NONE;
    switch (f.task) {
    case FLIGHT_GROUP:
        if (f.err == 0) measure(a, f.took_us);
        app_group_end(a);
        break;
    case FLIGHT_COMMIT: end_commit(a, &f); break;
    case FLIGHT_BEGIN: end_begin(a, &f); break;
    case FLIGHT_SYNC: end_sync(a, &f); break;
    case FLIGHT_PREPARE: a->preparing = f.more; break;
    case FLIGHT_ABORT:
    case FLIGHT_NONE: a->txn_away = false; break;
    }
}

// ---- flying ----

void app_fly(struct app *a, enum flight_task task)
{
    assert(a->flight.task == FLIGHT_NONE && !a->in_turn);
    a->flight = (struct flight){.task = task, .mark = a->flight.mark, .flown = is_flown(a, task), .stays = a->txn_away == a->slow};
    if (a->flight.flown) {
        a->flight.journal_live_bytes = journal_live_bytes(a->journal);
        a->flight.journal_disk_bytes = journal_disk_bytes(a->journal);
    }
    if (a->flight.flown && a->options.fly(a->options.host, a)) {
        a->counts.flights++;
        return;
    }
    assert(!a->flight.flown || !a->txn_away); // a host that has a thread keeps it
    a->flight.flown = false;
    app_flight_run(a);
    end(a);
}

// Whoever waits may have the app fly again: then the others wait on.
static void waits_run(struct app *a)
{
    while (a->waits != NULL && !app_in_flight(a)) {
        struct app_wait *w = a->waits;
        app_wait_drop(w);
        w->fn(w);
    }
}

void app_flight_end(struct app *a)
{
    end(a);
    if (a->flight.task == FLIGHT_NONE && a->dismissing) {
        a->dismissing = false;
        app_dismiss(a);
    }
    waits_run(a);
}

bool app_wait(struct app *a, struct app_wait *w, void (*fn)(struct app_wait *w))
{
    if (!app_in_flight(a)) return false;
    if (w->app != NULL) return true;
    *w = (struct app_wait){.app = a, .fn = fn, .place = a->waits == NULL ? &a->waits : a->waits_end};
    *w->place = w;
    a->waits_end = &w->next;
    return true;
}

void app_wait_drop(struct app_wait *w)
{
    struct app *a = w->app;
    if (a == NULL) return;
    *w->place = w->next;
    if (w->next != NULL) w->next->place = w->place;
    else a->waits_end = w->place;
    w->app = NULL;
}

void app_land(struct app *a)
{
    while (a->flight.task != FLIGHT_NONE)
        a->options.land(a->options.host, a);
}

void app_home(struct app *a)
{
    app_land(a);
    a->options.barrier = APP_BARRIER_LOOP;
    a->slow = false;
    if (a->txn_away && app_is_open(a)) app_commit(a);
    app_land(a);
    if (a->txn_away) app_abort_txn(a); // nothing could be committed, or it failed: the thread that began ends it
}

// ---- the database behind the journal ----

void app_dirty(struct app *a)
{
    if (!a->dirty) a->dirty_since_ms = app_now_ms();
    a->dirty = true;
}

void app_abort_txn(struct app *a)
{
    if (a->txn == NULL) return;
    app_fly(a, FLIGHT_ABORT);
    app_land(a);
}

// What the journal may forget behind it.
static struct mark commit_prepare(struct app *a)
{
    uint64_t unsealed = streams_unsealed_group(a->streams);
    struct mark mark = {.group = unsealed <= a->applied_group ? unsealed - 1 : a->applied_group};
    streams_flush(a->streams, a->txn);
    app_put_meta(a);
    return mark;
}

void app_commit(struct app *a)
{
    a->flight.mark = commit_prepare(a);
    app_fly(a, FLIGHT_COMMIT);
}

int app_commit_db(struct app *a)
{
    uint64_t begun = clock_mono_us();
    assert(!a->txn_away && a->flight.task == FLIGHT_NONE);
    struct flight f = {.stays = true, .mark = commit_prepare(a)};
    run_commit(a, &f);
    f.took_us = clock_mono_us() - begun;
    if (f.err == 0) commit_kept(a, &f);
    return f.err;
}

// Nothing comes any more, yet the journal holds what the database has: make that certain and let it go.
static bool settling_is_due(const struct app *a)
{
    if (a->options.journal_keep_all || a->mark.group == 0 || journal_first_group(a->journal) > a->mark.group) return false;
    return journal_live_bytes(a->journal) >= journal_disk_bytes(a->journal) / 2;
}

// A commit writes each page that was touched, however often: where that takes long, fewer of them are less work.
static bool commit_is_due(const struct app *a, uint64_t now)
{
    uint64_t wait = a->commit_took_ms * DB_COMMIT_SHARE;
    if (wait < DB_DIRTY_MS_MAX) wait = DB_DIRTY_MS_MAX;
    if (wait > DB_DIRTY_LONGEST_MS) wait = DB_DIRTY_LONGEST_MS;
    return a->dirty && now - a->dirty_since_ms >= wait;
}

void app_disk_tick(struct app *a, uint64_t now_ms)
{
    if (commit_is_due(a, now_ms)) app_commit(a);
    else if (!a->dirty && settling_is_due(a)) app_fly(a, FLIGHT_SYNC);
}
