// An app: one journal, one database, three stores, one order. The engine of the service, without sockets or a loop.
//
//   app_submit … app_submit ─> app_turn: for each batch decide -> apply, then one journal barrier for the group, then
//                              publish, answer, tell the host
//                              (slow disk: the barrier is in flight, and what is behind it follows from app_flight_end)
//   app_tick:                  commits the database when due, makes journal room, looks for space again when the disk was full
//
// The journal is the truth: a group is decided and applied to the open database transaction first, written with one barrier
// next, and shown and acknowledged only then. If writing fails, everything in memory is thrown away and built again from what
// the disk has (state APP_RECOVERING until the last user has let go, see app_user).
//
//            ┌───────────────────────── reopened ───────────────┐
//            v                                                  │
//   open ─> READY ── write failed ──────────────────────> RECOVERING ── reopened, the disk was full ─> FULL
//            ^                                             ^    └────── cannot be written ─────────> READ_ONLY
//            │                                             │                                          │  │
//            │                                             └───────── there is room again ────────────┘  │ reads go on
//            └──────────────────────────────── there is room again: FULL ────────────────────────────────┘ in both
//
// A FULL app still takes what gives room back (submission.frees), and deletes files that nothing lives in: else a disk that is full of garbage stayed full.
// A deletion is written too, so a part of the disk is kept for that: the file `reserve`, which is deleted when not even this fits.
//
// Thread: the app's owner for everything but app_flight_run.
#ifndef SEGUE_APP_H
#define SEGUE_APP_H

#include "auth.h"
#include "batch.h"
#include "blobs.h"
#include "branches.h"
#include "fates.h"
#include "jobs.h"
#include "rows.h"
#include "streams.h"
#include "subs.h"

struct app;
struct db_txn;
struct rows_preview;
struct seq_time;

// Where the disk is waited for: where it takes less time by the running mean of barriers; on the owner's thread; on the app's.
enum app_barrier { APP_BARRIER_AUTO, APP_BARRIER_LOOP, APP_BARRIER_THREAD };

enum app_state { APP_READY, APP_RECOVERING, APP_FULL, APP_READ_ONLY };

struct app_options {
    const char *name;
    const char *path;               // the app's folder; made where it is missing
    uint64_t db_map_bytes;          // 0: DB_MAP_BYTES
    uint64_t journal_segment_bytes; // 0: JOURNAL_SEGMENT_BYTES
    bool journal_keep_all;          // never recycle
    uint64_t stream_segment_bytes;  // 0: STREAM_SEGMENT_BYTES
    uint64_t blob_pack_bytes;       // 0: BLOB_PACK_BYTES
    bool blob_rebuild;              // blobs_rebuild, once
    uint64_t seal_quiet_ms;         // 0: STREAM_QUIET_MS
    uint64_t retry_ms;              // between two looks for room on the disk; 0: 1000
    void *host;                     // for the callbacks, which may be NULL
    void (*visible)(void *host, struct app *a); // after each group was published: send what there is to send
    // What may keep a thread waiting for the disk, off the owner's: "in flight" below. Both or neither.
    enum app_barrier barrier;
    bool (*fly)(void *host, struct app *a);  // has app_flight_run called on the app's thread, and app_flight_end later, or before it returns; false: there is no thread, which
                                             // there is for good once there was one
    void (*land)(void *host, struct app *a); // waits until it has run, and calls app_flight_end
};

// Opens or creates, recovers from the journal, and leaves a write transaction open. ERR_CORRUPT names what is damaged.
int app_open(struct app **out, const struct app_options *options, struct problem *p);
// Commits and syncs the database. Every user must be gone; submissions still waiting are answered ERR_SHUTTING_DOWN.
void app_close(struct app *a); // NULL is fine
// The app is not to be there any more: nothing is taken (ERR_NO_SUCH_APP), users are asked to go, and a tick behind the last one closes the stores.
// Not from within a turn. app_close it all the same.
void app_discard(struct app *a);
bool app_discarded(const struct app *a); // dropped, and nothing of its folder is open

const char *app_name(const struct app *a);
enum app_state app_state(const struct app *a);
const char *app_state_name(enum app_state state);
struct uuid app_journal_id(const struct app *a);
struct rows *app_rows(struct app *a);
struct streams *app_streams(struct app *a);
struct blobs *app_blobs(struct app *a);

