// How far indexes are filled. What an index holds of the rows that it has taken in is kept by index_row; this is about the others.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "index.h"

#define FORMAT 1

// ---- states --------------------------------------------------------------------------------------------------------

static void put_state(struct rows *r, struct db_txn *txn, uint32_t table, const struct index_state *s)
{
    uint8_t room[32];
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct key k = key_index_state(table, s->no);
    buf_put_u8(&b, FORMAT);
    buf_put_u8(&b, s->complete ? 2 : s->begun);
    if (s->complete) {
        buf_put_varint(&b, s->floor);
    } else if (s->begun) {
        buf_put(&b, s->last.b, sizeof s->last.b);
    }
    db_put(txn, rows_table(r, TABLE_INDEX), key_span(&k), buf_span(&b));
}

static int read_state(struct span record, struct index_state *s)
{
    struct cur c;
    cur_init(&c, record);
    if (cur_u8(&c) != FORMAT) cur_fail(&c);
    uint8_t stage = cur_u8(&c);
    if (stage > 2) cur_fail(&c);
    s->complete = stage == 2;
    s->begun = stage == 1;
    if (s->complete) s->floor = cur_varint(&c);
    struct span last = cur_span(&c, s->begun ? sizeof s->last.b : 0);
    if (!c.err && s->begun) memcpy(s->last.b, last.p, last.n);
    return cur_end(&c);
}

// A state that the database does not have is that of an index that is new.
static int get_state(struct rows *r, struct db_txn *txn, uint32_t table, struct index_state *s)
{
    struct key k = key_index_state(table, s->no);
    struct span record;
    if (!db_get(txn, rows_table(r, TABLE_INDEX), key_span(&k), &record)) return db_txn_err(txn);
    return read_state(record, s);
}

void index_unload(struct rows *r)
{
    for (size_t i = 0; i < r->index_tables; i++)
        free(r->indexes[i]);
    free(r->indexes);
    r->indexes = NULL;
    r->index_tables = 0;
}

int index_load(struct rows *r, struct db_txn *txn)
{
    const struct schema *s = r->schema;
    int err = 0;
    index_unload(r);
    if (s->table_count == 0) return 0;
    r->indexes = calloc(s->table_count, sizeof(struct index_state *));
    if (!r->indexes) return ERR_NOMEM;
    for (size_t i = 0; i < s->table_count && !err; i++) {
        const struct table *t = &s->tables[i];
        struct index_state *states = calloc(t->index_count + 1, sizeof *states);
        if (!states) return ERR_NOMEM;
        r->indexes[r->index_tables++] = states;
        for (size_t k = 0; k < t->index_count && !err; k++) {
            states[k].no = t->indexes[k].no;
            err = get_state(r, txn, t->no, &states[k]);
        }
    }
    r->index_work = true; // or not: the next step finds out
    return err;
}

// ---- filling -------------------------------------------------------------------------------------------------------

struct fill {
    struct rows *r;
    struct db_txn *txn;
    const struct table *t;
    const struct index *ix;
    struct index_state *s;
    struct row_space room;
};

static int fill_row(struct fill *f, struct uuid id, struct span record)
{
    static const struct row none;
    int err = record_decode(&f->room, f->t, record);
    if (!err) err = index_change(f->r, f->txn, f->t, f->ix, id, &none, &f->room.row, f->room.row.seq);
    f->s->begun = true;
    f->s->last = id;
    return err;
}

// Takes the next rows in; behind the last one the index answers for `floor` and later seqs.
static int fill_step(struct fill *f, size_t *rows, uint64_t floor)
{
    struct key from = f->s->begun ? key_row(f->t->no, f->s->last) : key_row_table(f->t->no);
    struct db_iter it;
    struct uuid id;
    int err = 0;
    db_iter_init(&it, f->txn, rows_table(f->r, TABLE_ROWS));
    bool more = db_iter_seek(&it, key_span(&from));
    if (more && f->s->begun && span_equal(it.key, key_span(&from))) more = db_iter_next(&it);
    for (; !err && more && *rows > 0 && key_row_parse(it.key, f->t->no, &id); more = db_iter_next(&it), --*rows)
        err = fill_row(f, id, it.value);
    f->s->complete = !err && (!more || !key_row_parse(it.key, f->t->no, &id));
    db_iter_end(&it);
    f->s->floor = floor;
    if (!err) put_state(f->r, f->txn, f->t->no, f->s);
    return err ? err : db_txn_err(f->txn);
}

