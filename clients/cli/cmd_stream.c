// segue stream create, append, close, tail
#include <errno.h>
#include <unistd.h>

#include "cli.h"
#include "err.h"
#include "json_write.h"
#include "limits.h"
#include "utf8.h"

#define PIECE_BYTES (64 * KIB) // of standard input in one batch

static int put_path(struct buf *out, const char *path)
{
    size_t n = strlen(path);
    if (n == 0 || n > STREAM_PATH_MAX) return cli_usage("a stream's path has 1 to %d bytes", STREAM_PATH_MAX);
    buf_put_str(out, "v1/stream/");
    cli_put_encoded(out, SPAN(path, n), true);
    return CLI_DONE;
}

int cmd_stream_create(struct cli *c)
{
    char type[HTTP_HEADERS_MAX];
    struct buf path;
    buf_init(&path, 2 * KIB);
    snprintf(type, sizeof type, "Content-Type: %s", c->options->type != NULL ? c->options->type : "");
    int status = put_path(&path, c->options->args[0]);
    const struct http_request request = {
        .method = "PUT",
        .path = cli_string(&path),
        .headers = {c->options->type != NULL ? type : NULL},
        .has_body = true,
    };
    if (status == CLI_DONE) status = cli_call(c, &request, SPAN_NONE);
    buf_free(&path);
    return status;
}

// ---- writing ---------------------------------------------------------------------------------------------------

// One operation on the stream; `piece` is what an append appends.
static int send_op(struct cli_writer *w, const char *op, const char *type, struct span piece)
{
    struct buf ops;
    struct jw j;
    buf_init(&ops, BATCH_BYTES_MAX);
    jw_init(&j, &ops);
    jw_object(&j);
    jw_key(&j, "op");
    jw_cstr(&j, op);
    jw_key(&j, "stream");
    jw_cstr(&j, w->cli->options->args[0]);
    if (type != NULL) {
        jw_key(&j, "type");
        jw_cstr(&j, type);
    }
    bool is_text = utf8_valid(piece) && (piece.n == 0 || memchr(piece.p, 0, piece.n) == NULL);
    if (piece.n > 0) jw_key(&j, is_text ? "text" : "base64");
    if (piece.n > 0 && is_text) jw_str(&j, piece);
    if (piece.n > 0 && !is_text) jw_base64(&j, piece);
    jw_end(&j);
    int status = ops.err != 0 ? cli_fail(CLI_REFUSED, ops.err, "%s", err_text(ops.err)) : cli_writer_send(w, buf_span(&ops));
    buf_free(&ops);
    return status;
}

// While a piece is on its way the next one gathers in the pipe: a slow service makes larger pieces, not a longer queue.
static int append_input(struct cli_writer *w)
{
    static uint8_t piece[PIECE_BYTES];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cli_fail(CLI_USAGE, ERR_IO, "standard input: %s", strerror(errno));
        if (n == 0) return CLI_DONE;
        int status = send_op(w, "append", NULL, SPAN(piece, (size_t)n));
        if (status != CLI_DONE) return status;
    }
}

int cmd_stream_append(struct cli *c)
{
    struct cli_writer w;
    const struct cli_options *o = c->options;
    cli_writer_init(&w, c);
    int status = o->type != NULL ? send_op(&w, "create", o->type, SPAN_NONE) : CLI_DONE;
    if (status == CLI_DONE) status = append_input(&w);
    if (status == CLI_DONE && o->close) status = send_op(&w, "close", NULL, SPAN_NONE);
    return status;
}

int cmd_stream_close(struct cli *c)
{
    struct cli_writer w;
    cli_writer_init(&w, c);
    return send_op(&w, "close", NULL, SPAN_NONE);
}

// ---- tail ------------------------------------------------------------------------------------------------------

struct tail {
    struct cli *cli;
    const struct cli_tail *what;
    struct buf path;
    struct buf offset; // of the next request
    struct buf cursor; // what the service wants back with it
    bool live;         // the end was reached: wait there
    bool done;
};