// The seq of the last commit, all of it durable and shown. 0: none yet.
uint64_t app_visible(const struct app *a);
// Arrival time of that commit in milliseconds; 0: none yet.
uint64_t app_visible_ms(const struct app *a);
// The transaction to read through: the state as of app_visible. NULL while recovering: answer ERR_BUSY. Valid until the next app_turn or app_tick. Not while
// the app is in flight (asserted, as of the stores).
struct db_txn *app_txn(struct app *a);
// When a commit that touched streams arrived, as of app_visible: seq_times.h. ERR_BUSY while recovering.
int app_seq_time(struct app *a, uint64_t seq, uint64_t span_ms, struct seq_time *out);

// ---- writing -------------------------------------------------------------------------------------------------------

// A batch on its way. Owned by the caller, who may free it in `done`. `request` must stay until then.
struct submission {
    struct batch_name name;
    struct identity identity;
    uint64_t base;       // 0: the current seq
    uint64_t stamp;      // 0: made from the arrival
    struct span request; // encoded by batch.h; at most ENTRY_BYTES_MAX / 2 (asserted)
    bool inserts;        // the request makes rows: it needs a seed
    bool frees;          // it gives room back: a full disk does not refuse it
    uint64_t connection; // over which it came, where what comes over that has to stay in its order; 0: it came over none
    uint64_t held_until_ms; // the app's: it was held back for a reservation
    // Called once, from a later app_turn, app_tick or app_close: the fate is durable, or f->err is an error that is no fate (f->journaled is false).
    void (*done)(struct submission *s, const struct fate *f);
    struct submission *next; // the app's
};

// Takes a batch for the next turn. ERR_BUSY (too many waiting, or recovering), ERR_NO_SPACE, ERR_READ_ONLY: not taken, nothing happened.
int app_submit(struct app *a, struct submission *s);
bool app_pending(const struct app *a);
// What gives room back may be tried now: the app is READY; or FULL, and the last try has not just failed.
bool app_may_free(const struct app *a);
// Decides, applies, journals, publishes and answers what was submitted. Gives the host one `visible`.
void app_turn(struct app *a);
// Housekeeping; call at least every 10 to 20 ms while app_busy, else now and then.
void app_tick(struct app *a);
bool app_busy(const struct app *a); // a database commit is due soon, or recovery waits

// ---- in flight -----------------------------------------------------------------------------------------------------
//
// On a slow disk the owner does not wait for it:
//
//   app_turn ─ decide, apply ─> options.fly ~~> app_flight_run, on the app's thread ~~> app_flight_end ─ publish, answer, tell the host
//   app_tick ─ a commit of the database is due ─> the same
//
// Meanwhile memory holds what is not durable: nobody looks at the state, submissions queue, turns and ticks do nothing. It is always one and the same
// thread, for a transaction of the database is ended by the one that began it.

// Is something under way that nobody may look through? Whoever has to waits, by app_wait or by being asked again.
bool app_in_flight(const struct app *a);
// On the app's thread, once for each options.fly; then on the owner's:
void app_flight_run(struct app *a);
void app_flight_end(struct app *a);

struct app_wait {
    struct app_wait *next, **place; // the app's
    struct app *app;                // while it waits
    void (*fn)(struct app_wait *w);
};
// False: nothing is in flight, go on. True: fn is called once it has landed, behind the answers, in the order of waiting. Waiting twice is waiting. Zeroed at first.
bool app_wait(struct app *a, struct app_wait *w, void (*fn)(struct app_wait *w));
void app_wait_drop(struct app_wait *w); // not waiting: fine

// Waits, on the owner's thread, until nothing is in flight. Not from within a callback of the app's.
void app_land(struct app *a);
// The same, and the app's thread has nothing of it any more, for good: it may end.
void app_home(struct app *a);

// What became of a batch, by its name: fates.h, fates_get; ERR_BUSY while recovering. Results live until the next app_turn or app_tick.
int app_fate(struct app *a, const struct batch_name *name, const struct identity *who, struct fate *out);

// ---- LLM jobs ------------------------------------------------------------------------------------------------------

// As of app_visible. 1: *out is the job, until the next app_turn or app_tick; 0: there is none; ERR_BUSY while recovering; ERR_CORRUPT.
int app_job(struct app *a, struct uuid id, struct job *out);
// The live job that writes the stream at this path. False: there is none, or the app is recovering.
bool app_job_writing(struct app *a, struct span path, struct uuid *out);
// Tokens that jobs ending on the day of `now_ms` have used; and the request of a live job that is to be asked again (false: none).
uint64_t app_jobs_tokens(struct app *a, uint64_t now_ms);
bool app_jobs_ask(struct app *a, struct uuid id, struct buf *out);
// Ids of jobs that have not ended, at most `max`; 0 while recovering.
size_t app_jobs_live(struct app *a, struct uuid *out, size_t max);

