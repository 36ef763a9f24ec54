// Any bytes as the row part of a journal entry, applied to a small store with a live view of each kind. They are taken or they
// are corrupt; when corrupt the state is what it was, when taken every reader can still read it.
#include <assert.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "db.h"
#include "err.h"
#include "log.h"
#include "rows.h"

#define SEQ 4 // of the fuzzed commit; the store holds three

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/segue-fuzz-XXXXXX";
static struct db *db;

// ---- the host ------------------------------------------------------------------------------------------------------

static int take_stream(void *ctx, struct span path, struct problem *p)
{
    (void)ctx, (void)path, (void)p;
    return 0;
}

static int take_blob(void *ctx, const struct sha256 *digest, struct problem *p)
{
    (void)ctx, (void)digest, (void)p;
    return 0;
}

static bool no_stream(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, uint64_t *offset, bool *closed)
{
    (void)ctx, (void)txn, (void)path, (void)seq, (void)offset, (void)closed;
    return false;
}

static bool no_blob(void *ctx, struct db_txn *txn, const struct sha256 *digest, uint64_t *size, char type[STREAM_TYPE_MAX + 1])
{
    (void)ctx, (void)txn, (void)digest, (void)size, (void)type;
    return false;
}

static const struct rows_host host = {
    .stream_create = take_stream, .stream_delete = take_stream, .blob_known = take_blob, .blob_link = take_blob, .stream_at = no_stream, .blob_at = no_blob};

