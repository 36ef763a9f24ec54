// segue_put: a small content in one request, a large one by its chunks or an upload.
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "err.h"
#include "put.h"
#include "upload.h"

struct put {
    const struct segue_put_options *what;
    struct span content;
};

int put_changed(struct segue *s, const char *name)
{
    return client_fail(s, SEGUE_REFUSED, ERR_DIGEST_MISMATCH, "%s: it changed while it was being uploaded", name);
}

int put_unreadable(struct segue *s, const char *name, int err)
{
    if (err == ERR_DIGEST_MISMATCH) return put_changed(s, name);
    return client_fail(s, err == ERR_NOMEM ? SEGUE_REFUSED : SEGUE_USAGE, err, "%s: %s", name, err_text(err));
}

// ---- in one request --------------------------------------------------------------------------------------------------

static int read_piece(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    const struct put *u = ctx;
    struct span piece = span_sub(u->content, (size_t)offset, n);
    memcpy(p, piece.p, piece.n);
    *got = piece.n;
    if (u->what->progress != NULL) u->what->progress(u->what->ctx, offset + piece.n, u->content.n);
    return 0;
}

static int send_small(struct segue *s, const struct segue_put_options *what, struct span content, const char *hex)
{
    char path[32 + SHA256_HEX], type[HTTP_HEADERS_MAX];
    struct put put = {what, content};
    snprintf(path, sizeof path, "blobs/%.64s", hex);
    snprintf(type, sizeof type, "Content-Type: %s", what->type != NULL ? what->type : "application/octet-stream");
    const struct http_request request = {
        .method = "PUT",
        .path = path,
        .headers = {type},
        .read = read_piece,
        .read_size = content.n,
        .ctx = &put,
        .stop = s->stop,
    };
    return client_call(s, &request);
}

// What is sent is what was hashed: it is read once.
static int put_small(struct segue *s, const struct segue_put_options *what, struct source *source, char hex[SHA256_HEX])
{
    size_t n = 0;
    uint8_t *content = malloc((size_t)source->size + 1);
    int err = content == NULL ? ERR_NOMEM : source_read(source, 0, content, (size_t)source->size, &n);
    int result = err != 0 ? put_unreadable(s, source->name, err) : source_changed(source) ? put_changed(s, source->name) : SEGUE_OK;
    if (result == SEGUE_OK) {
        struct sha256 sum = sha256_of(SPAN(content, n));
        hex_format(hex, SPAN(sum.b, SHA256_BYTES));
        result = send_small(s, what, SPAN(content, n), hex);
    }
    free(content);
    return result;
}

// ---- by chunks or an upload ------------------------------------------------------------------------------------------

static int put_large(struct segue *s, const struct segue_put_options *what, struct source *source, char hex[SHA256_HEX])
{
    struct cuts cuts;
    int err = cuts_make(&cuts, source);
    int result = err != 0 ? put_unreadable(s, source->name, err) : source_changed(source) ? put_changed(s, source->name) : SEGUE_OK;
    if (result == SEGUE_OK) result = upload_source(s, what, source, &cuts);
    memcpy(hex, cuts.hex, SHA256_HEX);
    cuts_free(&cuts);
    return result;
}

int put_fd(struct segue *s, const struct segue_put_options *what, uint64_t small_max, struct segue_blob *blob)
{
    char hex[SHA256_HEX];
    struct source source = {.name = what->name != NULL ? what->name : "-"};
    int err = source_open(&source, what->fd), result;
    if (err != 0) result = put_unreadable(s, source.name, err);
    else if (source.size > small_max) result = put_large(s, what, &source, hex);
    else result = put_small(s, what, &source, hex);
    source_close(&source);
    if (result != SEGUE_OK) return result;
    memcpy(blob->digest, hex, SHA256_HEX);
    blob->digest[SHA256_HEX] = 0;
    blob->size = source.size;
    return SEGUE_OK;
}

int segue_put(struct segue *s, const struct segue_put_options *what, struct segue_blob *blob)
{
    client_begin(s);
    int result = put_fd(s, what, PUT_SMALL_MAX, blob);
    s->answered = false;
    return result;
}
