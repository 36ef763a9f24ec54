// Opening an app, recovering it from its journal, and its users. Files in an app's folder: db/ (LMDB), journal/, streams/, packs/.
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "app_internal.h"
#include "cur.h"
#include "err.h"
#include "file.h"
#include "log.h"

#define META_FORMAT 1
#define PROBE_BYTES (4 * MIB) // room that must be there before writes are taken again
#define RETRY_MS 1000 // between two looks for it
#define FREE_RETRY_MS 30000 // between two tries to give room back that did not even find room for that

static const char *const table_names[] = {"meta", FATES_TABLES, ROWS_TABLES, STREAMS_TABLES, BLOBS_TABLES, JOBS_TABLES, SUBS_TABLES, SEQ_TIMES_TABLES, BRANCHES_TABLES};
_Static_assert(sizeof table_names / sizeof *table_names == TABLE_COUNT, "the enum and the names belong together");

// ---- what a row needs to know to be shown ----

static bool host_stream_at(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, uint64_t *offset, bool *closed)
{
    struct app *a = ctx;
    struct stream_info info;
    if (!streams_find_at(a->streams, txn, path, seq, &info)) return false;
    *offset = info.offset;
    *closed = info.closed;
    return true;
}

// What is asked for is bounded by `out`; of what was trimmed nothing is left to show.
static int host_stream_text(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, struct buf *out)
{
    struct app *a = ctx;
    struct stream_info info;
    if (!streams_find_at(a->streams, txn, path, seq, &info)) return 0;
    uint64_t at = info.first < info.offset ? info.first : info.offset;
    if (info.offset - at > out->max - out->n) return ERR_TOO_LARGE;
    while (at < info.offset) {
        size_t before = out->n;
        int err = streams_read(a->streams, txn, path, at, (size_t)(info.offset - at), out);
        if (err == ERR_NO_SUCH_STREAM || err == ERR_STREAM_GONE) return 0; // deleted since
        if (err != 0) return err;
        if (out->err != 0) return out->err;
        if (out->n == before) return ERR_CORRUPT;
        at += out->n - before;
    }
    return 0;
}

static bool host_blob_at(void *ctx, struct db_txn *txn, const struct sha256 *digest, uint64_t *size, char type[STREAM_TYPE_MAX + 1])
{
    struct app *a = ctx;
    struct blob_info info;
    if (!blobs_find(a->blobs, txn, digest, &info)) return false;
    *size = info.size;
    memcpy(type, info.type, sizeof info.type);
    return true;
}

// ---- the database's own idea of where it stands ----

void app_put_meta(struct app *a)
{
    uint8_t room[64];
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct uuid id = journal_id(a->journal);
    buf_put_u8(&b, META_FORMAT);
    buf_put(&b, id.b, sizeof id.b);
    buf_put_u64(&b, a->applied_group);
    buf_put_u64(&b, a->applied_seq);
    buf_put_u64(&b, a->arrival_ms);
    buf_put_u64(&b, a->commit_ms);
    buf_put_u64(&b, a->clock.last);
    db_put(a->txn, TABLE_META, SPAN_LIT("applied"), buf_span(&b));
}

static int get_meta(struct app *a, struct uuid *id, bool *found)
{
    struct span value;
    *found = db_get(a->txn, TABLE_META, SPAN_LIT("applied"), &value);
    if (!*found) return db_txn_err(a->txn);
    struct cur c;
    cur_init(&c, value);
    uint8_t format = cur_u8(&c);
    struct span uuid = cur_span(&c, sizeof id->b);
    a->applied_group = cur_u64(&c);
    a->applied_seq = cur_u64(&c);
    a->arrival_ms = cur_u64(&c);
    a->commit_ms = cur_u64(&c);
    a->clock.last = cur_u64(&c);
    if (format != META_FORMAT) return ERR_VERSION;
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    memcpy(id->b, uuid.p, sizeof id->b);
    return 0;
}

// ---- recovery ----

static int replay_entry(struct app *a, struct entry *e)
{
    if (e->commit.group > a->db_group) return app_apply(a, e);
    // The database has it; only the stream bytes that are not sealed yet live nowhere else.
    if (e->fate.err != 0 || e->streams.n == 0) return 0;
    return streams_restore(a->streams, a->txn, &e->commit, e->streams);
}

