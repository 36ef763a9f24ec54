// What keeps a tree: a pin on it and one on each of its files. The service does not know that a tree is more than a blob; so the files are
// pinned first and the tree last, and a pinned tree is a whole one.
#include "tree_pin.h"

#include <assert.h>
#include <stdlib.h>
#include <strings.h>

#include "err.h"
#include "json_read.h"
#include "limits.h"

#define PAGE_TRIES 5

// ---- pins ------------------------------------------------------------------------------------------------------------

static int take_missing(struct segue *s, bool *missing, size_t count)
{
    struct jr_tree *tree;
    int err = jr_parse(&tree, http_body(s->http), NULL);
    if (err != 0) return client_fail(s, SEGUE_REFUSED, ERR_INTERNAL, "the service's answer about pins cannot be read");
    const struct jr *places = jr_get(jr_root(tree), "missing");
    for (size_t i = 0; i < jr_count(places); i++) {
        int64_t at = jr_int(jr_at(places, i), -1);
        if (at >= 0 && (uint64_t)at < count) missing[at] = true;
    }
    jr_free(tree);
    return SEGUE_OK;
}

static int set_page(struct segue *s, const struct sha256 *digests, size_t count, bool pinned, bool *missing)
{
    struct buf body;
    char hex[SHA256_HEX];
    buf_init(&body, BLOB_PINS_MAX * (SHA256_HEX + 3) + KIB);
    buf_put_str(&body, "{\"blobs\":[");
    for (size_t i = 0; i < count; i++) {
        hex_format(hex, SPAN(digests[i].b, SHA256_BYTES));
        buf_printf(&body, "%s\"%.64s\"", i > 0 ? "," : "", hex);
    }
    buf_printf(&body, "],\"pinned\":%s}", pinned ? "true" : "false");
    int result = body.err != 0 ? client_broken(s, body.err) : client_post(s, "blob-pins", buf_span(&body), NULL);
    buf_free(&body);
    return result == SEGUE_OK && missing != NULL ? take_missing(s, missing, count) : result;
}

// One that was there when it was asked for, and gone when the batch was decided, refuses the whole page: asked again, it is told as missing.
static int set_page_again(struct segue *s, const struct sha256 *digests, size_t count, bool pinned, bool *missing)
{
    int result = SEGUE_OK;
    for (int i = 0; i < PAGE_TRIES; i++) {
        result = set_page(s, digests, count, pinned, missing);
        if (result != SEGUE_REFUSED || strcmp(segue_error(s)->code, err_wire(ERR_NO_SUCH_BLOB)) != 0) break;
    }
    if (result == SEGUE_OK) client_begin(s);
    return result;
}

int pins_set(struct segue *s, const struct sha256 *digests, size_t count, bool pinned, bool *missing)
{
    int result = SEGUE_OK;
    if (missing != NULL) memset(missing, 0, count * sizeof *missing);
    for (size_t at = 0; at < count && result == SEGUE_OK; at += BLOB_PINS_MAX) {
        size_t n = count - at < BLOB_PINS_MAX ? count - at : BLOB_PINS_MAX;
        if (client_stopped(s)) return client_canceled(s);
        result = set_page_again(s, digests + at, n, pinned, missing == NULL ? NULL : missing + at);
    }
    return result;
}

// ---- trees -----------------------------------------------------------------------------------------------------------

static int take_text(void *ctx, const void *p, size_t n)
{
    struct buf *text = ctx;
    buf_put(text, p, n);
    return text->err;
}

int tree_fetch(struct segue *s, const char *digest, struct tree *t)
{
    struct buf text;
    buf_init(&text, TREE_BYTES_MAX);
    tree_init(t);
    const struct segue_get_options what = {.digest = digest, .write = take_text, .ctx = &text};
    int result = segue_get(s, &what), err = text.err;
    if (err == 0 && result == SEGUE_OK) err = tree_parse(t, buf_span(&text));
    buf_free(&text);
    if (err == ERR_NOMEM) return client_broken(s, err);
    return err == 0 ? result : client_fail(s, SEGUE_REFUSED, ERR_BAD_VALUE, "the blob %.64s is no tree", digest);
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, SHA256_BYTES);
}

