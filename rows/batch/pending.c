// Previews: pending batches are decided one after the other over the state, each over what the ones before would have made of it, and thrown away.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "row_batch.h"
#include "show.h"
#include "tell.h"

struct rows_pending {
    struct rows *r;
    struct db_txn *txn;
    uint64_t seq; // the last real commit
    struct rows_host host;
    struct commit commits[PREVIEW_BATCHES_MAX]; // of the pending batches; those refused have a seq of 0
    size_t count;
    struct rows_batch *taken; // what those accepted so far make
    struct rows_batch *open;  // the one that is being decided
    struct row_space room;
};

// ---- the host: streams come and go without leaving anything -------------------------------------------------------------

static int no_stream(void *ctx, struct span path, struct problem *p)
{
    (void)ctx, (void)path, (void)p;
    return 0;
}

static int find_blob(void *ctx, const struct sha256 *digest, struct problem *p)
{
    struct rows_pending *v = ctx;
    char type[STREAM_TYPE_MAX + 1];
    uint64_t size;
    if (v->r->host->blob_at(v->r->host->ctx, v->txn, digest, &size, type)) return 0;
    return problem_set(p, ERR_BLOB_NOT_FOUND, -1, "%s", err_text(ERR_BLOB_NOT_FOUND));
}

struct rows_pending *rows_pending_new(struct rows *r, struct db_txn *txn, uint64_t seq)
{
    struct rows_pending *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    v->r = r;
    v->txn = txn;
    v->seq = seq;
    v->host = *r->host;
    v->host.ctx = v;
    v->host.stream_create = no_stream;
    v->host.stream_delete = no_stream;
    v->host.blob_known = find_blob;
    v->host.blob_link = find_blob;
    return v;
}

void rows_pending_free(struct rows_pending *v)
{
    if (!v) return;
    rows_batch_free(v->open);
    rows_batch_free(v->taken);
    free(v);
}

// ---- batches -------------------------------------------------------------------------------------------------------

struct rows_batch *rows_pending_begin(struct rows_pending *v, const struct commit *c)
{
    assert(!v->open);
    if (v->count == PREVIEW_BATCHES_MAX) return NULL;
    struct commit *own = &v->commits[v->count];
    *own = *c;
    own->seq = v->seq + 1 + v->count;
    v->open = rows_decide(v->r, v->txn, own, &v->host);
    if (!v->open) return NULL;
    v->count++;
    v->open->pending = v->commits;
    v->open->pending_count = v->count - 1;
    if (v->taken && batch_inherit(v->open, v->taken)) {
        rows_batch_free(v->open);
        v->open = NULL;
    }
    return v->open;
}

int rows_pending_end(struct rows_pending *v, int err, struct problem *p)
{
    struct rows_batch *b = v->open;
    assert(b);
    v->open = NULL;
    if (!err) err = rows_decide_end(b, p);
    if (err) {
        v->commits[v->count - 1].seq = 0;
        rows_batch_free(b);
        return err;
    }
    v->commits[v->count - 1].stamp = rows_decide_stamp(b);
    rows_batch_free(v->taken);
    v->taken = b;
    return 0;
}

// ---- what has become of a row --------------------------------------------------------------------------------------

static void tell_source(struct rows_pending *v, struct jw *w, uint64_t seq)
{
    jw_object(w);
    if (seq > v->seq) {
        jw_key(w, "batch");
        jw_uint(w, seq - v->seq - 1);
    } else {
        tell_commit(w, v->r, v->txn, seq);
    }
    jw_end(w);
}

static void tell_columns(struct rows_pending *v, struct jw *w, const struct table *t, const struct row *row)
{
    jw_key(w, "columns");
    jw_object(w);
    for (size_t i = 0; i < row->count; i++) {
        if (t->columns[i].type.kind == COL_STREAM) continue;
        jw_key_span(w, t->columns[i].name);
        if (row->cells[i].seq == 0) {
            jw_null(w);
        } else {
            tell_source(v, w, row->cells[i].seq);
        }
    }
    jw_end(w);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// The commits and batches that some value of the row comes from, the oldest first; a deleted row's is the one that deleted it.
static void tell_versions(struct rows_pending *v, struct jw *w, const struct table *t, const struct row *row)
{
    uint64_t seqs[COLUMNS_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < row->count; i++)
        if (row->cells[i].seq > 0 && t->columns[i].type.kind != COL_STREAM) seqs[n++] = row->cells[i].seq;
    if (row->exists) seqs[n++] = row->seq;
    qsort(seqs, n, sizeof *seqs, by_number);
    jw_key(w, "versions");
    jw_array(w);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || seqs[i] != seqs[i - 1]) tell_source(v, w, seqs[i]);
    jw_end(w);
}

// The row as the accepted ones leave it.
static int find_row(struct rows_pending *v, const struct table *t, struct uuid id, const struct row **out)
{
    const struct entry *e = v->taken ? batch_find(v->taken, t->no, id) : NULL;
    *out = &v->room.row;
    if (!e || !e->changed) return row_at(v->r, v->txn, t, id, v->seq, &v->room);
    *out = &e->row;
    return 0;
}

int rows_pending_row(struct rows_pending *v, struct span table, struct uuid id, struct jw *w, struct problem *p)
{
    const struct table *t;
    const struct row *row;
    int err = tell_table(v->r, table, &t, p);
    if (!err) err = find_row(v, t, id, &row);
    if (err) return err;
    jw_object(w);
    tell_name(w, t, id);
    jw_key(w, "row");
    tell_row(w, v->r, v->txn, t, id, row, v->seq);
    tell_columns(v, w, t, row);
    tell_versions(v, w, t, row);
    jw_end(w);
    return 0;
}
