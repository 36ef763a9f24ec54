// Uploading, with resumption:
//
//    state file ── none ──> chunks of it are there: delta.c ────────────────────────> done
//      │                       │ nothing is
//      │ an upload             └─────────────────> POST uploads ──┐
//      └──> HEAD uploads/<id> ── 200 ─────────────────────────────┴─> PATCH the rest ──> done: the digest is compared
//                  └── it is gone ──> POST uploads …                      │ broken: wait, HEAD
//                                                                         └── where it is ──> PATCH the rest …
#include "upload.h"

#include <stdio.h>
#include <unistd.h>

#include "base64.h"
#include "client.h"
#include "delta.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "put.h"
#include "state.h"
#include "uuid.h"

#define TUS "Tus-Resumable: 1.0.0"

struct upload {
    struct segue *client;
    const struct segue_put_options *what;
    struct source *source;
    const char *hex;
    int state_fd; // -1: none
    char state_path[STATE_PATH_MAX];
    char id[UUID_TEXT + 1]; // empty: none yet
    uint64_t offset;        // that the service has
};

// ---- the state file ------------------------------------------------------------------------------------------------

// Opens the state of an earlier run. Where that does not work, or another run has it, this one goes on without.
static void state_open(struct upload *u)
{
    uint64_t size = 0;
    struct uuid id;
    u->state_fd = -1;
    if (state_path(u->client, "uploads", SPAN(u->hex, SHA256_HEX), u->state_path) != 0) return;
    int fd = u->state_fd = state_lock(u->state_path);
    if (fd < 0 || file_size(fd, &size) != 0 || size != UUID_TEXT || file_read(fd, u->id, UUID_TEXT, 0) != 0) return;
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

// ---- requests --------------------------------------------------------------------------------------------------

static void tell_progress(const struct upload *u, uint64_t done)
{
    if (u->what->progress != NULL) u->what->progress(u->what->ctx, done, u->source->size);
}

static bool header_number(const struct segue *s, const char *name, uint64_t *out)
{
    struct span value = http_header(s->http, name);
    uint64_t v = 0;
    if (value.n == 0 || value.n > 18) return false;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9') return false;
        v = 10 * v + (uint64_t)(value.p[i] - '0');
    }
    *out = v;
    return true;
}

static int not_tus(struct upload *u)
{
    return client_fail(u->client, SEGUE_REFUSED, ERR_INTERNAL, "the service's answer is not one of the tus protocol");
}

static int create(struct upload *u)
{
    char length[64];
    struct buf metadata;
    const char *type = u->what->type;
    snprintf(length, sizeof length, "Upload-Length: %llu", (unsigned long long)u->source->size);
    buf_init(&metadata, UPLOAD_METADATA_MAX + KIB);
    buf_put_str(&metadata, "Upload-Metadata: filename ");
    const char *slash = strrchr(u->source->name, '/');
    base64_encode(&metadata, SPAN_STR(slash != NULL ? slash + 1 : u->source->name));
    if (type != NULL) {
        buf_put_str(&metadata, ",filetype ");
        base64_encode(&metadata, SPAN_STR(type));
    }
    const struct http_request request = {
        .method = "POST", .path = "uploads", .headers = {TUS, length, client_string(&metadata)}, .has_body = true};
    int result = client_call(u->client, &request);
    buf_free(&metadata);
    if (result != SEGUE_OK) return result;
    struct span location = http_header(u->client->http, "Location");
    struct uuid id;
    if (location.n < UUID_TEXT || uuid_parse(&id, SPAN(location.p + location.n - UUID_TEXT, UUID_TEXT)) != 0) return not_tus(u);
    uuid_format(id, u->id);
    u->offset = 0;
    state_write(u);
    return SEGUE_OK;
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
    int result = client_ask(u->client, &request);
    if (result != SEGUE_OK) return result;
    int answer = http_status(u->client->http);
    if (answer == 404 || answer == 410) return create(u);
    if (answer != 200) return client_refused(u->client);
    if (!header_number(u->client, "Upload-Offset", &u->offset) || !header_number(u->client, "Upload-Length", &length)) return not_tus(u);
    return length == u->source->size && u->offset <= length ? SEGUE_OK : create(u);
}

static int read_rest(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    struct upload *u = ctx;
    int err = source_read(u->source, u->offset + offset, p, n, got);
    if (err == 0) tell_progress(u, u->offset + offset + *got);
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
        .stop = u->client->stop,
    };
    return client_send(u->client, &request);
}

// What was uploaded is not what it was to be: nobody is to go on with it, and its blob nobody asked for.
static void drop(struct upload *u)
{
    char path[64];
    upload_path(u, path);
    const struct http_request request = {.method = "DELETE", .path = path, .headers = {TUS}};
    client_ask(u->client, &request);
    u->id[0] = 0;
}

// The service has all of it: is it what we have?
static int compare(struct upload *u)
{
    struct span blob = http_header(u->client->http, "Segue-Blob");
    tell_progress(u, u->source->size);
    if (span_equal(blob, SPAN(u->hex, SHA256_HEX))) return SEGUE_OK;
    drop(u);
    return put_changed(u->client, u->source->name);
}

// 409 is somebody else's hand on the upload, or an offset that moved while an answer was lost: where it is, is asked again.
static bool worth_another(const struct upload *u, int err)
{
    int status = http_status(u->client->http);
    return err == ERR_UNREACHABLE || (err == 0 && (client_again(u->client) || status == 409 || status == 404 || status == 410));
}

static int transfer(struct upload *u)
{
    struct backoff backoff = {0};
    for (;;) {
        uint64_t before = u->offset;
        if (client_stopped(u->client)) return client_canceled(u->client);
        int result = locate(u);
        if (result != SEGUE_OK) return result;
        if (u->offset > before) backoff = (struct backoff){0};
        int err = send_rest(u);
        if (err == 0 && http_status(u->client->http) == 204 && header_number(u->client, "Upload-Offset", &u->offset) &&
            u->offset == u->source->size)
            return compare(u);
        if (!worth_another(u, err)) {
            if (err == ERR_CANCELED) return client_canceled(u->client);
            if (err == ERR_DIGEST_MISMATCH) drop(u);
            if (err != 0) return put_unreadable(u->client, u->source->name, err);
            return http_status(u->client->http) == 204 ? not_tus(u) : client_refused(u->client);
        }
        if (!client_backoff(u->client, &backoff, false)) return client_end(u->client, err);
    }
}

int upload_source(struct segue *s, const struct segue_put_options *what, struct source *source, struct cuts *cuts)
{
    struct upload u = {.client = s, .what = what, .source = source, .hex = cuts->hex};
    bool stored = false;
    int result = SEGUE_OK;
    state_open(&u);
    if (u.id[0] == 0) result = delta_source(s, what, source, cuts, &stored); // an upload that was begun is gone on with
    if (result == SEGUE_OK && !stored) result = transfer(&u);
    state_close(&u, result == SEGUE_OK);
    return result;
}
