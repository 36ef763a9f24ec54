// Reading rows as of a commit, and what commits touched.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "past.h"
#include "store.h"

bool record_current(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id, struct span *record)
{
    struct key k = key_row(table, id);
    return db_get(txn, rows_table(r, TABLE_ROWS), key_span(&k), record);
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

// ---- superseded versions -------------------------------------------------------------------------------------------

// A version on the way from the one that is wanted up to one that is whole.
struct step {
    uint64_t seq;
    struct span body;
};

struct climb {
    struct arena *room; // of what is unpacked
    struct step *steps;
    size_t n, cap;
};

static int climb_add(struct climb *k, uint64_t seq, struct span body)
{
    if (k->n == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 32;
        struct step *steps = realloc(k->steps, cap * sizeof *steps);
        if (!steps) return ERR_NOMEM;
        k->steps = steps;
        k->cap = cap;
    }
    k->steps[k->n++] = (struct step){.seq = seq, .body = body};
    return 0;
}

// What is unpacked for a row lives until the same room is used again: some rows later.
static struct arena *next_room(struct rows *r)
{
    struct arena **room = &r->past_rooms[r->past_room++ % PAST_ROOMS];
    if (!*room) *room = arena_new(PAST_ROOM_MAX);
    if (*room) arena_clear(*room);
    return *room;
}

// From where the iterator stands up to the first version that is whole; past all of history that is the current record.
static int climb_up(struct climb *k, struct db_iter *it, uint32_t table, struct uuid id, struct span current, struct span *record)
{
    bool whole = false, more = true;
    uint64_t seq;
    while (more && key_history_parse(it->key, table, id, &seq)) {
        struct span body;
        int err = past_open(it->value, k->room, &body, &whole);
        if (!err && !whole) err = climb_add(k, seq, body);
        *record = body;
        if (err || whole) return err;
        more = db_iter_next(it);
    }
    *record = current;
    return 0;
}

static int climb_down(struct climb *k, const struct table *t, struct span record, struct row_space *out)
{
    int err = record_decode(out, t, record);
    while (!err && k->n > 0) {
        const struct step *s = &k->steps[--k->n];
        err = past_apply(out, t, s->seq, s->body);
    }
    return err;
}

// The last superseded version that is not younger than `at`.
static int row_superseded(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, uint64_t at, struct span current,
                          struct row_space *out)
{
    struct key past = key_history(t->no, id, at == UINT64_MAX ? at : at + 1);
    struct climb k = {.room = next_room(r)};
    struct span record = SPAN_NONE;
    struct db_iter it;
    uint64_t seq;
    int err = 0;
    out->row = (struct row){.cells = out->cells};
    if (!k.room) return ERR_NOMEM;
    db_iter_init(&it, txn, rows_table(r, TABLE_HISTORY));
    bool found = db_iter_seek_before(&it, key_span(&past)) && key_history_parse(it.key, t->no, id, &seq);
    if (found) err = climb_up(&k, &it, t->no, id, current, &record);
    db_iter_end(&it);
    if (found && !err) err = climb_down(&k, t, record, out);
    out->unpacked = arena_used(k.room) > 0;
    free(k.steps);
    return err ? err : db_txn_err(txn);
}

int row_at(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, uint64_t at, struct row_space *out)
{
    struct span current = SPAN_NONE;
    bool deleted;
    uint64_t seq;
    bool found = record_current(r, txn, t->no, id, &current);
    // A damaged one is decoded, too: that says so.
    if (!found || record_head(current, &deleted, &seq) || seq <= at) return decode(out, t, found, current, txn);
    return row_superseded(r, txn, t, id, at, current, out);
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

struct touching {
    int (*fn)(void *ctx, uint64_t seq, const struct commit_rows *row);
    void *ctx;
    uint64_t seq;
};

static int give_touched(void *ctx, const struct commit_rows *row)
{
    const struct touching *t = ctx;
    return t->fn(t->ctx, t->seq, row);
}

int touched_each(struct rows *r, struct db_txn *txn, uint64_t from, uint64_t to, const size_t *seen, size_t rows_max, size_t commits_max,
                 int (*fn)(void *ctx, uint64_t seq, const struct commit_rows *row), void *ctx, uint64_t *reached)
{
    struct touching touching = {.fn = fn, .ctx = ctx};
    struct key first = key_commit(from + 1);
    struct commit_head head;
    struct db_iter it;
    size_t commits = 0;
    uint64_t done = from;
    int err = 0;
    assert(from < to);
    if (from < r->horizon.seq) return ERR_TOO_OLD;
    db_iter_init(&it, txn, rows_table(r, TABLE_COMMITS));
    bool more = db_iter_seek(&it, key_span(&first));
    while (!err && more && key_commit_parse(it.key) <= to && *seen < rows_max && commits < commits_max) {
        touching.seq = key_commit_parse(it.key);
        err = commit_record_each(it.value, &head, give_touched, &touching);
        done = touching.seq;
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

struct touched {
    uint32_t table;
    struct id_set *out;
};

static int add_touched(void *ctx, uint64_t seq, const struct commit_rows *row)
{
    struct touched *t = ctx;
    (void)seq;
    return row->table == t->table ? id_set_add(t->out, row->id) : 0;
}

int touched_rows(struct rows *r, struct db_txn *txn, uint32_t table, uint64_t from, uint64_t to, size_t rows_max, size_t commits_max,
                 struct id_set *out, uint64_t *reached)
{
    struct touched touched = {.table = table, .out = out};
    return touched_each(r, txn, from, to, &out->n, rows_max, commits_max, add_touched, &touched, reached);
}
