// Deciding and applying: where the three stores meet. Deciding is a pure function of the app's state and the entry: no
// clock, no randomness, no I/O but reads of the state. An accepted entry holds its complete effects, so applying never
// asks a question again.
#include <assert.h>

#include "app_internal.h"
#include "batch_reads.h"
#include "bug.h"
#include "err.h"
#include "preview.h"
#include "read_set.h"

#define ROW_STREAM_TYPE "text/plain; charset=utf-8"

// ---- what the rows ask of the other two stores, while deciding ----

static int host_stream_create(void *ctx, struct span path, struct problem *p)
{
    struct decision *d = ctx;
    bool created;
    return streams_decide_create(d->streams, &(struct stream_create){.path = path, .type = SPAN_LIT(ROW_STREAM_TYPE), .owned = true}, &created, NULL, p);
}

static int host_stream_delete(void *ctx, struct span path, struct problem *p)
{
    struct decision *d = ctx;
    return streams_decide_delete(d->streams, path, p);
}

static int host_blob_known(void *ctx, const struct sha256 *digest, struct problem *p)
{
    struct decision *d = ctx;
    struct blob_info info;
    if (blobs_decide_find(d->blobs, digest, &info)) return 0;
    if (db_txn_err(d->app->txn) != 0) return db_txn_err(d->app->txn);
    return problem_set(p, ERR_BLOB_NOT_FOUND, -1, "no blob has this digest: upload it first");
}

static int host_blob_link(void *ctx, const struct sha256 *digest, struct problem *p)
{
    struct decision *d = ctx;
    return blobs_decide_link(d->blobs, digest, p);
}

static int host_blob_release(void *ctx, const struct sha256 *digest, struct problem *p)
{
    struct decision *d = ctx;
    return blobs_decide_release(d->blobs, digest, p);
}

void decision_init(struct decision *d, struct app *a)
{
    *d = (struct decision){.app = a};
    buf_init(&d->results, ENTRY_BYTES_MAX);
    buf_init(&d->row_effects, ENTRY_BYTES_MAX);
    buf_init(&d->stream_effects, ENTRY_BYTES_MAX);
    buf_init(&d->blob_effects, ENTRY_BYTES_MAX);
    buf_init(&d->job_effects, ENTRY_BYTES_MAX);
    buf_init(&d->sub_effects, ENTRY_BYTES_MAX);
    buf_init(&d->branch_effects, ENTRY_BYTES_MAX);
    buf_init(&d->branch_ops, 2 * BATCH_BYTES_MAX);
}

static void decision_end(struct decision *d)
{
    rows_batch_free(d->rows);
    streams_batch_free(d->streams);
    blobs_batch_free(d->blobs);
    d->rows = NULL;
    d->streams = NULL;
    d->blobs = NULL;
}

void decision_free(struct decision *d)
{
    decision_end(d);
    read_set_free(d->reads);
    buf_free(&d->results);
    buf_free(&d->row_effects);
    buf_free(&d->stream_effects);
    buf_free(&d->blob_effects);
    buf_free(&d->job_effects);
    buf_free(&d->sub_effects);
    buf_free(&d->branch_effects);
    buf_free(&d->branch_ops);
}

static int decision_begin(struct decision *d, const struct commit *c)
{
    struct app *a = d->app;
    d->host = a->host;
    d->host.ctx = d;
    d->host.stream_create = host_stream_create;
    d->host.stream_delete = host_stream_delete;
    d->host.blob_known = host_blob_known;
    d->host.blob_link = host_blob_link;
    d->host.blob_release = host_blob_release;
    d->problem = PROBLEM_NONE;
    read_set_free(d->reads);
    d->reads = NULL;
    buf_clear(&d->results);
    buf_clear(&d->row_effects);
    buf_clear(&d->stream_effects);
    buf_clear(&d->blob_effects);
    buf_clear(&d->job_effects);
    buf_clear(&d->sub_effects);
    buf_clear(&d->branch_effects);
    d->branch_ids = 0;
    d->job_steps = 0;
    d->rows = rows_decide(a->rows, a->txn, c, &d->host);
    d->streams = streams_decide(a->streams, a->txn, c);
    d->blobs = blobs_decide(a->blobs, a->txn, c);
    return d->rows != NULL && d->streams != NULL && d->blobs != NULL ? 0 : ERR_NOMEM;
}

// ---- one operation ----

