// Where this machine remembers what was under way, by service, app and subject: ${XDG_STATE_HOME:-~/.local/state}/segue/<kind>/<name>.
#ifndef SEGUE_C_STATE_H
#define SEGUE_C_STATE_H

#include "client.h"

#define STATE_PATH_MAX 4096

// Makes the folder. ERR_NOT_FOUND: there is no home; ERR_TOO_LARGE, or what making it met.
int state_path(const struct segue *s, const char *kind, struct span subject, char path[STATE_PATH_MAX]);

// Opens it for one run at a time; -1: it does not work, or another run has it.
int state_lock(const char *path);

#endif
