#include "tus.h"

#include <stdio.h>
#include <strings.h>

#include "base64.h"
#include "blobs.h"
#include "err.h"

#define PAIRS_MAX 64
#define DIGITS_MAX 18

static struct span trim(struct span s)
{
    while (s.n > 0 && s.p[0] == ' ')
        s = span_sub(s, 1, s.n);
    while (s.n > 0 && s.p[s.n - 1] == ' ')
        s.n--;
    return s;
}

// Takes what is before the next `c` off the front of `rest`; all of it where there is none.
static struct span take(struct span *rest, char c)
{
    const uint8_t *at = rest->n == 0 ? NULL : memchr(rest->p, c, rest->n);
    struct span s = at == NULL ? *rest : SPAN(rest->p, (size_t)(at - rest->p));
    *rest = span_sub(*rest, s.n + (at != NULL), rest->n);
    return s;
}

int tus_check_version(struct span resumable, struct problem *p)
{
    if (resumable.p == NULL) return problem_set(p, ERR_TUS_VERSION, -1, "Tus-Resumable: " TUS_SPOKEN " is missing");
    if (!span_is(resumable, TUS_SPOKEN)) return problem_set(p, ERR_TUS_VERSION, -1, "only tus " TUS_SPOKEN " is spoken here");
    return 0;
}

int tus_check_type(struct span content_type, struct problem *p)
{
    struct span rest = content_type, type = trim(take(&rest, ';'));
    if (type.n == sizeof TUS_BODY_TYPE - 1 && strncasecmp((const char *)type.p, TUS_BODY_TYPE, type.n) == 0) return 0;
    return problem_set(p, ERR_UNSUPPORTED_MEDIA_TYPE, -1, "the body's type is " TUS_BODY_TYPE);
}

int tus_number(struct span text, const char *name, uint64_t *out, struct problem *p)
{
    uint64_t v = 0;
    if (text.p == NULL) return problem_set(p, ERR_BAD_REQUEST, -1, "%s is missing", name);
    if (text.n == 0 || text.n > DIGITS_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "%s is a number of 1 to %d digits", name, DIGITS_MAX);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return problem_set(p, ERR_BAD_REQUEST, -1, "%s is not a whole number", name);
        v = 10 * v + (uint64_t)(text.p[i] - '0');
    }
    *out = v;
    return 0;
}

int tus_length(struct span length, struct span defer, uint64_t *out, struct problem *p)
{
    uint64_t n;
    if (defer.p != NULL && length.p != NULL) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Length or Upload-Defer-Length, not both");
    if (defer.p != NULL && !span_is(trim(defer), "1")) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Defer-Length is 1 or not there");
    if (defer.p != NULL) {
        *out = UPLOAD_LENGTH_UNKNOWN;
        return 0;
    }
    int err = tus_number(length, "Upload-Length", &n, p);
    if (err != 0) return err;
    if (n > BLOB_BYTES_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "an upload may have %llu bytes", (unsigned long long)BLOB_BYTES_MAX);
    *out = n;
    return 0;
}

// ---- metadata --------------------------------------------------------------------------------------------------

static bool is_type(struct span s)
{
    if (s.n == 0 || s.n > STREAM_TYPE_MAX || memchr(s.p, '/', s.n) == NULL) return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~') return false;
    return true;
}

static int check_key(const struct span *keys, size_t count, struct span key, struct problem *p)
{
    if (key.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "a key of Upload-Metadata is empty");
    for (size_t i = 0; i < count; i++)
        if (span_equal(keys[i], key)) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Metadata has the key %.*s twice", SPAN_FMT(span_sub(key, 0, 60)));
    return 0;
}

static int check_pair(struct span key, struct span value, char type[STREAM_TYPE_MAX + 1], struct problem *p)
{
    uint8_t room[UPLOAD_METADATA_MAX];
    struct buf bytes = {.p = room, .cap = sizeof room, .max = sizeof room};
    if (base64_decode(&bytes, value) != 0)
        return problem_set(p, ERR_BAD_REQUEST, -1, "the value of %.*s in Upload-Metadata is not base64", SPAN_FMT(span_sub(key, 0, 60)));
    if (!span_is(key, "filetype") || !is_type(buf_span(&bytes))) return 0;
    memcpy(type, bytes.p, bytes.n);
    type[bytes.n] = 0;
    return 0;
}

