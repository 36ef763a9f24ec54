#include "validate.h"

#include <assert.h>
#include <stdlib.h>

#include "bug.h"
#include "effects.h"
#include "err.h"
#include "index.h"
#include "row_batch.h"

// A row that may have moved in an index that was read.
struct moved {
    uint32_t table;
    struct uuid id;
    uint64_t seq; // of the first commit that touched it
};

struct validation {
    struct rows *r;
    struct db_txn *txn;
    const struct schema *schema;
    const struct read_set *reads;
    uint64_t base;
    struct rows_conflicts *out;
    uint64_t seq;       // the commit that is looked at
    uint64_t looked_at; // rows of commits
    struct moved *moved;
    size_t n, cap;
    struct row_space *room; // decodes rows
};

// ---- conflicts -----------------------------------------------------------------------------------------------------

static bool has_conflict(const struct rows_conflicts *out, struct span table, struct uuid id)
{
    for (size_t i = 0; i < out->n; i++)
        if (uuid_equal(out->list[i].id, id) && span_equal(out->list[i].table, table)) return true;
    return false;
}

static void add_conflict(struct validation *v, const struct table *t, struct uuid id, uint64_t seq, const struct read_range *range, const struct index *ix)
{
    struct rows_conflicts *out = v->out;
    struct uuid one;
    if (out->n == ROWS_CONFLICTS_MAX || has_conflict(out, t->name, id)) return;
    struct rows_conflict *c = &out->list[out->n++];
    *c = (struct rows_conflict){.table = t->name, .id = id, .seq = seq, .read = ROWS_READ_RANGE};
    if (ix) c->index = ix->name;
    if (range->index == 0 && range->from.n == 0 && range->to.n == 0) c->read = ROWS_READ_TABLE;
    else if (read_range_row(range, &one)) c->read = ROWS_READ_ROW;
}

// ---- what commits touched ------------------------------------------------------------------------------------------

static int keep_moved(struct validation *v, uint32_t table, struct uuid id, uint64_t seq)
{
    if (v->n == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 64;
        struct moved *moved = realloc(v->moved, cap * sizeof *moved);
        if (!moved) return ERR_NOMEM;
        v->moved = moved;
        v->cap = cap;
    }
    v->moved[v->n++] = (struct moved){.table = table, .id = id, .seq = seq};
    return 0;
}

static int look_at_row(void *ctx, const struct commit_rows *row)
{
    struct validation *v = ctx;
    uint32_t table = row->table;
    struct uuid id = row->id;
    size_t n;
    const struct table *t = schema_table_no(v->schema, table);
    const struct read_group *g = read_set_table(v->reads, table, &n);
    if (!t) return ERR_CORRUPT;
    if (n == 0) return 0;
    struct uuid one;
    const struct read_range *hit = g->index == 0 ? read_group_find(g, SPAN(id.b, sizeof id.b)) : NULL;
    if (bug("no_phantom_check") && !(hit && read_range_row(hit, &one))) return 0;
    if (hit) {
        add_conflict(v, t, id, v->seq, hit, NULL);
        return 0;
    }
    return g[n - 1].index != 0 ? keep_moved(v, table, id, v->seq) : 0;
}

static int look_at_commit(struct validation *v, uint64_t seq, struct span record)
{
    struct commit_head head;
    v->seq = seq;
    int err = commit_record_each(record, &head, look_at_row, v);
    if (!err) v->looked_at += head.touched;
    return err;
}

static int compare_moved(const void *va, const void *vb)
{
    const struct moved *a = va, *b = vb;
    if (a->table != b->table) return a->table < b->table ? -1 : 1;
    int c = uuid_compare(a->id, b->id);
    return c ? c : (a->seq > b->seq) - (a->seq < b->seq);
}

// One row counts once, with the first commit that touched it.
static void sort_moved(struct validation *v)
{
    size_t n = 0;
    if (v->n > 1) qsort(v->moved, v->n, sizeof *v->moved, compare_moved);
    for (size_t i = 0; i < v->n; i++)
        if (n == 0 || v->moved[n - 1].table != v->moved[i].table || !uuid_equal(v->moved[n - 1].id, v->moved[i].id)) v->moved[n++] = v->moved[i];
    v->n = n;
}

