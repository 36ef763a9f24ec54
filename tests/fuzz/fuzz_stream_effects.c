// Any bytes as the effects of a commit, over a small state: applied or found to be corrupt, never a crash; and what was applied
// leaves a state that can be hashed, flushed and read.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "db.h"
#include "digest.h"
#include "err.h"
#include "streams.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t request[100] = "the bytes that effects point into";
static const char *const tables[] = {STREAMS_TABLES};
static const char *const names[] = {"a", "b", "c", "new", "t", "f", "g", "j"};
static char folder[] = "/tmp/segue-fuzz-XXXXXX";
static char streams_path[64], db_path[64];
static struct db *db;

static void remove_folder(void)
{
    char file[80];
    db_close(db);
    snprintf(file, sizeof file, "%s/data.mdb", db_path);
    unlink(file);
    snprintf(file, sizeof file, "%s/lock.mdb", db_path);
    unlink(file);
    rmdir(db_path);
    rmdir(streams_path);
    rmdir(folder);
}

static void open_once(void)
{
    if (db != NULL) return;
    if (mkdtemp(folder) == NULL) abort();
    snprintf(streams_path, sizeof streams_path, "%s/streams", folder);
    snprintf(db_path, sizeof db_path, "%s/db", folder);
    struct db_options options = {.path = db_path, .map_bytes = 16 * MIB, .tables = tables, .table_count = STREAMS_TABLE_COUNT};
    if (db_open(&db, &options) != 0) abort();
    atexit(remove_folder);
}

static struct commit commit_of(uint64_t seq)
{
    return (struct commit){.seq = seq, .group = seq, .arrival_ms = seq, .request = SPAN(request, sizeof request)};
}

// "a" is open with bytes, "b" closed, "c" deleted; numbers 1 to 3.
static void make_state(struct streams *s, struct db_txn *txn)
{
    struct commit c = commit_of(1);
    struct streams_batch *b = streams_decide(s, txn, &c);
    struct buf effects;
    bool created;
    buf_init(&effects, 10000);
    for (int i = 0; i < 3; i++) {
        int err = streams_decide_create(b, &(struct stream_create){.path = SPAN_STR(names[i]), .type = SPAN_LIT("text/plain")}, &created, NULL, NULL);
        assert(err == 0 && created);
        err = streams_decide_append(b, &(struct stream_append){.path = SPAN_STR(names[i]), .data = SPAN(request, 10)}, NULL, NULL);
        assert(err == 0);
    }
    int err = streams_decide_close(b, SPAN_LIT("b"), NULL, NULL);
    if (err == 0) err = streams_decide_delete(b, SPAN_LIT("c"), NULL);
    streams_decide_effects(b, &effects);
    if (err == 0) err = streams_apply(s, txn, &c, buf_span(&effects));
    assert(err == 0);
    buf_free(&effects);
    streams_batch_free(b);
    streams_flush(s, txn);
}

// What is readable reads; a JSON stream whose bytes are no messages says so.
static void check_stream(struct streams *s, struct db_txn *txn, struct span path, struct buf *out)
{
    struct stream_info info, then;
    struct stream_producer p;
    if (!streams_find(s, txn, path, &info)) return;
    buf_clear(out);
    int err = streams_read(s, txn, path, info.first, 1 * MIB, out);
    if (info.gone)
        assert(err == ERR_STREAM_GONE);
    else
        assert((err == 0 && (out->n > 0 || info.offset == info.first)) || (info.json && (err == ERR_CORRUPT || err == ERR_BAD_OFFSET)));
    err = streams_snapshot(s, txn, path, out);
    assert(err == (info.gone ? ERR_STREAM_GONE : 0));
    bool found = streams_find_at(s, txn, path, 10, &then);
    assert(found == !info.gone);
    streams_producer(s, txn, path, SPAN_LIT("p"), &p);
}

static void check_state(struct streams *s, struct db_txn *txn)
{
    struct digest *d = digest_new();
    struct buf out;
    uint64_t numbers[4];
    int err = streams_hash(s, txn, d);
    assert(err == 0);
    digest_free(d);
    buf_init(&out, 64 * MIB);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_stream(s, txn, SPAN_STR(names[i]), &out);
    buf_free(&out);
    streams_flush(s, txn);
    streams_expired(s, txn, NULL, UINT64_MAX, numbers, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_once();
    struct streams *s;
    struct streams_options options = {.first_table = 0, .path = streams_path};
    struct db_txn *txn = db_begin_write(db);
    struct span effects = SPAN(data, size);
    if (streams_open(&s, &options, txn) != 0) abort();
    make_state(s, txn);
    int err = 0;
    for (uint64_t seq = 2; seq <= 4 && err == 0; seq++) { // again and again: appends fit once, at most
        struct commit c = commit_of(seq);
        err = streams_apply(s, txn, &c, effects);
        assert(err == 0 || err == ERR_CORRUPT);
        if (err == 0) check_state(s, txn);
    }
    struct commit c = commit_of(5);
    err = streams_restore(s, txn, &c, effects);
    assert(err == 0 || err == ERR_CORRUPT);
    streams_flush(s, txn);
    streams_close(s);
    db_abort(txn);
    return 0;
}
