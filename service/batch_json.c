// A batch's JSON (PROTOCOL.md, "batch") into its encoded form. What is checked here is form alone: whether tables, columns
// and types exist is for deciding, because that answer is a fate and this one is not.
#include <stdlib.h>

#include "base64.h"
#include "batch.h"
#include "err.h"
#include "json_read.h"

#define SCRATCH_MAX (2 * BATCH_BYTES_MAX)

// Where in the batch we are, for the problem.
struct reading {
    struct buf *out;
    struct buf scratch; // canonical JSON of values, decoded base64: of one operation
    struct problem *p;
    int64_t op;
    bool inserts;
};

static const char *const op_names[] = {
    [BATCH_INSERT] = "insert", [BATCH_UPDATE] = "update", [BATCH_DELETE] = "delete", [BATCH_CREATE] = "create",
    [BATCH_APPEND] = "append", [BATCH_CLOSE] = "close",   [BATCH_DROP] = "drop",
};

static int bad(struct reading *r, const char *what)
{
    return problem_set(r->p, ERR_BAD_BATCH, r->op, "operation %lld: %s", (long long)r->op, what);
}

int batch_value_from_json(const struct jr *json, struct buf *scratch, struct row_value *out)
{
    *out = (struct row_value){0};
    switch (jr_type(json)) {
    case JR_ABSENT:
    case JR_NULL: out->kind = ROW_NULL; return 0;
    case JR_BOOL: out->kind = ROW_BOOL; out->b = jr_bool(json, false); return 0;
    case JR_INT: out->kind = ROW_INT; out->i = jr_int(json, 0); return 0;
    case JR_REAL: out->kind = ROW_REAL; out->d = jr_real(json, 0); return 0;
    case JR_STRING: out->kind = ROW_TEXT; out->s = jr_str(json); return 0;
    case JR_ARRAY:
    case JR_OBJECT: break;
    }
    size_t from = scratch->n;
    int err = jr_canonical(json, scratch);
    if (err != 0) return err;
    if (scratch->err != 0) return scratch->err;
    out->kind = ROW_JSON;
    out->s = SPAN(scratch->p + from, scratch->n - from);
    return 0;
}

// ---- rows ----

struct columns {
    struct reading *r;
    struct row_column *list;
    size_t count;
};

static int get_column(void *ctx, struct span key, const struct jr *value)
{
    struct columns *c = ctx;
    struct row_column *column = &c->list[c->count++];
    column->name = key;
    if (key.n == 0 || key.n > NAME_MAX_BYTES) return bad(c->r, "a column name is empty or too long");
    int err = batch_value_from_json(value, &c->r->scratch, &column->value);
    return err != 0 ? problem_set(c->r->p, err, c->r->op, "operation %lld: a value is too large", (long long)c->r->op) : 0;
}

static int get_id(struct reading *r, const struct jr *op, struct uuid *id)
{
    if (uuid_parse(id, jr_str(jr_get(op, "id"))) != 0) return bad(r, "\"id\" is not a UUID");
    return 0;
}

static int get_table(struct reading *r, const struct jr *op, struct span *table)
{
    *table = jr_str(jr_get(op, "table"));
    if (table->n == 0 || table->n > NAME_MAX_BYTES) return bad(r, "\"table\" is missing or too long");
    return 0;
}

static int row_op(struct reading *r, const struct jr *op, struct batch_op *out)
{
    struct row_op *row = &out->row;
    int err = get_table(r, op, &row->table);
    if (err != 0) return err;
    row->has_id = jr_get(op, "id") != NULL;
    if (row->has_id || out->kind != BATCH_INSERT) err = get_id(r, op, &row->id);
    if (err != 0) return err;
    const struct jr *values = jr_get(op, "values");
    if (out->kind == BATCH_DELETE ? values != NULL : values != NULL && jr_type(values) != JR_OBJECT) return bad(r, "\"values\" is not an object, or out of place");
    if (out->kind == BATCH_UPDATE && values == NULL) return bad(r, "\"values\" is missing");
    size_t n = jr_count(values);
    if (n > COLUMNS_MAX) return bad(r, "too many columns");
    struct row_column *list = calloc(n + 1, sizeof *list);
    if (list == NULL) return problem_set(r->p, ERR_NOMEM, -1, "no memory for the batch");
    struct columns columns = {.r = r, .list = list};
    err = jr_each(values, get_column, &columns);
    row->columns = list;
    row->column_count = columns.count;
    if (err == 0) batch_put_op(r->out, out);
    free(list);
    row->columns = NULL;
    return err;
}

