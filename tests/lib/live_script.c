#include "live_script.h"

#include <assert.h>
#include <stdlib.h>

#include "query_dice.h"

static const char *const type_names[] = {"integer", "text", "double precision", "boolean", "uuid"};
static const char *const op_names[] = {"insert", "update", "delete", "restore", "stream"};

// ---- making --------------------------------------------------------------------------------------------------------

static char *take(struct buf *b)
{
    buf_put_u8(b, 0);
    assert(b->err == 0);
    char *text = strdup((const char *)b->p);
    buf_free(b);
    return text;
}

static void put_tables(struct query_dice *d, struct buf *sql, bool grown)
{
    for (size_t t = 0; t < DICE_TABLES; t++) {
        buf_printf(sql, "create table t%zu (", t);
        for (size_t c = 0; c < d->tables[t].columns; c++)
            buf_printf(sql, "%sc%zu %s", c > 0 ? ", " : "", c, type_names[d->tables[t].kinds[c]]);
        buf_printf(sql, "%s%s);\n", t == 0 ? ", body stream" : "", grown && t == 1 ? ", later integer default 4" : "");
    }
}

static void put_indexes(struct query_dice *d, struct buf *sql)
{
    for (size_t t = 0; t < DICE_TABLES; t++) {
        size_t columns = d->tables[t].columns;
        for (unsigned i = 0, n = (unsigned)dice(d, 4); i < n; i++) {
            size_t first = dice(d, columns), second = dice(d, columns);
            buf_printf(sql, "create index t%zu_%u on t%zu (c%zu%s", t, i, t, first, one_in(d, 3) ? " desc" : "");
            if (second != first && !one_in(d, 3)) buf_printf(sql, ", c%zu%s", second, one_in(d, 3) ? " desc" : "");
            buf_put_str(sql, ")");
            if (one_in(d, 4)) buf_printf(sql, " where c%zu is not null", first);
            buf_put_str(sql, ";\n");
        }
    }
}

static char *make_schema(struct query_dice *d, bool indexes, bool grown)
{
    struct buf sql;
    buf_init(&sql, MIB);
    put_tables(d, &sql, grown);
    if (indexes) put_indexes(d, &sql);
    return take(&sql);
}

// What SQL says, as JSON: quotes are others, and nothing else is. References are to few rows, so that joins find some.
static void put_json_value(struct query_dice *d, struct buf *json, enum dice_kind kind)
{
    struct buf value;
    buf_init(&value, KIB);
    if (kind == DICE_UUID) dice_put_uuid(&value, dice_row_id(dice(d, DICE_TABLES), dice(d, 12)));
    else dice_put_value(d, &value, kind);
    for (size_t i = 0; i < value.n; i++)
        buf_put_u8(json, value.p[i] == '\'' ? '"' : value.p[i]);
    buf_free(&value);
}

static char *make_json(struct query_dice *d, size_t table, bool all)
{
    struct buf json;
    buf_init(&json, 16 * KIB);
    buf_put_str(&json, "{");
    for (size_t c = 0; c < d->tables[table].columns; c++) {
        if (!all && !one_in(d, 3)) continue;
        buf_printf(&json, "%s\"c%zu\":", json.n > 1 ? "," : "", c);
        if (one_in(d, 6)) buf_put_str(&json, "null");
        else put_json_value(d, &json, d->tables[table].kinds[c]);
    }
    buf_put_str(&json, "}");
    return take(&json);
}

static void make_op(struct query_dice *d, struct live_op *op)
{
    op->table = dice(d, DICE_TABLES);
    size_t row = dice(d, one_in(d, 2) ? 8 : 20); // few, for joins without a condition make many of them
    bool there = d->tables[op->table].there[row], gone = d->tables[op->table].gone[row];
    op->id = dice_row_id(op->table, row);
    op->kind = gone ? LIVE_RESTORE : !there ? LIVE_INSERT : one_in(d, 7) ? LIVE_DELETE : op->table == 0 && one_in(d, 5) ? LIVE_STREAM : LIVE_UPDATE;
    if (op->kind == LIVE_INSERT || op->kind == LIVE_UPDATE) op->json = make_json(d, op->table, op->kind == LIVE_INSERT);
    d->tables[op->table].there[row] = op->kind != LIVE_DELETE;
    d->tables[op->table].gone[row] = op->kind == LIVE_DELETE;
}

static void make_batch(struct query_dice *d, struct live_batch *b, size_t no)
{
    uint64_t what = no < 3 ? 99 : dice(d, 100);
    b->dice = dice(d, UINT64_C(1) << 40) + 1;
    b->kind = what < 4 ? LIVE_SCHEMA : what < 7 ? LIVE_HORIZON : what < 9 ? LIVE_RESTART : LIVE_ROWS;
    if (b->kind == LIVE_SCHEMA) b->schema = make_schema(d, !one_in(d, 3), one_in(d, 2));
    if (b->kind != LIVE_ROWS) return;
    b->unpublished = no + 1 < LIVE_BATCHES && one_in(d, 6);
    b->op_count = no == 0 ? 15 : one_in(d, 10) ? 12 : 1 + dice(d, 3);
    b->ops = calloc(b->op_count, sizeof *b->ops);
    for (size_t i = 0; i < b->op_count; i++)
        make_op(d, &b->ops[i]);
}

