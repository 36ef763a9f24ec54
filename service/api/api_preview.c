// POST /apps/<app>/preview {"rows":[[table,id],…],"batches":[batch,…]}: what rows would be if these batches came now. Nothing is applied.
#include "api.h"
#include "err.h"
#include "file.h"
#include "hlc.h"
#include "json_read.h"
#include "json_write.h"

struct preview {
    struct request *r;
    struct rows_pending *v;
    uint64_t seq;
    struct buf encoded; // the batch at hand
    struct buf b;
    struct jw w;
    struct problem p;
};

// The operations on rows of the batch at hand; the others are passed by.
static int decide_ops(struct preview *k, struct rows_batch *b, struct problem *p)
{
    struct batch_reader reader;
    struct batch_op op;
    int err = 0, got = 1;
    batch_reader_init(&reader, buf_span(&k->encoded));
    for (int64_t index = 0; err == 0 && (got = batch_read(&reader, &op)) > 0;) {
        if (op.kind == BATCH_READS) continue;
        if (batch_op_is_row(op.kind)) err = rows_decide_op(b, &op.row, NULL, p);
        if (err != 0) problem_set(p, err, index, "%s", err_text(err));
        if (err != 0 && p->position < 0) p->position = index;
        index++;
    }
    batch_reader_free(&reader);
    return err != 0 ? err : got;
}

static void tell_fate(struct preview *k, int err, const struct problem *p)
{
    jw_object(&k->w);
    jw_key(&k->w, "fate"), jw_cstr(&k->w, err == 0 ? "accepted" : "rejected");
    if (err != 0) {
        jw_key(&k->w, "code"), jw_cstr(&k->w, err_wire(err));
        jw_key(&k->w, "detail"), jw_cstr(&k->w, problem_text(p));
        if (p->position >= 0) jw_key(&k->w, "position"), jw_int(&k->w, p->position);
    }
    jw_end(&k->w);
}

// What does not decode as a batch refuses the preview; what would be rejected is told, and counts for nothing.
static int preview_batch(struct preview *k, const struct jr *json)
{
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    uint64_t now = clock_wall_ms();
    buf_clear(&k->encoded);
    if (jr_type(json) != JR_OBJECT) return problem_set(&k->p, ERR_BAD_BATCH, -1, "a batch is a JSON object");
    int err = batch_from_message(json, k->r->body.n, &head, &k->encoded, &k->p);
    if (err != 0) return err;
    struct commit c = {.arrival_ms = now,
                       .base = head.base != 0 ? head.base : k->seq,
                       .stamp = head.stamp != 0 ? head.stamp : hlc_stamp(now, 0),
                       .transaction = head.transaction};
    if (head.name.kind == BATCH_REPLICA) c.writer = head.name.replica;
    random_bytes(c.seed, sizeof c.seed);
    struct rows_batch *b = rows_pending_begin(k->v, &c);
    if (b == NULL) return ERR_NOMEM;
    if (head.base > k->seq) err = problem_set(&p, ERR_BASE_AHEAD, -1, "%s", err_text(ERR_BASE_AHEAD));
    if (err == 0) err = decide_ops(k, b, &p);
    err = rows_pending_end(k->v, err, &p);
    if (err == ERR_NOMEM || err == ERR_IO || err == ERR_CORRUPT) return err;
    tell_fate(k, err, &p);
    return 0;
}

static int preview_batches(struct preview *k, const struct jr *batches)
{
    int err = 0;
    if (batches != NULL && jr_type(batches) != JR_ARRAY) return problem_set(&k->p, ERR_BAD_REQUEST, -1, "\"batches\" is not an array");
    if (jr_count(batches) > PREVIEW_BATCHES_MAX)
        return problem_set(&k->p, ERR_TOO_LARGE, -1, "a preview takes at most %d batches", PREVIEW_BATCHES_MAX);
    jw_key(&k->w, "batches"), jw_array(&k->w);
    for (size_t i = 0; i < jr_count(batches) && err == 0; i++)
        err = preview_batch(k, jr_at(batches, i));
    jw_end(&k->w);
    return err;
}

static int preview_rows(struct preview *k, const struct jr *rows)
{
    int err = 0;
    if (jr_type(rows) != JR_ARRAY || jr_count(rows) == 0) return problem_set(&k->p, ERR_BAD_REQUEST, -1, "\"rows\" is an array of [table, id]");
    if (jr_count(rows) > PREVIEW_ROWS_MAX) return problem_set(&k->p, ERR_TOO_LARGE, -1, "a preview shows at most %d rows", PREVIEW_ROWS_MAX);
    jw_key(&k->w, "rows"), jw_array(&k->w);
    for (size_t i = 0; i < jr_count(rows) && err == 0; i++) {
        const struct jr *row = jr_at(rows, i);
        struct uuid id;
        if (jr_count(row) != 2 || uuid_parse(&id, jr_str(jr_at(row, 1))) != 0)
            return problem_set(&k->p, ERR_BAD_REQUEST, -1, "\"rows\" is an array of [table, id]");
        err = rows_pending_row(k->v, jr_str(jr_at(row, 0)), id, &k->w, &k->p);
        if (err == 0) err = k->b.err;
    }
    jw_end(&k->w);
    return err;
}

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    if (span_is(key, "rows") || span_is(key, "batches")) return 0;
    return problem_set(ctx, ERR_BAD_REQUEST, -1, "a preview has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

static int preview(struct preview *k, struct db_txn *txn)
{
    struct jr_tree *tree = NULL;
    int err = jr_parse(&tree, buf_span(&k->r->body), &k->p);
    if (err == 0 && jr_type(jr_root(tree)) != JR_OBJECT) err = problem_set(&k->p, ERR_BAD_REQUEST, -1, "a preview is asked for by an object");
    if (err == 0) err = jr_each(jr_root(tree), check_member, &k->p);
    if (err == 0) k->v = rows_pending_new(app_rows(k->r->app), txn, k->seq);
    if (err == 0 && k->v == NULL) err = ERR_NOMEM;
    jw_init(&k->w, &k->b);
    jw_object(&k->w);
    jw_key(&k->w, "seq"), jw_uint(&k->w, k->seq);
    if (err == 0) err = preview_batches(k, jr_get(jr_root(tree), "batches"));
    if (err == 0) err = preview_rows(k, jr_get(jr_root(tree), "rows"));
    jw_end(&k->w);
    rows_pending_free(k->v);
    jr_free(tree);
    return err != 0 ? err : k->b.err;
}

static void preview_begin(struct request *r)
{
    struct preview k = {.r = r, .seq = app_visible(r->app), .p = PROBLEM_NONE};
    struct db_txn *txn = app_txn(r->app);
    buf_init(&k.encoded, 2 * BATCH_BYTES_MAX);
    buf_init(&k.b, QUERY_RESULT_MAX);
    int err = txn == NULL ? ERR_BUSY : preview(&k, txn);
    if (err == 0) {
        reply_json(r, 200, &k.b);
    } else {
        problem_set(&k.p, err, -1, "%s", err_text(err));
        reply_problem(r, &k.p);
    }
    buf_free(&k.encoded);
    buf_free(&k.b);
}

const struct handler api_preview_post = {.begin = preview_begin, .body_max = BATCH_BYTES_MAX};
