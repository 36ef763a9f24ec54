// segue app list, segue app create, segue app drop
#include "cli.h"
#include "json_read.h"
#include "limits.h"
#include "table.h"

// One app a line, as JSON or as a table.
static void put_apps(const struct cli *c, const struct jr *apps, struct buf *out)
{
    if (!c->options->json) {
        table_put(apps, out);
        return;
    }
    for (size_t i = 0; i < jr_count(apps); i++) {
        jr_canonical(jr_at(apps, i), out);
        buf_put_u8(out, '\n');
    }
}

int cmd_app_list(struct cli *c)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    int status = cli_ended(c, segue_app_list(c->segue), SPAN_NONE);
    if (status != CLI_DONE) return status;
    buf_init(&out, MIB);
    bool fine = jr_parse(&tree, cli_answer(c), NULL) == 0;
    if (fine) put_apps(c, jr_get(jr_root(tree), "apps"), &out);
    fine = fine && out.err == 0 && cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return fine ? CLI_DONE : CLI_REFUSED;
}

static int say(const struct cli *c, int status, const char *what)
{
    struct buf out;
    if (status != CLI_DONE || c->options->json) return status;
    buf_init(&out, KIB);
    buf_printf(&out, "%s %s\n", what, c->options->args[0]);
    bool written = cli_write(buf_span(&out));
    buf_free(&out);
    return written ? CLI_DONE : CLI_REFUSED;
}

int cmd_app_create(struct cli *c)
{
    return say(c, cli_ended(c, segue_app_create(c->segue, c->options->args[0]), SPAN_NONE), "there is an app");
}

int cmd_app_drop(struct cli *c)
{
    return say(c, cli_ended(c, segue_app_drop(c->segue, c->options->args[0]), SPAN_NONE), "dropped");
}
