// What a row has been, and who wrote it; and what two seqs have different.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "tell.h"

#define HISTORY_BYTES MIB // of an answer, from where on the rest is another's

// ---- the history of a row ------------------------------------------------------------------------------------------

// Which columns' values a version brought: those that its own commit wrote.
static void tell_written(struct jw *w, const struct table *t, const struct row *row)
{
    jw_key(w, "wrote");
    jw_array(w);
    for (size_t i = 0; i < row->count; i++)
        if (row->cells[i].seq == row->seq && t->columns[i].type.kind != COL_STREAM) jw_str(w, t->columns[i].name);
    jw_end(w);
}

static void tell_version(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *row)
{
    jw_object(w);
    tell_commit(w, r, txn, row->seq);
    if (row->deleted) {
        jw_key(w, "deleted");
        jw_bool(w, true);
    } else {
        tell_written(w, t, row);
        jw_key(w, "row");
        tell_row(w, r, txn, t, id, row, row->seq);
    }
    jw_end(w);
}

// Who wrote each value that the row has now; a default that nobody wrote over has no author.
static void tell_authors(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, const struct row *row)
{
    jw_key(w, "columns");
    jw_object(w);
    for (size_t i = 0; i < row->count; i++) {
        if (t->columns[i].type.kind == COL_STREAM) continue;
        jw_key_span(w, t->columns[i].name);
        if (row->cells[i].seq == 0) {
            jw_null(w);
            continue;
        }
        jw_object(w);
        tell_commit(w, r, txn, row->cells[i].seq);
        jw_end(w);
    }
    jw_end(w);
}

// The versions up to `at`, the newest first; *next: where to go on, 0 behind the oldest that is kept.
static int tell_versions(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, uint64_t at, size_t max,
                         struct row_space *room, uint64_t *next)
{
    int err = 0;
    jw_key(w, "versions");
    jw_array(w);
    for (*next = at; max > 0 && *next > 0 && *next >= r->horizon.seq && w->out->n < HISTORY_BYTES; max--) {
        err = row_at(r, txn, t, id, *next, room);
        if (err || !room->row.exists) break;
        tell_version(w, r, txn, t, id, &room->row);
        *next = room->row.seq - 1;
    }
    bool kept = *next > 0 && *next >= r->horizon.seq;
    if (!err && kept) err = row_at(r, txn, t, id, *next, room);
    if (!err && (!kept || !room->row.exists)) *next = 0;
    jw_end(w);
    return err;
}

int rows_history(struct rows *r, struct db_txn *txn, struct span table, struct uuid id, uint64_t at, size_t max, struct buf *out,
                 struct problem *p)
{
    const struct table *t;
    uint64_t next;
    struct jw w;
    int err = tell_table(r, table, &t, p);
    if (!err) err = rows_not_too_old(r, at, p);
    if (err) return err;
    struct row_space *room = malloc(sizeof *room);
    if (!room) return ERR_NOMEM;
    jw_init(&w, out);
    jw_object(&w);
    tell_name(&w, t, id);
    err = row_at(r, txn, t, id, at, room);
    if (!err && !room->row.exists) err = problem_set(p, ERR_NOT_FOUND, -1, "there was no such row");
    if (!err && row_live(&room->row)) tell_authors(&w, r, txn, t, &room->row);
    if (!err) err = tell_versions(&w, r, txn, t, id, at, max, room, &next);
    if (!err && next > 0) jw_key(&w, "next"), jw_uint(&w, next);
    jw_end(&w);
    free(room);
    return err ? err : out->err;
}

// ---- the difference of two seqs ------------------------------------------------------------------------------------

#define STEP_COMMITS 4096 // looked through at once

struct diff {
    struct rows *r;
    struct db_txn *txn;
    uint64_t from, to;
    struct jw w;
    size_t rows, looked_at; // commits, of each table anew, and rows
    struct row_space was, is;
};

