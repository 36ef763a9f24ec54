#include "ws_frames.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/types.h>
#include <wslay/wslay.h>

#include "limits.h"
#include "utf8.h"

#define CONTROL_MAX 125

struct ws_frames {
    wslay_frame_context_ptr wslay;
    struct span *in;   // of the call under way
    struct buf *out;   // likewise
    size_t message_max, *partial, partial_max;
    struct buf message;   // the one that is coming in, or was handed out last
    uint8_t opcode;       // of it; 0: none is under way
    uint32_t fragments;
    struct buf control;   // the payload of a control frame
    bool in_frame;        // its header was seen
    bool fin, is_control;
    uint8_t frame_opcode;
    uint64_t frame_left;
    bool handed_out;      // the message was: the next call forgets it
    bool over;
    enum ws_code code;
    const char *reason;
};

// ---- the library's ends ----------------------------------------------------------------------------------------------

static ssize_t on_recv(uint8_t *to, size_t n, int flags, void *ctx)
{
    (void)flags;
    struct ws_frames *f = ctx;
    if (n > f->in->n) n = f->in->n;
    if (n == 0) return -1; // which it takes for "not now"
    memcpy(to, f->in->p, n);
    *f->in = span_sub(*f->in, n, f->in->n);
    return (ssize_t)n;
}

static ssize_t on_send(const uint8_t *from, size_t n, int flags, void *ctx)
{
    (void)flags;
    struct ws_frames *f = ctx;
    buf_put(f->out, from, n);
    return f->out->err == 0 ? (ssize_t)n : -1;
}

static int on_mask(uint8_t *to, size_t n, void *ctx)
{
    (void)to, (void)n, (void)ctx;
    return -1; // a server's frames have none
}

struct ws_frames *ws_frames_new(size_t message_max, size_t *partial, size_t partial_max)
{
    static const struct wslay_frame_callbacks callbacks = {.send_callback = on_send, .recv_callback = on_recv, .genmask_callback = on_mask};
    struct ws_frames *f = calloc(1, sizeof *f);
    if (f == NULL) return NULL;
    f->message_max = message_max;
    f->partial = partial;
    f->partial_max = partial_max;
    buf_init(&f->message, message_max);
    buf_init(&f->control, CONTROL_MAX);
    if (wslay_frame_context_init(&f->wslay, &callbacks, f) == 0) return f;
    free(f);
    return NULL;
}

// The memory of a message goes with it: most connections are silent most of the time.
static void forget_message(struct ws_frames *f)
{
    assert(*f->partial >= f->message.n);
    *f->partial -= f->message.n;
    buf_free(&f->message);
    f->opcode = 0;
    f->fragments = 0;
    f->handed_out = false;
}

void ws_frames_free(struct ws_frames *f)
{
    if (f == NULL) return;
    forget_message(f);
    buf_free(&f->control);
    wslay_frame_context_free(f->wslay);
    free(f);
}

enum ws_code ws_frames_code(const struct ws_frames *f)
{
    return f->code;
}

const char *ws_frames_reason(const struct ws_frames *f)
{
    return f->reason;
}

// ---- frames that come in -----------------------------------------------------------------------------------------------

static enum ws_event violation(struct ws_frames *f, enum ws_code code, const char *reason)
{
    forget_message(f);
    f->over = true;
    f->code = code;
    f->reason = reason;
    return WS_VIOLATION;
}

// What a frame's header says is judged when its first bytes are here. WS_MORE: nothing against it.
static enum ws_event frame_begin(struct ws_frames *f, const struct wslay_frame_iocb *io)
{
    f->in_frame = true;
    f->fin = io->fin;
    f->frame_opcode = io->opcode;
    f->frame_left = io->payload_length;
    f->is_control = wslay_is_ctrl_frame(io->opcode);
    if (!io->mask) return violation(f, WS_PROTOCOL, "a client's frames are masked");
    if (io->rsv != 0) return violation(f, WS_PROTOCOL, "a reserved bit is set");
    if (f->is_control) {
        buf_clear(&f->control);
        bool known = io->opcode == WSLAY_CONNECTION_CLOSE || io->opcode == WSLAY_PING || io->opcode == WSLAY_PONG;
        return known ? WS_MORE : violation(f, WS_PROTOCOL, "an unknown opcode");
    }
    if (io->opcode != WSLAY_CONTINUATION_FRAME && io->opcode != WSLAY_TEXT_FRAME && io->opcode != WSLAY_BINARY_FRAME)
        return violation(f, WS_PROTOCOL, "an unknown opcode");
    if ((io->opcode == WSLAY_CONTINUATION_FRAME) != (f->opcode != 0)) return violation(f, WS_PROTOCOL, "a message's frames are out of order");
    if (f->opcode == 0) f->opcode = io->opcode;
    if (++f->fragments > WS_FRAGMENTS_MAX) return violation(f, WS_POLICY, "a message in too many frames");
    if (io->payload_length > f->message_max - f->message.n) return violation(f, WS_TOO_BIG, "a message above the limit");
    return WS_MORE;
}

