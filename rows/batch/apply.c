// Applying effects: first all of them are checked against the state, then written. So damaged effects change nothing, and what
// is written needs no way back but the transaction's.
#include <assert.h>

#include "blob_names.h"
#include "effects.h"
#include "elements.h"
#include "err.h"
#include "horizon.h"
#include "index.h"
#include "past.h"
#include "schema_versions.h"
#include "view.h"

struct apply {
    struct rows *r;
    struct db_txn *txn;
    const struct commit *c;
    struct schema *schema; // the one that these rows are in
    uint64_t rows, touched;
    uint64_t horizon;
    struct buf past;  // a superseded version, encoded
    struct buf fresh; // a byte for each row: was there none? Then writing needs not look again
    size_t written;
    struct row_space old, new; // last: see rows_apply
};

// ---- checking ------------------------------------------------------------------------------------------------------

// Every cell was written by this commit, or is what it was before; in a new row it may be a default that nobody wrote.
static bool cell_fits(const struct apply *a, const struct column *col, size_t i)
{
    const struct cell *cell = &a->new.row.cells[i];
    bool nothing = cell->v.null && col->not_null;
    if (col->type.set && !cell->v.null && elements_oldest(&col->type, &cell->v) > cell->seq) return false;
    if (cell->seq == a->c->seq) return !nothing;
    if (row_live(&a->old.row)) return cell->seq == a->old.row.cells[i].seq && value_equal(&col->type, &cell->v, &a->old.row.cells[i].v);
    return cell->seq == 0 && !nothing;
}

// What the row was before; of one that is restored what it was before it was deleted.
static int load_old(struct apply *a, const struct table *t, struct uuid id, bool stands)
{
    int err = row_current(a->r, a->txn, t, id, &a->old);
    if (err || !a->old.row.deleted) return err;
    if (!stands) return ERR_CORRUPT;
    err = row_at(a->r, a->txn, t, id, a->old.row.seq - 1, &a->old);
    return err || row_live(&a->old.row) ? err : ERR_CORRUPT;
}

static int check_row(struct apply *a, const struct effect_row *e)
{
    const struct table *t = schema_table_no(a->schema, e->table);
    if (!t || e->record.n > ROW_BYTES_MAX || record_decode(&a->new, t, e->record)) return ERR_CORRUPT;
    int err = load_old(a, t, e->id, !a->new.row.deleted);
    if (err) return err;
    const struct row *old = &a->old.row, *new = &a->new.row;
    if (new->seq != a->c->seq || new->version > a->schema->version || new->version < old->version) return ERR_CORRUPT;
    for (size_t i = 0; i < new->count; i++)
        if (!cell_fits(a, &t->columns[i], i)) return ERR_CORRUPT;
    a->rows++;
    buf_put_u8(&a->fresh, !old->exists);
    if (a->fresh.err) return a->fresh.err;
    err = index_takes(a->r, t, e->id, new, NULL);
    return err == 0 || err == ERR_NOMEM ? err : ERR_CORRUPT;
}

static int check_touch(struct apply *a, const struct effect_row *e)
{
    const struct table *t = schema_table_no(a->schema, e->table);
    if (!t || !row_stands(a->r, a->txn, t->no, e->id)) return db_txn_err(a->txn) ? db_txn_err(a->txn) : ERR_CORRUPT;
    a->touched++;
    return 0;
}

static int check_schema(struct apply *a, struct span bytes)
{
    struct schema *s;
    if (bytes.n == 0) {
        a->schema = schema_ref(a->r->schema);
        return 0;
    }
    int err = schema_decode(&s, bytes);
    if (err) return err;
    if (!schema_extends(s, a->r->schema)) {
        schema_unref(s);
        return ERR_CORRUPT;
    }
    a->schema = s;
    return 0;
}

static int check_horizon(struct apply *a, uint64_t horizon, bool schema)
{
    a->horizon = horizon;
    if (horizon == 0) return 0;
    return a->rows + a->touched > 0 || schema || horizon <= a->r->horizon.seq || horizon >= a->c->seq ? ERR_CORRUPT : 0;
}

