// What must hold of the rows when a batch ends: checks, keys that fit, uniqueness; and of a schema that comes, of all rows that are there.
#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "expr.h"
#include "index.h"
#include "row_batch.h"

static int check_row(struct rows_batch *b, const struct table *t, const struct check *c, struct uuid id, const struct row *row,
                     struct problem *p)
{
    enum expr_truth truth;
    char text[UUID_TEXT];
    int err = expr_check(c->expr, id, row, b->r->scratch, &truth, p);
    arena_clear(b->r->scratch);
    if (err || truth != EXPR_FALSE) return err;
    uuid_format(id, text);
    return problem_set(p, ERR_CHECK_FAILED, -1, "%.*s: %.*s does not hold for %.*s", SPAN_FMT(t->name), SPAN_FMT(c->name), UUID_TEXT, text);
}

static int not_unique(const struct index *ix, const struct table *t, struct uuid other, struct problem *p)
{
    char text[UUID_TEXT];
    uuid_format(other, text);
    return problem_set(p, ERR_NOT_UNIQUE, -1, "%.*s: %.*s %.*s has these values", SPAN_FMT(ix->name), SPAN_FMT(t->name), UUID_TEXT, text);
}

// Nulls are never equal: a row with one is like no other.
static bool has_null(const struct index *ix, const struct row *row)
{
    for (size_t i = 0; i < ix->column_count; i++)
        if (ix->columns[i].column != COLUMN_ID && row->cells[ix->columns[i].column].v.null) return true;
    return false;
}

// ---- rows that changed ---------------------------------------------------------------------------------------------

// A unique index's key of a row, by its checksum: two that are equal are the same but by chance that does not occur.
struct unique_key {
    struct checksum128 sum;
    struct uuid id;
};

struct unique_keys {
    struct unique_key *keys;
    size_t n, cap;
};

static int unique_add(struct unique_keys *u, struct span key, struct uuid id)
{
    if (u->n == u->cap) {
        size_t cap = u->cap ? u->cap * 2 : 64;
        struct unique_key *keys = realloc(u->keys, cap * sizeof *keys);
        if (!keys) return ERR_NOMEM;
        u->keys = keys;
        u->cap = cap;
    }
    u->keys[u->n++] = (struct unique_key){.sum = checksum128(key, 0), .id = id};
    return 0;
}

static int by_sum(const void *a, const void *b)
{
    const struct unique_key *x = a, *y = b;
    int order = memcmp(&x->sum, &y->sum, sizeof x->sum);
    return order ? order : uuid_compare(x->id, y->id);
}

static int unique_end(struct unique_keys *u, const struct index *ix, const struct table *t, struct problem *p)
{
    if (u->n > 1) qsort(u->keys, u->n, sizeof *u->keys, by_sum);
    for (size_t i = 1; i < u->n; i++)
        if (memcmp(&u->keys[i].sum, &u->keys[i - 1].sum, sizeof u->keys[i].sum) == 0) return not_unique(ix, t, u->keys[i - 1].id, p);
    return 0;
}

// Is there a row in the state with this key that the batch leaves as it is? Those that it changes are compared among themselves.
static int check_stored(struct rows_batch *b, const struct table *t, const struct index *ix, struct span key, struct problem *p)
{
    struct index_iter it;
    struct uuid other = {{0}};
    struct span found;
    bool taken = false;
    index_open(&it, b->r, b->txn, t, ix, key, SPAN_NONE, false, UINT64_MAX);
    while (!taken && index_next(&it, &other, &found) && span_equal(found, key)) {
        const struct entry *e = batch_find(b, t->no, other);
        taken = !e || !e->changed;
    }
    int err = index_end(&it);
    return !err && taken ? not_unique(ix, t, other, p) : err;
}

static int check_unique(struct rows_batch *b, const struct table *t, const struct index *ix, struct problem *p)
{
    uint8_t room[INDEX_KEY_MAX];
    struct unique_keys u = {.keys = NULL};
    int err = 0;
    for (size_t i = 0; i < b->count && !err; i++) {
        const struct entry *e = b->entries[i];
        struct buf key = {.p = room, .cap = sizeof room, .max = sizeof room};
        if (e->table != t->no || !e->changed || !row_live(&e->row) || has_null(ix, &e->row)) continue;
        err = index_key(b->r, &key, t, ix, e->id, &e->row, p);
        if (!err && key.n > 0) err = unique_add(&u, buf_span(&key), e->id);
        if (!err && key.n > 0) err = check_stored(b, t, ix, buf_span(&key), p);
    }
    if (!err) err = unique_end(&u, ix, t, p);
    free(u.keys);
    return err;
}

static int check_entry(struct rows_batch *b, const struct entry *e, struct problem *p)
{
    const struct table *t = schema_table_no(b->schema, e->table);
    int err = 0;
    assert(e->row.count == t->column_count);
    for (size_t i = 0; i < t->check_count && !err; i++)
        err = check_row(b, t, &t->checks[i], e->id, &e->row, p);
    return err ? err : index_takes(b->r, t, e->id, &e->row, p);
}

static bool table_changed(const struct rows_batch *b, uint32_t table)
{
    for (size_t i = 0; i < b->count; i++)
        if (b->entries[i]->table == table && b->entries[i]->changed) return true;
    return false;
}

