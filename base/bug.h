// Planted bugs: a build made with -DSEGUE_BUGS lets the environment variable SEGUE_BUG switch on one named
// mistake, so that the crash campaigns can show that they would find it. Any other build has none of it.
#ifndef SEGUE_BUG_H
#define SEGUE_BUG_H

#include <stdbool.h>

#ifdef SEGUE_BUGS
bool bug(const char *name);
#else
#define bug(name) false
#endif

#endif