struct live_script *live_script_new(uint64_t seed)
{
    struct live_script *s = calloc(1, sizeof *s);
    struct query_dice d = {.chance = seed * 0x9e3779b97f4a7c15u + 1};
    s->seed = seed;
    buf_init(&d.sql, 64 * KIB);
    for (size_t t = 0; t < DICE_TABLES; t++) {
        d.tables[t].columns = 2 + dice(&d, DICE_COLUMNS - 1);
        for (size_t c = 0; c < d.tables[t].columns; c++)
            d.tables[t].kinds[c] = c == 0 ? DICE_UUID : c == 1 ? DICE_INT : (enum dice_kind)dice(&d, DICE_KINDS);
    }
    s->schema = make_schema(&d, one_in(&d, 2), false);
    for (size_t i = 0; i < LIVE_QUERIES; i++) {
        struct live_query *q = &s->queries[i];
        dice_make_live_query(&d, &q->ordered, &q->total);
        q->sql = strdup((char *)d.sql.p);
    }
    for (size_t i = 0; i < LIVE_BATCHES; i++)
        make_batch(&d, &s->batches[i], i);
    buf_free(&d.sql);
    return s;
}

void live_script_free(struct live_script *s)
{
    for (size_t i = 0; i < LIVE_QUERIES; i++)
        free(s->queries[i].sql);
    for (size_t i = 0; i < LIVE_BATCHES; i++) {
        for (size_t k = 0; k < s->batches[i].op_count; k++)
            free(s->batches[i].ops[k].json);
        free(s->batches[i].ops);
        free(s->batches[i].schema);
    }
    free(s->schema);
    free(s);
}

// ---- telling -------------------------------------------------------------------------------------------------------

static void print_batch(const struct live_batch *b, size_t no, FILE *out)
{
    static const char *const names[] = {"batch", "schema", "horizon", "restart"};
    fprintf(out, "%s %zu%s\n", names[b->kind], no, b->unpublished ? ", visible with the next" : "");
    if (b->schema) fprintf(out, "%s", b->schema);
    for (size_t i = 0; i < b->op_count; i++) {
        const struct live_op *op = &b->ops[i];
        if (!op->left_out) fprintf(out, "    %s t%zu %x %s\n", op_names[op->kind], op->table, op->id, op->json ? op->json : "");
    }
}

void live_script_print(const struct live_script *s, FILE *out)
{
    fprintf(out, "%s", s->schema);
    for (size_t i = 0; i < LIVE_QUERIES; i++)
        if (!s->queries[i].left_out) fprintf(out, "query %zu: %s\n", i, s->queries[i].sql);
    for (size_t i = 0; i < LIVE_BATCHES; i++)
        if (!s->batches[i].left_out) print_batch(&s->batches[i], i, out);
}

// ---- doing ---------------------------------------------------------------------------------------------------------

static int apply_op(const struct live_op *op, struct rows_rig *g)
{
    static const enum row_op_kind kinds[] = {[LIVE_INSERT] = ROW_INSERT, [LIVE_UPDATE] = ROW_UPDATE, [LIVE_DELETE] = ROW_DELETE, [LIVE_RESTORE] = ROW_RESTORE};
    char name[8], path[80], id[UUID_TEXT];
    snprintf(name, sizeof name, "t%zu", op->table);
    if (op->kind != LIVE_STREAM) return rr_op(g, kinds[op->kind], name, op->id, op->json);
    uuid_format(rr_id(op->id), id);
    snprintf(path, sizeof path, "rows/t0/%.*s/body", UUID_TEXT, id);
    return rows_decide_stream(g->batch, SPAN_STR(path), false, &g->p);
}

static void apply_rows(const struct live_batch *b, struct rows_rig *g)
{
    int err = 0;
    rr_commit(g);
    rr_begin(g);
    for (size_t i = 0; i < b->op_count && !err; i++)
        if (!b->ops[i].left_out) err = apply_op(&b->ops[i], g);
    if (err) rr_drop(g);
    else rr_end_unpublished(g);
}

static void apply_horizon(struct rows_rig *g)
{
    if (g->seq < 8 || g->seq - 8 <= rows_horizon(g->r)) return;
    rr_commit(g);
    rr_begin(g);
    if (rows_decide_horizon(g->batch, g->seq - 8, &g->p)) rr_drop(g);
    else rr_end_unpublished(g);
}

void live_batch_apply(const struct live_batch *b, struct rows_rig *g)
{
    bool wrote;
    if (b->kind == LIVE_ROWS) apply_rows(b, g);
    if (b->kind == LIVE_HORIZON) apply_horizon(g);
    if (b->kind == LIVE_RESTART) rr_reopen(g);
    if (b->kind == LIVE_SCHEMA) {
        rr_commit(g);
        rr_begin(g);
        if (rr_schema(g, b->schema)) rr_drop(g);
        else rr_end_unpublished(g);
    }
    if (b->unpublished) return;
    rows_publish(g->r, g->txn, g->seq);
    while (rows_busy(g->r))
        if (rows_tick(g->r, g->txn, &wrote)) abort();
}
