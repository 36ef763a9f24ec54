#include "horizon.h"

#include <assert.h>
#include <stdlib.h>

#include "blob_names.h"
#include "err.h"
#include "index.h"
#include "row_batch.h"

#define FORMAT 1

// ---- the record ----------------------------------------------------------------------------------------------------

int horizon_load(struct rows *r, struct db_txn *txn)
{
    struct key k = key_horizon();
    struct span record;
    struct cur c;
    r->horizon = (struct horizon){.seq = 0};
    if (!db_get(txn, rows_table(r, TABLE_ROWS), key_span(&k), &record)) return db_txn_err(txn);
    cur_init(&c, record);
    if (cur_u8(&c) != FORMAT) cur_fail(&c);
    r->horizon.seq = cur_varint(&c);
    r->horizon.stamp = cur_u64(&c);
    return cur_end(&c);
}

static void save(struct rows *r, struct db_txn *txn)
{
    uint8_t room[24];
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct key k = key_horizon();
    buf_put_u8(&b, FORMAT);
    buf_put_varint(&b, r->horizon.seq);
    buf_put_u64(&b, r->horizon.stamp);
    db_put(txn, rows_table(r, TABLE_ROWS), key_span(&k), buf_span(&b));
}

// ---- how far -------------------------------------------------------------------------------------------------------

int horizon_reach(struct rows *r, struct db_txn *txn, uint64_t upto, uint64_t *reached)
{
    struct key first = key_commit(r->horizon.seq + 1);
    struct commit_head head;
    struct db_iter it;
    struct cur c;
    uint64_t rows = 0, seq, last = r->horizon.seq;
    int err = 0;
    db_iter_init(&it, txn, rows_table(r, TABLE_COMMITS));
    bool more = db_iter_seek(&it, key_span(&first));
    for (; more && !err && rows < HORIZON_ROWS_MAX && (seq = key_commit_parse(it.key)) <= upto; more = db_iter_next(&it)) {
        err = commit_record_read(&c, it.value, &head);
        rows += head.touched + 1;
        last = seq;
    }
    db_iter_end(&it);
    if (!err) err = db_txn_err(txn);
    if (!err) *reached = last;
    return err;
}

// ---- dropping ------------------------------------------------------------------------------------------------------

struct drop {
    struct rows *r;
    struct db_txn *txn;
    struct blob_names ended; // while deciding
    uint64_t seq; // of the commit that goes
    struct row_space was, is;
};

// Is there a version that this very commit made? Else it touched the row's stream alone.
static bool made_version(const struct drop *d, const struct commit_rows *row, bool *current)
{
    struct key k = key_history(row->table, row->id, d->seq);
    struct span record;
    bool deleted;
    uint64_t seq = 0;
    *current = record_current(d->r, d->txn, row->table, row->id, &record) && !record_head(record, &deleted, &seq) && seq == d->seq;
    return *current || db_get(d->txn, rows_table(d->r, TABLE_HISTORY), key_span(&k), &record);
}

// The entries that this commit ended.
static int drop_entries(struct drop *d, const struct table *t, struct uuid id)
{
    int err = 0;
    for (size_t i = 0; i < t->index_count && !err; i++) {
        uint8_t rooms[2][INDEX_KEY_MAX];
        struct buf was = {.p = rooms[0], .cap = INDEX_KEY_MAX, .max = INDEX_KEY_MAX};
        struct buf is = {.p = rooms[1], .cap = INDEX_KEY_MAX, .max = INDEX_KEY_MAX};
        const struct index *ix = &t->indexes[i];
        err = index_key(d->r, &was, t, ix, id, &d->was.row, NULL);
        if (err == ERR_TOO_LARGE || err == ERR_BAD_VALUE) { // of a version that is older than the index: it never had it
            err = 0;
            continue;
        }
        if (!err) err = index_key(d->r, &is, t, ix, id, &d->is.row, NULL);
        if (err == ERR_TOO_LARGE || err == ERR_BAD_VALUE) err = 0;
        if (err || was.n == 0 || span_equal(buf_span(&was), buf_span(&is))) continue;
        struct index_key k = key_index(INDEX_PAST, t->no, ix->no);
        key_index_columns(&k, buf_span(&was));
        key_index_id(&k, id);
        key_index_died(&k, d->seq);
        db_del(d->txn, rows_table(d->r, TABLE_INDEX), index_key_span(&k));
    }
    return err;
}

static int drop_name(void *ctx, const struct sha256 *digest, const struct key *name)
{
    struct drop *d = ctx;
    (void)digest;
    db_del(d->txn, rows_table(d->r, TABLE_ROWS), key_span(name));
    return 0;
}

static int collect_name(void *ctx, const struct sha256 *digest, const struct key *name)
{
    struct drop *d = ctx;
    return blob_names_add(&d->ended, digest, name);
}

static int load_versions(struct drop *d, const struct table *t, struct uuid id)
{
    int err = row_at(d->r, d->txn, t, id, d->seq - 1, &d->was);
    return err ? err : row_at(d->r, d->txn, t, id, d->seq, &d->is);
}

// While deciding: which names of blobs would go.
static int collect_row(void *ctx, const struct commit_rows *row)
{
    struct drop *d = ctx;
    const struct table *t = schema_table_no(d->r->schema, row->table);
    bool current, any = false;
    if (!t) return ERR_CORRUPT;
    for (size_t i = 0; i < t->column_count; i++)
        any |= t->columns[i].type.kind == COL_BLOB;
    if (!any || !made_version(d, row, &current)) return db_txn_err(d->txn);
    int err = load_versions(d, t, row->id);
    return err ? err : blob_names_ended(t, row->id, &d->was.row, &d->is.row, current, collect_name, d);
}

