// Streams: writing by named batches, reading by the stream protocol.
#include <stdio.h>

#include "client.h"
#include "err.h"
#include "json_write.h"
#include "limits.h"
#include "utf8.h"

// ---- writing ---------------------------------------------------------------------------------------------------

static int check_path(struct segue *s, const char *path)
{
    size_t n = strlen(path);
    if (n > 0 && n <= STREAM_PATH_MAX) return SEGUE_OK;
    return client_fail(s, SEGUE_USAGE, ERR_USAGE, "a stream's path has 1 to %d bytes", STREAM_PATH_MAX);
}

// What an append appends: text where it is one, which costs less.
static void put_piece(struct jw *j, struct span piece)
{
    bool is_text = utf8_valid(piece) && memchr(piece.p, 0, piece.n) == NULL;
    jw_key(j, is_text ? "text" : "base64");
    if (is_text) jw_str(j, piece);
    if (!is_text) jw_base64(j, piece);
}

// One operation on the stream, in a batch of its own.
static int send_op(struct segue *s, const char *path, const char *op, const char *type, struct span piece)
{
    struct buf ops;
    struct jw j;
    client_begin(s);
    int result = check_path(s, path);
    if (result != SEGUE_OK) return result;
    buf_init(&ops, BATCH_BYTES_MAX);
    jw_init(&j, &ops);
    jw_object(&j);
    jw_key(&j, "op"), jw_cstr(&j, op);
    jw_key(&j, "stream"), jw_cstr(&j, path);
    if (type != NULL) jw_key(&j, "type"), jw_cstr(&j, type);
    if (piece.n > 0) put_piece(&j, piece);
    jw_end(&j);
    result = ops.err != 0 ? client_fail(s, SEGUE_USAGE, ops.err, "%s", err_text(ops.err)) : segue_write(s, (const char *)ops.p, ops.n);
    buf_free(&ops);
    return result;
}

int segue_stream_create(struct segue *s, const char *path, const char *type)
{
    return send_op(s, path, "create", type != NULL ? type : "application/octet-stream", SPAN_NONE);
}

int segue_stream_append(struct segue *s, const char *path, const void *p, size_t n)
{
    client_begin(s);
    if (n > SEGUE_APPEND_MAX) return client_fail(s, SEGUE_USAGE, ERR_TOO_LARGE, "an append has at most %zu bytes", SEGUE_APPEND_MAX);
    return n > 0 ? send_op(s, path, "append", NULL, SPAN(p, n)) : SEGUE_OK;
}

int segue_stream_close(struct segue *s, const char *path)
{
    return send_op(s, path, "close", NULL, SPAN_NONE);
}

// ---- tail ------------------------------------------------------------------------------------------------------

struct tail {
    struct segue *client;
    const struct segue_tail_options *what;
    struct buf offset; // of the next request
    struct buf cursor; // what the service wants back with it
    bool live;         // the end was reached: wait there
    bool done;
};

static bool header_is(const struct segue *s, const char *name, const char *value)
{
    return span_is(http_header(s->http, name), value);
}

static int ask(struct tail *t)
{
    struct buf path;
    buf_init(&path, 8 * KIB);
    buf_put_str(&path, "v1/stream/");
    client_put_encoded(&path, SPAN_STR(t->what->path), true);
    buf_put_str(&path, "?offset=");
    client_put_encoded(&path, buf_span(&t->offset), false);
    if (t->live) buf_put_str(&path, "&live=long-poll");
    if (t->live && t->cursor.n > 0) {
        buf_put_str(&path, "&cursor=");
        client_put_encoded(&path, buf_span(&t->cursor), false);
    }
    const struct http_request request = {
        .method = "GET", .path = client_string(&path), .stop = t->client->stop, .silence_s = 2 * LONG_POLL_MS / 1000};
    int err = path.err != 0 ? path.err : client_send(t->client, &request);
    buf_free(&path);
    return err;
}

static void keep_header(const struct tail *t, struct buf *out, const char *name)
{
    struct span value = http_header(t->client->http, name);
    if (value.n == 0) return;
    buf_clear(out);
    buf_put_span(out, value);
}

// A whole answer is here: nothing of an answer that broke off was given out, so that its offset is where to go on.
static int take_answer(struct tail *t)
{
    struct segue *s = t->client;
    struct span body = http_body(s->http);
    bool at_end = header_is(s, "Stream-Up-To-Date", "true") || body.n == 0;
    if (body.n > 0 && t->what->write != NULL && t->what->write(t->what->ctx, body.p, body.n) != 0) return client_canceled(s);
    if (body.n > 0 && http_header(s->http, "Stream-Next-Offset").n == 0)
        return client_fail(s, SEGUE_REFUSED, ERR_INTERNAL, "the service did not say where the stream goes on");
    keep_header(t, &t->offset, "Stream-Next-Offset");
    keep_header(t, &t->cursor, "Stream-Cursor");
    t->live = at_end;
    t->done = at_end && (header_is(s, "Stream-Closed", "true") || !t->what->follow);
    return SEGUE_OK;
}

static int read_on(struct tail *t, struct backoff *backoff)
{
    struct segue *s = t->client;
    int err = ask(t), status = http_status(s->http);
    if (err != 0 && err != ERR_UNREACHABLE) return client_broken(s, err);
    if (err == 0 && status >= 200 && status < 300) {
        *backoff = (struct backoff){0};
        return take_answer(t);
    }
    if (err == 0 && !client_again(s)) return client_refused(s);
    return client_backoff(s, backoff, true) ? SEGUE_OK : client_end(s, err);
}

int segue_stream_tail(struct segue *s, const struct segue_tail_options *what)
{
    struct tail t = {.client = s, .what = what};
    struct backoff backoff = {0};
    client_begin(s);
    buf_init(&t.offset, KIB);
    buf_init(&t.cursor, KIB);
    buf_put_str(&t.offset, what->offset != NULL ? what->offset : "-1");
    int result = t.offset.err == 0 ? check_path(s, what->path) : client_fail(s, SEGUE_USAGE, ERR_USAGE, "the offset is too long");
    while (result == SEGUE_OK && !t.done)
        result = client_stopped(s) ? client_canceled(s) : read_on(&t, &backoff);
    buf_free(&t.offset);
    buf_free(&t.cursor);
    return result;
}
