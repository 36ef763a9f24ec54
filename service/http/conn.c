// One connection: bytes in, requests, bytes out. The drawing of its states is in conn.h.
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/sendfile.h>

#include "err.h"
#include "log.h"

#define GATHER_MAX 64     // pieces of one write
#define WRITES_PER_TURN 8 // of one connection, so that a fast reader leaves room for others
#define FILE_STEP (64 * KIB) // of a file that is read, where the socket is full
#define MEMORY_KEPT 4096  // in a buffer of a connection that has nothing in it
#define KEEPALIVE_S 60    // TCP's own probes find peers whose machine is gone

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf);
static void on_deadline(struct wheel_entry *e);

static bool outbox_full(const struct conn *c)
{
    return c->out.n >= c->set->options.limits.outbox;
}

static bool is_writing(const struct conn *c)
{
    return c->writing || c->frame.away;
}

// ---- opening and closing ------------------------------------------------------------------------------------------

static void conn_free(struct conn *c)
{
    http_parse_free(c->parse);
    buf_free(&c->inbox);
    buf_free(&c->fields);
    buf_free(&c->text);
    outbox_free(&c->out);
    free(c);
}

// Without a socket yet. NULL: no memory; `parse` is still the caller's.
static struct conn *conn_new(struct conns *cs, struct http_parse *parse)
{
    struct conn *c = parse == NULL ? NULL : calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->parse = parse;
    c->set = cs;
    // What one read brought, behind what was left of the one before: reading stops while anything is left.
    buf_init(&c->inbox, 2 * cs->options.limits.read);
    buf_init(&c->fields, HTTP_HEADERS_MAX);
    buf_init(&c->text, HTTP_TARGET_MAX);
    uv_tcp_init(cs->options.loop, &c->tcp);
    c->tcp.data = c;
    conns_link(cs, c);
    c->read_ms = c->send_ms = conns_now(cs);
    return c;
}

bool conn_open(struct conns *cs)
{
    struct http_parse *parse = http_parse_new();
    struct conn *c = conn_new(cs, parse);
    if (c == NULL) {
        http_parse_free(parse);
        return false;
    }
    if (uv_accept((uv_stream_t *)&cs->listener, (uv_stream_t *)&c->tcp) < 0) {
        conn_cut(c);
        return true;
    }
    cs->counts.accepted++;
    uv_tcp_nodelay(&c->tcp, 1);
    uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
    conn_mark(c);
    return true;
}

void conn_adopt(struct conns *cs, struct conn_moved *m)
{
    struct conn *c = cs->stopping ? NULL : conn_new(cs, m->parse);
    if (c == NULL || uv_tcp_open(&c->tcp, m->fd) < 0) {
        if (c != NULL) c->parse = NULL;
        if (c != NULL) conn_cut(c);
        conn_moved_drop(m);
        return;
    }
    c->inbox = m->rest;
    c->adopted = true;
    conns_total(m->total, -1u); // it is one of this set's now
    free(m);
    conn_mark(c);
}

static void unmark(struct conn *c)
{
    struct conn **at = &c->set->marked;
    while (*at != NULL && *at != c)
        at = &(*at)->marked_next;
    if (*at != c) return;
    *at = c->marked_next;
    if (c->set->marked_end == &c->marked_next) c->set->marked_end = at;
}

bool conn_is_held(const struct conn *c)
{
    const struct conns_options *o = &c->set->options;
    return c->request != NULL && o->held != NULL && o->held(o->ctx, c->request);
}

void conn_hold(struct conn *c)
{
    if (c->held_at != NULL || c->state == CONN_CLOSED) return;
    c->held_next = NULL;
    c->held_at = c->set->held_end;
    *c->held_at = c;
    c->set->held_end = &c->held_next;
}

static void unhold(struct conn *c)
{
    if (c->held_at == NULL) return;
    *c->held_at = c->held_next;
    if (c->held_next != NULL) c->held_next->held_at = c->held_at;
    else c->set->held_end = c->held_at;
    c->held_at = NULL;
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct conns *cs = c->set;
    if (c->marked) unmark(c);
    unhold(c);
    conn_free(c);
    conns_handle_closed(cs);
}