// ---- streams ----

static int stream_place(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    const struct jr *path = jr_get(op, "stream");
    if (path == NULL) {
        int err = get_table(r, op, &s->table);
        if (err == 0) err = get_id(r, op, &s->id);
        if (err != 0) return err;
        s->column = jr_str(jr_get(op, "column"));
        if (s->column.n == 0 || s->column.n > NAME_MAX_BYTES) return bad(r, "\"column\" is missing or too long");
        return 0;
    }
    if (jr_get(op, "table") != NULL || jr_get(op, "id") != NULL || jr_get(op, "column") != NULL) return bad(r, "both \"stream\" and the column of a row are given");
    s->path = jr_str(path);
    if (s->path.n == 0 || s->path.n > STREAM_PATH_MAX) return bad(r, "\"stream\" is not a path of 1 to 400 bytes");
    return 0;
}

static int stream_data(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    const struct jr *text = jr_get(op, "text");
    const struct jr *base64 = jr_get(op, "base64");
    if ((text == NULL) == (base64 == NULL)) return bad(r, "one of \"text\" and \"base64\" is needed");
    if (jr_type(text != NULL ? text : base64) != JR_STRING) return bad(r, "the data is not a string");
    s->data = jr_str(text);
    if (base64 != NULL) {
        if (base64_decode(&r->scratch, jr_str(base64)) != 0) return bad(r, "\"base64\" is not base64");
        s->data = buf_span(&r->scratch);
    }
    if (s->data.n > STREAM_APPEND_MAX) return problem_set(r->p, ERR_TOO_LARGE, r->op, "operation %lld: an append may have %u bytes", (long long)r->op, STREAM_APPEND_MAX);
    return 0;
}

static int stream_type(struct reading *r, const struct jr *op, struct batch_op *out)
{
    const struct jr *type = jr_get(op, "type");
    if (type == NULL) return 0;
    out->stream.type = jr_str(type);
    bool takes = out->kind == BATCH_CREATE || out->kind == BATCH_APPEND;
    if (!takes || out->stream.type.n == 0 || out->stream.type.n > STREAM_TYPE_MAX) return bad(r, "\"type\" is not a content type, or out of place");
    return 0;
}

static int stream_expect(struct reading *r, const struct jr *op, struct batch_op *out)
{
    const struct jr *expect = jr_get(op, "expect");
    if (expect == NULL) return 0;
    if (out->kind != BATCH_APPEND || jr_type(expect) != JR_INT || jr_int(expect, -1) < 0) return bad(r, "\"expect\" is not an offset, or out of place");
    out->stream.has_expect = true;
    out->stream.expect = (uint64_t)jr_int(expect, 0);
    return 0;
}

static int stream_op(struct reading *r, const struct jr *op, struct batch_op *out)
{
    struct batch_stream *s = &out->stream;
    int err = stream_place(r, op, s);
    if (err != 0) return err;
    err = stream_type(r, op, out);
    if (err == 0 && out->kind == BATCH_APPEND) err = stream_data(r, op, s);
    else if (err == 0 && (jr_get(op, "text") != NULL || jr_get(op, "base64") != NULL)) err = bad(r, "only an append takes data");
    if (err == 0) err = stream_expect(r, op, out);
    if (err == 0) batch_put_op(r->out, out);
    return err;
}

// ---- the batch ----

struct op_check {
    struct reading *r;
    enum batch_op_kind kind;
};