static int on_group(void *ctx, uint64_t group, struct span payload)
{
    struct app *a = ctx;
    struct entry e;
    struct entry_reader reader;
    if (group > a->db_group && group != a->applied_group + 1) {
        return problem_set(a->recover_problem, ERR_CORRUPT, (int64_t)group, "%s: the journal goes on at group %llu, the database ends at %llu", a->name,
                           (unsigned long long)group, (unsigned long long)a->applied_group);
    }
    entry_reader_init(&reader, payload);
    for (;;) {
        int got = entry_read(&reader, &e);
        if (got == 0) break;
        e.commit.group = group;
        int err = got < 0 ? got : replay_entry(a, &e);
        if (err != 0) return problem_set(a->recover_problem, err, (int64_t)group, "%s: an entry of journal group %llu cannot be applied (%s)", a->name, (unsigned long long)group, err_text(err));
    }
    if (group > a->db_group) a->applied_group = group;
    return 0;
}

static int open_journal(struct app *a, bool read_only, struct uuid id, bool known, struct problem *p)
{
    char *path;
    if (asprintf(&path, "%s/journal", a->path) < 0) return ERR_NOMEM;
    struct journal_options options = {.path = path, .segment_bytes = a->options.journal_segment_bytes, .keep_all = a->options.journal_keep_all, .read_only = read_only};
    a->recover_problem = p;
    a->db_group = a->applied_group;
    int err = journal_open(&a->journal, &options, on_group, a, p);
    a->recover_problem = NULL;
    free(path);
    if (err != 0) return err;
    if (known && !uuid_equal(id, journal_id(a->journal))) return problem_set(p, ERR_CORRUPT, -1, "%s: the database belongs to another journal", a->name);
    if (journal_next_group(a->journal) <= a->db_group) return problem_set(p, ERR_CORRUPT, -1, "%s: the database is ahead of its journal", a->name);
    return 0;
}

// Before the journal's tail is applied, which relies on what the lists name. Once, but until it is committed it was not done.
static int rebuild_blobs(struct app *a)
{
    struct blobs_rebuilt counts;
    return blobs_rebuild(a->blobs, a->txn, &counts);
}

static int open_stores(struct app *a)
{
    char *streams_path, *packs_path;
    if (asprintf(&streams_path, "%s/streams", a->path) < 0) return ERR_NOMEM;
    if (asprintf(&packs_path, "%s/packs", a->path) < 0) return free(streams_path), ERR_NOMEM;
    int err = rows_open(&a->rows, &(struct rows_options){.first_table = TABLE_ROWS, .host = &a->host}, a->txn);
    if (err == 0) err = streams_open(&a->streams, &(struct streams_options){.first_table = TABLE_STREAMS, .path = streams_path, .quiet_ms = a->options.seal_quiet_ms, .segment_bytes = a->options.stream_segment_bytes}, a->txn);
    if (err == 0) err = blobs_open(&a->blobs, &(struct blobs_options){.first_table = TABLE_BLOBS, .path = packs_path, .pack_bytes = a->options.blob_pack_bytes}, a->txn);
    if (err == 0 && a->options.blob_rebuild) err = rebuild_blobs(a);
    free(streams_path);
    free(packs_path);
    return err;
}

static void close_all(struct app *a)
{
    if (a->txn_away) app_abort_txn(a);
    row_texts_leave(a);
    rows_close(a->rows);
    streams_close(a->streams);
    blobs_close(a->blobs);
    db_abort(a->txn);
    journal_close(a->journal);
    db_close(a->db);
    a->rows = NULL;
    a->streams = NULL;
    a->blobs = NULL;
    a->txn = NULL;
    a->journal = NULL;
    a->db = NULL;
}

static int open_with(struct app *a, bool read_only, struct problem *p)
{
    char *db_path;
    struct uuid id = {{0}};
    bool known = false;
    if (asprintf(&db_path, "%s/db", a->path) < 0) return ERR_NOMEM;
    a->applied_group = a->applied_seq = a->arrival_ms = a->commit_ms = 0;
    a->clock = (struct hlc){0};
    a->mark = (struct mark){0};
    a->dirty = false;
    int err = db_open(&a->db, &(struct db_options){.path = db_path, .map_bytes = a->options.db_map_bytes, .tables = table_names, .table_count = TABLE_COUNT, .summed = ((1u << BLOBS_TABLE_COUNT) - 1) << TABLE_BLOBS});
    free(db_path);
    if (err == 0) {
        a->txn = db_begin_write(a->db);
        err = get_meta(a, &id, &known);
    }
    if (err == 0) err = seq_times_load(&a->seq_times, a->txn, TABLE_SEQ_TIMES);
    if (err == 0) err = open_stores(a);
    if (err == 0) err = open_journal(a, read_only, id, known, p);
    if (err != 0) {
        problem_set(p, err, -1, "%s: cannot be opened (%s)", a->name, err_text(err));
        close_all(a);
        return err;
    }
    rows_publish(a->rows, a->txn, a->applied_seq);
    streams_publish(a->streams, a->applied_seq);
    blobs_publish(a->blobs, a->applied_seq);
    a->visible_seq = a->applied_seq;
    return 0;
}

