#include "row_batch.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"

#define BATCH_MEMORY_MAX (128 * MIB) // row versions held while one batch is decided

struct rows_batch *rows_decide(struct rows *r, struct db_txn *txn, const struct commit *c, const struct rows_host *host)
{
    assert(r && txn && c && c->seq > 0);
    struct rows_batch *b = malloc(sizeof *b);
    if (!b) return NULL;
    *b = (struct rows_batch){.r = r, .txn = txn, .c = *c, .host = host ? host : r->host, .schema = schema_ref(r->schema)};
    buf_init(&b->scratch, ROW_BYTES_MAX);
    b->arena = arena_new(BATCH_MEMORY_MAX);
    if (!b->arena) {
        rows_batch_free(b);
        return NULL;
    }
    return b;
}

void rows_batch_free(struct rows_batch *b)
{
    if (!b) return;
    schema_unref(b->schema);
    buf_free(&b->scratch);
    arena_free(b->arena);
    free(b->room);
    free(b->entries);
    free(b->buckets);
    free(b);
}

int batch_no_room(const struct rows_batch *b, struct problem *p)
{
    if (!arena_full(b->arena)) return ERR_NOMEM;
    return problem_set(p, ERR_BATCH_TOO_LARGE, -1, "the rows of this batch take more than %u bytes", BATCH_MEMORY_MAX);
}

// ---- the map of entries --------------------------------------------------------------------------------------------

static size_t bucket_of(const struct rows_batch *b, uint32_t table, struct uuid id)
{
    return (size_t)checksum64(SPAN(id.b, sizeof id.b), table) & (b->bucket_count - 1);
}

struct entry *batch_find(const struct rows_batch *b, uint32_t table, struct uuid id)
{
    if (b->bucket_count == 0) return NULL;
    for (size_t i = bucket_of(b, table, id); b->buckets[i] != 0; i = (i + 1) & (b->bucket_count - 1)) {
        struct entry *e = b->entries[b->buckets[i] - 1];
        if (e->table == table && uuid_equal(e->id, id)) return e;
    }
    return NULL;
}

static void place(struct rows_batch *b, size_t index)
{
    const struct entry *e = b->entries[index];
    size_t i = bucket_of(b, e->table, e->id);
    while (b->buckets[i] != 0)
        i = (i + 1) & (b->bucket_count - 1);
    b->buckets[i] = (uint32_t)index + 1;
}

static bool grow(struct rows_batch *b)
{
    size_t cap = b->cap ? b->cap * 2 : 16;
    struct entry **entries = realloc(b->entries, cap * sizeof(struct entry *));
    if (!entries) return false;
    b->entries = entries;
    b->cap = cap;
    uint32_t *buckets = calloc(cap * 2, sizeof *buckets);
    if (!buckets) return false;
    free(b->buckets);
    b->buckets = buckets;
    b->bucket_count = cap * 2;
    for (size_t i = 0; i < b->count; i++)
        place(b, i);
    return true;
}

static struct entry *add(struct rows_batch *b, uint32_t table, struct uuid id)
{
    if (b->count * 2 >= b->bucket_count && !grow(b)) return NULL;
    struct entry *e = arena_alloc(b->arena, sizeof *e);
    if (!e) return NULL;
    e->table = table;
    e->id = id;
    b->entries[b->count++] = e;
    place(b, b->count - 1);
    return e;
}

// ---- entries -------------------------------------------------------------------------------------------------------

// The row as the batch finds it, without its cells.
static int find_row(struct rows_batch *b, const struct table *t, struct uuid id, struct row *row)
{
    struct span record;
    if (b->preview) {
        if (!batch_room(b)) return ERR_NOMEM;
        if (rows_not_too_old(b->r, b->at, NULL)) return ERR_TOO_OLD;
        int err = row_at(b->r, b->txn, t, id, b->at, b->room);
        const struct row *was = &b->room->row;
        if (!err) *row = (struct row){.exists = was->exists, .deleted = was->deleted, .seq = was->seq};
        return err;
    }
    if (!record_current(b->r, b->txn, t->no, id, &record)) return 0;
    row->exists = true;
    return record_head(record, &row->deleted, &row->seq);
}

