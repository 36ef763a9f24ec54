// Base64 (RFC 4648, section 4), strict.
#ifndef SEGUE_BASE64_H
#define SEGUE_BASE64_H

#include "buf.h"

void base64_encode(struct buf *out, struct span s);
// Appends. Padding is required; white space and set bits behind the content are refused: ERR_BAD_VALUE. The buffer's own
// error, if it has or gets one, is returned.
int base64_decode(struct buf *out, struct span text);

// The same in the other alphabet and without padding (RFC 4648, section 5), as it stands in addresses and tokens.
void base64url_encode(struct buf *out, struct span s);
int base64url_decode(struct buf *out, struct span text);

#endif
