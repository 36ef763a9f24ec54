// segue put, segue get
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"
#include "digest.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "upload.h"

// ---- put -------------------------------------------------------------------------------------------------------

// What is larger is uploaded in a way that survives a broken connection.
#define PUT_MAX (4 * MIB)

// The digest comes before the content in a request: standard input is kept in an unnamed file until then.
static int spool_input(void)
{
    const char *folder = getenv("TMPDIR");
    int fd = open(folder != NULL ? folder : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    uint64_t size = 0;
    if (fd < 0) return err_from_errno(errno);
    for (;;) {
        uint8_t piece[64 * KIB];
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return fd;
        int err = n < 0 ? err_from_errno(errno) : file_write(fd, SPAN(piece, (size_t)n), size);
        if (err != 0) {
            file_close(fd);
            return err;
        }
        size += (uint64_t)n;
    }
}

static int hash_source(const struct source *s, char hex[SHA256_HEX])
{
    static uint8_t piece[BLOB_WINDOW];
    struct digest *d = digest_new();
    int err = d == NULL ? ERR_NOMEM : 0;
    for (uint64_t at = 0; at < s->size && err == 0;) {
        size_t got;
        err = source_read((void *)s, at, piece, sizeof piece, &got);
        if (err == 0) digest_update(d, SPAN(piece, got));
        at += got;
    }
    if (err == 0) {
        struct sha256 sum = digest_final(d);
        hex_format(hex, SPAN(sum.b, SHA256_BYTES));
    }
    digest_free(d);
    return err;
}

static int put_large(struct cli *c, struct source *s, const char hex[SHA256_HEX])
{
    char line[SHA256_HEX + 64];
    int status = upload_source(c, s, hex);
    if (status != CLI_DONE) return status;
    if (c->options->json)
        snprintf(line, sizeof line, "{\"blob\":\"%.64s\",\"size\":%llu}\n", hex, (unsigned long long)s->size);
    else
        snprintf(line, sizeof line, "%.64s\n", hex);
    return cli_write(SPAN_STR(line)) ? CLI_DONE : CLI_REFUSED;
}

static int put_source(struct cli *c, struct source *s)
{
    char hex[SHA256_HEX], path[32 + SHA256_HEX], type[HTTP_HEADERS_MAX], line[SHA256_HEX + 2];
    int err = hash_source(s, hex);
    if (err != 0) return cli_fail(CLI_USAGE, err, "%s: %s", c->options->args[0], err_text(err));
    if (s->size > PUT_MAX) return put_large(c, s, hex);
    snprintf(path, sizeof path, "blobs/%.64s", hex);
    snprintf(type, sizeof type, "Content-Type: %s", c->options->type != NULL ? c->options->type : "application/octet-stream");
    const struct http_request request = {
        .method = "PUT",
        .path = path,
        .headers = {type},
        .read = source_read,
        .read_size = s->size,
        .ctx = s,
    };
    int status = cli_call(c, &request, SPAN_NONE);
    if (status != CLI_DONE) return status;
    snprintf(line, sizeof line, "%.64s\n", hex);
    bool written = c->options->json ? cli_write(http_body(c->http)) && cli_write(SPAN_LIT("\n")) : cli_write(SPAN_STR(line));
    return written ? CLI_DONE : CLI_REFUSED;
}

int cmd_put(struct cli *c)
{
    const char *name = c->options->args[0];
    struct source s = {.name = name};
    s.fd = strcmp(name, "-") == 0 ? spool_input() : file_open(name, O_RDONLY);
    if (s.fd < 0) return cli_fail(CLI_USAGE, s.fd, "%s: %s", name, err_text(s.fd));
    int err = file_size(s.fd, &s.size);
    int status = err != 0 ? cli_fail(CLI_USAGE, err, "%s: %s", name, err_text(err)) : put_source(c, &s);
    file_close(s.fd);
    return status;
}

// ---- get -------------------------------------------------------------------------------------------------------

struct get {
    struct cli *cli;
    struct digest *digest;
    int fd;         // of the output; -1: standard output
    uint64_t got;   // bytes written so far
    uint64_t first; // where in the blob they began
    uint64_t end;   // where they will end; 0: not known
    bool begun;
    bool resumed; // it began with what an earlier run left
    bool stale;   // and that was of something else
    int status;   // why the answer was not taken on
};

static int write_piece(struct get *g, struct span piece)
{
    int err = g->fd < 0 ? 0 : file_write(g->fd, piece, g->got);
    if (err != 0) g->status = cli_fail(CLI_REFUSED, err, "%s: %s", g->cli->options->output, err_text(err));
    if (g->fd < 0 && !cli_write(piece)) g->status = CLI_REFUSED;
    if (g->status != CLI_DONE) return ERR_CANCELED;
    digest_update(g->digest, piece);
    g->got += piece.n;
    return 0;
}

// Which bytes this answer has. `Content-Range: bytes 5-9/20` in a partial one.
static bool read_place(const struct get *g, uint64_t *first, uint64_t *end)
{
    char text[128];
    unsigned long long a, b;
    struct span range = http_header(g->cli->http, "Content-Range");
    if (http_status(g->cli->http) != 206) {
        *first = *end = 0;
        return true;
    }
    snprintf(text, sizeof text, "%.*s", (int)(range.n < 100 ? range.n : 100), (const char *)range.p);
    if (sscanf(text, "bytes %llu-%llu/", &a, &b) != 2 || b < a) return false;
    *first = a;
    *end = b + 1;
    return true;
}

// The first piece of an answer: it has to go on where the last one broke off.
static int check_place(struct get *g)
{
    uint64_t first, end;
    bool ok = read_place(g, &first, &end);
    if (!g->begun && ok) {
        g->first = first;
        g->end = end;
    } else if (!ok || first != g->first + g->got) {
        g->status = cli_fail(CLI_REFUSED, ERR_RANGE_NOT_SATISFIABLE, "the service did not go on where the connection broke");
        return ERR_CANCELED;
    }
    g->begun = true;
    return 0;
}

struct get_attempt {
    struct get *get;
    bool placed;
};

static int on_piece(void *ctx, struct span piece)
{
    struct get_attempt *a = ctx;
    if (!a->placed) {
        a->placed = true;
        int err = check_place(a->get);
        if (err != 0) return err;
    }
    return write_piece(a->get, piece);
}

static int ask(struct get *g, const char *digest)
{
    char path[32 + SHA256_HEX], range[96] = "";
    const char *wanted = g->cli->options->range;
    struct get_attempt attempt = {.get = g};
    snprintf(path, sizeof path, "blobs/%.64s", digest);
    if (g->begun && g->end > 0)
        snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)(g->first + g->got), (unsigned long long)(g->end - 1));
    else if (g->begun)
        snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)(g->first + g->got));
    else if (wanted != NULL)
        snprintf(range, sizeof range, "Range: bytes=%.60s", wanted);
    const struct http_request request = {
        .method = "GET",
        .path = path,
        .headers = {range[0] != 0 ? range : NULL},
        .on_body = on_piece,
        .ctx = &attempt,
    };
    return http_send(g->cli->http, &request);
}

