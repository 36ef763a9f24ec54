#include "tus.h"

#include <stdio.h>

#include "base64.h"
#include "err.h"
#include "limits.h"
#include "put.h"

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

bool tus_take_offset(const struct segue *s, struct tus *t)
{
    return header_number(s, "Upload-Offset", &t->offset);
}

int tus_malformed(struct segue *s)
{
    return client_fail(s, SEGUE_REFUSED, ERR_INTERNAL, "the service's answer is not one of the tus protocol");
}

void tus_path(const struct tus *t, char path[64])
{
    snprintf(path, 64, "uploads/%.36s", t->id);
}

static void put_metadata(struct buf *out, const struct segue_put_options *what, const struct source *source)
{
    const char *slash = strrchr(source->name, '/');
    buf_put_str(out, "Upload-Metadata: filename ");
    base64_encode(out, SPAN_STR(slash != NULL ? slash + 1 : source->name));
    if (what->type == NULL) return;
    buf_put_str(out, ",filetype ");
    base64_encode(out, SPAN_STR(what->type));
}

int tus_create(struct segue *s, const struct segue_put_options *what, const struct source *source, struct tus *t)
{
    char length[64];
    struct buf metadata;
    struct uuid id;
    snprintf(length, sizeof length, "Upload-Length: %llu", (unsigned long long)source->size);
    buf_init(&metadata, UPLOAD_METADATA_MAX + KIB);
    put_metadata(&metadata, what, source);
    const struct http_request request = {
        .method = "POST", .path = "uploads", .headers = {TUS, length, client_string(&metadata)}, .has_body = true};
    int result = client_call(s, &request);
    buf_free(&metadata);
    if (result != SEGUE_OK) return result;
    struct span location = http_header(s->http, "Location");
    if (location.n < UUID_TEXT || uuid_parse(&id, SPAN(location.p + location.n - UUID_TEXT, UUID_TEXT)) != 0) return tus_malformed(s);
    uuid_format(id, t->id);
    t->id[UUID_TEXT] = 0;
    t->offset = 0;
    return SEGUE_OK;
}

int tus_locate(struct segue *s, const struct source *source, struct tus *t)
{
    char path[64];
    uint64_t length;
    tus_path(t, path);
    const struct http_request request = {.method = "HEAD", .path = path, .headers = {TUS}};
    int result = client_ask(s, &request);
    if (result != SEGUE_OK) return result;
    int answer = http_status(s->http);
    bool gone = answer == 404 || answer == 410;
    if (!gone && answer != 200) return client_refused(s);
    if (!gone && (!tus_take_offset(s, t) || !header_number(s, "Upload-Length", &length))) return tus_malformed(s);
    if (gone || length != source->size || t->offset > length) t->id[0] = 0;
    return SEGUE_OK;
}

void tus_drop(struct segue *s, struct tus *t)
{
    char path[64];
    tus_path(t, path);
    const struct http_request request = {.method = "DELETE", .path = path, .headers = {TUS}};
    client_ask(s, &request);
    t->id[0] = 0;
}

int tus_end(struct segue *s, const struct source *source, struct tus *t, const char hex[SHA256_HEX])
{
    if (span_equal(http_header(s->http, "Segue-Blob"), SPAN(hex, SHA256_HEX))) return SEGUE_OK;
    tus_drop(s, t);
    return put_changed(s, source->name);
}
