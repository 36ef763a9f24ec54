// Deciding row operations: what they make of the state, or why not. Pure but for the host's calls.
#include <assert.h>

#include "row_batch.h"
#include "bug.h"
#include "err.h"
#include "merge.h"

static int no_such_table(struct span name, struct problem *p)
{
    return problem_set(p, ERR_NO_SUCH_TABLE, -1, "there is no table %.*s", SPAN_FMT(name));
}

static int no_such_row(const struct table *t, struct uuid id, struct problem *p)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    return problem_set(p, ERR_NO_SUCH_ROW, -1, "%.*s has no row %.*s", SPAN_FMT(t->name), UUID_TEXT, text);
}

static int row_is_there(const struct table *t, const struct entry *e, struct problem *p)
{
    char text[UUID_TEXT];
    uuid_format(e->id, text);
    return problem_set(p, ERR_ROW_EXISTS, -1, e->row.deleted ? "%.*s had a row %.*s, which was deleted" : "%.*s has a row %.*s",
                       SPAN_FMT(t->name), UUID_TEXT, text);
}

// ---- ids -----------------------------------------------------------------------------------------------------------

// As random as the batch's seed, and the same in every replay.
static struct uuid make_id(struct rows_batch *b)
{
    uint8_t in[sizeof b->c.seed + 8];
    memcpy(in, b->c.seed, sizeof b->c.seed);
    uint64_t index = b->ids_made++;
    for (int i = 0; i < 8; i++)
        in[sizeof b->c.seed + (size_t)i] = (uint8_t)(index >> i * 8);
    struct sha256 h = sha256_of(SPAN(in, sizeof in));
    return uuid_v7(b->c.arrival_ms, h.b);
}

// `id` may stand among the columns too; it must then agree.
static int find_id(struct rows_batch *b, const struct row_op *op, struct uuid *id, struct problem *p)
{
    bool has = op->has_id;
    struct uuid found = op->id;
    for (size_t i = 0; i < op->column_count; i++) {
        struct uuid named;
        const struct row_column *c = &op->columns[i];
        if (!span_is(c->name, "id")) continue;
        if (c->value.kind != ROW_TEXT) return problem_set(p, ERR_WRONG_TYPE, -1, "id is of type uuid, this value is not");
        if (uuid_parse(&named, c->value.s)) return problem_set(p, ERR_BAD_VALUE, -1, "id: not a UUID");
        if (has && !uuid_equal(named, found)) return problem_set(p, ERR_BAD_VALUE, -1, "the operation names two ids");
        found = named;
        has = true;
    }
    if (!has && op->kind != ROW_INSERT) return problem_set(p, ERR_BAD_VALUE, -1, "the operation names no id");
    *id = has ? found : make_id(b);
    return 0;
}

// ---- cells ---------------------------------------------------------------------------------------------------------

static int check_cell(struct rows_batch *b, const struct column *c, const struct value *v, struct problem *p)
{
    if (v->null && c->not_null) return problem_set(p, ERR_NOT_NULL, -1, "%.*s must not be null", SPAN_FMT(c->name));
    if (c->type.kind == COL_BLOB && !v->null) return b->host->blob_known(b->host->ctx, &v->h, p);
    return 0;
}

// With `checked`, what it is must be allowed; else something is still to be written to it.
static int default_value(struct rows_batch *b, const struct column *c, bool checked, struct value *out, struct problem *p)
{
    *out = VALUE_NULL;
    switch (c->has_default) {
    case DEFAULT_NONE:
        if (c->merge == MERGE_COUNTER) *out = (struct value){.i = 0};
        break;
    case DEFAULT_NOW: *out = (struct value){.i = (int64_t)b->c.arrival_ms * 1000}; break;
    case DEFAULT_UUID: *out = (struct value){.u = make_id(b)}; break;
    case DEFAULT_CONST:
        if (!value_copy(out, &c->type, &c->def, b->arena)) return batch_no_room(b, p);
    }
    if (c->type.kind == COL_STREAM) out->null = false;
    return checked ? check_cell(b, c, out, p) : 0;
}

// The commit behind a cell. ERR_TOO_OLD: it is below the horizon.
static int commit_of(struct rows_batch *b, uint64_t seq)
{
    if (b->last_seq == seq) return 0;
    b->last_seq = 0;
    for (size_t i = 0; i < b->pending_count; i++) {
        if (b->pending[i].seq != seq) continue;
        b->last_head = (struct commit_head){.stamp = b->pending[i].stamp, .writer = b->pending[i].writer};
        b->last_seq = seq;
        return 0;
    }
    if (!commit_head_of(b->r, b->txn, seq, &b->last_head)) {
        if (db_txn_err(b->txn)) return db_txn_err(b->txn);
        return seq <= b->r->horizon.seq ? ERR_TOO_OLD : ERR_CORRUPT;
    }
    b->last_seq = seq;
    return 0;
}

