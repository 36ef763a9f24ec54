#include "rows_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "err.h"
#include "hlc.h"
#include "json_read.h"
#include "store.h"
#include "tmp.h"

// ---- the host ------------------------------------------------------------------------------------------------------

static int host_create(void *ctx, struct span path, struct problem *p)
{
    struct rows_rig *g = ctx;
    (void)p;
    buf_printf(&g->calls, "+%.*s\n", SPAN_FMT(path));
    return 0;
}

static int host_delete(void *ctx, struct span path, struct problem *p)
{
    struct rows_rig *g = ctx;
    (void)p;
    buf_printf(&g->calls, "-%.*s\n", SPAN_FMT(path));
    return 0;
}

// Digests that begin with ff are not stored.
static int host_known(void *ctx, const struct sha256 *digest, struct problem *p)
{
    (void)ctx;
    return digest->b[0] == 0xff ? problem_set(p, ERR_BLOB_NOT_FOUND, -1, "no such blob") : 0;
}

static int host_link(void *ctx, const struct sha256 *digest, struct problem *p)
{
    struct rows_rig *g = ctx;
    (void)p;
    buf_printf(&g->calls, "@%02x\n", digest->b[0]);
    return 0;
}

static int host_release(void *ctx, const struct sha256 *digest, struct problem *p)
{
    struct rows_rig *g = ctx;
    (void)p;
    buf_printf(&g->calls, "~%02x\n", digest->b[0]);
    return 0;
}

static bool host_stream_at(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, uint64_t *offset, bool *closed)
{
    struct rows_rig *g = ctx;
    (void)txn;
    (void)seq;
    *offset = path.n;
    *closed = false;
    return !g->unknown;
}

static bool host_blob_at(void *ctx, struct db_txn *txn, const struct sha256 *digest, uint64_t *size, char type[STREAM_TYPE_MAX + 1])
{
    struct rows_rig *g = ctx;
    (void)txn;
    *size = digest->b[0];
    snprintf(type, STREAM_TYPE_MAX + 1, "text/plain");
    return !g->unknown;
}

// ---- the store -----------------------------------------------------------------------------------------------------

static void open_store(struct rows_rig *g)
{
    static const char *const tables[] = {"other", ROWS_TABLES};
    struct db_options options = {.path = g->folder, .map_bytes = 1ull << 30, .tables = tables, .table_count = ROWS_TABLE_COUNT + 1};
    struct rows_options rows = {.first_table = 1, .host = &g->host};
    assert_int_equal(db_open(&g->db, &options), 0);
    g->txn = db_begin_write(g->db);
    assert_int_equal(rows_open(&g->r, &rows, g->txn), 0);
    g->r->views.fill_us = g->r->views.difference_us = 0; // what a test sees does not hang on how fast it runs
}

static void close_store(struct rows_rig *g)
{
    rows_close(g->r);
    assert_int_equal(db_commit(g->txn), 0);
    db_close(g->db);
}

void rr_open(struct rows_rig *g)
{
    *g = (struct rows_rig){.folder = tmp_make(), .now_ms = 1700000000000, .p = PROBLEM_NONE};
    g->host = (struct rows_host){.ctx = g,
                                 .stream_create = host_create,
                                 .stream_delete = host_delete,
                                 .blob_known = host_known,
                                 .blob_link = host_link,
                                 .blob_release = host_release,
                                 .stream_at = host_stream_at,
                                 .blob_at = host_blob_at};
    buf_init(&g->effects, ENTRY_BYTES_MAX);
    buf_init(&g->calls, MIB);
    open_store(g);
}

void rr_close(struct rows_rig *g)
{
    rows_batch_free(g->batch);
    close_store(g);
    buf_free(&g->effects);
    buf_free(&g->calls);
    tmp_remove(g->folder);
}

int rr_setup(void **state, const char *schema)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    rr_publish(g, schema);
    *state = g;
    return 0;
}

int rr_teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

void rr_reopen(struct rows_rig *g)
{
    close_store(g);
    open_store(g);
}

struct uuid rr_id(unsigned n)
{
    struct uuid id = {{0}};
    for (int i = 0; i < 4; i++)
        id.b[15 - i] = (uint8_t)(n >> i * 8);
    return id;
}

// ---- batches -------------------------------------------------------------------------------------------------------

void rr_commit(struct rows_rig *g)
{
    g->now_ms++;
    g->c =
        (struct commit){.seq = g->seq + 1, .group = g->seq + 1, .arrival_ms = g->now_ms, .stamp = hlc_stamp(g->now_ms, 0), .base = g->seq};
    memset(g->c.seed, (int)(g->seq * 7), sizeof g->c.seed);
}

