#include "show.h"

#include <assert.h>

#include "err.h"
#include "query_live.h"

static void show_stream(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct column *c,
                        uint64_t seq)
{
    struct buf path;
    uint64_t offset = 0;
    bool closed = false;
    buf_init(&path, STREAM_PATH_MAX);
    rows_stream_path(&path, t->name, id, c->name);
    bool known = !path.err && r->host->stream_at(r->host->ctx, txn, buf_span(&path), seq, &offset, &closed);
    jw_object(w);
    jw_key(w, "stream");
    jw_str(w, buf_span(&path));
    jw_key(w, "offset");
    if (known) {
        jw_uint(w, offset);
    } else {
        jw_null(w);
    }
    jw_key(w, "closed");
    if (known) {
        jw_bool(w, closed);
    } else {
        jw_null(w);
    }
    jw_end(w);
    if (path.err) w->out->err = path.err;
    buf_free(&path);
}

static void show_blob(struct jw *w, struct rows *r, struct db_txn *txn, const struct value *v)
{
    char hex[SHA256_HEX], type[STREAM_TYPE_MAX + 1] = "";
    uint64_t size = 0;
    if (v->null) {
        jw_null(w);
        return;
    }
    bool known = r->host->blob_at(r->host->ctx, txn, &v->h, &size, type);
    hex_format(hex, SPAN(v->h.b, SHA256_BYTES));
    jw_object(w);
    jw_key(w, "blob");
    jw_str(w, SPAN(hex, SHA256_HEX));
    jw_key(w, "size");
    if (known) {
        jw_uint(w, size);
    } else {
        jw_null(w);
    }
    jw_key(w, "type");
    if (known) {
        jw_cstr(w, type);
    } else {
        jw_null(w);
    }
    jw_end(w);
}

void show_cell(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct column *c,
               const struct value *v, uint64_t seq)
{
    if (c->type.kind == COL_STREAM) {
        show_stream(w, r, txn, t, id, c, seq);
    } else if (c->type.kind == COL_BLOB) {
        show_blob(w, r, txn, v);
    } else {
        value_json(w, &c->type, v);
    }
}

static void show_id(struct jw *w, struct uuid id)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    jw_key(w, "id");
    jw_plain(w, SPAN(text, UUID_TEXT));
}

static void show_column(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *row, size_t i, uint64_t seq)
{
    jw_key_span(w, t->columns[i].name);
    show_cell(w, r, txn, t, id, &t->columns[i], &row->cells[i].v, seq);
}

void show_all(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *row, uint64_t seq)
{
    assert(t && row_live(row) && row->count == t->column_count);
    jw_object(w);
    show_id(w, id);
    for (size_t i = 0; i < t->column_count; i++)
        show_column(w, r, txn, t, id, row, i, seq);
    jw_end(w);
}

// ---- targets -------------------------------------------------------------------------------------------------------

// Where a target's value is told of from: the store as of a seq, and the row of the column's table.
struct shown_from {
    struct rows *r;
    struct db_txn *txn;
    uint64_t seq;
    const struct table *table; // of a stream
    const struct expr_row *row;
};

static void show_stream_of(struct jw *w, const struct shown_from *from, const struct expr *e)
{
    if (from->row->row) {
        show_stream(w, from->r, from->txn, from->table, from->row->id, &from->table->columns[e->column], from->seq);
    } else {
        jw_null(w);
    }
}

static bool is_stream_column(const struct expr *e)
{
    return e->type.kind == COL_STREAM && e->kind == EX_COLUMN;
}

void show_value(struct jw *w, struct rows *r, struct db_txn *txn, const struct type *type, const struct value *v)
{
    if (type->kind == COL_BLOB) {
        show_blob(w, r, txn, v);
    } else if (type->kind == COL_STREAM) {
        jw_null(w); // grouped: whose it is is not known any more
    } else {
        value_json(w, type, v);
    }
}

int show_target(struct jw *w, struct run *run, const struct target *target)
{
    const struct expr *e = target->expr;
    struct value v;
    if (is_stream_column(e)) {
        const struct table *t = schema_table_no(run->src.r->schema, run->plan->tables[e->slot]);
        show_stream_of(w, &(struct shown_from){run->src.r, run->src.txn, run->src.at, t, &run->rows[e->slot]}, e);
        return 0;
    }
    int err = run_eval(run, e, &v);
    if (!err) show_value(w, run->src.r, run->src.txn, &e->type, &v);
    return err;
}

int show_targets(struct jw *w, struct run *run, const struct select *s)
{
    int err = 0;
    jw_object(w);
    for (size_t i = 0; i < s->target_count && !err; i++) {
        jw_key_span(w, s->targets[i].name);
        err = show_target(w, run, &s->targets[i]);
    }
    if (!err) jw_end(w);
    return err;
}

int show_keyed(struct jw *w, struct run *run)
{
    struct buf key, text;
    buf_init(&key, KIB);
    buf_init(&text, KIB);
    int err = run_key(run, &key);
    if (!err) run_key_text(run->plan->top, buf_span(&key), &text);
    if (!err) err = text.err;
    if (!err) {
        jw_object(w);
        jw_key(w, "key");
        jw_str(w, buf_span(&text));
        jw_key(w, "row");
        err = show_targets(w, run, run->plan->top);
    }
    if (!err) jw_end(w);
    buf_free(&key);
    buf_free(&text);
    return err;
}

int show_row(struct jw *w, struct rows *r, struct db_txn *txn, const struct query *q, struct uuid id, const struct row *row, uint64_t seq)
{
    const struct table *t = schema_table_no(r->schema, q->table);
    const struct select *s = q->plan->top;
    struct query_row at;
    int err = 0;
    assert(t && row_live(row));
    query_row_open(&at, q, r->scratch, id, row);
    jw_object(w);
    for (size_t i = 0; i < s->target_count && !err; i++) {
        const struct expr *e = s->targets[i].expr;
        struct value v;
        jw_key_span(w, s->targets[i].name);
        if (is_stream_column(e)) {
            show_stream_of(w, &(struct shown_from){r, txn, seq, t, &at.row}, e);
            continue;
        }
        err = expr_eval(e, &at.env, &v);
        if (!err) show_value(w, r, txn, &e->type, &v);
    }
    if (!err) jw_end(w); // else a name waits for its value
    arena_clear(r->scratch);
    return err;
}