// Which of two commits' writes to a cell shows: the later stamp; of equal ones that of the greater writer; of one writer's the later
// commit, which is the one being decided. The same answer in whatever order the two arrive. A transaction has seen what it writes
// over, so its stamp is made the later one.
static int write_wins(void *ctx, uint64_t seq, bool *wins)
{
    struct rows_batch *b = ctx;
    *wins = true;
    if (seq == 0 || seq == b->c.seq || bug("lww_by_arrival")) return 0;
    int err = commit_of(b, seq);
    if (err == ERR_TOO_OLD && (b->c.transaction || b->c.stamp > b->r->horizon.stamp)) {
        if (b->c.stamp <= b->r->horizon.stamp) b->c.stamp = b->r->horizon.stamp + 1;
        return 0; // whichever of those that are gone it was
    }
    if (err) return err;
    uint64_t stamp = b->last_head.stamp;
    if (b->c.transaction) {
        if (stamp >= b->c.stamp) b->c.stamp = stamp + 1;
    } else if (b->c.stamp != stamp) {
        *wins = b->c.stamp > stamp;
    } else {
        *wins = uuid_compare(b->c.writer, b->last_head.writer) >= 0;
    }
    return 0;
}

// A writer has seen what was there at its base, and what it wrote itself.
static int write_seen(void *ctx, uint64_t seq, bool *seen)
{
    static const struct uuid nobody;
    struct rows_batch *b = ctx;
    *seen = seq <= b->c.base || seq == b->c.seq;
    if (*seen || uuid_equal(b->c.writer, nobody)) return 0;
    int err = commit_of(b, seq);
    if (!err) *seen = uuid_equal(b->c.writer, b->last_head.writer);
    return err;
}

// One named column; a stream column may only be said to be null, which says nothing. With no `e`, only checks.
static int write_column(struct rows_batch *b, const struct column *c, const struct row_column *in, struct entry *e, struct cell *cell,
                        struct problem *p)
{
    struct merge_ctx m = {
        .seq = b->c.seq, .made = e && e->made, .arena = b->arena, .p = p, .ctx = b, .wins = write_wins, .seen = write_seen};
    struct write w;
    int err = merge_read(&w, c, &in->value, b->arena, p);
    if (err) return err == ERR_NOMEM ? batch_no_room(b, p) : err;
    if (c->type.kind == COL_STREAM) return 0;
    if (!w.change) err = check_cell(b, c, &w.v, p);
    if (err || !e) return err;
    int merged = merge_cell(c, cell, &w, &m);
    if (merged > 0) e->changed = true;
    if (merged == ERR_NOMEM) return batch_no_room(b, p);
    return merged < 0 ? merged : 0;
}

// The place of a named column, each named once; COLUMN_ID is to be passed over.
static int find_column(const struct table *t, const struct row_column *in, bool *given, int *at, struct problem *p)
{
    *at = table_column(t, in->name);
    if (*at == COLUMN_ID) return 0;
    if (*at == COLUMN_NONE)
        return problem_set(p, ERR_NO_SUCH_COLUMN, -1, "%.*s has no column %.*s", SPAN_FMT(t->name), SPAN_FMT(in->name));
    if (given[*at]) return problem_set(p, ERR_BAD_VALUE, -1, "%.*s is named twice", SPAN_FMT(in->name));
    given[*at] = true;
    return 0;
}

// Writes the columns that the operation names. With no `e`, only checks them.
static int write_columns(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    bool given[COLUMNS_MAX] = {false};
    int err = 0, at = 0;
    for (size_t i = 0; i < op->column_count && !err; i++) {
        err = find_column(t, &op->columns[i], given, &at, p);
        if (!err && at != COLUMN_ID) err = write_column(b, &t->columns[at], &op->columns[i], e, e ? &e->row.cells[at] : NULL, p);
    }
    return err;
}

static int check_size(struct rows_batch *b, const struct table *t, struct entry *e, struct problem *p)
{
    if (e->changed) {
        e->row.seq = b->c.seq;
        e->row.version = b->schema->version;
    }
    buf_clear(&b->scratch);
    record_encode(&b->scratch, t, &e->row);
    if (b->scratch.err != ERR_TOO_LARGE) return b->scratch.err;
    return problem_set(p, ERR_TOO_LARGE, -1, "a row of %.*s takes at most %u bytes", SPAN_FMT(t->name), ROW_BYTES_MAX);
}

