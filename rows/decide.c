// Deciding row operations: what they make of the state, or why not. Pure but for the host's calls.
#include <assert.h>

#include "row_batch.h"
#include "err.h"

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
    if (c->type.kind == COL_BLOB && !v->null) return b->host->blob_link(b->host->ctx, &v->h, p);
    return 0;
}

// The written value of one named column; a stream column may only be said to be null, which says nothing.
static int convert(struct rows_batch *b, const struct column *c, const struct row_column *in, struct value *out, struct problem *p)
{
    struct value_target target = {.type = &c->type, .source = VALUE_WRITTEN, .column = c->name, .position = -1};
    int err = value_convert(out, &target, &in->value, b->arena, p);
    if (err) return err == ERR_NOMEM ? batch_no_room(b, p) : err;
    if (c->type.kind == COL_STREAM) {
        out->null = false;
        return 0;
    }
    return check_cell(b, c, out, p);
}

static int default_value(struct rows_batch *b, const struct column *c, struct value *out, struct problem *p)
{
    *out = VALUE_NULL;
    switch (c->has_default) {
    case DEFAULT_NONE: break;
    case DEFAULT_NOW: *out = (struct value){.i = (int64_t)b->c.arrival_ms * 1000}; break;
    case DEFAULT_UUID: *out = (struct value){.u = make_id(b)}; break;
    case DEFAULT_CONST:
        if (!value_copy(out, &c->type, &c->def, b->arena)) return batch_no_room(b, p);
    }
    if (c->type.kind == COL_STREAM) out->null = false;
    return check_cell(b, c, out, p);
}

// Which of two commits' writes to a cell shows: the later stamp; of equal ones that of the greater writer; of one writer's the later
// commit, which is the one being decided. The same answer in whatever order the two arrive.
static int write_wins(struct rows_batch *b, uint64_t cell_seq, bool *wins)
{
    *wins = true;
    if (cell_seq == 0 || cell_seq == b->c.seq) return 0;
    if (b->last_seq != cell_seq) {
        if (!commit_head_of(b->r, b->txn, cell_seq, &b->last_head)) return db_txn_err(b->txn) ? db_txn_err(b->txn) : ERR_CORRUPT;
        b->last_seq = cell_seq;
    }
    if (b->c.stamp != b->last_head.stamp) {
        *wins = b->c.stamp > b->last_head.stamp;
    } else {
        *wins = uuid_compare(b->c.writer, b->last_head.writer) >= 0;
    }
    return 0;
}

// Writes the columns that the operation names; `given` marks them. With no `e`, only checks them.
static int write_columns(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, bool *given,
                         struct problem *p)
{
    for (size_t i = 0; i < op->column_count; i++) {
        const struct row_column *in = &op->columns[i];
        struct value v;
        bool wins = false;
        int at = table_column(t, in->name);
        if (at == COLUMN_ID) continue;
        if (at == COLUMN_NONE)
            return problem_set(p, ERR_NO_SUCH_COLUMN, -1, "%.*s has no column %.*s", SPAN_FMT(t->name), SPAN_FMT(in->name));
        if (given[at]) return problem_set(p, ERR_BAD_VALUE, -1, "%.*s is named twice", SPAN_FMT(in->name));
        given[at] = true;
        int err = convert(b, &t->columns[at], in, &v, p);
        if (err) return err;
        if (!e || t->columns[at].type.kind == COL_STREAM) continue;
        err = write_wins(b, e->row.cells[at].seq, &wins);
        if (err) return err;
        if (!wins) continue;
        e->row.cells[at] = (struct cell){.v = v, .seq = b->c.seq};
        e->changed = true;
    }
    return 0;
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

static int insert_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    bool given[COLUMNS_MAX] = {false};
    char text[UUID_TEXT];
    uuid_format(e->id, text);
    if (e->row.exists)
        return problem_set(p, ERR_ROW_EXISTS, -1, e->row.deleted ? "%.*s had a row %.*s, which was deleted" : "%.*s has a row %.*s",
                           SPAN_FMT(t->name), UUID_TEXT, text);
    e->row = (struct row){.exists = true, .seq = b->c.seq, .version = b->schema->version, .count = t->column_count};
    e->row.cells = arena_array(b->arena, t->column_count, sizeof *e->row.cells);
    if (!e->row.cells) return batch_no_room(b, p);
    e->loaded = e->changed = true;
    int err = write_columns(b, t, op, e, given, p);
    for (size_t i = 0; i < t->column_count && !err; i++) {
        if (!given[i] || t->columns[i].type.kind == COL_STREAM) err = default_value(b, &t->columns[i], &e->row.cells[i].v, p);
        e->row.cells[i].seq = b->c.seq;
    }
    if (!err) err = check_size(b, t, e, p);
    return err ? err : each_stream(b, t, e->id, b->host->stream_create, p);
}

// Deleted by a commit that this writer had not seen: delete wins, and the operation is fine. Otherwise there is nothing to write to.
static int meet_deleted(struct rows_batch *b, const struct table *t, const struct entry *e, struct problem *p)
{
    bool concurrent = e->row.exists && e->row.deleted && !e->changed && e->row.seq > b->c.base;
    return concurrent ? 0 : no_such_row(t, e->id, p);
}

static int update_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    bool given[COLUMNS_MAX] = {false};
    if (!row_live(&e->row)) {
        int err = meet_deleted(b, t, e, p);
        return err ? err : write_columns(b, t, op, NULL, given, p);
    }
    int err = batch_load_cells(b, t, e, p);
    if (!err) err = write_columns(b, t, op, e, given, p);
    return err ? err : check_size(b, t, e, p);
}

static int delete_row(struct rows_batch *b, const struct table *t, const struct row_op *op, struct entry *e, struct problem *p)
{
    if (op->column_count > 0) return problem_set(p, ERR_BAD_VALUE, -1, "a delete names no columns");
    if (!row_live(&e->row)) return meet_deleted(b, t, e, p);
    e->row = (struct row){.exists = true, .deleted = true, .seq = b->c.seq, .version = b->schema->version};
    e->changed = true;
    return each_stream(b, t, e->id, b->host->stream_delete, p);
}

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
    }
    if (!err && id) *id = name;
    return err;
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
