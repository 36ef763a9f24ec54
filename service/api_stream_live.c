// Following one stream by the Durable Streams protocol: long-poll and server-sent events. A follower is a place in the stream; it
// keeps no bytes. When its socket is full it stays where it is and later sends what the stream then has.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "base64.h"
#include "err.h"
#include "file.h"
#include "utf8.h"

#define CURSOR_EPOCH_S 1728432000u // 2024-10-09: where the protocol's cursor intervals begin
#define CURSOR_INTERVAL_S 20

struct follower {
    struct app_user user; // first
    struct request *r;
    struct hub *hub;
    struct hub_item woken;
    struct feed_sub *sub;
    enum stream_live live;
    uint64_t number; // of the stream: another one at the same path is not this one
    uint64_t offset; // sent up to here
    bool text;       // else base64
    bool told_tail;  // the last control event said up to date
    bool over;
};

static void let_go(struct follower *f)
{
    if (f->sub != NULL) f->sub->feed->ops->detach(f->sub);
    f->sub = NULL;
    hub_drop(&f->woken);
    app_user_remove(&f->user);
}

static void finish(struct follower *f)
{
    if (f->over) return;
    f->over = true;
    let_go(f);
    reply_end(f->r);
}

static void on_reset(struct app_user *u, int err)
{
    struct follower *f = (struct follower *)u;
    if (f->live == STREAM_SSE) {
        finish(f);
        return;
    }
    f->over = true;
    let_go(f);
    reply_error(f->r, err);
}

static void on_wake(struct feed_sub *sub)
{
    struct follower *f = sub->owner;
    hub_wake(f->hub, &f->woken);
}

// ---- server-sent events ----

static void put_data(struct follower *f, struct buf *b, struct span piece)
{
    buf_put_str(b, "event: data\ndata: ");
    if (!f->text) {
        base64_encode(b, piece);
        buf_put_str(b, "\n\n");
        return;
    }
    // Each of CR, LF and CRLF ends a line of an event: none of the content's may end one of ours. Readers take one space off
    // the front of each line, so one of ours goes there.
    for (size_t i = 0; i < piece.n; i++) {
        uint8_t c = piece.p[i];
        if (c == '\r' && i + 1 < piece.n && piece.p[i + 1] == '\n') continue;
        if (c == '\r' || c == '\n') buf_put_str(b, "\ndata: ");
        else buf_put_u8(b, c);
    }
    buf_put_str(b, "\n\n");
}

static void put_control(struct follower *f, struct buf *b, bool up_to_date, bool closed)
{
    char offset[STREAM_OFFSET_TEXT];
    stream_offset_text(f->offset, offset);
    buf_printf(b, "event: control\ndata: {\"streamNextOffset\":\"%s\"", offset);
    if (!closed) buf_printf(b, ",\"streamCursor\":\"%llu\"", (unsigned long long)(clock_wall_ms() / 1000 - CURSOR_EPOCH_S) / CURSOR_INTERVAL_S);
    if (up_to_date) buf_put_str(b, ",\"upToDate\":true");
    if (closed) buf_put_str(b, ",\"streamClosed\":true");
    buf_put_str(b, "}\n\n");
    f->told_tail = up_to_date;
}

// A text stream may end inside a character for now: its beginning waits for the rest.
static size_t whole_characters(struct follower *f, struct span piece, bool final)
{
    if (!f->text || final) return piece.n;
    size_t valid = utf8_valid_prefix(piece);
    return piece.n - valid < 4 ? valid : utf8_cut(piece, piece.n);
}

// One piece and its control event. False: nothing more to send now.
static int send_piece(struct follower *f, const struct stream_info *info, bool *more)
{
    struct buf raw, b;
    struct request *r = f->r;
    buf_init(&raw, PART_BYTES_MAX);
    buf_init(&b, 8 * PART_BYTES_MAX);
    int err = streams_read(app_streams(r->app), app_txn(r->app), r->path, f->offset, PART_BYTES_MAX, &raw);
    bool tail = f->offset + raw.n == info->offset;
    size_t n = whole_characters(f, buf_span(&raw), tail && info->closed);
    *more = n > 0 && !tail;
    if (err == 0 && n > 0) put_data(f, &b, SPAN(raw.p, n));
    f->offset += n;
    bool at_end = f->offset == info->offset;
    if (n > 0 || (tail && !f->told_tail) || (at_end && info->closed)) put_control(f, &b, tail, at_end && info->closed);
    if (err == 0) err = b.err;
    if (err == 0 && b.n > 0 && !reply_write_span(r, buf_span(&b))) *more = false;
    buf_free(&raw);
    buf_free(&b);
    return err;
}

