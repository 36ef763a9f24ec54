// Content-Disposition (RFC 6266): under which name a browser keeps what it gets, and whether it shows it.
#ifndef SEGUE_DISPOSITION_H
#define SEGUE_DISPOSITION_H

#include "buf.h"

#define FILENAME_MAX_BYTES 255

// May a browser show this content type by itself, wherever it comes from? Pictures, sound, film and plain text; nothing that can hold a script.
bool disposition_is_safe(struct span type);

// Appends the field's value: inline or attachment, and if `filename` is not empty the name, its last segment alone, in ASCII and, where that loses
// something, as UTF-8 (RFC 8187). Any bytes may be a name; what cannot be one is replaced. No terminator.
void disposition_put(struct buf *out, bool attachment, struct span filename);

#endif
