// What the parts of the stream surface share: api_stream_write.c, api_stream_read.c (catch up) and api_stream_live.c (follow).
#ifndef SEGUE_API_STREAM_H
#define SEGUE_API_STREAM_H

#include "app.h"
#include "http.h"
#include "stream_headers.h"

enum stream_live { STREAM_CATCH_UP, STREAM_LONG_POLL, STREAM_SSE };

// Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed.
void stream_headers(struct request *r, uint64_t next, bool up_to_date, bool closed);

// A catch-up reply from `offset` on. `cursor` (may be NULL) goes with it as Stream-Cursor: it answers one who follows.
int stream_reply_read(struct request *r, uint64_t offset, const struct stream_info *info, const char *cursor);

// Follows the stream by long-poll or server-sent events, from `offset`, which is not beyond its end; replies at once where there is
// no reason to wait. Takes r->data. Whatever is not 0 was not replied to.
int stream_follow(struct request *r, enum stream_live live, uint64_t offset, const struct stream_info *info);
void stream_follow_drain(struct request *r);
void stream_follow_done(struct request *r);

#endif