static int decide_row(struct decision *d, const struct batch_op *op, uint32_t index)
{
    struct uuid id;
    int err = rows_decide_op(d->rows, &op->row, &id, &d->problem);
    if (err == 0 && !op->row.has_id) result_put(&d->results, &(struct result){.op = index, .kind = RESULT_ID, .id = id});
    return err;
}

static bool reserved(struct span path)
{
    return span_starts(path, "rows/");
}

static int decide_create(struct decision *d, const struct batch_stream *s, uint32_t index)
{
    struct stream_create op = {
        .path = s->path,
        .type = s->type,
        .closed = s->close,
        .data = s->data,
        .messages = s->messages,
        .has_ttl = s->has_ttl,
        .ttl_s = s->ttl_s,
        .expires_ms = s->expires_ms,
        .fork_of = s->fork_of,
        .has_fork_offset = s->has_fork_offset,
        .fork_offset = s->fork_offset,
        .fork_sub = s->fork_sub,
    };
    struct result r = {.op = index, .kind = RESULT_CREATED, .closed = s->close};
    int err = streams_decide_create(d->streams, &op, &r.created, &r.offset, &d->problem);
    if (err == 0) result_put(&d->results, &r);
    return err;
}

static int decide_append(struct decision *d, struct span path, const struct batch_stream *s, uint32_t index)
{
    struct stream_append op = {
        .path = path,
        .type = s->type,
        .data = s->data,
        .messages = s->messages,
        .close = s->close,
        .has_expect = s->has_expect,
        .expect = s->expect,
        .seq = s->seq,
        .producer = s->producer,
        .epoch = s->epoch,
        .pseq = s->pseq,
    };
    struct stream_appended done;
    int err = streams_decide_append(d->streams, &op, &done, &d->problem);
    if (err != 0) return err;
    result_put(&d->results, &(struct result){.op = index, .kind = RESULT_OFFSET, .offset = done.offset, .closed = done.closed});
    if (!done.has_producer) return 0;
    result_put(&d->results,
               &(struct result){.op = index, .kind = RESULT_PRODUCER, .epoch = done.epoch, .seq = done.pseq, .duplicate = done.duplicate});
    return 0;
}

static int decide_close(struct decision *d, struct span path, uint32_t index)
{
    struct result r = {.op = index, .kind = RESULT_OFFSET, .closed = true};
    int err = streams_decide_close(d->streams, path, &r.offset, &d->problem);
    if (err == 0) result_put(&d->results, &r);
    return err;
}

static int decide_trim(struct decision *d, struct span path, const struct batch_stream *s, uint32_t index)
{
    struct result r = {.op = index, .kind = RESULT_OFFSET, .closed = s->close};
    int err = streams_decide_trim(d->streams, path, s->expect, s->to_tail, s->data, s->messages, s->close, &r.offset, &d->problem);
    if (err == 0) result_put(&d->results, &r);
    return err;
}

static int decide_stream(struct decision *d, const struct batch_op *op, uint32_t index)
{
    const struct batch_stream *s = &op->stream;
    uint8_t room[STREAM_PATH_MAX];
    struct buf made = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct span path = s->path;
    if (op->kind == BATCH_APPEND_AT) {
        if (!streams_path_of(d->app->streams, d->app->txn, s->number, &made))
            return problem_set(&d->problem, ERR_STREAM_NOT_FOUND, index, "there is no stream with the number %llu", (unsigned long long)s->number);
        path = buf_span(&made);
    } else if (path.n == 0) {
        rows_stream_path(&made, s->table, s->id, s->column); // names and id always fit
        path = buf_span(&made);
    }
    int err = 0;
    if (span_is(path, "__ds") || span_starts(path, "__ds/")) return problem_set(&d->problem, ERR_RESERVED_PATH, index, "streams under __ds/ are the protocol's own");
    if (reserved(path)) {
        if (op->kind == BATCH_CREATE || op->kind == BATCH_DROP) return problem_set(&d->problem, ERR_RESERVED_PATH, index, "streams under rows/ come and go with their rows");
        err = rows_decide_stream(d->rows, path, op->kind == BATCH_CLOSE || s->close, &d->problem);
    }
    if (err != 0) return err;
    switch (op->kind) {
    case BATCH_CREATE: return decide_create(d, s, index);
    case BATCH_DROP: return streams_decide_delete(d->streams, path, &d->problem);
    case BATCH_CLOSE: return decide_close(d, path, index);
    case BATCH_TRIM: return decide_trim(d, path, s, index);
    default: return decide_append(d, path, s, index);
    }
}