static bool header_is(const struct cli *c, const char *name, const char *value)
{
    return span_is(http_header(c->http, name), value);
}

static int ask(struct tail *t)
{
    struct buf path;
    buf_init(&path, 8 * KIB);
    buf_put_span(&path, buf_span(&t->path));
    buf_put_str(&path, "?offset=");
    cli_put_encoded(&path, buf_span(&t->offset), false);
    if (t->live) buf_put_str(&path, "&live=long-poll");
    if (t->live && t->cursor.n > 0) {
        buf_put_str(&path, "&cursor=");
        cli_put_encoded(&path, buf_span(&t->cursor), false);
    }
    const struct http_request request = {.method = "GET", .path = cli_string(&path), .stop = t->what->stop, .silence_s = 2 * LONG_POLL_MS / 1000};
    int err = path.err != 0 ? path.err : http_send(t->cli->http, &request);
    buf_free(&path);
    return err;
}

static void keep_header(const struct tail *t, struct buf *out, const char *name)
{
    struct span value = http_header(t->cli->http, name);
    if (value.n == 0) return;
    buf_clear(out);
    buf_put_span(out, value);
}

// A whole answer is here: nothing of an answer that broke off was written, so that its offset is where to go on.
static int take_answer(struct tail *t)
{
    const struct cli *c = t->cli;
    struct span body = http_body(c->http);
    bool at_end = header_is(c, "Stream-Up-To-Date", "true") || body.n == 0;
    if (!t->what->silent && !cli_write(body)) return CLI_REFUSED;
    if (body.n > 0 && http_header(c->http, "Stream-Next-Offset").n == 0)
        return cli_fail(CLI_REFUSED, ERR_INTERNAL, "the service did not say where the stream goes on");
    keep_header(t, &t->offset, "Stream-Next-Offset");
    keep_header(t, &t->cursor, "Stream-Cursor");
    t->live = at_end;
    t->done = at_end && (header_is(c, "Stream-Closed", "true") || !t->what->follow);
    return CLI_DONE;
}

static int read_on(struct tail *t, struct backoff *backoff)
{
    struct cli *c = t->cli;
    int err = ask(t), status = http_status(c->http);
    if (http_connected(c->http)) c->reached = true;
    if (err == ERR_CANCELED && t->what->stop != NULL) return CLI_DONE;
    if (err != 0 && err != ERR_UNREACHABLE) return cli_fail(CLI_REFUSED, err, "%s", err_text(err));
    if (err == 0 && status >= 200 && status < 300) {
        *backoff = (struct backoff){0};
        return take_answer(t);
    }
    if (err == 0 && !cli_again(c)) return cli_refused(c, SPAN_NONE);
    if (cli_backoff(c, backoff, true)) return CLI_DONE;
    return err != 0 ? cli_unreachable(c) : cli_refused(c, SPAN_NONE);
}

int cli_tail(struct cli *c, const struct cli_tail *what)
{
    struct tail t = {.cli = c, .what = what};
    struct backoff backoff = {0};
    buf_init(&t.path, 2 * KIB);
    buf_init(&t.offset, KIB);
    buf_init(&t.cursor, KIB);
    buf_put_str(&t.offset, what->offset);
    int status = t.offset.err == 0 ? put_path(&t.path, what->path) : cli_usage("--offset is too long");
    while (status == CLI_DONE && !t.done && (what->stop == NULL || *what->stop == 0))
        status = read_on(&t, &backoff);
    buf_free(&t.path);
    buf_free(&t.offset);
    buf_free(&t.cursor);
    return status;
}

int cmd_stream_tail(struct cli *c)
{
    const struct cli_options *o = c->options;
    return cli_tail(c, &(struct cli_tail){.path = o->args[0], .offset = o->offset != NULL ? o->offset : "-1", .follow = !o->no_follow});
}
