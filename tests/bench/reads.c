// Reads from inside a process: the row store's queries beside SQLite's prepared statements, over the same rows and the same indexes. Both
// are read to the end; the row store gives JSON, SQLite each column's value.
//
//      reads DIR [ROWS]    a line for each kind of read: name=… rate=… sqlite=… (per second, of one processor)
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db.h"
#include "err.h"
#include "rows.h"
#include "uuid.h"

#define ROWS_DEFAULT 1000000
#define BATCH 5000
#define ROOMS 1000
#define TEXT "a message of some sixty bytes, as people write them to each other"
#define SECONDS 1.5 // of each kind of read, for either

static const char schema[] = "create table t (room integer, n integer, text text not null, read boolean);"
                             "create index t_room on t (room, n); create index t_n on t (n);";

static void die(const char *what, int err)
{
    fprintf(stderr, "%s: %s\n", what, err != 0 ? err_text(err) : "failed");
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t chance = 88172645463325252u;
static uint64_t dice(uint64_t sides)
{
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return chance % sides;
}

// The n-th id: in no order, as ids of many writers are.
static struct uuid id_of(uint64_t n)
{
    struct uuid id;
    uint64_t a = (n + 1) * 0x9e3779b97f4a7c15u, b = a ^ a >> 29;
    memcpy(id.b, &a, 8);
    memcpy(id.b + 8, &b, 8);
    return id;
}

struct message {
    int64_t room, n;
    bool read;
};

static struct message message(uint64_t i)
{
    return (struct message){.room = (int64_t)(i * 7919 % ROOMS), .n = (int64_t)(i * 104729 % 10000019), .read = i % 3 == 0};
}

// ---- the row store -------------------------------------------------------------------------------------------------

static struct db *db;
static struct db_txn *txn;
static struct rows *rows;
static uint64_t seq;

static void commit(struct rows_batch *b, const struct commit *c)
{
    struct buf effects;
    struct problem p = PROBLEM_NONE;
    buf_init(&effects, 64 * MIB);
    int err = rows_decide_end(b, &p);
    if (err != 0) die(problem_text(&p), err);
    rows_decide_effects(b, &effects);
    rows_batch_free(b);
    err = effects.err != 0 ? effects.err : rows_apply(rows, txn, c, buf_span(&effects));
    if (err != 0) die("applying", err);
    rows_publish(rows, txn, c->seq);
    buf_free(&effects);
}

static struct rows_batch *begin(struct commit *c)
{
    seq++;
    *c = (struct commit){.seq = seq, .group = seq, .arrival_ms = 1000 + seq, .stamp = (1000 + seq) << 16, .base = seq - 1};
    struct rows_batch *b = rows_decide(rows, txn, c, NULL);
    if (b == NULL) die("deciding", ERR_NOMEM);
    return b;
}

static void insert(struct rows_batch *b, uint64_t i)
{
    struct message m = message(i);
    const struct row_column columns[] = {{SPAN_LIT("room"), {.kind = ROW_INT, .i = m.room}},
                                         {SPAN_LIT("n"), {.kind = ROW_INT, .i = m.n}},
                                         {SPAN_LIT("text"), {.kind = ROW_TEXT, .s = SPAN_LIT(TEXT)}},
                                         {SPAN_LIT("read"), {.kind = ROW_BOOL, .b = m.read}}};
    const struct row_op op = {.kind = ROW_INSERT, .table = SPAN_LIT("t"), .has_id = true, .id = id_of(i), .columns = columns, .column_count = 4};
    struct problem p = PROBLEM_NONE;
    int err = rows_decide_op(b, &op, NULL, &p);
    if (err != 0) die(problem_text(&p), err);
}

static void fill_store(const char *folder, uint64_t count)
{
    static const char *const tables[] = {ROWS_TABLES};
    static const struct rows_host host = {.ctx = NULL};
    struct commit c;
    struct problem p = PROBLEM_NONE;
    int err = db_open(&db, &(struct db_options){.path = folder, .tables = tables, .table_count = ROWS_TABLE_COUNT});
    if (err != 0) die(folder, err);
    txn = db_begin_write(db);
    err = rows_open(&rows, &(struct rows_options){.host = &host}, txn);
    if (err != 0) die("rows", err);
    struct rows_batch *b = begin(&c);
    if (rows_decide_schema(b, SPAN_STR(schema), &p) != 0) die(problem_text(&p), 0);
    commit(b, &c);
    for (uint64_t i = 0; i < count;) {
        b = begin(&c);
        for (uint64_t end = i + BATCH < count ? i + BATCH : count; i < end; i++)
            insert(b, i);
        commit(b, &c);
    }
    if (db_commit(txn) != 0) die("committing", 0);
    txn = db_begin_write(db);
}

struct counting {
    struct feed_sink sink;
    uint64_t rows, bytes;
};

static int count(struct feed_sink *sink, struct bytes *value)
{
    struct counting *s = (struct counting *)sink;
    s->rows++;
    s->bytes += bytes_span(value).n;
    return 0;
}

static uint64_t ask(const char *sql, const struct row_value *params, size_t n)
{
    struct counting sink = {.sink.emit = count};
    struct query *q;
    struct query_run *run;
    struct problem p = PROBLEM_NONE;
    bool done = false;
    int err = query_compile(rows, SPAN_STR(sql), params, n, &q, &p);
    if (err == 0) err = query_open(rows, txn, q, seq, &run, &p);
    if (err != 0) die(problem_text(&p), err);
    while (err == 0 && !done)
        err = query_next(run, txn, MIB, &sink.sink, &done);
    if (err != 0) die("reading", err);
    query_close(run);
    query_unref(q);
    return sink.rows;
}

// ---- SQLite --------------------------------------------------------------------------------------------------------

static sqlite3 *lite;

static void lite_exec(const char *sql)
{
    char *message_text = NULL;
    if (sqlite3_exec(lite, sql, NULL, NULL, &message_text) != SQLITE_OK) die(message_text, 0);
}

static sqlite3_stmt *lite_prepare(const char *sql)
{
    sqlite3_stmt *st;
    if (sqlite3_prepare_v3(lite, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK) die(sqlite3_errmsg(lite), 0);
    return st;
}

static void fill_lite(const char *folder, uint64_t rows_wanted)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/reads.sqlite", folder);
    if (sqlite3_open(path, &lite) != SQLITE_OK) die(path, 0);
    lite_exec("pragma journal_mode = wal; pragma synchronous = off; pragma cache_size = -1000000; pragma mmap_size = 4000000000;"
              "create table t (id blob primary key, room integer, n integer, text text not null, read integer) without rowid;"
              "create index t_room on t (room, n); create index t_n on t (n); begin");
    sqlite3_stmt *st = lite_prepare("insert into t values (?, ?, ?, ?, ?)");
    for (uint64_t i = 0; i < rows_wanted; i++) {
        struct message m = message(i);
        struct uuid id = id_of(i);
        sqlite3_bind_blob(st, 1, id.b, sizeof id.b, SQLITE_TRANSIENT);
        sqlite3_bind_int64(st, 2, m.room);
        sqlite3_bind_int64(st, 3, m.n);
        sqlite3_bind_text(st, 4, TEXT, -1, SQLITE_STATIC);
        sqlite3_bind_int(st, 5, m.read);
        if (sqlite3_step(st) != SQLITE_DONE) die(sqlite3_errmsg(lite), 0);
        sqlite3_reset(st);
    }
    sqlite3_finalize(st);
    lite_exec("commit; pragma wal_checkpoint(truncate)");
}

static uint64_t kept; // so that nothing is left out as useless

static uint64_t lite_rows(sqlite3_stmt *st)
{
    uint64_t n = 0;
    for (; sqlite3_step(st) == SQLITE_ROW; n++) {
        kept += *(const uint8_t *)sqlite3_column_blob(st, 0) + (uint64_t)sqlite3_column_int64(st, 1) + (uint64_t)sqlite3_column_int64(st, 2);
        kept += sqlite3_column_text(st, 3)[0] + (uint64_t)sqlite3_column_int(st, 4);
    }
    sqlite3_reset(st);
    return n;
}

// ---- kinds of reads ------------------------------------------------------------------------------------------------

enum kind { POINT, RANGE, TOP, KINDS };
static const struct {
    const char *name, *sql, *lite;
    uint64_t rows; // of one read; 0: it may differ
} kinds[] = {
    [POINT] = {"point", "select * from t where id = $1", "select * from t where id = ?", 1},
    [RANGE] = {"range_50", "select * from t where room = $1 and n >= $2 order by n limit 50",
               "select * from t where room = ? and n >= ? order by n limit 50", 0},
    [TOP] = {"top_50", "select * from t order by n desc limit 50", "select * from t order by n desc limit 50", 50},
};

static uint64_t one_ours(enum kind k, uint64_t at)
{
    char text[UUID_TEXT];
    struct message m = message(at);
    struct row_value params[2] = {{.kind = ROW_INT, .i = m.room}, {.kind = ROW_INT, .i = m.n / 2}};
    if (k == POINT) {
        uuid_format(id_of(at), text);
        params[0] = (struct row_value){.kind = ROW_TEXT, .s = SPAN(text, UUID_TEXT)};
    }
    return ask(kinds[k].sql, params, k == POINT ? 1 : k == RANGE ? 2 : 0);
}

static uint64_t one_lite(enum kind k, sqlite3_stmt *st, uint64_t at)
{
    struct message m = message(at);
    struct uuid id = id_of(at);
    if (k == POINT) sqlite3_bind_blob(st, 1, id.b, sizeof id.b, SQLITE_STATIC);
    if (k == RANGE) {
        sqlite3_bind_int64(st, 1, m.room);
        sqlite3_bind_int64(st, 2, m.n / 2);
    }
    return lite_rows(st);
}

// Reads per second; *given: rows.
static double rate(enum kind k, sqlite3_stmt *st, uint64_t stored, uint64_t *given)
{
    uint64_t n = 0;
    double begin_s = now();
    chance = 88172645463325252u;
    *given = 0;
    while (n % 16 != 0 || n == 0 || now() - begin_s < SECONDS) {
        uint64_t at = dice(stored), got = st != NULL ? one_lite(k, st, at) : one_ours(k, at);
        if (kinds[k].rows != 0 && got != kinds[k].rows) die(kinds[k].name, ERR_CORRUPT);
        *given += got;
        n++;
    }
    return (double)n / (now() - begin_s);
}

int main(int argc, char **argv)
{
    uint64_t stored = argc > 2 ? strtoull(argv[2], NULL, 10) : ROWS_DEFAULT;
    if (argc < 2 || stored == 0) die("usage: reads DIR [ROWS]", 0);
    fill_store(argv[1], stored);
    fill_lite(argv[1], stored);
    for (enum kind k = 0; k < KINDS; k++) {
        sqlite3_stmt *st = lite_prepare(kinds[k].lite);
        uint64_t given;
        rate(k, NULL, stored, &given); // not counted: memory comes to be warm
        rate(k, st, stored, &given);
        double ours = rate(k, NULL, stored, &given), theirs = rate(k, st, stored, &given);
        printf("name=%s rate=%.0f sqlite=%.0f\n", kinds[k].name, ours, theirs);
        sqlite3_finalize(st);
    }
    db_abort(txn);
    rows_close(rows);
    db_close(db);
    sqlite3_close(lite);
    return kept == 1;
}