// What this commit made of the row takes the place of all that it was before.
static int drop_row(void *ctx, const struct commit_rows *row)
{
    struct drop *d = ctx;
    const struct table *t = schema_table_no(d->r->schema, row->table);
    bool current;
    if (!t) return ERR_CORRUPT;
    if (!made_version(d, row, &current)) return db_txn_err(d->txn);
    int err = load_versions(d, t, row->id);
    if (!err && d->was.row.exists) err = drop_entries(d, t, row->id);
    if (!err) err = blob_names_ended(t, row->id, &d->was.row, &d->is.row, current, drop_name, d);
    if (err) return err;
    if (d->was.row.exists) {
        struct key k = key_history(t->no, row->id, d->was.row.seq);
        db_del(d->txn, rows_table(d->r, TABLE_HISTORY), key_span(&k));
    }
    bool tombstone = d->is.row.deleted;
    struct key k = current ? key_row(t->no, row->id) : key_history(t->no, row->id, d->seq);
    if (tombstone) db_del(d->txn, rows_table(d->r, current ? TABLE_ROWS : TABLE_HISTORY), key_span(&k));
    return db_txn_err(d->txn);
}

// Goes through the rows of the next commits. Records are copied: others may be written meanwhile.
static int each_row(struct drop *d, uint64_t upto, bool drops)
{
    struct key first = key_commit(d->r->horizon.seq + 1);
    struct commit_head head;
    struct db_iter it;
    struct buf copy;
    int err = 0;
    buf_init(&copy, ENTRY_BYTES_MAX);
    db_iter_init(&it, d->txn, rows_table(d->r, TABLE_COMMITS));
    bool more = db_iter_seek(&it, key_span(&first));
    for (; !err && more && (d->seq = key_commit_parse(it.key)) <= upto; more = db_iter_next(&it)) {
        buf_clear(&copy);
        buf_put_span(&copy, it.value);
        err = copy.err ? copy.err : commit_record_each(buf_span(&copy), &head, drops ? drop_row : collect_row, d);
        if (err || !drops) continue;
        if (head.stamp > d->r->horizon.stamp) d->r->horizon.stamp = head.stamp;
        struct key k = key_commit(d->seq);
        db_del(d->txn, rows_table(d->r, TABLE_COMMITS), key_span(&k));
    }
    db_iter_end(&it);
    buf_free(&copy);
    return err ? err : db_txn_err(d->txn);
}

static struct drop *drop_new(struct rows *r, struct db_txn *txn)
{
    struct drop *d = malloc(sizeof *d); // rows' rooms are large
    if (!d) return NULL;
    d->r = r;
    d->txn = txn;
    d->ended = (struct blob_names){.list = NULL};
    return d;
}

int horizon_apply(struct rows *r, struct db_txn *txn, uint64_t upto)
{
    assert(upto > r->horizon.seq);
    struct drop *d = drop_new(r, txn);
    if (!d) return ERR_NOMEM;
    int err = each_row(d, upto, true);
    free(d);
    r->horizon.seq = upto;
    if (!err) save(r, txn);
    return err ? err : db_txn_err(txn);
}

// ---- deciding ------------------------------------------------------------------------------------------------------

static int release_blobs(struct rows_batch *b, uint64_t upto, struct problem *p)
{
    struct drop *d = drop_new(b->r, b->txn);
    if (!d) return ERR_NOMEM;
    int err = each_row(d, upto, false);
    if (!err) err = blob_names_released(&d->ended, b->r, b->txn, b->host->blob_release, b->host->ctx, p);
    blob_names_free(&d->ended);
    free(d);
    return err;
}

int rows_decide_horizon(struct rows_batch *b, uint64_t upto, struct problem *p)
{
    uint64_t reached;
    if (upto >= b->c.seq) return problem_set(p, ERR_BASE_AHEAD, -1, "seq %llu has not been given out", (unsigned long long)upto);
    int err = horizon_reach(b->r, b->txn, upto, &reached);
    if (err || reached == b->r->horizon.seq) return err;
    b->horizon = reached;
    return b->host->blob_release ? release_blobs(b, reached, p) : 0;
}

uint64_t rows_horizon(const struct rows *r)
{
    return r->horizon.seq;
}

int rows_horizon_due(struct rows *r, struct db_txn *txn, uint64_t upto, uint64_t before_ms, uint64_t *reached)
{
    struct key first = key_commit(r->horizon.seq + 1);
    struct commit_head head;
    struct db_iter it;
    struct cur c;
    size_t looked_at = 0;
    uint64_t seq, rows = 0;
    int err = 0;
    *reached = 0;
    db_iter_init(&it, txn, rows_table(r, TABLE_COMMITS));
    bool more = db_iter_seek(&it, key_span(&first));
    for (; more && !err && looked_at++ < HORIZON_ROWS_MAX && (seq = key_commit_parse(it.key)) <= upto; more = db_iter_next(&it)) {
        err = commit_record_read(&c, it.value, &head);
        if (err || head.arrival_ms >= before_ms) break;
        rows += head.touched;
        *reached = seq;
    }
    db_iter_end(&it);
    // A move is a commit, too: for a few that touched nothing, such as moves, it would go on for ever.
    if (rows == 0 && looked_at <= HORIZON_ROWS_MAX) *reached = 0;
    return err ? err : db_txn_err(txn);
}

int rows_not_too_old(const struct rows *r, uint64_t at, struct problem *p)
{
    if (at >= r->horizon.seq) return 0;
    return problem_set(p, ERR_TOO_OLD, -1, "history is kept from seq %llu on", (unsigned long long)r->horizon.seq);
}
