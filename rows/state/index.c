#include "index.h"

#include <assert.h>

#include "err.h"
#include "expr.h"

// ---- keys ----------------------------------------------------------------------------------------------------------

void index_key_value(struct buf *out, const struct table *t, const struct index *ix, size_t place, const struct value *v)
{
    const struct index_column *c = &ix->columns[place];
    assert(place < ix->column_count && c->column < (int)t->column_count);
    const struct type *type = c->column == COLUMN_ID ? &TYPE(COL_UUID) : &t->columns[c->column].type;
    value_order_key(out, type, v, c->desc, c->desc);
}

// Is the row one of those that the index is about?
static int index_wants(struct rows *r, const struct index *ix, struct uuid id, const struct row *row, bool *yes, struct problem *p)
{
    enum expr_truth truth = EXPR_TRUE;
    int err = 0;
    *yes = row_live(row);
    if (*yes && ix->where) {
        err = expr_check(ix->where, id, row, r->scratch, &truth, p);
        arena_clear(r->scratch);
    }
    *yes &= truth == EXPR_TRUE;
    return err;
}

int index_key(struct rows *r, struct buf *out, const struct table *t, const struct index *ix, struct uuid id, const struct row *row,
              struct problem *p)
{
    size_t before = out->n;
    bool wanted;
    int err = index_wants(r, ix, id, row, &wanted, p);
    if (err || !wanted) return err;
    assert(row->count == t->column_count);
    for (size_t i = 0; i < ix->column_count; i++) {
        int column = ix->columns[i].column;
        index_key_value(out, t, ix, i, column == COLUMN_ID ? &(struct value){.u = id} : &row->cells[column].v);
    }
    if (!out->err && out->n - before <= INDEX_KEY_MAX) return 0;
    if (out->err == ERR_NOMEM) return ERR_NOMEM;
    return problem_set(p, ERR_TOO_LARGE, -1, "%.*s: the values take more than %d bytes", SPAN_FMT(ix->name), INDEX_KEY_MAX);
}

int index_takes(struct rows *r, const struct table *t, struct uuid id, const struct row *row, struct problem *p)
{
    uint8_t room[INDEX_KEY_MAX];
    int err = 0;
    for (size_t i = 0; i < t->index_count && !err; i++) {
        struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
        err = index_key(r, &b, t, &t->indexes[i], id, row, p);
    }
    return err;
}

static const struct index_state *state_of(const struct rows *r, uint32_t table, uint32_t index)
{
    assert(table >= 1);
    if (table > r->index_tables) return NULL;
    const struct index_state *s = r->indexes[table - 1];
    while (s->no != index && s->no != 0)
        s++;
    return s->no == index ? s : NULL;
}

bool index_ready(const struct rows *r, const struct table *t, const struct index *ix, uint64_t at)
{
    const struct index_state *s = state_of(r, t->no, ix->no);
    return s && s->complete && at >= s->floor;
}

// ---- reading -------------------------------------------------------------------------------------------------------

// The first key that does not begin with this one. The first byte is a space, so there is one.
static void key_beyond(struct index_key *k)
{
    while (k->b[k->n - 1] == 0xff)
        k->n--;
    k->b[k->n - 1]++;
}

static struct index_key bound(enum index_space space, const struct table *t, const struct index *ix, struct span columns)
{
    struct index_key k = key_index(space, t->no, ix->no);
    size_t n = columns.n < sizeof k.b - k.n ? columns.n : sizeof k.b - k.n; // longer than any key: what is cut off decides nothing
    if (n > 0) memcpy(k.b + k.n, columns.p, n);
    k.n += n;
    return k;
}

static void set_bounds(struct index_key *first, struct index_key *end, enum index_space space, const struct table *t,
                       const struct index *ix, struct span from, struct span to)
{
    *first = bound(space, t, ix, from);
    *end = bound(space, t, ix, to);
    if (to.n == 0) key_beyond(end);
}

static bool inside(const struct index_iter *it, const struct db_iter *at, const struct index_key *first, const struct index_key *end)
{
    return it->desc ? span_compare(at->key, index_key_span(first)) >= 0 : span_compare(at->key, index_key_span(end)) < 0;
}