// A new job needs a stream that can be written; the steps of one need nothing: it must be able to end whatever became of its row.
static int decide_job(struct decision *d, const struct batch_job *op, const struct entry *e)
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct stream_info info;
    // One that ends and one that takes its place may come together; of each one there is one step, for they are decided on the same state.
    if (d->job_steps == 2 || (d->job_steps == 1 && uuid_equal(d->job, op->id)))
        return problem_set(&d->problem, ERR_BAD_BATCH, -1, "a batch has one step of a job");
    d->job_steps++;
    d->job = op->id;
    if (op->make) {
        struct job target = {.path = op->path, .table = op->table, .row = op->row, .column = op->column};
        job_path(&path, &target);
        int err = path.err != 0 ? ERR_BAD_VALUE : 0;
        if (err == 0 && op->path.n == 0) err = rows_decide_stream(d->rows, buf_span(&path), false, &d->problem);
        if (err != 0) return err;
        if (!streams_decide_find(d->streams, buf_span(&path), &info)) return problem_set(&d->problem, ERR_STREAM_NOT_FOUND, -1, "there is no such stream");
        if (info.closed) return problem_set(&d->problem, ERR_STREAM_CLOSED, -1, "the stream is closed at offset %llu", (unsigned long long)info.offset);
    }
    struct batch_job step = *op;
    if (op->make) step.start = info.offset; // nobody else can know where its reply begins
    return jobs_decide(d->app->txn, TABLE_JOBS, &step, &e->identity, &e->commit, &d->job_effects, &d->problem);
}

static bool batch_find(void *ctx, struct span path, struct stream_info *out)
{
    struct decision *d = ctx;
    return streams_decide_find(d->streams, path, out);
}

static bool state_find_at(void *ctx, struct span path, uint64_t seq, struct stream_info *out)
{
    struct decision *d = ctx;
    return streams_find_at(d->app->streams, d->app->txn, path, seq, out);
}

static int batch_append(void *ctx, struct span path, struct span message, struct problem *p)
{
    struct decision *d = ctx;
    return streams_decide_append(d->streams, &(struct stream_append){.path = path, .data = message, .messages = true}, NULL, p);
}

static int decide_subscription(struct decision *d, struct span op, const struct entry *e)
{
    struct subs_host host = {.ctx = d, .find = batch_find, .find_at = state_find_at, .append = batch_append};
    if (d->sub_effects.n > 0) return problem_set(&d->problem, ERR_BAD_BATCH, -1, "a batch has one step of a subscription");
    return subs_decide(d->app->txn, TABLE_SUBS, &host, op, &e->commit, &d->sub_effects, &d->problem);
}

// What a transaction read stands before its operations and is none of them.
static int collect_reads(struct decision *d, const struct batch_reads *op, struct read_set *set)
{
    struct span rows = op->rows, table;
    struct uuid id;
    int got, err = op->set.n > 0 ? read_set_decode(set, op->set) : 0;
    if (err == ERR_CORRUPT) return problem_set(&d->problem, ERR_BAD_VALUE, -1, "what the transaction has read is damaged");
    while (err == 0 && (got = batch_reads_row(&rows, &table, &id)) != 0) {
        if (got < 0) return got;
        uint32_t no = rows_table_number(d->app->rows, table);
        if (no == 0) return problem_set(&d->problem, ERR_NO_SUCH_TABLE, -1, "there is no table %.*s", SPAN_FMT(table));
        read_set_row(set, no, id);
    }
    return err == 0 ? read_set_finish(set) : err;
}

// Is what d->reads holds as it was at the base?
static int check_reads(struct decision *d, uint64_t base)
{
    struct rows_conflicts conflicts = {.n = 0};
    int err = rows_decide_reads(d->rows, base, d->reads, &conflicts, &d->problem);
    for (size_t i = 0; i < conflicts.n; i++)
        result_put(&d->results, &(struct result){.kind = RESULT_CONFLICT, .conflict = conflicts.list[i]});
    return err;
}

static int decide_reads(struct decision *d, const struct batch_reads *op)
{
    d->reads = read_set_new();
    int err = d->reads == NULL ? ERR_NOMEM : collect_reads(d, op, d->reads);
    return err == 0 ? check_reads(d, op->base) : err;
}
static bool lower(void *ctx, const struct branch *b)
{
    uint64_t *upto = ctx;
    if (b->base < *upto) *upto = b->base;
    return true;
}