// The request's last moment; afterwards it is gone.
static void request_end(struct conn *c)
{
    struct request *r = c->request;
    if (r == NULL) return;
    wheel_unset(&c->set->wheel, &c->timer);
    if (r->handler != NULL && r->handler->done != NULL) r->handler->done(r);
    reply_uncode(c);
    c->request = NULL;
    c->set->body_n -= c->body_n;
    c->body_n = 0;
    buf_free(&r->body);
    free(r);
}

void conn_cut(struct conn *c)
{
    if (c->state == CONN_CLOSED) return;
    c->broken = true; // before done is called: replying from there is a no-op
    request_end(c);
    c->state = CONN_CLOSED;
    wheel_unset(&c->set->wheel, &c->deadline);
    conns_unlink(c->set, c);
    if (!c->frame.away) uv_close((uv_handle_t *)&c->tcp, on_closed); // else its descriptor is being written to: conn_on_sent
}

void conn_mark(struct conn *c)
{
    if (c->marked || c->state == CONN_CLOSED) return;
    c->marked = true;
    c->marked_next = NULL;
    *c->set->marked_end = c;
    c->set->marked_end = &c->marked_next;
    conns_wake(c->set);
}

void conn_break(struct conn *c)
{
    c->broken = true;
    conn_mark(c);
}

// ---- requests -----------------------------------------------------------------------------------------------------

static bool request_begin(struct conn *c)
{
    static const struct handler nobody = {0};
    struct request *r = malloc(sizeof *r);
    if (r == NULL) return false;
    *r = (struct request){.server = c->set->options.server, .handler = &nobody, .method = METHOD_GET, .content_length = -1, .conn = c};
    buf_clear(&c->text);
    buf_clear(&c->fields);
    c->request = r;
    c->begin_due = c->timer_due = false;
    c->requests++;
    c->set->counts.requests++;
    c->reply = REPLY_NONE;
    c->paused = c->expect = c->full_told = c->frames = c->old = false;
    return true;
}

struct buf *request_text(struct request *r)
{
    return &r->conn->text;
}

static void slim(struct buf *b)
{
    if (b->n == 0 && b->cap > MEMORY_KEPT) buf_free(b);
}

// Ends what has a reply and sees to what comes next on this connection.
static void reply_done(struct conn *c)
{
    assert(c->reply == REPLY_ENDED && c->request != NULL);
    request_end(c);
    buf_clear(&c->fields);
    slim(&c->fields);
    buf_clear(&c->text);
    slim(&c->text);
    c->read_ms = conns_now(c->set);
    if (c->last || c->set->stopping)
        c->state = CONN_LINGER;
    else if (c->state == CONN_BODY)
        c->state = CONN_DISCARD;
    else {
        http_parse_reset(c->parse);
        c->state = CONN_HEAD;
    }
    c->dropped = 0;
}

// What cannot be understood gets a reply, and is the last; where one is under way already the connection is cut.
static void refuse(struct conn *c, const struct problem *p)
{
    c->set->counts.bad_requests++;
    if (c->state == CONN_DISCARD) {
        c->state = CONN_LINGER;
        return;
    }
    if (c->request == NULL && !request_begin(c)) {
        conn_break(c);
        return;
    }
    c->last = true;
    reply_problem(c->request, p);
}

static bool is_elsewhere(struct conn *c, const struct http_head *head)
{
    const struct conns_options *o = &c->set->options;
    c->to = o->elsewhere != NULL ? o->elsewhere(o->ctx, head->path) : NULL;
    return c->to != NULL;
}

static void begin(struct conn *c)
{
    c->begin_due = conn_is_held(c);
    if (!c->begin_due) c->request->handler->begin(c->request);
}

