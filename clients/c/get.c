// segue_get: reads a blob over as many connections as it takes, and checks that it is what its digest says.
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "source.h"

struct get {
    struct segue *client;
    const struct segue_get_options *what;
    struct sha256 expected;
    struct digest *digest;
    int fd;         // of the output; -1: the caller's function
    uint64_t got;   // bytes written so far
    uint64_t first; // where in the blob they began
    uint64_t end;   // where they will end; 0: not known
    uint64_t size;  // how many they will be; 0: not known
    bool begun;
    bool resumed; // it began with what an earlier run left
    bool stale;   // and that was of something else
    int result;   // why the answer was not taken on
};

// ---- an answer -------------------------------------------------------------------------------------------------

static int write_piece(struct get *g, struct span piece)
{
    const struct segue_get_options *w = g->what;
    int err = g->fd < 0 ? 0 : file_write(g->fd, piece, g->got);
    if (err != 0) g->result = client_fail(g->client, SEGUE_REFUSED, err, "%s: %s", w->path, err_text(err));
    if (g->fd < 0 && w->write(w->ctx, piece.p, piece.n) != 0) g->result = client_canceled(g->client);
    if (g->result != SEGUE_OK) return ERR_CANCELED;
    digest_update(g->digest, piece);
    g->got += piece.n;
    if (w->progress != NULL) w->progress(w->ctx, g->got, g->size);
    return 0;
}

// Which bytes this answer has. `Content-Range: bytes 5-9/20` in a partial one.
static bool read_place(const struct get *g, uint64_t *first, uint64_t *end)
{
    char text[128];
    unsigned long long a, b;
    struct span range = http_header(g->client->http, "Content-Range");
    if (http_status(g->client->http) != 206) {
        *first = *end = 0;
        return true;
    }
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(span_sub(range, 0, 100)));
    if (sscanf(text, "bytes %llu-%llu/", &a, &b) != 2 || b < a) return false;
    *first = a;
    *end = b + 1;
    return true;
}

// For the progress alone: how much the whole is.
static uint64_t whole_size(const struct get *g, uint64_t end)
{
    char text[32];
    if (end > 0) return end - g->first;
    struct span length = http_header(g->client->http, "Content-Length");
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(span_sub(length, 0, 20)));
    return strtoull(text, NULL, 10);
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
        g->result =
            client_fail(g->client, SEGUE_REFUSED, ERR_RANGE_NOT_SATISFIABLE, "the service did not go on where the connection broke");
        return ERR_CANCELED;
    }
    g->begun = true;
    g->size = whole_size(g, end);
    return 0;
}

struct attempt {
    struct get *get;
    bool placed;
};

static int on_piece(void *ctx, struct span piece)
{
    struct attempt *a = ctx;
    if (!a->placed) {
        a->placed = true;
        int err = check_place(a->get);
        if (err != 0) return err;
    }
    return write_piece(a->get, piece);
}

// ---- attempts --------------------------------------------------------------------------------------------------

static int ask(struct get *g)
{
    char path[32 + SHA256_HEX], range[96] = "";
    const char *wanted = g->what->range;
    struct attempt attempt = {.get = g};
    snprintf(path, sizeof path, "blobs/%.64s", g->what->digest);
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
        .stop = g->client->stop,
    };
    return client_send(g->client, &request);
}

static int check_digest(struct get *g)
{
    if (g->what->range != NULL) return SEGUE_OK;
    struct sha256 sum = digest_final(g->digest);
    if (sha256_equal(&sum, &g->expected)) return SEGUE_OK;
    g->stale = g->resumed; // what was there may have been of another blob
    return client_fail(g->client, SEGUE_REFUSED, ERR_DIGEST_MISMATCH, "%s", err_text(ERR_DIGEST_MISMATCH));
}

