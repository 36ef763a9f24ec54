// segue: the command line client. Reads the options, finds the command, runs it.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "limits.h"
#include "options.h"

static int print_help(const struct cli_command *command, const char *group)
{
    struct buf out;
    buf_init(&out, 64 * KIB);
    cli_help(command, group, &out);
    bool written = cli_write(buf_span(&out));
    buf_free(&out);
    return written ? CLI_DONE : CLI_REFUSED;
}

// 0 of --retry is "never again", and of libsegue its own judgement.
static double retry_seconds(const struct cli_options *o)
{
    double seconds = o->retry != NULL ? strtod(o->retry, NULL) : 0;
    return o->retry != NULL && seconds <= 0 ? -1 : seconds;
}

int main(int argc, char **argv)
{
    struct cli_options options;
    const struct cli_command *command = NULL;
    int status = cli_options_read(&options, &command, argc, argv);
    if (status != CLI_DONE) return status;
    if (options.version) return cli_write(SPAN_LIT("segue " SEGUE_VERSION "\n")) ? CLI_DONE : CLI_REFUSED;
    if (options.help) return print_help(command, command == NULL && options.arg_count > 0 ? options.args[0] : NULL);
    if (command == NULL) return cli_usage("a command is missing; `segue help` lists them");

    // Output that nobody reads any more is an error to tell, not a silent end.
    signal(SIGPIPE, SIG_IGN);
    const struct segue_options wanted = {
        .url = options.url, .app = options.app, .key = options.key, .retry_s = retry_seconds(&options), .stop = &cli_interrupted};
    struct cli c = {.options = &options, .segue = segue_new(&wanted)};
    if (c.segue == NULL) return cli_fail(CLI_USAGE, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    status = command->run(&c);
    segue_free(c.segue);
    return status;
}
