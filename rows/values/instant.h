// Moments: microseconds since 1970 in UTC, years 0001 to 9999, and their RFC 3339 text.
#ifndef SEGUE_ROWS_INSTANT_H
#define SEGUE_ROWS_INSTANT_H

#include "span.h"

#define INSTANT_TEXT_MAX 27 // characters, without a terminator
#define INSTANT_MIN INT64_C(-62135596800000000)
#define INSTANT_MAX INT64_C(253402300799999999)

// RFC 3339, date and time with an offset ('T' may be a space; up to 9 digits of a second, of which 6 count). ERR_BAD_VALUE.
int instant_parse(int64_t *us, struct span text);
// Writes 2026-11-22T10:00:00.000Z, with six digits where the last three are not zero; gives the length.
size_t instant_format(int64_t us, char text[INSTANT_TEXT_MAX]);

#endif