static bool place(struct index_iter *it, struct db_iter *at, const struct index_key *first, const struct index_key *end)
{
    bool found = it->desc ? db_iter_seek_before(at, index_key_span(end)) : db_iter_seek(at, index_key_span(first));
    return found && inside(it, at, first, end);
}

static bool advance(struct index_iter *it, struct db_iter *at, const struct index_key *first, const struct index_key *end)
{
    return (it->desc ? db_iter_prev(at) : db_iter_next(at)) && inside(it, at, first, end);
}

void index_open(struct index_iter *it, struct rows *r, struct db_txn *txn, const struct table *t, const struct index *ix, struct span from,
                struct span to, bool desc, uint64_t at)
{
    assert(it && r && txn && t && ix);
    it->desc = desc;
    it->at = at;
    it->err = 0;
    it->begun = false;
    it->looked_at = 0;
    it->with_past = at < r->seq;
    it->skip = key_index(INDEX_NOW, t->no, ix->no).n;
    db_iter_init(&it->now, txn, rows_table(r, TABLE_INDEX));
    set_bounds(&it->now_first, &it->now_end, INDEX_NOW, t, ix, from, to);
    it->now_on = place(it, &it->now, &it->now_first, &it->now_end);
    it->past_on = false;
    if (!it->with_past) return;
    db_iter_init(&it->past, txn, rows_table(r, TABLE_INDEX));
    set_bounds(&it->past_first, &it->past_end, INDEX_PAST, t, ix, from, to);
    it->past_on = place(it, &it->past, &it->past_first, &it->past_end);
}

// The entry under a cursor. False: damaged.
static bool entry_at(const struct index_iter *it, const struct db_iter *at, enum index_space space, struct index_entry *e)
{
    struct cur c;
    if (!key_index_parse(at->key, it->skip, space, &e->columns, &e->id, &e->died)) return false;
    cur_init(&c, at->value);
    e->born = cur_varint(&c);
    return cur_end(&c) == 0 && e->columns.n <= INDEX_KEY_MAX;
}

// Moves the cursor to the next entry that the seq sees, from where it stands on.
static bool settle(struct index_iter *it, struct db_iter *at, enum index_space space, struct index_entry *e)
{
    const struct index_key *first = space == INDEX_NOW ? &it->now_first : &it->past_first;
    const struct index_key *end = space == INDEX_NOW ? &it->now_end : &it->past_end;
    for (;;) {
        if (++it->looked_at > QUERY_SCAN_MAX) {
            it->err = ERR_QUERY_TOO_EXPENSIVE;
            return false;
        }
        if (!entry_at(it, at, space, e)) {
            it->err = ERR_CORRUPT;
            return false;
        }
        if (e->born <= it->at && (e->died == 0 || e->died > it->at)) return true;
        if (!advance(it, at, first, end)) return false;
    }
}

// Of two entries that are seen the one that comes first; they are never of one row and key, for what an entry covers of time does not overlap.
static bool now_is_next(const struct index_iter *it, const struct index_entry *now, const struct index_entry *past)
{
    int order = span_compare(now->columns, past->columns);
    if (order == 0) order = uuid_compare(now->id, past->id);
    return it->desc ? order > 0 : order < 0;
}

// Goes on from where the last row was taken.
static void step(struct index_iter *it)
{
    if (it->took_now) {
        it->now_on = advance(it, &it->now, &it->now_first, &it->now_end);
    } else {
        it->past_on = advance(it, &it->past, &it->past_first, &it->past_end);
    }
}

bool index_next(struct index_iter *it, struct uuid *id, struct span *key)
{
    struct index_entry now, past;
    if (it->err) return false;
    if (it->begun) step(it);
    it->begun = true;
    if (it->now_on) it->now_on = settle(it, &it->now, INDEX_NOW, &now);
    if (it->past_on) it->past_on = settle(it, &it->past, INDEX_PAST, &past);
    if (it->err || (!it->now_on && !it->past_on)) return false;
    it->took_now = it->now_on && (!it->past_on || now_is_next(it, &now, &past));
    *id = it->took_now ? now.id : past.id;
    *key = it->took_now ? now.columns : past.columns;
    return true;
}

