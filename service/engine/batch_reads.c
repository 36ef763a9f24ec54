#include "batch_reads.h"

#include <assert.h>

#include "base64.h"
#include "cur.h"
#include "err.h"
#include "json_read.h"
#include "preview.h"

#define TOKEN_FORMAT 1
#define TOKEN_MAX (READ_SET_MAX + 16)

// ---- tokens --------------------------------------------------------------------------------------------------------

void reads_token_put(struct buf *out, uint64_t at, const struct read_set *set)
{
    struct buf b;
    buf_init(&b, TOKEN_MAX);
    buf_put_u8(&b, TOKEN_FORMAT);
    buf_put_varint(&b, at);
    read_set_encode(set, &b);
    if (b.err == 0) base64url_encode(out, buf_span(&b));
    else out->err = out->err != 0 ? out->err : b.err;
    buf_free(&b);
}

int reads_token_take(struct span text, struct read_set *set, uint64_t *at)
{
    struct buf b;
    struct cur c;
    if (text.n == 0 || text.n > 2 * TOKEN_MAX) return ERR_BAD_VALUE;
    buf_init(&b, TOKEN_MAX);
    int err = base64url_decode(&b, text);
    cur_init(&c, buf_span(&b));
    if (err == 0 && cur_u8(&c) != TOKEN_FORMAT) err = ERR_BAD_VALUE;
    uint64_t seq = cur_varint(&c);
    if (err == 0) err = c.err != 0 ? c.err : read_set_decode(set, cur_span(&c, cur_left(&c)));
    buf_free(&b);
    if (err != 0) return err == ERR_NOMEM ? err : ERR_BAD_VALUE;
    *at = seq;
    return 0;
}

// ---- a batch's members ---------------------------------------------------------------------------------------------

// A read from before the base says nothing about the base; one from behind it holds for the base too, if nothing changes what it read.
static int take_tokens(const struct jr *list, uint64_t base, struct read_set *set, struct problem *p)
{
    if (list != NULL && jr_type(list) != JR_ARRAY) return problem_set(p, ERR_BAD_BATCH, -1, "\"reads\" is an array");
    for (size_t i = 0; i < jr_count(list); i++) {
        uint64_t at = 0;
        int err = reads_token_take(jr_str(jr_at(list, i)), set, &at);
        if (err == ERR_NOMEM) return err;
        if (err != 0) return problem_set(p, ERR_BAD_BATCH, -1, "\"reads\" %zu is not what a query gave", i);
        if (at < base)
            return problem_set(p, ERR_BAD_BATCH, -1, "\"reads\" %zu is of seq %llu: the base is behind it", i, (unsigned long long)at);
    }
    return 0;
}

static int take_rows(const struct jr *list, struct buf *out, struct problem *p)
{
    if (list != NULL && jr_type(list) != JR_ARRAY) return problem_set(p, ERR_BAD_BATCH, -1, "\"rows\" is an array");
    for (size_t i = 0; i < jr_count(list); i++) {
        const struct jr *row = jr_at(list, i);
        struct span table = jr_str(jr_at(row, 0));
        struct uuid id;
        if (jr_type(row) != JR_ARRAY || jr_count(row) != 2 || table.n == 0 || table.n > NAME_MAX_BYTES || uuid_parse(&id, jr_str(jr_at(row, 1))) != 0)
            return problem_set(p, ERR_BAD_BATCH, -1, "\"rows\" %zu is not [table, id]", i);
        batch_put_reads_row(out, table, id);
    }
    return out->err == ERR_TOO_LARGE ? problem_set(p, ERR_TOO_LARGE, -1, "a transaction may name %u bytes of rows", READ_SET_MAX) : out->err;
}

static int put_reads(struct read_set *set, uint64_t base, struct span rows, struct buf *out, struct problem *p)
{
    struct buf bytes;
    size_t n;
    buf_init(&bytes, READ_SET_MAX);
    int err = read_set_finish(set);
    if (err == 0) {
        read_set_groups(set, &n);
        if (n > 0) read_set_encode(set, &bytes);
        err = bytes.err;
    }
    struct batch_op op = {.kind = BATCH_READS, .reads = {.base = base, .set = buf_span(&bytes), .rows = rows}};
    if (err == 0) batch_put_op(out, &op);
    buf_free(&bytes);
    if (err == 0 && out->err != 0) err = problem_set(p, out->err, -1, "the batch is too large");
    return err;
}

int batch_reads_from_set(const struct jr *batch, struct read_set *set, uint64_t base, struct buf *out, struct problem *p)
{
    struct buf rows;
    buf_init(&rows, READ_SET_MAX);
    int err = take_rows(jr_get(batch, "rows"), &rows, p);
    if (err == 0) err = put_reads(set, base, buf_span(&rows), out, p);
    buf_free(&rows);
    return err == ERR_NOMEM ? problem_set(p, err, -1, "no memory for the batch") : err;
}

int batch_reads_from_json(const struct jr *batch, uint64_t base, struct buf *out, struct problem *p)
{
    struct read_set *set = read_set_new();
    int err = set == NULL ? problem_set(p, ERR_NOMEM, -1, "no memory for the batch") : take_tokens(jr_get(batch, "reads"), base, set, p);
    if (err == 0) err = batch_reads_from_set(batch, set, base, out, p);
    read_set_free(set);
    return err;
}

int batch_preview(struct rows_preview *v, struct db_txn *txn, struct span ops, struct problem *p)
{
    struct batch_reader reader;
    struct batch_op op;
    int err = 0, got;
    batch_reader_init(&reader, ops);
    for (int64_t i = 0; err == 0 && (got = batch_read(&reader, &op)) != 0; i++) {
        if (got < 0) err = got;
        else if (batch_op_is_row(op.kind)) err = rows_preview_op(v, txn, &op.row, p);
        if (err == 0) continue;
        problem_set(p, err, i, "%s", err_text(err));
        if (p != NULL && p->position < 0) p->position = i;
    }
    batch_reader_free(&reader);
    return err;
}
