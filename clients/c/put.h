// Storing one content, for the calls that store several.
#ifndef SEGUE_C_PUT_H
#define SEGUE_C_PUT_H

#include "limits.h"
#include "segue.h"

#define PUT_SMALL_MAX (4 * MIB) // what is larger is brought in a way that survives a broken connection

// segue_put, as a part of another call. What has at most `small_max` bytes, which are memory meanwhile, goes in one request.
int put_fd(struct segue *s, const struct segue_put_options *what, uint64_t small_max, struct segue_blob *blob);

// How a call ends whose content is not what it was, or cannot be read.
int put_changed(struct segue *s, const char *name);
int put_unreadable(struct segue *s, const char *name, int err);

#endif
