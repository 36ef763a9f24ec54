// plain: keeps tokens the plain ways, in this very process: a log file that is synced, and SQLite. What is due is written together and synced once.
//
//   plain log|sqlite DIR STREAMS RATE SECONDS BYTES      prints rate= and written= (bytes for one token)
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<sqlite3.h>)
#include <sqlite3.h>
#define WITH_SQLITE 1
#else
#define WITH_SQLITE 0
#endif

#define GROUP_MAX 4096
#define TOKEN_MAX 1024

struct plain {
    unsigned streams;
    size_t bytes;
    char token[TOKEN_MAX];
    unsigned long long written; // to the disk
    int fd;
#if WITH_SQLITE
    sqlite3 *db;
    sqlite3_stmt *begin, *insert, *commit;
#endif
};

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "plain: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// ---- a log file: u32 stream, u32 length, bytes ------------------------------------------------------------------------

static void log_open(struct plain *p, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/plain.log", dir);
    p->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (p->fd < 0) fail(path);
}

static void log_group(struct plain *p, unsigned long long first, unsigned n)
{
    static char group[GROUP_MAX * (8 + TOKEN_MAX)];
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned head[2] = {(unsigned)((first + i) % p->streams), (unsigned)p->bytes};
        memcpy(group + at, head, sizeof head);
        memcpy(group + at + sizeof head, p->token, p->bytes);
        at += sizeof head + p->bytes;
    }
    if (write(p->fd, group, at) != (ssize_t)at || fdatasync(p->fd) != 0) fail("the log");
    p->written += at;
}

// ---- SQLite: write-ahead log, synchronous=FULL --------------------------------------------------------------------------

#if WITH_SQLITE
static void run_sql(struct plain *p, const char *sql)
{
    if (sqlite3_exec(p->db, sql, NULL, NULL, NULL) != SQLITE_OK) fail(sqlite3_errmsg(p->db));
}

static sqlite3_stmt *prepare(struct plain *p, const char *sql)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(p->db, sql, -1, &s, NULL) != SQLITE_OK) fail(sqlite3_errmsg(p->db));
    return s;
}

static void step(struct plain *p, sqlite3_stmt *s)
{
    if (sqlite3_step(s) != SQLITE_DONE) fail(sqlite3_errmsg(p->db));
    sqlite3_reset(s);
}

static void sqlite_open(struct plain *p, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/plain.db", dir);
    if (sqlite3_open(path, &p->db) != SQLITE_OK) fail(path);
    run_sql(p, "pragma journal_mode=wal; pragma synchronous=full; create table tokens (id integer primary key, stream integer, text blob)");
    p->begin = prepare(p, "begin");
    p->insert = prepare(p, "insert into tokens (stream, text) values (?, ?)");
    p->commit = prepare(p, "commit");
}

static void sqlite_group(struct plain *p, unsigned long long first, unsigned n)
{
    int pages, high;
    step(p, p->begin);
    for (unsigned i = 0; i < n; i++) {
        sqlite3_bind_int64(p->insert, 1, (sqlite3_int64)((first + i) % p->streams));
        sqlite3_bind_blob(p->insert, 2, p->token, (int)p->bytes, SQLITE_STATIC);
        step(p, p->insert);
    }
    step(p, p->commit);
    sqlite3_db_status(p->db, SQLITE_DBSTATUS_CACHE_WRITE, &pages, &high, 1);
    p->written += (unsigned long long)pages * (4096 + 24); // each with a head in the write-ahead log
}
#endif

int main(int argc, char **argv)
{
    static struct plain p;
    if (argc != 7) fail("usage: plain log|sqlite DIR STREAMS RATE SECONDS BYTES");
    int sqlite = strcmp(argv[1], "sqlite") == 0;
    p.streams = (unsigned)atoi(argv[3]);
    p.bytes = (size_t)atoi(argv[6]);
    double per_s = atof(argv[4]) * p.streams, seconds = atof(argv[5]);
    unsigned long long done = 0;
    if (p.streams == 0 || p.bytes > TOKEN_MAX) fail("a number is out of range");
    if (sqlite && !WITH_SQLITE) {
        printf("skip=built without SQLite\n");
        return 0;
    }
    memset(p.token, 'x', sizeof p.token);
#if WITH_SQLITE
    if (sqlite) sqlite_open(&p, argv[2]);
#endif
    if (!sqlite) log_open(&p, argv[2]);
    double begun = now_s(), now = begun;
    for (; now - begun < seconds; now = now_s()) {
        unsigned long long due = (unsigned long long)((now - begun) * per_s) - done;
        unsigned n = due < GROUP_MAX ? (unsigned)due : GROUP_MAX;
        if (n == 0) {
            usleep(200);
            continue;
        }
#if WITH_SQLITE
        if (sqlite) sqlite_group(&p, done, n);
#endif
        if (!sqlite) log_group(&p, done, n);
        done += n;
    }
    printf("rate=%.1f\nwritten=%.2f\n", (double)done / (now - begun), (double)p.written / (double)done);
    return 0;
}
