// WebSocket frames (RFC 6455, section 5): messages out of bytes and bytes out of messages. The only user of wslay.h, of which it takes the level of
// frames: headers, lengths, masks. What frames make a message, and within which bounds, is decided here, so that nothing a peer declares costs
// memory before it has sent it.
//
//      bytes ─> ws_frames_take ─┬─ message, ping, pong, close: one event at a time
//                               └─ a fault: its close code; nothing is read after
//
// A server's side: what comes in must be masked, what goes out is not. No extensions. One thread.
#ifndef SEGUE_WS_FRAMES_H
#define SEGUE_WS_FRAMES_H

#include "buf.h"

// Close codes (section 7.4.1, and the registry it began).
enum ws_code {
    WS_NORMAL = 1000,
    WS_GOING_AWAY = 1001,
    WS_PROTOCOL = 1002,
    WS_UNSUPPORTED = 1003,
    WS_NO_CODE = 1005, // of a close frame that names none; never sent
    WS_BAD_DATA = 1007,
    WS_POLICY = 1008,
    WS_TOO_BIG = 1009,
    WS_INTERNAL = 1011,
    WS_RESTART = 1012,
    WS_TRY_LATER = 1013,
};

enum ws_event {
    WS_MORE, // all input was taken, and more is needed
    WS_TEXT, // a whole message: valid UTF-8
    WS_BINARY,
    WS_PING, // to be answered with the same payload
    WS_PONG,
    WS_CLOSE,     // the peer's; ws_frames_code tells its code
    WS_VIOLATION, // ws_frames_code is the code to close with, ws_frames_reason a word on why
};

struct ws_frames;

// NULL when memory is exhausted. `message_max`: bytes of a message. `partial`: bytes of unfinished messages of all who share it, of which there
// may be `partial_max`.
struct ws_frames *ws_frames_new(size_t message_max, size_t *partial, size_t partial_max);
void ws_frames_free(struct ws_frames *f); // NULL is fine

// The next event. *in is cut to what was not used; up to a few KiB are kept inside, so call until WS_MORE. *payload lives until the next call. After
// WS_CLOSE and WS_VIOLATION it is always WS_MORE, and the input is dropped.
enum ws_event ws_frames_take(struct ws_frames *f, struct span *in, struct span *payload);
enum ws_code ws_frames_code(const struct ws_frames *f);
const char *ws_frames_reason(const struct ws_frames *f);

// The head of an unfragmented text frame of n bytes, which the caller brings: for those who do not want them copied.
void ws_frames_put_text_head(struct buf *out, size_t n);
// Appends one unfragmented frame.
void ws_frames_put_text(struct ws_frames *f, struct buf *out, struct span text);
void ws_frames_put_ping(struct ws_frames *f, struct buf *out);
void ws_frames_put_pong(struct ws_frames *f, struct buf *out, struct span payload); // at most 125 bytes
void ws_frames_put_close(struct ws_frames *f, struct buf *out, enum ws_code code, const char *reason); // the reason is cut to what fits

#endif
