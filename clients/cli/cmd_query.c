// segue query: a select's rows, as a table or as lines of JSON, or how the service goes about it.
#include <stdlib.h>

#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "table.h"

// ---- the request -----------------------------------------------------------------------------------------------

static int ask(struct cli *c)
{
    const struct cli_options *o = c->options;
    uint64_t as_of = 0;
    if (o->as_of != NULL) {
        size_t digits = strspn(o->as_of, "0123456789");
        if (digits == 0 || digits > 19 || o->as_of[digits] != 0) return cli_usage("--as-of is the number of a commit");
        as_of = strtoull(o->as_of, NULL, 10);
    }
    const struct segue_query_options what = {
        .sql = o->args[0], .params = o->args + 1, .param_count = o->arg_count - 1, .as_of = o->as_of != NULL ? &as_of : NULL,
        .explain = o->explain, .branch = o->branch};
    return cli_ended(c, segue_query(c->segue, &what), SPAN_STR(o->args[0]));
}

// ---- the plan --------------------------------------------------------------------------------------------------

static void put_way(const struct jr *t, struct buf *out)
{
    struct span by = jr_str(jr_get(t, "by")), index = jr_str(jr_get(t, "index")), range = jr_str(jr_get(t, "range"));
    buf_printf(out, "by %.*s", SPAN_FMT(by));
    if (index.n > 0) buf_printf(out, " %.*s", SPAN_FMT(index));
    if (jr_get(t, "equal") != NULL) buf_printf(out, ", %lld equal", (long long)jr_int(jr_get(t, "equal"), 0));
    if (jr_get(t, "each") != NULL) buf_put_str(out, ", each of a list");
    if (range.n > 0) buf_printf(out, ", range (%.*s)", SPAN_FMT(range));
    if (jr_get(t, "backwards") != NULL) buf_put_str(out, ", backwards");
}

static void put_table(const struct jr *t, struct buf *out)
{
    struct span as = jr_str(jr_get(t, "as"));
    buf_printf(out, "  %.*s", SPAN_FMT(jr_str(jr_get(t, "table"))));
    if (as.n > 0) buf_printf(out, " %.*s", SPAN_FMT(as));
    buf_put_str(out, jr_get(t, "left") != NULL ? " (left join) " : " ");
    put_way(t, out);
    buf_printf(out, ": opened %lld, looked at %lld, rows %lld\n", (long long)jr_int(jr_get(t, "opened"), 0),
               (long long)jr_int(jr_get(t, "looked_at"), 0), (long long)jr_int(jr_get(t, "rows"), 0));
}

static int put_plan(const struct cli *c, const struct jr *explain, struct buf *out)
{
    const struct jr *plan = jr_get(explain, "plan");
    if (c->options->json) {
        int err = jr_canonical(explain, out);
        buf_put_u8(out, '\n');
        return err;
    }
    for (size_t i = 0; i < jr_count(plan); i++) {
        const struct jr *select = jr_at(plan, i), *tables = jr_get(select, "tables");
        buf_printf(out, "%.*s%s%s\n", SPAN_FMT(jr_str(jr_get(select, "select"))), jr_bool(jr_get(select, "grouped"), false) ? ", grouped" : "",
                   jr_bool(jr_get(select, "sorted"), false) ? ", sorted" : "");
        for (size_t k = 0; k < jr_count(tables); k++)
            put_table(jr_at(tables, k), out);
    }
    buf_printf(out, "(%lld rows, %lld looked at)\n", (long long)jr_int(jr_get(explain, "rows"), 0), (long long)jr_int(jr_get(explain, "looked_at"), 0));
    return out->err;
}

static int put_table_of_rows(const struct cli *c, const struct jr *root, struct buf *out)
{
    const struct jr *rows = jr_get(root, "rows");
    int err = c->options->json ? table_put_lines(rows, out) : table_put(rows, out);
    if (!c->options->json)
        buf_printf(out, "(%zu row%s, seq %lld)\n", jr_count(rows), jr_count(rows) == 1 ? "" : "s", (long long)jr_int(jr_get(root, "seq"), 0));
    return err;
}

static int put_rows(const struct cli *c, struct buf *out)
{
    struct jr_tree *tree = NULL;
    struct problem p = PROBLEM_NONE;
    int err = jr_parse(&tree, cli_answer(c), &p);
    if (err != 0) return cli_fail(CLI_REFUSED, err, "the answer: %s", problem_text(&p));
    const struct jr *root = jr_root(tree);
    err = c->options->explain ? put_plan(c, jr_get(root, "explain"), out) : put_table_of_rows(c, root, out);
    jr_free(tree);
    if (err == 0) err = out->err;
    return err == 0 ? CLI_DONE : cli_fail(CLI_REFUSED, err, "%s", err_text(err));
}

int cmd_query(struct cli *c)
{
    struct buf out;
    buf_init(&out, 4 * QUERY_RESULT_MAX);
    int status = ask(c);
    if (status == CLI_DONE) status = put_rows(c, &out);
    if (status == CLI_DONE && !cli_write(buf_span(&out))) status = CLI_REFUSED;
    buf_free(&out);
    return status;
}