static void sse_send(struct follower *f)
{
    struct stream_info info;
    struct request *r = f->r;
    bool more = true;
    while (more && !f->over && app_txn(r->app) != NULL) {
        if (!streams_find(app_streams(r->app), app_txn(r->app), r->path, &info) || info.number != f->number) {
            finish(f); // deleted
            return;
        }
        if (reply_queued(r) >= HTTP_OUTBOX_MAX) return; // drain goes on
        if (send_piece(f, &info, &more) != 0) {
            let_go(f);
            f->over = true;
            reply_break(r);
            return;
        }
        if (info.closed && f->offset == info.offset) finish(f);
    }
}

// ---- long-poll ----

static void poll_answer(struct follower *f)
{
    struct stream_info info;
    struct request *r = f->r;
    bool there = streams_find(app_streams(r->app), app_txn(r->app), r->path, &info) && info.number == f->number;
    if (there && info.offset == f->offset && !info.closed) return;
    f->over = true;
    let_go(f);
    request_timer(r, -1, NULL);
    int err = !there ? ERR_NO_SUCH_STREAM : info.offset > f->offset ? stream_reply_read(r, f->offset, &info, NULL) : 0;
    if (err != 0) {
        reply_error(r, err);
    } else if (info.offset == f->offset) {
        reply_start(r, 204);
        stream_headers(r, f->offset, true, true);
        reply_body(r, NULL, SPAN_NONE);
    }
}

static void poll_timeout(struct request *r)
{
    struct follower *f = r->data;
    if (f->over) return;
    f->over = true;
    let_go(f);
    reply_start(r, 204);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, f->offset, true, false);
    reply_body(r, NULL, SPAN_NONE);
}

// ---- both ----

static void on_woken(struct hub_item *item)
{
    struct follower *f = (struct follower *)((char *)item - offsetof(struct follower, woken));
    if (f->over || app_txn(f->r->app) == NULL) return;
    if (f->live == STREAM_SSE) sse_send(f);
    else poll_answer(f);
}

static void heartbeat(struct request *r)
{
    struct follower *f = r->data;
    if (f->over) return;
    reply_write_span(r, SPAN_LIT(":\n\n"));
    request_timer(r, server_heartbeat_ms(r->server), heartbeat);
}

static bool is_text(const char *type)
{
    return strncmp(type, "text/", 5) == 0 || strncmp(type, "application/json", 16) == 0;
}

int stream_follow(struct request *r, enum stream_live live, uint64_t offset, const struct stream_info *info)
{
    struct follower *f = calloc(1, sizeof *f);
    if (f == NULL) return ERR_NOMEM;
    *f = (struct follower){.r = r, .hub = server_hub(r->server, r->app), .woken = {.run = on_woken}, .live = live, .number = info->number, .offset = offset, .text = is_text(info->type)};
    int err = streams_attach(app_streams(r->app), app_txn(r->app), r->path, offset, false, 0, &f->sub, NULL);
    if (err != 0) return free(f), err;
    f->sub->wake = on_wake;
    f->sub->owner = f;
    app_user_add(r->app, &f->user, on_reset);
    r->data = f;
    if (live == STREAM_LONG_POLL) {
        request_timer(r, server_long_poll_ms(r->server), poll_timeout);
        return 0;
    }
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    if (!f->text) reply_header(r, "stream-sse-data-encoding", "base64");
    reply_stream(r, "text/event-stream", -1);
    request_timer(r, server_heartbeat_ms(r->server), heartbeat);
    sse_send(f);
    return 0;
}

void stream_follow_drain(struct request *r)
{
    struct follower *f = r->data;
    if (f != NULL && !f->over && f->live == STREAM_SSE) sse_send(f);
}

void stream_follow_done(struct request *r)
{
    struct follower *f = r->data;
    if (f == NULL) return;
    let_go(f);
    free(f);
}
