// POST /apps/<app>/blobs/<sha256>/sign {"seconds":n,"disposition"?,"filename"?,"type"?}: a link of the blob for those who may not read the app (blob_link.h).
#include "api_blob.h"
#include "blob_link.h"
#include "blob_view.h"
#include "err.h"
#include "file.h"
#include "json_read.h"
#include "json_write.h"
#include "utf8.h"

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    static const char *const known[] = {"seconds", "disposition", "filename", "type"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(key, known[i])) return 0;
    return problem_set(ctx, ERR_BAD_REQUEST, -1, "there is no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

static int read_options(const struct jr *root, struct blob_link *l, struct problem *p)
{
    const struct jr *disposition = jr_get(root, "disposition"), *filename = jr_get(root, "filename"), *type = jr_get(root, "type");
    int64_t seconds = jr_int(jr_get(root, "seconds"), 0);
    int err = jr_type(root) != JR_OBJECT ? problem_set(p, ERR_BAD_REQUEST, -1, "the body is a JSON object") : jr_each(root, check_member, p);
    if (err != 0) return err;
    if (seconds < 1 || seconds > BLOB_LINK_S_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "\"seconds\" is 1 to %d", BLOB_LINK_S_MAX);
    l->expires_s = clock_wall_ms() / 1000 + (uint64_t)seconds;
    l->disposition = jr_str(disposition);
    l->filename = jr_str(filename);
    l->type = jr_str(type);
    if (disposition != NULL && !span_is(l->disposition, "inline") && !span_is(l->disposition, "attachment"))
        return problem_set(p, ERR_BAD_REQUEST, -1, "\"disposition\" is inline or attachment");
    if (filename != NULL && (l->filename.n == 0 || l->filename.n > UPLOAD_METADATA_MAX)) return problem_set(p, ERR_BAD_REQUEST, -1, "\"filename\" is not a name");
    return type == NULL || blob_view_type_is_good(l->type) ? 0 : problem_set(p, ERR_BAD_REQUEST, -1, "\"type\" is not a content type");
}

static int read_path(const struct request *r, struct sha256 *out, struct problem *p)
{
    struct blob_info info;
    int err = blob_path_digest(r, out, p);
    if (err != 0) return err;
    if (app_txn(r->app) == NULL) return ERR_BUSY;
    return blobs_look(app_blobs(r->app), app_txn(r->app), out, &info);
}

static void reply_link(struct request *r, const struct blob_link *l)
{
    struct buf url, json;
    struct jw w;
    buf_init(&url, 4 * HTTP_TARGET_MAX);
    buf_init(&json, 8 * HTTP_TARGET_MAX);
    buf_put_str(&url, server_public_url(r->server));
    blob_link_put(server_signer(r->server), l, &url);
    jw_init(&w, &json);
    jw_object(&w);
    jw_key(&w, "url"), jw_str(&w, buf_span(&url));
    jw_key(&w, "expires"), jw_time_ms(&w, (int64_t)l->expires_s * 1000);
    jw_end(&w);
    if (url.err != 0) reply_error(r, url.err);
    else reply_json(r, 200, &json);
    buf_free(&url);
    buf_free(&json);
}

static void sign_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct blob_link l = {.app = SPAN_STR(app_name(r->app))};
    struct jr_tree *tree = NULL;
    int err = read_path(r, &l.digest, &p);
    if (err == 0) err = jr_parse(&tree, buf_span(&r->body), &p);
    if (err == 0) err = read_options(jr_root(tree), &l, &p);
    if (err == 0) {
        reply_link(r, &l);
    } else {
        problem_set(&p, err, -1, "%s", err_text(err));
        reply_problem(r, &p);
    }
    jr_free(tree);
}

const struct handler api_blob_sign = {.begin = sign_begin, .body_max = 16 * KIB};