// What was replayed is put into the database at once, so that a start that is cut off again need not do it twice. The commit is made and synced even
// if nothing was replayed: where a sync failed before, the meta page that is read from memory now may not be on the disk, and
// LMDB may write over the pages of the one that is. With this commit there, it cannot.
static int open_for_writing(struct app *a, struct problem *p)
{
    int err = open_with(a, false, p);
    if (err != 0) return err;
    err = app_commit_db(a);
    if (err == 0) err = db_sync(a->db);
    if (err == 0) a->options.blob_rebuild = false;
    if (err == 0) return 0;
    close_all(a);
    return problem_set(p, err, -1, "%s: the database cannot be written (%s)", a->name, err_text(err));
}

static bool is_full(int err)
{
    return err == ERR_NO_SPACE || err == ERR_MAP_FULL;
}

// A disk that says it is full is believed: only one that says it is not is asked by writing.
static bool has_room(const struct app *a, uint64_t bytes)
{
    struct statvfs st;
    return statvfs(a->path, &st) != 0 || (uint64_t)st.f_bavail * st.f_frsize >= bytes;
}

// ---- the reserve ----

// What opening for writing takes, and some commits.
static uint64_t reserve_bytes(const struct app *a)
{
    return PROBE_BYTES + a->options.journal_segment_bytes;
}

static char *reserve_path(const struct app *a)
{
    char *path;
    return asprintf(&path, "%s/reserve", a->path) < 0 ? NULL : path;
}

static bool reserve_is_there(const struct app *a)
{
    struct stat st;
    char *path = reserve_path(a);
    bool there = path != NULL && stat(path, &st) == 0 && (uint64_t)st.st_size >= reserve_bytes(a); // or a kill left less of it
    free(path);
    return there;
}

static bool has_room_for_reserve(const struct app *a)
{
    return has_room(a, reserve_bytes(a) + PROBE_BYTES);
}

// Where it is not there and there is room. Without one the app works as well, until the disk is full.
static void reserve_make(struct app *a)
{
    char *path = reserve_path(a);
    if (path == NULL || reserve_is_there(a) || !has_room_for_reserve(a)) {
        free(path);
        return;
    }
    int fd = file_open(path, O_RDWR | O_CREAT);
    bool ok = fd >= 0 && posix_fallocate(fd, 0, (off_t)reserve_bytes(a)) == 0 && file_sync(fd) == 0;
    file_close(fd);
    if (fd >= 0 && !ok) unlink(path);
    free(path);
}

// True: there is room now that was not there before.
static bool reserve_drop(struct app *a)
{
    char *path = reserve_path(a);
    bool dropped = path != NULL && unlink(path) == 0;
    if (dropped) log_warn("app", "the disk is full: the reserve is given up to make room", LF_STR("app", a->name), LF_UINT("bytes", reserve_bytes(a)));
    free(path);
    return dropped;
}

// ---- opening, and what can be made of a full disk ----

// With room for the journal's tail to be made safe, or else for reading only.
static int open_app(struct app *a, struct problem *p)
{
    struct problem first = PROBLEM_NONE;
    int err = open_for_writing(a, &first);
    if (err == ERR_NO_SPACE && reserve_drop(a)) {
        first = PROBLEM_NONE;
        a->full = true;
        err = open_for_writing(a, &first);
    }
    if (err == 0 && !a->full) reserve_make(a);
    // What gave it up has not got all of its room back.
    a->full = a->full || (err == 0 && !reserve_is_there(a) && !has_room_for_reserve(a));
    a->state = a->full ? APP_FULL : APP_READY;
    if (err == ERR_NO_SPACE || err == ERR_MAP_FULL || err == ERR_IO) {
        log_warn("app", "opened for reading only", LF_STR("app", a->name), LF_ERR(err));
        a->refused = err;
        err = open_with(a, true, p);
        a->state = APP_READ_ONLY;
    } else if (err != 0 && p != NULL) {
        *p = first;
    }
    if (err != 0) return err;
    log_info("app", "opened", LF_STR("app", a->name), LF_STR("state", app_state_name(a->state)), LF_UINT("seq", a->applied_seq), LF_UINT("db_group", a->db_group),
             LF_UINT("group", a->applied_group));
    return 0;
}