static enum ws_event frame_data(struct ws_frames *f, struct span data)
{
    assert(data.n <= f->frame_left);
    f->frame_left -= data.n;
    if (f->is_control) {
        buf_put_span(&f->control, data);
        return WS_MORE;
    }
    if (data.n > f->partial_max - *f->partial) return violation(f, WS_TRY_LATER, "too many unfinished messages");
    buf_put_span(&f->message, data);
    if (f->message.err != 0) return violation(f, WS_TRY_LATER, "no memory");
    *f->partial += data.n;
    return WS_MORE;
}

static bool code_valid(unsigned code)
{
    if (code < 1000 || code > 4999) return false;
    return code >= 3000 || (code != 1004 && code != 1005 && code != 1006 && code < 1015);
}

static enum ws_event close_frame(struct ws_frames *f)
{
    const uint8_t *p = f->control.p;
    if (f->control.n == 1) return violation(f, WS_PROTOCOL, "half a close code");
    unsigned code = f->control.n == 0 ? WS_NO_CODE : (unsigned)(p[0] << 8 | p[1]);
    if (f->control.n > 0 && !code_valid(code)) return violation(f, WS_PROTOCOL, "no such close code");
    if (!utf8_valid(span_sub(buf_span(&f->control), 2, CONTROL_MAX))) return violation(f, WS_BAD_DATA, "the reason is not UTF-8");
    forget_message(f);
    f->over = true;
    f->code = (enum ws_code)code;
    return WS_CLOSE;
}

static enum ws_event frame_end(struct ws_frames *f, struct span *payload)
{
    f->in_frame = false;
    if (f->is_control) {
        *payload = buf_span(&f->control);
        if (f->frame_opcode == WSLAY_CONNECTION_CLOSE) return close_frame(f);
        return f->frame_opcode == WSLAY_PING ? WS_PING : WS_PONG;
    }
    if (!f->fin) return WS_MORE;
    *payload = buf_span(&f->message);
    f->handed_out = true;
    if (f->opcode == WSLAY_BINARY_FRAME) return WS_BINARY;
    return utf8_valid(*payload) ? WS_TEXT : violation(f, WS_BAD_DATA, "the text is not UTF-8");
}

// One piece of a frame.
static enum ws_event piece(struct ws_frames *f, const struct wslay_frame_iocb *io, struct span *payload)
{
    enum ws_event event = f->in_frame ? WS_MORE : frame_begin(f, io);
    if (event == WS_MORE) event = frame_data(f, SPAN(io->data, io->data_length));
    if (event == WS_MORE && f->frame_left == 0) event = frame_end(f, payload);
    return event;
}

enum ws_event ws_frames_take(struct ws_frames *f, struct span *in, struct span *payload)
{
    enum ws_event event = WS_MORE;
    f->in = in;
    *payload = SPAN_NONE;
    if (f->handed_out) forget_message(f);
    while (event == WS_MORE && !f->over) {
        struct wslay_frame_iocb io;
        ssize_t n = wslay_frame_recv(f->wslay, &io);
        if (n == WSLAY_ERR_WANT_READ) break;
        event = n < 0 ? violation(f, WS_PROTOCOL, "a malformed frame") : piece(f, &io, payload);
    }
    if (f->over) *in = SPAN_NONE;
    return event;
}

// ---- frames that go out --------------------------------------------------------------------------------------------------

static void put(struct ws_frames *f, struct buf *out, uint8_t opcode, struct span payload)
{
    struct wslay_frame_iocb io = {.fin = 1, .opcode = opcode, .payload_length = payload.n, .data = payload.p, .data_length = payload.n};
    f->out = out;
    buf_reserve(out, payload.n + 16);
    if (out->err != 0) return;
    ssize_t n = wslay_frame_send(f->wslay, &io);
    assert(n == (ssize_t)payload.n || out->err != 0); // a buffer takes all or fails
}

void ws_frames_put_text_head(struct buf *out, size_t n)
{
    buf_put_u8(out, 0x80 | WSLAY_TEXT_FRAME); // the only one of its message
    if (n < 126) {
        buf_put_u8(out, (uint8_t)n);
        return;
    }
    bool large = n > UINT16_MAX;
    buf_put_u8(out, large ? 127 : 126);
    for (int shift = large ? 56 : 8; shift >= 0; shift -= 8)
        buf_put_u8(out, (uint8_t)((uint64_t)n >> shift));
}

void ws_frames_put_text(struct ws_frames *f, struct buf *out, struct span text)
{
    put(f, out, WSLAY_TEXT_FRAME, text);
}

void ws_frames_put_ping(struct ws_frames *f, struct buf *out)
{
    put(f, out, WSLAY_PING, SPAN_NONE);
}

void ws_frames_put_pong(struct ws_frames *f, struct buf *out, struct span payload)
{
    assert(payload.n <= CONTROL_MAX);
    put(f, out, WSLAY_PONG, payload);
}

void ws_frames_put_close(struct ws_frames *f, struct buf *out, enum ws_code code, const char *reason)
{
    uint8_t payload[CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)(code & 0xff)};
    size_t n = utf8_cut(SPAN_STR(reason), sizeof payload - 2);
    if (n > 0) memcpy(payload + 2, reason, n);
    put(f, out, WSLAY_CONNECTION_CLOSE, SPAN(payload, code == WS_NO_CODE ? 0 : n + 2));
}
