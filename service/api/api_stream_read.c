// Reading streams by the Durable Streams protocol (PROTOCOL.md, "streams"): metadata and catching up. Following is in api_stream_live.c.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "api_stream.h"
#include "err.h"
#include "file.h"
#include "json_lines.h"
#include "stream_pipe.h"

#define PAGE_MAX (STREAM_SNAPSHOT_MAX + 2) // a snapshot, in brackets

static void head_begin(struct request *r)
{
    struct stream_info info;
    char text[STREAM_TIME_TEXT];
    int err = stream_lookup(r, r->path, &info);
    if (err != 0) {
        reply_error(r, err);
        return;
    }
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, info.offset, false, info.closed);
    if (info.first > 0) stream_offset_header(r, "Stream-Earliest-Offset", info.first);
    if (info.has_ttl) reply_header(r, "Stream-TTL", "%llu", (unsigned long long)info.ttl_s);
    if (info.expires_ms > 0) {
        stream_time_text(info.expires_ms, text);
        reply_header(r, "Stream-Expires-At", "%s", text);
    }
    reply_body(r, info.type, SPAN_NONE);
}

// ---- pages -------------------------------------------------------------------------------------------------------

// Messages become the array of them.
static void array_begin(const struct stream_info *info, struct buf *b)
{
    if (info->json) buf_put_u8(b, '[');
}

static void array_end(const struct stream_info *info, struct buf *b)
{
    if (!info->json || b->err != 0) return;
    if (b->n > 1) buf_truncate(b, b->n - JSON_LINE_END_BYTES);
    buf_put_u8(b, ']');
}

// What cannot change any more may be kept a while. What grows, or lives by being read, is asked for each time; its tag makes that cheap.
static const char *cache_control(const struct stream_info *info, bool at_tail, bool snapshot)
{
    bool changes = info->deadline_ms > 0 || snapshot || (at_tail && !info->closed);
    return changes ? "private, no-cache" : "private, max-age=60, stale-while-revalidate=300";
}

struct page {
    char etag[112];
    uint64_t next;
    bool snapshot;
    const char *cursor;
    const struct stream_range *range; // the body; NULL: it is given
};

static void reply_page(struct request *r, const struct stream_info *info, struct page *page, struct span body)
{
    struct span tags;
    bool at_tail = page->next == info->offset, closed = at_tail && info->closed;
    bool same = request_header(r, "if-none-match", &tags) && stream_etag_listed(tags, page->etag);
    reply_start(r, same ? 304 : 200);
    reply_header(r, "ETag", "%s", page->etag);
    reply_header(r, "Cache-Control", "%s", cache_control(info, at_tail, page->snapshot));
    if (page->cursor != NULL) reply_header(r, "Stream-Cursor", "%s", page->cursor);
    if (page->snapshot) reply_header(r, "Stream-Snapshot", "true");
    if (info->first > 0) stream_offset_header(r, "Stream-Earliest-Offset", info->first);
    stream_headers(r, page->next, at_tail, closed);
    if (page->range != NULL) reply_header(r, "Vary", "Accept-Encoding");
    if (same) reply_body(r, NULL, SPAN_NONE);
    else if (page->range != NULL) stream_pipe_begin(r, page->range, info->type);
    else reply_body(r, info->type, body);
}

int stream_reply_read(struct request *r, uint64_t offset, const struct stream_info *info, const char *cursor)
{
    struct stream_range range;
    struct page page = {.cursor = cursor, .range = &range};
    int err = stream_pipe_plan(r, info, offset, &range);
    if (err != 0) return err;
    page.next = range.to;
    bool end = page.next == info->offset && info->closed;
    snprintf(page.etag, sizeof page.etag, "\"%llu:%llu:%llu%s%s\"", (unsigned long long)info->number, (unsigned long long)offset, (unsigned long long)page.next, end ? ":c" : "",
             range.coded ? ":z" : range.gzip ? ":g" : "");
    reply_page(r, info, &page, SPAN_NONE);
    return 0;
}