static int each_stream(struct rows_batch *b, const struct table *t, struct uuid id, int (*call)(void *, struct span, struct problem *),
                       struct problem *p)
{
    struct buf path;
    int err = 0;
    buf_init(&path, STREAM_PATH_MAX);
    for (size_t i = 0; i < t->column_count && !err; i++) {
        if (t->columns[i].type.kind != COL_STREAM) continue;
        buf_clear(&path);
        rows_stream_path(&path, t->name, id, t->columns[i].name);
        err = path.err ? path.err : call(b->host->ctx, buf_span(&path), p);
    }
    buf_free(&path);
    return err;
}

// ---- operations ----------------------------------------------------------------------------------------------------

static bool names(const struct row_op *op, const struct column *c)
{
    for (size_t i = 0; i < op->column_count; i++)
        if (span_equal(op->columns[i].name, c->name)) return true;
    return false;
}

// What a new row's cells are before anything is written to them: their defaults; or nothing, where the operation says what they are
// and a change could not be meant. In an upsert defaults are nobody's: another writer's upsert of the row may have said them.
static int default_cells(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    int err = 0;
    for (size_t i = 0; i < t->column_count && !err; i++) {
        const struct column *c = &t->columns[i];
        struct cell *cell = &e->row.cells[i];
        bool changes = c->merge == MERGE_COUNTER || c->merge == MERGE_SET || c->type.kind == COL_STREAM;
        cell->v = VALUE_NULL;
        cell->seq = op->kind == ROW_INSERT || c->type.kind == COL_STREAM ? b->c.seq : 0;
        if (changes || !names(op, c)) err = default_value(b, c, !changes || !names(op, c), &cell->v, p);
    }
    return err;
}

static int insert_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    if (e->row.exists) return row_is_there(t, e, p);
    e->row = (struct row){.exists = true, .seq = b->c.seq, .version = b->schema->version, .count = t->column_count};
    e->row.cells = arena_array(b->arena, t->column_count, sizeof *e->row.cells);
    if (!e->row.cells) return batch_no_room(b, p);
    e->loaded = e->changed = e->whole = e->made = true;
    int err = default_cells(b, t, op, e, p);
    if (!err) err = write_columns(b, t, op, e, p);
    if (!err) err = check_size(b, t, e, p);
    return err ? err : each_stream(b, t, e->id, b->host->stream_create, p);
}

// Deleted by a commit that this writer had not seen: delete wins, and the operation is fine. Otherwise there is nothing to write to.
static int meet_deleted(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    if (!e->row.exists && b->c.base < b->r->horizon.seq)
        return problem_set(p, ERR_TOO_OLD, -1, "whether the row was deleted since base %llu is not known any more", (unsigned long long)b->c.base);
    bool concurrent = e->row.exists && e->row.deleted && e->row.seq != b->c.seq && e->row.seq > b->c.base;
    return concurrent ? 0 : no_such_row(t, e->id, p);
}

static int update_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    if (!row_live(&e->row)) {
        int err = meet_deleted(b, t, e, p);
        return err ? err : write_columns(b, t, op, NULL, p);
    }
    int err = batch_load_cells(b, t, e, p);
    if (!err) err = write_columns(b, t, op, e, p);
    return err ? err : check_size(b, t, e, p);
}

static int upsert_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    return e->row.exists || b->c.base < b->r->horizon.seq ? update_row(b, t, op, e, p) : insert_row(b, t, op, e, p);
}

int batch_delete_row(struct rows_batch *b, const struct table *t, struct entry *e, struct problem *p)
{
    assert(row_live(&e->row));
    e->row = (struct row){.exists = true, .deleted = true, .seq = b->c.seq, .version = b->schema->version};
    e->changed = true;
    return each_stream(b, t, e->id, b->host->stream_delete, p);
}

static int delete_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    if (op->column_count > 0) return problem_set(p, ERR_BAD_VALUE, -1, "a delete names no columns");
    return row_live(&e->row) ? batch_delete_row(b, t, e, p) : meet_deleted(b, t, e, p);
}

// ---- restoring -----------------------------------------------------------------------------------------------------

// A row that stands: fine where somebody else has restored it meanwhile.
static int restore_standing(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    struct row_space *room = batch_room(b);
    if (!room) return ERR_NOMEM;
    int err = e->row.seq > b->c.base ? row_at(b->r, b->txn, t, e->id, b->c.base, room) : 0;
    if (err) return err;
    return e->row.seq > b->c.base && room->row.deleted ? 0 : row_is_there(t, e, p);
}