static int check(struct apply *a, struct span effects)
{
    struct effects e;
    struct effect_row row;
    int err = 0;
    effects_open(&e, effects);
    if (e.c.err || a->c->seq <= a->r->seq) return ERR_CORRUPT;
    err = check_schema(a, e.schema);
    while (!err && effects_next_row(&e, &row))
        err = check_row(a, &row);
    while (!err && effects_next_touch(&e, &row))
        err = check_touch(a, &row);
    if (!err) err = check_horizon(a, effects_horizon(&e), e.schema.n > 0);
    return err ? err : effects_end(&e);
}

// ---- writing -------------------------------------------------------------------------------------------------------

static int write_schema(struct apply *a, struct span bytes)
{
    struct key k = key_schema(a->schema->version);
    struct buf record;
    if (bytes.n == 0) return 0;
    buf_init(&record, ENTRY_BYTES_MAX + KIB);
    schema_version_encode(&record, &(struct schema_version){a->c->seq, a->c->arrival_ms, a->schema->hash, bytes});
    int err = record.err;
    if (!err) db_put(a->txn, rows_table(a->r, TABLE_SCHEMAS), key_span(&k), buf_span(&record));
    buf_free(&record);
    if (err) return err;
    schema_succeed(a->r->schema, a->schema);
    schema_unref(a->r->schema);
    a->r->schema = schema_ref(a->schema);
    return index_publish(a->r, a->txn, a->c->seq);
}

static const struct value *reference_of(const struct row *r, size_t column)
{
    return row_live(r) && !r->cells[column].v.null ? &r->cells[column].v : NULL;
}

static void write_references(struct apply *a, const struct table *t, struct uuid id)
{
    for (size_t i = 0; i < t->column_count; i++) {
        struct reference ref = {.table = t->columns[i].references, .from_table = t->no, .from_column = (uint16_t)i, .from_id = id};
        if (!ref.table) continue;
        const struct value *before = reference_of(&a->old.row, i), *after = reference_of(&a->new.row, i);
        if (before && after && uuid_equal(before->u, after->u)) continue;
        if (before) {
            ref.id = before->u;
            struct key k = key_reference(&ref);
            db_del(a->txn, rows_table(a->r, TABLE_ROWS), key_span(&k));
        }
        if (after) {
            ref.id = after->u;
            struct key k = key_reference(&ref);
            db_put(a->txn, rows_table(a->r, TABLE_ROWS), key_span(&k), SPAN_LIT("\1"));
        }
    }
}

static int write_past(struct apply *a, const struct table *t, struct uuid id, struct span record)
{
    struct key k = key_history(t->no, id, a->old.row.seq);
    buf_clear(&a->past);
    past_encode(&a->past, t, &a->old.row, &a->new.row, record);
    db_put(a->txn, rows_table(a->r, TABLE_HISTORY), key_span(&k), buf_span(&a->past));
    return a->past.err;
}

// The old record is copied first: writing ends the life of what was read.
static int write_row(struct apply *a, const struct effect_row *e, struct buf *copy)
{
    const struct table *t = schema_table_no(a->schema, e->table);
    struct key k = key_row(e->table, e->id);
    struct span record;
    bool fresh = a->fresh.p[a->written++];
    int err = 0;
    buf_clear(copy);
    a->old.row = (struct row){.cells = a->old.cells};
    if (!fresh && record_current(a->r, a->txn, e->table, e->id, &record)) {
        buf_put_span(copy, record);
        err = copy->err ? copy->err : record_decode(&a->old, t, buf_span(copy));
    }
    if (!err) err = record_decode(&a->new, t, e->record);
    if (err) return err;
    if (a->old.row.exists) err = write_past(a, t, e->id, buf_span(copy));
    if (err) return err;
    db_put(a->txn, rows_table(a->r, TABLE_ROWS), key_span(&k), e->record);
    write_references(a, t, e->id);
    blob_names_begin(a->r, a->txn, t, e->id, &a->old.row, &a->new.row);
    a->r->applied_rows++;
    return index_row(a->r, a->txn, t, e->id, &a->old.row, &a->new.row, a->c->seq);
}

