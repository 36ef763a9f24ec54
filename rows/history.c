// Reading rows as of a commit, and what commits touched.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "store.h"

bool record_current(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id, struct span *record)
{
    struct key k = key_row(table, id);
    return db_get(txn, rows_table(r, TABLE_ROWS), key_span(&k), record);
}

// The last superseded version that is not younger than `at`.
static bool record_superseded(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id, uint64_t at, struct span *record)
{
    struct key past = key_history(table, id, at == UINT64_MAX ? at : at + 1);
    struct db_iter it;
    uint64_t seq;
    db_iter_init(&it, txn, rows_table(r, TABLE_HISTORY));
    bool found = db_iter_seek_before(&it, key_span(&past)) && key_history_parse(it.key, table, id, &seq);
    if (found) *record = it.value;
    db_iter_end(&it);
    return found;
}

bool record_at(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id, uint64_t at, struct span *record)
{
    struct span current;
    bool deleted;
    uint64_t seq;
    if (!record_current(r, txn, table, id, &current)) return false;
    if (record_head(current, &deleted, &seq) || seq <= at) {
        *record = current; // a damaged one is given to the caller, whose decoding says so
        return true;
    }
    return record_superseded(r, txn, table, id, at, record);
}

static int decode(struct row_space *out, const struct table *t, bool found, struct span record, const struct db_txn *txn)
{
    out->row = (struct row){.cells = out->cells};
    if (found) return record_decode(out, t, record);
    return db_txn_err(txn);
}

int row_current(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, struct row_space *out)
{
    struct span record = SPAN_NONE;
    bool found = record_current(r, txn, t->no, id, &record);
    return decode(out, t, found, record, txn);
}

int row_at(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, uint64_t at, struct row_space *out)
{
    struct span record = SPAN_NONE;
    bool found = record_at(r, txn, t->no, id, at, &record);
    return decode(out, t, found, record, txn);
}

bool row_stands(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id)
{
    struct span record;
    bool deleted;
    uint64_t seq;
    return record_current(r, txn, table, id, &record) && record_head(record, &deleted, &seq) == 0 && !deleted;
}

bool commit_head_of(struct rows *r, struct db_txn *txn, uint64_t seq, struct commit_head *head)
{
    struct key k = key_commit(seq);
    struct span record;
    struct cur c;
    return db_get(txn, rows_table(r, TABLE_COMMITS), key_span(&k), &record) && commit_record_read(&c, record, head) == 0;
}

// ---- id sets -------------------------------------------------------------------------------------------------------

int id_set_add(struct id_set *set, struct uuid id)
{
    if (set->n == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 16;
        struct uuid *ids = realloc(set->ids, cap * sizeof *ids);
        if (!ids) return ERR_NOMEM;
        set->ids = ids;
        set->cap = cap;
    }
    set->ids[set->n++] = id;
    set->sorted = false;
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    return uuid_compare(*(const struct uuid *)a, *(const struct uuid *)b);
}

void id_set_sort(struct id_set *set)
{
    size_t n = 0;
    if (set->n > 1) qsort(set->ids, set->n, sizeof *set->ids, compare_ids);
    for (size_t i = 0; i < set->n; i++)
        if (n == 0 || !uuid_equal(set->ids[n - 1], set->ids[i])) set->ids[n++] = set->ids[i];
    set->n = n;
    set->sorted = true;
}

bool id_set_has(const struct id_set *set, struct uuid id)
{
    assert(set->sorted || set->n == 0);
    return set->n > 0 && bsearch(&id, set->ids, set->n, sizeof *set->ids, compare_ids) != NULL;
}

void id_set_free(struct id_set *set)
{
    free(set->ids);
    *set = (struct id_set){.ids = NULL};
}

// ---- touched -------------------------------------------------------------------------------------------------------

static int add_touched(struct id_set *out, uint32_t table, struct span record)
{
    struct commit_head head;
    struct cur c;
    int err = commit_record_read(&c, record, &head);
    struct commit_rows row = {.table = 0};
    for (uint64_t i = 0; !err && i < head.touched; i++) {
        commit_record_next(&c, &row);
        err = c.err;
        if (!err && row.table == table) err = id_set_add(out, row.id);
    }
    return err ? err : cur_end(&c);
}

int touched_rows(struct rows *r, struct db_txn *txn, uint32_t table, uint64_t from, uint64_t to, size_t rows_max, size_t commits_max,
                 struct id_set *out, uint64_t *reached)
{
    struct key first = key_commit(from + 1);
    struct db_iter it;
    size_t commits = 0;
    uint64_t done = from;
    int err = 0;
    assert(from < to);
    db_iter_init(&it, txn, rows_table(r, TABLE_COMMITS));
    bool more = db_iter_seek(&it, key_span(&first));
    while (!err && more && key_commit_parse(it.key) <= to && out->n < rows_max && commits < commits_max) {
        err = add_touched(out, table, it.value);
        done = key_commit_parse(it.key);
        commits++;
        more = db_iter_next(&it);
    }
    // Seqs without a record touched no row, so the range ends just before the next one that did.
    if (!more || key_commit_parse(it.key) > to) done = to;
    db_iter_end(&it);
    if (!err) err = db_txn_err(txn);
    if (!err) *reached = done;
    return err;
}