// Only what is another value counts, not that it was written anew.
static bool differs(const struct table *t, const struct row *was, const struct row *is, size_t i)
{
    const struct type *type = &t->columns[i].type;
    const struct value *a = &was->cells[i].v, *b = &is->cells[i].v;
    if (a->null || b->null) return a->null != b->null;
    return type->set ? value_compare(type, a, b) != 0 : !value_equal(type, a, b);
}

static void tell_changed(struct diff *d, const struct table *t)
{
    jw_key(&d->w, "changed");
    jw_array(&d->w);
    for (size_t i = 0; i < t->column_count; i++)
        if (differs(t, &d->was.row, &d->is.row, i)) jw_str(&d->w, t->columns[i].name);
    jw_end(&d->w);
}

static bool is_difference(const struct diff *d, const struct table *t)
{
    bool stood = row_live(&d->was.row), stands = row_live(&d->is.row), other = stood != stands;
    for (size_t i = 0; stood && stands && !other && i < t->column_count; i++)
        other = differs(t, &d->was.row, &d->is.row, i);
    return other;
}

static int diff_row(struct diff *d, const struct table *t, struct uuid id)
{
    int err = row_at(d->r, d->txn, t, id, d->from, &d->was);
    if (!err) err = row_at(d->r, d->txn, t, id, d->to, &d->is);
    if (err || !is_difference(d, t)) return err;
    if (++d->rows > QUERY_ROWS_MAX) return ERR_RESULT_TOO_LARGE;
    jw_object(&d->w);
    tell_name(&d->w, t, id);
    jw_key(&d->w, "was");
    tell_row(&d->w, d->r, d->txn, t, id, &d->was.row, d->from);
    jw_key(&d->w, "is");
    tell_row(&d->w, d->r, d->txn, t, id, &d->is.row, d->to);
    if (row_live(&d->was.row) && row_live(&d->is.row)) tell_changed(d, t);
    jw_end(&d->w);
    return d->w.out->err == ERR_TOO_LARGE ? ERR_RESULT_TOO_LARGE : d->w.out->err;
}

static int diff_table(struct diff *d, const struct table *t)
{
    struct id_set touched = {.ids = NULL};
    uint64_t reached = d->from;
    int err = 0;
    while (!err && reached < d->to) {
        err = touched_rows(d->r, d->txn, t->no, reached, d->to, QUERY_SCAN_MAX, STEP_COMMITS, &touched, &reached);
        if (reached < d->to) d->looked_at += STEP_COMMITS;
        if (!err && d->looked_at + touched.n > QUERY_SCAN_MAX) err = ERR_QUERY_TOO_EXPENSIVE;
    }
    d->looked_at += touched.n;
    id_set_sort(&touched);
    for (size_t i = 0; i < touched.n && !err; i++)
        err = diff_row(d, t, touched.ids[i]);
    id_set_free(&touched);
    return err;
}

int rows_diff(struct rows *r, struct db_txn *txn, struct span table, uint64_t from, uint64_t to, struct buf *out, struct problem *p)
{
    const struct table *only = NULL;
    int err = table.n > 0 ? tell_table(r, table, &only, p) : 0;
    if (!err) err = rows_not_too_old(r, from, p);
    assert(from <= to);
    struct diff *d = err ? NULL : malloc(sizeof *d);
    if (!d) return err ? err : ERR_NOMEM;
    d->r = r;
    d->txn = txn;
    d->from = from;
    d->to = to;
    d->rows = d->looked_at = 0;
    jw_init(&d->w, out);
    jw_object(&d->w);
    jw_key(&d->w, "from"), jw_uint(&d->w, from);
    jw_key(&d->w, "to"), jw_uint(&d->w, to);
    jw_key(&d->w, "rows"), jw_array(&d->w);
    for (size_t i = 0; i < r->schema->table_count && !err; i++)
        if (!only || only->no == r->schema->tables[i].no) err = diff_table(d, &r->schema->tables[i]);
    jw_end(&d->w);
    jw_end(&d->w);
    free(d);
    return err ? err : out->err;
}