// A branch keeps the history that it stands on, also one that came to be after somebody thought that this may go.
static int decide_horizon(struct decision *d, uint64_t upto)
{
    int err = branches_each(d->app->txn, TABLE_BRANCHES, lower, &upto);
    return err == 0 ? rows_decide_horizon(d->rows, upto, &d->problem) : err;
}

static int decide_op(struct decision *d, const struct batch_op *op, const struct entry *e, uint32_t index);

// ---- branches ----

// As random as the batch's seed, and the same in every replay.
static struct uuid branch_row_id(struct decision *d, const struct commit *c)
{
    uint8_t in[sizeof c->seed + 9] = {[sizeof c->seed] = 'b'};
    uint64_t index = d->branch_ids++;
    memcpy(in, c->seed, sizeof c->seed);
    for (int i = 0; i < 8; i++)
        in[sizeof c->seed + 1 + (size_t)i] = (uint8_t)(index >> i * 8);
    struct sha256 h = sha256_of(SPAN(in, sizeof in));
    return uuid_v7(c->arrival_ms, h.b);
}

static bool names_id(const struct row_op *op)
{
    for (size_t i = 0; i < op->column_count; i++)
        if (span_is(op->columns[i].name, "id")) return true;
    return op->has_id;
}

// What was written to a branch, laid over what it lies on, in d->app's state.
static int branch_lay_over(struct decision *d, const struct branch *b, const struct commit *c, struct rows_preview **out)
{
    struct app *a = d->app;
    struct rows_preview *v = rows_preview_new(a->rows, a->txn, b->live ? c->seq - 1 : b->base, b->base, c->arrival_ms);
    int err = v == NULL ? ERR_NOMEM : app_branch_lay(a, b, v, &d->problem);
    if (err == 0) *out = v;
    else rows_preview_free(v);
    return err;
}

// Its operations with the ids of their inserts, each checked as it is laid over the others.
static int branch_take(struct decision *d, struct rows_preview *v, struct span ops, const struct commit *c, uint32_t *count)
{
    struct batch_reader reader;
    struct batch_op op;
    int err = 0, got;
    buf_clear(&d->branch_ops);
    batch_reader_init(&reader, ops);
    for (*count = 0; err == 0 && (got = batch_read(&reader, &op)) != 0; ++*count) {
        if (got < 0) err = got;
        else if (!batch_op_is_row(op.kind)) err = problem_set(&d->problem, ERR_BAD_VALUE, *count, "a branch takes operations on rows alone");
        if (err == 0 && op.kind == BATCH_INSERT && !names_id(&op.row)) {
            op.row.has_id = true;
            op.row.id = branch_row_id(d, c);
            result_put(&d->results, &(struct result){.op = *count, .kind = RESULT_ID, .id = op.row.id});
        }
        if (err == 0) err = rows_preview_op(v, d->app->txn, &op.row, &d->problem);
        if (err == 0) batch_put_op(&d->branch_ops, &op);
        if (err != 0) problem_set(&d->problem, err, *count, "%s", err_text(err));
        if (err != 0 && d->problem.position < 0) d->problem.position = *count;
    }
    batch_reader_free(&reader);
    return err == 0 ? d->branch_ops.err : err;
}

static int branch_write(struct decision *d, const struct branch *b, struct span ops, const struct commit *c)
{
    struct rows_preview *v;
    uint32_t count = 0;
    int err = branch_lay_over(d, b, c, &v);
    if (err != 0) return err;
    rows_preview_time(v, c->arrival_ms);
    err = branch_take(d, v, ops, c, &count);
    if (err == 0) err = branches_decide_write(b, buf_span(&d->branch_ops), count, &d->branch_effects, &d->problem);
    rows_preview_free(v);
    return err;
}

