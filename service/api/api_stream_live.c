// Following one stream by the Durable Streams protocol: long-poll and server-sent events (PROTOCOL.md, "Following").
//
//      begin ─┬─ long-poll ─┬─ there is data, or the end: replied to at once
//             │             └─ at the tail ─> crowd ── changed, gone, time is up: replied to
//             └─ sse ─> fields ─> crowd ── piece … ──┬─ the end is told, time is up, the stream is gone: the reply ends
//                                   ^── socket empty ┘
//
// At recorded pace each piece waits for its time. The follower is in the crowd meanwhile, which tells it of the stream's end, and goes on like the
// others once it has been told all there is.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "crowd.h"
#include "err.h"
#include "file.h"
#include "seq_times.h"

struct follower {
    struct crowd_reader reader; // first
    struct request *r;
    uint64_t offset; // sent up to here
    uint64_t cursor_floor;
    uint64_t end_us; // when the connection is to be made anew; 0: never
    bool told;       // that nothing is left
    bool full;       // until drain
    bool over;
    uint64_t beat_us; // the next sign of life
    // Of one at recorded pace:
    struct stream_pace pace; // its speed is 0 from when it has caught up
    uint64_t to;             // it is time for what is before this …
    uint64_t coming;         // … and for what is before that at pace.due_us; not above `to`: not planned
    bool passed;             // told all that it is time for
};

static void finish(struct follower *f)
{
    if (f->over) return;
    f->over = true;
    crowd_leave(&f->reader);
    request_timer(f->r, -1, NULL);
    reply_end(f->r);
}

static uint64_t cursor_of(const struct follower *f)
{
    uint64_t now = stream_cursor_at(clock_wall_ms() / 1000);
    return now > f->cursor_floor ? now : f->cursor_floor;
}

// ---- server-sent events --------------------------------------------------------------------------------------------------

// What it would be told next was trimmed: it comes again, and hears so. Anything else is a fault.
static void sse_fail(struct follower *f, int err)
{
    if (err == ERR_STREAM_TRIMMED) {
        finish(f);
        return;
    }
    f->over = true;
    crowd_leave(&f->reader);
    reply_break(f->r);
}

static void sse_timer(struct request *r);

static void sse_timer_set(struct follower *f)
{
    uint64_t now = clock_mono_us(), at = f->beat_us;
    bool planned = f->pace.speed != 0 && f->coming > f->to && f->pace.due_us > now; // what is due already waits for its socket
    if (f->end_us != 0 && f->end_us < at) at = f->end_us;
    if (planned && f->pace.due_us < at) at = f->pace.due_us;
    request_timer(f->r, at <= now ? 0 : (int64_t)((at - now) / 1000) + 1, sse_timer);
}

static void sse_timer(struct request *r)
{
    struct follower *f = r->data;
    uint64_t now = clock_mono_us();
    if (f->over) return;
    // Caches between us and the reader collapse those who come at the same time: so each comes again now and then.
    if (f->end_us != 0 && now >= f->end_us) {
        finish(f);
        return;
    }
    if (now >= f->beat_us) {
        reply_write_span(r, SPAN_LIT(":\n\n"));
        f->beat_us = now + 1000 * (uint64_t)server_heartbeat_ms(r->server);
    }
    if (f->pace.speed != 0 && f->coming > f->to && now >= f->pace.due_us) crowd_ask(&f->reader);
    sse_timer_set(f);
}

// What comes behind f->to, and when: all that was appended in a moment of recorded time.
static int pace_plan(struct follower *f, const struct stream_info *info)
{
    struct app *a = f->r->app;
    struct seq_time time;
    uint64_t seq;
    int err = streams_seq_at(app_streams(a), app_txn(a), info->number, f->to, &seq);
    if (err == 0) err = app_seq_time(a, seq, stream_pace_span_ms(&f->pace), &time);
    if (err == 0) err = streams_reach_at(app_streams(a), app_txn(a), info->number, f->to, time.next - 1, &f->coming);
    if (err == 0) stream_pace_next(&f->pace, time.known, time.ms, clock_mono_us());
    return err;
}

// *wait: there is nothing to tell before a time that is planned.
static int pace_step(struct follower *f, const struct stream_info *info, bool *wait)
{
    *wait = false;
    if (f->pace.speed == 0 || !f->passed) return 0;
    if (f->to == info->offset) {
        f->pace.speed = 0;
        return 0;
    }
    bool planned = f->coming > f->to;
    int err = planned ? 0 : pace_plan(f, info);
    if (err != 0) return err;
    *wait = clock_mono_us() < f->pace.due_us;
    if (*wait && !planned) sse_timer_set(f);
    if (*wait) return 0;
    f->to = f->coming;
    f->passed = false;
    return 0;
}

// What it is told next. *piece is NULL where there is nothing yet.
static int sse_piece(struct follower *f, const struct stream_info *info, const struct crowd_piece **piece)
{
    bool wait;
    *piece = NULL;
    int err = pace_step(f, info, &wait);
    if (err != 0 || wait) return err;
    if (f->told && f->offset == info->offset && !info->closed) return 0;
    return crowd_piece(&f->reader, info, f->offset, f->pace.speed == 0 ? info->offset : f->to, cursor_of(f), piece);
}

static void sse_send(struct follower *f, const struct stream_info *info, const struct crowd_piece *piece)
{
    f->offset = piece->next;
    f->told = piece->up_to_date;
    f->full = !reply_write_frame(f->r, &piece->frame);
    if (info->closed && f->offset == info->offset) finish(f);
}

