// Uploading, with resumption:
//
//    HEAD blobs/<digest> ── it is there ─────────────────────────────────────────────> done
//      └─> state file ── an upload ──> HEAD uploads/<id> ── 200 ──┐
//               └── none, or it is gone ──> POST uploads ─────────┴─> PATCH the rest ──> done: the digest is compared
//                                                    ^                    │ broken: wait, HEAD
//                                                    └──── it is gone ────┴── where it is ──> PATCH the rest …
#include "upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base64.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "uuid.h"

#define TUS "Tus-Resumable: 1.0.0"
#define SHOW_US 200000 // between two looks of the progress
#define LINE_MAX_CLI 4096

struct upload {
    struct cli *cli;
    struct source *source;
    const char *hex;
    int state_fd; // -1: none
    char state_path[LINE_MAX_CLI];
    char id[UUID_TEXT + 1]; // empty: none yet
    uint64_t offset;        // that the service has
    bool shown;             // on a terminal
    uint64_t began_us, began_at, shown_us;
};

int source_read(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    const struct source *s = ctx;
    if (n > s->size - offset) n = (size_t)(s->size - offset);
    *got = n;
    return n == 0 ? 0 : file_read(s->fd, p, n, offset);
}

// ---- the state file ------------------------------------------------------------------------------------------------

// It is named by what is uploaded and where to.
static int state_path(struct upload *u)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char folder[LINE_MAX_CLI - 80], name[32];
    struct digest *d = digest_new();
    if (d == NULL) return ERR_NOMEM;
    digest_update(d, SPAN(u->cli->options->url, strlen(u->cli->options->url) + 1));
    digest_update(d, SPAN(u->cli->options->app, strlen(u->cli->options->app) + 1));
    digest_update(d, SPAN(u->hex, SHA256_HEX));
    struct sha256 key = digest_final(d);
    digest_free(d);
    hex_format(name, SPAN(key.b, sizeof name / 2));
    bool set = state != NULL && state[0] == '/'; // the convention: anything else counts as not set
    if (!set && (home == NULL || home[0] == 0)) return ERR_NOT_FOUND;
    int n = snprintf(folder, sizeof folder, "%s%s/segue/uploads", set ? state : home, set ? "" : "/.local/state");
    if (n < 0 || (size_t)n >= sizeof folder) return ERR_TOO_LARGE;
    snprintf(u->state_path, sizeof u->state_path, "%s/%.32s", folder, name);
    return dir_make(folder);
}

// Opens the state of an earlier run. Where that does not work, or another run has it, this one goes on without.
static void state_open(struct upload *u)
{
    uint64_t size = 0;
    u->state_fd = -1;
    if (state_path(u) != 0) return;
    int fd = file_open(u->state_path, O_RDWR | O_CREAT);
    if (fd < 0) return;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        file_close(fd);
        return;
    }
    u->state_fd = fd;
    struct uuid id;
    if (file_size(fd, &size) != 0 || size != UUID_TEXT || file_read(fd, u->id, UUID_TEXT, 0) != 0) return;
    if (uuid_parse(&id, SPAN(u->id, UUID_TEXT)) != 0) u->id[0] = 0;
}

static void state_write(struct upload *u)
{
    if (u->state_fd >= 0 && file_write(u->state_fd, SPAN(u->id, UUID_TEXT), 0) == 0) file_sync(u->state_fd);
}

static void state_close(struct upload *u, bool done)
{
    if (u->state_fd < 0) return;
    if (done || u->id[0] == 0) unlink(u->state_path);
    file_close(u->state_fd);
}

// ---- the progress, for a person ------------------------------------------------------------------------------------

static void show(struct upload *u, uint64_t at, bool last)
{
    char line[80];
    uint64_t now = clock_mono_us();
    if (!u->shown || (!last && now - u->shown_us < SHOW_US)) return;
    u->shown_us = now;
    double seconds = (double)(now - u->began_us) / 1e6, rate = seconds > 0.2 ? (double)(at - u->began_at) / seconds / MIB : 0;
    int filled = u->source->size > 0 ? (int)(30 * at / u->source->size) : 30;
    int n = snprintf(line, sizeof line, "\r[%.*s%.*s] %3d %% %8.1f MiB/s%s", filled, "##############################", 30 - filled,
                     "                              ", filled * 100 / 30, rate, last ? "\n" : "");
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) u->shown = false;
}

// ---- requests --------------------------------------------------------------------------------------------------

// Sends what may be repeated until there is an answer that is one, whatever it says.
static int ask(struct cli *c, const struct http_request *request)
{
    struct backoff backoff = {0};
    for (;;) {
        int err = http_send(c->http, request);
        if (http_connected(c->http)) c->reached = true;
        if (err == 0 && !cli_again(c)) return CLI_DONE;
        if (err != 0 && err != ERR_UNREACHABLE) return cli_fail(CLI_REFUSED, err, "%s", err_text(err));
        if (!cli_backoff(c, &backoff, false)) return err != 0 ? cli_unreachable(c) : cli_refused(c, SPAN_NONE);
    }
}

static bool header_number(const struct cli *c, const char *name, uint64_t *out)
{
    struct span value = http_header(c->http, name);
    uint64_t v = 0;
    if (value.n == 0 || value.n > 18) return false;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9') return false;
        v = 10 * v + (uint64_t)(value.p[i] - '0');
    }
    *out = v;
    return true;
}

static int not_tus(void)
{
    return cli_fail(CLI_REFUSED, ERR_INTERNAL, "the service's answer is not one of the tus protocol");
}

