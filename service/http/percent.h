// Percent-encoding (RFC 3986), decoded strictly, and encoded.
#ifndef SEGUE_PERCENT_H
#define SEGUE_PERCENT_H

#include "buf.h"

// Appends the decoded bytes. ERR_BAD_PARAMETER for a broken escape, %00, or what is not UTF-8 then.
int percent_decode(struct buf *out, struct span s, bool plus_is_space);

// Appends `s` so that it can be a value in a query: all but letters, digits and "-._~" is escaped.
void percent_encode(struct buf *out, struct span s);

#endif
