// Percent-encoding (RFC 3986), decoded strictly.
#ifndef SEGUE_PERCENT_H
#define SEGUE_PERCENT_H

#include "buf.h"

// Appends the decoded bytes. ERR_BAD_PARAMETER for a broken escape, %00, or what is not UTF-8 then.
int percent_decode(struct buf *out, struct span s, bool plus_is_space);

#endif
