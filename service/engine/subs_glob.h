// Patterns over the paths of streams: `*` is one segment, or a run of bytes inside one; `**` is any number of segments, none included;
// all else is itself. Segments lie between slashes. Pure, and never more than some 100,000 steps, whatever pattern meets whatever path.
#ifndef SEGUE_SUBS_GLOB_H
#define SEGUE_SUBS_GLOB_H

#include "span.h"

struct subs_glob {
    struct span text; // the caller's
    size_t prefix;    // bytes before the first star: most paths are told apart by them
};

// ERR_BAD_VALUE: empty, longer than SUB_PATTERN_MAX, not UTF-8, or with two stars that are not a whole segment.
int subs_glob_init(struct subs_glob *g, struct span text);
bool subs_glob_match(const struct subs_glob *g, struct span path);

#endif
