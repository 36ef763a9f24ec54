#include "preview.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_write.h"
#include "row_batch.h"
#include "show.h"
#include "source.h"

struct rows_preview {
    struct rows_batch *batch;
    struct rows_host host;
    struct overlay overlay;
    struct entry **sorted; // rows that the operations changed, by table and id
    size_t n;
    bool is_sorted;
};

// Streams and blobs are for the real decision.
static int no_stream(void *ctx, struct span path, struct problem *p)
{
    (void)ctx, (void)path, (void)p;
    return 0;
}

static int no_blob(void *ctx, const struct sha256 *digest, struct problem *p)
{
    (void)ctx, (void)digest, (void)p;
    return 0;
}

struct rows_preview *rows_preview_new(struct rows *r, struct db_txn *txn, uint64_t at, uint64_t base, uint64_t arrival_ms)
{
    struct rows_preview *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    // Above every stamp: all that it writes shows.
    struct commit c = {.seq = r->seq + 1, .arrival_ms = arrival_ms, .stamp = UINT64_MAX, .base = base};
    v->host = (struct rows_host){.stream_create = no_stream, .stream_delete = no_stream, .blob_known = no_blob, .blob_link = no_blob};
    v->batch = rows_decide(r, txn, &c, &v->host);
    if (!v->batch) {
        free(v);
        return NULL;
    }
    v->batch->preview = true;
    v->batch->at = at;
    return v;
}

void rows_preview_free(struct rows_preview *v)
{
    if (!v) return;
    rows_batch_free(v->batch);
    free(v->sorted);
    free(v);
}

void rows_preview_time(struct rows_preview *v, uint64_t arrival_ms)
{
    v->batch->c.arrival_ms = arrival_ms;
}

int rows_preview_op(struct rows_preview *v, struct db_txn *txn, const struct row_op *op, struct problem *p)
{
    assert(v && txn && op && (op->has_id || op->kind != ROW_INSERT));
    int err = rows_not_too_old(v->batch->r, v->batch->at, p);
    v->batch->txn = txn;
    v->is_sorted = false;
    if (!err) err = rows_decide_op(v->batch, op, NULL, p);
    v->batch->txn = NULL; // another one may be open before the next call
    return err;
}

bool rows_preview_current(const struct rows_preview *v)
{
    return v->batch->schema == v->batch->r->schema;
}

// ---- the overlay ---------------------------------------------------------------------------------------------------

static int compare(const struct entry *e, uint32_t table, struct uuid id)
{
    if (e->table != table) return e->table < table ? -1 : 1;
    return uuid_compare(e->id, id);
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    return compare(x, y->table, y->id);
}

// The place of the first one that is not before this row; `above`: not this row either.
static size_t find_place(const struct rows_preview *v, uint32_t table, struct uuid id, bool above)
{
    size_t low = 0, high = v->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare(v->sorted[mid], table, id);
        if (c < 0 || (above && c == 0)) low = mid + 1;
        else high = mid;
    }
    return low;
}

static const struct row *overlay_find(void *ctx, uint32_t table, struct uuid id)
{
    const struct rows_preview *v = ctx;
    size_t i = find_place(v, table, id, false);
    return i < v->n && compare(v->sorted[i], table, id) == 0 ? &v->sorted[i]->row : NULL;
}

static const struct row *overlay_next(void *ctx, uint32_t table, const struct uuid *after, struct uuid *id)
{
    const struct rows_preview *v = ctx;
    size_t i = after ? find_place(v, table, *after, true) : find_place(v, table, (struct uuid){{0}}, false);
    if (i == v->n || v->sorted[i]->table != table) return NULL;
    *id = v->sorted[i]->id;
    return &v->sorted[i]->row;
}

const struct overlay *rows_preview_overlay(struct rows_preview *v)
{
    const struct rows_batch *b = v->batch;
    if (!v->is_sorted) {
        struct entry **sorted = realloc(v->sorted, (b->count + 1) * sizeof(struct entry *));
        if (!sorted) return NULL;
        v->sorted = sorted;
        v->n = 0;
        for (size_t i = 0; i < b->count; i++)
            if (b->entries[i]->changed) sorted[v->n++] = b->entries[i];
        if (v->n > 1) qsort(sorted, v->n, sizeof(struct entry *), compare_entries);
        v->is_sorted = true;
    }
    v->overlay = (struct overlay){.ctx = v, .find = overlay_find, .next = overlay_next};
    return &v->overlay;
}

// ---- what they differ in -------------------------------------------------------------------------------------------

static void put_image(struct jw *w, struct rows_preview *v, struct db_txn *txn, const struct table *t, const char *key, struct uuid id, const struct row *row)
{
    jw_key(w, key);
    if (row_live(row)) show_all(w, v->batch->r, txn, t, id, row, v->batch->at);
    else jw_null(w);
}

int rows_preview_diff(struct rows_preview *v, struct db_txn *txn, struct jw *w)
{
    struct rows_batch *b = v->batch;
    char text[UUID_TEXT];
    int err = rows_preview_overlay(v) ? 0 : ERR_NOMEM;
    struct row_space *was = malloc(sizeof *was);
    if (!was) err = ERR_NOMEM;
    jw_array(w);
    for (size_t i = 0; i < v->n && !err; i++) {
        const struct entry *e = v->sorted[i];
        const struct table *t = schema_table_no(b->schema, e->table);
        err = row_at(b->r, txn, t, e->id, b->at, was);
        if (err || (!row_live(&was->row) && !row_live(&e->row))) continue; // it came and went
        uuid_format(e->id, text);
        jw_object(w);
        jw_key(w, "table"), jw_str(w, t->name);
        jw_key(w, "id"), jw_str(w, SPAN(text, UUID_TEXT));
        put_image(w, v, txn, t, "was", e->id, &was->row);
        put_image(w, v, txn, t, "is", e->id, &e->row);
        jw_end(w);
    }
    free(was);
    if (!err) jw_end(w);
    return err;
}