static int too_many(const struct validation *v, unsigned max, struct problem *p)
{
    return problem_set(p, ERR_TOO_OLD, -1, "more than %u rows that matter were written since base %llu", max, (unsigned long long)v->base);
}

// So many keys are too much work for one batch. Rows count once, so that the answer follows from the state alone.
static int check_moved(struct validation *v, size_t when, struct problem *p)
{
    if (v->n <= when) return 0;
    sort_moved(v);
    return v->n > TRANSACTION_MOVED_MAX ? too_many(v, TRANSACTION_MOVED_MAX, p) : 0;
}

static int look_at_commits(struct validation *v, uint64_t now, struct problem *p)
{
    struct key first = key_commit(v->base + 1);
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, v->txn, rows_table(v->r, TABLE_COMMITS));
    for (bool more = db_iter_seek(&it, key_span(&first)); !err && more && v->out->n < ROWS_CONFLICTS_MAX; more = db_iter_next(&it)) {
        uint64_t seq = key_commit_parse(it.key);
        if (seq == 0 || seq > now) break;
        if (v->looked_at > TRANSACTION_ROWS_MAX)
            err = too_many(v, TRANSACTION_ROWS_MAX, p);
        else
            err = look_at_commit(v, seq, it.value);
        if (!err) err = check_moved(v, 2 * TRANSACTION_MOVED_MAX, p);
    }
    db_iter_end(&it);
    return err ? err : db_txn_err(v->txn);
}

// ---- what moved in indexes -----------------------------------------------------------------------------------------

static const struct index *find_index(const struct table *t, uint32_t no)
{
    for (size_t i = 0; i < t->index_count; i++)
        if (t->indexes[i].no == no) return &t->indexes[i];
    return NULL;
}

// The range that holds the key of this image of the row; NULL: none. ERR_TOO_LARGE where it can have no key.
static int find_image(struct rows *r, const struct table *t, const struct index *ix, const struct read_group *g, struct uuid id, const struct row *row,
                      const struct read_range **hit)
{
    struct buf key;
    *hit = NULL;
    if (!row_live(row)) return 0;
    buf_init(&key, INDEX_KEY_MAX + sizeof id.b);
    int err = index_key(r, &key, t, ix, id, row, NULL);
    bool in = key.n > 0; // else the index is about other rows
    buf_put(&key, id.b, sizeof id.b);
    if (!err) err = key.err;
    if (!err && in) *hit = read_group_find(g, buf_span(&key));
    buf_free(&key);
    return err;
}

// An index that is gone, or one that cannot hold the row: whatever the row did may have been in what was read.
static int look_at_index(struct validation *v, const struct table *t, const struct moved *m, const struct read_group *g)
{
    const struct index *ix = find_index(t, g->index);
    const struct read_range *was = NULL, *is = NULL;
    int err = ix ? row_at(v->r, v->txn, t, m->id, v->base, v->room) : ERR_TOO_LARGE;
    if (!err) err = find_image(v->r, t, ix, g, m->id, &v->room->row, &was);
    if (!err && !was) err = row_current(v->r, v->txn, t, m->id, v->room);
    if (!err && !was) err = find_image(v->r, t, ix, g, m->id, &v->room->row, &is);
    if (err == ERR_TOO_LARGE || err == ERR_BAD_VALUE) {
        err = 0;
        is = &g->ranges[0];
    }
    if (was || is) add_conflict(v, t, m->id, m->seq, was ? was : is, ix);
    return err;
}

static int look_at_moved(struct validation *v, struct problem *p)
{
    if (v->n == 0) return 0;
    int err = check_moved(v, 0, p);
    if (err) return err;
    v->room = malloc(sizeof *v->room);
    if (!v->room) return ERR_NOMEM;
    for (size_t i = 0; i < v->n && !err && v->out->n < ROWS_CONFLICTS_MAX; i++) {
        const struct moved *m = &v->moved[i];
        const struct table *t = schema_table_no(v->schema, m->table);
        size_t n;
        const struct read_group *g = read_set_table(v->reads, m->table, &n);
        for (size_t k = 0; k < n && !err; k++)
            if (g[k].index != 0) err = look_at_index(v, t, m, &g[k]);
    }
    return err ? err : db_txn_err(v->txn);
}