void rr_begin(struct rows_rig *g)
{
    g->p = PROBLEM_NONE;
    g->batch = rows_decide(g->r, g->txn, &g->c, NULL);
    assert_non_null(g->batch);
}

struct columns {
    struct row_column list[COLUMNS_MAX + 8];
    struct buf texts[COLUMNS_MAX + 8];
    size_t n;
};

static int add_column(void *ctx, struct span key, const struct jr *value)
{
    struct columns *c = ctx;
    struct row_column *out = &c->list[c->n];
    struct buf *text = &c->texts[c->n++];
    buf_init(text, 16 * MIB);
    *out = (struct row_column){.name = key};
    switch (jr_type(value)) {
    case JR_BOOL: out->value = (struct row_value){.kind = ROW_BOOL, .b = jr_bool(value, false)}; break;
    case JR_INT: out->value = (struct row_value){.kind = ROW_INT, .i = jr_int(value, 0)}; break;
    case JR_REAL: out->value = (struct row_value){.kind = ROW_REAL, .d = jr_real(value, 0)}; break;
    case JR_STRING: out->value = (struct row_value){.kind = ROW_TEXT, .s = jr_str(value)}; break;
    case JR_ARRAY:
    case JR_OBJECT:
        assert_int_equal(jr_canonical(value, text), 0);
        out->value = (struct row_value){.kind = ROW_JSON, .s = buf_span(text)};
        break;
    case JR_NULL:
    case JR_ABSENT: out->value = (struct row_value){.kind = ROW_NULL}; break;
    }
    return 0;
}

int rr_op(struct rows_rig *g, enum row_op_kind kind, const char *table, unsigned id, const char *json)
{
    static struct columns c;
    struct jr_tree *tree = NULL;
    c.n = 0;
    if (json && jr_parse(&tree, SPAN_STR(json), &g->p)) fail_msg("%s: %s", json, problem_text(&g->p));
    assert_int_equal(jr_each(jr_root(tree), add_column, &c), 0);
    struct row_op op = {.kind = kind, .table = SPAN_STR(table), .has_id = id != 0, .id = rr_id(id), .columns = c.list, .column_count = c.n};
    int err = rows_decide_op(g->batch, &op, NULL, &g->p);
    for (size_t i = 0; i < c.n; i++)
        buf_free(&c.texts[i]);
    jr_free(tree);
    return err;
}

int rr_schema(struct rows_rig *g, const char *sql)
{
    return rows_decide_schema(g->batch, SPAN_STR(sql), &g->p);
}

void rr_drop(struct rows_rig *g)
{
    rows_batch_free(g->batch);
    g->batch = NULL;
}

int rr_end(struct rows_rig *g)
{
    int err = rr_end_unpublished(g);
    if (!err) rows_publish(g->r, g->txn, g->seq);
    return err;
}

int rr_end_unpublished(struct rows_rig *g)
{
    int err = rows_decide_end(g->batch, &g->p);
    buf_clear(&g->effects);
    if (!err) rows_decide_effects(g->batch, &g->effects);
    g->c.stamp = rows_decide_stamp(g->batch);
    rr_drop(g);
    if (err) return err;
    assert_int_equal(g->effects.err, 0);
    assert_int_equal(rows_apply(g->r, g->txn, &g->c, buf_span(&g->effects)), 0);
    g->seq = g->c.seq;
    return 0;
}

int rr_op1(struct rows_rig *g, enum row_op_kind kind, const char *table, unsigned id, const char *json)
{
    rr_commit(g);
    rr_begin(g);
    int err = rr_op(g, kind, table, id, json);
    if (!err) return rr_end(g);
    rr_drop(g);
    return err;
}

int rr_schema1(struct rows_rig *g, const char *sql)
{
    rr_commit(g);
    rr_begin(g);
    int err = rr_schema(g, sql);
    if (!err) return rr_end(g);
    rr_drop(g);
    return err;
}

static void must(struct rows_rig *g, int err)
{
    if (err) fail_msg("%s: %s", err_wire(err), problem_text(&g->p));
}

void rr_insert(struct rows_rig *g, const char *table, unsigned id, const char *json)
{
    must(g, rr_op1(g, ROW_INSERT, table, id, json));
}

void rr_update(struct rows_rig *g, const char *table, unsigned id, const char *json)
{
    must(g, rr_op1(g, ROW_UPDATE, table, id, json));
}

