// GET /apps/<app>/uploads/<id>/content: the bytes that an upload has so far, and with ?follow those that come, until it is done
// (PROTOCOL.md, "blobs"). Only what is durable is given out, so what was read once is never taken back.
//
//   plain:   as many bytes as the upload has now
//   follow:  … the reader is through ─> waits for the upload's feed ─> goes on … done: the end; dropped: the connection is cut
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "api_upload.h"
#include "blob_send.h"
#include "disposition.h"
#include "err.h"
#include "feed.h"
#include "file.h"
#include "http_select.h"

struct content {
    struct blob_send send; // first
    struct uuid id;
    struct upload_info info; // `made` only until the answer has begun
    uint64_t have;           // bytes that can be read now
    uint64_t length;         // of the whole, or unknown
    uint64_t from, n;        // what is sent; n may have no bound
    bool partial, follow, opened;
    struct feed_sub *feed;
    struct hub_item woken;
    char type[STREAM_TYPE_MAX + 1];
};

static struct content *content_of(struct blob_send *s)
{
    return (struct content *)s;
}

// ---- following -----------------------------------------------------------------------------------------------------

static void on_run(struct hub_item *item)
{
    struct content *c = (struct content *)((char *)item - offsetof(struct content, woken));
    blob_send_go(&c->send);
}

static void on_wake(struct feed_sub *sub)
{
    struct content *c = sub->owner;
    if (c->send.r != NULL) hub_wake(server_hub(c->send.r->server, c->send.r->app), &c->woken);
}

static int follow(struct content *c, struct request *r)
{
    int err = blobs_attach_upload(app_blobs(r->app), app_txn(r->app), c->id, false, &c->feed);
    if (err != 0) return err;
    c->feed->wake = on_wake;
    c->feed->owner = c;
    c->woken.run = on_run;
    return 0;
}

static void content_release(struct blob_send *s)
{
    struct content *c = content_of(s);
    hub_drop(&c->woken);
    if (c->feed != NULL) c->feed->feed->ops->detach(c->feed);
    c->feed = NULL;
}

// ---- the answer ----------------------------------------------------------------------------------------------------

static void put_total(const struct content *c, char text[24])
{
    if (c->length == UPLOAD_LENGTH_UNKNOWN) snprintf(text, 24, "*");
    else snprintf(text, 24, "%llu", (unsigned long long)c->length);
}

static void put_fields(const struct content *c, struct request *r, int status)
{
    char total[24];
    put_total(c, total);
    reply_start(r, status);
    reply_header(r, "Cache-Control", "no-store");
    reply_header(r, "Accept-Ranges", "bytes");
    reply_header(r, "Upload-Offset", "%llu", (unsigned long long)c->have);
    if (c->length != UPLOAD_LENGTH_UNKNOWN) reply_header(r, "Upload-Length", "%s", total);
    if (status == 416) reply_header(r, "Content-Range", "bytes */%s", total);
    if (c->partial)
        reply_header(r, "Content-Range", "bytes %llu-%llu/%s", (unsigned long long)c->from, (unsigned long long)(c->from + c->n - 1), total);
    if (disposition_is_safe(SPAN_STR(c->type))) return;
    reply_header(r, "Content-Disposition", "attachment");
    reply_header(r, "Content-Security-Policy", "sandbox"); // whatever it is, it runs nothing here
}

static void put_head(const struct content *c, struct request *r)
{
    bool open = c->follow && !c->partial;
    put_fields(c, r, c->partial ? 206 : 200);
    reply_stream(r, c->type, open ? -1 : (int64_t)c->n);
}

static int content_open(struct blob_send *s, struct blob_reader **out)
{
    struct content *c = content_of(s);
    struct app *a = s->r->app;
    if (c->opened) return 0;
    int err = blobs_reader_open_upload(app_blobs(a), app_txn(a), c->id, c->from, c->n, out);
    if (err != 0) return err;
    c->opened = true;
    return 1;
}

static void content_tell(struct blob_send *s, bool first)
{
    if (first) put_head(content_of(s), s->r);
}

static void content_free(struct blob_send *s)
{
    free(content_of(s));
}