// ---- the answer ----------------------------------------------------------------------------------------------------

static int refuse(const struct rows_conflicts *out, struct problem *p)
{
    static const char *const how[] = {[ROWS_READ_ROW] = "was read", [ROWS_READ_RANGE] = "was in a range that was read, or is now",
                                      [ROWS_READ_TABLE] = "is of a table that was read whole"};
    const struct rows_conflict *c = &out->list[0];
    char text[UUID_TEXT];
    uuid_format(c->id, text);
    return problem_set(p, ERR_CONFLICT, -1, "row %.*s of %.*s %s, and commit %llu changed it", UUID_TEXT, text, SPAN_FMT(c->table), how[c->read],
                       (unsigned long long)c->seq);
}

int reads_validate(struct rows *r, struct db_txn *txn, const struct schema *seen, const struct read_set *reads, uint64_t base, uint64_t now,
                   struct rows_conflicts *out, struct problem *p)
{
    struct validation v = {.r = r, .txn = txn, .schema = seen, .reads = reads, .base = base, .out = out};
    assert(r && txn && seen && reads && out && base <= now);
    int old = rows_not_too_old(r, base, p);
    if (old) return old;
    *out = (struct rows_conflicts){.n = 0};
    int err = look_at_commits(&v, now, p);
    if (bug("no_read_set")) out->n = v.n = 0;
    if (!err && out->n == 0) err = look_at_moved(&v, p);
    free(v.moved);
    free(v.room);
    if (err || out->n == 0) return err;
    return refuse(out, p);
}

int rows_decide_reads(struct rows_batch *b, uint64_t base, const struct read_set *reads, struct rows_conflicts *out, struct problem *p)
{
    assert(b && reads && b->count == 0); // what the batch itself has done is nobody's conflict
    size_t n;
    read_set_groups(reads, &n);
    if (base < b->c.seq && n == 0) return 0; // what has read nothing is never too late
    if (base >= b->c.seq) return problem_set(p, ERR_BASE_AHEAD, -1, "base %llu has not been given out", (unsigned long long)base);
    return reads_validate(b->r, b->txn, b->schema, reads, base, b->c.seq - 1, out, p);
}

void rows_decide_base(struct rows_batch *b, uint64_t base)
{
    assert(b && b->count == 0 && base < b->c.seq);
    b->c.base = base;
}

// ---- what a batch would change -------------------------------------------------------------------------------------

static int row_meets(struct rows *r, struct db_txn *txn, const struct effect_row *e, const struct read_set *reads, struct row_space *room, bool *meets)
{
    const struct table *t = schema_table_no(r->schema, e->table);
    const struct read_range *hit = NULL;
    size_t n;
    const struct read_group *g = read_set_table(reads, e->table, &n);
    int err = 0;
    *meets = n > 0 && g->index == 0 && read_group_find(g, SPAN(e->id.b, sizeof e->id.b));
    for (size_t i = 0; t && i < n && !*meets && !err; i++) {
        const struct index *ix = find_index(t, g[i].index);
        if (!ix) continue;
        err = row_current(r, txn, t, e->id, room);
        if (!err) err = find_image(r, t, ix, &g[i], e->id, &room->row, &hit);
        if (!err && !hit && e->record.n > 0) err = record_decode(room, t, e->record);
        if (!err && !hit && e->record.n > 0) err = find_image(r, t, ix, &g[i], e->id, &room->row, &hit);
        *meets = hit;
    }
    return err == ERR_TOO_LARGE ? 0 : err;
}

int rows_effects_meet(struct rows *r, struct db_txn *txn, struct span bytes, const struct read_set *reads, bool *meet)
{
    struct effects e;
    struct effect_row row;
    int err = 0;
    *meet = false;
    effects_open(&e, bytes);
    if (e.c.err || e.schema.n > 0) return e.c.err; // publishing a schema changes no row
    struct row_space *room = malloc(sizeof *room);
    if (!room) return ERR_NOMEM;
    while (!err && !*meet && effects_next_row(&e, &row))
        err = row_meets(r, txn, &row, reads, room, meet);
    while (!err && !*meet && effects_next_touch(&e, &row))
        err = row_meets(r, txn, &row, reads, room, meet);
    free(room);
    return err;
}
