#include "blob_view.h"

#include "base64.h"
#include "blob_link.h"
#include "blob_row.h"
#include "disposition.h"
#include "err.h"
#include "file.h"
#include "server.h"

#define YEAR_S 31536000

bool blob_view_type_is_good(struct span type)
{
    if (type.n == 0 || type.n > STREAM_TYPE_MAX || memchr(type.p, '/', type.n) == NULL) return false;
    for (size_t i = 0; i < type.n; i++)
        if (type.p[i] < ' ' || type.p[i] > '~') return false;
    return true;
}

// ---- the name in an upload's metadata ------------------------------------------------------------------------------

// The value of one of these keys among pairs "key base64" between commas, decoded into `out`. Nothing where there is none.
static void metadata_find(struct span metadata, const char *key, struct buf *out)
{
    size_t n = strlen(key);
    while (metadata.n > 0 && out->n == 0) {
        const uint8_t *comma = memchr(metadata.p, ',', metadata.n);
        struct span pair = comma == NULL ? metadata : SPAN(metadata.p, (size_t)(comma - metadata.p));
        metadata = span_sub(metadata, pair.n + 1, metadata.n);
        while (pair.n > 0 && pair.p[0] == ' ')
            pair = span_sub(pair, 1, pair.n);
        while (pair.n > 0 && pair.p[pair.n - 1] == ' ')
            pair.n--;
        if (pair.n > n + 1 && span_starts(pair, key) && pair.p[n] == ' ') base64_decode(out, span_sub(pair, n + 1, pair.n));
    }
}

static int name_of_upload(const struct request *r, struct span text, const struct blob_info *blob, struct buf *name)
{
    struct upload_info info;
    struct uuid id;
    if (uuid_parse(&id, text) != 0) return ERR_NO_SUCH_UPLOAD;
    if (!blobs_upload_find(app_blobs(r->app), app_txn(r->app), id, &info)) return ERR_NO_SUCH_UPLOAD;
    if (info.state != UPLOAD_DONE || !sha256_equal(&info.digest, &blob->digest)) return ERR_NO_SUCH_UPLOAD;
    metadata_find(info.made.metadata, "filename", name);
    if (name->n == 0) metadata_find(info.made.metadata, "name", name);
    return name->err;
}

// ---- the parameters ------------------------------------------------------------------------------------------------

struct asked {
    struct span type, filename, manner, upload, row;
};

static int read_asked(const struct request *r, struct buf *scratch, struct asked *a, struct problem *p)
{
    // A buffer that grows moves what was found in it before: all of it is had at once.
    if (buf_reserve(scratch, 7 * (size_t)r->query.n + 64) == NULL) return ERR_NOMEM;
    int found = request_param(r, "type", scratch, &a->type);
    if (found > 0 && !blob_view_type_is_good(a->type)) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"type\" is not a content type");
    if (found >= 0) found = request_param(r, "filename", scratch, &a->filename);
    if (found >= 0) found = request_param(r, "upload", scratch, &a->upload);
    if (found >= 0) found = request_param(r, "row", scratch, &a->row);
    // A link says what it signs and nothing else.
    if (r->identity.kind == IDENTITY_NOBODY) a->upload = a->row = SPAN_NONE;
    if (found >= 0) found = request_param(r, "disposition", scratch, &a->manner);
    if (found > 0 && !span_is(a->manner, "inline") && !span_is(a->manner, "attachment"))
        return problem_set(p, ERR_BAD_PARAMETER, -1, "\"disposition\" is inline or attachment");
    return found < 0 ? found : 0;
}

static int name_of_row(const struct request *r, struct span row, const struct blob_info *info, struct buf *name)
{
    const uint8_t *slash = memchr(row.p, '/', row.n);
    struct span table = slash == NULL ? row : SPAN(row.p, (size_t)(slash - row.p));
    int err = may(server_auth(r->server), &r->identity, MAY_QUERY, SPAN_STR(app_name(r->app)), table);
    return err != 0 ? err : blob_row_name(r->app, row, &info->digest, name);
}

static int view_fill(struct blob_view *v, const struct request *r, const struct blob_info *info, const struct asked *a)
{
    struct buf name;
    int err = 0;
    buf_init(&name, 2 * ROW_BYTES_MAX);
    buf_put_span(&name, a->filename);
    if (a->row.n > 0 && name.n == 0) err = name_of_row(r, a->row, info, &name);
    if (err == 0 && a->upload.n > 0 && name.n == 0) err = name_of_upload(r, a->upload, info, &name);
    struct span type = a->type.n > 0 ? a->type : SPAN_STR(info->type);
    memcpy(v->type, type.p, type.n);
    v->type[type.n] = 0;
    v->safe = disposition_is_safe(type);
    bool attachment = !v->safe || span_is(a->manner, "attachment");
    if (attachment || name.n > 0 || a->manner.n > 0) {
        disposition_put(&v->disposition, attachment, buf_span(&name));
        buf_put_u8(&v->disposition, 0);
    }
    buf_free(&name);
    return err != 0 ? err : v->disposition.err;
}

int blob_view_open(struct blob_view *v, const struct request *r, const struct blob_info *info, struct problem *p)
{
    struct asked a = {.type = SPAN_NONE};
    struct buf scratch;
    *v = (struct blob_view){.max_age_s = YEAR_S, .public = r->identity.kind == IDENTITY_ANONYMOUS_DEV};
    buf_init(&v->disposition, 2 * KIB);
    buf_init(&scratch, 8 * HTTP_TARGET_MAX);
    int err = r->query.n == 0 ? 0 : read_asked(r, &scratch, &a, p);
    if (err == 0) err = view_fill(v, r, info, &a);
    buf_free(&scratch);
    // A link's answer is kept no longer than the link lives.
    if (r->identity.kind == IDENTITY_NOBODY) v->max_age_s = blob_link_left_s(r);
    return err;
}

void blob_view_free(struct blob_view *v)
{
    buf_free(&v->disposition);
}

void blob_view_fields(const struct blob_view *v, struct request *r)
{
    reply_header(r, "Cache-Control", "%s, max-age=%llu, immutable", v->public ? "public" : "private", (unsigned long long)v->max_age_s);
    if (v->disposition.n > 0) reply_header(r, "Content-Disposition", "%s", (const char *)v->disposition.p);
    if (!v->safe) reply_header(r, "Content-Security-Policy", "sandbox"); // whatever it is, it runs nothing here
}