// ---- subscriptions of workers --------------------------------------------------------------------------------------

// As of app_visible, with the results of subs.h; ERR_BUSY while recovering. What *out and the callbacks get lives until the next app_turn or app_tick.
int app_sub(struct app *a, struct span id, struct sub *out);
int app_subs_each(struct app *a, bool (*fn)(void *ctx, const struct sub *s), void *ctx);
int app_sub_cursor(struct app *a, const struct sub *s, struct span path, struct sub_cursor *out);
int app_sub_links(struct app *a, const struct sub *s, struct span after, bool (*fn)(void *ctx, struct span path), void *ctx);

// ---- branches (branches.h) -----------------------------------------------------------------------------------------

// As of app_visible. ERR_NO_SUCH_BRANCH, ERR_BUSY while recovering, ERR_CORRUPT.
int app_branch(struct app *a, struct span name, struct branch *out);
int app_branches_each(struct app *a, bool (*fn)(void *ctx, const struct branch *b), void *ctx);
// The seq of the state that it lies over, now.
uint64_t app_branch_at(const struct app *a, const struct branch *b);
// What was written to it, laid over that state: the caller's, to be read until the schema changes. What was written may not fit any more where the branch is
// live: then the error of the operation that does not.
int app_branch_preview(struct app *a, const struct branch *b, struct rows_preview **out, struct problem *p);
// The same as it was at `seq`, not above app_visible. ERR_TOO_OLD.
int app_branch_preview_at(struct app *a, const struct branch *b, uint64_t seq, struct rows_preview **out, struct problem *p);

// ---- users ---------------------------------------------------------------------------------------------------------

// Whoever holds something of the app's stores between two turns (a subscription, an open query, an upload) registers; when the app has to be
// built again, `reset` asks it to let go and to remove itself, at once or when its work on the pool is back.
struct app_user {
    struct app_user *next, *prev;
    struct app *app;
    bool asked;
    void (*reset)(struct app_user *u, int err); // ERR_BUSY: come back soon; ERR_SHUTTING_DOWN; ERR_NO_SUCH_APP: it is dropped
};
void app_user_add(struct app *a, struct app_user *u, void (*reset)(struct app_user *u, int err));
void app_user_remove(struct app_user *u); // not added, or removed before: fine
// Asks all users to go (the service stops).
void app_dismiss(struct app *a);

// ---- sealing: the pool's part of the work --------------------------------------------------------------------------

// A job for streams_seal_write on any thread, or NULL. Must be handed back with its outcome.
struct streams_seal *app_seal_begin(struct app *a);
void app_seal_end(struct app *a, struct streams_seal *job, int err);

// ---- what is done with packs (blobs.h, "life"): a piece for blobs_work_run on any thread, or NULL. Must be handed back.
struct blobs_work *app_blob_work_begin(struct app *a, const struct blobs_pace *pace, uint64_t now_ms);
void app_blob_work_end(struct app *a, struct blobs_work *w, int err); // err: it did not run
// The blob store's index has changed beside any batch: where things lie, what is damaged.
void app_blobs_touched(struct app *a);
// The last commit of the database, to be read by the thread that calls, which ends it with db_abort. The caller is a user of the app's.
struct db_txn *app_snapshot(struct app *a);

// ---- checks --------------------------------------------------------------------------------------------------------

// SHA-256 of the app's logical state: rows, history, streams with their bytes, blobs, jobs, fates, times; not of where anything lies.
int app_state_hash(struct app *a, struct sha256 *out);
// Decides a journal group of another app again, here, and compares: ERR_CORRUPT and a problem that names the entry if fate, results or effects differ. For
// a fresh app and every group from the first on.
int app_redecide(struct app *a, struct span group, struct problem *p);

struct app_counts {
    uint64_t commits, rejections, retries, groups, group_bytes, db_commits, seals, recoveries;
    uint64_t reservations, held; // granted, and batches that waited for one
    uint64_t barrier_us, slow, flights; // running mean of barriers; are they flown, and how much was
    uint64_t journal_live_bytes, journal_disk_bytes, unsealed_bytes, pack_bytes;
    uint64_t live_queries, live_readers; // different ones, and who reads them
    uint64_t live_scanned;               // tables of live queries each of whose changed rows is tried, for no index finds those that matter
};
struct app_counts app_counts(const struct app *a);

#endif
