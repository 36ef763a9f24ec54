// segue schema push, segue schema show, segue schema list
#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"

static bool print_pushed(const struct cli *c)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    buf_init(&out, 4 * KIB);
    if (!c->options->json && jr_parse(&tree, cli_answer(c), NULL) == 0) {
        const struct jr *answer = jr_root(tree);
        buf_printf(&out, "%s, seq %lld, schema %.*s\n", jr_bool(jr_get(answer, "changed"), true) ? "published" : "unchanged",
                   (long long)jr_int(jr_get(answer, "seq"), 0), SPAN_FMT(jr_str(jr_get(answer, "hash"))));
    } else {
        buf_put_span(&out, cli_answer(c));
        buf_put_u8(&out, '\n');
    }
    bool written = cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return written;
}

int cmd_schema_push(struct cli *c)
{
    struct buf sql;
    buf_init(&sql, SQL_SCHEMA_MAX);
    int status = cli_read(&sql, c->options->args[0]);
    if (status == CLI_DONE) status = cli_ended(c, segue_schema_put(c->segue, (const char *)sql.p, sql.n), buf_span(&sql));
    if (status == CLI_DONE && !print_pushed(c)) status = CLI_REFUSED;
    buf_free(&sql);
    return status;
}

int cmd_schema_show(struct cli *c)
{
    const char *hash = c->options->arg_count > 0 ? c->options->args[0] : NULL;
    bool json = c->options->json;
    int status = cli_ended(c, hash ? segue_schema_get_old(c->segue, hash, json) : segue_schema_get(c->segue, json), SPAN_NONE);
    if (status != CLI_DONE) return status;
    struct span body = cli_answer(c);
    bool written = cli_write(body);
    if (written && body.n > 0 && body.p[body.n - 1] != '\n') written = cli_write(SPAN_LIT("\n"));
    return written ? CLI_DONE : CLI_REFUSED;
}

// One page of the list; *before is where the next one begins, 0 behind the last.
static int print_versions(struct cli *c, unsigned *before)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    int err = jr_parse(&tree, cli_answer(c), NULL);
    if (err != 0) return cli_fail(CLI_UNREACHABLE, err, "the answer is not JSON");
    const struct jr *list = jr_get(jr_root(tree), "schemas");
    buf_init(&out, 4 * MIB);
    for (size_t i = 0; i < jr_count(list); i++) {
        const struct jr *v = jr_at(list, i);
        if (c->options->json) {
            jr_canonical(v, &out);
            buf_put_u8(&out, '\n');
        } else {
            buf_printf(&out, "%lld  %.*s  seq %lld  %.*s\n", (long long)jr_int(jr_get(v, "version"), 0),
                       SPAN_FMT(jr_str(jr_get(v, "hash"))), (long long)jr_int(jr_get(v, "seq"), 0), SPAN_FMT(jr_str(jr_get(v, "time"))));
        }
    }
    *before = (unsigned)jr_int(jr_get(jr_root(tree), "before"), 0);
    bool written = out.err == 0 && cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return written ? CLI_DONE : CLI_REFUSED;
}

int cmd_schema_list(struct cli *c)
{
    unsigned before = 0;
    do {
        int status = cli_ended(c, segue_schemas(c->segue, before), SPAN_NONE);
        if (status == CLI_DONE) status = print_versions(c, &before);
        if (status != CLI_DONE) return status;
    } while (before > 0);
    return CLI_DONE;
}
