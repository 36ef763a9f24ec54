// A batch's JSON (PROTOCOL.md, "batch") into its encoded form. What is checked here is form alone: whether tables, columns
// and types exist is for deciding, because that answer is a fate and this one is not.
#include <stdlib.h>

#include "base64.h"
#include "batch_reads.h"
#include "err.h"
#include "json_lines.h"
#include "json_read.h"

#define SCRATCH_MAX (2 * BATCH_BYTES_MAX)

// Where in the batch we are, for the problem.
struct reading {
    struct buf *out;
    struct buf scratch; // canonical JSON of values, decoded base64: of one operation
    struct problem *p;
    int64_t op;
    bool inserts;
    bool give_ids; // inserts that name none get one now
};

static const char *const op_names[] = {
    [BATCH_INSERT] = "insert", [BATCH_UPDATE] = "update", [BATCH_DELETE] = "delete", [BATCH_CREATE] = "create",
    [BATCH_APPEND] = "append", [BATCH_CLOSE] = "close",   [BATCH_DROP] = "drop",
    [BATCH_TRIM] = "trim",     [BATCH_UPSERT] = "upsert", [BATCH_RESTORE] = "restore",
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
    if (r->give_ids && !row->has_id && jr_get(values, "id") == NULL) {
        row->has_id = true;
        row->id = uuid_new();
    }
    bool valueless = out->kind == BATCH_DELETE || out->kind == BATCH_RESTORE;
    if (valueless ? values != NULL : values != NULL && jr_type(values) != JR_OBJECT) return bad(r, "\"values\" is not an object, or out of place");
    if ((out->kind == BATCH_UPDATE || out->kind == BATCH_UPSERT) && values == NULL) return bad(r, "\"values\" is missing");
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

static int too_much(struct reading *r)
{
    return problem_set(r->p, ERR_TOO_LARGE, r->op, "operation %lld: an append may have %u bytes", (long long)r->op, STREAM_APPEND_MAX);
}

// Each element becomes a message of its own: canonical text, with what stands behind a message in a JSON stream.
static int stream_messages(struct reading *r, const struct jr *list, struct batch_stream *s)
{
    size_t from = r->scratch.n;
    if (jr_type(list) != JR_ARRAY) return bad(r, "\"messages\" is not an array");
    for (size_t i = 0; i < jr_count(list); i++) {
        int err = jr_canonical(jr_at(list, i), &r->scratch);
        if (err != 0) return problem_set(r->p, err, r->op, "operation %lld: a message is too large", (long long)r->op);
        buf_put_str(&r->scratch, JSON_LINE_END);
    }
    if (r->scratch.err != 0) return too_much(r);
    s->messages = true;
    s->data = SPAN(r->scratch.p + from, r->scratch.n - from);
    return 0;
}

static int stream_bytes(struct reading *r, const struct jr *text, const struct jr *base64, struct batch_stream *s)
{
    if (jr_type(text != NULL ? text : base64) != JR_STRING) return bad(r, "the data is not a string");
    s->data = jr_str(text);
    if (base64 == NULL) return 0;
    size_t from = r->scratch.n;
    if (base64_decode(&r->scratch, jr_str(base64)) != 0) return bad(r, "\"base64\" is not base64");
    s->data = SPAN(r->scratch.p + from, r->scratch.n - from);
    return 0;
}

// The data, if any.
static int stream_data(struct reading *r, const struct jr *op, struct batch_stream *s, bool *given)
{
    const struct jr *text = jr_get(op, "text"), *base64 = jr_get(op, "base64"), *messages = jr_get(op, "messages");
    int forms = (text != NULL) + (base64 != NULL) + (messages != NULL);
    *given = forms > 0;
    if (forms > 1) return bad(r, "the data is given twice: \"text\", \"base64\" or \"messages\"");
    if (forms == 0) return 0;
    int err = messages != NULL ? stream_messages(r, messages, s) : stream_bytes(r, text, base64, s);
    return err == 0 && s->data.n > STREAM_APPEND_MAX ? too_much(r) : err;
}

static int stream_type(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    const struct jr *type = jr_get(op, "type");
    if (type == NULL) return 0;
    s->type = jr_str(type);
    return s->type.n == 0 || s->type.n > STREAM_TYPE_MAX ? bad(r, "\"type\" is not a content type") : 0;
}

// A number from 0 on, where it is given.
static int stream_number(struct reading *r, const struct jr *of, const char *key, bool *has, uint64_t *out)
{
    const struct jr *n = jr_get(of, key);
    if (has != NULL) *has = n != NULL;
    if (n == NULL) return 0;
    if (jr_type(n) != JR_INT || jr_int(n, -1) < 0)
        return problem_set(r->p, ERR_BAD_BATCH, r->op, "operation %lld: \"%s\" is not a number from 0", (long long)r->op, key);
    *out = (uint64_t)jr_int(n, 0);
    return 0;
}

static int stream_flag(struct reading *r, const struct jr *op, const char *key, bool *out)
{
    const struct jr *flag = jr_get(op, key);
    if (flag != NULL && jr_type(flag) != JR_BOOL)
        return problem_set(r->p, ERR_BAD_BATCH, r->op, "operation %lld: \"%s\" is true or false", (long long)r->op, key);
    *out = jr_bool(flag, false);
    return 0;
}

// Objects inside an operation have these members and no others.
struct members {
    struct reading *r;
    const char *const *known;
};

static int check_inner(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    struct members *m = ctx;
    for (const char *const *known = m->known; *known != NULL; known++)
        if (span_is(key, *known)) return 0;
    return problem_set(m->r->p, ERR_BAD_BATCH, m->r->op, "operation %lld: there is no member \"%.*s\" here", (long long)m->r->op, SPAN_FMT(span_sub(key, 0, 60)));
}

static int stream_producer(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    static const char *const known[] = {"id", "epoch", "seq", NULL};
    const struct jr *producer = jr_get(op, "producer");
    bool epoch = false, seq = false;
    if (producer == NULL) return 0;
    if (jr_type(producer) != JR_OBJECT) return bad(r, "\"producer\" is not an object");
    int err = jr_each(producer, check_inner, &(struct members){r, known});
    s->producer = jr_str(jr_get(producer, "id"));
    if (err == 0 && (s->producer.n == 0 || s->producer.n > STREAM_PRODUCER_ID_MAX)) err = bad(r, "a producer's \"id\" has 1 to 200 bytes");
    if (err == 0) err = stream_number(r, producer, "epoch", &epoch, &s->epoch);
    if (err == 0) err = stream_number(r, producer, "seq", &seq, &s->pseq);
    return err == 0 && !(epoch && seq) ? bad(r, "a producer has an \"id\", an \"epoch\" and a \"seq\"") : err;
}

static int stream_fork(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    static const char *const known[] = {"from", "offset", "sub", NULL};
    const struct jr *fork = jr_get(op, "fork");
    if (fork == NULL) return 0;
    if (jr_type(fork) != JR_OBJECT) return bad(r, "\"fork\" is not an object");
    int err = jr_each(fork, check_inner, &(struct members){r, known});
    s->fork_of = jr_str(jr_get(fork, "from"));
    if (err == 0 && (s->fork_of.n == 0 || s->fork_of.n > STREAM_PATH_MAX)) err = bad(r, "\"from\" is not a path of 1 to 400 bytes");
    if (err == 0) err = stream_number(r, fork, "offset", &s->has_fork_offset, &s->fork_offset);
    if (err == 0) err = stream_number(r, fork, "sub", NULL, &s->fork_sub);
    return err == 0 && s->fork_sub > 0 && !s->has_fork_offset ? bad(r, "\"sub\" needs an \"offset\"") : err;
}

static int stream_create(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    bool given, expires;
    int err = stream_data(r, op, s, &given);
    if (err == 0) err = stream_flag(r, op, "closed", &s->close);
    if (err == 0) err = stream_number(r, op, "ttl", &s->has_ttl, &s->ttl_s);
    if (err == 0) err = stream_number(r, op, "expires", &expires, &s->expires_ms);
    if (err == 0 && expires && s->expires_ms == 0) err = bad(r, "\"expires\" is in milliseconds since 1970");
    return err == 0 ? stream_fork(r, op, s) : err;
}

static int stream_append(struct reading *r, const struct jr *op, const struct span *data, struct batch_stream *s)
{
    const struct jr *seq = jr_get(op, "seq");
    bool given;
    int err = stream_data(r, op, s, &given);
    if (err == 0 && data != NULL && given) err = bad(r, "the data is given twice");
    if (err == 0) err = stream_flag(r, op, "close", &s->close);
    if (err == 0 && data == NULL && !given && !s->close) err = bad(r, "one of \"text\", \"base64\" and \"messages\" is needed, or \"close\"");
    if (err == 0) err = stream_number(r, op, "expect", &s->has_expect, &s->expect);
    if (err == 0) err = stream_producer(r, op, s);
    s->seq = jr_str(seq);
    if (err == 0 && seq != NULL && (s->seq.n == 0 || s->seq.n > STREAM_SEQ_MAX)) err = bad(r, "\"seq\" is a string of 1 to 256 bytes");
    if (data != NULL) s->data = *data;
    return err;
}

static int stream_trim(struct reading *r, const struct jr *op, struct batch_stream *s)
{
    bool given;
    int err = stream_data(r, op, s, &given);
    if (err == 0) err = stream_number(r, op, "before", &s->has_expect, &s->expect);
    if (err == 0) err = stream_flag(r, op, "tail", &s->to_tail);
    if (err == 0) err = stream_flag(r, op, "close", &s->close);
    return err == 0 && s->has_expect == s->to_tail ? bad(r, "a trim goes to \"before\" or to the \"tail\"") : err;
}

static int stream_op(struct reading *r, const struct jr *op, struct batch_op *out)
{
    struct batch_stream *s = &out->stream;
    int err = stream_place(r, op, s);
    if (err == 0) err = stream_type(r, op, s);
    if (err == 0 && out->kind == BATCH_CREATE) err = stream_create(r, op, s);
    if (err == 0 && out->kind == BATCH_APPEND) err = stream_append(r, op, NULL, s);
    if (err == 0 && out->kind == BATCH_TRIM) err = stream_trim(r, op, s);
    if (err == 0) batch_put_op(r->out, out);
    return err;
}

// ---- the batch ----

struct op_check {
    struct reading *r;
    enum batch_op_kind kind;
};

#define WHERE "op", "stream", "table", "id", "column"
#define APPEND "text", "base64", "messages", "expect", "close", "seq", "producer"

// A misspelt member would silently mean less than its writer meant.
static int check_op_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const rows[] = {"op", "table", "id", "values", NULL};
    static const char *const create[] = {WHERE, "type", "text", "base64", "messages", "closed", "ttl", "expires", "fork", NULL};
    static const char *const append[] = {WHERE, "type", APPEND, NULL};
    static const char *const trim[] = {WHERE, "before", "tail", "text", "base64", "messages", "close", NULL};
    static const char *const place[] = {WHERE, NULL};
    struct op_check *c = ctx;
    const char *const *known = batch_op_is_row(c->kind) ? rows : c->kind == BATCH_CREATE ? create : c->kind == BATCH_APPEND ? append : c->kind == BATCH_TRIM ? trim : place;
    for (; *known != NULL; known++)
        if (span_is(key, *known)) return 0;
    return problem_set(c->r->p, ERR_BAD_BATCH, c->r->op, "operation %lld: it has no member \"%.*s\"", (long long)c->r->op, SPAN_FMT(span_sub(key, 0, 60)));
}

