// References when a batch ends. First what refers to deleted rows goes with them, or is cut off from them, as its column says, and what refers to
// that in turn; then every reference that the batch made, and every row that it deleted, is looked at once more.
#include <assert.h>

#include "err.h"
#include "row_batch.h"

static int no_such_reference(const struct column *c, const struct table *to, struct uuid id, struct problem *p)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    return problem_set(p, ERR_NO_SUCH_REFERENCE, -1, "%.*s refers to %.*s %.*s, which does not exist", SPAN_FMT(c->name), SPAN_FMT(to->name),
                       UUID_TEXT, text);
}

// ---- going with a deleted row --------------------------------------------------------------------------------------

static int cut_off(struct rows_batch *b, const struct table *t, struct entry *e, size_t column, struct problem *p)
{
    int err = batch_load_cells(b, t, e, p);
    if (err) return err;
    if (t->columns[column].not_null)
        return problem_set(p, ERR_NOT_NULL, -1, "%.*s must not be null", SPAN_FMT(t->columns[column].name));
    e->row.cells[column] = (struct cell){.v = VALUE_NULL, .seq = b->c.seq};
    e->row.seq = b->c.seq;
    e->row.version = b->schema->version;
    e->changed = true;
    return 0;
}

// A row that stands refers by this column to `gone`. One that the batch wrote after it had deleted that row means it so: it stays, and is refused.
static int follow(struct rows_batch *b, const struct table *t, struct entry *e, size_t column, const struct entry *gone, struct problem *p)
{
    const struct column *c = &t->columns[column];
    int err;
    if (c->on_delete == REF_RESTRICT) return 0;
    if (e->op > gone->op) return no_such_reference(c, schema_table_no(b->schema, gone->table), gone->id, p);
    if (++b->cascaded > CASCADE_ROWS_MAX)
        return problem_set(p, ERR_BATCH_TOO_LARGE, -1, "more than %d rows refer to what the batch deletes", CASCADE_ROWS_MAX);
    e->op = gone->op;
    if (c->on_delete == REF_CASCADE) {
        err = batch_delete_row(b, t, e, p);
    } else {
        err = cut_off(b, t, e, column, p);
    }
    return err;
}

// Does the state's reference still stand as the batch has left it so far?
static bool still_refers(const struct rows_batch *b, const struct reference *ref)
{
    const struct entry *e = batch_find(b, ref->from_table, ref->from_id);
    if (!e || !e->changed) return true;
    if (e->row.deleted) return false;
    assert(ref->from_column < e->row.count);
    const struct value *v = &e->row.cells[ref->from_column].v;
    return !v->null && uuid_equal(v->u, ref->id);
}

static int follow_stored(struct rows_batch *b, const struct reference *ref, const struct entry *gone, struct problem *p)
{
    const struct table *t = schema_table_no(b->schema, ref->from_table);
    struct entry *e;
    if (!t || ref->from_column >= t->column_count) return ERR_CORRUPT;
    if (!still_refers(b, ref)) return 0;
    int err = batch_entry(b, t, ref->from_id, &e, p);
    return err ? err : follow(b, t, e, ref->from_column, gone, p);
}

// Calls for each reference that the state has to this row.
static int each_stored(struct rows_batch *b, const struct entry *to,
                       int (*call)(struct rows_batch *, const struct reference *, const struct entry *, struct problem *), struct problem *p)
{
    struct key prefix = key_references_to(to->table, to->id);
    struct reference ref;
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, b->txn, rows_table(b->r, TABLE_ROWS));
    for (bool more = db_iter_seek(&it, key_span(&prefix)); more && !err; more = db_iter_next(&it)) {
        if (!key_reference_parse(it.key, &ref) || ref.table != to->table || !uuid_equal(ref.id, to->id)) break;
        err = call(b, &ref, to, p);
    }
    db_iter_end(&it);
    return err ? err : db_txn_err(b->txn);
}

// The references that a row of the batch makes to rows that the batch has deleted: the state does not have them.
static int follow_made(struct rows_batch *b, struct entry *e, bool *moved, struct problem *p)
{
    const struct table *t = schema_table_no(b->schema, e->table);
    int err = 0;
    for (size_t i = 0; i < t->column_count && !err && row_live(&e->row); i++) {
        const struct value *v = t->columns[i].references ? &e->row.cells[i].v : NULL;
        const struct entry *to = v && !v->null ? batch_find(b, t->columns[i].references, v->u) : NULL;
        if (!to || !to->changed || !to->row.deleted || t->columns[i].on_delete == REF_RESTRICT) continue;
        *moved = true;
        err = follow(b, t, e, i, to, p);
    }
    return err;
}

// The list grows while it is gone through, and what comes late may concern what was passed: until nothing moves any more.
static int cascade(struct rows_batch *b, struct problem *p)
{
    bool moved = true;
    int err = 0;
    while (moved && !err) {
        moved = false;
        for (size_t i = 0; i < b->count && !err; i++) {
            struct entry *e = b->entries[i];
            if (!e->changed) continue;
            if (row_live(&e->row)) {
                err = follow_made(b, e, &moved, p);
            } else if (e->was_live && !e->swept) {
                e->swept = moved = true;
                err = each_stored(b, e, follow_stored, p);
            }
        }
    }
    return err;
}

// ---- what is left --------------------------------------------------------------------------------------------------

static int check_from(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    for (size_t i = 0; i < e->row.count; i++) {
        const struct column *c = &t->columns[i];
        const struct cell *cell = &e->row.cells[i];
        bool made = cell->seq == b->c.seq || e->whole;
        if (!c->references || cell->v.null || !made || batch_row_stands(b, c->references, cell->v.u)) continue;
        return no_such_reference(c, schema_table_no(b->schema, c->references), cell->v.u, p);
    }
    return 0;
}

static int refuse_stored(struct rows_batch *b, const struct reference *ref, const struct entry *gone, struct problem *p)
{
    char text[UUID_TEXT];
    if (!still_refers(b, ref)) return 0;
    uuid_format(gone->id, text);
    return problem_set(p, ERR_STILL_REFERENCED, -1, "a row of %.*s refers to %.*s %.*s",
                       SPAN_FMT(schema_table_no(b->schema, ref->from_table)->name), SPAN_FMT(schema_table_no(b->schema, gone->table)->name),
                       UUID_TEXT, text);
}

int batch_end_references(struct rows_batch *b, struct problem *p)
{
    int err = cascade(b, p);
    for (size_t i = 0; i < b->count && !err; i++) {
        const struct entry *e = b->entries[i];
        if (!e->changed) continue;
        if (row_live(&e->row)) {
            err = check_from(b, schema_table_no(b->schema, e->table), e, p);
        } else if (e->was_live) {
            err = each_stored(b, e, refuse_stored, p);
        }
    }
    return err;
}
