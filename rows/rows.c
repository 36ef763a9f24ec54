#include "rows.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "horizon.h"
#include "index.h"
#include "interests.h"
#include "schema_versions.h"
#include "sql.h"
#include "store.h"
#include "view_history.h"

#define SCRATCH_MAX (8 * ROW_BYTES_MAX)

static int load_schema(struct rows *r, struct db_txn *txn)
{
    struct schema_version last;
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, txn, rows_table(r, TABLE_SCHEMAS));
    if (db_iter_last(&it)) {
        err = schema_version_decode(&last, it.value);
        if (!err) err = schema_decode(&r->schema, last.schema);
    } else {
        r->schema = schema_empty();
        if (!r->schema) err = ERR_NOMEM;
    }
    db_iter_end(&it);
    return err;
}

static uint64_t last_commit(struct rows *r, struct db_txn *txn)
{
    struct db_iter it;
    db_iter_init(&it, txn, rows_table(r, TABLE_COMMITS));
    uint64_t seq = db_iter_last(&it) ? key_commit_parse(it.key) : 0;
    db_iter_end(&it);
    return seq;
}

int rows_open(struct rows **out, const struct rows_options *options, struct db_txn *txn)
{
    assert(out && options && options->host && txn);
    struct rows *r = calloc(1, sizeof *r);
    if (!r) return ERR_NOMEM;
    r->first_table = options->first_table;
    r->host = options->host;
    r->scratch = arena_new(SCRATCH_MAX);
    r->views.interests = interests_new();
    r->views.history = view_history_new();
    r->views.fill_us = VIEW_FILL_MS_MAX * UINT64_C(1000);
    r->views.difference_us = VIEW_DIFFERENCE_MS_MAX * UINT64_C(1000);
    int err = hash_table_init(&r->views.table);
    if (!err) err = r->scratch && r->views.interests && r->views.history ? load_schema(r, txn) : ERR_NOMEM;
    if (!err) r->seq = last_commit(r, txn);
    if (!err) err = horizon_load(r, txn);
    if (!err) err = index_load(r, txn);
    if (!err) err = db_txn_err(txn);
    if (err) {
        rows_close(r);
        return err;
    }
    *out = r;
    return 0;
}

void rows_close(struct rows *r)
{
    if (!r) return;
    assert(r->views.table.count == 0 && r->views.subs == 0);
    index_unload(r);
    plan_cache_free(r->plans);
    schema_unref(r->schema);
    arena_free(r->scratch);
    for (size_t i = 0; i < PAST_ROOMS; i++)
        arena_free(r->past_rooms[i]);
    hash_table_free(&r->views.table);
    interests_free(r->views.interests);
    view_history_free(r->views.history);
    free(r);
}

#define TICK_ROWS 1000 // taken in by one tick; twice as many as came since the last one, where those were more: filling must come to an end

int rows_tick(struct rows *r, struct db_txn *txn, bool *wrote)
{
    size_t rows = TICK_ROWS + 2 * r->applied_rows;
    bool more, work = r->index_work;
    r->applied_rows = 0;
    *wrote = work;
    return work ? index_step(r, txn, rows, &more) : 0;
}

bool rows_busy(const struct rows *r)
{
    return r->index_work;
}

void rows_stream_path(struct buf *out, struct span table, struct uuid id, struct span column)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    buf_put_str(out, "rows/");
    buf_put_span(out, table);
    buf_put_u8(out, '/');
    buf_put(out, text, UUID_TEXT);
    buf_put_u8(out, '/');
    buf_put_span(out, column);
}

struct sha256 rows_schema_hash(const struct rows *r)
{
    return r->schema->hash;
}

void rows_schema_sql(const struct rows *r, struct buf *out)
{
    schema_sql(r->schema, out);
}

void rows_schema_json(const struct rows *r, struct buf *out)
{
    schema_json(r->schema, out);
}

uint32_t rows_table_number(const struct rows *r, struct span name)
{
    const struct table *t = schema_table(r->schema, name);
    return t ? t->no : 0;
}

int rows_schema_check(struct span sql, struct problem *p)
{
    struct ast_schema *ast;
    struct schema *built = NULL;
    int err = sql_parse_schema(sql, &ast, p);
    if (err) return err;
    struct schema *before = schema_empty();
    err = before ? 0 : ERR_NOMEM;
    if (!err) err = schema_build(&built, ast, before, 0, p);
    schema_unref(built);
    schema_unref(before);
    sql_schema_free(ast);
    return err;
}

struct rows_counts rows_counts(const struct rows *r)
{
    uint64_t scanned = interests_counts(r->views.interests).scanned;
    return (struct rows_counts){.views = r->views.table.count, .subs = r->views.subs, .scanned = scanned};
}

// Every byte that is kept follows from the commits alone, so the tables' own bytes are the logical state; but for the indexes', for
// how far those are filled is a matter of time.
int rows_hash(struct rows *r, struct db_txn *txn, struct digest *d)
{
    int err = 0;
    for (int table = 0; table < TABLE_INDEX && err == 0; table++)
        err = db_hash(txn, rows_table(r, table), d);
    return err;
}
