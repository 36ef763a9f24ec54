// Delta uploads: of a content that the service has a part of already, only the rest is sent.
#ifndef SEGUE_C_DELTA_H
#define SEGUE_C_DELTA_H

#include "cuts.h"
#include "segue.h"

// Brings the content to the service, if that has some of its chunks; *done says so. Else nothing was sent, and an upload does it as well.
// Gives what segue_put gives.
int delta_source(struct segue *s, const struct segue_put_options *what, struct source *source, struct cuts *cuts, bool *done);

#endif