static void on_head(struct conn *c)
{
    const struct http_head *head = http_parse_head(c->parse);
    if (is_elsewhere(c, head)) {
        c->state = CONN_MOVING;
        return;
    }
    if (!request_begin(c)) {
        conn_break(c);
        return;
    }
    struct request *r = c->request;
    r->method = head->method;
    r->path = head->path;
    r->query = head->query;
    r->content_length = head->content_length;
    c->body_left = head->content_length > 0 ? (uint64_t)head->content_length : 0;
    c->expect = head->expect_continue && (head->chunked || head->content_length > 0);
    c->last = !head->keep_alive;
    c->old = head->minor == 0;
    c->state = CONN_BODY;
    c->set->options.dispatch(r);
    if (c->reply != REPLY_NONE || c->broken) return;
    assert(r->handler->begin != NULL);
    uint64_t body_max = r->handler->body_max;
    if (head->content_length > 0 && (uint64_t)head->content_length > body_max) {
        struct problem p = PROBLEM_NONE;
        problem_set(&p, ERR_TOO_LARGE, -1, "the limit is %llu bytes", (unsigned long long)body_max);
        reply_problem(r, &p);
        return;
    }
    http_parse_body_max(c->parse, body_max);
    buf_init(&r->body, r->handler->body == NULL ? body_max : 0);
    if (r->handler->body != NULL) begin(c);
}

static void on_piece(struct conn *c, struct span piece)
{
    struct request *r = c->request;
    c->read_ms = conns_now(c->set);
    c->expect = false; // it did not wait
    c->body_left -= piece.n < c->body_left ? piece.n : c->body_left;
    if (c->state == CONN_DISCARD) {
        c->dropped += piece.n;
        if (c->dropped > HTTP_DISCARD_MAX) c->state = CONN_LINGER;
        return;
    }
    if (r->handler->body != NULL) {
        r->handler->body(r, piece);
        return;
    }
    // Who sends bodies slowly is not to have the memory that all others need.
    int err = c->set->body_n + piece.n > c->set->options.limits.bodies ? ERR_BUSY : 0;
    if (err == 0) buf_put_span(&r->body, piece);
    if (err == 0) err = r->body.err;
    if (err != 0) {
        reply_error(r, err);
        return;
    }
    c->body_n += piece.n;
    c->set->body_n += piece.n;
}

static void on_end(struct conn *c)
{
    if (c->state == CONN_DISCARD) {
        http_parse_reset(c->parse);
        c->state = CONN_HEAD;
        c->read_ms = conns_now(c->set);
        return;
    }
    struct request *r = c->request;
    c->state = CONN_REPLY;
    c->expect = false;
    if (r->handler->body == NULL)
        begin(c);
    else if (r->handler->body_end != NULL)
        r->handler->body_end(r);
}

// ---- input --------------------------------------------------------------------------------------------------------

static bool may_take(const struct conn *c)
{
    switch (c->state) {
    case CONN_HEAD: return !c->broken && !outbox_full(c);
    case CONN_BODY: return !c->broken && !c->paused && (c->request->handler->body == NULL || !conn_is_held(c));
    case CONN_RAW: return !c->broken && !c->paused && !conn_is_held(c);
    case CONN_DISCARD: return !c->broken;
    default: return false;
    }
}

// Another protocol's bytes: as many as its handler wants now.
static void raw_take(struct conn *c, struct span *in)
{
    if (!may_take(c)) return;
    size_t used = c->request->handler->raw(c->request, *in);
    assert(used <= in->n);
    *in = span_sub(*in, used, in->n);
    if (c->reply == REPLY_ENDED) reply_done(c);
}

// What could not be when it was due.
static void catch_up(struct conn *c)
{
    if (c->request == NULL || c->broken || !(c->begin_due || c->timer_due) || conn_is_held(c)) return;
    if (c->begin_due) begin(c);
    if (c->timer_due && !c->broken && c->reply != REPLY_ENDED) c->timer_due = false, c->timer_fn(c->request);
}

