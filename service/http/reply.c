// Replies: status line and fields are put together in the connection's own memory, then everything goes to its outbox.
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "conn.h"
#include "err.h"
#include "file.h"
#include "http_select.h"
#include "json_write.h"
#include "log.h"

// A producer that goes on after "full" does not wait for drain: a mistake, cut short before it costs memory without end.
#define OVERRUN_MAX 64
#define AROUND_MAX 256 // bytes before or behind a piece
#define PACKED_BODY_MIN 1024 // shorter ones are not worth it
#define PACKED_LEVEL 1

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{101, "Switching Protocols"},
                   {104, "Upload Resumption Supported"},
                   {200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {206, "Partial Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {410, "Gone"},
                   {411, "Length Required"},
                   {412, "Precondition Failed"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {416, "Range Not Satisfiable"},
                   {417, "Expectation Failed"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {426, "Upgrade Required"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"},
                   {507, "Insufficient Storage"}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].status == status) return reasons[i].reason;
    }
    return "";
}

void http_date(uint64_t ms, char text[HTTP_DATE])
{
    struct tm tm;
    time_t t = (time_t)(ms / 1000);
    gmtime_r(&t, &tm);
    // Not strftime's names: they follow the locale.
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    snprintf(text, HTTP_DATE, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday % 7], (unsigned)tm.tm_mday % 100u,
             months[tm.tm_mon % 12], ((unsigned)tm.tm_year + 1900u) % 10000u, (unsigned)tm.tm_hour % 100u, (unsigned)tm.tm_min % 100u,
             (unsigned)tm.tm_sec % 100u);
}

// Made once a second: formatting a date costs as much as the rest of a small reply.
static const char *date(struct conns *cs)
{
    uint64_t now = clock_wall_ms() / 1000;
    if (now == cs->date_s) return cs->date;
    cs->date_s = now;
    http_date(now * 1000, cs->date);
    return cs->date;
}

// Nothing more can reach the peer.
static bool dead(const struct request *r)
{
    return r->conn->broken;
}

// ---- fields ---------------------------------------------------------------------------------------------------------

// A body that is still to come is read and dropped if it is small and the peer sends it for certain; else this reply is the last.
static bool body_spoils(const struct conn *c)
{
    if (c->state != CONN_BODY) return false;
    if (c->expect) return true;
    return c->request->content_length > HTTP_DISCARD_MAX;
}

// Put together by hand: every reply has these, and formatting them took a fifth of a small one's time.
static void put_first_fields(struct conn *c, int status)
{
    struct buf *b = &c->fields;
    char code[] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), ' '};
    buf_put_str(b, "HTTP/1.1 ");
    buf_put(b, code, sizeof code);
    buf_put_str(b, reason(status));
    buf_put_str(b, "\r\nDate: ");
    buf_put_str(b, date(c->set));
    buf_put_str(b, "\r\nX-Content-Type-Options: nosniff\r\nAccess-Control-Allow-Origin: *\r\n"
                   "Access-Control-Expose-Headers: *\r\nCross-Origin-Resource-Policy: cross-origin\r\n");
}

void reply_start(struct request *r, int status)
{
    struct conn *c = r->conn;
    if (dead(r)) return;
    assert(c->reply == REPLY_NONE && (status == 101 || (status >= 200 && status <= 599)));
    c->reply = REPLY_FIELDS;
    c->bodiless = r->method == METHOD_HEAD || status == 204 || status == 304;
    c->last = c->last || c->set->stopping || body_spoils(c);
    c->set->counts.statuses[status / 100]++;
    buf_clear(&c->fields);
    put_first_fields(c, status);
    if (r->fields != NULL) buf_put_str(&c->fields, r->fields);
    // A length where there can be none would be an error: 204 never has one, 304 would have to tell that of the full reply.
    c->left = status == 204 || status == 304 ? 0 : -1;
    c->coding = CODING_NONE;
}

