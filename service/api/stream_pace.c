#include "stream_pace.h"

#include "err.h"
#include "http.h"
#include "limits.h"
#include "stream_headers.h"

#define PLACES 3 // behind the point, of a speed

// ---- what is asked -----------------------------------------------------------------------------------------------------

bool stream_pace_speed(struct span text, uint32_t *out)
{
    uint64_t whole, part = 0;
    size_t point = 0;
    while (point < text.n && text.p[point] != '.')
        point++;
    if (!stream_number_parse(span_sub(text, 0, point), STREAM_PACE_SPEED_MAX, &whole)) return false;
    size_t places = point < text.n ? text.n - point - 1 : 0;
    if (places > PLACES || (point < text.n && places == 0)) return false;
    for (size_t i = 0; i < PLACES; i++) {
        uint8_t digit = i < places ? text.p[point + 1 + i] : '0';
        if (digit < '0' || digit > '9') return false;
        part = 10 * part + (uint64_t)(digit - '0');
    }
    uint64_t speed = whole * STREAM_PACE_UNIT + part;
    if (speed < STREAM_PACE_SPEED_MIN || speed > STREAM_PACE_SPEED_MAX) return false;
    *out = (uint32_t)speed;
    return true;
}

static int get_pace(const struct request *r, struct buf *scratch, bool *recorded, struct problem *p)
{
    struct span text = SPAN_NONE;
    int found = request_param(r, "pace", scratch, &text);
    *recorded = found == 1 && span_is(text, "recorded");
    return found == 0 || *recorded || (found == 1 && span_is(text, "full")) ? 0 : problem_set(p, ERR_BAD_PARAMETER, -1, "\"pace\" is recorded or full");
}

static int get_speed(const struct request *r, struct buf *scratch, uint32_t *out, struct problem *p)
{
    struct span text;
    int found = request_param(r, "speed", scratch, &text);
    *out = STREAM_PACE_UNIT;
    return found == 0 || (found == 1 && stream_pace_speed(text, out)) ? 0 : problem_set(p, ERR_BAD_PARAMETER, -1, "\"speed\" is 0.1 to 100, with up to %d places", PLACES);
}

static int get_gap(const struct request *r, struct buf *scratch, uint32_t *out, struct problem *p)
{
    struct span text;
    uint64_t ms = STREAM_PACE_GAP_MS;
    int found = request_param(r, "gap-ms", scratch, &text);
    if (found < 0 || (found == 1 && !stream_number_parse(text, STREAM_PACE_GAP_MS_MAX, &ms)))
        return problem_set(p, ERR_BAD_PARAMETER, -1, "\"gap-ms\" is 0 to %u", STREAM_PACE_GAP_MS_MAX);
    *out = (uint32_t)ms;
    return 0;
}

int stream_pace_params(const struct request *r, struct stream_pace *out, struct problem *p)
{
    struct buf scratch;
    bool recorded;
    struct stream_pace pace = {0};
    buf_init(&scratch, HTTP_TARGET_MAX);
    int err = get_pace(r, &scratch, &recorded, p);
    if (err == 0 && recorded) err = get_speed(r, &scratch, &pace.speed, p);
    if (err == 0 && recorded) err = get_gap(r, &scratch, &pace.gap_ms, p);
    buf_free(&scratch);
    if (err == 0) *out = pace;
    return err;
}

// ---- when --------------------------------------------------------------------------------------------------------------

uint64_t stream_pace_span_ms(const struct stream_pace *p)
{
    uint64_t ms = (uint64_t)SEQ_TIME_MS * p->speed / STREAM_PACE_UNIT;
    return ms > 0 ? ms : 1;
}

// A recorded time is bounded before it is scaled up: it may be any number.
static uint64_t wait_us(const struct stream_pace *p, uint64_t recorded_ms)
{
    uint64_t most_us = (uint64_t)p->gap_ms * 1000;
    if (recorded_ms > (uint64_t)p->gap_ms * p->speed / STREAM_PACE_UNIT) return most_us;
    uint64_t us = recorded_ms * 1000 * STREAM_PACE_UNIT / p->speed;
    return us < most_us ? us : most_us;
}

void stream_pace_next(struct stream_pace *p, bool known, uint64_t ms, uint64_t now_us)
{
    if (!p->begun) p->due_us = now_us;
    else if (known && p->timed && ms > p->ms) p->due_us += wait_us(p, ms - p->ms);
    p->begun = true;
    p->timed = known;
    p->ms = ms;
}

void stream_pace_late(struct stream_pace *p, uint64_t now_us)
{
    if (p->begun && p->due_us < now_us) p->due_us = now_us;
}
