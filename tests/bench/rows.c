// rows: the same rows kept by an app's engine and by SQLite, each inside this very process and synced batch by batch: how fast, for how much of a processor,
// in how many bytes.
//
//   rows ours|sqlite|sqlite_rowid DIR ROWS BATCH AHEAD state|n|body|none
//
// Inserts ROWS in batches of BATCH, then changes this column of each of them, in another order; AHEAD batches share a barrier. Prints for both the rows a
// second (insert_rate=), the processor's time for one (insert_us=) and the bytes for one of all pages in use behind it (insert_bytes=). Ours keeps every
// version; SQLite the last one. Of ours also what each table takes, and `book`: bytes in journal and database that are there for batches rather than for what
// is in the rows. Where SQLite's header is missing, it says skip=.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "app_internal.h" // to see its tables
#include "file.h"

#if __has_include(<sqlite3.h>)
#include <sqlite3.h>
#define WITH_SQLITE 1
#else
#define WITH_SQLITE 0
#endif

#define BODY 72 // with the id and three numbers of four bytes a row of 100
#define OWNERS 10000
#define AHEAD_MAX 64

// The table of both. SQLite's has its rows in the tree of their keys, which is its best; or, as it comes without being asked, a second tree for the keys.
#define COLUMNS "owner integer not null, n integer not null, state integer not null, body text not null"
#define INDEX "create index items_owner on items (owner, n)"
#define TABLE_OURS "create table items (" COLUMNS ");" INDEX
#define TABLE_SQLITE "create table items (id blob primary key, " COLUMNS ") without rowid;" INDEX
#define TABLE_SQLITE_ROWID "create table items (id blob primary key, " COLUMNS ");" INDEX

enum change { INSERT, CHANGE_STATE, CHANGE_N, CHANGE_BODY, CHANGES };
static const char *const names[CHANGES] = {NULL, "state", "n", "body"};

struct ahead {
    struct submission submission; // first
    struct buf request;
};

struct rows_run {
    size_t rows, batch, ahead;
    struct uuid *ids;
    struct app *app;
    struct ahead batches[AHEAD_MAX];
    size_t under_way;
    uint64_t counter;
    struct uuid replica;
    uint64_t content; // bytes of operations and effects in the journal
#if WITH_SQLITE
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *change[CHANGES];
#endif
};

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "rows: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t dice(void)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

static double clock_s(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// What is written to a row: the same in both.
struct content {
    struct uuid id;
    int64_t owner, n, state;
    char body[BODY];
};

// Ids as a client makes them: of the moment, and random within it.
static struct uuid new_id(void)
{
    uint64_t random[2] = {dice(), dice()};
    return uuid_v7(clock_wall_ms(), (const uint8_t *)random);
}

static void content_make(struct rows_run *r, enum change change, size_t i, struct content *c)
{
    if (change == INSERT) r->ids[i] = new_id();
    c->id = r->ids[i];
    c->owner = (int64_t)(dice() % OWNERS);
    c->n = (int64_t)(dice() % 1000000);
    c->state = (int64_t)(dice() % 1000);
    for (size_t k = 0; k < BODY; k++)
        c->body[k] = (char)('a' + (dice() >> 24) % 26);
}

// Whoever changes rows does not come by them in the order in which they were made.
static void shuffle(struct rows_run *r)
{
    for (size_t i = r->rows - 1; i > 0; i--) {
        size_t k = dice() % (i + 1);
        struct uuid id = r->ids[i];
        r->ids[i] = r->ids[k];
        r->ids[k] = id;
    }
}

// ---- ours ------------------------------------------------------------------------------------------------------------------------------------

static void on_fate(struct submission *s, const struct fate *f)
{
    (void)s;
    if (f->err != 0) fail(f->problem.text);
}

static void ours_submit(struct rows_run *r, struct ahead *b)
{
    b->submission = (struct submission){.done = on_fate, .identity = {IDENTITY_ADMIN, "admin"}, .request = buf_span(&b->request), .inserts = true};
    b->submission.name.kind = BATCH_REPLICA;
    b->submission.name.replica = r->replica;
    b->submission.name.counter = ++r->counter;
    if (b->request.err != 0 || app_submit(r->app, &b->submission) != 0) fail("a batch was not taken");
}

static void ours_open(struct rows_run *r, const char *dir)
{
    struct problem p = PROBLEM_NONE;
    char path[4096];
    snprintf(path, sizeof path, "%s/app", dir);
    if (app_open(&r->app, &(struct app_options){.name = "bench", .path = path}, &p) != 0) fail(p.text);
    r->replica = new_id();
    for (size_t i = 0; i < AHEAD_MAX; i++)
        buf_init(&r->batches[i].request, ENTRY_BYTES_MAX / 2);
    struct ahead *b = &r->batches[0];
    batch_put_op(&b->request, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = SPAN_LIT(TABLE_OURS)});
    ours_submit(r, b);
    app_turn(r->app);
}