int tus_metadata(struct span text, char type[STREAM_TYPE_MAX + 1], struct problem *p)
{
    struct span keys[PAIRS_MAX], rest = text;
    size_t count = 0;
    type[0] = 0;
    if (text.n > UPLOAD_METADATA_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Metadata may have %u bytes", UPLOAD_METADATA_MAX);
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < ' ' || text.p[i] > '~') return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Metadata is printable ASCII");
    if (trim(text).n == 0) return 0;
    for (bool more = true; more;) {
        more = memchr(rest.p, ',', rest.n) != NULL;
        struct span value = trim(take(&rest, ',')), key = take(&value, ' ');
        int err = check_key(keys, count, key, p);
        if (err == 0 && count == PAIRS_MAX) err = problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Metadata may have %d keys", PAIRS_MAX);
        if (err == 0) err = check_pair(key, value, type, p);
        if (err != 0) return err;
        keys[count++] = key;
        if (more && rest.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "a key of Upload-Metadata is empty");
    }
    return 0;
}

// ---- checksums and parts -------------------------------------------------------------------------------------------

int tus_checksum(struct span text, struct tus_checksum *out, struct problem *p)
{
    struct tus_checksum c = {.kind = DIGEST_SHA1};
    struct span value = trim(text), name = take(&value, ' ');
    struct buf bytes = {.p = c.value, .cap = sizeof c.value, .max = sizeof c.value};
    size_t n = SHA1_BYTES;
    if (span_is(name, "sha256")) {
        c.kind = DIGEST_SHA256;
        n = SHA256_BYTES;
    } else if (!span_is(name, "sha1")) {
        return problem_set(p, ERR_BAD_REQUEST, -1, "checksums are of " TUS_CHECKSUMS);
    }
    if (base64_decode(&bytes, trim(value)) != 0 || bytes.n != n)
        return problem_set(p, ERR_BAD_REQUEST, -1, "the value of Upload-Checksum is not the base64 of %zu bytes", n);
    c.n = n;
    *out = c;
    return 0;
}

bool tus_lists(struct span list, const char *name)
{
    while (list.n > 0) {
        struct span word = trim(take(&list, ','));
        if (word.n == strlen(name) && strncasecmp((const char *)word.p, name, word.n) == 0) return true;
    }
    return false;
}

int tus_concat(struct span text, struct tus_concat *out, struct problem *p)
{
    struct span rest = trim(text);
    if (span_is(rest, "partial")) {
        *out = (struct tus_concat){.final = false};
        return 0;
    }
    struct span word = trim(take(&rest, ';'));
    if (!span_is(word, "final") || trim(rest).n == 0)
        return problem_set(p, ERR_BAD_REQUEST, -1, "Upload-Concat is partial, or final; and the addresses of uploads");
    *out = (struct tus_concat){.final = true, .parts = trim(rest)};
    return 0;
}

// What follows the scheme and the authority of an absolute address.
static struct span address_path(struct span url)
{
    if (!span_starts(url, "http://") && !span_starts(url, "https://")) return url;
    take(&url, '/'), take(&url, '/');
    const uint8_t *at = url.n == 0 ? NULL : memchr(url.p, '/', url.n);
    return at == NULL ? SPAN_NONE : span_sub(url, (size_t)(at - url.p), url.n);
}

int tus_concat_next(struct tus_concat *c, struct span base, struct uuid *id, struct problem *p)
{
    struct uuid read;
    struct span url = SPAN_NONE;
    while (c->parts.n > 0 && url.n == 0)
        url = take(&c->parts, ' ');
    if (url.n == 0) return 0;
    struct span path = address_path(url);
    // A proxy may have put something in front of it.
    bool fits = path.n >= base.n + 1 + UUID_TEXT && path.p[0] == '/';
    size_t at = fits ? path.n - UUID_TEXT : 0;
    if (!fits || at < base.n + 1 || path.p[at - 1] != '/' || !span_equal(span_sub(path, at - 1 - base.n, base.n), base) || uuid_parse(&read, span_sub(path, at, path.n)) != 0)
        return problem_set(p, ERR_BAD_REQUEST, -1, "a part of Upload-Concat is no upload of this app");
    *id = read;
    return 1;
}

int tus_link(struct span text, struct tus_link *out, struct problem *p)
{
    struct tus_link l;
    struct span rest = trim(text);
    l.table = take(&rest, '/');
    struct span id = take(&rest, '/');
    l.column = rest;
    bool ok = l.table.n > 0 && l.table.n <= NAME_MAX_BYTES && l.column.n > 0 && l.column.n <= NAME_MAX_BYTES;
    for (size_t i = 0; i < text.n; i++)
        ok = ok && text.p[i] >= ' ' && text.p[i] <= '~';
    if (!ok || uuid_parse(&l.id, id) != 0) return problem_set(p, ERR_BAD_REQUEST, -1, "Segue-Link is table/id/column");
    *out = l;
    return 0;
}