int index_end(struct index_iter *it)
{
    struct db_txn *txn = it->now.txn;
    db_iter_end(&it->now);
    if (it->with_past) db_iter_end(&it->past);
    return it->err ? it->err : db_txn_err(txn);
}

void index_after(struct buf *out, struct span key, struct uuid id, bool desc)
{
    buf_clear(out);
    buf_put_span(out, key);
    buf_put(out, id.b, sizeof id.b);
    if (desc || out->err) return;
    size_t n = out->n;
    while (n > 0 && out->p[n - 1] == 0xff)
        n--;
    buf_truncate(out, n);
    if (n > 0) out->p[n - 1]++;
    while (n == 0 && out->n < INDEX_KEY_MAX + sizeof id.b + 1) // the last that there can be: beyond it is nothing
        buf_put_u8(out, 0xff);
}

// ---- keeping -------------------------------------------------------------------------------------------------------

static struct index_key entry_key(enum index_space space, const struct table *t, const struct index *ix, struct span columns, struct uuid id)
{
    struct index_key k = key_index(space, t->no, ix->no);
    key_index_columns(&k, columns);
    key_index_id(&k, id);
    return k;
}

static int entry_dies(struct rows *r, struct db_txn *txn, const struct table *t, const struct index *ix, struct span columns,
                      struct uuid id, uint64_t seq)
{
    struct index_key now = entry_key(INDEX_NOW, t, ix, columns, id), past = entry_key(INDEX_PAST, t, ix, columns, id);
    uint8_t born[10];
    struct span value;
    if (!db_get(txn, rows_table(r, TABLE_INDEX), index_key_span(&now), &value) || value.n > sizeof born)
        return db_txn_err(txn) ? db_txn_err(txn) : ERR_CORRUPT;
    struct span copy = SPAN(memcpy(born, value.p, value.n), value.n); // writing ends the life of what was read
    db_del(txn, rows_table(r, TABLE_INDEX), index_key_span(&now));
    key_index_died(&past, seq);
    db_put(txn, rows_table(r, TABLE_INDEX), index_key_span(&past), copy);
    return 0;
}

static void entry_born(struct rows *r, struct db_txn *txn, const struct table *t, const struct index *ix, struct span columns,
                       struct uuid id, uint64_t seq)
{
    struct index_key k = entry_key(INDEX_NOW, t, ix, columns, id);
    uint8_t room[10];
    struct buf born = {.p = room, .cap = sizeof room, .max = sizeof room};
    buf_put_varint(&born, seq);
    db_put(txn, rows_table(r, TABLE_INDEX), index_key_span(&k), buf_span(&born));
}

int index_change(struct rows *r, struct db_txn *txn, const struct table *t, const struct index *ix, struct uuid id, const struct row *old,
                 const struct row *new, uint64_t seq)
{
    uint8_t rooms[2][INDEX_KEY_MAX];
    struct buf was = {.p = rooms[0], .cap = INDEX_KEY_MAX, .max = INDEX_KEY_MAX};
    struct buf is = {.p = rooms[1], .cap = INDEX_KEY_MAX, .max = INDEX_KEY_MAX};
    int err = index_key(r, &was, t, ix, id, old, NULL);
    if (!err) err = index_key(r, &is, t, ix, id, new, NULL);
    if (err || span_equal(buf_span(&was), buf_span(&is))) return err;
    if (was.n > 0) err = entry_dies(r, txn, t, ix, buf_span(&was), id, seq);
    if (!err && is.n > 0) entry_born(r, txn, t, ix, buf_span(&is), id, seq);
    return err ? err : db_txn_err(txn);
}

int index_row(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *old, const struct row *new,
              uint64_t seq)
{
    int err = 0;
    for (size_t i = 0; i < t->index_count && !err; i++) {
        const struct index_state *s = state_of(r, t->no, t->indexes[i].no);
        if (s && index_state_covers(s, id)) err = index_change(r, txn, t, &t->indexes[i], id, old, new, seq);
    }
    return err;
}