// What stands for the bytes that were trimmed.
static int reply_snapshot(struct request *r, const struct stream_info *info)
{
    struct buf b;
    struct page page = {.next = info->first, .snapshot = true};
    buf_init(&b, PAGE_MAX);
    array_begin(info, &b);
    int err = streams_snapshot(app_streams(r->app), app_txn(r->app), r->path, &b);
    array_end(info, &b);
    if (err == 0) err = b.err;
    bool end = page.next == info->offset && info->closed;
    // Another one may take its place at the same offset.
    snprintf(page.etag, sizeof page.etag, "\"%llu:s%llu:%llu%s\"", (unsigned long long)info->number, (unsigned long long)info->trimmed_seq, (unsigned long long)page.next, end ? ":c" : "");
    if (err == 0) reply_page(r, info, &page, buf_span(&b));
    buf_free(&b);
    return err;
}

// Where the stream ends now, and nothing of what is in it.
static int reply_now(struct request *r, const struct stream_info *info)
{
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    stream_headers(r, info->offset, true, info->closed);
    reply_body(r, info->type, info->json ? SPAN_LIT("[]") : SPAN_NONE);
    return 0;
}

// ---- what is asked -----------------------------------------------------------------------------------------------

struct question {
    enum stream_live live;
    struct stream_pace pace;
    uint64_t offset;
    bool given, now, beginning;
};

// `offset`: "-1" is the beginning, as is none, and "now" the tail.
static int get_offset(struct request *r, const struct stream_info *info, struct question *q, struct problem *p)
{
    struct buf scratch;
    struct span text;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "offset", &scratch, &text);
    int err = found < 0 ? ERR_BAD_OFFSET : 0;
    q->given = found == 1;
    q->now = q->given && span_is(text, "now");
    q->beginning = found == 0 || (q->given && span_is(text, "-1"));
    q->offset = q->now ? info->offset : 0;
    if (q->given && !q->now && !q->beginning) err = stream_offset_parse(text, &q->offset);
    buf_free(&scratch);
    if (err == 0 && q->offset > info->offset) err = ERR_BAD_OFFSET;
    return err != 0 ? problem_set(p, err, -1, "the offset is malformed, given twice, or beyond the stream's end") : 0;
}

static int get_live(struct request *r, struct question *q, struct problem *p)
{
    struct buf scratch;
    struct span text = SPAN_NONE;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, "live", &scratch, &text);
    q->live = found != 1 ? STREAM_CATCH_UP : span_is(text, "long-poll") ? STREAM_LONG_POLL : STREAM_SSE;
    bool bad = found < 0 || (q->live == STREAM_SSE && !span_is(text, "sse"));
    buf_free(&scratch);
    if (bad) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"live\" is long-poll or sse");
    if (q->live != STREAM_CATCH_UP && !q->given) return problem_set(p, ERR_BAD_PARAMETER, -1, "following a stream needs an offset");
    return 0;
}

static int get_pace(struct request *r, struct question *q, struct problem *p)
{
    int err = stream_pace_params(r, &q->pace, p);
    if (err == 0 && q->pace.speed != 0 && q->live != STREAM_SSE) err = problem_set(p, ERR_BAD_PARAMETER, -1, "recorded pace needs live=sse");
    return err;
}

static int trimmed(const struct stream_info *info, struct problem *p)
{
    problem_set(p, ERR_STREAM_TRIMMED, -1, "the stream begins at %llu now", (unsigned long long)info->first);
    problem_number(p, info->first);
    return ERR_STREAM_TRIMMED;
}

static int read_stream(struct request *r, struct problem *p)
{
    struct stream_info info;
    struct question q;
    int err = stream_lookup(r, r->path, &info);
    if (err == 0) err = get_offset(r, &info, &q, p);
    if (err == 0) err = get_live(r, &q, p);
    if (err == 0) err = get_pace(r, &q, p);
    if (err != 0) return err;
    stream_care_note(server_care(r->server, r->app), &info, clock_wall_ms());
    if (q.offset < info.first && q.beginning) {
        // A follower is told bytes alone: it fetches the snapshot first.
        if (info.has_snapshot) return q.live == STREAM_CATCH_UP ? reply_snapshot(r, &info) : trimmed(&info, p);
        q.offset = info.first;
    }
    if (q.offset < info.first) return trimmed(&info, p);
    if (q.live != STREAM_CATCH_UP) return stream_follow(r, q.live, &q.pace, q.offset, &info);
    return q.now ? reply_now(r, &info) : stream_reply_read(r, q.offset, &info, NULL);
}

static void read_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = read_stream(r, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    stream_reply_problem(r, &p, 0);
}

const struct handler api_stream_head = {.begin = head_begin};
const struct handler api_stream_get = {.begin = read_begin, .drain = stream_follow_drain, .done = stream_follow_done};