// All that was written to it, as if this batch had said so; as a transaction that has read, at the branch's base, every row that it writes.
static int branch_merge(struct decision *d, const struct branch *b, const struct entry *e)
{
    struct branch_write w;
    uint32_t index = 0;
    int err = 0;
    if (e->commit.transaction) {
        d->reads = read_set_new();
        err = d->reads == NULL ? ERR_NOMEM : app_branch_rows(d->app, b, d->reads);
        if (err == 0) err = check_reads(d, b->base);
    } else {
        rows_decide_base(d->rows, b->base);
    }
    for (uint64_t i = 0; i < b->writes && err == 0; i++) {
        struct batch_reader reader;
        struct batch_op op;
        int got = 0;
        err = branch_write_at(d->app->txn, TABLE_BRANCHES, b, i, &w);
        if (err != 0) break;
        batch_reader_init(&reader, w.ops);
        while (err == 0 && (got = batch_read(&reader, &op)) > 0)
            err = batch_op_is_row(op.kind) ? decide_op(d, &op, e, index++) : ERR_CORRUPT;
        batch_reader_free(&reader);
        if (err == 0) err = got;
    }
    if (err == 0) branches_decide_drop(b, &d->branch_effects);
    return err;
}

static int decide_branch(struct decision *d, const struct batch_branch *op, const struct entry *e)
{
    struct branch b;
    if (d->branch_effects.n > 0) return problem_set(&d->problem, ERR_BAD_BATCH, -1, "a batch has one step of a branch");
    int kept = op->step == BRANCH_CREATE && op->has_base ? rows_not_too_old(d->app->rows, op->base, &d->problem) : 0;
    if (kept != 0) return kept;
    if (op->step == BRANCH_CREATE) return branches_decide_create(d->app->txn, TABLE_BRANCHES, op, &e->commit, &d->branch_effects, &d->problem);
    int found = branches_find(d->app->txn, TABLE_BRANCHES, op->name, &b);
    if (found <= 0) return found < 0 ? found : problem_set(&d->problem, ERR_NO_SUCH_BRANCH, -1, "there is no branch %.*s", SPAN_FMT(op->name));
    switch (op->step) {
    case BRANCH_WRITE: return branch_write(d, &b, op->ops, &e->commit);
    case BRANCH_MERGE:
    case BRANCH_COMMIT: return branch_merge(d, &b, e);
    default: branches_decide_drop(&b, &d->branch_effects); return 0;
    }
}

static int decide_op(struct decision *d, const struct batch_op *op, const struct entry *e, uint32_t index)
{
    int err;
    switch (op->kind) {
    case BATCH_INSERT:
    case BATCH_UPDATE:
    case BATCH_UPSERT:
    case BATCH_RESTORE:
    case BATCH_DELETE: err = decide_row(d, op, index); break;
    case BATCH_BLOB: err = blobs_decide_store(d->blobs, &op->blob.digest, op->blob.type, op->blob.manifest, &d->problem); break;
    case BATCH_SCHEMA: err = rows_decide_schema(d->rows, op->schema, &d->problem); break;
    case BATCH_HORIZON: err = decide_horizon(d, op->horizon); break;
    case BATCH_BLOB_STEP: err = blobs_decide_step(d->blobs, op->step, &d->problem); break;
    case BATCH_UPLOAD: err = blobs_decide_upload(d->blobs, op->upload, &d->problem); break;
    case BATCH_JOB: err = decide_job(d, &op->job, e); break;
    case BATCH_TOUCH: err = streams_decide_touch(d->streams, op->care.number, op->care.access_ms); break;
    case BATCH_EXPIRE: err = streams_decide_expire(d->streams, op->care.number); break;
    case BATCH_SUBSCRIPTION: err = decide_subscription(d, op->subscription, e); break;
    case BATCH_BRANCH: err = decide_branch(d, &op->branch, e); break;
    case BATCH_READS: err = problem_set(&d->problem, ERR_BAD_BATCH, index, "what a transaction read comes first"); break;
    default: err = decide_stream(d, op, index); break;
    }
    // The operation's place is the position, unless something more exact is known (a place in the SQL text).
    if (err != 0) problem_set(&d->problem, err, index, "%s", err_text(err));
    if (err != 0 && d->problem.position < 0) d->problem.position = index;
    return err;
}

// ---- the batch ----

static int check_clocks(struct decision *d, const struct entry *e)
{
    const struct commit *c = &e->commit;
    if (e->stamp_said != 0 && hlc_ms(e->stamp_said) > c->arrival_ms + STAMP_AHEAD_MS_MAX)
        return problem_set(&d->problem, ERR_STAMP_AHEAD, -1, "the stamp is more than %d s ahead of the service's clock", STAMP_AHEAD_MS_MAX / 1000);
    if (e->base_said > d->app->applied_seq) return problem_set(&d->problem, ERR_BASE_AHEAD, -1, "base %llu has not been given out", (unsigned long long)e->base_said);
    return 0;
}

