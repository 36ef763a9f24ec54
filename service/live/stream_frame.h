// How a piece of a stream looks as server-sent events (PROTOCOL.md, "Following"), and the cursors that travel with it. Pure.
#ifndef SEGUE_STREAM_FRAME_H
#define SEGUE_STREAM_FRAME_H

#include "buf.h"

enum stream_encoding {
    STREAM_TEXT,   // UTF-8 as it is
    STREAM_JSON,   // messages, each followed by ",\n": one array
    STREAM_BASE64, // any bytes
};

// By the media type, in any case; parameters behind ';' are ignored.
enum stream_encoding stream_encoding_of(const char *type);

// How much of `piece`, which begins at the reader's place, makes one event: a text's last character may be broken for now, and waits
// for the rest of it, unless the stream has ended there. 0 where nothing can be told yet.
size_t stream_frame_whole(enum stream_encoding e, struct span piece, bool final);

// A data event. `after_cr`: the byte before the piece, which an earlier event had, is a CR: a first LF belongs to that line's end.
void stream_frame_data(struct buf *out, enum stream_encoding e, struct span piece, bool after_cr);

struct stream_control {
    uint64_t next;   // offset
    uint64_t cursor; // not told when closed
    bool up_to_date, closed;
};
void stream_frame_control(struct buf *out, const struct stream_control *c);

// ---- cursors ---------------------------------------------------------------------------------------------------------

#define STREAM_CURSOR_S 20 // an interval of time, which a cursor numbers

// The cursor of a moment.
uint64_t stream_cursor_at(uint64_t now_s);
// The least cursor for a reader who came with `said`: a later one, by `random` jitter of 1 to 3600 seconds, where time is not beyond
// what it said. What it is told is never below, and never below that of the moment.
uint64_t stream_cursor_floor(uint64_t now_s, uint64_t said, uint32_t random);

#endif
