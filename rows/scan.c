#include "scan.h"

#include <assert.h>

#include "err.h"

// The version of a row that the scan sees, given its current record.
static int row_seen(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, uint64_t at, struct span current,
                    struct row_space *out)
{
    bool deleted;
    uint64_t seq;
    int err = record_head(current, &deleted, &seq);
    if (err) return err;
    return seq <= at ? record_decode(out, t, current) : row_at(r, txn, t, id, at, out);
}

static int look_at(struct scan *s, struct rows *r, struct db_txn *txn, const struct query *q, struct uuid id, struct span current,
                   scan_row *each, void *ctx)
{
    struct row_space room;
    const struct table *t = schema_table_no(r->schema, q->table);
    assert(t);
    s->last = id;
    s->begun = true;
    if (++s->looked_at > QUERY_SCAN_MAX) return ERR_QUERY_TOO_EXPENSIVE;
    int err = row_seen(r, txn, t, id, s->at, current, &room);
    if (err || !query_matches(q, id, &room.row)) return err;
    return each(ctx, id, &room.row);
}

static int scan_point(struct scan *s, struct rows *r, struct db_txn *txn, const struct query *q, scan_row *each, void *ctx)
{
    struct span current;
    s->done = true;
    if (!record_current(r, txn, q->table, q->id, &current)) return db_txn_err(txn);
    int err = look_at(s, r, txn, q, q->id, current, each, ctx);
    return err == SCAN_ENOUGH ? 0 : err;
}

int scan_step(struct scan *s, struct rows *r, struct db_txn *txn, const struct query *q, size_t rows_max, scan_row *each, void *ctx)
{
    struct key from = s->begun ? key_row(q->table, s->last) : key_row_table(q->table);
    struct db_iter it;
    struct uuid id;
    int err = 0;
    if (s->done) return 0;
    if (q->point) return scan_point(s, r, txn, q, each, ctx);
    db_iter_init(&it, txn, rows_table(r, TABLE_ROWS));
    bool more = db_iter_seek(&it, key_span(&from));
    if (more && s->begun && span_equal(it.key, key_span(&from))) more = db_iter_next(&it);
    for (; more && key_row_parse(it.key, q->table, &id); more = db_iter_next(&it)) {
        if (rows_max-- == 0) break;
        err = look_at(s, r, txn, q, id, it.value, each, ctx);
        if (err) break;
    }
    s->done = !err && (!more || !key_row_parse(it.key, q->table, &id));
    db_iter_end(&it);
    if (err == SCAN_ENOUGH) err = 0;
    return err ? err : db_txn_err(txn);
}

// ---- keys ----------------------------------------------------------------------------------------------------------

struct collect {
    const struct query *q;
    struct sort_keys *out;
    struct buf key;
    size_t keep;
    bool *dropped;
};

static int collect(void *ctx, struct uuid id, const struct row *row)
{
    struct collect *c = ctx;
    buf_clear(&c->key);
    query_order_key(c->q, id, row, &c->key);
    if (c->key.err) return c->key.err;
    int err = sort_keys_collect(c->out, buf_span(&c->key), c->keep, c->dropped);
    return !err && c->keep == SIZE_MAX && c->out->n > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : err;
}

int scan_collect(struct scan *s, struct rows *r, struct db_txn *txn, const struct query *q, size_t rows_max, size_t keep,
                 struct sort_keys *out, bool *dropped)
{
    struct collect c = {.q = q, .out = out, .keep = keep, .dropped = dropped};
    buf_init(&c.key, QUERY_SORT_MAX);
    int err = scan_step(s, r, txn, q, rows_max, collect, &c);
    buf_free(&c.key);
    return err;
}

int scan_keys(struct rows *r, struct db_txn *txn, const struct query *q, uint64_t at, size_t keep, struct sort_keys *out, bool *all)
{
    struct scan s = {.at = at};
    bool dropped = false;
    int err = 0;
    assert(out->n == 0);
    while (!err && !s.done)
        err = scan_collect(&s, r, txn, q, QUERY_SCAN_MAX, keep, out, &dropped);
    if (err) {
        sort_keys_free(out);
        return err;
    }
    sort_keys_finish(out, keep, &dropped);
    *all = !dropped;
    return 0;
}
