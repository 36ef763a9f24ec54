#include "blob_link.h"

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "http.h"
#include "key_file.h"
#include "limits.h"
#include "percent.h"

#define KEY_NAME_BYTES 4

struct blob_signer {
    uint8_t key[KEY_FILE_BYTES];
    char name[2 * KEY_NAME_BYTES];
};

int blob_signer_open(struct blob_signer **out, const char *folder, struct problem *p)
{
    struct blob_signer *s = calloc(1, sizeof *s);
    int err = s == NULL ? problem_set(p, ERR_NOMEM, -1, "no memory") : key_file_load(folder, "link.key", "signs links of blobs", s->key, p);
    if (err != 0) {
        free(s);
        return err;
    }
    struct sha256 print = sha256_of(SPAN(s->key, sizeof s->key));
    hex_format(s->name, SPAN(print.b, KEY_NAME_BYTES));
    *out = s;
    return 0;
}

void blob_signer_close(struct blob_signer *s)
{
    if (s == NULL) return;
    explicit_bzero(s, sizeof *s);
    free(s);
}

// ---- signing -------------------------------------------------------------------------------------------------------

// With its length, so that no two links are the same text.
static void put_member(struct buf *b, struct span s)
{
    buf_put_u32_be(b, (uint32_t)s.n);
    buf_put_span(b, s);
}

static int sign(const struct blob_signer *s, const struct blob_link *l, char signature[SHA256_HEX])
{
    char hex[SHA256_HEX], expires[24];
    struct buf text;
    buf_init(&text, 256 + l->app.n + l->disposition.n + l->filename.n + l->type.n);
    hex_format(hex, SPAN(l->digest.b, SHA256_BYTES));
    put_member(&text, SPAN_LIT("segue blob link 1"));
    put_member(&text, SPAN_LIT("GET"));
    put_member(&text, l->app);
    put_member(&text, SPAN(hex, sizeof hex));
    put_member(&text, SPAN(expires, (size_t)snprintf(expires, sizeof expires, "%llu", (unsigned long long)l->expires_s)));
    put_member(&text, l->disposition);
    put_member(&text, l->filename);
    put_member(&text, l->type);
    int err = text.err;
    if (err == 0) {
        struct sha256 sum = sha256_keyed(SPAN(s->key, sizeof s->key), buf_span(&text));
        hex_format(signature, SPAN(sum.b, SHA256_BYTES));
    }
    buf_free(&text);
    return err;
}

static void put_option(struct buf *out, const char *name, struct span value)
{
    if (value.n == 0) return;
    buf_printf(out, "&%s=", name);
    percent_encode(out, value);
}

void blob_link_put(const struct blob_signer *s, const struct blob_link *l, struct buf *out)
{
    char hex[SHA256_HEX], signature[SHA256_HEX];
    int err = sign(s, l, signature);
    if (err != 0) out->err = err;
    hex_format(hex, SPAN(l->digest.b, SHA256_BYTES));
    buf_printf(out, "/apps/%.*s/blobs/%.64s?expires=%llu", SPAN_FMT(l->app), hex, (unsigned long long)l->expires_s);
    put_option(out, "disposition", l->disposition);
    put_option(out, "filename", l->filename);
    put_option(out, "type", l->type);
    buf_printf(out, "&key=%.8s&sig=", s->name);
    buf_put(out, signature, sizeof signature);
}

int blob_link_check(const struct blob_signer *s, const struct blob_link *l, struct span key, struct span signature, uint64_t now_s, struct problem *p)
{
    char right[SHA256_HEX];
    if (!span_equal(key, SPAN(s->name, sizeof s->name))) return problem_set(p, ERR_FORBIDDEN, -1, "the link was signed with another key");
    int err = sign(s, l, right);
    if (err != 0) return err;
    if (!secret_equal(SPAN(right, sizeof right), signature)) return problem_set(p, ERR_FORBIDDEN, -1, "the link was altered");
    return now_s < l->expires_s ? 0 : problem_set(p, ERR_FORBIDDEN, -1, "the link has expired");
}

// ---- requests that come by one -------------------------------------------------------------------------------------

bool blob_link_is(const struct request *r)
{
    for (size_t i = 0; i + 4 <= r->query.n; i++)
        if (memcmp(r->query.p + i, "sig=", 4) == 0 && (i == 0 || r->query.p[i - 1] == '&')) return true;
    return false;
}

static int read_expires(const struct request *r, struct buf *scratch, uint64_t *out)
{
    struct span text;
    int found = request_param(r, "expires", scratch, &text);
    if (found <= 0 || text.n == 0 || text.n > 12) return found < 0 ? found : ERR_BAD_PARAMETER;
    *out = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return ERR_BAD_PARAMETER;
        *out = 10 * *out + (text.p[i] - '0');
    }
    return 0;
}

static int read_link(const struct request *r, struct buf *scratch, struct blob_link *l, struct span *key, struct span *signature)
{
    struct {
        const char *name;
        struct span *value;
    } params[] = {{"disposition", &l->disposition}, {"filename", &l->filename}, {"type", &l->type}, {"key", key}, {"sig", signature}};
    int err = read_expires(r, scratch, &l->expires_s);
    for (size_t i = 0; i < sizeof params / sizeof *params && err >= 0; i++)
        err = request_param(r, params[i].name, scratch, params[i].value);
    return err < 0 ? err : 0;
}

int blob_link_admit(const struct blob_signer *s, const struct request *r, struct span app, struct problem *p)
{
    struct blob_link l = {.app = app};
    struct span key = SPAN_NONE, signature = SPAN_NONE;
    struct buf scratch;
    if (hex_parse(l.digest.b, SHA256_BYTES, r->path) != 0) return ERR_BAD_DIGEST;
    buf_init(&scratch, 9 * HTTP_TARGET_MAX);
    // A buffer that grows moves what was found in it before: all of it is had at once.
    if (buf_reserve(&scratch, 8 * (size_t)r->query.n + 64) == NULL) {
        buf_free(&scratch);
        return ERR_NOMEM;
    }
    int err = read_link(r, &scratch, &l, &key, &signature);
    if (err == 0) err = blob_link_check(s, &l, key, signature, clock_wall_ms() / 1000, p);
    buf_free(&scratch);
    return err == ERR_BAD_PARAMETER ? problem_set(p, ERR_FORBIDDEN, -1, "the link was altered") : err;
}

uint64_t blob_link_left_s(const struct request *r)
{
    struct buf scratch;
    uint64_t expires = 0, now = clock_wall_ms() / 1000;
    buf_init(&scratch, 2 * HTTP_TARGET_MAX);
    int err = read_expires(r, &scratch, &expires);
    buf_free(&scratch);
    return err == 0 && expires > now ? expires - now : 0;
}
