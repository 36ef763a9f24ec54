// A refusal as a person needs it: the error, where, and in words. Travels as application/problem+json
// (RFC 9457) over HTTP and inside a rejected batch's fate.
#ifndef SEGUE_PROBLEM_H
#define SEGUE_PROBLEM_H

#include <stdint.h>

#define PROBLEM_TEXT_MAX 240 // bytes, terminator included

struct problem {
    int err;                     // 0 while nothing is wrong
    int64_t position;            // byte (JSON, SQL) or operation index, from 0; -1 where there is none
    uint64_t number;             // what a program needs to go on: a stream's end, a producer's epoch, the sequence that is next …; 0 where there is none
    char text[PROBLEM_TEXT_MAX]; // one sentence about this very case; empty: the table's text stands
};

#define PROBLEM_NONE ((struct problem){.position = -1})

// Records `err` with a printf-style sentence and gives `err` back, so that `return problem_set(…)` reads well.
// `p` may be NULL. The first problem recorded stands; later ones are dropped. Over-long text is cut at a
// UTF-8 boundary. Control characters and invalid UTF-8 coming in through the format become '?'.
int problem_set(struct problem *p, int err, int64_t position, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

// Adds the number that belongs to the error just recorded (base/err.h says which); one that stands stays. `p` may be NULL.
void problem_number(struct problem *p, uint64_t number);

// The text to show: its own, or the table's.
const char *problem_text(const struct problem *p);

#endif
