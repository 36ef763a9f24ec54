// segue_put: a small content in one request, a large one by an upload.
#include <stdio.h>

#include "client.h"
#include "err.h"
#include "limits.h"
#include "upload.h"

// What is larger is uploaded in a way that survives a broken connection.
#define PUT_MAX (4 * MIB)

struct put {
    const struct segue_put_options *what;
    struct source *source;
};

static int read_piece(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    const struct put *u = ctx;
    int err = source_read(u->source, offset, p, n, got);
    if (err == 0 && u->what->progress != NULL) u->what->progress(u->what->ctx, offset + *got, u->source->size);
    return err;
}

static int put_small(struct segue *s, const struct segue_put_options *what, struct source *source, const char *hex)
{
    char path[32 + SHA256_HEX], type[HTTP_HEADERS_MAX];
    struct put put = {what, source};
    snprintf(path, sizeof path, "blobs/%.64s", hex);
    snprintf(type, sizeof type, "Content-Type: %s", what->type != NULL ? what->type : "application/octet-stream");
    const struct http_request request = {
        .method = "PUT",
        .path = path,
        .headers = {type},
        .read = read_piece,
        .read_size = source->size,
        .ctx = &put,
        .stop = s->stop,
    };
    return client_call(s, &request);
}

int segue_put(struct segue *s, const struct segue_put_options *what, struct segue_blob *blob)
{
    char hex[SHA256_HEX];
    struct source source = {.name = what->name != NULL ? what->name : "-"};
    client_begin(s);
    int err = source_open(&source, what->fd), result;
    if (err == 0) err = source_hash(&source, hex);
    if (err != 0)
        result = client_fail(s, SEGUE_USAGE, err, "%s: %s", source.name, err_text(err));
    else if (source.size > PUT_MAX)
        result = upload_source(s, what, &source, hex);
    else
        result = put_small(s, what, &source, hex);
    source_close(&source);
    s->answered = false;
    if (result != SEGUE_OK) return result;
    memcpy(blob->digest, hex, SHA256_HEX);
    blob->digest[SHA256_HEX] = 0;
    blob->size = source.size;
    return SEGUE_OK;
}