// Hands input on as far as it may be, and returns how much that was.
static size_t conn_take(struct conn *c, struct span in)
{
    size_t all = in.n;
    catch_up(c);
    if (c->request != NULL && c->reply == REPLY_ENDED) reply_done(c); // ended between two turns
    if (c->adopted && may_take(c)) {
        c->adopted = false;
        on_head(c);
        if (c->request != NULL && c->reply == REPLY_ENDED) reply_done(c);
    }
    while (may_take(c) && c->state != CONN_RAW) {
        struct problem p = PROBLEM_NONE;
        struct span piece;
        bool begun = http_parse_begun(c->parse);
        int event = http_parse_next(c->parse, &in, &piece, &p);
        if (!begun) c->read_ms = conns_now(c->set); // the head's time runs from its first byte
        if (event < 0)
            refuse(c, &p);
        else if (event == PARSE_HEAD)
            on_head(c);
        else if (event == PARSE_PIECE)
            on_piece(c, piece);
        else if (event == PARSE_END)
            on_end(c);
        if (c->request != NULL && c->reply == REPLY_ENDED) reply_done(c);
        if (event == PARSE_MORE) break;
    }
    if (c->state == CONN_RAW) raw_take(c, &in);
    if (c->state != CONN_LINGER) return all - in.n;
    c->dropped += in.n;
    return all;
}

// A place for nothing but the request's body, and for more of it than a read takes elsewhere: then it need not be copied.
static bool alloc_room(struct conn *c, uv_buf_t *buf)
{
    struct request *r = c->request;
    size_t least = c->set->options.limits.read, n = c->body_left < SIZE_MAX ? (size_t)c->body_left : SIZE_MAX;
    if (c->state != CONN_BODY || c->inbox.n > 0 || !may_take(c) || c->reply == REPLY_ENDED || n < least || r->handler->body_room == NULL) return false;
    uint8_t *room = r->handler->body_room(r, &n);
    if (room == NULL || n < least) return false;
    *buf = uv_buf_init((char *)room, (unsigned)n);
    return true;
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    struct conn *c = handle->data;
    if (alloc_room(c, buf)) return;
    *buf = uv_buf_init((char *)c->set->scratch, (unsigned)c->set->options.limits.read);
}

static void reading_stop(struct conn *c)
{
    if (c->reading) uv_read_stop((uv_stream_t *)&c->tcp);
    c->reading = false;
}

static void reading_start(struct conn *c)
{
    if (!c->reading) uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    c->reading = true;
}

static void on_eof(struct conn *c, ssize_t n)
{
    reading_stop(c);
    if (n != UV_EOF) {
        conn_cut(c);
        return;
    }
    c->eof = true;
    conn_mark(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n == 0) return;
    if (n < 0) {
        on_eof(c, n);
        return;
    }
    c->set->counts.bytes_in += (size_t)n;
    struct span in = SPAN(buf->base, (size_t)n);
    // What is left over has to go first; there is at most one read of it, for the socket is not read while there is any.
    size_t used = c->inbox.n > 0 ? 0 : conn_take(c, in);
    buf_put_span(&c->inbox, span_sub(in, used, in.n));
    if (c->inbox.err < 0) c->broken = true;
    // A full read means that more is waiting: others come first.
    if (c->inbox.n > 0 || (size_t)n == buf->len) reading_stop(c);
    conn_mark(c);
}

// ---- output -------------------------------------------------------------------------------------------------------

static void sent(struct conn *c, size_t n)
{
    outbox_consume(&c->out, n);
    c->set->counts.bytes_out += n;
    if (n > 0) c->send_ms = conns_now(c->set);
}

static void on_written(uv_write_t *req, int status)
{
    struct conn *c = req->data;
    c->writing = false;
    if (c->state == CONN_CLOSED) return;
    if (status < 0) {
        conn_cut(c);
        return;
    }
    sent(c, c->writing_n);
    conn_mark(c);
}

