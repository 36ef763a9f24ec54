// What writing, reading and following streams have in common.
#include "api_stream.h"

#include "api.h"
#include "err.h"
#include "file.h"

int stream_lookup(struct request *r, struct span path, struct stream_info *out)
{
    struct db_txn *txn = app_txn(r->app);
    if (txn == NULL) return ERR_BUSY;
    if (!streams_find(app_streams(r->app), txn, path, out)) return ERR_NO_SUCH_STREAM;
    if (out->gone) return ERR_STREAM_GONE;
    return stream_care_past(server_care(r->server, r->app), out, clock_wall_ms()) ? ERR_NO_SUCH_STREAM : 0;
}

void stream_offset_header(struct request *r, const char *name, uint64_t offset)
{
    char text[STREAM_OFFSET_TEXT];
    stream_offset_text(offset, text);
    reply_header(r, name, "%s", text);
}

void stream_headers(struct request *r, uint64_t next, bool up_to_date, bool closed)
{
    stream_offset_header(r, "Stream-Next-Offset", next);
    if (up_to_date) reply_header(r, "Stream-Up-To-Date", "true");
    if (closed) reply_header(r, "Stream-Closed", "true");
}

// ---- refusals ----------------------------------------------------------------------------------------------------

// What a program needs to go on, beside the problem's own words.
static void put_fields(struct request *r, const struct problem *p, void *ctx)
{
    const uint64_t *received = ctx;
    struct stream_info info;
    switch (p->err) {
    case ERR_STREAM_CLOSED: stream_headers(r, p->number, false, true); break;
    case ERR_OFFSET_MISMATCH: stream_headers(r, p->number, false, false); break;
    case ERR_PRODUCER_FENCED: reply_header(r, "Producer-Epoch", "%llu", (unsigned long long)p->number); break;
    case ERR_PRODUCER_GAP:
        reply_header(r, "Producer-Expected-Seq", "%llu", (unsigned long long)p->number);
        reply_header(r, "Producer-Received-Seq", "%llu", (unsigned long long)*received);
        break;
    case ERR_STREAM_TRIMMED:
        stream_offset_header(r, "Stream-Earliest-Offset", p->number);
        if (stream_lookup(r, r->path, &info) == 0 && info.has_snapshot) reply_header(r, "Link", "<?offset=-1>; rel=\"alternate\"");
        break;
    default: break;
    }
}

void stream_reply_problem(struct request *r, const struct problem *p, uint64_t received)
{
    struct problem told = *p;
    int status = err_status(p->err);
    // What a batch calls a rejection is a missing page to a client of this surface.
    if (p->err == ERR_STREAM_NOT_FOUND) {
        told.err = ERR_NO_SUCH_STREAM;
        status = err_status(ERR_NO_SUCH_STREAM);
    }
    if (p->err == ERR_OFFSET_MISMATCH) status = 412; // of If-Match
    reply_problem_with(r, &told, status, put_fields, &received);
}
