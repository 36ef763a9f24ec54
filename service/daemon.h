// The process: what all loops share, their threads, starting and stopping.
#ifndef SEGUE_DAEMON_H
#define SEGUE_DAEMON_H

#include "options.h"
#include "problem.h"

// Opens the data folder, says "listening on http://HOST:PORT" on standard output, serves until SIGTERM or SIGINT, and leaves everything synced. 0: stopped in
// order; ERR_EXISTS: another daemon has the folder or the port; else what kept it from starting, with its sentence in `p`. Thread: the process's first.
int daemon_run(const struct options *options, struct problem *p);

#endif
