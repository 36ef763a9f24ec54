// A catch-up answer's body: a long run of a stream, produced as its reader's socket drains. Bytes go as they lie wherever they can: unsealed
// ones out of shared chunks, sealed raw ones from the file by sendfile, sealed packed ones as the zstd frames that they are, if the client
// takes those. An answer coded so is a row of frames; what no frame stands for exactly (the rest of a record, the tail, an array's brackets) is
// put in frames of its own.
//
//      plan ──> caller: status and fields (ETag with `coded` in it, Vary) ──> begin ──> drain … drain ──> end
//
// Only so much is taken at a time as the outbox takes; between, nothing of the store is held: a stream that is deleted meanwhile, or an app
// that recovers, cuts the connection, and the reader goes on from what it has.
#ifndef SEGUE_STREAM_PIPE_H
#define SEGUE_STREAM_PIPE_H

#include "app.h"
#include "http.h"

struct stream_range {
    uint64_t number;
    uint64_t from, to; // Stream-Next-Offset is `to`
    bool json;         // messages, to be made an array
    bool coded;        // Content-Encoding: zstd. The body is another one then, and needs another ETag
    bool gzip;         // the same, packed as it goes out
};

// What an answer from `from` (at most the tail) on covers: at most STREAM_READ_MAX bytes, whole messages of a stream of messages. Errors of
// streams_read. Every answer to a request for it varies by Accept-Encoding.
int stream_pipe_plan(struct request *r, const struct stream_info *info, uint64_t from, struct stream_range *out);

// After reply_start and the fields, but for Content-Type, -Encoding and -Length: sends the body and ends the reply in its time. May take the
// request's handler and data for as long as it takes; `done` of the handler before is called still.
void stream_pipe_begin(struct request *r, const struct stream_range *range, const char *type);

#endif