// A misspelt member would silently mean less than its writer meant.
static int check_op_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const rows[] = {"op", "table", "id", "values", NULL};
    static const char *const streams[] = {"op", "stream", "table", "id", "column", "type", "text", "base64", "expect", NULL};
    struct op_check *c = ctx;
    for (const char *const *known = c->kind <= BATCH_DELETE ? rows : streams; *known != NULL; known++)
        if (span_is(key, *known)) return 0;
    return problem_set(c->r->p, ERR_BAD_BATCH, c->r->op, "operation %lld: it has no member \"%.*s\"", (long long)c->r->op, SPAN_FMT(span_sub(key, 0, 60)));
}

static int get_op(struct reading *r, const struct jr *op)
{
    if (jr_type(op) != JR_OBJECT) return bad(r, "not an object");
    struct span name = jr_str(jr_get(op, "op"));
    struct batch_op out = {0};
    for (int k = BATCH_INSERT; k <= BATCH_DROP; k++)
        if (span_is(name, op_names[k])) out.kind = (enum batch_op_kind)k;
    buf_clear(&r->scratch);
    if (out.kind == 0) return bad(r, "\"op\" is none of insert, update, delete, create, append, close, drop");
    r->inserts |= out.kind == BATCH_INSERT;
    int err = jr_each(op, check_op_member, &(struct op_check){r, out.kind});
    if (err == 0) err = out.kind <= BATCH_DELETE ? row_op(r, op, &out) : stream_op(r, op, &out);
    if (err == 0 && r->out->err != 0) err = problem_set(r->p, r->out->err, r->op, "the batch is too large");
    return err;
}

static int get_number(const struct jr *root, const char *key, uint64_t *out, struct problem *p)
{
    const struct jr *n = jr_get(root, key);
    if (n == NULL) return 0;
    // Stamps exceed what JavaScript's numbers hold exactly, so a decimal string does too.
    if (jr_type(n) == JR_STRING) {
        struct span s = jr_str(n);
        uint64_t v = 0;
        for (size_t i = 0; i < s.n; i++) {
            if (s.p[i] < '0' || s.p[i] > '9' || v > (INT64_MAX - 9) / 10) s.n = 0;
            else v = v * 10 + (s.p[i] - '0');
        }
        if (s.n == 0) return problem_set(p, ERR_BAD_BATCH, -1, "\"%s\" is not a number", key);
        *out = v;
        return 0;
    }
    if (jr_type(n) != JR_INT || jr_int(n, -1) < 0) return problem_set(p, ERR_BAD_BATCH, -1, "\"%s\" is not a number from 0", key);
    *out = (uint64_t)jr_int(n, 0);
    return 0;
}

