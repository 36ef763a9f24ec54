// segue branch list, create, diff, merge, drop
#include <stdlib.h>

#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "table.h"

static void put_image(struct buf *out, char sign, const struct jr *row)
{
    if (jr_type(row) != JR_OBJECT) return;
    struct buf text;
    buf_init(&text, 2 * ROW_BYTES_MAX);
    int err = jr_canonical(row, &text);
    buf_printf(out, "%c ", sign);
    if (err == 0) cli_put_clean(out, buf_span(&text));
    buf_put_str(out, "\n");
    buf_free(&text);
}

static int put_diff(const struct jr *changes, struct buf *out)
{
    for (size_t i = 0; i < jr_count(changes); i++) {
        const struct jr *c = jr_at(changes, i);
        buf_printf(out, "%.*s %.*s\n", SPAN_FMT(jr_str(jr_get(c, "table"))), SPAN_FMT(jr_str(jr_get(c, "id"))));
        put_image(out, '-', jr_get(c, "was"));
        put_image(out, '+', jr_get(c, "is"));
    }
    return out->err;
}

int cmd_branch_list(struct cli *c)
{
    int status = cli_ended(c, segue_branch_list(c->segue), SPAN_NONE);
    return status == CLI_DONE ? cli_print_list(c, "branches", table_put) : status;
}

int cmd_branch_diff(struct cli *c)
{
    int status = cli_ended(c, segue_branch_diff(c->segue, c->options->args[0]), SPAN_NONE);
    return status == CLI_DONE ? cli_print_list(c, "changes", put_diff) : status;
}

static int told(const struct cli *c, int result)
{
    int status = cli_ended(c, result, SPAN_NONE);
    return status == CLI_DONE && !cli_print_fate(c) ? CLI_REFUSED : status;
}

int cmd_branch_create(struct cli *c)
{
    const char *text = c->options->at;
    uint64_t at = 0;
    if (text != NULL) {
        size_t digits = strspn(text, "0123456789");
        if (digits == 0 || digits > 18 || text[digits] != 0) return cli_usage("--at is the number of a commit");
        at = strtoull(text, NULL, 10);
    }
    return told(c, segue_branch_create(c->segue, c->options->args[0], text != NULL ? &at : NULL, c->options->live));
}

int cmd_branch_merge(struct cli *c)
{
    return told(c, segue_branch_merge(c->segue, c->options->args[0], c->options->transaction));
}

int cmd_branch_drop(struct cli *c)
{
    return told(c, segue_branch_drop(c->segue, c->options->args[0]));
}
