// The encoded form of a batch (batch.h). An operation is its kind and its fields, each a varint, 16 bytes of id, or a
// length and bytes; a value is its kind and its content. Nothing is aligned, so a 4-byte token costs few bytes more.
#include "batch.h"

#include <assert.h>
#include <stdlib.h>

#include "cur.h"
#include "err.h"
#include "llm_kind.h"

// ---- encoding ----

static void put_value(struct buf *out, const struct row_value *v)
{
    buf_put_u8(out, (uint8_t)v->kind);
    switch (v->kind) {
    case ROW_NULL: break;
    case ROW_BOOL: buf_put_u8(out, v->b); break;
    case ROW_INT: buf_put_svarint(out, v->i); break;
    case ROW_REAL: buf_put(out, &v->d, sizeof v->d); break;
    case ROW_TEXT:
    case ROW_JSON: buf_put_blob(out, v->s); break;
    }
}

static void put_row(struct buf *out, const struct row_op *op)
{
    assert(op->column_count <= COLUMNS_MAX);
    buf_put_blob(out, op->table);
    buf_put_u8(out, op->has_id);
    if (op->has_id) buf_put(out, op->id.b, sizeof op->id.b);
    buf_put_varint(out, op->column_count);
    for (size_t i = 0; i < op->column_count; i++) {
        buf_put_blob(out, op->columns[i].name);
        put_value(out, &op->columns[i].value);
    }
}

// A stream operation says by these flags which of its members follow; the most common (an append: path and data) needs one byte for them.
enum {
    STREAM_ROW = 1,
    STREAM_TYPE = 2,
    STREAM_DATA = 4,
    STREAM_EXPECT = 8,
    STREAM_MESSAGES = 16,
    STREAM_CLOSE = 32,
    STREAM_PRODUCER = 64,
    STREAM_WRITER_SEQ = 128,
    STREAM_TTL = 256,
    STREAM_EXPIRES = 512,
    STREAM_FORK = 1024,
    STREAM_FORK_OFFSET = 2048,
    STREAM_TO_TAIL = 4096,
    STREAM_FLAGS = 8191,
};

static unsigned stream_flags(const struct batch_stream *s)
{
    unsigned flags = 0;
    if (s->path.n == 0) flags |= STREAM_ROW;
    if (s->type.n > 0) flags |= STREAM_TYPE;
    if (s->data.n > 0) flags |= STREAM_DATA;
    if (s->has_expect) flags |= STREAM_EXPECT;
    if (s->messages) flags |= STREAM_MESSAGES;
    if (s->close) flags |= STREAM_CLOSE;
    if (s->producer.n > 0) flags |= STREAM_PRODUCER;
    if (s->seq.n > 0) flags |= STREAM_WRITER_SEQ;
    if (s->has_ttl) flags |= STREAM_TTL;
    if (s->expires_ms != 0) flags |= STREAM_EXPIRES;
    if (s->fork_of.n > 0) flags |= STREAM_FORK;
    if (s->has_fork_offset) flags |= STREAM_FORK_OFFSET;
    if (s->to_tail) flags |= STREAM_TO_TAIL;
    return flags;
}

static void put_stream(struct buf *out, const struct batch_stream *s)
{
    unsigned flags = stream_flags(s);
    buf_put_varint(out, flags);
    if (flags & STREAM_ROW) {
        buf_put_blob(out, s->table);
        buf_put(out, s->id.b, sizeof s->id.b);
        buf_put_blob(out, s->column);
    } else {
        buf_put_blob(out, s->path);
    }
    if (flags & STREAM_TYPE) buf_put_blob(out, s->type);
    if (flags & STREAM_EXPECT) buf_put_varint(out, s->expect);
    if (flags & STREAM_PRODUCER) {
        buf_put_blob(out, s->producer);
        buf_put_varint(out, s->epoch);
        buf_put_varint(out, s->pseq);
    }
    if (flags & STREAM_WRITER_SEQ) buf_put_blob(out, s->seq);
    if (flags & STREAM_TTL) buf_put_varint(out, s->ttl_s);
    if (flags & STREAM_EXPIRES) buf_put_varint(out, s->expires_ms);
    if (flags & STREAM_FORK) {
        buf_put_blob(out, s->fork_of);
        buf_put_varint(out, s->fork_sub);
    }
    if (flags & STREAM_FORK_OFFSET) buf_put_varint(out, s->fork_offset);
    if (flags & STREAM_DATA) buf_put_blob(out, s->data);
}

