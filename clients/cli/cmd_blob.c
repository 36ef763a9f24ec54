// segue put, segue get
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "err.h"
#include "file.h"
#include "progress.h"

static int print_blob(const struct cli *c, const struct segue_blob *blob)
{
    char line[128];
    if (c->options->json)
        snprintf(line, sizeof line, "{\"blob\":\"%s\",\"size\":%llu}\n", blob->digest, (unsigned long long)blob->size);
    else
        snprintf(line, sizeof line, "%s\n", blob->digest);
    return cli_write(SPAN_STR(line)) ? CLI_DONE : CLI_REFUSED;
}

int cmd_put(struct cli *c)
{
    struct segue_blob blob;
    struct progress progress;
    const char *name = c->options->args[0];
    bool is_input = strcmp(name, "-") == 0;
    int fd = is_input ? STDIN_FILENO : file_open(name, O_RDONLY);
    if (fd < 0) return cli_fail(CLI_USAGE, fd, "%s: %s", name, err_text(fd));
    progress_init(&progress, -1);
    const struct segue_put_options what = {.fd = fd, .name = name, .type = c->options->type, .progress = progress_take, .ctx = &progress};
    int result = segue_put(c->segue, &what, &blob);
    progress_end(&progress);
    if (!is_input) file_close(fd);
    int status = cli_ended(c, result, SPAN_NONE);
    return status == CLI_DONE ? print_blob(c, &blob) : status;
}

int cmd_get(struct cli *c)
{
    struct progress progress;
    const struct cli_options *o = c->options;
    progress_init(&progress, o->output == NULL ? STDOUT_FILENO : -1);
    const struct segue_get_options what = {
        .digest = o->args[0],
        .range = o->range,
        .path = o->output,
        .write = cli_take_bytes,
        .progress = progress_take,
        .ctx = &progress,
    };
    int result = segue_get(c->segue, &what);
    progress_end(&progress);
    return cli_ended(c, result, SPAN_NONE);
}