int batch_entry(struct rows_batch *b, const struct table *t, struct uuid id, struct entry **out, struct problem *p)
{
    struct row row = {.exists = false};
    struct entry *e = batch_find(b, t->no, id);
    if (!e) {
        int err = find_row(b, t, id, &row);
        if (err) return err;
        if (db_txn_err(b->txn)) return db_txn_err(b->txn);
        e = add(b, t->no, id);
        if (!e) return batch_no_room(b, p);
        e->row = row;
        e->was_live = row_live(&row);
    }
    *out = e;
    return 0;
}

static int copy_cells(struct rows_batch *b, const struct table *t, struct entry *e, const struct cell *from, size_t start,
                      struct problem *p)
{
    struct cell *cells = arena_array(b->arena, t->column_count, sizeof *cells);
    if (!cells) return batch_no_room(b, p);
    if (start > 0) memcpy(cells, e->row.cells, start * sizeof *cells);
    for (size_t i = start; i < t->column_count; i++) {
        cells[i].seq = from[i].seq;
        if (!value_copy(&cells[i].v, &t->columns[i].type, &from[i].v, b->arena)) return batch_no_room(b, p);
    }
    e->row.cells = cells;
    e->row.count = t->column_count;
    e->loaded = true;
    return 0;
}

static int extend(struct rows_batch *b, const struct table *t, struct entry *e, struct problem *p)
{
    for (size_t i = e->row.count; i < t->column_count; i++) {
        b->room->cells[i] = (struct cell){.v = t->columns[i].fill};
        if (t->columns[i].type.kind == COL_STREAM) b->room->cells[i].v.null = false;
    }
    return copy_cells(b, t, e, b->room->cells, e->row.count, p);
}

int batch_copy_cells(struct rows_batch *b, const struct table *t, struct entry *e, const struct cell *from, struct problem *p)
{
    return copy_cells(b, t, e, from, 0, p);
}

// Large, and of no use to the many batches that touch no row.
struct row_space *batch_room(struct rows_batch *b)
{
    if (!b->room) b->room = malloc(sizeof *b->room);
    return b->room;
}

int batch_load_cells(struct rows_batch *b, const struct table *t, struct entry *e, struct problem *p)
{
    assert(row_live(&e->row));
    if (!batch_room(b)) return ERR_NOMEM;
    if (e->loaded) return e->row.count == t->column_count ? 0 : extend(b, t, e, p);
    int err = b->preview ? row_at(b->r, b->txn, t, e->id, b->at, b->room) : row_current(b->r, b->txn, t, e->id, b->room);
    if (err) return err;
    assert(row_live(&b->room->row));
    return copy_cells(b, t, e, b->room->cells, 0, p);
}

bool batch_row_stands(struct rows_batch *b, uint32_t table, struct uuid id)
{
    const struct entry *e = batch_find(b, table, id);
    return e ? row_live(&e->row) : row_stands(b->r, b->txn, table, id);
}

static int inherit(struct rows_batch *b, const struct entry *from)
{
    struct entry *e = add(b, from->table, from->id);
    if (!e) return batch_no_room(b, NULL);
    e->row = from->row;
    e->was_live = row_live(&from->row);
    e->changed = e->swept = true;
    return e->was_live ? batch_copy_cells(b, schema_table_no(b->schema, e->table), e, from->row.cells, NULL) : 0;
}

int batch_inherit(struct rows_batch *b, const struct rows_batch *from)
{
    int err = 0;
    assert(b->count == 0);
    for (size_t i = 0; i < from->count && !err; i++)
        if (from->entries[i]->changed) err = inherit(b, from->entries[i]);
    return err;
}
