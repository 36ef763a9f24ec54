#include "source.h"

#include <assert.h>
#include <stdlib.h>

#include "bug.h"
#include "err.h"

#define KEY_BYTES_MAX (INDEX_KEY_MAX + 16)

// ---- one row -------------------------------------------------------------------------------------------------------

int source_row(const struct row_source *src, const struct table *t, struct uuid id, struct row_space *out)
{
    const struct row *over = src->overlay ? src->overlay->find(src->overlay->ctx, t->no, id) : NULL;
    if (src->reads && !(over && bug("own_rows_unread"))) read_set_row(src->reads, t->no, id); // one that lies over it, too: what was not written is the stored row's
    if (!over) return row_at(src->r, src->txn, t, id, src->at, out);
    assert(over->deleted || over->count == t->column_count);
    out->row = *over;
    out->unpacked = false;
    return 0;
}

// ---- keys of the walk ----------------------------------------------------------------------------------------------

static struct span columns_of(struct span key)
{
    return SPAN(key.p, key.n - sizeof(struct uuid));
}

static struct uuid id_of(struct span key)
{
    struct uuid id;
    memcpy(id.b, key.p + key.n - sizeof id.b, sizeof id.b);
    return id;
}

static void put_key(struct buf *out, struct span columns, struct uuid id)
{
    buf_clear(out);
    buf_put_span(out, columns);
    buf_put(out, id.b, sizeof id.b);
}

static bool in_bounds(const struct cursor *c, struct span key)
{
    return span_compare(key, buf_span(&c->from)) >= 0 && (c->to.n == 0 || span_compare(key, buf_span(&c->to)) < 0);
}

// ---- rows that lie over the store ----------------------------------------------------------------------------------

// The row's key in the walk; none where it does not stand, or the index is not about it.
static int key_of(const struct cursor *c, struct rows *r, struct uuid id, const struct row *row, struct buf *key)
{
    buf_clear(key);
    int err = c->ix ? index_key(r, key, c->t, c->ix, id, row, NULL) : 0;
    if (!err && (c->ix ? key->n > 0 : row_live(row))) buf_put(key, id.b, sizeof id.b);
    return err ? err : key->err;
}

static int gather_over(struct cursor *c, const struct row_source *src)
{
    const struct overlay *overlay = src->overlay;
    struct uuid id, after;
    struct buf key;
    bool dropped = false;
    int err = 0;
    buf_init(&key, KEY_BYTES_MAX);
    const struct row *row = overlay->next(overlay->ctx, c->t->no, NULL, &id);
    while (row && !err) {
        err = key_of(c, src->r, id, row, &key);
        if (!err && key.n > 0 && in_bounds(c, buf_span(&key))) err = sort_keys_collect(&c->over, buf_span(&key), SIZE_MAX, &dropped);
        after = id;
        row = overlay->next(overlay->ctx, c->t->no, &after, &id);
    }
    buf_free(&key);
    sort_keys_finish(&c->over, SIZE_MAX, &dropped);
    return err;
}

static struct span over_key(const struct cursor *c)
{
    if (c->over_at == c->over.n) return SPAN_NONE;
    return sort_key_span(c->over.keys[c->desc ? c->over.n - 1 - c->over_at : c->over_at]);
}

// ---- stored rows ---------------------------------------------------------------------------------------------------

// Where to go on: behind the last key that was taken.
static int bounds_left(const struct cursor *c, struct buf *from, struct buf *to)
{
    struct buf place;
    buf_put_span(from, buf_span(&c->from));
    buf_put_span(to, buf_span(&c->to));
    if (!c->begun) return from->err ? from->err : to->err;
    buf_init(&place, KEY_BYTES_MAX + 1);
    index_after(&place, columns_of(buf_span(&c->last)), id_of(buf_span(&c->last)), c->desc);
    struct buf *moved = c->desc ? to : from;
    buf_clear(moved);
    buf_put_span(moved, buf_span(&place));
    buf_free(&place);
    return moved->err;
}

static void open_rows(struct cursor *c, const struct row_source *src, struct span from, struct span to)
{
    struct key prefix = key_row_table(c->t->no);
    struct buf key;
    buf_init(&key, sizeof prefix.b + KEY_BYTES_MAX + 1);
    buf_put_span(&key, key_span(&prefix));
    db_iter_init(&c->rows, src->txn, rows_table(src->r, TABLE_ROWS));
    if (!c->desc) {
        buf_put_span(&key, from);
        c->got_all = !db_iter_seek(&c->rows, buf_span(&key));
    } else {
        buf_put_span(&key, to);
        for (size_t n = key.n; to.n == 0 && n > 0 && ++key.p[n - 1] == 0; n--) // the first key beyond those of the table
            continue;
        c->got_all = !db_iter_seek_before(&c->rows, buf_span(&key));
    }
    buf_free(&key);
}