static int check_digest(struct get *g, const struct sha256 *expected)
{
    if (g->cli->options->range != NULL) return CLI_DONE;
    struct sha256 sum = digest_final(g->digest);
    if (sha256_equal(&sum, expected)) return CLI_DONE;
    if (g->resumed) {
        g->stale = true; // what was there may have been of another blob: nothing is told yet
        return CLI_REFUSED;
    }
    return cli_fail(CLI_REFUSED, ERR_DIGEST_MISMATCH, "%s", err_text(ERR_DIGEST_MISMATCH));
}

// Reads on over broken connections until the whole is here.
static int read_blob(struct get *g, const struct sha256 *expected)
{
    struct cli *c = g->cli;
    struct backoff backoff = {0};
    for (;;) {
        uint64_t before = g->got;
        int err = ask(g, c->options->args[0]), status = http_status(c->http);
        if (g->status != CLI_DONE) return g->status;
        if (http_connected(c->http)) c->reached = true;
        if (err != 0 && err != ERR_UNREACHABLE) return cli_fail(CLI_REFUSED, err, "%s", err_text(err));
        if (err == 0 && status >= 200 && status < 300) return check_digest(g, expected);
        if (err == 0 && status == 416 && g->resumed) return check_digest(g, expected); // nothing was missing
        if (err == 0 && !cli_again(c)) return cli_refused(c, SPAN_NONE);
        if (g->got > before) backoff = (struct backoff){0};
        if (!cli_backoff(c, &backoff, false)) return err != 0 ? cli_unreachable(c) : cli_refused(c, SPAN_NONE);
    }
}