void rr_delete(struct rows_rig *g, const char *table, unsigned id)
{
    must(g, rr_op1(g, ROW_DELETE, table, id, NULL));
}

void rr_publish(struct rows_rig *g, const char *sql)
{
    must(g, rr_schema1(g, sql));
}

// ---- queries -------------------------------------------------------------------------------------------------------

struct query *rr_compile(struct rows_rig *g, const char *sql)
{
    struct query *q;
    g->p = PROBLEM_NONE;
    int err = query_compile(g->r, SPAN_STR(sql), NULL, 0, &q, &g->p);
    if (err) fail_msg("%s: %s: %s", sql, err_wire(err), problem_text(&g->p));
    return q;
}

struct line_sink {
    struct feed_sink sink;
    struct buf text;
};

static int emit_line(struct feed_sink *sink, struct bytes *value)
{
    struct line_sink *s = (struct line_sink *)sink;
    buf_put_span(&s->text, bytes_span(value));
    buf_put_u8(&s->text, '\n');
    return s->text.err;
}

static char *take_text(struct buf *text)
{
    buf_put_u8(text, 0);
    assert_int_equal(text->err, 0);
    char *s = strdup((const char *)text->p);
    assert_non_null(s);
    buf_free(text);
    return s;
}

void rr_pieces_open(struct rows_rig *g, struct rr_pieces *pieces, struct query *q, uint64_t at)
{
    *pieces = (struct rr_pieces){.done = false};
    buf_init(&pieces->rows, 64 * MIB);
    buf_put_u8(&pieces->rows, 0);
    must(g, query_open(g->r, g->txn, q, at, &pieces->run, &g->p));
}

bool rr_pieces_next(struct rows_rig *g, struct rr_pieces *pieces, size_t budget)
{
    struct line_sink sink = {.sink.emit = emit_line};
    if (pieces->done) return false;
    buf_init(&sink.text, 64 * MIB);
    must(g, query_next(pieces->run, g->txn, budget, &sink.sink, &pieces->done));
    buf_truncate(&pieces->rows, pieces->rows.n - 1);
    buf_put_span(&pieces->rows, buf_span(&sink.text));
    buf_put_u8(&pieces->rows, 0);
    assert_int_equal(pieces->rows.err, 0);
    buf_free(&sink.text);
    return true;
}

void rr_pieces_close(struct rr_pieces *pieces)
{
    query_close(pieces->run);
    buf_free(&pieces->rows);
}

static int run_to_end(struct rows_rig *g, struct query_run *run, struct buf *out)
{
    struct line_sink sink = {.sink.emit = emit_line};
    bool done = false;
    int err = 0;
    buf_init(&sink.text, 64 * MIB);
    while (!err && !done)
        err = query_next(run, g->txn, 100, &sink.sink, &done);
    *out = sink.text;
    return err;
}

int rr_run(struct rows_rig *g, struct query *q, uint64_t at, struct buf *out, struct problem *p)
{
    struct query_run *run;
    must(g, query_open(g->r, g->txn, q, at, &run, &g->p));
    int err = run_to_end(g, run, out);
    *p = *query_problem(run);
    query_close(run);
    return err;
}

void rr_explain(struct rows_rig *g, struct query *q, uint64_t at, struct jw *w)
{
    struct query_run *run;
    struct buf rows;
    must(g, query_open(g->r, g->txn, q, at, &run, &g->p));
    must(g, run_to_end(g, run, &rows));
    query_explain(run, w);
    query_close(run);
    buf_free(&rows);
}

char *rr_rows(struct rows_rig *g, struct query *q, uint64_t at)
{
    struct line_sink sink = {.sink.emit = emit_line};
    struct query_run *run;
    bool done = false;
    buf_init(&sink.text, 64 * MIB);
    assert_int_equal(query_open(g->r, g->txn, q, at, &run, &g->p), 0);
    while (!done)
        must(g, query_next(run, g->txn, 100, &sink.sink, &done));
    query_close(run);
    return take_text(&sink.text);
}

char *rr_select_at(struct rows_rig *g, const char *sql, uint64_t at)
{
    struct query *q = rr_compile(g, sql);
    char *text = rr_rows(g, q, at);
    query_unref(q);
    return text;
}

char *rr_select(struct rows_rig *g, const char *sql)
{
    return rr_select_at(g, sql, g->seq);
}