static int find_blobs(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    int err = 0;
    for (size_t i = 0; i < t->column_count && !err; i++)
        err = check_cell(b, &t->columns[i], &e->row.cells[i].v, p);
    return err;
}

// The cells keep the commits that wrote them: who restores a row writes none of its values.
static int restore_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    struct row_space *room = batch_room(b);
    if (!room) return ERR_NOMEM;
    if (op->column_count > 0) return problem_set(p, ERR_BAD_VALUE, -1, "a restore names no columns");
    if (!e->row.exists) return no_such_row(t, e->id, p);
    if (!e->row.deleted) return restore_standing(b, t, e, p);
    if (e->row.seq == b->c.seq) return problem_set(p, ERR_BAD_VALUE, -1, "the batch itself deletes this row");
    if (e->changed) return problem_set(p, ERR_NOT_IMPLEMENTED, -1, "what a pending batch deletes is not restored in a preview");
    int err = row_at(b->r, b->txn, t, e->id, e->row.seq - 1, room);
    if (err) return err;
    if (!row_live(&room->row)) return problem_set(p, ERR_TOO_OLD, -1, "what the row was is below the history that is kept");
    e->row = (struct row){.exists = true, .seq = b->c.seq, .version = b->schema->version};
    e->changed = e->restored = e->whole = true;
    err = batch_copy_cells(b, t, e, room->cells, p);
    if (!err) err = find_blobs(b, t, e, p);
    if (!err) err = check_size(b, t, e, p);
    return err ? err : each_stream(b, t, e->id, b->host->stream_create, p);
}

// ---- all of them ---------------------------------------------------------------------------------------------------

int rows_decide_op(struct rows_batch *b, const struct row_op *op, struct uuid *id, struct problem *p)
{
    struct uuid name;
    struct entry *e;
    assert(b && op);
    const struct table *t = schema_table(b->schema, op->table);
    if (!t) return no_such_table(op->table, p);
    int err = find_id(b, op, &name, p);
    if (!err) err = batch_entry(b, t, name, &e, p);
    if (err) return err;
    switch (op->kind) {
    case ROW_INSERT: err = insert_row(b, t, op, e, p); break;
    case ROW_UPDATE: err = update_row(b, t, op, e, p); break;
    case ROW_DELETE: err = delete_row(b, t, op, e, p); break;
    case ROW_UPSERT: err = upsert_row(b, t, op, e, p); break;
    case ROW_RESTORE: err = restore_row(b, t, op, e, p); break;
    }
    b->ops++;
    if (e->changed) e->op = b->ops;
    if (!err && id) *id = name;
    return err;
}

uint64_t rows_decide_stamp(const struct rows_batch *b)
{
    return b->c.stamp;
}

// ---- streams of rows -----------------------------------------------------------------------------------------------

// Cuts the path's next part off; false: no part is left.
static bool next_part(struct span *path, struct span *part)
{
    if (path->n == 0) return false;
    const uint8_t *slash = memchr(path->p, '/', path->n);
    size_t n = slash ? (size_t)(slash - path->p) : path->n;
    *part = span_sub(*path, 0, n);
    *path = span_sub(*path, n + 1 < path->n ? n + 1 : path->n, path->n);
    return true;
}

int rows_decide_stream(struct rows_batch *b, struct span path, bool touch, struct problem *p)
{
    struct span rest = path, part[4];
    struct uuid id;
    struct entry *e;
    size_t n = 0;
    while (n < 4 && next_part(&rest, &part[n]))
        n++;
    if (n < 4 || rest.n > 0 || path.p[path.n - 1] == '/' || !span_is(part[0], "rows") || uuid_parse(&id, part[2]))
        return problem_set(p, ERR_BAD_VALUE, -1, "%.*s is not rows/<table>/<id>/<column>", SPAN_FMT(path));
    const struct table *t = schema_table(b->schema, part[1]);
    if (!t) return no_such_table(part[1], p);
    int at = table_column(t, part[3]);
    if (at < 0 || t->columns[at].type.kind != COL_STREAM)
        return problem_set(p, ERR_NO_SUCH_COLUMN, -1, "%.*s has no stream %.*s", SPAN_FMT(t->name), SPAN_FMT(part[3]));
    int err = batch_entry(b, t, id, &e, p);
    if (err) return err;
    if (!row_live(&e->row)) return no_such_row(t, id, p);
    e->touched |= touch;
    return 0;
}