static void put_care(struct buf *out, const struct batch_op *op)
{
    buf_put_varint(out, op->care.number);
    if (op->kind == BATCH_TOUCH) buf_put_varint(out, op->care.access_ms);
}

// The number with the flags in one varint; the bytes last, and no more of them than that.
static void put_append_at(struct buf *out, const struct batch_stream *s)
{
    assert(s->number <= UINT64_MAX / 4 && s->path.n == 0 && s->type.n == 0);
    buf_put_varint(out, s->number << 2 | (uint64_t)s->messages << 1 | s->has_expect);
    if (s->has_expect) buf_put_varint(out, s->expect);
    buf_put_blob(out, s->data);
}

static void put_job(struct buf *out, const struct batch_job *j)
{
    buf_put(out, j->id.b, sizeof j->id.b);
    buf_put_u8(out, (uint8_t)((unsigned)j->state | (unsigned)j->make << 4 | (unsigned)j->background << 5 | (unsigned)j->fork << 6));
    if (j->make) {
        buf_put_u8(out, j->api);
        buf_put_u8(out, j->form);
        buf_put_blob(out, j->provider);
        buf_put_blob(out, j->path);
        buf_put_blob(out, j->table);
        buf_put(out, j->row.b, sizeof j->row.b);
        buf_put_blob(out, j->column);
        buf_put_blob(out, j->status_column);
        buf_put_blob(out, j->usage_column);
        buf_put(out, j->request.b, SHA256_BYTES);
        buf_put_blob(out, j->ask);
        buf_put_varint(out, j->start);
    } else if (j->state <= JOB_STREAMING) {
        buf_put_blob(out, j->progress);
    } else {
        buf_put_varint(out, (uint64_t)-j->err);
        buf_put_blob(out, j->text);
        buf_put_blob(out, j->usage);
        buf_put_blob(out, j->finish);
        buf_put_varint(out, j->tokens);
        buf_put_varint(out, j->status);
        buf_put_blob(out, j->successor);
        if (j->successor.n > 0) buf_put(out, j->heir.b, sizeof j->heir.b);
    }
}

static void put_reads(struct buf *out, const struct batch_reads *r)
{
    buf_put_varint(out, r->base);
    buf_put_blob(out, r->set);
    buf_put_blob(out, r->rows);
}

void batch_put_reads_row(struct buf *out, struct span table, struct uuid id)
{
    buf_put_blob(out, table);
    buf_put(out, id.b, sizeof id.b);
}

static void put_branch(struct buf *out, const struct batch_branch *b)
{
    buf_put_u8(out, (uint8_t)b->step);
    buf_put_blob(out, b->name);
    if (b->step == BRANCH_CREATE) {
        buf_put_u8(out, (uint8_t)(b->live | b->has_base << 1));
        if (b->has_base) buf_put_varint(out, b->base);
    }
    if (b->step == BRANCH_WRITE) buf_put_blob(out, b->ops);
}

static void get_branch(struct cur *c, struct batch_branch *b)
{
    uint8_t step = cur_u8(c);
    if (step < BRANCH_CREATE || step > BRANCH_COMMIT) return cur_fail(c);
    b->step = (enum branch_step)step;
    b->name = cur_blob(c);
    if (b->step == BRANCH_CREATE) {
        uint8_t said = cur_u8(c);
        if (said > 3) return cur_fail(c);
        b->live = said & 1;
        b->has_base = said & 2;
        if (b->has_base) b->base = cur_varint(c);
    }
    if (b->step == BRANCH_WRITE) b->ops = cur_blob(c);
}