// "#7" is the seventh id.
static char *spell_ids(const char *rows)
{
    struct buf out;
    char text[UUID_TEXT];
    buf_init(&out, 64 * MIB);
    while (*rows) {
        if (*rows != '#') {
            buf_put_u8(&out, (uint8_t)*rows++);
            continue;
        }
        char *end;
        uuid_format(rr_id((unsigned)strtoul(rows + 1, &end, 10)), text);
        buf_put(&out, text, UUID_TEXT);
        rows = end;
    }
    return take_text(&out);
}

void rr_expect_at(struct rows_rig *g, const char *sql, uint64_t at, const char *rows)
{
    char *expected = spell_ids(rows), *found = rr_select_at(g, sql, at);
    if (strcmp(expected, found) != 0) fail_msg("%s as of %llu\n  gave     %s\n  expected %s", sql, (unsigned long long)at, found, expected);
    free(expected);
    free(found);
}

void rr_expect(struct rows_rig *g, const char *sql, const char *rows)
{
    rr_expect_at(g, sql, g->seq, rows);
}

// ---- readers -------------------------------------------------------------------------------------------------------

struct reader_sink {
    struct feed_sink sink;
    struct rows_reader *reader;
    bool snapshot;
};

static void wake(struct feed_sub *sub)
{
    struct rows_reader *reader = sub->owner;
    reader->woken = sub->changed;
}

void rr_attach(struct rows_rig *g, struct rows_reader *reader, struct query *q, bool ordered)
{
    *reader = (struct rows_reader){.ordered = ordered, .keyed = query_keyed(q)};
    buf_init(&reader->log, 64 * MIB);
    must(g, rr_return(g, reader, q));
}

int rr_return(struct rows_rig *g, struct rows_reader *reader, struct query *q)
{
    assert_null(reader->sub);
    int err = rows_attach(g->r, g->txn, q, &reader->sub, &g->p);
    if (err) return err;
    reader->sub->owner = reader;
    reader->sub->wake = wake;
    return 0;
}

void rr_leave(struct rows_reader *reader)
{
    reader->sub->feed->ops->detach(reader->sub);
    reader->sub = NULL;
}

static void put_row(struct rows_reader *reader, size_t at, struct span name, struct span json)
{
    if (at > reader->n) fail_msg("a row at %zu of %zu", at, reader->n);
    if (reader->n == reader->cap) {
        reader->cap = reader->cap ? reader->cap * 2 : 16;
        reader->rows = realloc(reader->rows, reader->cap * sizeof(char *));
        reader->names = realloc(reader->names, reader->cap * sizeof(char *));
        assert_true(reader->rows && reader->names);
    }
    memmove(reader->rows + at + 1, reader->rows + at, (reader->n - at) * sizeof(char *));
    memmove(reader->names + at + 1, reader->names + at, (reader->n - at) * sizeof(char *));
    reader->rows[at] = strndup((const char *)json.p, json.n);
    reader->names[at] = strndup((const char *)name.p, name.n);
    reader->n++;
}

static void drop_rows(struct rows_reader *reader)
{
    while (reader->n > 0) {
        free(reader->rows[--reader->n]);
        free(reader->names[reader->n]);
    }
}

static size_t find_row(const struct rows_reader *reader, struct span name)
{
    size_t i = 0;
    while (i < reader->n && !span_is(name, reader->names[i]))
        i++;
    return i;
}

// Where a name belongs among rows that are held by name.
static size_t place_of(const struct rows_reader *reader, struct span name)
{
    size_t i = 0;
    while (i < reader->n && span_compare(SPAN_STR(reader->names[i]), name) < 0)
        i++;
    return i;
}

static void take_out(struct rows_reader *reader, const struct jr *step, struct span name)
{
    assert_true(jr_type(jr_get(step, "was")) == (reader->ordered ? JR_INT : JR_ABSENT));
    size_t was = reader->ordered ? (size_t)jr_int(jr_get(step, "was"), -1) : find_row(reader, name);
    if (was >= reader->n || !span_is(name, reader->names[was])) fail_msg("%.*s does not stand at %zu", SPAN_FMT(name), was);
    free(reader->rows[was]);
    free(reader->names[was]);
    memmove(reader->rows + was, reader->rows + was + 1, (reader->n - was - 1) * sizeof(char *));
    memmove(reader->names + was, reader->names + was + 1, (reader->n - was - 1) * sizeof(char *));
    reader->n--;
}

