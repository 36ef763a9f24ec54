// Resumable uploads (tus): what segue_put does with a large content, over broken connections and runs of the program.
#ifndef SEGUE_C_UPLOAD_H
#define SEGUE_C_UPLOAD_H

#include "cuts.h"
#include "segue.h"

// Brings the content to the service, which has it as a blob then, in the way that sends least. Which upload it was is kept in a state file
// until it is done, so that the next run goes on. Gives what segue_put gives.
int upload_source(struct segue *s, const struct segue_put_options *what, struct source *source, struct cuts *cuts);

#endif
