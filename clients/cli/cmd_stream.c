// segue stream create, append, close, tail
#include <errno.h>
#include <unistd.h>

#include "cli.h"
#include "err.h"
#include "limits.h"

#define PIECE_BYTES (64 * KIB) // of standard input in one batch

int cmd_stream_create(struct cli *c)
{
    return cli_ended(c, segue_stream_create(c->segue, c->options->args[0], c->options->type), SPAN_NONE);
}

// While a piece is on its way the next one gathers in the pipe: a slow service makes larger pieces, not a longer queue.
static int append_input(struct cli *c)
{
    static uint8_t piece[PIECE_BYTES];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cli_fail(CLI_USAGE, ERR_IO, "standard input: %s", strerror(errno));
        if (n == 0) return CLI_DONE;
        int status = cli_ended(c, segue_stream_append(c->segue, c->options->args[0], piece, (size_t)n), SPAN_NONE);
        if (status != CLI_DONE) return status;
    }
}

int cmd_stream_append(struct cli *c)
{
    const struct cli_options *o = c->options;
    int status = o->type != NULL ? cmd_stream_create(c) : CLI_DONE;
    if (status == CLI_DONE) status = append_input(c);
    if (status == CLI_DONE && o->close) status = cmd_stream_close(c);
    return status;
}

int cmd_stream_close(struct cli *c)
{
    return cli_ended(c, segue_stream_close(c->segue, c->options->args[0]), SPAN_NONE);
}

int cmd_stream_tail(struct cli *c)
{
    const struct cli_options *o = c->options;
    const struct segue_tail_options what = {.path = o->args[0], .offset = o->offset, .follow = !o->no_follow, .write = cli_take_bytes};
    return cli_ended(c, segue_stream_tail(c->segue, &what), SPAN_NONE);
}
