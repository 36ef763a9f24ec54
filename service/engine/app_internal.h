// The inside of an app, for app.c (opening, recovery, users), app_decide.c (deciding and applying), app_turn.c (groups) and app_flight.c (the disk).
#ifndef SEGUE_APP_INTERNAL_H
#define SEGUE_APP_INTERNAL_H

#include "app.h"
#include "branches.h"
#include "db.h"
#include "entry.h"
#include "hlc.h"
#include "jobs.h"
#include "journal.h"
#include "reservations.h"
#include "row_texts.h"
#include "seq_times.h"
#include "subs.h"

// The tables of an app's database. Their order is on disk only as names.
enum { TABLE_META, TABLE_FATES, TABLE_ROWS, TABLE_STREAMS = TABLE_ROWS + ROWS_TABLE_COUNT, TABLE_BLOBS = TABLE_STREAMS + STREAMS_TABLE_COUNT, TABLE_JOBS = TABLE_BLOBS + BLOBS_TABLE_COUNT, TABLE_SUBS = TABLE_JOBS + JOBS_TABLE_COUNT, TABLE_SEQ_TIMES = TABLE_SUBS + SUBS_TABLE_COUNT, TABLE_BRANCHES = TABLE_SEQ_TIMES + SEQ_TIMES_TABLE_COUNT, TABLE_COUNT = TABLE_BRANCHES + BRANCHES_TABLE_COUNT };

// What deciding one batch works with; kept from batch to batch for its memory.
struct decision {
    struct app *app;
    struct rows_host host; // what `rows` asks of the other two
    struct rows_batch *rows;
    struct streams_batch *streams;
    struct blobs_batch *blobs;
    struct problem problem; // of a rejection
    struct read_set *reads; // of a transaction; NULL: of anything else
    struct buf results;
    struct buf row_effects, stream_effects, blob_effects, job_effects, sub_effects, branch_effects;
    struct buf branch_ops;   // a write's, with ids
    size_t branch_ids;       // made for it
    size_t job_steps; // of LLM jobs, at most two
    struct uuid job;  // of the first
};

// A commit of the database: what the journal may forget once a later commit has made this one durable.
struct mark {
    uint64_t group; // every group up to here is in the database, and its stream bytes are sealed
};

// What a submission will be told once its group is durable.
struct answer {
    struct submission *submission;
    struct fate fate;
    size_t results_at, results_n; // in the group's results, which may move while it grows
};

// What was decided, and is not said yet.
struct group {
    struct answer *answers; // kept from turn to turn while they are few
    size_t count, cap;
    struct buf results;
    struct entry_place place;
    size_t entries, accepted; // entries of batches that were decided now, and those accepted among them
};

// What is asked of the disk. While one that hides is under way, memory and the open transaction are ahead of the disk, or the transaction is nobody's:
// nothing of the state is given out (app_in_flight).
enum flight_task {
    FLIGHT_NONE,
    FLIGHT_GROUP,   // hides: the barrier of a group
    FLIGHT_COMMIT,  // hides: the database's
    FLIGHT_BEGIN,   // hides: the next transaction
    FLIGHT_ABORT,   // hides: the transaction's end, nothing behind it
    FLIGHT_SYNC,    // of the database
    FLIGHT_PREPARE, // room in the journal, a step
};

struct flight {
    enum flight_task task;
    bool flown; // by the app's thread; or at once, by the owner
    bool ran;
    bool stays; // of a commit: whoever made it begins the next transaction
    int err;
    bool unknown;  // of a group: its fate
    bool more;     // of a preparation
    uint64_t bytes; // of a group, in the journal
    uint64_t took_us;
    struct mark mark;          // of a commit
    uint64_t journal_live_bytes, journal_disk_bytes; // from before it
};

struct app {
    struct app_options options;
    char name[NAME_MAX_BYTES + 1];
    char *path;
    enum app_state state;

    struct db *db;
    struct db_txn *txn; // open all the time but for the moment of a commit
    struct journal *journal;
    struct rows *rows;
    struct streams *streams;
    struct blobs *blobs;
    struct rows_host host;
    struct row_texts row_texts;

    // The order. `applied` runs ahead of `visible` inside a turn, and while it is in flight.
    uint64_t applied_seq, visible_seq;
    uint64_t applied_group;
    uint64_t arrival_ms;    // of the last entry, accepted or not
    uint64_t commit_ms;     // of the last commit
    struct hlc clock;
    struct seq_times seq_times;

    // Recovery: where the database stood, before the journal was replayed.
    uint64_t db_group;
    struct problem *recover_problem;

    // Submissions of the next turn, in order.
    struct submission *first, *last;
    size_t waiting, waiting_bytes;
    bool in_turn;
    struct reservations reservations;