int app_open(struct app **out, const struct app_options *options, struct problem *p)
{
    struct app *a = calloc(1, sizeof *a);
    if (a == NULL) return ERR_NOMEM;
    assert(strlen(options->name) <= NAME_MAX_BYTES);
    a->options = *options;
    if (a->options.retry_ms == 0) a->options.retry_ms = RETRY_MS;
    if (a->options.journal_segment_bytes == 0) a->options.journal_segment_bytes = JOURNAL_SEGMENT_BYTES;
    memcpy(a->name, options->name, strlen(options->name) + 1);
    a->slow = options->barrier == APP_BARRIER_THREAD && options->fly != NULL;
    a->path = strdup(options->path);
    a->host = (struct rows_host){.ctx = a, .stream_at = host_stream_at, .stream_text = host_stream_text, .blob_at = host_blob_at};
    buf_init(&a->group, GROUP_BYTES_MAX);
    buf_init(&a->shortened, ENTRY_BYTES_MAX);
    decision_init(&a->decision, a);
    reservations_init(&a->reservations);
    int err = a->path == NULL ? ERR_NOMEM : dir_make(a->path);
    if (err == 0) err = open_app(a, p);
    if (err != 0) {
        problem_set(p, err, -1, "%s: %s", options->name, err_text(err));
        app_close(a);
        return err;
    }
    *out = a;
    return 0;
}

uint64_t app_now_ms(void)
{
    return clock_mono_us() / 1000;
}

void app_close(struct app *a)
{
    if (a == NULL) return;
    app_home(a);
    assert(a->users == NULL && !a->sealing && !a->blob_working && !a->in_turn && a->waits == NULL);
    app_refuse(a, ERR_SHUTTING_DOWN);
    if (a->db != NULL && a->state != APP_RECOVERING && a->state != APP_READ_ONLY && a->dirty && app_commit_db(a) == 0) db_sync(a->db);
    close_all(a);
    decision_free(&a->decision);
    reservations_free(&a->reservations);
    buf_free(&a->group);
    buf_free(&a->shortened);
    free(a->made.answers);
    free(a->path);
    free(a);
}

// ---- users, and building the app again ----

void app_user_add(struct app *a, struct app_user *u, void (*reset)(struct app_user *u, int err))
{
    *u = (struct app_user){.next = a->users, .app = a, .reset = reset};
    if (a->users != NULL) a->users->prev = u;
    a->users = u;
}

void app_user_remove(struct app_user *u)
{
    if (u->app == NULL) return;
    if (u->prev != NULL) u->prev->next = u->next;
    else u->app->users = u->next;
    if (u->next != NULL) u->next->prev = u->prev;
    *u = (struct app_user){0};
}

// A reset may remove its own user, or others: the walk begins anew after each call.
static void ask_users(struct app *a, int err)
{
    for (struct app_user *u = a->users; u != NULL;) {
        if (u->asked) {
            u = u->next;
            continue;
        }
        u->asked = true;
        u->reset(u, err);
        u = a->users;
    }
}

void app_dismiss(struct app *a)
{
    a->dismissing = app_in_flight(a); // users may look at what they leave
    if (a->dismissing) return;
    app_go_on(a, true); // nobody comes back for what is reserved
    ask_users(a, ERR_SHUTTING_DOWN);
}

// To everybody who still knows of it, it is an app that is being built again, and never will be.
void app_discard(struct app *a)
{
    assert(!a->in_turn && !a->dropped);
    a->dropped = true;
    a->state = APP_RECOVERING;
    app_refuse(a, ERR_NO_SUCH_APP);
    if (!app_in_flight(a)) ask_users(a, ERR_NO_SUCH_APP); // else the tick does
}

bool app_discarded(const struct app *a)
{
    return a->dropped && a->db == NULL && a->users == NULL;
}

static void retry_drop(struct app *a)
{
    ask_users(a, ERR_NO_SUCH_APP);
    if (a->users == NULL && !a->sealing && !a->blob_working && a->db != NULL) close_all(a);
}