// The socket is full: libuv writes what is gathered when there is room.
static void write_later(struct conn *c)
{
    struct iovec iov[GATHER_MAX];
    int count = outbox_gather(&c->out, iov, GATHER_MAX);
    c->writing_n = 0;
    for (int i = 0; i < count; i++)
        c->writing_n += iov[i].iov_len;
    c->writing = true;
    c->writing_seen = c->writing_n;
    c->write_req.data = c;
    _Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec) && offsetof(uv_buf_t, len) == offsetof(struct iovec, iov_len),
                   "libuv's promise");
    if (uv_write(&c->write_req, (uv_stream_t *)&c->tcp, (uv_buf_t *)iov, (unsigned)count, on_written) < 0) {
        c->writing = false;
        c->broken = true;
    }
}

bool conn_write_aside(struct conn *c, struct bytes *b, size_t from, size_t n)
{
    uv_os_fd_t fd;
    struct egress *e = c->set->egress;
    if (e == NULL || is_writing(c) || c->out.n > 0 || c->broken || c->state == CONN_CLOSED) return false;
    if (!egress_takes(e) || uv_fileno((uv_handle_t *)&c->tcp, &fd) < 0) return false;
    egress_put(e, &c->frame, fd, b, from, n);
    c->send_ms = conns_now(c->set); // its reader's patience is measured from here
    return true;
}

size_t conn_write(struct conn *c, const struct span *list, unsigned count)
{
    uv_buf_t bufs[4];
    assert(count <= sizeof bufs / sizeof *bufs);
    if (is_writing(c) || c->out.n > 0 || c->broken || c->state == CONN_CLOSED) return 0;
    for (unsigned i = 0; i < count; i++)
        bufs[i] = uv_buf_init((char *)list[i].p, (unsigned)list[i].n);
    int n = uv_try_write((uv_stream_t *)&c->tcp, bufs, count);
    if (n < 0 && n != UV_EAGAIN) conn_break(c);
    if (n <= 0) return 0;
    c->set->counts.bytes_out += (size_t)n;
    c->send_ms = conns_now(c->set);
    return (size_t)n;
}

// True: go on. What the socket does not take waits for libuv to say that there is room: it says so by having written something.
static bool send_file(struct conn *c, const struct outbox_piece *piece)
{
    uv_os_fd_t fd;
    off_t at = (off_t)piece->from;
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) < 0) return c->broken = true, false;
    ssize_t n = sendfile(fd, piece->fd, &at, piece->n);
    if (n > 0) sent(c, (size_t)n);
    if (n > 0) return true;
    if (n == 0 || (errno != EAGAIN && errno != EINVAL && errno != EINTR) || !outbox_load(&c->out, FILE_STEP)) return c->broken = true, false;
    write_later(c);
    return false;
}

static bool send_pieces(struct conn *c)
{
    struct iovec iov[GATHER_MAX];
    int count = outbox_gather(&c->out, iov, GATHER_MAX);
    size_t all = 0;
    for (int k = 0; k < count; k++)
        all += iov[k].iov_len;
    int n = uv_try_write((uv_stream_t *)&c->tcp, (uv_buf_t *)iov, (unsigned)count);
    if (n < 0 && n != UV_EAGAIN) return c->broken = true, false;
    sent(c, n < 0 ? 0 : (size_t)n);
    if (n >= 0 && (size_t)n == all) return true;
    write_later(c);
    return false;
}

static void conn_flush(struct conn *c)
{
    if (c->unflushed) reply_flush(c);
    for (int i = 0; i < WRITES_PER_TURN && c->out.n > 0 && !is_writing(c); i++) {
        const struct outbox_piece *file = outbox_first_file(&c->out);
        if (!(file != NULL ? send_file(c, file) : send_pieces(c))) break;
    }
    if (c->out.n > 0 && !is_writing(c) && !c->broken) conn_mark(c);
}

