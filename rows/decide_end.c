// Deciding what concerns the batch as a whole: the schema it publishes, the references it leaves, its effects.
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
    built->version = b->r->schema->version + 1;
    schema_unref(b->schema);
    b->schema = built;
    b->publishes = true;
    return 0;
}

// ---- references ----------------------------------------------------------------------------------------------------

static int check_references_from(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    char text[UUID_TEXT];
    for (size_t i = 0; i < e->row.count; i++) {
        const struct column *c = &t->columns[i];
        const struct cell *cell = &e->row.cells[i];
        if (!c->references || cell->v.null || cell->seq != b->c.seq || batch_row_stands(b, c->references, cell->v.u)) continue;
        uuid_format(cell->v.u, text);
        return problem_set(p, ERR_NO_SUCH_REFERENCE, -1, "%.*s refers to %.*s %.*s, which does not exist", SPAN_FMT(c->name),
                           SPAN_FMT(schema_table_no(b->schema, c->references)->name), UUID_TEXT, text);
    }
    return 0;
}

// Does the state's reference still stand when the batch is done?
static bool still_refers(struct rows_batch *b, const struct reference *ref)
{
    const struct entry *e = batch_find(b, ref->from_table, ref->from_id);
    if (!e || !e->changed) return true;
    if (e->row.deleted) return false;
    assert(ref->from_column < e->row.count);
    const struct value *v = &e->row.cells[ref->from_column].v;
    return !v->null && uuid_equal(v->u, ref->id);
}

static int check_references_to(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    struct key prefix = key_references_to(t->no, e->id);
    struct reference ref;
    struct db_iter it;
    bool found = false;
    db_iter_init(&it, b->txn, rows_table(b->r, TABLE_ROWS));
    for (bool more = db_iter_seek(&it, key_span(&prefix)); more && !found; more = db_iter_next(&it)) {
        if (!key_reference_parse(it.key, &ref) || ref.table != t->no || !uuid_equal(ref.id, e->id)) break;
        found = still_refers(b, &ref);
    }
    db_iter_end(&it);
    if (!found) return db_txn_err(b->txn);
    char text[UUID_TEXT];
    uuid_format(e->id, text);
    return problem_set(p, ERR_STILL_REFERENCED, -1, "a row of %.*s refers to %.*s %.*s",
                       SPAN_FMT(schema_table_no(b->schema, ref.from_table)->name), SPAN_FMT(t->name), UUID_TEXT, text);
}

int rows_decide_end(struct rows_batch *b, struct problem *p)
{
    int err = 0;
    assert(b);
    for (size_t i = 0; i < b->count && !err; i++) {
        const struct entry *e = b->entries[i];
        const struct table *t = schema_table_no(b->schema, e->table);
        if (!e->changed) continue;
        if (!e->row.deleted) {
            err = check_references_from(b, t, e, p);
        } else if (e->was_live) {
            err = check_references_to(b, t, e, p);
        }
    }
    return err ? err : db_txn_err(b->txn);
}

// ---- effects -------------------------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    if (x->table != y->table) return x->table < y->table ? -1 : 1;
    return uuid_compare(x->id, y->id);
}

static void put_rows(struct rows_batch *b, struct entry **sorted, struct buf *out)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct entry *e = sorted[i];
        if (!e->changed) continue;
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
        changed += b->entries[i]->changed;
        touched += only_touched(b->entries[i]);
    }
    if (changed + touched == 0 && !b->publishes) return;
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
}