static void put_value(struct buf *b, const char *fmt, va_list args)
{
    char text[1024];
    if (strcmp(fmt, "%s") == 0) { // most are ready
        buf_put_str(b, va_arg(args, const char *));
        return;
    }
    va_list again; // for what is longer: names that were escaped, lists
    va_copy(again, args);
    int n = vsnprintf(text, sizeof text, fmt, args);
    assert(n >= 0);
    if ((size_t)n < sizeof text) {
        buf_put(b, text, (size_t)n);
    } else if (buf_reserve(b, (size_t)n + 1) != NULL) {
        vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void reply_header(struct request *r, const char *name, const char *fmt, ...)
{
    struct conn *c = r->conn;
    if (dead(r)) return;
    assert(c->reply == REPLY_FIELDS);
    buf_put_str(&c->fields, name);
    buf_put_str(&c->fields, ": ");
    size_t from = c->fields.n;
    va_list args;
    va_start(args, fmt);
    put_value(&c->fields, fmt, args);
    va_end(args);
    if (c->fields.err < 0) {
        conn_break(c);
        return;
    }
    for (size_t i = from; i < c->fields.n; i++)
        assert(c->fields.p[i] != '\r' && c->fields.p[i] != '\n' && c->fields.p[i] != 0);
    buf_put_str(&c->fields, "\r\n");
}

// The reader's patience is measured from when there is something for it.
static void queue_begin(struct conn *c)
{
    if (c->out.n == 0) c->send_ms = conns_now(c->set);
}

static void queue_copy(struct conn *c, struct span s)
{
    queue_begin(c);
    if (!outbox_copy(&c->out, s)) conn_break(c);
}

void reply_interim(struct request *r, int status, struct span fields)
{
    struct conn *c = r->conn;
    char line[64];
    assert(status >= 102 && status <= 199);
    if (dead(r) || c->old || c->reply != REPLY_NONE || c->out.n >= c->set->options.limits.outbox) return;
    queue_copy(c, SPAN(line, (size_t)snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", status, reason(status))));
    queue_copy(c, fields);
    queue_copy(c, SPAN_LIT("\r\n"));
    conn_mark(c);
}

// Types come from clients and providers, who are not to write fields of ours: what does not print is left out.
static void put_type(struct buf *fields, const char *type)
{
    buf_put_str(fields, "Content-Type: ");
    for (const char *c = type; *c != '\0'; c++)
        if (*c >= ' ' && *c <= '~') buf_put_u8(fields, (uint8_t)*c);
    buf_put_str(fields, "\r\n");
}

// ---- codings --------------------------------------------------------------------------------------------------------

static atomic_uint coders; // of all loops

void reply_may_code(struct request *r)
{
    struct conn *c = r->conn;
    struct span accept;
    if (dead(r)) return;
    assert(c->reply == REPLY_FIELDS);
    reply_header(r, "Vary", "Accept-Encoding");
    if (c->left != 0 && request_header(r, "accept-encoding", &accept)) c->coding = http_choose_coding(accept);
}

bool reply_code_room(void)
{
    return atomic_load_explicit(&coders, memory_order_relaxed) < HTTP_CODERS_MAX;
}

// From here on what is written is packed. `must`: however many there are.
static void code_begin(struct conn *c, bool must)
{
    if (c->bodiless || c->coding == CODING_NONE) return;
    bool room = atomic_fetch_add(&coders, 1) < HTTP_CODERS_MAX || must;
    c->coder = room ? coder_new(c->coding) : NULL;
    if (c->coder != NULL) return;
    atomic_fetch_sub(&coders, 1);
    c->coding = CODING_NONE;
    if (must) conn_break(c);
}

void reply_uncode(struct conn *c)
{
    if (c->coder == NULL) return;
    coder_free(c->coder);
    c->coder = NULL;
    c->unflushed = false;
    c->packed_n = 0;
    atomic_fetch_sub(&coders, 1);
}

void reply_code(struct request *r, enum coding coding)
{
    if (dead(r)) return;
    r->conn->coding = coding;
    code_begin(r->conn, true);
}

static void queue_packed(struct conn *c, struct buf *b)
{
    char line[24];
    if (b->err != 0) conn_break(c);
    if (b->err != 0 || b->n == 0) return;
    queue_begin(c);
    if (c->chunked) queue_copy(c, SPAN(line, (size_t)snprintf(line, sizeof line, "%zx\r\n", b->n)));
    queue_copy(c, buf_span(b));
    if (c->chunked) queue_copy(c, SPAN_LIT("\r\n"));
}

void reply_flush(struct conn *c)
{
    struct buf b;
    c->unflushed = false;
    c->packed_n = 0;
    if (c->broken) return;
    buf_init(&b, HTTP_OUTBOX_MAX * 2);
    coder_flush(c->coder, &b);
    queue_packed(c, &b);
    buf_free(&b);
}

// Packs a piece. Who does not read is not packed for, and a turn packs only so much, however small it becomes.
static bool packed_write(struct conn *c, const struct span *list, unsigned count)
{
    struct buf b;
    if (c->bodiless) return true;
    buf_init(&b, 64 * MIB);
    for (unsigned i = 0; i < count; i++) {
        coder_put(c->coder, list[i], &b);
        c->packed_n += list[i].n;
    }
    queue_packed(c, &b);
    buf_free(&b);
    c->unflushed = true;
    conn_mark(c);
    if (c->writing) c->full_told = c->frames = true;
    if (c->out.n >= c->set->options.limits.outbox || c->packed_n >= c->set->options.limits.outbox) c->full_told = true;
    return !c->full_told;
}

static bool packed_file(struct conn *c, int fd, uint64_t position, size_t n)
{
    struct bytes *b = bytes_alloc(n);
    if (b == NULL || file_read(fd, b->p, n, position) != 0) conn_break(c);
    else packed_write(c, &(struct span){.p = b->p, .n = n}, 1);
    bytes_unref(b);
    file_close(fd);
    return !c->full_told;
}

// The last of it.
static void packed_end(struct conn *c, bool whole)
{
    struct buf b;
    if (c->coder == NULL) return;
    buf_init(&b, HTTP_OUTBOX_MAX * 2);
    if (whole) coder_end(c->coder, &b);
    else coder_flush(c->coder, &b);
    queue_packed(c, &b);
    buf_free(&b);
    reply_uncode(c);
}

// A body that is there as a whole. False: it goes as it is.
static bool packed_whole(struct conn *c, struct span body, struct buf *out)
{
    if (c->coding == CODING_NONE || body.n < PACKED_BODY_MIN || body.n > HTTP_PACKED_BODY_MAX) return false;
    int err = c->coding == CODING_ZSTD ? zstd_pack(out, body, PACKED_LEVEL) : gzip_pack(out, body, PACKED_LEVEL);
    return err == 0 && out->n < body.n;
}

static void put_coding(struct conn *c)
{
    buf_put_str(&c->fields, c->coding == CODING_ZSTD ? "Content-Encoding: zstd\r\n" : "Content-Encoding: gzip\r\n");
}

// Sends the fields on their way. `length` -1: not known.
static void fields_end(struct request *r, const char *type, int64_t length)
{
    struct conn *c = r->conn;
    assert(c->reply == REPLY_FIELDS);
    bool none = c->left == 0; // 204, 304
    c->chunked = length < 0 && !none && !c->old;
    if (length < 0 && !none && c->old) c->last = true;
    c->left = none ? 0 : length;
    if (type != NULL) put_type(&c->fields, type);
    if (c->chunked)
        buf_put_str(&c->fields, "Transfer-Encoding: chunked\r\n");
    else if (!none && length >= 0)
        buf_printf(&c->fields, "Content-Length: %lld\r\n", (long long)length);
    if (c->last)
        buf_put_str(&c->fields, "Connection: close\r\n");
    else if (c->old)
        buf_put_str(&c->fields, "Connection: keep-alive\r\n");
    buf_put_str(&c->fields, "\r\n");
    if (c->fields.err < 0) {
        conn_break(c);
        return;
    }
    queue_copy(c, buf_span(&c->fields));
    c->reply = REPLY_PIECES;
    conn_mark(c);
}

// ---- bodies ---------------------------------------------------------------------------------------------------------

void reply_stream(struct request *r, const char *type, int64_t length)
{
    struct conn *c = r->conn;
    if (dead(r)) return;
    if (c->coder == NULL) code_begin(c, false);
    if (c->coding != CODING_NONE) put_coding(c);
    fields_end(r, type, c->coding != CODING_NONE ? -1 : length);
}

void reply_upgrade(struct request *r)
{
    struct conn *c = r->conn;
    if (dead(r)) return;
    assert(c->reply == REPLY_FIELDS && c->state == CONN_REPLY && !c->old && r->handler->raw != NULL);
    buf_put_str(&c->fields, "Connection: Upgrade\r\n\r\n");
    if (c->fields.err < 0) {
        conn_break(c);
        return;
    }
    c->chunked = false;
    c->left = -1;
    c->last = true; // of this protocol
    c->state = CONN_RAW;
    c->reply = REPLY_PIECES;
    queue_copy(c, buf_span(&c->fields));
    conn_mark(c);
}

// Accounts for a piece and writes what frames it. False: nothing is to be sent.
static bool piece_begin(struct conn *c, size_t n)
{
    assert(c->reply == REPLY_PIECES);
    if (c->out.n > c->set->options.limits.outbox * OVERRUN_MAX) {
        log_error("http", "a producer does not wait for its reader", LF_UINT("conn", c->id));
        conn_break(c);
        return false;
    }
    if (c->left >= 0) {
        assert(c->bodiless || n <= (uint64_t)c->left);
        if (!c->bodiless) c->left -= (int64_t)n;
    }
    if (n == 0 || c->bodiless) return false;
    queue_begin(c);
    if (!c->chunked) return true;
    char line[24];
    queue_copy(c, SPAN(line, (size_t)snprintf(line, sizeof line, "%zx\r\n", n)));
    return true;
}

static bool piece_end(struct conn *c)
{
    if (c->chunked) queue_copy(c, SPAN_LIT("\r\n"));
    conn_mark(c);
    // Once told it holds until drain, whatever is written in between.
    if (c->out.n >= c->set->options.limits.outbox) c->full_told = true;
    return !c->full_told;
}

bool reply_write(struct request *r, struct bytes *piece)
{
    struct conn *c = r->conn;
    if (dead(r)) return true;
    if (c->coder != NULL) return packed_write(c, &(struct span){.p = piece->p, .n = piece->n}, 1);
    if (!piece_begin(c, piece->n)) return !c->full_told;
    if (!outbox_share(&c->out, piece)) conn_break(c);
    return piece_end(c);
}

bool reply_write_span(struct request *r, struct span piece)
{
    struct conn *c = r->conn;
    if (dead(r)) return true;
    if (c->coder != NULL) return packed_write(c, &piece, 1);
    if (!piece_begin(c, piece.n)) return !c->full_told;
    queue_copy(c, piece);
    return piece_end(c);
}

bool reply_frame_make(struct reply_frame *out, struct span piece)
{
    char head[24];
    size_t n = (size_t)snprintf(head, sizeof head, "%zx\r\n", piece.n);
    assert(piece.n > 0); // an empty chunk would end the reply
    struct bytes *wire = bytes_alloc(n + piece.n + 2);
    if (wire == NULL) return false;
    memcpy(wire->p, head, n);
    memcpy(wire->p + n, piece.p, piece.n);
    memcpy(wire->p + n + piece.n, "\r\n", 2);
    *out = (struct reply_frame){.wire = wire, .from = n, .n = piece.n};
    return true;
}

// What the socket did not take is queued between these two. Only what is queued since this turn began says nothing about the socket.
static bool frame_begin(struct conn *c)
{
    bool waits = c->writing || c->out.n == 0;
    queue_begin(c);
    return waits;
}

static bool frame_end(struct conn *c, bool waits, bool queued)
{
    if (!queued) conn_break(c);
    conn_mark(c);
    if (waits) c->full_told = c->frames = true;
    if (c->out.n >= c->set->options.limits.outbox) c->full_told = true;
    return !c->full_told;
}

bool reply_write_frame(struct request *r, const struct reply_frame *frame)
{
    struct conn *c = r->conn;
    if (dead(r)) return true;
    assert(c->reply == REPLY_PIECES && c->left < 0);
    if (c->bodiless) return true;
    if (c->coder != NULL) return packed_write(c, &(struct span){.p = frame->wire->p + frame->from, .n = frame->n}, 1);
    size_t from = c->chunked ? 0 : frame->from, n = c->chunked ? frame->wire->n : frame->n;
    struct span all = SPAN(frame->wire->p + from, n);
    if (conn_write_aside(c, frame->wire, from, n)) {
        c->full_told = c->frames = true;
        return false;
    }
    size_t sent = conn_write(c, &all, 1);
    if (sent == n || dead(r)) return true;
    bool waits = frame_begin(c);
    return frame_end(c, waits, outbox_share_part(&c->out, frame->wire, from + sent, n - sent));
}

// What of this the socket has not taken: a head that is copied, the piece shared, a tail copied.
static bool queue_around(struct conn *c, struct span head, struct bytes *piece, size_t from, size_t n, struct span tail, size_t sent)
{
    size_t h = sent < head.n ? sent : head.n, p = sent - h < n ? sent - h : n, t = sent - h - p;
    return outbox_copy(&c->out, span_sub(head, h, head.n)) && outbox_share_part(&c->out, piece, from + p, n - p) && outbox_copy(&c->out, span_sub(tail, t, tail.n));
}

bool reply_write_around(struct request *r, struct span head, struct bytes *piece, size_t from, size_t n, struct span tail)
{
    struct conn *c = r->conn;
    if (dead(r)) return true;
    assert(c->reply == REPLY_PIECES && c->left < 0 && head.n < AROUND_MAX && tail.n < AROUND_MAX && from + n <= piece->n);
    if (c->bodiless) return true;
    if (c->coder != NULL) return packed_write(c, (struct span[]){head, SPAN(piece->p + from, n), tail}, 3);
    char before[AROUND_MAX + 24], behind[AROUND_MAX + 2];
    size_t b = c->chunked ? (size_t)snprintf(before, 24, "%zx\r\n", head.n + n + tail.n) : 0;
    memcpy(before + b, head.p, head.n);
    memcpy(behind, tail.p, tail.n);
    if (c->chunked) memcpy(behind + tail.n, "\r\n", 2);
    head = SPAN(before, b + head.n);
    tail = SPAN(behind, tail.n + (c->chunked ? 2 : 0));
    struct span all[] = {head, SPAN(piece->p + from, n), tail};
    size_t sent = conn_write(c, all, 3);
    if (sent == head.n + n + tail.n || dead(r)) return true;
    bool waits = frame_begin(c);
    return frame_end(c, waits, queue_around(c, head, piece, from, n, tail, sent));
}

bool reply_write_part(struct request *r, struct bytes *piece, size_t from, size_t n)
{
    struct conn *c = r->conn;
    if (dead(r)) return true;
    if (c->coder != NULL) return packed_write(c, &(struct span){.p = piece->p + from, .n = n}, 1);
    if (!piece_begin(c, n)) return !c->full_told;
    if (!outbox_share_part(&c->out, piece, from, n)) conn_break(c);
    return piece_end(c);
}

bool reply_write_file(struct request *r, int fd, uint64_t position, size_t n)
{
    struct conn *c = r->conn;
    if (!dead(r) && c->coder != NULL) return packed_file(c, fd, position, n);
    bool send = !dead(r) && piece_begin(c, n);
    if (!send) {
        file_close(fd);
        return dead(r) || !c->full_told;
    }
    if (!outbox_file(&c->out, fd, position, n)) conn_break(c);
    return piece_end(c);
}

bool reply_full(const struct request *r)
{
    return r->conn->full_told;
}

size_t reply_queued(const struct request *r)
{
    const struct conn *c = r->conn;
    return c->out.n + (c->frame.away ? c->frame.n : 0);
}

void reply_end(struct request *r)
{
    struct conn *c = r->conn;
    if (dead(r)) return;
    assert(c->reply == REPLY_PIECES);
    assert(c->left <= 0 || c->bodiless);
    packed_end(c, true);
    if (c->chunked && !c->bodiless) queue_copy(c, SPAN_LIT("0\r\n\r\n"));
    c->reply = REPLY_ENDED;
    c->full_told = c->frames = false;
    conn_mark(c);
}

void reply_cut(struct request *r)
{
    struct conn *c = r->conn;
    if (dead(r)) return;
    assert(c->reply == REPLY_PIECES);
    if (c->left > 0) { // the length tells that it is not whole
        conn_break(c);
        return;
    }
    packed_end(c, false);
    c->last = true;
    c->reply = REPLY_ENDED;
    c->full_told = false;
    conn_mark(c);
}

void reply_break(struct request *r)
{
    conn_break(r->conn);
}

void reply_body(struct request *r, const char *type, struct span body)
{
    struct buf packed;
    if (dead(r)) return;
    buf_init(&packed, HTTP_PACKED_BODY_MAX);
    if (packed_whole(r->conn, body, &packed)) {
        put_coding(r->conn);
        body = buf_span(&packed);
    }
    fields_end(r, type, (int64_t)body.n);
    if (!dead(r)) reply_write_span(r, body);
    if (!dead(r)) reply_end(r);
    buf_free(&packed);
}

// ---- problems and JSON ------------------------------------------------------------------------------------------------

void problem_members_typed(struct buf *out, const struct problem *p, const char *type, int status)
{
    buf_printf(out, "\"type\":\"%s\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\"", type, err_text(p->err), status, err_wire(p->err));
    if (p->text[0] != '\0') {
        buf_put_str(out, ",\"detail\":");
        struct jw w;
        jw_init(&w, out);
        jw_cstr(&w, p->text);
    }
    if (p->position >= 0) buf_printf(out, ",\"position\":%lld", (long long)p->position);
}

void problem_members(struct buf *out, const struct problem *p)
{
    problem_members_typed(out, p, "about:blank", err_status(p->err));
}

void reply_problem(struct request *r, const struct problem *p)
{
    reply_problem_with(r, p, err_status(p->err), NULL, NULL);
}

void reply_problem_with(struct request *r, const struct problem *p, int status, void (*fields)(struct request *r, const struct problem *p, void *ctx), void *ctx)
{
    assert(p->err < 0);
    if (dead(r)) return;
    if (r->conn->reply != REPLY_NONE) {
        reply_break(r);
        return;
    }
    struct buf json;
    buf_init(&json, 4 * KIB);
    buf_put_u8(&json, '{');
    problem_members_typed(&json, p, "about:blank", status);
    buf_put_u8(&json, '}');
    reply_start(r, status);
    if (fields != NULL) fields(r, p, ctx);
    if (p->err == ERR_UNAUTHENTICATED) reply_header(r, "WWW-Authenticate", "Bearer");
    if (p->err == ERR_BUSY || p->err == ERR_TOO_MANY || p->err == ERR_SHUTTING_DOWN) reply_header(r, "Retry-After", "1");
    reply_header(r, "Cache-Control", "no-store");
    if (json.err < 0)
        reply_break(r);
    else
        reply_body(r, "application/problem+json", buf_span(&json));
    buf_free(&json);
}

void reply_error(struct request *r, int err)
{
    struct problem p = PROBLEM_NONE;
    p.err = err;
    reply_problem(r, &p);
}

void reply_json(struct request *r, int status, struct buf *json)
{
    if (json->err < 0) {
        reply_error(r, json->err == ERR_TOO_LARGE ? ERR_RESULT_TOO_LARGE : json->err);
        return;
    }
    reply_start(r, status);
    reply_may_code(r);
    reply_body(r, "application/json", buf_span(json));
}
