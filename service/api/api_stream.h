// What the parts of the stream surface share: api_stream.c (what they have in common), api_stream_write.c, api_stream_read.c (catch up) and
// api_stream_live.c (follow).
#ifndef SEGUE_API_STREAM_H
#define SEGUE_API_STREAM_H

#include "app.h"
#include "http.h"
#include "stream_headers.h"
#include "stream_pace.h"

enum stream_live { STREAM_CATCH_UP, STREAM_LONG_POLL, STREAM_SSE };

// The request's stream as of now. ERR_BUSY while recovering, ERR_STREAM_GONE, ERR_NO_SUCH_STREAM: there is none, or its time is over.
int stream_lookup(struct request *r, struct span path, struct stream_info *out);

// Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed.
void stream_headers(struct request *r, uint64_t next, bool up_to_date, bool closed);
// One field with an offset in it.
void stream_offset_header(struct request *r, const char *name, uint64_t offset);
// Replies a refusal in this surface's statuses and fields. `received`: the sequence that a producer sent.
void stream_reply_problem(struct request *r, const struct problem *p, uint64_t received);

// A catch-up reply from `offset` on. `cursor` (may be NULL) goes with it as Stream-Cursor: it answers one who follows.
int stream_reply_read(struct request *r, uint64_t offset, const struct stream_info *info, const char *cursor);

// Follows the stream by long-poll or server-sent events, from `offset`, which is not beyond its end; replies at once where there is
// no reason to wait. Events come at once, or at the pace asked for. Takes r->data. Whatever is not 0 was not replied to.
int stream_follow(struct request *r, enum stream_live live, const struct stream_pace *pace, uint64_t offset, const struct stream_info *info);
void stream_follow_drain(struct request *r);
void stream_follow_done(struct request *r);

#endif
