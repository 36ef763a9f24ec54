#include "blob_names.h"

#include <stdlib.h>

#include "err.h"

static bool is_blob(const struct table *t, size_t i)
{
    return t->columns[i].type.kind == COL_BLOB;
}

static bool names_one(const struct row *row, size_t i)
{
    return row_live(row) && !row->cells[i].v.null;
}

// The very same write.
static bool same(const struct row *a, const struct row *b, size_t i)
{
    return names_one(a, i) && names_one(b, i) && a->cells[i].seq == b->cells[i].seq;
}

static struct key name_of(const struct table *t, size_t i, struct uuid id, const struct cell *cell)
{
    return key_blob_name(&cell->v.h, t->no, (uint16_t)i, id, cell->seq);
}

void blob_names_begin(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *old, const struct row *new)
{
    for (size_t i = 0; i < t->column_count; i++) {
        if (!is_blob(t, i) || !names_one(new, i) || same(old, new, i)) continue;
        struct key k = name_of(t, i, id, &new->cells[i]);
        db_put(txn, rows_table(r, TABLE_ROWS), key_span(&k), SPAN_LIT("\1"));
    }
}

int blob_names_ended(const struct table *t, struct uuid id, const struct row *was, const struct row *is, bool last,
                     int (*call)(void *ctx, const struct sha256 *digest, const struct key *name), void *ctx)
{
    int err = 0;
    for (size_t i = 0; i < t->column_count && !err; i++) {
        if (!is_blob(t, i) || !names_one(was, i) || same(was, is, i) || (is->deleted && !last)) continue;
        struct key k = name_of(t, i, id, &was->cells[i]);
        err = call(ctx, &was->cells[i].v.h, &k);
    }
    return err;
}

// ---- what is released ----------------------------------------------------------------------------------------------

int blob_names_add(struct blob_names *names, const struct sha256 *digest, const struct key *key)
{
    if (names->n == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 64;
        struct blob_name *list = realloc(names->list, cap * sizeof *list);
        if (!list) return ERR_NOMEM;
        names->list = list;
        names->cap = cap;
    }
    names->list[names->n++] = (struct blob_name){.key = *key, .digest = *digest};
    return 0;
}

void blob_names_free(struct blob_names *names)
{
    free(names->list);
    *names = (struct blob_names){.list = NULL};
}

// A digest's names stand together, as its keys do.
static int by_key(const void *a, const void *b)
{
    const struct blob_name *x = a, *y = b;
    return span_compare(key_span(&x->key), key_span(&y->key));
}

// Is there a name of this digest that is not among those that go?
static bool named_elsewhere(const struct blob_names *names, struct rows *r, struct db_txn *txn, const struct sha256 *digest)
{
    struct key prefix = key_blob_names(digest);
    struct db_iter it;
    bool found = false;
    db_iter_init(&it, txn, rows_table(r, TABLE_ROWS));
    bool more = db_iter_seek(&it, key_span(&prefix));
    for (; more && !found && it.key.n > prefix.n && memcmp(it.key.p, prefix.b, prefix.n) == 0; more = db_iter_next(&it)) {
        struct blob_name one = {.key = {.n = it.key.n}};
        if (it.key.n > sizeof one.key.b) break;
        memcpy(one.key.b, it.key.p, it.key.n);
        found = !bsearch(&one, names->list, names->n, sizeof one, by_key);
    }
    db_iter_end(&it);
    return found;
}

int blob_names_released(struct blob_names *names, struct rows *r, struct db_txn *txn, int (*call)(void *ctx, const struct sha256 *digest, struct problem *p),
                        void *ctx, struct problem *p)
{
    int err = 0;
    if (names->n > 1) qsort(names->list, names->n, sizeof *names->list, by_key);
    for (size_t i = 0; i < names->n && !err; i++) {
        if (i > 0 && sha256_equal(&names->list[i].digest, &names->list[i - 1].digest)) continue;
        if (!named_elsewhere(names, r, txn, &names->list[i].digest)) err = call(ctx, &names->list[i].digest, p);
    }
    return err ? err : db_txn_err(txn);
}
