// segue put, segue get
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "err.h"
#include "file.h"
#include "progress.h"

int cli_print_blob(const struct cli *c, const struct segue_blob *blob)
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
    struct stat st;
    if (fd < 0) return cli_fail(CLI_USAGE, fd, "%s: %s", name, err_text(fd));
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (!is_input) file_close(fd);
        return c->options->type == NULL ? cli_put_tree(c, name, false) : cli_usage("%s is a directory: its type is " SEGUE_TREE_TYPE, name);
    }
    progress_init(&progress, -1);
    const struct segue_put_options what = {.fd = fd, .name = name, .type = c->options->type, .progress = progress_take, .ctx = &progress};
    int result = segue_put(c->segue, &what, &blob);
    progress_end(&progress);
    if (!is_input) file_close(fd);
    int status = cli_ended(c, result, SPAN_NONE);
    if (status == CLI_DONE) status = cli_link(c, &blob);
    return status == CLI_DONE ? cli_print_blob(c, &blob) : status;
}

int cmd_get(struct cli *c)
{
    struct progress progress;
    const struct cli_options *o = c->options;
    bool is_tree = o->tree;
    int result = SEGUE_OK;
    if (o->output != NULL && o->range == NULL && !is_tree) result = segue_is_tree(c->segue, o->args[0], &is_tree);
    if (result != SEGUE_OK) return cli_ended(c, result, SPAN_NONE);
    if (is_tree) return cli_get_tree(c);
    progress_init(&progress, o->output == NULL ? STDOUT_FILENO : -1);
    const struct segue_get_options what = {
        .digest = o->args[0],
        .range = o->range,
        .path = o->output,
        .write = cli_take_bytes,
        .progress = progress_take,
        .ctx = &progress,
    };
    result = segue_get(c->segue, &what);
    progress_end(&progress);
    return cli_ended(c, result, SPAN_NONE);
}
