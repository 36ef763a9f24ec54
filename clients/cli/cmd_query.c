// segue query: a select's rows, as a table or as lines of JSON.
#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "table.h"

// ---- the request -----------------------------------------------------------------------------------------------

// Parameters of a GET are texts that the service reads as the type that they are compared with: nobody has to guess here.
static int make_path(const struct cli_options *o, struct buf *out)
{
    buf_put_str(out, "query?sql=");
    cli_put_encoded(out, SPAN_STR(o->args[0]), false);
    for (size_t i = 1; i < o->arg_count; i++) {
        buf_printf(out, "&p%zu=", i);
        cli_put_encoded(out, SPAN_STR(o->args[i]), false);
    }
    if (o->as_of != NULL) {
        size_t digits = strspn(o->as_of, "0123456789");
        if (digits == 0 || digits > 19 || o->as_of[digits] != 0) return cli_usage("--as-of is the number of a commit");
        buf_printf(out, "&as_of=%s", o->as_of);
    }
    buf_put_u8(out, 0);
    return out->err == 0 ? CLI_DONE : cli_usage("the query and its parameters are longer than %u bytes together, encoded", HTTP_TARGET_MAX);
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
    int err = jr_parse(&tree, http_body(c->http), &p);
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
    struct buf path, out;
    buf_init(&path, HTTP_TARGET_MAX);
    buf_init(&out, 4 * QUERY_RESULT_MAX);
    int status = make_path(c->options, &path);
    const struct http_request request = {.method = "GET", .path = (const char *)path.p};
    if (status == CLI_DONE) status = cli_call(c, &request, SPAN_STR(c->options->args[0]));
    if (status == CLI_DONE) status = put_rows(c, &out);
    if (status == CLI_DONE && !cli_write(buf_span(&out))) status = CLI_REFUSED;
    buf_free(&path);
    buf_free(&out);
    return status;
}
