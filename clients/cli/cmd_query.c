// segue query: a select's rows, as a table or as lines of JSON.
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
        .sql = o->args[0], .params = o->args + 1, .param_count = o->arg_count - 1, .as_of = o->as_of != NULL ? &as_of : NULL};
    return cli_ended(c, segue_query(c->segue, &what), SPAN_STR(o->args[0]));
}

// ---- the answer ------------------------------------------------------------------------------------------------

static int put_lines(const struct jr *rows, struct buf *out)
{
    for (size_t i = 0; i < jr_count(rows); i++) {
        int err = jr_canonical(jr_at(rows, i), out);
        if (err != 0) return err;
        buf_put_u8(out, '\n');
    }
    return out->err;
}

static int put_rows(const struct cli *c, struct buf *out)
{
    struct jr_tree *tree = NULL;
    struct problem p = PROBLEM_NONE;
    int err = jr_parse(&tree, cli_answer(c), &p);
    if (err != 0) return cli_fail(CLI_REFUSED, err, "the answer: %s", problem_text(&p));
    const struct jr *rows = jr_get(jr_root(tree), "rows");
    err = c->options->json ? put_lines(rows, out) : table_put(rows, out);
    if (!c->options->json)
        buf_printf(out, "(%zu row%s, seq %lld)\n", jr_count(rows), jr_count(rows) == 1 ? "" : "s",
                   (long long)jr_int(jr_get(jr_root(tree), "seq"), 0));
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
