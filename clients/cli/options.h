// The command line: one table of options, one of commands; parsing and help read both.
#ifndef SEGUE_CLI_OPTIONS_H
#define SEGUE_CLI_OPTIONS_H

#include "cli.h"

struct cli_command {
    const char *name; // one or two words
    const char *args; // as help shows them
    size_t args_min, args_max;
    int (*run)(struct cli *c);
    const char *help;
};

// Reads arguments and environment. CLI_DONE, or CLI_USAGE with the reason told. *command is NULL where there is none.
int cli_options_read(struct cli_options *o, const struct cli_command **command, int argc, char **argv);

// The help of one command, or (NULL) of those whose first of two words is `group`, or (NULL) of all.
void cli_help(const struct cli_command *command, const char *group, struct buf *out);

// The command that these words begin with; NULL: none. *words: how many make its name.
const struct cli_command *cli_command_find(const char *const *args, size_t count, size_t *words);

#endif
