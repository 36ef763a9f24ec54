// When a follower at recorded pace is told what (PROTOCOL.md, "Following"). Pure: the caller brings times, recorded and present.
//
// Each piece is due when the one before it was due, and the recorded time between the two divided by the speed; so what a timer is late by does
// not add up.
#ifndef SEGUE_STREAM_PACE_H
#define SEGUE_STREAM_PACE_H

#include "problem.h"
#include "span.h"

struct request;

#define STREAM_PACE_UNIT 1000 // of a speed: as it was recorded
#define STREAM_PACE_SPEED_MIN (STREAM_PACE_UNIT / 10)
#define STREAM_PACE_SPEED_MAX (100 * STREAM_PACE_UNIT)

struct stream_pace {
    uint32_t speed;  // in thousandths; 0: not paced, at once
    uint32_t gap_ms; // no wait is longer
    bool begun;      // with its first piece
    bool timed;      // it is known when the last piece was recorded …
    uint64_t ms;     // … namely then
    uint64_t due_us; // when it was due
};

// `pace`, `speed` and `gap-ms` as the request has them. ERR_BAD_PARAMETER.
int stream_pace_params(const struct request *r, struct stream_pace *out, struct problem *p);
// A speed: a decimal from 0.1 to 100 with up to three places. False: it is none.
bool stream_pace_speed(struct span text, uint32_t *out);

// How much recorded time goes in one piece, so that a fast replay is not more pieces a second.
uint64_t stream_pace_span_ms(const struct stream_pace *p);
// The next piece was recorded at `ms`, if that is known. The first is due now; one that is not known to be later than the last one, with it.
void stream_pace_next(struct stream_pace *p, bool known, uint64_t ms, uint64_t now_us);
// The reader was not ready for what was due: the rest comes that much later, instead of at once.
void stream_pace_late(struct stream_pace *p, uint64_t now_us);

#endif