static int open_store(struct cursor *c, const struct row_source *src)
{
    struct buf from, to;
    buf_init(&from, KEY_BYTES_MAX + 2);
    buf_init(&to, KEY_BYTES_MAX + 2);
    int err = bounds_left(c, &from, &to);
    if (!err && c->ix) index_open(&c->it, src->r, src->txn, c->t, c->ix, buf_span(&from), buf_span(&to), c->desc, src->at);
    if (!err && !c->ix) open_rows(c, src, buf_span(&from), buf_span(&to));
    c->open = !err;
    buf_free(&from);
    buf_free(&to);
    return err;
}

static int close_store(struct cursor *c)
{
    if (!c->open) return 0;
    c->open = false;
    if (c->ix) return index_end(&c->it);
    struct db_txn *txn = c->rows.txn;
    db_iter_end(&c->rows);
    return db_txn_err(txn);
}

// The next key of the rows by id, without looking at the row; the iterator stays on it.
static bool next_row_key(struct cursor *c, struct uuid *id)
{
    if (c->got_all) return false;
    bool more = key_row_parse(c->rows.key, c->t->no, id);
    more = more && in_bounds(c, SPAN(id->b, sizeof id->b));
    c->got_all = !more;
    return more;
}

static void step_row(struct cursor *c)
{
    c->got_all = c->desc ? !db_iter_prev(&c->rows) : !db_iter_next(&c->rows);
}

// Takes the next stored key into `peek`. Of the rows by id the record stays under the iterator until the key after it is asked for.
static int peek_store(struct cursor *c, const struct row_source *src, size_t *budget)
{
    struct uuid id;
    struct span columns = SPAN_NONE;
    while (!c->peeked && !c->got_all) {
        if (*budget == 0) return CURSOR_MORE;
        if (!c->open) {
            int err = open_store(c, src);
            if (err) return err;
        } else if (!c->ix && c->begun) {
            step_row(c);
        }
        bool found = c->ix ? index_next(&c->it, &id, &columns) : next_row_key(c, &id);
        if (!found) {
            c->got_all = true;
            return close_store(c);
        }
        --*budget;
        c->looked_at++;
        put_key(&c->last, columns, id);
        c->begun = true;
        if (c->last.err) return c->last.err;
        if (c->with_over && src->overlay->find(src->overlay->ctx, c->t->no, id)) continue;
        put_key(&c->peek, columns, id);
        if (c->peek.err) return c->peek.err;
        c->peeked = true;
    }
    return 0;
}

// ---- both ----------------------------------------------------------------------------------------------------------

// The next key into *key, valid until the next call; empty: there is none. *over: it lies over the store.
static int next_key(struct cursor *c, const struct row_source *src, size_t *budget, struct span *key, bool *over)
{
    int err = peek_store(c, src, budget);
    if (err) return err;
    struct span stored = c->peeked ? buf_span(&c->peek) : SPAN_NONE, laid = over_key(c);
    *over = laid.n > 0 && (stored.n == 0 || (span_compare(laid, stored) < 0) != c->desc);
    *key = *over ? laid : stored;
    if (*over) {
        c->over_at++;
    } else {
        c->peeked = false;
    }
    return 0;
}

// The record under the iterator is the row's current one: no need to look for it again.
static int row_here(struct cursor *c, const struct row_source *src, struct uuid id, struct row_space *room)
{
    bool deleted;
    uint64_t seq;
    int err = record_head(c->rows.value, &deleted, &seq);
    if (err) return err;
    return seq <= src->at ? record_decode(room, c->t, c->rows.value) : row_at(src->r, src->txn, c->t, id, src->at, room);
}

static int fetch(struct cursor *c, const struct row_source *src, struct uuid id, bool here, struct row_space *room)
{
    if (here && c->open && !c->ix) return row_here(c, src, id, room); // its range is noted as a whole
    return source_row(src, c->t, id, room);
}