static bool sse_serve(struct crowd_reader *reader, const struct stream_info *info)
{
    struct follower *f = (struct follower *)reader;
    const struct crowd_piece *piece;
    if (f->full) return false;
    int err = sse_piece(f, info, &piece);
    if (err != 0) sse_fail(f, err);
    if (err != 0 || piece == NULL) return false;
    bool paced = f->pace.speed != 0, more = piece->more || paced;
    f->passed = !piece->more;
    if (piece->next == f->offset && paced && f->to < info->offset) return true; // a part of a character, of which the rest comes later
    if (piece->next == f->offset && f->told && !info->closed) return false;
    sse_send(f, info, piece);
    return !f->over && !f->full && more;
}

static void sse_over(struct crowd_reader *reader, int err)
{
    (void)err; // whoever comes again is told why
    finish((struct follower *)reader);
}

static const struct crowd_ops sse_ops = {.serve = sse_serve, .over = sse_over};

static void sse_begin(struct follower *f, const struct stream_info *info)
{
    struct request *r = f->r;
    uint64_t ms = server_sse_ms(r->server);
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-cache, no-store");
    reply_header(r, "X-Accel-Buffering", "no");
    reply_may_code(r);
    if (stream_encoding_of(info->type) == STREAM_BASE64) reply_header(r, "Stream-SSE-Data-Encoding", "base64");
    reply_stream(r, "text/event-stream", -1);
    f->end_us = ms == 0 ? 0 : clock_mono_us() + 1000 * ms;
    f->beat_us = clock_mono_us() + 1000 * (uint64_t)server_heartbeat_ms(r->server);
    sse_timer_set(f);
    if (sse_serve(&f->reader, info)) crowd_ask(&f->reader);
}

// ---- long-poll -----------------------------------------------------------------------------------------------------------

static void poll_reply_empty(struct follower *f, bool closed)
{
    struct request *r = f->r;
    reply_start(r, 204);
    reply_header(r, "Cache-Control", "no-store");
    if (!closed) reply_header(r, "Stream-Cursor", "%llu", (unsigned long long)cursor_of(f));
    stream_headers(r, f->offset, true, closed);
    reply_body(r, NULL, SPAN_NONE);
}

static void poll_answer(struct follower *f, const struct stream_info *info)
{
    char cursor[24];
    f->over = true;
    if (info->offset == f->offset) {
        poll_reply_empty(f, info->closed);
        return;
    }
    snprintf(cursor, sizeof cursor, "%llu", (unsigned long long)cursor_of(f));
    int err = stream_reply_read(f->r, f->offset, info, cursor);
    if (err != 0) reply_error(f->r, err);
}

static bool poll_serve(struct crowd_reader *reader, const struct stream_info *info)
{
    struct follower *f = (struct follower *)reader;
    if (info->offset == f->offset && !info->closed) return false;
    crowd_leave(reader);
    request_timer(f->r, -1, NULL);
    poll_answer(f, info);
    return false;
}

static void poll_over(struct crowd_reader *reader, int err)
{
    struct follower *f = (struct follower *)reader;
    f->over = true;
    request_timer(f->r, -1, NULL);
    reply_error(f->r, err);
}

static const struct crowd_ops poll_ops = {.serve = poll_serve, .over = poll_over};

static void poll_timeout(struct request *r)
{
    struct follower *f = r->data;
    if (f->over) return;
    f->over = true;
    crowd_leave(&f->reader);
    poll_reply_empty(f, false);
}

// ---- both ------------------------------------------------------------------------------------------------------------------

// What the client echoes of an earlier reply; anything but a number is nothing.
static bool cursor_said(struct request *r, uint64_t *out)
{
    struct buf scratch;
    struct span text;
    buf_init(&scratch, HTTP_TARGET_MAX);
    bool said = request_param(r, "cursor", &scratch, &text) == 1 && text.n > 0 && text.n <= 18;
    *out = 0;
    for (size_t i = 0; said && i < text.n; i++) {
        said = text.p[i] >= '0' && text.p[i] <= '9';
        *out = 10 * *out + (uint64_t)(text.p[i] - '0');
    }
    buf_free(&scratch);
    return said;
}

static void set_floor(struct follower *f, uint32_t jitter)
{
    uint64_t said;
    if (cursor_said(f->r, &said)) f->cursor_floor = stream_cursor_floor(clock_wall_ms() / 1000, said, jitter);
}

int stream_follow(struct request *r, enum stream_live live, const struct stream_pace *pace, uint64_t offset, const struct stream_info *info)
{
    struct follower *f = calloc(1, sizeof *f);
    if (f == NULL) return ERR_NOMEM;
    *f = (struct follower){.reader = {.ops = live == STREAM_SSE ? &sse_ops : &poll_ops}, .r = r, .offset = offset, .pace = *pace, .to = offset, .passed = true};
    int err = crowd_join(&f->reader, server_hub(r->server, r->app), r->app, r->path, info);
    if (err != 0) return free(f), err;
    r->data = f;
    set_floor(f, crowd_jitter(&f->reader));
    if (live == STREAM_SSE) { // an offset that is none is refused before the reply begins; the piece is the first one told
        const struct crowd_piece *piece;
        err = sse_piece(f, info, &piece);
        if (err != 0) return crowd_leave(&f->reader), f->over = true, err;
    }
    if (live == STREAM_SSE) sse_begin(f, info);
    else if (offset == info->offset && !info->closed) request_timer(r, server_long_poll_ms(r->server), poll_timeout);
    else poll_serve(&f->reader, info);
    return 0;
}

void stream_follow_drain(struct request *r)
{
    struct follower *f = r->data;
    if (f == NULL || f->over || !f->full) return;
    f->full = false;
    stream_pace_late(&f->pace, clock_mono_us());
    crowd_ask(&f->reader);
}

void stream_follow_done(struct request *r)
{
    struct follower *f = r->data;
    if (f == NULL) return;
    crowd_leave(&f->reader);
    free(f);
}
