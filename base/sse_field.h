// One line of a server-sent event (WHATWG HTML, "Server-sent events"): its name and its value, without the one space that
// may follow the colon. A line without a colon is a name alone; a comment has an empty name.
#ifndef SEGUE_SSE_FIELD_H
#define SEGUE_SSE_FIELD_H

#include "span.h"

static inline void sse_field_split(struct span line, struct span *name, struct span *value)
{
    const uint8_t *colon = line.n == 0 ? NULL : memchr(line.p, ':', line.n);
    size_t n = colon == NULL ? line.n : (size_t)(colon - line.p);
    *name = span_sub(line, 0, n);
    *value = span_sub(line, n + 1, line.n);
    if (value->n > 0 && value->p[0] == ' ') *value = span_sub(*value, 1, value->n);
}

#endif
