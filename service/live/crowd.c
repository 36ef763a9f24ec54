#include "crowd.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "uuid.h"

#define PIECES_KEPT 4 // readers who are served in turns are at a few places at a time

// A piece and what it was made of.
struct kept {
    struct crowd_piece piece;
    uint64_t to, tail;
    bool closed;
};

// A ring with its head in it.
struct ring {
    struct crowd_reader head;
};

struct crowd {
    struct app_user user; // first
    struct app *app;
    struct hub *hub;
    struct hub_item woken;
    struct feed_sub *sub;
    struct ring waiting, idle;
    size_t count;
    bool running; // freed behind that
    uint64_t number;
    enum stream_encoding encoding;
    uint32_t jitter;
    struct kept kept[PIECES_KEPT];
    unsigned next_kept;
    size_t path_n;
    uint8_t path[];
};

// ---- rings -------------------------------------------------------------------------------------------------------------

static void ring_init(struct ring *ring)
{
    ring->head.next = ring->head.prev = &ring->head;
}

static bool ring_empty(const struct ring *ring)
{
    return ring->head.next == &ring->head;
}

static void ring_remove(struct crowd_reader *r)
{
    r->prev->next = r->next;
    r->next->prev = r->prev;
}

static void ring_add(struct ring *ring, struct crowd_reader *r)
{
    r->prev = ring->head.prev;
    r->next = &ring->head;
    r->prev->next = r->next->prev = r;
}

static void ring_add_all(struct ring *ring, struct ring *from)
{
    if (ring_empty(from)) return;
    struct crowd_reader *first = from->head.next, *last = from->head.prev;
    first->prev = ring->head.prev;
    first->prev->next = first;
    last->next = &ring->head;
    ring->head.prev = last;
    ring_init(from);
}

// ---- pieces ------------------------------------------------------------------------------------------------------------

static void pieces_drop(struct crowd *c)
{
    for (unsigned i = 0; i < PIECES_KEPT; i++) {
        bytes_unref(c->kept[i].piece.frame.wire);
        c->kept[i] = (struct kept){0};
    }
}

// One that ended before what it was asked for was cut by its size: it stays what it is.
static bool kept_fits(const struct kept *k, const struct stream_info *info, uint64_t from, uint64_t to, uint64_t cursor)
{
    if (k->piece.frame.wire == NULL || k->piece.from != from || k->piece.cursor != cursor) return false;
    if (k->piece.more) return k->piece.next < to;
    return k->to == to && k->tail == info->offset && k->closed == info->closed;
}

// The bytes, and one before them where there is one: it tells whether a line's end was cut in two.
static int piece_read(struct crowd *c, const struct stream_info *info, uint64_t from, uint64_t to, struct buf *raw, bool *before)
{
    struct span path = SPAN(c->path, c->path_n);
    int err = 0;
    *before = c->encoding == STREAM_TEXT && from > info->first;
    // One read may end where bytes lie elsewhere: even with the one before alone.
    while (err == 0 && raw->n <= *before) {
        uint64_t at = from - *before + raw->n;
        err = streams_read(app_streams(c->app), app_txn(c->app), path, at, to - at < PART_BYTES_MAX ? (size_t)(to - at) : PART_BYTES_MAX, raw);
    }
    return err != 0 ? err : raw->err;
}

static int piece_encode(struct crowd *c, const struct stream_info *info, uint64_t to, struct span raw, bool after_cr, struct crowd_piece *out)
{
    struct buf b;
    buf_init(&b, 8 * STREAM_APPEND_MAX); // one JSON message may be as long as an append
    bool tail = out->from + raw.n == info->offset;
    size_t n = stream_frame_whole(c->encoding, raw, tail && info->closed);
    out->next = out->from + n;
    out->up_to_date = tail;
    out->more = out->from + raw.n < to && n > 0;
    if (n > 0) stream_frame_data(&b, c->encoding, SPAN(raw.p, n), after_cr);
    struct stream_control control = {out->next, out->cursor, tail, info->closed && out->next == info->offset};
    stream_frame_control(&b, &control);
    int err = b.err == 0 && reply_frame_make(&out->frame, buf_span(&b)) ? 0 : ERR_NOMEM;
    buf_free(&b);
    return err;
}

static int piece_make(struct crowd *c, const struct stream_info *info, uint64_t to, struct crowd_piece *out)
{
    struct buf raw;
    bool before = false;
    buf_init(&raw, 2 * STREAM_APPEND_MAX);
    int err = out->from < to ? piece_read(c, info, out->from, to, &raw, &before) : 0;
    struct span bytes = before ? span_sub(buf_span(&raw), 1, raw.n) : buf_span(&raw);
    if (err == 0) err = piece_encode(c, info, to, bytes, before && raw.p[0] == '\r', out);
    buf_free(&raw);
    return err;
}

int crowd_piece(struct crowd_reader *reader, const struct stream_info *info, uint64_t from, uint64_t to, uint64_t cursor, const struct crowd_piece **out)
{
    struct crowd *c = reader->crowd;
    assert(to <= info->offset);
    for (unsigned i = 0; i < PIECES_KEPT; i++) {
        if (!kept_fits(&c->kept[i], info, from, to, cursor)) continue;
        *out = &c->kept[i].piece;
        return 0;
    }
    struct kept *k = &c->kept[c->next_kept++ % PIECES_KEPT];
    bytes_unref(k->piece.frame.wire);
    *k = (struct kept){.piece = {.from = from, .cursor = cursor}, .to = to, .tail = info->offset, .closed = info->closed};
    int err = piece_make(c, info, to, &k->piece);
    if (err != 0) return err;
    *out = &k->piece;
    return 0;
}