void app_fail(struct app *a, int err)
{
    log_error("app", "a write failed; building the app again from its journal", LF_STR("app", a->name), LF_ERR(err), LF_UINT("visible", a->visible_seq));
    a->state = APP_RECOVERING;
    a->failed = err;
    // Even what gives room back finds none. With the reserve it might; without it, every try would send all users away for nothing.
    if (a->full && !(err == ERR_NO_SPACE && reserve_drop(a))) a->free_ms = app_now_ms() + FREE_RETRY_MS;
    a->full = a->full || is_full(err);
    a->counts.recoveries++;
    app_refuse(a, ERR_BUSY);
    ask_users(a, ERR_BUSY);
}

static void reopen(struct app *a)
{
    struct problem p = PROBLEM_NONE;
    close_all(a);
    int err = open_app(a, &p);
    a->retry_ms = app_now_ms() + a->options.retry_ms;
    if (err != 0) {
        // Nothing to read from either. Stays RECOVERING, and is tried again.
        log_error("app", "cannot be opened again", LF_STR("app", a->name), LF_ERR(err), LF_STR("problem", problem_text(&p)));
        a->state = APP_RECOVERING;
    }
}

// Is there room, really? Asks by writing, which is the only question a disk answers honestly.
static bool probe(struct app *a)
{
    char *path;
    uint8_t *zeros = calloc(1, PROBE_BYTES);
    if (zeros == NULL || asprintf(&path, "%s/probe.tmp", a->path) < 0) return free(zeros), false;
    int fd = file_open(path, O_RDWR | O_CREAT | O_TRUNC);
    bool ok = fd >= 0 && file_write(fd, SPAN(zeros, PROBE_BYTES), 0) == 0 && file_sync(fd) == 0;
    file_close(fd);
    if (fd >= 0) unlink(path);
    free(path);
    free(zeros);
    return ok;
}

static void retry_recovery(struct app *a, uint64_t now_ms)
{
    bool waited = a->rows != NULL || now_ms >= a->retry_ms; // a reopening that failed is not tried in a hot loop
    ask_users(a, ERR_BUSY);                                 // those who came since
    if (a->users == NULL && !a->sealing && !a->blob_working && waited) reopen(a);
}

// Called by the tick in the states that wait for something.
void app_retry(struct app *a, uint64_t now_ms)
{
    if (a->dropped) {
        retry_drop(a);
        return;
    }
    if (a->state == APP_RECOVERING) {
        retry_recovery(a, now_ms);
        return;
    }
    if (now_ms < a->retry_ms) return;
    a->retry_ms = now_ms + a->options.retry_ms;
    // Opening for writing takes a whole segment; to try it sends every user away, so it is not tried in vain.
    // Where the reserve is gone it comes first: what it was kept for may come again.
    if (!has_room(a, reserve_bytes(a) * (reserve_is_there(a) ? 1 : 2)) || !probe(a)) return;
    log_info("app", "the disk takes writes again", LF_STR("app", a->name));
    a->full = false;
    if (a->state == APP_FULL) {
        a->state = APP_READY;
        reserve_make(a);
        return;
    }
    a->state = APP_RECOVERING; // READ_ONLY: the journal has to be opened for writing
    a->failed = 0;
    ask_users(a, ERR_BUSY);
}

// ---- looking ----

const char *app_name(const struct app *a)
{
    return a->name;
}

// What is open for reading only because nothing more fits is full, to everybody else.
enum app_state app_state(const struct app *a)
{
    return a->state == APP_READ_ONLY && is_full(a->refused) ? APP_FULL : a->state;
}

const char *app_state_name(enum app_state state)
{
    static const char *const names[] = {[APP_READY] = "ready", [APP_RECOVERING] = "recovering", [APP_FULL] = "full", [APP_READ_ONLY] = "read_only"};
    return names[state];
}

struct uuid app_journal_id(const struct app *a)
{
    return a->journal != NULL ? journal_id(a->journal) : (struct uuid){{0}};
}

struct rows *app_rows(struct app *a)
{
    assert(!app_in_flight(a));
    return a->rows;
}

struct streams *app_streams(struct app *a)
{
    assert(!app_in_flight(a));
    return a->streams;
}

struct blobs *app_blobs(struct app *a)
{
    assert(!app_in_flight(a));
    return a->blobs;
}

uint64_t app_visible(const struct app *a)
{
    return a->visible_seq;
}

