// segue batch: one batch as it is written.
#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"

bool cli_print_fate(const struct cli *c)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    buf_init(&out, 2 * BATCH_BYTES_MAX);
    if (!c->options->json && jr_parse(&tree, cli_answer(c), NULL) == 0) {
        const struct jr *ids = jr_get(jr_root(tree), "ids");
        buf_printf(&out, "%.*s, seq %lld\n", SPAN_FMT(jr_str(jr_get(jr_root(tree), "fate"))),
                   (long long)jr_int(jr_get(jr_root(tree), "seq"), 0));
        for (size_t i = 0; i < jr_count(ids); i++)
            if (jr_type(jr_at(ids, i)) == JR_STRING) buf_printf(&out, "  %zu  %.*s\n", i, SPAN_FMT(jr_str(jr_at(ids, i))));
    } else {
        buf_put_span(&out, cli_answer(c));
        buf_put_u8(&out, '\n');
    }
    bool written = cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return written;
}

// The batch with the branch's name as its first member. What is no object the service refuses better.
static int put_branch(const char *branch, struct buf *body)
{
    struct buf out;
    size_t i = 0;
    while (i < body->n && (body->p[i] == ' ' || body->p[i] == '\n' || body->p[i] == '\t' || body->p[i] == '\r'))
        i++;
    if (i == body->n || body->p[i] != '{') return CLI_DONE;
    buf_init(&out, body->max);
    buf_put_str(&out, "{\"branch\":\"");
    for (const char *c = branch; *c != 0; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20) return buf_free(&out), cli_usage("--branch is the name of a branch");
    buf_put_str(&out, branch);
    buf_put_str(&out, "\",");
    buf_put_span(&out, span_sub(buf_span(body), i + 1, body->n));
    if (out.err != 0) return buf_free(&out), cli_fail(CLI_USAGE, out.err, "%s", err_text(out.err));
    buf_free(body);
    *body = out;
    return CLI_DONE;
}

int cmd_batch(struct cli *c)
{
    struct buf body;
    if (!c->options->offline && (c->options->tag != NULL || c->options->outbox != NULL)) return cli_usage("--tag and --outbox are for --offline");
    buf_init(&body, BATCH_BYTES_MAX);
    int status = cli_read(&body, c->options->args[0]);
    if (status == CLI_DONE && c->options->branch != NULL) status = put_branch(c->options->branch, &body);
    if (status == CLI_DONE && c->options->offline) {
        status = cli_put_offline(c, buf_span(&body));
        buf_free(&body);
        return status;
    }
    // A problem's position is an operation's index here, or a byte of a body that is no JSON.
    if (status == CLI_DONE) status = cli_ended(c, segue_batch(c->segue, (const char *)body.p, body.n), SPAN_NONE);
    if (status == CLI_DONE && !cli_print_fate(c)) status = CLI_REFUSED;
    buf_free(&body);
    return status;
}
