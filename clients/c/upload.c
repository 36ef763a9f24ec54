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

#include "client.h"
#include "delta.h"
#include "err.h"
#include "file.h"
#include "put.h"
#include "state.h"
#include "tus.h"

struct upload {
    struct segue *client;
    const struct segue_put_options *what;
    struct source *source;
    const char *hex;
    int state_fd; // -1: none
    char state_path[STATE_PATH_MAX];
    struct tus at;
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
    if (fd < 0 || file_size(fd, &size) != 0 || size != UUID_TEXT || file_read(fd, u->at.id, UUID_TEXT, 0) != 0) return;
    if (uuid_parse(&id, SPAN(u->at.id, UUID_TEXT)) != 0) u->at.id[0] = 0;
}

static void state_write(struct upload *u)
{
    if (u->state_fd >= 0 && file_write(u->state_fd, SPAN(u->at.id, UUID_TEXT), 0) == 0) file_sync(u->state_fd);
}

static void state_close(struct upload *u, bool done)
{
    if (u->state_fd < 0) return;
    if (done || u->at.id[0] == 0) unlink(u->state_path);
    file_close(u->state_fd);
}

// ---- requests --------------------------------------------------------------------------------------------------

static void tell_progress(const struct upload *u, uint64_t done)
{
    if (u->what->progress != NULL) u->what->progress(u->what->ctx, done, u->source->size);
}

static int create(struct upload *u)
{
    int result = tus_create(u->client, u->what, u->source, &u->at);
    if (result == SEGUE_OK) state_write(u);
    return result;
}

// Where the upload is; one that is gone, or is another's, is made anew.
static int locate(struct upload *u)
{
    int result = u->at.id[0] != 0 ? tus_locate(u->client, u->source, &u->at) : SEGUE_OK;
    return result == SEGUE_OK && u->at.id[0] == 0 ? create(u) : result;
}

static int read_rest(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    struct upload *u = ctx;
    int err = source_read(u->source, u->at.offset + offset, p, n, got);
    if (err == 0) tell_progress(u, u->at.offset + offset + *got);
    return err;
}

static int send_rest(struct upload *u)
{
    char path[64], offset[64];
    tus_path(&u->at, path);
    snprintf(offset, sizeof offset, "Upload-Offset: %llu", (unsigned long long)u->at.offset);
    const struct http_request request = {
        .method = "PATCH",
        .path = path,
        .headers = {TUS, offset, "Content-Type: application/offset+octet-stream"},
        .read = read_rest,
        .read_size = u->source->size - u->at.offset,
        .ctx = u,
        .stop = u->client->stop,
    };
    return client_send(u->client, &request);
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
        uint64_t before = u->at.offset;
        if (client_stopped(u->client)) return client_canceled(u->client);
        int result = locate(u);
        if (result != SEGUE_OK) return result;
        if (u->at.offset > before) backoff = (struct backoff){0};
        int err = send_rest(u);
        if (err == 0 && http_status(u->client->http) == 204 && tus_take_offset(u->client, &u->at) && u->at.offset == u->source->size) {
            tell_progress(u, u->source->size);
            return tus_end(u->client, u->source, &u->at, u->hex);
        }
        if (!worth_another(u, err)) {
            if (err == ERR_CANCELED) return client_canceled(u->client);
            if (err == ERR_DIGEST_MISMATCH) tus_drop(u->client, &u->at);
            if (err != 0) return put_unreadable(u->client, u->source->name, err);
            return http_status(u->client->http) == 204 ? tus_malformed(u->client) : client_refused(u->client);
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
    if (u.at.id[0] == 0) result = delta_source(s, what, source, cuts, &stored); // an upload that was begun is gone on with
    if (result == SEGUE_OK && !stored) result = transfer(&u);
    state_close(&u, result == SEGUE_OK);
    return result;
}