static struct row_column named(const char *name, struct row_value value)
{
    return (struct row_column){.name = SPAN_STR(name), .value = value};
}

static void ours_put(struct buf *out, enum change change, const struct content *c)
{
    struct row_value owner = {.kind = ROW_INT, .i = c->owner}, n = {.kind = ROW_INT, .i = c->n}, state = {.kind = ROW_INT, .i = c->state};
    struct row_value body = {.kind = ROW_TEXT, .s = SPAN(c->body, BODY)};
    struct row_column columns[] = {named("owner", owner), named("state", state), named("n", n), named("body", body)};
    size_t first = change == INSERT ? 0 : change, count = change == INSERT ? 4 : 1;
    struct row_op op = {.kind = change == INSERT ? ROW_INSERT : ROW_UPDATE, .table = SPAN_LIT("items"), .has_id = true, .id = c->id,
                        .columns = columns + first, .column_count = count};
    batch_put_op(out, &(struct batch_op){.kind = change == INSERT ? BATCH_INSERT : BATCH_UPDATE, .row = op});
}

#define EFFECTS_HEAD 4 // of an entry's effects; the rest is of rows

// Batches of one turn are alike: the effects of the last one are there to be looked at.
static void ours_turn(struct rows_run *r)
{
    app_turn(r->app);
    for (size_t i = 0; i < r->under_way; i++)
        r->content += r->batches[i].request.n + r->app->decision.row_effects.n - EFFECTS_HEAD;
    r->under_way = 0;
    app_tick(r->app);
}

static void ours_batch(struct rows_run *r, enum change change, size_t first, size_t n)
{
    struct content c;
    struct ahead *b = &r->batches[r->under_way++];
    buf_clear(&b->request);
    for (size_t i = 0; i < n; i++) {
        content_make(r, change, first + i, &c);
        ours_put(&b->request, change, &c);
    }
    ours_submit(r, b);
    if (r->under_way == r->ahead) ours_turn(r);
}

// Pages that the last commit reaches: the file is sparse, and those that are free will be used again. The journal holds nothing that is not here, once it was
// committed, and lets go of it.
static uint64_t ours_bytes(struct rows_run *r)
{
    static const char *const tables[] = {ROWS_TABLES};
    uint64_t sum = 0, book = app_counts(r->app).group_bytes - r->content;
    while (r->app->dirty) {
        nanosleep(&(struct timespec){.tv_nsec = DB_DIRTY_MS_MAX * 1000000L}, NULL);
        app_tick(r->app);
    }
    for (int i = 0; i < TABLE_COUNT; i++) {
        uint64_t bytes = db_table_bytes(r->app->txn, i);
        bool kept = i >= TABLE_ROWS && i < TABLE_ROWS + ROWS_TABLE_COUNT;
        const char *name = kept ? tables[i - TABLE_ROWS] : "";
        sum += bytes;
        if (!kept || strcmp(name, "row_commits") == 0) book += bytes;
        if (kept) printf("%s=%.1f\n", name, (double)bytes / (double)r->rows);
    }
    printf("book=%.3f\njournal=%.3f\n", (double)book / (double)r->rows, (double)app_counts(r->app).group_bytes / (double)r->rows);
    return sum;
}

// ---- SQLite: write-ahead log, synchronous=FULL ---------------------------------------------------------------------------------------------------

#if WITH_SQLITE
static void run_sql(struct rows_run *r, const char *sql)
{
    if (sqlite3_exec(r->db, sql, NULL, NULL, NULL) != SQLITE_OK) fail(sqlite3_errmsg(r->db));
}

static sqlite3_stmt *prepare(struct rows_run *r, const char *sql)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(r->db, sql, -1, &s, NULL) != SQLITE_OK) fail(sqlite3_errmsg(r->db));
    return s;
}

static void step(struct rows_run *r, sqlite3_stmt *s)
{
    if (sqlite3_step(s) != SQLITE_DONE) fail(sqlite3_errmsg(r->db));
    sqlite3_reset(s);
}