bool batch_is_transaction(struct span request)
{
    return request.n > 1 && (request.p[0] == BATCH_READS || (request.p[0] == BATCH_BRANCH && request.p[1] == BRANCH_COMMIT));
}

void batch_put_op(struct buf *out, const struct batch_op *op)
{
    buf_put_u8(out, (uint8_t)op->kind);
    switch (op->kind) {
    case BATCH_INSERT:
    case BATCH_UPDATE:
    case BATCH_UPSERT:
    case BATCH_RESTORE:
    case BATCH_DELETE: put_row(out, &op->row); break;
    case BATCH_CREATE:
    case BATCH_APPEND:
    case BATCH_CLOSE:
    case BATCH_DROP:
    case BATCH_TRIM: put_stream(out, &op->stream); break;
    case BATCH_APPEND_AT: put_append_at(out, &op->stream); break;
    case BATCH_TOUCH:
    case BATCH_EXPIRE: put_care(out, op); break;
    case BATCH_SUBSCRIPTION: buf_put_blob(out, op->subscription); break;
    case BATCH_READS: put_reads(out, &op->reads); break;
    case BATCH_BRANCH: put_branch(out, &op->branch); break;
    case BATCH_BLOB:
        buf_put(out, op->blob.digest.b, SHA256_BYTES);
        buf_put_blob(out, op->blob.type);
        buf_put_blob(out, op->blob.manifest);
        break;
    case BATCH_SCHEMA: buf_put_blob(out, op->schema); break;
    case BATCH_JOB: put_job(out, &op->job); break;
    case BATCH_UPLOAD: buf_put_blob(out, op->upload); break;
    case BATCH_BLOB_STEP: buf_put_blob(out, op->step); break;
    case BATCH_HORIZON: buf_put_varint(out, op->horizon); break;
    }
}

// ---- decoding ----

static void get_value(struct cur *c, struct row_value *v)
{
    uint8_t kind = cur_u8(c);
    v->kind = (enum row_value_kind)kind;
    switch (kind) {
    case ROW_NULL: break;
    case ROW_BOOL: v->b = cur_u8(c) != 0; break;
    case ROW_INT: v->i = cur_svarint(c); break;
    case ROW_REAL: {
        struct span s = cur_span(c, sizeof v->d);
        if (s.n == sizeof v->d) memcpy(&v->d, s.p, sizeof v->d);
        break;
    }
    case ROW_TEXT:
    case ROW_JSON: v->s = cur_blob(c); break;
    default: cur_fail(c);
    }
}

static struct uuid get_uuid(struct cur *c)
{
    struct uuid id = {{0}};
    struct span s = cur_span(c, sizeof id.b);
    if (s.n == sizeof id.b) memcpy(id.b, s.p, sizeof id.b);
    return id;
}

static int grow_columns(struct batch_reader *r, size_t n)
{
    if (n <= r->column_cap) return 0;
    struct row_column *columns = realloc(r->columns, n * sizeof *columns);
    if (columns == NULL) return ERR_NOMEM;
    r->columns = columns;
    r->column_cap = n;
    return 0;
}

static int get_row(struct batch_reader *r, struct cur *c, struct row_op *op)
{
    op->table = cur_blob(c);
    op->has_id = cur_u8(c) != 0;
    if (op->has_id) op->id = get_uuid(c);
    uint64_t n = cur_varint(c);
    if (n > COLUMNS_MAX) cur_fail(c);
    if (c->err != 0) return c->err;
    int err = grow_columns(r, n);
    if (err != 0) return err;
    for (size_t i = 0; i < n; i++) {
        r->columns[i].name = cur_blob(c);
        get_value(c, &r->columns[i].value);
    }
    op->columns = r->columns;
    op->column_count = n;
    return 0;
}