// ---- the store -----------------------------------------------------------------------------------------------------

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void close_store(void)
{
    db_close(db);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct rows *open_rows(struct db_txn *txn)
{
    struct rows *r = NULL;
    int err = rows_open(&r, &(struct rows_options){.host = &host}, txn);
    assert(err == 0);
    return r;
}

static struct commit commit_of(uint64_t seq)
{
    return (struct commit){.seq = seq, .group = seq, .arrival_ms = 1700000000000 + seq, .stamp = seq << 16, .base = seq - 1};
}

static void decide_rows(struct rows_batch *b, uint64_t seq)
{
    struct row_column columns[] = {{SPAN_LIT("a"), {.kind = ROW_INT, .i = (int64_t)seq}},
                                   {SPAN_LIT("b"), {.kind = ROW_TEXT, .s = SPAN_LIT("text")}},
                                   {SPAN_LIT("m"), {.kind = ROW_TEXT, .s = SPAN_LIT("ok")}},
                                   {SPAN_LIT("g"), {.kind = ROW_JSON, .s = SPAN_LIT("[\"y\",\"x\"]")}}};
    for (uint8_t i = 1; i <= 3; i++) {
        struct row_op op = {.kind = seq == 2 ? ROW_INSERT : ROW_UPDATE,
                            .table = SPAN_LIT("t"),
                            .has_id = true,
                            .id = {{i}},
                            .columns = columns,
                            .column_count = seq == 2 ? 4 : 2};
        columns[0].value.i = (int64_t)seq * 10 + i;
        if (seq == 3 && i == 3) op = (struct row_op){.kind = ROW_DELETE, .table = op.table, .has_id = true, .id = op.id};
        int err = rows_decide_op(b, &op, NULL, NULL);
        assert(err == 0);
    }
}

// Something of every kind that a schema may have.
static const char schema[] = "create type mood as enum ('sad', 'ok');"
                             "create table t (a integer, b text, c uuid references t on delete cascade, s stream, j jsonb, f blob,"
                             " x double precision not null default 1, m mood, n counter, g text[] options (merge 'set'), y bytea default '\\x00',"
                             " h integer options (merge 'max'), check (x > 0), unique (a, m)); create index on t (b desc, g) where m = 'ok';";

static void add_commit(struct rows *r, struct db_txn *txn, uint64_t seq)
{
    struct commit c = commit_of(seq);
    struct rows_batch *b = rows_decide(r, txn, &c, NULL);
    struct buf effects;
    int err = 0;
    assert(b != NULL);
    if (seq == 1) err = rows_decide_schema(b, SPAN_STR(schema), NULL);
    if (seq > 1) decide_rows(b, seq);
    if (err == 0) err = rows_decide_end(b, NULL);
    buf_init(&effects, ENTRY_BYTES_MAX);
    rows_decide_effects(b, &effects);
    if (err == 0) err = rows_apply(r, txn, &c, buf_span(&effects));
    assert(err == 0 && effects.err == 0);
    buf_free(&effects);
    rows_batch_free(b);
}

static void open_store(void)
{
    static const char *const tables[] = {ROWS_TABLES};
    log_set_level(LOG_ERROR);
    if (mkdtemp(folder) == NULL) abort();
    int err = db_open(&db, &(struct db_options){.path = folder, .map_bytes = 1 << 28, .tables = tables, .table_count = ROWS_TABLE_COUNT});
    assert(err == 0);
    struct db_txn *txn = db_begin_write(db);
    struct rows *r = open_rows(txn);
    for (uint64_t seq = 1; seq < SEQ; seq++)
        add_commit(r, txn, seq);
    rows_close(r);
    err = db_commit(txn);
    assert(err == 0);
    atexit(close_store);
}

// ---- one input -----------------------------------------------------------------------------------------------------

enum { QUERIES = 4 };

static int drop_value(struct feed_sink *sink, struct bytes *value)
{
    (void)sink;
    assert(value->n > 0);
    return 0;
}

static struct sha256 state_of(struct rows *r, struct db_txn *txn)
{
    struct digest *d = digest_new();
    int err = d ? rows_hash(r, txn, d) : ERR_NOMEM;
    assert(err == 0);
    struct sha256 hash = digest_final(d);
    digest_free(d);
    return hash;
}

static void read_all(struct feed_sub *sub, struct db_txn *txn)
{
    struct feed_sink sink = {.emit = drop_value};
    bool done = false;
    int err = sub->feed->ops->changes(sub, txn, SEQ - 1, SEQ, &sink);
    if (err == 0 || err == ERR_TOO_OLD) err = sub->feed->ops->changes(sub, txn, 1, SEQ, &sink);
    if (err == ERR_TOO_OLD) err = 0; // the horizon has moved
    while (err == 0 && !done)
        err = sub->feed->ops->snapshot(sub, txn, SEQ, 1000, &sink, &done);
    assert(err == 0);
}

static void apply(struct rows *r, struct db_txn *txn, struct span effects)
{
    static const char *const sql[QUERIES] = {"select * from t", "select a, s from t where a > 1", "select b from t order by b desc, a",
                                             "select a, j from t order by a limit 1"};
    struct feed_sub *subs[QUERIES];
    struct commit c = commit_of(SEQ);
    struct sha256 before = state_of(r, txn);
    for (int i = 0; i < QUERIES; i++) {
        struct query *q;
        int err = query_compile(r, SPAN_STR(sql[i]), NULL, 0, &q, NULL);
        if (err == 0) err = rows_attach(r, txn, q, &subs[i], NULL);
        assert(err == 0);
        query_unref(q);
    }
    int err = rows_apply(r, txn, &c, effects);
    assert(err == 0 || err == ERR_CORRUPT);
    if (err == 0) {
        rows_publish(r, txn, SEQ);
        for (int i = 0; i < QUERIES; i++)
            read_all(subs[i], txn);
    } else {
        struct sha256 after = state_of(r, txn);
        assert(sha256_equal(&before, &after));
    }
    for (int i = 0; i < QUERIES; i++)
        subs[i]->feed->ops->detach(subs[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (db == NULL) open_store();
    struct db_txn *txn = db_begin_write(db);
    struct rows *r = open_rows(txn);
    apply(r, txn, SPAN(data, size));
    assert(db_txn_err(txn) == 0);
    rows_close(r);
    db_abort(txn);
    return 0;
}
