#include "cli.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "json_read.h"
#include "json_write.h"
#include "limits.h"
#include "uuid.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
#define RETRY_S 30 // how long a broken request is tried again, where nobody says otherwise

// ---- telling ---------------------------------------------------------------------------------------------------

static void tell(const char *code, struct span text)
{
    struct buf line;
    buf_init(&line, 8 * KIB);
    buf_printf(&line, "segue: %s: ", code);
    cli_put_clean(&line, text);
    buf_put_u8(&line, '\n');
    if (write(STDERR_FILENO, line.p, line.n) < 0) errno = 0; // there is nowhere left to say so
    buf_free(&line);
}

static void tell_format(const char *code, const char *fmt, va_list ap)
{
    char text[2048];
    vsnprintf(text, sizeof text, fmt, ap);
    tell(code, SPAN_STR(text));
}

int cli_fail(int status, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell_format(err_wire(err), fmt, ap);
    va_end(ap);
    return status;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell_format(err_wire(ERR_USAGE), fmt, ap);
    va_end(ap);
    return CLI_USAGE;
}

int cli_unreachable(const struct cli *c)
{
    return cli_fail(CLI_UNREACHABLE, ERR_UNREACHABLE, "%s", http_error(c->http));
}

// Where in a text of several lines a byte is, as a person counts.
static void put_place(struct buf *out, struct span text, int64_t position)
{
    if (position < 0) return;
    if ((size_t)position > text.n || text.n == 0) {
        buf_printf(out, " (at %lld)", (long long)position);
        return;
    }
    size_t line = 1, column = 1;
    for (size_t i = 0; i < (size_t)position; i++) {
        if (text.p[i] == '\n') {
            line++;
            column = 1;
        } else if ((text.p[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    buf_printf(out, " (line %zu, column %zu)", line, column);
}

int cli_refused(const struct cli *c, struct span text)
{
    struct jr_tree *tree = NULL;
    char code[64];
    int status = http_status(c->http);
    snprintf(code, sizeof code, "http_%d", status);
    struct buf detail;
    buf_init(&detail, 4 * KIB);
    if (jr_parse(&tree, http_body(c->http), NULL) == 0) {
        const struct jr *problem = jr_root(tree);
        struct span wire = jr_str(jr_get(problem, "code")), words = jr_str(jr_get(problem, "detail"));
        if (wire.n > 0) snprintf(code, sizeof code, "%.*s", (int)(wire.n < 60 ? wire.n : 60), (const char *)wire.p);
        buf_put_span(&detail, words.n > 0 ? words : jr_str(jr_get(problem, "title")));
        put_place(&detail, text, jr_int(jr_get(problem, "position"), -1));
    }
    if (detail.n == 0) buf_printf(&detail, "the service answered with status %d", status);
    tell(code, buf_span(&detail));
    buf_free(&detail);
    jr_free(tree);
    return CLI_REFUSED;
}

bool cli_write(struct span s)
{
    while (s.n > 0) {
        ssize_t n = write(STDOUT_FILENO, s.p, s.n);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            cli_fail(CLI_REFUSED, ERR_IO, "standard output: %s", strerror(errno));
            return false;
        }
        s = span_sub(s, (size_t)n, s.n);
    }
    return true;
}

void cli_put_clean(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool c1 = c == 0xc2 && i + 1 < s.n && s.p[i + 1] < 0xa0; // U+0080 to U+009F are control characters too
        if (c1) i++;
        buf_put_u8(out, c1 || (c < ' ' && c != '\n' && c != '\t') || c == 0x7f ? '?' : c);
    }
}

// ---- texts -----------------------------------------------------------------------------------------------------

static int read_stdin(struct buf *out)
{
    for (;;) {
        uint8_t piece[64 * KIB];
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) return out->err;
        buf_put(out, piece, (size_t)n);
        if (out->err != 0) return out->err;
    }
}

int cli_read(struct buf *out, const char *path)
{
    int err = strcmp(path, "-") == 0 ? read_stdin(out) : file_slurp(out, path);
    return err == 0 ? CLI_DONE : cli_fail(CLI_USAGE, err, "%s: %s", strcmp(path, "-") == 0 ? "standard input" : path, err_text(err));
}

void cli_put_encoded(struct buf *out, struct span s, bool keep_slash)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL;
        if ((plain && c != 0) || (c == '/' && keep_slash))
            buf_put_u8(out, c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

const char *cli_string(struct buf *b)
{
    if (b->n == 0 || b->p[b->n - 1] != 0) buf_put_u8(b, 0);
    return b->err == 0 ? (const char *)b->p : "";
}

// ---- requests --------------------------------------------------------------------------------------------------

bool cli_backoff(const struct cli *c, struct backoff *b, bool forever)
{
    const char *retry = c->options->retry;
    uint64_t now = clock_mono_us();
    if (!c->reached && retry == NULL) return false;
    if (b->began_us == 0) {
        b->began_us = now;
        b->wait_ms = BACKOFF_FIRST_MS;
    }
    double limit = retry != NULL ? strtod(retry, NULL) : RETRY_S;
    if ((!forever || retry != NULL) && (double)(now - b->began_us) / 1e6 >= limit) return false;
    struct timespec t = {b->wait_ms / 1000, (long)(b->wait_ms % 1000) * 1000000};
    nanosleep(&t, NULL);
    b->wait_ms = b->wait_ms * 2 < BACKOFF_MAX_MS ? b->wait_ms * 2 : BACKOFF_MAX_MS;
    return true;
}

bool cli_again(const struct cli *c)
{
    int status = http_status(c->http);
    return status == 503 || status == 429 || status == 408;
}

int cli_call(struct cli *c, const struct http_request *request, struct span text)
{
    struct backoff backoff = {0};
    for (;;) {
        int err = http_send(c->http, request);
        if (err == 0) {
            int status = http_status(c->http);
            c->reached = true;
            if (status >= 200 && status < 300) return CLI_DONE;
            if (!cli_again(c) || !cli_backoff(c, &backoff, false)) return cli_refused(c, text);
            continue;
        }
        if (http_connected(c->http)) c->reached = true;
        if (err != ERR_UNREACHABLE) return cli_fail(CLI_REFUSED, err, "%s", err_text(err));
        if (!cli_backoff(c, &backoff, false)) return cli_unreachable(c);
    }
}

// ---- batches ---------------------------------------------------------------------------------------------------

void cli_writer_init(struct cli_writer *w, struct cli *c)
{
    w->cli = c;
    w->counter = 0;
    uuid_format(uuid_new(), w->replica);
}

int cli_writer_send(struct cli_writer *w, struct span ops)
{
    struct buf body;
    buf_init(&body, 2 * BATCH_BYTES_MAX);
    buf_printf(&body, "{\"replica\":\"%.36s\",\"counter\":%llu,\"ops\":[", w->replica, (unsigned long long)++w->counter);
    buf_put_span(&body, ops);
    buf_put_str(&body, "]}");
    const struct http_request request = {
        .method = "POST",
        .path = "batch",
        .headers = {"Content-Type: application/json"},
        .has_body = true,
        .body = buf_span(&body),
    };
    int status = body.err != 0 ? cli_fail(CLI_REFUSED, body.err, "%s", err_text(body.err)) : cli_call(w->cli, &request, SPAN_NONE);
    buf_free(&body);
    return status;
}