static void get_stream_place(struct cur *c, struct batch_stream *s, unsigned flags)
{
    if (flags & STREAM_ROW) {
        s->table = cur_blob(c);
        s->id = get_uuid(c);
        s->column = cur_blob(c);
        return;
    }
    s->path = cur_blob(c);
    if (s->path.n == 0) cur_fail(c);
}

static void get_stream(struct cur *c, struct batch_stream *s)
{
    uint64_t said = cur_varint(c);
    if (said > STREAM_FLAGS) return cur_fail(c);
    unsigned flags = (unsigned)said;
    get_stream_place(c, s, flags);
    s->messages = flags & STREAM_MESSAGES;
    s->close = flags & STREAM_CLOSE;
    s->to_tail = flags & STREAM_TO_TAIL;
    s->has_expect = flags & STREAM_EXPECT;
    s->has_ttl = flags & STREAM_TTL;
    s->has_fork_offset = flags & STREAM_FORK_OFFSET;
    if (flags & STREAM_TYPE) s->type = cur_blob(c);
    if (flags & STREAM_EXPECT) s->expect = cur_varint(c);
    if (flags & STREAM_PRODUCER) {
        s->producer = cur_blob(c);
        s->epoch = cur_varint(c);
        s->pseq = cur_varint(c);
    }
    if (flags & STREAM_WRITER_SEQ) s->seq = cur_blob(c);
    if (flags & STREAM_TTL) s->ttl_s = cur_varint(c);
    if (flags & STREAM_EXPIRES) s->expires_ms = cur_varint(c);
    if (flags & STREAM_FORK) {
        s->fork_of = cur_blob(c);
        s->fork_sub = cur_varint(c);
    }
    if (flags & STREAM_FORK_OFFSET) s->fork_offset = cur_varint(c);
    if (flags & STREAM_DATA) s->data = cur_blob(c);
    if (stream_flags(s) != flags) cur_fail(c); // a member that says nothing: equal operations are equal bytes
}

static void get_care(struct cur *c, struct batch_op *op)
{
    op->care.number = cur_varint(c);
    if (op->kind == BATCH_TOUCH) op->care.access_ms = cur_varint(c);
}

static void get_append_at(struct cur *c, struct batch_stream *s)
{
    uint64_t word = cur_varint(c);
    s->number = word >> 2;
    s->messages = word & 2;
    s->has_expect = word & 1;
    if (s->has_expect) s->expect = cur_varint(c);
    s->data = cur_blob(c);
}

static void get_digest(struct cur *c, struct sha256 *digest)
{
    struct span s = cur_span(c, SHA256_BYTES);
    if (s.n == SHA256_BYTES) memcpy(digest->b, s.p, SHA256_BYTES);
}

static void get_job_made(struct cur *c, struct batch_job *j)
{
    j->api = cur_u8(c);
    j->form = cur_u8(c);
    j->provider = cur_blob(c);
    j->path = cur_blob(c);
    j->table = cur_blob(c);
    j->row = get_uuid(c);
    j->column = cur_blob(c);
    j->status_column = cur_blob(c);
    j->usage_column = cur_blob(c);
    get_digest(c, &j->request);
    j->ask = cur_blob(c);
    j->start = cur_varint(c);
    if (j->api < LLM_CHAT || j->api > LLM_MESSAGES || j->form < LLM_FORM_TEXT || j->form > LLM_FORM_UI) cur_fail(c);
}

static void get_job_ended(struct cur *c, struct batch_job *j)
{
    uint64_t err = cur_varint(c);
    j->text = cur_blob(c);
    j->usage = cur_blob(c);
    j->finish = cur_blob(c);
    j->tokens = cur_varint(c);
    uint64_t status = cur_varint(c);
    j->successor = cur_blob(c);
    if (j->successor.n > 0) j->heir = get_uuid(c);
    if (err > 1000 || status > 999) return cur_fail(c);
    j->err = -(int)err;
    j->status = (uint32_t)status;
}

