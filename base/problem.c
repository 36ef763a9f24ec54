#include "problem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "err.h"
#include "utf8.h"

// What the format brought in may be a client's bytes; the text travels as JSON and into logs.
static void clean(char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t step = utf8_char(SPAN(text + i, n - i));
        if (step == 0 || (uint8_t)text[i] < 0x20 || text[i] == 0x7f) {
            text[i] = '?';
            step = 1;
        }
        i += step;
    }
}

int problem_set(struct problem *p, int err, int64_t position, const char *fmt, ...)
{
    assert(err < 0);
    if (p == NULL || p->err != 0) return err;

    // A few bytes more than are kept, so that the cut can see the whole of a character that it would split.
    char text[PROBLEM_TEXT_MAX + 4];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    size_t have = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    size_t keep = utf8_cut(SPAN(text, have), PROBLEM_TEXT_MAX - 1);
    clean(text, keep);

    p->err = err;
    p->position = position;
    memcpy(p->text, text, keep);
    p->text[keep] = '\0';
    return err;
}

void problem_number(struct problem *p, uint64_t number)
{
    if (p == NULL || p->number != 0) return;
    assert(p->err != 0);
    p->number = number;
}

const char *problem_text(const struct problem *p)
{
    return p->text[0] != '\0' ? p->text : err_text(p->err);
}
