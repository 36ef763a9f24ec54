// Names of rows that have no id of their own: what stays the same of a row from one run of a query to the next.
#include <assert.h>

#include "base64.h"
#include "err.h"
#include "exec.h"

static bool has_digest(const struct select *s)
{
    return s->grouped || s->distinct;
}

void run_digest(struct span values, uint8_t digest[RUN_DIGEST_BYTES])
{
    struct sha256 whole = sha256_of(values);
    memcpy(digest, whole.b, RUN_DIGEST_BYTES);
}

static void put_digest(struct buf *out, struct span values)
{
    uint8_t digest[RUN_DIGEST_BYTES];
    run_digest(values, digest);
    buf_put(out, digest, sizeof digest);
}

// Equal values are equal bytes, so a distinct row is named by what it shows.
static int distinct_key(struct run *run, const struct select *s, struct buf *out)
{
    struct buf values;
    int err = 0;
    buf_init(&values, QUERY_MEMORY_MAX);
    for (size_t i = 0; i < s->target_count && !err; i++) {
        struct value v;
        err = run_eval(run, s->targets[i].expr, &v);
        if (!err) value_key(&values, &s->targets[i].expr->type, &v);
    }
    if (!err) err = values.err;
    if (!err) put_digest(out, buf_span(&values));
    buf_free(&values);
    return err;
}

void run_rows_key(const struct run *run, uint64_t slots, struct buf *out)
{
    for (uint32_t slot = 0; slot < run->plan->table_slots; slot++) {
        const struct expr_row *row = &run->rows[slot];
        if (!(slots >> slot & 1)) continue;
        buf_put_u8(out, row->row != NULL);
        if (row->row) buf_put(out, row->id.b, sizeof row->id.b);
    }
}

int run_key(struct run *run, struct buf *out)
{
    const struct select *s = run->plan->top;
    if (s->distinct) return distinct_key(run, s, out);
    if (s->grouped) put_digest(out, exec_group_key(run->top));
    else run_rows_key(run, s->own, out);
    return out->err;
}

void run_key_text(const struct select *s, struct span key, struct buf *out)
{
    char text[UUID_TEXT];
    struct uuid id;
    if (has_digest(s)) {
        base64url_encode(out, key);
        return;
    }
    for (size_t at = 0; at < key.n; at++) {
        if (at > 0) buf_put_u8(out, '.');
        if (key.p[at] == 0) continue; // a left join found no row
        assert(key.n - at > sizeof id.b);
        memcpy(id.b, key.p + at + 1, sizeof id.b);
        uuid_format(id, text);
        buf_put(out, text, UUID_TEXT);
        at += sizeof id.b;
    }
}