uint64_t app_visible_ms(const struct app *a)
{
    return a->commit_ms;
}

struct db_txn *app_txn(struct app *a)
{
    if (a->state == APP_RECOVERING) return NULL;
    assert(!app_in_flight(a));
    return a->txn;
}

int app_fate(struct app *a, const struct batch_name *name, const struct identity *who, struct fate *out)
{
    *out = (struct fate){.err = ERR_BUSY, .problem = PROBLEM_NONE};
    if (app_txn(a) != NULL) return fates_get(a->txn, TABLE_FATES, name, who, out);
    return problem_set(&out->problem, ERR_BUSY, -1, "%s", err_text(ERR_BUSY));
}

int app_job(struct app *a, struct uuid id, struct job *out)
{
    return app_txn(a) == NULL ? ERR_BUSY : jobs_find(a->txn, TABLE_JOBS, id, out);
}

int app_seq_time(struct app *a, uint64_t seq, uint64_t span_ms, struct seq_time *out)
{
    return app_txn(a) == NULL ? ERR_BUSY : seq_times_find(a->txn, TABLE_SEQ_TIMES, seq, span_ms, out);
}

bool app_job_writing(struct app *a, struct span path, struct uuid *out)
{
    return app_txn(a) != NULL && jobs_writing(a->txn, TABLE_JOBS, path, out);
}

size_t app_jobs_live(struct app *a, struct uuid *out, size_t max)
{
    return app_txn(a) == NULL ? 0 : jobs_live(a->txn, TABLE_JOBS, out, max);
}

// ---- subscriptions, as of what is shown ----

static bool shown_find(void *ctx, struct span path, struct stream_info *out)
{
    struct app *a = ctx;
    if (!streams_find(a->streams, a->txn, path, out) || out->gone) return false;
    return out->deadline_ms == 0 || clock_wall_ms() < out->deadline_ms;
}

static bool shown_find_at(void *ctx, struct span path, uint64_t seq, struct stream_info *out)
{
    struct app *a = ctx;
    return streams_find_at(a->streams, a->txn, path, seq, out);
}

int app_sub(struct app *a, struct span id, struct sub *out)
{
    return app_txn(a) == NULL ? ERR_BUSY : subs_find(a->txn, TABLE_SUBS, id, out);
}

int app_subs_each(struct app *a, bool (*fn)(void *ctx, const struct sub *s), void *ctx)
{
    return app_txn(a) == NULL ? ERR_BUSY : subs_each(a->txn, TABLE_SUBS, fn, ctx);
}

int app_sub_cursor(struct app *a, const struct sub *s, struct span path, struct sub_cursor *out)
{
    struct subs_host host = {.ctx = a, .find = shown_find, .find_at = shown_find_at};
    return app_txn(a) == NULL ? ERR_BUSY : subs_cursor(a->txn, TABLE_SUBS, &host, s, path, out);
}

int app_sub_links(struct app *a, const struct sub *s, struct span after, bool (*fn)(void *ctx, struct span path), void *ctx)
{
    return app_txn(a) == NULL ? ERR_BUSY : subs_links(a->txn, TABLE_SUBS, s, after, fn, ctx);
}

struct app_counts app_counts(const struct app *a)
{
    struct app_counts c = a->counts;
    c.reservations = a->reservations.grants;
    c.held = a->reservations.holds;
    c.slow = a->slow;
    if (a->journal == NULL) return c;
    bool flies = a->flight.task != FLIGHT_NONE; // then the journal is the thread's
    c.journal_live_bytes = flies ? a->flight.journal_live_bytes : journal_live_bytes(a->journal);
    c.journal_disk_bytes = flies ? a->flight.journal_disk_bytes : journal_disk_bytes(a->journal);
    c.unsealed_bytes = streams_unsealed_bytes(a->streams);
    c.pack_bytes = blobs_pack_bytes(a->blobs);
    struct rows_counts rows = rows_counts(a->rows);
    c.live_queries = rows.views;
    c.live_readers = rows.subs;
    c.live_scanned = rows.scanned;
    return c;
}

uint64_t app_jobs_tokens(struct app *a, uint64_t now_ms)
{
    return app_txn(a) == NULL ? 0 : jobs_tokens(a->txn, TABLE_JOBS, now_ms);
}

bool app_jobs_ask(struct app *a, struct uuid id, struct buf *out)
{
    return app_txn(a) != NULL && jobs_ask(a->txn, TABLE_JOBS, id, out);
}