static const struct blob_send_ops content_ops = {.open = content_open, .tell = content_tell, .release = content_release, .free = content_free};

// ---- what is asked for ---------------------------------------------------------------------------------------------

static int look(struct content *c, struct request *r)
{
    struct blobs *b = app_blobs(r->app);
    struct blob_info blob;
    if (app_txn(r->app) == NULL) return ERR_BUSY;
    if (uuid_parse(&c->id, r->path) != 0 || !blobs_upload_find(b, app_txn(r->app), c->id, &c->info)) return ERR_NO_SUCH_UPLOAD;
    if (blobs_upload_past(&c->info, clock_wall_ms())) return ERR_UPLOAD_EXPIRED;
    struct span type = c->info.made.type.n > 0 ? c->info.made.type : SPAN_LIT("application/octet-stream");
    memcpy(c->type, type.p, type.n);
    c->have = c->info.offset;
    c->length = c->info.made.length;
    if (c->info.state != UPLOAD_DONE) return 0;
    if (!blobs_find(b, app_txn(r->app), &c->info.digest, &blob)) return ERR_NO_SUCH_BLOB;
    c->have = c->length = blob.size;
    c->follow = false; // there is nothing to wait for
    return 0;
}

// One range, of the length that is known; where none is, and what follows has no end yet, there is no range. ERR_RANGE_NOT_SATISFIABLE.
static int choose_range(struct content *c, struct request *r)
{
    struct byte_ranges ranges;
    struct span field;
    bool known = c->length != UPLOAD_LENGTH_UNKNOWN;
    c->n = c->follow ? UINT64_MAX : c->have;
    if (r->method == METHOD_HEAD || !request_header(r, "range", &field) || (!known && c->follow)) return 0;
    int got = http_ranges_parse(field, known ? c->length : c->have, &ranges);
    if (got <= 0 || ranges.count > 1) return got < 0 ? got : 0;
    struct byte_range part = ranges.at[0];
    if (!c->follow && part.from >= c->have) return ERR_RANGE_NOT_SATISFIABLE;
    if (!c->follow && part.n > c->have - part.from) part.n = c->have - part.from;
    c->from = part.from;
    c->n = part.n;
    c->partial = true;
    return 0;
}

static void reply_unsatisfiable(struct content *c, struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct buf b;
    problem_set(&p, ERR_RANGE_NOT_SATISFIABLE, -1, "the upload has %llu bytes so far", (unsigned long long)c->have);
    buf_init(&b, 4 * KIB);
    buf_put_str(&b, "{");
    problem_members(&b, &p);
    buf_put_str(&b, "}");
    put_fields(c, r, 416);
    reply_body(r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

static int read_follow(struct content *c, struct request *r)
{
    struct buf scratch;
    struct span value;
    buf_init(&scratch, 2 * HTTP_TARGET_MAX);
    int found = request_param(r, "follow", &scratch, &value);
    c->follow = found > 0;
    buf_free(&scratch);
    return found < 0 ? found : 0;
}

// 0: answered, or under way with `c`, as *taken says.
static int answer(struct content *c, struct request *r, bool *taken)
{
    int err = read_follow(c, r);
    if (err == 0) err = look(c, r);
    if (err != 0) return err;
    if (choose_range(c, r) != 0) {
        reply_unsatisfiable(c, r);
        return 0;
    }
    if (r->method == METHOD_HEAD || c->n == 0) {
        put_head(c, r);
        reply_end(r);
        return 0;
    }
    err = c->follow ? follow(c, r) : 0;
    if (err != 0) return err;
    *taken = true;
    blob_send_begin(&c->send, r, &content_ops);
    return 0;
}

static void content_begin(struct request *r)
{
    bool taken = false;
    r->fields = NULL; // this is no tus
    struct content *c = calloc(1, sizeof *c);
    int err = c == NULL ? ERR_NOMEM : answer(c, r, &taken);
    if (!taken) free(c);
    if (err != 0) reply_error(r, err);
}

const struct handler api_upload_content_get = {.begin = content_begin, .drain = blob_send_drain, .done = blob_send_done};
