// UTF-8 (RFC 3629) as a validity question.
#ifndef SEGUE_UTF8_H
#define SEGUE_UTF8_H

#include "span.h"

bool utf8_valid(struct span s);

// Length of the longest valid beginning of `s`.
size_t utf8_valid_prefix(struct span s);

// Length of the valid character that `s` begins with: 1 to 4, or 0 where there is none.
size_t utf8_char(struct span s);

// Where to cut `s` to have at most `max` bytes: s.n if it fits, else `max`, or up to 3 bytes less so that no
// character is split. `max` where `s` is not UTF-8 there.
size_t utf8_cut(struct span s, size_t max);

#endif