static int decide_ops(struct decision *d, const struct entry *e)
{
    struct batch_reader reader;
    struct batch_op op;
    int err = 0;
    batch_reader_init(&reader, e->commit.request);
    int got = batch_read(&reader, &op);
    if (got > 0 && op.kind == BATCH_READS) {
        err = decide_reads(d, &op.reads);
        if (err == 0) got = batch_read(&reader, &op);
    }
    for (uint32_t index = 0; err == 0 && got > 0; index++) {
        err = decide_op(d, &op, e, index);
        if (err == 0) got = batch_read(&reader, &op);
        if (bug("half_batch") && index == 2 && e->name.kind != BATCH_UNNAMED) got = 0;
    }
    if (err == 0 && got < 0) err = got;
    batch_reader_free(&reader);
    return err == 0 ? rows_decide_end(d->rows, &d->problem) : err;
}

static int collect_effects(struct decision *d, struct span request)
{
    rows_decide_effects(d->rows, &d->row_effects);
    streams_decide_effects(d->streams, &d->stream_effects);
    blobs_decide_effects(d->blobs, &d->blob_effects);
    const struct buf *all[] = {&d->results, &d->row_effects, &d->stream_effects, &d->blob_effects, &d->job_effects, &d->sub_effects, &d->branch_effects};
    size_t n = request.n + 1024;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->err == ERR_NOMEM) return ERR_NOMEM;
        n += all[i]->n;
        if (all[i]->err != 0) n = SIZE_MAX / 8;
    }
    return n <= ENTRY_BYTES_MAX ? 0 : problem_set(&d->problem, ERR_BATCH_TOO_LARGE, -1, "the batch and its effects are larger than %u bytes", ENTRY_BYTES_MAX);
}

// Is this a refusal that belongs to the batch for ever, or a fault of the machine that says nothing about it?
static bool is_fault(int err)
{
    return err == ERR_NOMEM || err == ERR_IO || err == ERR_CORRUPT || err == ERR_NO_SPACE || err == ERR_MAP_FULL || err == ERR_INTERNAL;
}

int app_decide(struct app *a, struct entry *e)
{
    struct decision *d = &a->decision;
    e->commit.seq = a->applied_seq + 1;
    e->commit.transaction = batch_is_transaction(e->commit.request);
    int err = decision_begin(d, &e->commit);
    if (err == 0) err = check_clocks(d, e);
    if (err == 0) err = decide_ops(d, e);
    if (err == 0) err = collect_effects(d, e->commit.request);
    if (err == 0) e->commit.stamp = rows_decide_stamp(d->rows);
    decision_end(d);
    if (db_txn_err(a->txn) != 0) return db_txn_err(a->txn);
    if (is_fault(err)) return err;
    e->fate = (struct fate){.err = err, .journaled = true, .problem = PROBLEM_NONE};
    e->rows = e->streams = e->blobs = e->jobs = e->subs = e->branches = SPAN_NONE;
    if (err != 0) {
        problem_set(&d->problem, err, -1, "%s", err_text(err));
        e->fate.problem = d->problem;
        e->fate.problem.err = err;
        if (err == ERR_CONFLICT) e->fate.results = buf_span(&d->results);
        e->commit.seq = 0;
        return 0;
    }
    e->fate.seq = e->commit.seq;
    e->fate.results = buf_span(&d->results);
    e->rows = buf_span(&d->row_effects);
    e->streams = buf_span(&d->stream_effects);
    e->blobs = buf_span(&d->blob_effects);
    e->jobs = buf_span(&d->job_effects);
    e->subs = buf_span(&d->sub_effects);
    e->branches = buf_span(&d->branch_effects);
    return 0;
}

// ---- applying ----

// Who made a commit stands beside it in the entry.
static struct commit signed_commit(const struct entry *e)
{
    struct commit c = e->commit;
    c.transaction = batch_is_transaction(c.request);
    c.author = SPAN_STR(e->identity.name);
    if (e->name.kind == BATCH_REPLICA) c.counter = e->name.counter;
    if (e->name.kind == BATCH_KEY) c.key = SPAN_STR(e->name.key);
    return c;
}

