// Deciding what concerns the batch as a whole: the schema it publishes, what must hold in the end, its effects.
#include <assert.h>
#include <stdlib.h>

#include "row_batch.h"
#include "effects.h"
#include "err.h"
#include "sql.h"

int rows_decide_schema(struct rows_batch *b, struct span sql, struct problem *p)
{
    struct ast_schema *ast;
    struct schema *built;
    int err = sql_parse_schema(sql, &ast, p);
    if (err) return err;
    // A second one in the same batch still counts from the store's version, but must let the first one's tables be.
    err = schema_build(&built, ast, b->schema, b->c.arrival_ms, p);
    sql_schema_free(ast);
    if (err) return err;
    if (sha256_equal(&built->hash, &b->schema->hash)) {
        schema_unref(built);
        return 0;
    }
    schema_renumber(built, b->r->schema->version + 1);
    schema_unref(b->schema);
    b->schema = built;
    b->publishes = true;
    return 0;
}

// Only what is kept is linked: a write that lost names nothing.
static int link_blobs(struct rows_batch *b, const struct entry *e, struct problem *p)
{
    const struct table *t = schema_table_no(b->schema, e->table);
    int err = 0;
    for (size_t i = 0; i < t->column_count && !err; i++) {
        const struct cell *cell = &e->row.cells[i];
        bool named = t->columns[i].type.kind == COL_BLOB && !cell->v.null && (cell->seq == b->c.seq || e->whole);
        if (named) err = b->host->blob_link(b->host->ctx, &cell->v.h, p);
    }
    return err;
}

int rows_decide_end(struct rows_batch *b, struct problem *p)
{
    int err = 0;
    assert(b);
    // Rows that were made before the batch published a schema have the cells that it has brought, too.
    for (size_t i = 0; i < b->count && !err && b->publishes; i++) {
        struct entry *e = b->entries[i];
        if (e->changed && row_live(&e->row)) err = batch_load_cells(b, schema_table_no(b->schema, e->table), e, p);
    }
    if (!err && b->horizon && (b->publishes || b->count > 0)) err = problem_set(p, ERR_BAD_BATCH, -1, "the horizon moves in a batch of its own");
    if (!err) err = batch_end_references(b, p);
    if (!err) err = batch_end_constraints(b, p);
    for (size_t i = 0; i < b->count && !err; i++)
        if (b->entries[i]->changed && row_live(&b->entries[i]->row)) err = link_blobs(b, b->entries[i], p);
    return err ? err : db_txn_err(b->txn);
}

// ---- effects -------------------------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    if (x->table != y->table) return x->table < y->table ? -1 : 1;
    return uuid_compare(x->id, y->id);
}

// A new version of the row? Not where the batch brings a row back and deletes it again: it is as it was.
static bool is_written(const struct entry *e)
{
    return e->changed && !(e->restored && e->row.deleted);
}

static void put_rows(struct rows_batch *b, struct entry **sorted, struct buf *out)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct entry *e = sorted[i];
        if (!is_written(e)) continue;
        buf_clear(&b->scratch);
        record_encode(&b->scratch, schema_table_no(b->schema, e->table), &e->row);
        if (b->scratch.err) {
            out->err = b->scratch.err;
            return;
        }
        effects_row(out, &(struct effect_row){.table = e->table, .id = e->id, .record = buf_span(&b->scratch)});
    }
}

static bool only_touched(const struct entry *e)
{
    return e->touched && !e->changed;
}

void rows_decide_effects(struct rows_batch *b, struct buf *effects)
{
    size_t changed = 0, touched = 0;
    struct buf schema;
    for (size_t i = 0; i < b->count; i++) {
        changed += is_written(b->entries[i]);
        touched += only_touched(b->entries[i]);
    }
    if (changed + touched == 0 && !b->publishes && !b->horizon) return;
    struct entry **sorted = arena_array(b->arena, b->count, sizeof(struct entry *));
    if (!sorted) {
        effects->err = ERR_NOMEM;
        return;
    }
    if (b->count > 0) memcpy(sorted, b->entries, b->count * sizeof(struct entry *));
    qsort(sorted, b->count, sizeof(struct entry *), by_name);
    buf_init(&schema, ENTRY_BYTES_MAX);
    if (b->publishes) schema_encode(b->schema, &schema);
    if (schema.err) effects->err = schema.err;
    effects_begin(effects, buf_span(&schema), changed);
    buf_free(&schema);
    put_rows(b, sorted, effects);
    effects_touched(effects, touched);
    for (size_t i = 0; i < b->count; i++)
        if (only_touched(sorted[i])) effects_touch(effects, &(struct effect_row){.table = sorted[i]->table, .id = sorted[i]->id});
    if (b->horizon) effects_put_horizon(effects, b->horizon);
}