// Rows of equal columns are gathered, and then given the last one first.
static int fill_run(struct cursor *c, const struct row_source *src, size_t *budget)
{
    struct span key;
    bool over;
    for (;;) {
        int err = peek_store(c, src, budget);
        if (err) return err;
        struct span stored = c->peeked ? buf_span(&c->peek) : SPAN_NONE, laid = over_key(c);
        struct span next = laid.n > 0 && (stored.n == 0 || span_compare(laid, stored) > 0) ? laid : stored;
        if (next.n == 0) return 0;
        if (c->run.n > 0 && !span_equal(columns_of(next), buf_span(&c->run_key))) return 0;
        err = next_key(c, src, budget, &key, &over);
        if (err) return err;
        if (c->run.n == 0) {
            buf_clear(&c->run_key);
            buf_put_span(&c->run_key, columns_of(key));
        }
        struct uuid id = id_of(key);
        buf_put(&c->run, id.b, sizeof id.b);
        if (c->run.err || c->run_key.err) return ERR_QUERY_TOO_EXPENSIVE;
    }
}

static int next_of_run(struct cursor *c, const struct row_source *src, size_t *budget, struct uuid *id, bool *found)
{
    if (!c->giving) {
        int err = fill_run(c, src, budget);
        if (err) return err;
        c->giving = c->run.n > 0;
    }
    *found = c->giving;
    if (!c->giving) return 0;
    memcpy(id->b, c->run.p + c->run.n - sizeof id->b, sizeof id->b);
    buf_truncate(&c->run, c->run.n - sizeof id->b);
    c->giving = c->run.n > 0;
    return 0;
}

int cursor_next(struct cursor *c, const struct row_source *src, size_t *budget, struct uuid *id, struct row_space *room)
{
    while (!c->done) {
        struct span key;
        bool over = true, found = false;
        int err;
        if (c->runs) {
            err = next_of_run(c, src, budget, id, &found);
        } else {
            err = next_key(c, src, budget, &key, &over);
            found = !err && key.n > 0;
            if (found) *id = id_of(key);
        }
        if (err) return err;
        if (!found) {
            c->done = true;
            return 0;
        }
        err = fetch(c, src, *id, !over, room);
        if (err || row_live(&room->row)) return err;
    }
    return 0;
}

// ---- opening and closing -------------------------------------------------------------------------------------------

int cursor_open(struct cursor *c, const struct row_source *src, const struct table *t, const struct index *ix, bool desc, bool runs)
{
    assert(!c->open && !c->begun);
    c->t = t;
    c->ix = ix;
    c->table_no = t->no;
    c->index_no = ix ? ix->no : 0;
    c->desc = desc;
    c->runs = runs && ix;
    buf_init(&c->last, KEY_BYTES_MAX);
    buf_init(&c->peek, KEY_BYTES_MAX);
    buf_init(&c->run, QUERY_SORT_MAX);
    buf_init(&c->run_key, KEY_BYTES_MAX);
    struct uuid first;
    c->with_over = src->overlay && src->overlay->next(src->overlay->ctx, t->no, NULL, &first);
    return c->with_over ? gather_over(c, src) : 0;
}

void cursor_suspend(struct cursor *c)
{
    close_store(c);
}

void cursor_resume(struct cursor *c, const struct table *t, const struct index *ix)
{
    assert(!c->open && (ix != NULL) == (c->ix != NULL));
    c->t = t;
    c->ix = ix;
}

// What was looked through: all of it, or up to the last key taken.
static void record(const struct cursor *c, const struct row_source *src)
{
    struct buf place;
    struct span from = buf_span(&c->from), to = buf_span(&c->to);
    if (!c->got_all && !c->begun) return;
    buf_init(&place, KEY_BYTES_MAX + 2);
    if (!c->got_all) {
        buf_put_span(&place, buf_span(&c->last));
        if (!c->desc) buf_put_u8(&place, 0);
        if (c->desc) from = buf_span(&place);
        if (!c->desc) to = buf_span(&place);
    }
    read_set_range(src->reads, c->table_no, c->index_no, from, to);
    buf_free(&place);
}

void cursor_close(struct cursor *c, const struct row_source *src)
{
    if (!c->t) return;
    if (src->reads) record(c, src);
    close_store(c);
    buf_free(&c->from);
    buf_free(&c->to);
    buf_free(&c->last);
    buf_free(&c->peek);
    buf_free(&c->run);
    buf_free(&c->run_key);
    sort_keys_free(&c->over);
    *c = (struct cursor){.t = NULL};
}