static int create(struct upload *u)
{
    char length[64];
    struct buf metadata;
    const char *type = u->cli->options->type;
    snprintf(length, sizeof length, "Upload-Length: %llu", (unsigned long long)u->source->size);
    buf_init(&metadata, UPLOAD_METADATA_MAX + KIB);
    buf_put_str(&metadata, "Upload-Metadata: filename ");
    const char *slash = strrchr(u->source->name, '/');
    base64_encode(&metadata, SPAN_STR(slash != NULL ? slash + 1 : u->source->name));
    if (type != NULL) {
        buf_put_str(&metadata, ",filetype ");
        base64_encode(&metadata, SPAN_STR(type));
    }
    const struct http_request request = {.method = "POST", .path = "uploads", .headers = {TUS, length, cli_string(&metadata)}, .has_body = true};
    int status = cli_call(u->cli, &request, SPAN_NONE);
    buf_free(&metadata);
    if (status != CLI_DONE) return status;
    struct span location = http_header(u->cli->http, "Location");
    struct uuid id;
    if (location.n < UUID_TEXT || uuid_parse(&id, SPAN(location.p + location.n - UUID_TEXT, UUID_TEXT)) != 0) return not_tus();
    uuid_format(id, u->id);
    u->offset = 0;
    state_write(u);
    return CLI_DONE;
}

static void upload_path(const struct upload *u, char path[64])
{
    snprintf(path, 64, "uploads/%.36s", u->id);
}

// Where the upload is; one that is gone, or is another's, is made anew.
static int locate(struct upload *u)
{
    char path[64];
    uint64_t length;
    if (u->id[0] == 0) return create(u);
    upload_path(u, path);
    const struct http_request request = {.method = "HEAD", .path = path, .headers = {TUS}};
    int status = ask(u->cli, &request);
    if (status != CLI_DONE) return status;
    int answer = http_status(u->cli->http);
    if (answer == 404 || answer == 410) return create(u);
    if (answer != 200) return cli_refused(u->cli, SPAN_NONE);
    if (!header_number(u->cli, "Upload-Offset", &u->offset) || !header_number(u->cli, "Upload-Length", &length)) return not_tus();
    return length == u->source->size && u->offset <= length ? CLI_DONE : create(u);
}

static int read_rest(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    struct upload *u = ctx;
    int err = source_read(u->source, u->offset + offset, p, n, got);
    if (err == 0) show(u, u->offset + offset + *got, false);
    return err;
}

static int send_rest(struct upload *u)
{
    char path[64], offset[64];
    upload_path(u, path);
    snprintf(offset, sizeof offset, "Upload-Offset: %llu", (unsigned long long)u->offset);
    const struct http_request request = {
        .method = "PATCH",
        .path = path,
        .headers = {TUS, offset, "Content-Type: application/offset+octet-stream"},
        .read = read_rest,
        .read_size = u->source->size - u->offset,
        .ctx = u,
    };
    return http_send(u->cli->http, &request);
}

// The service has all of it: is it what we have?
static int compare(struct upload *u)
{
    struct span blob = http_header(u->cli->http, "Segue-Blob");
    show(u, u->source->size, true);
    if (span_equal(blob, SPAN(u->hex, SHA256_HEX))) return CLI_DONE;
    u->id[0] = 0; // not to be gone on with
    return cli_fail(CLI_REFUSED, ERR_DIGEST_MISMATCH, "%s: it changed while it was being uploaded", u->source->name);
}

// 409 is somebody else's hand on the upload, or an offset that moved while an answer was lost: where it is, is asked again.
static bool worth_another(const struct upload *u, int err)
{
    int status = http_status(u->cli->http);
    return err == ERR_UNREACHABLE || (err == 0 && (cli_again(u->cli) || status == 409 || status == 404 || status == 410));
}

static int transfer(struct upload *u)
{
    struct backoff backoff = {0};
    for (;;) {
        uint64_t before = u->offset;
        int status = locate(u);
        if (status != CLI_DONE) return status;
        if (u->offset > before) backoff = (struct backoff){0};
        int err = send_rest(u);
        if (http_connected(u->cli->http)) u->cli->reached = true;
        if (err == 0 && http_status(u->cli->http) == 204 && header_number(u->cli, "Upload-Offset", &u->offset) && u->offset == u->source->size)
            return compare(u);
        if (!worth_another(u, err)) {
            if (err != 0) return cli_fail(CLI_REFUSED, err, "%s: %s", u->source->name, err_text(err));
            return http_status(u->cli->http) == 204 ? not_tus() : cli_refused(u->cli, SPAN_NONE);
        }
        if (!cli_backoff(u->cli, &backoff, false)) return err != 0 ? cli_unreachable(u->cli) : cli_refused(u->cli, SPAN_NONE);
    }
}

// The service may have the content already, from whomever.
static int is_stored(struct upload *u, bool *stored)
{
    char path[16 + SHA256_HEX];
    snprintf(path, sizeof path, "blobs/%.64s", u->hex);
    const struct http_request request = {.method = "HEAD", .path = path};
    int status = ask(u->cli, &request);
    if (status == CLI_DONE) *stored = http_status(u->cli->http) == 200;
    return status;
}

int upload_source(struct cli *c, struct source *s, const char hex[SHA256_HEX])
{
    struct upload u = {.cli = c, .source = s, .hex = hex, .shown = isatty(STDERR_FILENO) == 1};
    bool stored = false;
    int status = is_stored(&u, &stored);
    if (status != CLI_DONE || stored) return status;
    state_open(&u);
    u.began_us = clock_mono_us();
    status = transfer(&u);
    state_close(&u, status == CLI_DONE);
    return status;
}