// There is room again for whoever was told that there was none.
static void conn_drain(struct conn *c)
{
    struct request *r = c->request;
    size_t low = c->frames ? 0 : c->set->options.limits.outbox / 2;
    if (r == NULL || !c->full_told || c->frame.away || c->out.n > low || conn_is_held(c)) return;
    c->full_told = c->frames = false;
    conn_mark(c); // what it writes goes out in the next turn
    if (r->handler->drain != NULL) r->handler->drain(r);
}

// Behind a frame that others have written. Its reader goes on at once: that is all there is to do for most of a crowd.
void conn_on_sent(struct egress_frame *f)
{
    struct conn *c = (struct conn *)((char *)f - offsetof(struct conn, frame));
    if (c->state == CONN_CLOSED) {
        uv_close((uv_handle_t *)&c->tcp, on_closed);
        return;
    }
    c->set->counts.bytes_out += f->taken;
    c->set->counts.frames_aside++;
    if (f->taken > 0) c->send_ms = conns_now(c->set);
    if (f->err != 0 || (f->taken < f->n && !outbox_share_first(&c->out, f->bytes, f->from + f->taken, f->n - f->taken))) c->broken = true;
    bool alive = !c->broken && c->out.n == 0 && (c->state == CONN_REPLY || c->state == CONN_RAW);
    if (!alive || !c->full_told || conn_is_held(c)) {
        conn_mark(c);
        return;
    }
    c->full_told = c->frames = false;
    if (c->request->handler->drain != NULL) c->request->handler->drain(c->request);
}

// ---- deadlines ----------------------------------------------------------------------------------------------------

static uint64_t read_due(const struct conn *c)
{
    const struct conn_limits *l = &c->set->options.limits;
    switch (c->state) {
    case CONN_HEAD: return outbox_full(c) ? UINT64_MAX : c->read_ms + (http_parse_begun(c->parse) ? l->request_ms : l->idle_ms);
    case CONN_BODY: return c->paused || conn_is_held(c) ? UINT64_MAX : c->read_ms + l->body_idle_ms;
    case CONN_DISCARD: return c->read_ms + l->body_idle_ms;
    case CONN_LINGER: return c->shut ? c->read_ms + l->linger_ms : UINT64_MAX;
    default: return UINT64_MAX;
    }
}

static uint64_t send_due(struct conn *c)
{
    if (c->out.n == 0) return UINT64_MAX;
    size_t queued = c->writing ? uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) : 0;
    if (c->writing && queued < c->writing_seen) {
        c->writing_seen = queued;
        c->send_ms = conns_now(c->set);
    }
    return c->send_ms + c->set->options.limits.send_idle_ms;
}

static void deadline_set(struct conn *c)
{
    uint64_t due = read_due(c), send = send_due(c);
    if (send < due) due = send;
    if (due == UINT64_MAX)
        wheel_unset(&c->set->wheel, &c->deadline);
    else
        conns_set(c->set, &c->deadline, due, on_deadline);
}

static struct conn *deadline_conn(struct wheel_entry *e)
{
    return (struct conn *)((char *)e - offsetof(struct conn, deadline));
}

static void on_deadline(struct wheel_entry *e)
{
    struct conn *c = deadline_conn(e);
    uint64_t now = conns_now(c->set);
    if (send_due(c) <= now) {
        c->set->counts.timeouts++;
        conn_cut(c);
        return;
    }
    if (read_due(c) > now) {
        deadline_set(c);
        return;
    }
    c->set->counts.timeouts++;
    bool idle = c->state == CONN_HEAD && !http_parse_begun(c->parse);
    if (idle || c->state == CONN_LINGER || c->state == CONN_DISCARD) {
        conn_cut(c);
        return;
    }
    struct problem p = PROBLEM_NONE;
    problem_set(&p, ERR_TIMEOUT, -1, "%s", c->state == CONN_HEAD ? "the head did not arrive in time" : "the body stopped arriving");
    refuse(c, &p);
    conn_mark(c);
}

// ---- the turn -----------------------------------------------------------------------------------------------------