static int write_rows(struct apply *a, struct effects *e, struct buf *commit)
{
    struct effect_row row;
    struct commit_rows last = {.table = 0};
    struct buf copy;
    int err = 0;
    buf_init(&copy, ROW_BYTES_MAX);
    while (!err && effects_next_row(e, &row)) {
        err = write_row(a, &row, &copy);
        commit_record_row(commit, &last, row.table, row.id);
    }
    while (!err && effects_next_touch(e, &row))
        commit_record_row(commit, &last, row.table, row.id);
    buf_free(&copy);
    return err;
}

static int write_all(struct apply *a, struct span effects)
{
    struct effects e;
    struct buf commit;
    struct key k = key_commit(a->c->seq);
    effects_open(&e, effects);
    int err = write_schema(a, e.schema);
    buf_init(&commit, ENTRY_BYTES_MAX);
    struct commit_head head = {.stamp = a->c->stamp,
                               .arrival_ms = a->c->arrival_ms,
                               .writer = a->c->writer,
                               .counter = a->c->counter,
                               .key = a->c->key,
                               .author = a->c->author,
                               .transaction = a->c->transaction,
                               .schema = e.schema.n > 0,
                               .touched = a->rows + a->touched};
    commit_record_begin(&commit, &head);
    if (!err && a->horizon) err = horizon_apply(a->r, a->txn, a->horizon);
    if (!err) err = write_rows(a, &e, &commit);
    if (!err) err = commit.err;
    if (!err) db_put(a->txn, rows_table(a->r, TABLE_COMMITS), key_span(&k), buf_span(&commit));
    buf_free(&commit);
    a->r->seq = a->c->seq;
    return err ? err : db_txn_err(a->txn);
}

// ---- views ---------------------------------------------------------------------------------------------------------

// Once all rows are written, so that a view may read the state. The old images are the versions before this commit.
static int advance_views(struct apply *a, struct span effects)
{
    struct effects e;
    struct effect_row row;
    int err = 0;
    effects_open(&e, effects);
    while (!err && effects_next_row(&e, &row)) {
        const struct table *t = schema_table_no(a->schema, row.table);
        err = row_at(a->r, a->txn, t, row.id, a->c->seq - 1, &a->old);
        if (!err) err = record_decode(&a->new, t, row.record);
        if (!err) views_row(a->r, a->c->seq, &(struct row_change){.table = t, .id = row.id, .old = &a->old.row, .new = &a->new.row});
    }
    while (!err && effects_next_touch(&e, &row)) {
        const struct table *t = schema_table_no(a->schema, row.table);
        err = row_current(a->r, a->txn, t, row.id, &a->new);
        if (!err) views_row(a->r, a->c->seq, &(struct row_change){.table = t, .id = row.id, .old = &a->new.row, .new = &a->new.row});
    }
    if (!err) views_commit(a->r, a->txn, a->c->seq);
    return err;
}

int rows_apply(struct rows *r, struct db_txn *txn, const struct commit *c, struct span effects)
{
    struct apply a;
    assert(r && txn && c);
    if (effects.n == 0) return 0;
    memset(&a, 0, offsetof(struct apply, old)); // the rooms behind it are large, and filled before they are read
    a.r = r;
    a.txn = txn;
    a.c = c;
    buf_init(&a.past, 2 * ROW_BYTES_MAX);
    buf_init(&a.fresh, ENTRY_BYTES_MAX);
    int err = check(&a, effects);
    if (!err) err = write_all(&a, effects);
    if (!err && r->views.table.count > 0) err = advance_views(&a, effects);
    buf_free(&a.past);
    buf_free(&a.fresh);
    schema_unref(a.schema);
    return err;
}