static int get_name(const struct jr *root, struct batch_name *name, struct problem *p)
{
    const struct jr *replica = jr_get(root, "replica");
    const struct jr *key = jr_get(root, "key");
    if (replica != NULL && key != NULL) return problem_set(p, ERR_BAD_BATCH, -1, "a batch has a \"replica\" and a \"counter\", or a \"key\"");
    if (key != NULL) {
        struct span s = jr_str(key);
        if (s.n == 0 || s.n > BATCH_KEY_MAX) return problem_set(p, ERR_BAD_BATCH, -1, "\"key\" is not a string of 1 to %d bytes", BATCH_KEY_MAX);
        name->kind = BATCH_KEY;
        memcpy(name->key, s.p, s.n);
        return 0;
    }
    if (replica == NULL) return jr_get(root, "counter") == NULL ? 0 : problem_set(p, ERR_BAD_BATCH, -1, "\"counter\" without \"replica\"");
    if (uuid_parse(&name->replica, jr_str(replica)) != 0) return problem_set(p, ERR_BAD_BATCH, -1, "\"replica\" is not a UUID");
    if (uuid_equal(name->replica, (struct uuid){{0}})) return problem_set(p, ERR_BAD_BATCH, -1, "\"replica\" must not be the nil UUID");
    name->kind = BATCH_REPLICA;
    int err = get_number(root, "counter", &name->counter, p);
    if (err == 0 && name->counter == 0) err = problem_set(p, ERR_BAD_BATCH, -1, "\"counter\" is a number from 1");
    return err;
}

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const known[] = {"replica", "counter", "key", "base", "stamp", "ops"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(key, known[i])) return 0;
    return problem_set(ctx, ERR_BAD_BATCH, -1, "a batch has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

static int check_message_member(void *ctx, struct span key, const struct jr *value)
{
    return span_is(key, "type") || span_is(key, "id") ? 0 : check_member(ctx, key, value);
}

static int get_batch(const struct jr *root, size_t text_bytes, struct batch_head *head, struct buf *out, struct problem *p)
{
    int err = get_name(root, &head->name, p);
    if (err == 0) err = get_number(root, "base", &head->base, p);
    if (err == 0) err = get_number(root, "stamp", &head->stamp, p);
    if (err != 0) return err;
    const struct jr *ops = jr_get(root, "ops");
    head->ops = jr_count(ops);
    if (jr_type(ops) != JR_ARRAY || head->ops == 0) return problem_set(p, ERR_BAD_BATCH, -1, "\"ops\" is an array of at least one operation");
    if (head->ops > BATCH_OPS_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a batch may have %d operations", BATCH_OPS_MAX);
    struct reading r = {.out = out, .p = p};
    // The scratch must not move while values point into it: all of it is reserved before. Canonical text is longer than what came
    // where numbers are (1e14 is written out): by less than four times.
    buf_init(&r.scratch, 4 * text_bytes < SCRATCH_MAX ? 4 * text_bytes : SCRATCH_MAX);
    if (buf_reserve(&r.scratch, r.scratch.max) == NULL) err = problem_set(p, ERR_NOMEM, -1, "no memory for the batch");
    for (size_t i = 0; i < head->ops && err == 0; i++) {
        r.op = (int64_t)i;
        err = get_op(&r, jr_at(ops, i));
    }
    head->inserts = r.inserts;
    buf_free(&r.scratch);
    return err;
}

int batch_from_json(struct span json, struct batch_head *head, struct buf *out, struct problem *p)
{
    struct jr_tree *tree;
    *head = (struct batch_head){0};
    if (json.n > BATCH_BYTES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a batch may have %u bytes", BATCH_BYTES_MAX);
    int err = jr_parse(&tree, json, p);
    if (err != 0) return err;
    if (jr_type(jr_root(tree)) != JR_OBJECT) err = problem_set(p, ERR_BAD_BATCH, -1, "a batch is a JSON object");
    if (err == 0) err = jr_each(jr_root(tree), check_member, p);
    if (err == 0) err = get_batch(jr_root(tree), json.n, head, out, p);
    jr_free(tree);
    return err;
}

int batch_from_message(const struct jr *message, size_t text_bytes, struct batch_head *head, struct buf *out, struct problem *p)
{
    *head = (struct batch_head){0};
    if (text_bytes > BATCH_BYTES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a batch may have %u bytes", BATCH_BYTES_MAX);
    int err = jr_each(message, check_message_member, p);
    return err != 0 ? err : get_batch(message, text_bytes, head, out, p);
}

static int check_append_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const known[] = {"type", "stream", "table", "id", "column", "text", "base64", "expect"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(key, known[i])) return 0;
    return problem_set(ctx, ERR_BAD_BATCH, -1, "an append has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

int batch_append_from_message(const struct jr *message, const struct span *data, struct buf *out, struct problem *p)
{
    struct reading r = {.out = out, .p = p};
    struct batch_op op = {.kind = BATCH_APPEND};
    buf_init(&r.scratch, STREAM_APPEND_MAX + 4);
    int err = jr_each(message, check_append_member, p);
    if (err == 0) err = stream_place(&r, message, &op.stream);
    if (err == 0 && data == NULL) err = stream_data(&r, message, &op.stream);
    if (err == 0 && data != NULL && (jr_get(message, "text") != NULL || jr_get(message, "base64") != NULL)) err = bad(&r, "the data is given twice");
    if (err == 0 && data != NULL) op.stream.data = *data;
    if (err == 0) err = stream_expect(&r, message, &op);
    if (err == 0) batch_put_op(out, &op);
    buf_free(&r.scratch);
    return err != 0 ? err : out->err;
}