    // The turn's own memory.
    struct decision decision;
    struct buf group;
    struct buf shortened; // the request of the entry being decided, where it is not as it was submitted
    struct group made;

    // The disk.
    struct flight flight;
    bool slow;             // what waits for it is flown
    uint64_t barrier_8us;  // running mean of barriers, in eighths of microseconds
    bool txn_away;         // the app's thread began the transaction, and ends it
    struct app_wait *waits, **waits_end;
    bool dismissing;       // when what is in flight has landed

    // The database commit.
    bool dirty;
    uint64_t dirty_since_ms;
    uint64_t commit_took_ms;
    struct mark mark; // of the last database commit; safe to recycle up to once there is another

    int failed;        // why the app is RECOVERING
    bool dropped;      // then it is RECOVERING for good
    bool full;         // from the write that found no room until there is some
    uint64_t free_ms;  // FULL: not before is anything tried that gives room back
    int refused;       // why it could be opened for reading only
    uint64_t retry_ms; // when to try again, by app_now_ms
    bool preparing;    // the journal makes room, a step per tick
    bool sealing;
    bool blob_working;
    uint64_t sealed_ms;
    struct app_user *users;
    struct branch_feed *branch_feeds;
    size_t branch_feed_count;
    struct result_feed *result_feeds, *result_feeds_stale; // all, and those whose rows have changed since they were looked at
    struct result_sets *result_sets; // NULL: nobody follows streams in a result
    bool branches_changed, rows_changed; // since something was published last
    struct app_counts counts;
};

// app_decide.c ---------------------------------------------------------------------------------------------------------

void decision_init(struct decision *d, struct app *a);
void decision_free(struct decision *d);

// Decides a batch over the state and what this group applied before: a pure function of the two. 0: decided, out->fate and the effects (which live in
// a->decision until the next call) are filled; e->commit has everything but its seq. A negative error is a fault of the machine: nothing is decided.
int app_decide(struct app *a, struct entry *e);

// The submission's request as it is decided and journaled: what names its stream by a long path, and asks for what is so already, is said by the stream's
// number. Lives until the next call.
struct span app_shorten(struct app *a, const struct submission *s);

// Takes a decided or recovered entry into memory and the open transaction. An error leaves the app to be recovered.
int app_apply(struct app *a, const struct entry *e);

// app_branch.c ---------------------------------------------------------------------------------------------------------

struct rows_preview;
// Lays all that was written to the branch over `v`.
int app_branch_lay(struct app *a, const struct branch *b, struct rows_preview *v, struct problem *p);
// Records the rows that it writes, and finishes the set.
int app_branch_rows(struct app *a, const struct branch *b, struct read_set *set);

// branch_feed.c --------------------------------------------------------------------------------------------------------

// Tells those who follow branches what was published.
void branch_feeds_publish(struct app *a);

// result_feed.c --------------------------------------------------------------------------------------------------------

// Behind what is published of rows and before what is of streams: takes the rows in that came.
void result_feeds_publish(struct app *a);

// app.c ----------------------------------------------------------------------------------------------------------------

// Memory is ahead of what the disk has, or the disk failed: everything is thrown away and built again when the last user is gone. After ERR_NO_SPACE
// and ERR_MAP_FULL the app is FULL then.
void app_fail(struct app *a, int err);
void app_put_meta(struct app *a); // where the database will stand when this transaction is committed
// For waiting: a clock that no one sets.
uint64_t app_now_ms(void);
// RECOVERING: builds the app again once nobody holds on to it. FULL, READ_ONLY: looks for room now and then.
void app_retry(struct app *a, uint64_t now_ms);

// app_flight.c ---------------------------------------------------------------------------------------------------------

// Does the task: at once, or by the app's thread where the disk is slow. Its end is handled here, too, now or from app_flight_end.
void app_fly(struct app *a, enum flight_task task);
// Commits the database at a group's edge and lets the journal forget: at once, and the transaction is open again behind it, also after a failure; whoever
// calls has to app_fail then.
int app_commit_db(struct app *a);
// The same as a task: a failure is handled.
void app_commit(struct app *a);
// The database has something that its last commit has not.
void app_dirty(struct app *a);
// Ends the transaction without a commit, where it was begun.
void app_abort_txn(struct app *a);
// A task that is due: a commit, or a sync where nothing has come for a while.
void app_disk_tick(struct app *a, uint64_t now_ms);

// app_turn.c -----------------------------------------------------------------------------------------------------------

// Behind the barrier of the group that was made: its outcome is that of a->flight.
void app_group_end(struct app *a);
// The journal and the database are open for writing.
bool app_is_open(const struct app *a);
// What was held for a reservation, and may go on, waits at the front again; with `all`, all of it.
void app_go_on(struct app *a, bool all);
// Answers everything that waits with an error.
void app_refuse(struct app *a, int err);

#endif
