#include "ws_answer.h"

#include <stdint.h>
#include <strings.h>

#define STATUS_AT 9 // behind "HTTP/1.1 "

static struct span field(struct span head, const char *name)
{
    size_t n = strlen(name);
    while (head.n > 0) {
        const uint8_t *end = memchr(head.p, '\n', head.n);
        struct span line = SPAN(head.p, end != NULL ? (size_t)(end - head.p) : head.n);
        head = span_sub(head, line.n + 1, head.n);
        if (line.n <= n || line.p[n] != ':' || strncasecmp((const char *)line.p, name, n) != 0) continue;
        line = span_sub(line, n + 1, line.n);
        while (line.n > 0 && line.p[line.n - 1] <= ' ')
            line.n--;
        while (line.n > 0 && line.p[0] <= ' ')
            line = span_sub(line, 1, line.n);
        return line;
    }
    return SPAN_NONE;
}

// Decimal digits and nothing else: 0 for what is none, and the greatest number for what is too large to be waited for.
static uint64_t number(struct span digits)
{
    uint64_t v = 0;
    for (size_t i = 0; i < digits.n; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9') return 0;
        v = v > UINT64_MAX / 10 - 1 ? UINT64_MAX : v * 10 + (uint64_t)(digits.p[i] - '0');
    }
    return v;
}

bool ws_answer_read(struct ws_answer *out, struct span text)
{
    const uint8_t *end = text.n >= 4 ? memmem(text.p, text.n, "\r\n\r\n", 4) : NULL;
    if (end == NULL) return false;
    size_t head_n = (size_t)(end - text.p) + 4;
    struct span head = span_sub(text, 0, head_n), body = span_sub(text, head_n, text.n);
    struct ws_answer a = {.head_n = head_n, .accept = field(head, "Sec-WebSocket-Accept"), .body = body};
    if (span_starts(head, "HTTP/1.")) a.status = (int)number(span_sub(head, STATUS_AT, 3));
    uint64_t length = number(field(head, "Content-Length"));
    bool refused = a.status >= 300;
    if (refused && body.n < length) return false;
    if (refused && length > 0) a.body.n = (size_t)length;
    *out = a;
    return true;
}