static int fill_some(struct rows *r, struct db_txn *txn, const struct table *t, size_t place, size_t *rows, uint64_t floor)
{
    struct fill *f = malloc(sizeof *f); // a row's room is large
    if (!f) return ERR_NOMEM;
    *f = (struct fill){.r = r, .txn = txn, .t = t, .ix = &t->indexes[place], .s = &r->indexes[t->no - 1][place]};
    int err = fill_step(f, rows, floor);
    free(f);
    return err;
}

// ---- emptying ------------------------------------------------------------------------------------------------------

static void empty_space(struct rows *r, struct db_txn *txn, struct index_key prefix, size_t *rows)
{
    struct db_iter it;
    db_iter_init(&it, txn, rows_table(r, TABLE_INDEX));
    bool more = db_iter_seek(&it, index_key_span(&prefix));
    for (; more && *rows > 0 && it.key.n > prefix.n && memcmp(it.key.p, prefix.b, prefix.n) == 0; more = db_iter_next(&it), --*rows) {
        uint8_t copy[sizeof prefix.b];
        struct span key = SPAN(memcpy(copy, it.key.p, it.key.n), it.key.n);
        db_del(txn, rows_table(r, TABLE_INDEX), key);
    }
    db_iter_end(&it);
}

static void empty_some(struct rows *r, struct db_txn *txn, uint32_t table, uint32_t index, size_t *rows)
{
    struct key state = key_index_state(table, index);
    empty_space(r, txn, key_index(INDEX_NOW, table, index), rows);
    empty_space(r, txn, key_index(INDEX_PAST, table, index), rows);
    if (*rows > 0) db_del(txn, rows_table(r, TABLE_INDEX), key_span(&state));
}

// The first state in the database, behind *table and *index, whose index the schema does not have any more.
static bool find_dropped(struct rows *r, struct db_txn *txn, uint32_t *table, uint32_t *index)
{
    struct key first = key_index_states();
    struct db_iter it;
    bool found = false;
    db_iter_init(&it, txn, rows_table(r, TABLE_INDEX));
    bool more = db_iter_seek(&it, key_span(&first));
    for (; more && !found && key_index_state_parse(it.key, table, index); more = db_iter_next(&it)) {
        const struct table *t = schema_table_no(r->schema, *table);
        found = true;
        for (size_t i = 0; t && found && i < t->index_count; i++)
            found = t->indexes[i].no != *index;
    }
    db_iter_end(&it);
    return found;
}

// ---- steps ---------------------------------------------------------------------------------------------------------

int index_publish(struct rows *r, struct db_txn *txn, uint64_t seq)
{
    int err = index_load(r, txn);
    for (size_t i = 0; i < r->index_tables && !err; i++) {
        const struct table *t = &r->schema->tables[i];
        for (size_t k = 0; k < t->index_count && !err; k++) {
            const struct index_state *s = &r->indexes[i][k];
            size_t rows = t->indexes[k].unique ? SIZE_MAX : 1; // a table without rows needs no more
            if (!s->complete && !s->begun) err = fill_some(r, txn, t, k, &rows, seq);
        }
    }
    return err;
}

int index_step(struct rows *r, struct db_txn *txn, size_t rows, bool *more)
{
    uint32_t table, index;
    int err = 0;
    *more = r->index_work;
    if (!r->index_work) return 0;
    for (size_t i = 0; i < r->index_tables && !err && rows > 0; i++) {
        const struct table *t = &r->schema->tables[i];
        for (size_t k = 0; k < t->index_count && !err && rows > 0; k++)
            if (!r->indexes[i][k].complete) err = fill_some(r, txn, t, k, &rows, r->seq);
    }
    while (!err && rows > 0 && find_dropped(r, txn, &table, &index))
        empty_some(r, txn, table, index, &rows);
    if (!err) err = db_txn_err(txn);
    r->index_work = *more = !err && rows == 0;
    return err;
}