// Reads on over broken connections until the whole is here.
static int read_blob(struct get *g)
{
    struct segue *s = g->client;
    struct backoff backoff = {0};
    for (;;) {
        uint64_t before = g->got;
        if (client_stopped(s)) return client_canceled(s);
        int err = ask(g), status = http_status(s->http);
        if (g->result != SEGUE_OK) return g->result;
        if (err != 0 && err != ERR_UNREACHABLE) return client_broken(s, err);
        if (err == 0 && status >= 200 && status < 300) return check_digest(g);
        if (err == 0 && status == 416 && g->resumed) return check_digest(g); // nothing was missing
        if (err == 0 && !client_again(s)) return client_refused(s);
        if (g->got > before) backoff = (struct backoff){0};
        if (!client_backoff(s, &backoff, false)) return client_end(s, err);
    }
}

// ---- the part file ---------------------------------------------------------------------------------------------

// Takes what an earlier run left behind, so that only the rest is asked for.
static int take_part(struct get *g)
{
    uint8_t piece[64 * KIB];
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
    g->got = g->first = g->end = g->size = 0;
    g->begun = g->resumed = g->stale = false;
    client_begin(g->client);
    return ftruncate(g->fd, 0) == 0 ? 0 : err_from_errno(errno);
}

// Reads into the part file. One whose beginning turns out to be wrong is begun anew.
static int get_part(struct get *g, const char *part)
{
    int err = g->what->range == NULL ? take_part(g) : begin_anew(g);
    if (err != 0) err = begin_anew(g);
    int result = err == 0 ? read_blob(g) : SEGUE_USAGE;
    if (err == 0 && g->stale) {
        err = begin_anew(g);
        result = err == 0 ? read_blob(g) : SEGUE_USAGE;
    }
    return err == 0 ? result : client_fail(g->client, SEGUE_USAGE, err, "%s: %s", part, err_text(err));
}

// The file appears under its name when it is complete and right. What a lost connection left is kept for the next run.
static int get_to_file(struct get *g, const char *name)
{
    char part[4096];
    struct segue *s = g->client;
    if (snprintf(part, sizeof part, "%s.part", name) >= (int)sizeof part)
        return client_fail(s, SEGUE_USAGE, ERR_USAGE, "the name of the file is too long");
    g->fd = file_open(part, O_RDWR | O_CREAT);
    if (g->fd < 0) return client_fail(s, SEGUE_USAGE, g->fd, "%s: %s", part, err_text(g->fd));
    int result = get_part(g, part);
    file_close(g->fd);
    if (result == SEGUE_OK && rename(part, name) == 0) return SEGUE_OK;
    if (result == SEGUE_OK) result = client_fail(s, SEGUE_USAGE, err_from_errno(errno), "%s: %s", name, strerror(errno));
    bool goes_on = result == SEGUE_UNREACHABLE || result == SEGUE_CANCELED;
    if (!goes_on || g->what->range != NULL || g->got == 0) unlink(part);
    return result;
}

static bool is_range(const char *s)
{
    size_t a = strspn(s, "0123456789");
    if (s[a] != '-') return false;
    size_t b = strspn(s + a + 1, "0123456789");
    return s[a + 1 + b] == 0 && a + b > 0 && a < 20 && b < 20;
}

int segue_get(struct segue *s, const struct segue_get_options *what)
{
    struct get g = {.client = s, .what = what, .fd = -1};
    assert(what->path != NULL || what->write != NULL);
    client_begin(s);
    if (hex_parse(g.expected.b, SHA256_BYTES, SPAN_STR(what->digest)) != 0)
        return client_fail(s, SEGUE_USAGE, ERR_USAGE, "a digest is 64 hexadecimal digits");
    if (what->range != NULL && !is_range(what->range)) return client_fail(s, SEGUE_USAGE, ERR_USAGE, "a range is A-B, A- or -N");
    g.digest = digest_new();
    if (g.digest == NULL) return client_broken(s, ERR_NOMEM);
    int result = what->path != NULL ? get_to_file(&g, what->path) : read_blob(&g);
    digest_free(g.digest);
    return result;
}
