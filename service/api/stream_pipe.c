#include "stream_pipe.h"

#include <stdlib.h>

#include "compress.h"
#include "err.h"
#include "file.h"
#include "http_select.h"
#include "json_lines.h"
#include "log.h"

#define CODED_MIN 1024  // shorter answers are not worth a frame
#define CODED_LEVEL 1
#define FRAME_ROOM (2 * MIB)

struct stream_pipe {
    struct request *r;
    struct stream_range range;
    uint64_t at, stop; // of the stream's bytes: next, and behind the last that is sent
    const struct handler *handler; // before it was taken
    void *data;
    bool ended;
};

// ---- what is asked for ---------------------------------------------------------------------------------------------

static enum coding wanted(const struct request *r)
{
    struct span list;
    return request_header(r, "accept-encoding", &list) ? http_choose_coding(list) : CODING_NONE;
}

int stream_pipe_plan(struct request *r, const struct stream_info *info, uint64_t from, struct stream_range *out)
{
    struct streams *s = app_streams(r->app);
    struct db_txn *txn = app_txn(r->app);
    struct stream_slice slice;
    struct stream_range range = {.number = info->number, .from = from, .json = info->json};
    int err = streams_page(s, txn, info->number, from, STREAM_READ_MAX, &range.to);
    if (err != 0 || range.to == from) return err != 0 ? err : (*out = range, 0);
    enum coding coding = range.to - from >= CODED_MIN ? wanted(r) : CODING_NONE;
    bool takes = coding == CODING_ZSTD;
    err = streams_slice(s, txn, info->number, from, range.to, takes, &slice); // an error is found while there is still a status to tell it
    if (err != 0) return err;
    range.coded = takes && (slice.fd < 0 || slice.packed); // what did not pack once is not tried again
    range.gzip = coding == CODING_GZIP && http_type_packs(info->type) && reply_code_room(); // a slow reader of one keeps its coder for long
    streams_slice_free(&slice);
    *out = range;
    return 0;
}

// ---- sending -------------------------------------------------------------------------------------------------------

static int send_frame(struct request *r, struct span s)
{
    struct buf frame;
    buf_init(&frame, FRAME_ROOM);
    int err = zstd_pack(&frame, s, CODED_LEVEL);
    if (err == 0) reply_write_span(r, buf_span(&frame));
    buf_free(&frame);
    return err;
}

static int send_text(struct stream_pipe *p, struct span s)
{
    if (p->range.coded) return send_frame(p->r, s);
    reply_write_span(p->r, s);
    return 0;
}

// A raw piece of a file in an answer that is coded: the stream's records are of both kinds.
static int send_file_as_frame(struct request *r, const struct stream_slice *slice)
{
    struct bytes *b = bytes_alloc(slice->length);
    int err = b == NULL ? ERR_NOMEM : file_read(slice->fd, b->p, slice->length, slice->position);
    if (err == 0) err = send_frame(r, bytes_span(b));
    bytes_unref(b);
    return err;
}

static int send_slice(struct stream_pipe *p, struct stream_slice *slice)
{
    bool as_is = p->range.coded == slice->packed;
    if (slice->bytes != NULL && as_is) return reply_write_part(p->r, slice->bytes, slice->at, slice->length), 0;
    if (slice->bytes != NULL) return send_frame(p->r, SPAN(slice->bytes->p + slice->at, slice->length));
    if (!as_is) return send_file_as_frame(p->r, slice);
    reply_write_file(p->r, slice->fd, slice->position, slice->length);
    slice->fd = -1; // the reply's
    return 0;
}

static int send_next(struct stream_pipe *p)
{
    struct app *a = p->r->app;
    struct stream_slice slice;
    if (app_txn(a) == NULL) return ERR_BUSY;
    int err = streams_slice(app_streams(a), app_txn(a), p->range.number, p->at, p->stop, p->range.coded, &slice);
    if (err != 0) return err;
    err = send_slice(p, &slice);
    p->at += slice.n;
    streams_slice_free(&slice);
    return err;
}

static void pump(struct stream_pipe *p)
{
    int err = 0;
    while (err == 0 && p->at < p->stop && !reply_full(p->r))
        err = send_next(p);
    if (err == 0 && p->at < p->stop) return;
    if (err == 0 && p->range.json) err = send_text(p, SPAN_LIT("]"));
    p->ended = true;
    if (err == 0) {
        reply_end(p->r);
        return;
    }
    log_warn("http", "a stream's answer was cut short", LF_ERR(err), LF_UINT("stream", p->range.number), LF_UINT("offset", p->at));
    reply_break(p->r);
}

// ---- over several turns --------------------------------------------------------------------------------------------

static void pipe_drain(struct request *r)
{
    struct stream_pipe *p = r->data;
    if (!p->ended) pump(p);
}

static void pipe_done(struct request *r)
{
    struct stream_pipe *p = r->data;
    r->handler = p->handler;
    r->data = p->data;
    free(p);
    if (r->handler->done != NULL) r->handler->done(r);
}

static const struct handler pipe_handler = {.drain = pipe_drain, .done = pipe_done};

// An array is as long as its messages: two brackets come, the last message's end goes; but an empty one.
static int64_t body_length(const struct stream_range *range)
{
    uint64_t n = range->to - range->from;
    return range->coded ? -1 : range->json && n == 0 ? 2 : (int64_t)n;
}

void stream_pipe_begin(struct request *r, const struct stream_range *range, const char *type)
{
    struct stream_pipe now = {.r = r, .range = *range, .at = range->from, .stop = range->to, .handler = r->handler, .data = r->data};
    if (range->json && range->to > range->from) now.stop -= JSON_LINE_END_BYTES;
    if (range->coded) reply_header(r, "Content-Encoding", "zstd");
    if (range->gzip) reply_code(r, CODING_GZIP);
    reply_stream(r, type, body_length(range));
    int err = range->json ? send_text(&now, SPAN_LIT("[")) : 0;
    if (err == 0) pump(&now);
    if (now.ended) return;
    struct stream_pipe *p = err == 0 ? malloc(sizeof *p) : NULL;
    if (p == NULL) {
        reply_break(r);
        return;
    }
    *p = now;
    r->data = p;
    r->handler = &pipe_handler;
}