static int check_changed(struct rows_batch *b, struct problem *p)
{
    int err = 0;
    for (size_t i = 0; i < b->count && !err; i++)
        if (b->entries[i]->changed && row_live(&b->entries[i]->row)) err = check_entry(b, b->entries[i], p);
    for (size_t i = 0; i < b->schema->table_count && !err; i++) {
        const struct table *t = &b->schema->tables[i];
        bool changed = false;
        for (size_t k = 0; k < t->index_count && !err; k++) {
            if (!t->indexes[k].unique) continue;
            if (!changed && !(changed = table_changed(b, t->no))) break;
            err = check_unique(b, t, &t->indexes[k], p);
        }
    }
    return err;
}

// ---- rows that are there, when a schema comes ----------------------------------------------------------------------

struct newcomer {
    struct rows_batch *b;
    const struct table *t;
    const struct check **checks; // that are new
    size_t check_count;
    const struct index **indexes;
    size_t index_count;
    struct unique_keys *keys; // of each of these
    size_t looked_at;
};

static bool had_check(const struct table *before, const struct check *c)
{
    for (size_t i = 0; i < before->check_count; i++)
        if (span_equal(before->checks[i].name, c->name) && expr_same(before->checks[i].expr, c->expr)) return true;
    return false;
}

static bool had_index(const struct table *before, const struct index *ix)
{
    for (size_t i = 0; i < before->index_count; i++)
        if (before->indexes[i].no == ix->no) return before->indexes[i].unique || !ix->unique;
    return false;
}

// Of short values alone no key is too long: nothing about the rows has to be known.
static bool takes_all(const struct table *t, const struct index *ix)
{
    bool all = !ix->unique && !ix->where;
    for (size_t i = 0; i < ix->column_count && all; i++)
        all = ix->columns[i].column == COLUMN_ID || !type_is_span(&t->columns[ix->columns[i].column].type);
    return all;
}

static int newcomer_init(struct newcomer *n, const struct table *before)
{
    const struct table *t = n->t;
    struct arena *a = n->b->arena;
    n->checks = arena_array(a, t->check_count + 1, sizeof(struct check *));
    n->indexes = arena_array(a, t->index_count + 1, sizeof(struct index *));
    n->keys = arena_array(a, t->index_count + 1, sizeof *n->keys);
    if (!n->checks || !n->indexes || !n->keys) return ERR_NOMEM;
    for (size_t i = 0; i < t->check_count; i++)
        if (!had_check(before, &t->checks[i])) n->checks[n->check_count++] = &t->checks[i];
    for (size_t i = 0; i < t->index_count; i++)
        if (!had_index(before, &t->indexes[i]) && !takes_all(t, &t->indexes[i])) n->indexes[n->index_count++] = &t->indexes[i];
    return 0;
}

static int newcomer_row(struct newcomer *n, struct uuid id, const struct row *row, struct problem *p)
{
    uint8_t room[INDEX_KEY_MAX];
    int err = 0;
    for (size_t i = 0; i < n->check_count && !err; i++)
        err = check_row(n->b, n->t, n->checks[i], id, row, p);
    for (size_t i = 0; i < n->index_count && !err; i++) {
        struct buf key = {.p = room, .cap = sizeof room, .max = sizeof room};
        err = index_key(n->b->r, &key, n->t, n->indexes[i], id, row, p);
        if (!err && n->indexes[i]->unique && key.n > 0 && !has_null(n->indexes[i], row)) err = unique_add(&n->keys[i], buf_span(&key), id);
    }
    return err;
}

static int newcomer_stored(struct newcomer *n, struct uuid id, struct span record, struct problem *p)
{
    struct row_space *room = batch_room(n->b);
    const struct entry *e = batch_find(n->b, n->t->no, id);
    if (!room) return ERR_NOMEM;
    if (e && e->changed) return 0; // looked at as the batch leaves it
    int err = record_decode(room, n->t, record);
    if (err || !row_live(&room->row)) return err;
    if (++n->looked_at > QUERY_SCAN_MAX)
        return problem_set(p, ERR_QUERY_TOO_EXPENSIVE, -1, "%.*s has more than %d rows to be checked", SPAN_FMT(n->t->name), QUERY_SCAN_MAX);
    return newcomer_row(n, id, &room->row, p);
}

static int newcomer_rows(struct newcomer *n, struct problem *p)
{
    struct key from = key_row_table(n->t->no);
    struct db_iter it;
    struct uuid id;
    int err = 0;
    db_iter_init(&it, n->b->txn, rows_table(n->b->r, TABLE_ROWS));
    bool more = db_iter_seek(&it, key_span(&from));
    for (; !err && more && key_row_parse(it.key, n->t->no, &id); more = db_iter_next(&it))
        err = newcomer_stored(n, id, it.value, p);
    db_iter_end(&it);
    for (size_t i = 0; i < n->b->count && !err; i++) {
        const struct entry *e = n->b->entries[i];
        if (e->table == n->t->no && e->changed && row_live(&e->row)) err = newcomer_row(n, e->id, &e->row, p);
    }
    for (size_t i = 0; i < n->index_count && !err; i++)
        err = unique_end(&n->keys[i], n->indexes[i], n->t, p);
    return err;
}

static int check_newcomers(struct rows_batch *b, struct problem *p)
{
    int err = 0;
    for (size_t i = 0; i < b->r->schema->table_count && !err; i++) {
        struct newcomer n = {.b = b, .t = &b->schema->tables[i]};
        err = newcomer_init(&n, &b->r->schema->tables[i]);
        if (!err && n.check_count + n.index_count > 0) err = newcomer_rows(&n, p);
        for (size_t k = 0; k < n.index_count; k++)
            free(n.keys[k].keys);
    }
    return err;
}

int batch_end_constraints(struct rows_batch *b, struct problem *p)
{
    int err = check_changed(b, p);
    return !err && b->publishes ? check_newcomers(b, p) : err;
}
