#include "stream_frame.h"

#include <assert.h>
#include <strings.h>

#include "stream_headers.h"
#include "base64.h"
#include "utf8.h"

#define EPOCH_S 1728432000u // 2024-10-09: where the protocol's intervals begin
#define JITTER_S_MAX 3600u

enum stream_encoding stream_encoding_of(const char *type)
{
    size_t n = strcspn(type, "; \t");
    if (n == 16 && strncasecmp(type, "application/json", n) == 0) return STREAM_JSON;
    return strncasecmp(type, "text/", 5) == 0 ? STREAM_TEXT : STREAM_BASE64;
}

size_t stream_frame_whole(enum stream_encoding e, struct span piece, bool final)
{
    if (e != STREAM_TEXT || final) return piece.n;
    size_t valid = utf8_valid_prefix(piece);
    return piece.n - valid < 4 ? valid : utf8_cut(piece, piece.n);
}

// ---- data --------------------------------------------------------------------------------------------------------------

static size_t line_length(struct span s)
{
    const uint8_t *lf = memchr(s.p, '\n', s.n);
    size_t n = lf == NULL ? s.n : (size_t)(lf - s.p);
    const uint8_t *cr = memchr(s.p, '\r', n);
    return cr == NULL ? n : (size_t)(cr - s.p);
}

// Begins a line of an event. Readers take one space off its front: where the content has one of its own, another goes before it. Elsewhere none
// does, as there are readers that look for "data:" and the content right behind it.
static void begin_line(struct buf *out, struct span content)
{
    buf_put_str(out, content.n > 0 && content.p[0] == ' ' ? "data: " : "data:");
}

// Each of CR, LF and CRLF ends a line of an event: none of the content's may end one of ours.
static void put_text(struct buf *out, struct span s, bool after_cr)
{
    if (after_cr && s.p[0] == '\n') s = span_sub(s, 1, s.n);
    for (;;) {
        size_t n = line_length(s);
        begin_line(out, s);
        buf_put(out, s.p, n);
        if (n == s.n) return;
        bool both = s.p[n] == '\r' && n + 1 < s.n && s.p[n + 1] == '\n';
        buf_put_str(out, "\n");
        s = span_sub(s, n + (both ? 2 : 1), s.n);
    }
}

// A message is a line, which has no line break of its own.
static void put_array(struct buf *out, struct span s)
{
    assert(s.n > 2 && s.p[s.n - 2] == ',' && s.p[s.n - 1] == '\n');
    buf_put_str(out, "data:[");
    s.n -= 2;
    for (;;) {
        size_t n = line_length(s);
        buf_put(out, s.p, n);
        if (n == s.n) break;
        buf_put_str(out, "\ndata:");
        s = span_sub(s, n + 1, s.n);
    }
    buf_put_str(out, "]");
}

void stream_frame_data(struct buf *out, enum stream_encoding e, struct span piece, bool after_cr)
{
    assert(piece.n > 0);
    buf_put_str(out, "event: data\n");
    if (e == STREAM_JSON) put_array(out, piece);
    else if (e == STREAM_TEXT) put_text(out, piece, after_cr);
    else {
        buf_put_str(out, "data:");
        base64_encode(out, piece);
    }
    buf_put_str(out, "\n\n");
}

void stream_frame_control(struct buf *out, const struct stream_control *c)
{
    char offset[STREAM_OFFSET_TEXT];
    stream_offset_text(c->next, offset);
    buf_printf(out, "event: control\ndata:{\"streamNextOffset\":\"%s\"", offset);
    if (!c->closed) buf_printf(out, ",\"streamCursor\":\"%llu\"", (unsigned long long)c->cursor);
    if (c->up_to_date) buf_put_str(out, ",\"upToDate\":true");
    if (c->closed) buf_put_str(out, ",\"streamClosed\":true");
    buf_put_str(out, "}\n\n");
}

// ---- cursors ---------------------------------------------------------------------------------------------------------

uint64_t stream_cursor_at(uint64_t now_s)
{
    return now_s < EPOCH_S ? 0 : (now_s - EPOCH_S) / STREAM_CURSOR_S;
}

uint64_t stream_cursor_floor(uint64_t now_s, uint64_t said, uint32_t random)
{
    if (said < stream_cursor_at(now_s)) return 0;
    uint64_t jitter_s = 1 + random % JITTER_S_MAX;
    return said + (jitter_s + STREAM_CURSOR_S - 1) / STREAM_CURSOR_S;
}