uint32_t crowd_jitter(const struct crowd_reader *reader)
{
    return reader->crowd->jitter;
}

// ---- serving -----------------------------------------------------------------------------------------------------------

static void crowd_free(struct crowd *c)
{
    struct feed *feed = c->sub->feed;
    if (feed->crowd == c) feed->crowd = NULL;
    feed->ops->detach(c->sub);
    hub_drop(&c->woken);
    app_user_remove(&c->user);
    pieces_drop(c);
    free(c);
}

int crowd_look(struct app *app, struct span path, uint64_t number, struct stream_info *out)
{
    if (!streams_find(app_streams(app), app_txn(app), path, out) || out->number != number) return ERR_NO_SUCH_STREAM;
    if (out->gone) return ERR_STREAM_GONE;
    return out->deadline_ms != 0 && clock_wall_ms() >= out->deadline_ms ? ERR_NO_SUCH_STREAM : 0;
}

static void send_away(struct crowd_reader *r, int err)
{
    crowd_leave(r);
    r->ops->over(r, err);
}

static void serve_first(struct crowd *c, int err, const struct stream_info *info)
{
    struct crowd_reader *r = c->waiting.head.next;
    ring_remove(r);
    ring_add(&c->idle, r);
    if (err != 0) send_away(r, err);
    else if (r->ops->serve(r, info)) crowd_ask(r);
}

static void on_woken(struct hub_item *item)
{
    struct crowd *c = (struct crowd *)((char *)item - offsetof(struct crowd, woken));
    struct stream_info info;
    if (app_txn(c->app) == NULL) return; // on_reset comes, or came
    c->running = true;
    int err = crowd_look(c->app, SPAN(c->path, c->path_n), c->number, &info);
    do {
        if (!ring_empty(&c->waiting)) serve_first(c, err, &info);
    } while (!ring_empty(&c->waiting) && hub_serve(c->hub));
    c->running = false;
    if (c->count == 0) crowd_free(c);
    else if (!ring_empty(&c->waiting)) hub_wake(c->hub, &c->woken);
    else pieces_drop(c); // all are at the tail, or wait for their sockets
}

static void on_wake(struct feed_sub *sub)
{
    struct crowd *c = sub->owner;
    ring_add_all(&c->waiting, &c->idle);
    hub_wake(c->hub, &c->woken);
}

static void on_reset(struct app_user *user, int err)
{
    struct crowd *c = (struct crowd *)user;
    c->running = true;
    ring_add_all(&c->waiting, &c->idle);
    while (!ring_empty(&c->waiting))
        send_away(c->waiting.head.next, err);
    c->running = false;
    crowd_free(c);
}

// ---- coming and going ----------------------------------------------------------------------------------------------------

static int crowd_open(struct crowd **out, struct hub *hub, struct app *app, struct span path, const struct stream_info *info, struct feed_sub *sub)
{
    struct crowd *c = calloc(1, sizeof *c + path.n);
    if (c == NULL) return ERR_NOMEM;
    *c = (struct crowd){.app = app, .hub = hub, .woken = {.run = on_woken}, .sub = sub, .number = info->number, .encoding = stream_encoding_of(info->type), .path_n = path.n};
    memcpy(c->path, path.p, path.n);
    random_bytes(&c->jitter, sizeof c->jitter);
    ring_init(&c->waiting);
    ring_init(&c->idle);
    sub->wake = on_wake;
    sub->owner = c;
    sub->feed->crowd = c;
    app_user_add(app, &c->user, on_reset);
    *out = c;
    return 0;
}

// One reader at the feed stands for all. A crowd of another stream, at this path before, is about to be told so.
static int crowd_find(struct crowd **out, struct hub *hub, struct app *app, struct span path, const struct stream_info *info)
{
    struct feed_sub *sub;
    int err = streams_attach(app_streams(app), app_txn(app), path, info->offset, false, 0, &sub, NULL);
    if (err != 0) return err;
    struct crowd *c = sub->feed->crowd;
    bool there = c != NULL && c->number == info->number;
    if (!there) err = crowd_open(&c, hub, app, path, info, sub);
    if (there || err != 0) sub->feed->ops->detach(sub);
    if (err == 0) *out = c;
    return err;
}

int crowd_join(struct crowd_reader *reader, struct hub *hub, struct app *app, struct span path, const struct stream_info *info)
{
    struct crowd *c;
    int err = crowd_find(&c, hub, app, path, info);
    if (err != 0) return err;
    reader->crowd = c;
    ring_add(&c->idle, reader);
    c->count++;
    return 0;
}

void crowd_leave(struct crowd_reader *reader)
{
    struct crowd *c = reader->crowd;
    if (c == NULL) return;
    assert(c->count > 0);
    ring_remove(reader);
    reader->crowd = NULL;
    c->count--;
    if (c->count == 0 && !c->running) crowd_free(c);
}

void crowd_ask(struct crowd_reader *reader)
{
    struct crowd *c = reader->crowd;
    ring_remove(reader);
    ring_add(&c->waiting, reader);
    hub_wake(c->hub, &c->woken);
}