static bool is_range(const char *s)
{
    size_t a = strspn(s, "0123456789");
    if (s[a] != '-') return false;
    size_t b = strspn(s + a + 1, "0123456789");
    return s[a + 1 + b] == 0 && a + b > 0 && a < 20 && b < 20;
}

// Takes what an earlier run left behind, so that only the rest is asked for.
static int take_part(struct get *g)
{
    static uint8_t piece[BLOB_WINDOW];
    struct source part = {.fd = g->fd};
    int err = file_size(g->fd, &part.size);
    while (err == 0 && g->got < part.size) {
        size_t got;
        err = source_read(&part, g->got, piece, sizeof piece, &got);
        if (err == 0) digest_update(g->digest, SPAN(piece, got));
        g->got += got;
    }
    g->begun = g->resumed = err == 0 && g->got > 0;
    return err;
}

static int begin_anew(struct get *g)
{
    digest_final(g->digest);
    g->got = g->first = g->end = 0;
    g->begun = g->resumed = g->stale = false;
    return ftruncate(g->fd, 0) == 0 ? 0 : err_from_errno(errno);
}

// Reads into the part file. One whose beginning turns out to be wrong is begun anew.
static int get_part(struct get *g, const struct sha256 *expected, const char *part)
{
    int err = g->cli->options->range == NULL ? take_part(g) : begin_anew(g);
    if (err != 0) err = begin_anew(g);
    int status = err == 0 ? read_blob(g, expected) : CLI_USAGE;
    if (err == 0 && g->stale) {
        err = begin_anew(g);
        status = err == 0 ? read_blob(g, expected) : CLI_USAGE;
    }
    return err == 0 ? status : cli_fail(CLI_USAGE, err, "%s: %s", part, err_text(err));
}

// The file appears under its name when it is complete and right. What a lost connection left is kept for the next run.
static int get_to_file(struct get *g, const struct sha256 *expected, const char *name)
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s.part", name) >= (int)sizeof part) return cli_usage("the name of the file is too long");
    g->fd = file_open(part, O_RDWR | O_CREAT);
    if (g->fd < 0) return cli_fail(CLI_USAGE, g->fd, "%s: %s", part, err_text(g->fd));
    int status = get_part(g, expected, part);
    file_close(g->fd);
    if (status == CLI_DONE && rename(part, name) == 0) return CLI_DONE;
    if (status == CLI_DONE) status = cli_fail(CLI_USAGE, err_from_errno(errno), "%s: %s", name, strerror(errno));
    if (status != CLI_UNREACHABLE || g->cli->options->range != NULL || g->got == 0) unlink(part);
    return status;
}

int cmd_get(struct cli *c)
{
    struct sha256 expected;
    const struct cli_options *o = c->options;
    if (hex_parse(expected.b, SHA256_BYTES, SPAN_STR(o->args[0])) != 0) return cli_usage("a digest is 64 hexadecimal digits");
    if (o->range != NULL && !is_range(o->range)) return cli_usage("--range is A-B, A- or -N");
    struct get g = {.cli = c, .digest = digest_new(), .fd = -1};
    if (g.digest == NULL) return cli_fail(CLI_REFUSED, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    int status = o->output != NULL ? get_to_file(&g, &expected, o->output) : read_blob(&g, &expected);
    digest_free(g.digest);
    return status;
}
