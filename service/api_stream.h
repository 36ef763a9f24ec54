// What the two halves of the stream surface share: api_stream.c (write, catch up) and api_stream_live.c (follow).
#ifndef SEGUE_API_STREAM_H
#define SEGUE_API_STREAM_H

#include "app.h"
#include "http.h"

enum stream_live { STREAM_CATCH_UP, STREAM_LONG_POLL, STREAM_SSE };

#define STREAM_OFFSET_TEXT 24

// Offsets on this surface: opaque to clients, 20 digits, so that they sort as text.
void stream_offset_text(uint64_t offset, char text[STREAM_OFFSET_TEXT]);
int stream_offset_parse(struct span text, uint64_t *out);

// Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed.
void stream_headers(struct request *r, uint64_t next, bool up_to_date, bool closed);

// A catch-up reply from `offset` on.
int stream_reply_read(struct request *r, uint64_t offset, const struct stream_info *info);

// Follows the stream by long-poll or server-sent events; takes r->data.
int stream_follow(struct request *r, enum stream_live live, uint64_t offset, const struct stream_info *info);
void stream_follow_drain(struct request *r);
void stream_follow_done(struct request *r);

#endif
