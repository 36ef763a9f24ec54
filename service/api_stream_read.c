// Reading streams by the Durable Streams protocol (PROTOCOL.md, "streams"): metadata and catching up. Following is in api_stream_live.c.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "err.h"

void stream_headers(struct request *r, uint64_t next, bool up_to_date, bool closed)
{
    char text[STREAM_OFFSET_TEXT];
    stream_offset_text(next, text);
    reply_header(r, "Stream-Next-Offset", "%s", text);
    if (up_to_date) reply_header(r, "Stream-Up-To-Date", "true");
    if (closed) reply_header(r, "Stream-Closed", "true");
}

static void head_begin(struct request *r)
{
    struct stream_info info;
    int err = app_txn(r->app) == NULL ? ERR_BUSY : streams_find(app_streams(r->app), app_txn(r->app), r->path, &info) ? 0 : ERR_NO_SUCH_STREAM;
    if (err != 0) {
        reply_error(r, err);
        return;
    }
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, info.offset, false, info.closed);
    reply_body(r, info.type, SPAN_NONE);
}

static bool not_modified(struct request *r, const char *etag)
{
    struct span value;
    return request_header(r, "if-none-match", &value) && span_is(value, etag);
}

int stream_reply_read(struct request *r, uint64_t offset, const struct stream_info *info, const char *cursor)
{
    struct buf b;
    char etag[96];
    buf_init(&b, STREAM_READ_MAX);
    int err = streams_read(app_streams(r->app), app_txn(r->app), r->path, offset, STREAM_READ_MAX, &b);
    if (err == 0) err = b.err;
    if (err != 0) {
        buf_free(&b);
        return err;
    }
    bool at_tail = offset + b.n == info->offset;
    snprintf(etag, sizeof etag, "\"%llu-%llu-%llu%s\"", (unsigned long long)info->number, (unsigned long long)offset, (unsigned long long)(offset + b.n), at_tail && info->closed ? "-closed" : "");
    bool same = not_modified(r, etag);
    reply_start(r, same ? 304 : 200);
    reply_header(r, "ETag", "%s", etag);
    reply_header(r, "Cache-Control", "no-cache");
    if (cursor != NULL) reply_header(r, "Stream-Cursor", "%s", cursor);
    stream_headers(r, offset + b.n, at_tail, at_tail && info->closed);
    if (same) reply_body(r, NULL, SPAN_NONE);
    else reply_body(r, info->type, buf_span(&b));
    buf_free(&b);
    return 0;
}

// Where to begin: `offset` of the query, of which "-1" is the beginning and "now" the tail.
static int get_offset(struct request *r, const struct stream_info *info, uint64_t *offset, bool *given, bool *now, struct problem *p)
{
    struct buf scratch;
    struct span text;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "offset", &scratch, &text);
    int err = found < 0 ? ERR_BAD_OFFSET : 0;
    *given = found == 1;
    *offset = 0;
    *now = found == 1 && span_is(text, "now");
    if (*now) *offset = info->offset;
    else if (found == 1 && !span_is(text, "-1")) err = stream_offset_parse(text, offset);
    buf_free(&scratch);
    if (err == 0 && *offset > info->offset) err = ERR_BAD_OFFSET;
    return err != 0 ? problem_set(p, err, -1, "the offset is malformed, given twice, or beyond the stream's end") : 0;
}

static int get_live(struct request *r, enum stream_live *live, struct problem *p)
{
    struct buf scratch;
    struct span text = SPAN_NONE;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "live", &scratch, &text);
    *live = found != 1 ? STREAM_CATCH_UP : span_is(text, "long-poll") ? STREAM_LONG_POLL : STREAM_SSE;
    bool bad = found < 0 || (*live == STREAM_SSE && !span_is(text, "sse"));
    buf_free(&scratch);
    return bad ? problem_set(p, ERR_BAD_PARAMETER, -1, "\"live\" is long-poll or sse") : 0;
}

static int read_stream(struct request *r, struct problem *p)
{
    struct stream_info info;
    enum stream_live live;
    uint64_t offset;
    bool given, now;
    if (app_txn(r->app) == NULL) return ERR_BUSY;
    if (!streams_find(app_streams(r->app), app_txn(r->app), r->path, &info)) return ERR_NO_SUCH_STREAM;
    int err = get_offset(r, &info, &offset, &given, &now, p);
    if (err == 0) err = get_live(r, &live, p);
    if (err != 0) return err;
    if (live != STREAM_CATCH_UP && !given) return problem_set(p, ERR_BAD_PARAMETER, -1, "following a stream needs an offset");
    if (live != STREAM_CATCH_UP) return stream_follow(r, live, offset, &info);
    if (!now) return stream_reply_read(r, offset, &info, NULL);
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, offset, true, info.closed);
    reply_body(r, info.type, SPAN_NONE);
    return 0;
}

static void read_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = read_stream(r, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

const struct handler api_stream_head = {.begin = head_begin};
const struct handler api_stream_get = {.begin = read_begin, .drain = stream_follow_drain, .done = stream_follow_done};
