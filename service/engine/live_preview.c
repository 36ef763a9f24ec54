#include "live_preview.h"

#include "err.h"
#include "file.h"
#include "json_read.h"

static int known_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    if (span_is(key, "ops") || span_is(key, "base") || span_is(key, "now")) return 0;
    return problem_set(ctx, ERR_BAD_PARAMETER, -1, "a preview has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

static int take_number(const struct jr *json, const char *name, uint64_t otherwise, uint64_t *out, struct problem *p)
{
    const struct jr *n = jr_get(json, name);
    *out = otherwise;
    if (n == NULL) return 0;
    if (jr_type(n) != JR_INT || jr_int(n, -1) < 0) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"%s\" of a preview is a whole number from 0", name);
    *out = (uint64_t)jr_int(n, 0);
    return 0;
}

// Looked at again and again, they have to be of the same rows each time.
static int check_ops(struct span ops, struct problem *p)
{
    struct batch_reader reader;
    struct batch_op op;
    int err = 0, got = 0;
    batch_reader_init(&reader, ops);
    for (int64_t i = 0; err == 0 && (got = batch_read(&reader, &op)) > 0; i++) {
        if (!batch_op_is_row(op.kind)) err = problem_set(p, ERR_BAD_PARAMETER, i, "a preview is made of operations on rows");
        else if (!op.row.has_id) err = problem_set(p, ERR_BAD_PARAMETER, i, "inserts of a live preview name their id");
    }
    batch_reader_free(&reader);
    return err != 0 ? err : got;
}

int live_preview_from_json(const struct jr *json, size_t text_bytes, struct buf *ops, struct live_preview *out, struct problem *p)
{
    size_t count = 0;
    bool inserts;
    if (jr_type(json) != JR_OBJECT) return problem_set(p, ERR_BAD_PARAMETER, -1, "a preview is an object with \"ops\"");
    int err = jr_each(json, known_member, p);
    if (err == 0) err = take_number(json, "base", 0, &out->base, p);
    if (err == 0) err = take_number(json, "now", clock_wall_ms(), &out->now_ms, p);
    if (err == 0) err = batch_ops_from_json(jr_get(json, "ops"), text_bytes, false, &count, &inserts, ops, p);
    if (err == 0 && count == 0) err = problem_set(p, ERR_BAD_PARAMETER, -1, "a preview has at least one operation");
    if (err == 0) err = check_ops(buf_span(ops), p);
    out->ops = buf_span(ops);
    return err;
}
