// Inputs of several fields: each line is a letter that says which field it is, and the field's value.
#ifndef SEGUE_FUZZ_LINES_H
#define SEGUE_FUZZ_LINES_H

#include <string.h>

#include "span.h"

static inline void fuzz_lines(const uint8_t *data, size_t size, void (*try_line)(uint8_t field, struct span value))
{
    struct span rest = SPAN(data, size);
    while (rest.n > 0) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);
        struct span line = SPAN(rest.p, end == NULL ? rest.n : (size_t)(end - rest.p));
        if (line.n > 0) try_line(line.p[0], span_sub(line, 1, line.n));
        rest = span_sub(rest, line.n + 1, rest.n);
    }
}

#endif
