// Any text as a query of a small store: it is refused with a place in the text, or it runs to an end, in small pieces and in one, and says
// the same both times.
#include <assert.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "db.h"
#include "err.h"
#include "json_write.h"
#include "log.h"
#include "rows.h"

#define STEPS_MAX 2000 // of one query: a join of many tables may take its time

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/segue-fuzz-XXXXXX";
static struct db *db;
static struct db_txn *txn;
static struct rows *rows;

static const char schema[] =
    "create type mood as enum ('sad', 'ok');"
    "create table t (a integer, b text, c uuid references t on delete set null, s stream, j jsonb, x double precision, f boolean, w timestamptz,"
    " m mood, n counter, g text[], y bytea);"
    "create table u (t uuid references t, k bigint, v text);"
    "create index t_ab on t (a, b desc); create index t_m on t (m) where a > 1; create index u_t on u (t, k); create unique index u_k on u (k);";

static const char *const values[] = {"null", "1", "2", "'a'", "'b'", "'é'"};

static bool take_nothing(void *ctx, struct db_txn *t, struct span path, uint64_t seq, uint64_t *offset, bool *closed)
{
    (void)ctx, (void)t, (void)path, (void)seq, (void)offset, (void)closed;
    return false;
}

static int take_stream(void *ctx, struct span path, struct problem *p)
{
    (void)ctx, (void)path, (void)p;
    return 0;
}

static int stream_text(void *ctx, struct db_txn *t, struct span path, uint64_t seq, struct buf *out)
{
    (void)ctx, (void)t, (void)path, (void)seq;
    buf_put_str(out, "a stream");
    return 0;
}

static const struct rows_host host = {
    .stream_create = take_stream, .stream_delete = take_stream, .stream_at = take_nothing, .stream_text = stream_text};

static struct row_value value(unsigned i)
{
    const char *s = values[i % 6];
    if (s[0] == 'n') return (struct row_value){.kind = ROW_NULL};
    if (s[0] == '\'') return (struct row_value){.kind = ROW_TEXT, .s = SPAN(s + 1, strlen(s) - 2)};
    return (struct row_value){.kind = ROW_INT, .i = s[0] - '0'};
}

static void insert(struct rows_batch *b, uint8_t i)
{
    const struct row_column t[] = {{SPAN_LIT("a"), i % 6 < 3 ? value(i) : value(0)},
                                   {SPAN_LIT("b"), value(3 + i % 3)},
                                   {SPAN_LIT("x"), {.kind = ROW_REAL, .d = i * 0.5}},
                                   {SPAN_LIT("f"), {.kind = i % 3 == 0 ? ROW_NULL : ROW_BOOL, .b = i % 2}},
                                   {SPAN_LIT("m"), {.kind = ROW_TEXT, .s = SPAN_LIT("ok")}},
                                   {SPAN_LIT("g"), {.kind = ROW_JSON, .s = SPAN_LIT("[\"x\",\"y\"]")}}};
    const struct row_column u[] = {{SPAN_LIT("k"), {.kind = ROW_INT, .i = i}}, {SPAN_LIT("v"), value(3 + i % 3)}};
    const struct row_op ops[] = {{.kind = ROW_INSERT, .table = SPAN_LIT("t"), .has_id = true, .id = {{i}}, .columns = t, .column_count = 6},
                                 {.kind = ROW_INSERT, .table = SPAN_LIT("u"), .has_id = true, .id = {{i}}, .columns = u, .column_count = 2}};
    for (int k = 0; k < 2; k++) {
        int err = rows_decide_op(b, &ops[k], NULL, NULL);
        assert(err == 0);
    }
}

