// segue app list, segue app create, segue app drop
#include "cli.h"
#include "limits.h"
#include "table.h"

int cmd_app_list(struct cli *c)
{
    int status = cli_ended(c, segue_app_list(c->segue), SPAN_NONE);
    return status == CLI_DONE ? cli_print_list(c, "apps", table_put) : status;
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