// The row's own text, as it stands in the step: {"added":{row}…
static void put_in(struct rows_reader *reader, const struct jr *step, struct span name, struct span text)
{
    if (find_row(reader, name) < reader->n) fail_msg("%.*s is there already", SPAN_FMT(name));
    assert_true(jr_type(jr_get(step, "at")) == (reader->ordered ? JR_INT : JR_ABSENT));
    put_row(reader, reader->ordered ? (size_t)jr_int(jr_get(step, "at"), -1) : place_of(reader, name), name, text);
}

// The first object within an object.
static struct span row_text(struct span value)
{
    size_t from = 0, depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < value.n; i++) {
        uint8_t c = value.p[i];
        if (quoted && c == '\\') {
            i++;
            continue;
        }
        if (c == '"') quoted = !quoted;
        if (quoted) continue;
        depth += c == '{';
        if (c == '{' && depth == 2) from = i;
        if (c == '}' && depth-- == 2) return span_sub(value, from, i + 1 - from);
    }
    fail_msg("no row in %.*s", SPAN_FMT(value));
    return SPAN_NONE;
}

// What names a row: its id, or the key beside it.
static struct span name_of(const struct rows_reader *reader, const struct jr *value, const struct jr *row)
{
    const struct jr *key = jr_get(value, "key");
    if (reader->keyed) assert_int_equal(jr_type(key), JR_STRING);
    return jr_str(reader->keyed ? key : jr_get(row, "id"));
}

static void take_step(struct rows_reader *reader, struct span text)
{
    struct jr_tree *tree;
    assert_int_equal(jr_parse(&tree, text, NULL), 0);
    const struct jr *step = jr_root(tree), *added = jr_get(step, "added"), *changed = jr_get(step, "changed");
    if (jr_type(added) == JR_OBJECT) {
        put_in(reader, step, name_of(reader, step, added), row_text(text));
    } else if (jr_type(changed) == JR_OBJECT) {
        take_out(reader, step, name_of(reader, step, changed));
        put_in(reader, step, name_of(reader, step, changed), row_text(text));
    } else {
        take_out(reader, step, jr_str(jr_get(step, "removed")));
    }
    jr_free(tree);
}

static void take_value(struct rows_reader *reader, struct span text)
{
    struct jr_tree *tree;
    assert_int_equal(jr_parse(&tree, text, NULL), 0);
    const struct jr *value = jr_root(tree);
    struct span name = name_of(reader, value, value);
    if (find_row(reader, name) < reader->n) fail_msg("%.*s is twice in a snapshot", SPAN_FMT(name));
    put_row(reader, reader->n, name, reader->keyed ? row_text(text) : text);
    jr_free(tree);
}

static int emit_to_reader(struct feed_sink *sink, struct bytes *value)
{
    struct reader_sink *s = (struct reader_sink *)sink;
    if (s->snapshot) {
        take_value(s->reader, bytes_span(value));
        return 0;
    }
    s->reader->changes++;
    buf_put_span(&s->reader->log, bytes_span(value));
    buf_put_u8(&s->reader->log, '\n');
    take_step(s->reader, bytes_span(value));
    return 0;
}

int rr_try_snapshot(struct rows_rig *g, struct rows_reader *reader, uint64_t at, size_t budget)
{
    struct reader_sink sink = {.sink.emit = emit_to_reader, .reader = reader, .snapshot = true};
    const struct feed_ops *ops = reader->sub->feed->ops;
    bool done = false;
    int err = 0;
    drop_rows(reader);
    while (!err && !done)
        err = ops->snapshot(reader->sub, g->txn, at, budget, &sink.sink, &done);
    reader->seq = at;
    return err;
}

void rr_snapshot(struct rows_rig *g, struct rows_reader *reader, uint64_t at, size_t budget)
{
    must(g, rr_try_snapshot(g, reader, at, budget));
}

int rr_read(struct rows_rig *g, struct rows_reader *reader, uint64_t to)
{
    struct reader_sink sink = {.sink.emit = emit_to_reader, .reader = reader};
    int err = reader->sub->feed->ops->changes(reader->sub, g->txn, reader->seq, to, &sink.sink);
    if (!err) reader->seq = to;
    return err;
}

char *rr_held(const struct rows_reader *reader)
{
    struct buf text;
    buf_init(&text, 64 * MIB);
    for (size_t i = 0; i < reader->n; i++)
        buf_printf(&text, "%s\n", reader->rows[i]);
    return take_text(&text);
}

void rr_detach(struct rows_reader *reader)
{
    if (reader->sub) rr_leave(reader);
    drop_rows(reader);
    free(reader->rows);
    free(reader->names);
    buf_free(&reader->log);
}