static void get_job(struct cur *c, struct batch_job *j)
{
    j->id = get_uuid(c);
    uint8_t bits = cur_u8(c), state = bits & 15;
    j->state = (enum job_state)state;
    j->make = bits >> 4 & 1;
    j->background = bits >> 5 & 1;
    j->fork = bits >> 6 & 1;
    if (state < JOB_QUEUED || state > JOB_INTERRUPTED || bits >> 7 || (j->make && state > JOB_CONNECTING)) return cur_fail(c);
    if (j->make)
        get_job_made(c, j);
    else if (state <= JOB_STREAMING)
        j->progress = cur_blob(c);
    else
        get_job_ended(c, j);
}

static void get_reads(struct cur *c, struct batch_reads *r)
{
    r->base = cur_varint(c);
    r->set = cur_blob(c);
    r->rows = cur_blob(c);
}

int batch_reads_row(struct span *rows, struct span *table, struct uuid *id)
{
    struct cur c;
    if (rows->n == 0) return 0;
    cur_init(&c, *rows);
    struct span name = cur_blob(&c);
    struct uuid row = get_uuid(&c);
    if (c.err != 0) return c.err;
    *table = name;
    *id = row;
    *rows = SPAN(c.p, cur_left(&c));
    return 1;
}

void batch_reader_init(struct batch_reader *r, struct span request)
{
    *r = (struct batch_reader){.rest = request};
}

static enum row_op_kind row_kind(enum batch_op_kind kind)
{
    switch (kind) {
    case BATCH_UPDATE: return ROW_UPDATE;
    case BATCH_DELETE: return ROW_DELETE;
    case BATCH_UPSERT: return ROW_UPSERT;
    case BATCH_RESTORE: return ROW_RESTORE;
    default: return ROW_INSERT;
    }
}

int batch_read(struct batch_reader *r, struct batch_op *out)
{
    if (r->rest.n == 0) return 0;
    struct cur c;
    int err = 0;
    cur_init(&c, r->rest);
    memset(out, 0, sizeof *out);
    out->kind = (enum batch_op_kind)cur_u8(&c);
    switch (out->kind) {
    case BATCH_INSERT:
    case BATCH_UPDATE:
    case BATCH_UPSERT:
    case BATCH_RESTORE:
    case BATCH_DELETE:
        out->row.kind = row_kind(out->kind);
        err = get_row(r, &c, &out->row);
        break;
    case BATCH_CREATE:
    case BATCH_APPEND:
    case BATCH_CLOSE:
    case BATCH_DROP:
    case BATCH_TRIM: get_stream(&c, &out->stream); break;
    case BATCH_APPEND_AT: get_append_at(&c, &out->stream); break;
    case BATCH_TOUCH:
    case BATCH_EXPIRE: get_care(&c, out); break;
    case BATCH_SUBSCRIPTION: out->subscription = cur_blob(&c); break;
    case BATCH_READS: get_reads(&c, &out->reads); break;
    case BATCH_BRANCH: get_branch(&c, &out->branch); break;
    case BATCH_BLOB:
        get_digest(&c, &out->blob.digest);
        out->blob.type = cur_blob(&c);
        out->blob.manifest = cur_blob(&c);
        break;
    case BATCH_SCHEMA: out->schema = cur_blob(&c); break;
    case BATCH_JOB: get_job(&c, &out->job); break;
    case BATCH_UPLOAD: out->upload = cur_blob(&c); break;
    case BATCH_BLOB_STEP: out->step = cur_blob(&c); break;
    case BATCH_HORIZON: out->horizon = cur_varint(&c); break;
    default: cur_fail(&c);
    }
    if (err == 0) err = c.err;
    if (err != 0) return err;
    r->rest = SPAN(c.p, (size_t)(c.end - c.p));
    return 1;
}

void batch_reader_free(struct batch_reader *r)
{
    free(r->columns);
    *r = (struct batch_reader){0};
}
