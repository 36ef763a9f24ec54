// segue schema push, segue schema show
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
    int status = cli_ended(c, segue_schema_get(c->segue, c->options->json), SPAN_NONE);
    if (status != CLI_DONE) return status;
    struct span body = cli_answer(c);
    bool written = cli_write(body);
    if (written && body.n > 0 && body.p[body.n - 1] != '\n') written = cli_write(SPAN_LIT("\n"));
    return written ? CLI_DONE : CLI_REFUSED;
}