// The peer has ended its side: what it sent in full is still answered, what it left unfinished is over.
static void conn_half_closed(struct conn *c)
{
    if (c->inbox.n > 0 || conn_is_held(c)) return;
    if (c->state == CONN_BODY || c->state == CONN_RAW)
        conn_break(c);
    else if (c->state == CONN_HEAD || c->state == CONN_DISCARD)
        c->state = CONN_LINGER;
}

static void on_shut(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status;
}

// Says that no more will come, and waits for the peer to have heard: closing at once, with input unread, would be a reset
// that may overtake the reply.
static void conn_linger(struct conn *c)
{
    if (c->out.n > 0 || is_writing(c)) return;
    if (c->eof || c->dropped > HTTP_LINGER_BYTES_MAX) {
        conn_cut(c);
        return;
    }
    if (c->shut) return;
    c->shut = true;
    c->read_ms = conns_now(c->set);
    if (uv_shutdown(&c->shutdown_req, (uv_stream_t *)&c->tcp, on_shut) < 0) conn_cut(c);
}

// The other set gets a descriptor of its own: libuv lets go of none that it has.
static struct conn_moved *conn_detach(struct conn *c)
{
    uv_os_fd_t fd = -1;
    struct conn_moved *m = calloc(1, sizeof *m);
    if (m == NULL) return NULL;
    uv_fileno((uv_handle_t *)&c->tcp, &fd);
    *m = (struct conn_moved){.to = c->to, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .parse = c->parse, .rest = c->inbox, .total = c->set->options.total};
    if (m->fd < 0) {
        free(m);
        return NULL;
    }
    c->parse = NULL;
    buf_init(&c->inbox, 0);
    conns_total(m->total, 1);
    return m;
}

// Replies come in the order of their requests: the next set has nothing to say before this one has said everything.
static void conn_move(struct conn *c)
{
    if (c->out.n > 0 || is_writing(c)) return;
    reading_stop(c);
    struct conn_moved *m = conn_detach(c);
    struct conns *cs = c->set;
    conn_cut(c); // the peer sees nothing of it, but where nothing was detached
    if (m == NULL) return;
    cs->counts.moved++;
    cs->options.hand(cs->options.ctx, m);
}

static void conn_read_on(struct conn *c)
{
    bool wait = c->inbox.n > 0 || c->eof || c->state == CONN_MOVING || (c->state == CONN_LINGER && !c->shut);
    // Stopping costs system calls, so an idle handler's connection stays open for reading: that also tells when the peer goes.
    if (wait)
        reading_stop(c);
    else
        reading_start(c);
}

static void conn_continue(struct conn *c)
{
    if (!c->expect || c->state != CONN_BODY || c->paused || c->begin_due || c->reply != REPLY_NONE) return;
    c->expect = false;
    if (!outbox_copy(&c->out, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"))) c->broken = true;
}

void conn_tick(struct conn *c)
{
    if (c->state == CONN_CLOSED) return;
    if (c->request != NULL && c->reply == REPLY_ENDED) reply_done(c);
    // Without input too: the end of a body may have been waiting for its handler to go on.
    size_t used = conn_take(c, c->inbox.n > 0 ? buf_span(&c->inbox) : SPAN_LIT(""));
    if (used > 0) buf_consume(&c->inbox, used);
    slim(&c->inbox);
    if (c->set->stopping && (c->state == CONN_HEAD || c->state == CONN_MOVING)) c->state = CONN_LINGER;
    conn_continue(c);
    if (!c->broken) conn_flush(c);
    if (c->eof) conn_half_closed(c);
    if (c->broken) {
        conn_cut(c);
        return;
    }
    conn_drain(c);
    if (c->state == CONN_MOVING) conn_move(c);
    if (c->state == CONN_LINGER) conn_linger(c);
    if (c->state == CONN_CLOSED) return;
    if (c->inbox.n > 0 && may_take(c)) conn_mark(c); // writing has made room for the next request's reply
    conn_read_on(c);
    deadline_set(c);
    if (conn_is_held(c)) conn_hold(c);
}