static int get_op(struct reading *r, const struct jr *op)
{
    if (jr_type(op) != JR_OBJECT) return bad(r, "not an object");
    struct span name = jr_str(jr_get(op, "op"));
    struct batch_op out = {0};
    for (int k = BATCH_INSERT; k <= BATCH_RESTORE; k++)
        if (op_names[k] != NULL && span_is(name, op_names[k])) out.kind = (enum batch_op_kind)k;
    buf_clear(&r->scratch);
    if (out.kind == 0) return bad(r, "\"op\" is none of insert, update, upsert, delete, restore, create, append, close, drop, trim");
    r->inserts |= out.kind == BATCH_INSERT || out.kind == BATCH_UPSERT;
    int err = jr_each(op, check_op_member, &(struct op_check){r, out.kind});
    if (err == 0) err = batch_op_is_row(out.kind) ? row_op(r, op, &out) : stream_op(r, op, &out);
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

int batch_name_from_message(const struct jr *message, struct batch_name *name, struct problem *p)
{
    *name = (struct batch_name){.kind = BATCH_UNNAMED};
    int err = get_name(message, name, p);
    if (err == 0 && name->kind == BATCH_UNNAMED) err = problem_set(p, ERR_BAD_BATCH, -1, "a batch is named by \"replica\" and \"counter\", or by \"key\"");
    return err;
}

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const known[] = {"replica", "counter", "key", "base", "stamp", "mode", "reads", "rows", "branch", "ops"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(key, known[i])) return 0;
    return problem_set(ctx, ERR_BAD_BATCH, -1, "a batch has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

static int check_message_member(void *ctx, struct span key, const struct jr *value)
{
    return span_is(key, "type") || span_is(key, "id") ? 0 : check_member(ctx, key, value);
}

int batch_ops_from_json(const struct jr *ops, size_t text_bytes, bool give_ids, size_t *count, bool *inserts, struct buf *out, struct problem *p)
{
    struct reading r = {.out = out, .p = p, .give_ids = give_ids};
    int err = 0;
    *count = jr_count(ops);
    if (ops != NULL && jr_type(ops) != JR_ARRAY) return problem_set(p, ERR_BAD_BATCH, -1, "\"ops\" is an array");
    if (*count > BATCH_OPS_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a batch may have %d operations", BATCH_OPS_MAX);
    // The scratch must not move while values point into it: all of it is reserved before. Canonical text is longer than what came
    // where numbers are (1e14 is written out): by less than four times.
    buf_init(&r.scratch, 4 * text_bytes < SCRATCH_MAX ? 4 * text_bytes : SCRATCH_MAX);
    if (buf_reserve(&r.scratch, r.scratch.max) == NULL) err = problem_set(p, ERR_NOMEM, -1, "no memory for the batch");
    for (size_t i = 0; i < *count && err == 0; i++) {
        r.op = (int64_t)i;
        err = get_op(&r, jr_at(ops, i));
    }
    *inserts = r.inserts;
    buf_free(&r.scratch);
    return err;
}

int batch_name_from_json(const struct jr *batch, struct batch_name *name, struct problem *p)
{
    *name = (struct batch_name){.kind = BATCH_UNNAMED};
    return get_name(batch, name, p);
}

// What it read stands before a transaction's operations. Its base is part of that, and its stamp the service's to make: above all that it may overwrite.
static int get_mode(const struct jr *root, struct batch_head *head, struct buf *out, struct problem *p)
{
    const struct jr *mode = jr_get(root, "mode");
    head->transaction = span_is(jr_str(mode), "transaction");
    if (mode != NULL && !head->transaction && !span_is(jr_str(mode), "merge")) return problem_set(p, ERR_BAD_BATCH, -1, "\"mode\" is \"merge\" or \"transaction\"");
    if (!head->transaction)
        return jr_get(root, "reads") == NULL && jr_get(root, "rows") == NULL ? 0 : problem_set(p, ERR_BAD_BATCH, -1, "\"reads\" and \"rows\" are a transaction's");
    if (jr_get(root, "base") == NULL) return problem_set(p, ERR_BAD_BATCH, -1, "a transaction has a \"base\"");
    if (jr_get(root, "stamp") != NULL) return problem_set(p, ERR_BAD_BATCH, -1, "a transaction has no \"stamp\"");
    int err = batch_reads_from_json(root, head->base, out, p);
    head->base = 0;
    return err;
}

// What is written to a branch is one operation of its batch: it keeps the others.
static int get_branch(const struct jr *root, size_t text_bytes, struct batch_head *head, struct buf *out, struct problem *p)
{
    struct span name = jr_str(jr_get(root, "branch"));
    struct buf ops;
    if (name.n == 0 || name.n > NAME_MAX_BYTES) return problem_set(p, ERR_BAD_BATCH, -1, "\"branch\" is a name");
    if (head->transaction || jr_get(root, "base") != NULL || jr_get(root, "stamp") != NULL)
        return problem_set(p, ERR_BAD_BATCH, -1, "what is written to a branch has no \"mode\", \"base\" or \"stamp\": merging it has");
    buf_init(&ops, 2 * BATCH_BYTES_MAX);
    int err = batch_ops_from_json(jr_get(root, "ops"), text_bytes, false, &head->ops, &head->inserts, &ops, p);
    if (err == 0) batch_put_op(out, &(struct batch_op){.kind = BATCH_BRANCH, .branch = {.step = BRANCH_WRITE, .name = name, .ops = buf_span(&ops)}});
    buf_free(&ops);
    return err == 0 && out->err != 0 ? problem_set(p, out->err, -1, "the batch is too large") : err;
}

static int get_batch(const struct jr *root, size_t text_bytes, struct batch_head *head, struct buf *out, struct problem *p)
{
    int err = get_name(root, &head->name, p);
    if (err == 0) err = get_number(root, "base", &head->base, p);
    if (err == 0) err = get_number(root, "stamp", &head->stamp, p);
    if (err == 0) err = get_mode(root, head, out, p);
    if (err != 0) return err;
    const struct jr *ops = jr_get(root, "ops");
    if (jr_type(ops) != JR_ARRAY || (jr_count(ops) == 0 && !head->transaction)) return problem_set(p, ERR_BAD_BATCH, -1, "\"ops\" is an array of at least one operation");
    if (jr_get(root, "branch") != NULL) return get_branch(root, text_bytes, head, out, p);
    return batch_ops_from_json(ops, text_bytes, false, &head->ops, &head->inserts, out, p);
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
    static const char *const known[] = {"type", "stream", "table", "id", "column", APPEND};
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
    if (err == 0) err = stream_append(&r, message, data, &op.stream);
    if (err == 0) batch_put_op(out, &op);
    buf_free(&r.scratch);
    return err != 0 ? err : out->err;
}