static void sqlite_open(struct rows_run *r, const char *dir, bool rowid)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/rows.db", dir);
    if (sqlite3_open(path, &r->db) != SQLITE_OK) fail(path);
    run_sql(r, "pragma journal_mode=wal; pragma synchronous=full");
    run_sql(r, rowid ? TABLE_SQLITE_ROWID : TABLE_SQLITE);
    r->begin = prepare(r, "begin");
    r->commit = prepare(r, "commit");
    r->change[INSERT] = prepare(r, "insert into items (owner, state, n, body, id) values (?1, ?2, ?3, ?4, ?5)");
    r->change[CHANGE_STATE] = prepare(r, "update items set state = ?2 where id = ?5");
    r->change[CHANGE_N] = prepare(r, "update items set n = ?3 where id = ?5");
    r->change[CHANGE_BODY] = prepare(r, "update items set body = ?4 where id = ?5");
}

static void sqlite_row(struct rows_run *r, enum change change, const struct content *c)
{
    sqlite3_stmt *s = r->change[change];
    if (change == INSERT) sqlite3_bind_int64(s, 1, c->owner);
    if (change == INSERT || change == CHANGE_STATE) sqlite3_bind_int64(s, 2, c->state);
    if (change == INSERT || change == CHANGE_N) sqlite3_bind_int64(s, 3, c->n);
    if (change == INSERT || change == CHANGE_BODY) sqlite3_bind_text(s, 4, c->body, BODY, SQLITE_STATIC);
    sqlite3_bind_blob(s, 5, c->id.b, sizeof c->id.b, SQLITE_STATIC);
    step(r, s);
}

static void sqlite_batch(struct rows_run *r, enum change change, size_t first, size_t n)
{
    struct content c;
    if (n > 1) step(r, r->begin);
    for (size_t i = 0; i < n; i++) {
        content_make(r, change, first + i, &c);
        sqlite_row(r, change, &c);
    }
    if (n > 1) step(r, r->commit);
}

static uint64_t sqlite_pragma(struct rows_run *r, const char *sql)
{
    sqlite3_stmt *s = prepare(r, sql);
    if (sqlite3_step(s) != SQLITE_ROW) fail(sqlite3_errmsg(r->db));
    uint64_t n = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

static uint64_t sqlite_bytes(struct rows_run *r)
{
    run_sql(r, "pragma wal_checkpoint(truncate)");
    return (sqlite_pragma(r, "pragma page_count") - sqlite_pragma(r, "pragma freelist_count")) * sqlite_pragma(r, "pragma page_size");
}
#endif

// ---- the run -----------------------------------------------------------------------------------------------------------------------------------

static void batch(struct rows_run *r, enum change change, size_t first, size_t n)
{
    if (r->app != NULL) {
        ours_batch(r, change, first, n);
        return;
    }
#if WITH_SQLITE
    sqlite_batch(r, change, first, n);
#endif
}

static uint64_t bytes_used(struct rows_run *r)
{
#if WITH_SQLITE
    if (r->app == NULL) return sqlite_bytes(r);
#endif
    return ours_bytes(r);
}

static void run(struct rows_run *r, enum change change)
{
    const char *name = change == INSERT ? "insert" : "change";
    double wall = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t at = 0; at < r->rows; at += r->batch)
        batch(r, change, at, r->rows - at < r->batch ? r->rows - at : r->batch);
    if (r->under_way > 0) ours_turn(r);
    wall = clock_s(CLOCK_MONOTONIC) - wall;
    cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%s_rate=%.1f\n%s_us=%.3f\n", name, (double)r->rows / wall, name, cpu * 1e6 / (double)r->rows);
    printf("%s_bytes=%.1f\n", name, (double)bytes_used(r) / (double)r->rows);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct rows_run r;
    if (argc != 7) fail("usage: rows ours|sqlite|sqlite_rowid DIR ROWS BATCH AHEAD state|n|body|none");
    bool rowid = strcmp(argv[1], "sqlite_rowid") == 0, sqlite = rowid || strcmp(argv[1], "sqlite") == 0;
    r.rows = (size_t)atol(argv[3]);
    r.batch = (size_t)atol(argv[4]);
    r.ahead = (size_t)atol(argv[5]);
    r.ids = calloc(r.rows, sizeof *r.ids);
    if (r.rows == 0 || r.batch == 0 || r.ahead == 0 || r.ahead > AHEAD_MAX || r.ids == NULL) fail("a number is out of range");
    if (sqlite && !WITH_SQLITE) {
        printf("skip=built without SQLite\n");
        return 0;
    }
#if WITH_SQLITE
    if (sqlite) sqlite_open(&r, argv[2], rowid);
#endif
    if (!sqlite) ours_open(&r, argv[2]);
    run(&r, INSERT);
    shuffle(&r);
    for (enum change change = CHANGE_STATE; change < CHANGES; change++)
        if (strcmp(argv[6], names[change]) == 0) run(&r, change);
    return 0; // what is open is ended by the system: nothing of it is measured
}