struct sha256 *tree_contents(const struct tree *t, size_t *count)
{
    struct sha256 *all = malloc((t->count + 1) * sizeof *all);
    size_t n = 0, distinct = 0;
    if (all == NULL) return NULL;
    for (size_t i = 0; i < t->count; i++)
        if (t->at[i].kind == TREE_FILE) all[n++] = t->at[i].sha;
    qsort(all, n, sizeof *all, by_bytes);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !sha256_equal(&all[i], &all[i - 1])) all[distinct++] = all[i];
    *count = distinct;
    return all;
}

// ---- all of a tree ---------------------------------------------------------------------------------------------------

// Its contents, each once and in order. On SEGUE_OK the caller frees them.
static int contents_of(struct segue *s, const char *digest, struct sha256 **files, size_t *count)
{
    struct tree tree;
    int result = tree_fetch(s, digest, &tree);
    if (result == SEGUE_OK) {
        *files = tree_contents(&tree, count);
        if (*files == NULL) result = client_broken(s, ERR_NOMEM);
    }
    tree_free(&tree);
    return result;
}

// The tree comes last: at no time is there a pinned one whose files are not.
static int pin_all(struct segue *s, const struct sha256 *self, const struct sha256 *files, size_t count)
{
    bool *missing = calloc(count + 1, sizeof *missing);
    int result = missing == NULL ? client_broken(s, ERR_NOMEM) : pins_set(s, files, count, true, missing);
    for (size_t i = 0; i < count && result == SEGUE_OK; i++)
        if (missing[i]) result = client_fail(s, SEGUE_REFUSED, ERR_NO_SUCH_BLOB, "files of the tree are gone: store it again");
    free(missing);
    return result == SEGUE_OK ? pins_set(s, self, 1, true, NULL) : result;
}

int segue_tree_pin(struct segue *s, const char *digest)
{
    struct sha256 self, *files;
    size_t count;
    client_begin(s);
    int result = contents_of(s, digest, &files, &count);
    if (result != SEGUE_OK) return result;
    int err = hex_parse(self.b, SHA256_BYTES, SPAN_STR(digest));
    assert(err == 0); // by this name it was fetched
    result = pin_all(s, &self, files, count);
    free(files);
    s->answered = false;
    return result;
}

// Takes out of `files` what the other tree has; how many are left.
static int subtract(struct segue *s, const char *other, struct sha256 *files, size_t *count)
{
    struct sha256 *kept;
    size_t kept_count, left = 0;
    int result = contents_of(s, other, &kept, &kept_count);
    if (result != SEGUE_OK) return result;
    for (size_t i = 0; i < *count; i++)
        if (bsearch(&files[i], kept, kept_count, sizeof *kept, by_bytes) == NULL) files[left++] = files[i];
    *count = left;
    free(kept);
    return SEGUE_OK;
}

// The tree goes first. Nothing is let go before all that is kept is known.
int segue_tree_unpin(struct segue *s, const char *digest, const char *const *keep, size_t keep_count)
{
    struct sha256 self, *files;
    size_t count;
    client_begin(s);
    for (size_t i = 0; i < keep_count; i++)
        if (strcasecmp(keep[i], digest) == 0) return client_fail(s, SEGUE_USAGE, ERR_USAGE, "this tree is to be let go and to be kept");
    int result = contents_of(s, digest, &files, &count);
    if (result != SEGUE_OK) return result;
    int err = hex_parse(self.b, SHA256_BYTES, SPAN_STR(digest));
    assert(err == 0);
    for (size_t i = 0; i < keep_count && result == SEGUE_OK; i++)
        result = subtract(s, keep[i], files, &count);
    if (result == SEGUE_OK) result = pins_set(s, &self, 1, false, NULL);
    if (result == SEGUE_OK) result = pins_set(s, files, count, false, NULL);
    free(files);
    s->answered = false;
    return result;
}