static int apply_effects(struct app *a, const struct entry *e)
{
    struct commit signed_one = signed_commit(e);
    const struct commit *c = &signed_one;
    int err = 0;
    if (c->seq != a->applied_seq + 1) return ERR_CORRUPT;
    // Blobs and streams before rows: a row that is shown can name them.
    if (e->blobs.n > 0) err = blobs_apply(a->blobs, a->txn, c, e->blobs);
    if (err == 0 && e->streams.n > 0) err = streams_apply(a->streams, a->txn, c, e->streams);
    if (err == 0 && e->rows.n > 0) err = rows_apply(a->rows, a->txn, c, e->rows);
    if (err == 0 && e->jobs.n > 0) err = jobs_apply(a->txn, TABLE_JOBS, c, e->jobs);
    if (err == 0 && e->subs.n > 0) err = subs_apply(a->txn, TABLE_SUBS, e->subs);
    if (err == 0 && e->branches.n > 0) err = branches_apply(a->txn, TABLE_BRANCHES, c, e->branches);
    if (err == 0 && e->streams.n > 0) err = seq_times_note(&a->seq_times, a->txn, TABLE_SEQ_TIMES, c);
    if (err != 0) return err;
    a->branches_changed |= e->branches.n > 0;
    a->rows_changed |= e->rows.n > 0;
    a->applied_seq = c->seq;
    a->commit_ms = c->arrival_ms;
    hlc_observe(&a->clock, c->stamp);
    return 0;
}

int app_apply(struct app *a, const struct entry *e)
{
    int err = e->fate.err == 0 ? apply_effects(a, e) : 0;
    if (err == 0 && e->name.kind != BATCH_UNNAMED)
        err = fates_settle(a->txn, TABLE_FATES, &e->name, &e->identity, fates_content(e->commit.request, e->base_said, e->stamp_said), &e->commit, &e->fate);
    if (err != 0) return err;
    a->arrival_ms = e->commit.arrival_ms;
    return db_txn_err(a->txn);
}

// ---- deciding again ----

static int redecide_entry(struct app *a, struct entry *was, struct problem *p)
{
    struct entry is = *was;
    struct buf x, y;
    int err = app_decide(a, &is);
    if (err != 0) return err;
    buf_init(&x, ENTRY_BYTES_MAX + KIB);
    buf_init(&y, ENTRY_BYTES_MAX + KIB);
    entry_put(&x, &(struct entry_place){0}, was);
    entry_put(&y, &(struct entry_place){0}, &is);
    if (x.err != 0 || y.err != 0) err = ERR_NOMEM;
    else if (!span_equal(buf_span(&x), buf_span(&y)))
        err = problem_set(p, ERR_CORRUPT, (int64_t)a->applied_seq, "the entry behind commit %llu is decided otherwise here", (unsigned long long)a->applied_seq);
    buf_free(&x);
    buf_free(&y);
    return err != 0 ? err : app_apply(a, &is);
}

int app_redecide(struct app *a, struct span group, struct problem *p)
{
    struct entry e;
    struct entry_reader reader;
    a->applied_group++;
    entry_reader_init(&reader, group);
    for (;;) {
        int got = entry_read(&reader, &e);
        if (got < 0) return problem_set(p, got, (int64_t)a->applied_seq, "an entry behind commit %llu is damaged", (unsigned long long)a->applied_seq);
        if (got == 0) break;
        e.commit.group = a->applied_group;
        int err = redecide_entry(a, &e, p);
        if (err != 0) return err;
    }
    rows_publish(a->rows, a->txn, a->applied_seq);
    streams_publish(a->streams, a->applied_seq);
    blobs_publish(a->blobs, a->applied_seq);
    a->visible_seq = a->applied_seq;
    return 0;
}

int app_state_hash(struct app *a, struct sha256 *out)
{
    struct digest *d = digest_new();
    if (d == NULL) return ERR_NOMEM;
    int err = rows_hash(a->rows, a->txn, d);
    if (err == 0) err = streams_hash(a->streams, a->txn, d);
    if (err == 0) err = blobs_hash(a->blobs, a->txn, d);
    if (err == 0) err = db_hash(a->txn, TABLE_FATES, d);
    if (err == 0) err = db_hash(a->txn, TABLE_JOBS, d);
    if (err == 0) err = db_hash(a->txn, TABLE_SUBS, d);
    if (err == 0) err = db_hash(a->txn, TABLE_BRANCHES, d);
    if (err == 0) err = db_hash(a->txn, TABLE_SEQ_TIMES, d);
    if (err == 0) *out = digest_final(d);
    digest_free(d);
    return err;
}