static void add_commit(uint64_t seq)
{
    struct commit c = {.seq = seq, .group = seq, .arrival_ms = 1700000000000 + seq, .stamp = seq << 16, .base = seq - 1};
    struct rows_batch *b = rows_decide(rows, txn, &c, NULL);
    struct buf effects;
    int err = 0;
    assert(b != NULL);
    if (seq == 1) err = rows_decide_schema(b, SPAN_STR(schema), NULL);
    for (uint8_t i = 1; seq > 1 && i <= 5; i++)
        insert(b, (uint8_t)(seq * 16 + i));
    if (err == 0) err = rows_decide_end(b, NULL);
    buf_init(&effects, ENTRY_BYTES_MAX);
    rows_decide_effects(b, &effects);
    if (err == 0) err = rows_apply(rows, txn, &c, buf_span(&effects));
    assert(err == 0 && effects.err == 0);
    buf_free(&effects);
    rows_batch_free(b);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void close_store(void)
{
    rows_close(rows);
    db_abort(txn);
    db_close(db);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void)
{
    static const char *const tables[] = {ROWS_TABLES};
    log_set_level(LOG_ERROR);
    if (mkdtemp(folder) == NULL) abort();
    int err = db_open(&db, &(struct db_options){.path = folder, .map_bytes = 1 << 28, .tables = tables, .table_count = ROWS_TABLE_COUNT});
    assert(err == 0);
    txn = db_begin_write(db);
    err = rows_open(&rows, &(struct rows_options){.host = &host}, txn);
    assert(err == 0);
    for (uint64_t seq = 1; seq <= 3; seq++)
        add_commit(seq);
    atexit(close_store);
}

// ---- one input -----------------------------------------------------------------------------------------------------

struct text_sink {
    struct feed_sink sink;
    struct buf text;
};

static int take(struct feed_sink *sink, struct bytes *row)
{
    struct text_sink *s = (struct text_sink *)sink;
    buf_put_span(&s->text, bytes_span(row));
    return s->text.err;
}

// What the last call said; *over: there was one, before the steps were used up.
static int run(struct query *q, uint64_t at, size_t budget, struct buf *out, bool *over)
{
    struct text_sink sink = {.sink.emit = take};
    struct query_run *r;
    struct jw w;
    struct buf explained;
    buf_init(&sink.text, 64 * MIB);
    buf_init(&explained, MIB);
    int err = query_open(rows, txn, q, at, &r, NULL);
    assert(err == 0);
    *over = false;
    for (size_t i = 0; i < STEPS_MAX && err == 0 && !*over; i++)
        err = query_next(r, txn, budget, &sink.sink, over);
    jw_init(&w, &explained);
    query_explain(r, &w);
    assert(jw_done(&w));
    buf_free(&explained);
    query_close(r);
    *out = sink.text;
    *over = *over || err != 0;
    return err;
}

static void run_twice(struct query *q, uint64_t at)
{
    struct buf a, b;
    bool over, over_again;
    int err = run(q, at, MIB, &a, &over), again = run(q, at, 1, &b, &over_again);
    assert(err == 0 || err == ERR_BAD_VALUE || err == ERR_QUERY_TOO_EXPENSIVE || err == ERR_TOO_LARGE || err == ERR_RESULT_TOO_LARGE);
    if (over && over_again && err != ERR_QUERY_TOO_EXPENSIVE && again != ERR_QUERY_TOO_EXPENSIVE) {
        assert(err == again);
        assert(span_equal(buf_span(&a), buf_span(&b)));
    }
    buf_free(&a);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct row_value params[] = {
        {.kind = ROW_INT, .i = 2}, {.kind = ROW_TEXT, .s = {(const uint8_t *)"a", 1}}, {.kind = ROW_NULL}, {.kind = ROW_JSON, .s = {(const uint8_t *)"[1,2]", 5}}};
    struct problem p = PROBLEM_NONE;
    struct query *q;
    struct feed_sub *sub;
    if (db == NULL) open_store();
    int err = query_compile(rows, SPAN(data, size), params, sizeof params / sizeof *params, &q, &p);
    if (err != 0) {
        assert(p.err == err && err != ERR_INTERNAL && err != ERR_NOMEM);
        assert(p.position >= -1 && p.position <= (int64_t)size);
        return 0;
    }
    run_twice(q, 3);
    run_twice(q, 2);
    if (rows_attach(rows, txn, q, &sub, NULL) == 0) sub->feed->ops->detach(sub);
    query_unref(q);
    return 0;
}
