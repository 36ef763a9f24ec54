// Cut, ask, send what is missing, name the blob:
//
//    cut ──> POST chunks/missing … ── nothing is there ──> an upload does it
//                    │ some
//                    └──> POST chunks … ──> PUT blobs/<digest>, the list ── 201 ──> done
//                                ^                        │ 409: reclaimed meanwhile
//                                └── ask again ───────────┘
//
// A chunk that the content has several times is asked for and sent once. Every request may be repeated, so a connection that breaks costs
// one body, and a run of the program what the one before it was sending.
#include "delta.h"

#include <stdio.h>
#include <stdlib.h>

#include "blobs.h"
#include "client.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"

#define ROUNDS_MAX 5 // of asking; each but the first because chunks went meanwhile

struct piece {
    struct sha256 sha;
    uint64_t at;
    uint32_t length;
    bool same;    // as one before it
    bool missing; // as far as known
};

struct delta {
    struct segue *client;
    const struct segue_put_options *what;
    struct source *source;
    const char *hex;
    struct piece *pieces;
    size_t count, room;
    uint64_t missing; // bytes of those that are
    struct buf body;
};

static int no_memory(struct delta *d)
{
    return client_fail(d->client, SEGUE_REFUSED, ERR_NOMEM, "%s: %s", d->source->name, err_text(ERR_NOMEM));
}

static int unreadable(struct delta *d, int err)
{
    return client_fail(d->client, SEGUE_USAGE, err, "%s: %s", d->source->name, err_text(err));
}

// ---- cutting ---------------------------------------------------------------------------------------------------------

static int add_piece(struct delta *d, uint64_t at, struct span content)
{
    if (d->count == d->room) {
        size_t room = d->room > 0 ? 2 * d->room : 256;
        struct piece *more = realloc(d->pieces, room * sizeof *more);
        if (more == NULL) return ERR_NOMEM;
        d->pieces = more;
        d->room = room;
    }
    d->pieces[d->count++] = (struct piece){.sha = sha256_of(content), .at = at, .length = (uint32_t)content.n};
    return 0;
}

// All chunks that end within `n` bytes; how many bytes these are.
static size_t cut_window(struct delta *d, uint64_t at, struct span window, bool last, int *err)
{
    size_t done = 0;
    while (done < window.n && *err == 0) {
        struct span rest = span_sub(window, done, window.n);
        size_t n = blobs_cut(rest);
        if (n == rest.n && n < BLOB_CHUNK_MAX && !last) break; // perhaps no cut, but the window's end
        *err = add_piece(d, at + done, span_sub(rest, 0, n));
        done += n;
    }
    return done;
}

static int cut(struct delta *d)
{
    uint8_t *window = malloc(BLOB_WINDOW);
    int err = window == NULL ? ERR_NOMEM : 0;
    for (uint64_t at = 0; at < d->source->size && err == 0;) {
        size_t n;
        err = source_read(d->source, at, window, BLOB_WINDOW, &n);
        if (err == 0) at += cut_window(d, at, SPAN(window, n), at + n == d->source->size, &err);
    }
    free(window);
    return err;
}

static int by_hash(const void *a, const void *b)
{
    const struct piece *const *x = a, *const *y = b;
    int c = memcmp((*x)->sha.b, (*y)->sha.b, SHA256_BYTES);
    return c != 0 ? c : (*x > *y) - (*x < *y);
}

static int find_same(struct delta *d)
{
    struct piece **sorted = calloc(d->count, sizeof(struct piece *));
    if (sorted == NULL) return ERR_NOMEM;
    for (size_t i = 0; i < d->count; i++)
        sorted[i] = &d->pieces[i];
    qsort(sorted, d->count, sizeof *sorted, by_hash);
    for (size_t i = 1; i < d->count; i++)
        sorted[i]->same = sha256_equal(&sorted[i]->sha, &sorted[i - 1]->sha);
    free(sorted);
    return 0;
}

// ---- requests --------------------------------------------------------------------------------------------------------

static void put_hash(struct buf *out, const struct piece *p)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(p->sha.b, SHA256_BYTES));
    buf_put_str(out, "\"");
    buf_put(out, hex, sizeof hex);
    buf_put_str(out, "\"");
}

static int request(struct delta *d, const char *method, const char *path, const char *type)
{
    if (d->body.err != 0) return no_memory(d);
    const struct http_request request = {
        .method = method, .path = path, .headers = {type}, .has_body = true, .body = buf_span(&d->body), .stop = d->client->stop};
    return client_ask(d->client, &request);
}

// The pieces that were asked about, by their places in the question.
static int take_answer(struct delta *d, const size_t *asked, size_t count)
{
    struct jr_tree *tree;
    if (http_status(d->client->http) != 200) return client_refused(d->client);
    int err = jr_parse(&tree, http_body(d->client->http), NULL);
    if (err != 0) return client_fail(d->client, SEGUE_REFUSED, ERR_INTERNAL, "the service's answer about chunks cannot be read");
    const struct jr *missing = jr_get(jr_root(tree), "missing");
    for (size_t i = 0; i < jr_count(missing); i++) {
        int64_t at = jr_int(jr_at(missing, i), -1);
        if (at < 0 || (uint64_t)at >= count || d->pieces[asked[at]].missing) continue;
        d->pieces[asked[at]].missing = true;
        d->missing += d->pieces[asked[at]].length;
    }
    jr_free(tree);
    return SEGUE_OK;
}

// About as many as may be asked about at once, from *at on.
static int ask_page(struct delta *d, size_t *at)
{
    size_t asked[CHUNKS_ASK_MAX], n = 0;
    buf_clear(&d->body);
    buf_put_str(&d->body, "{\"chunks\":[");
    for (; *at < d->count && n < CHUNKS_ASK_MAX; ++*at) {
        if (d->pieces[*at].same) continue;
        if (n > 0) buf_put_str(&d->body, ",");
        put_hash(&d->body, &d->pieces[*at]);
        asked[n++] = *at;
    }
    buf_put_str(&d->body, "]}");
    int result = request(d, "POST", "chunks/missing", "Content-Type: application/json");
    return result != SEGUE_OK ? result : take_answer(d, asked, n);
}

static int ask(struct delta *d)
{
    int result = SEGUE_OK;
    d->missing = 0;
    for (size_t i = 0; i < d->count; i++)
        d->pieces[i].missing = false;
    for (size_t at = 0; at < d->count && result == SEGUE_OK;)
        result = ask_page(d, &at);
    return result;
}

static int put_chunk(struct delta *d, const struct piece *p)
{
    size_t n;
    buf_put(&d->body, p->sha.b, SHA256_BYTES);
    buf_put_u32_be(&d->body, p->length);
    uint8_t *room = buf_reserve(&d->body, p->length);
    if (room == NULL) return d->body.err;
    int err = source_read(d->source, p->at, room, p->length, &n);
    d->body.n += n;
    return err;
}

static int changed(struct delta *d)
{
    return client_fail(d->client, SEGUE_REFUSED, ERR_DIGEST_MISMATCH, "%s: it changed while it was being uploaded", d->source->name);
}

// One body of what is missing, from *at on.
static int send_body(struct delta *d, size_t *at)
{
    size_t n = 0;
    int err = 0;
    buf_clear(&d->body);
    for (; *at < d->count && n < CHUNKS_ASK_MAX && err == 0; ++*at) {
        struct piece *p = &d->pieces[*at];
        if (!p->missing) continue;
        if (d->body.n + SHA256_BYTES + 4 + p->length > CHUNKS_BODY_MAX) break;
        err = put_chunk(d, p);
        d->missing -= p->length;
        n++;
    }
    if (err != 0) return unreadable(d, err);
    if (n == 0) return SEGUE_OK;
    int result = request(d, "POST", "chunks", "Content-Type: application/octet-stream");
    if (result != SEGUE_OK) return result;
    if (http_status(d->client->http) == err_status(ERR_CHECKSUM)) return changed(d);
    if (http_status(d->client->http) != 200) return client_refused(d->client);
    if (d->what->progress != NULL) d->what->progress(d->what->ctx, d->source->size - d->missing, d->source->size);
    return SEGUE_OK;
}

// A type that JSON cannot have as it is is left out: the service would not take it either.
static void put_list(struct delta *d)
{
    char number[64];
    const char *type = d->what->type;
    buf_clear(&d->body);
    snprintf(number, sizeof number, "{\"size\":%llu,", (unsigned long long)d->source->size);
    buf_put_str(&d->body, number);
    if (type != NULL && strpbrk(type, "\"\\") == NULL) {
        buf_put_str(&d->body, "\"type\":\"");
        buf_put_str(&d->body, type);
        buf_put_str(&d->body, "\",");
    }
    buf_put_str(&d->body, "\"chunks\":[");
    for (size_t i = 0; i < d->count; i++) {
        buf_put_str(&d->body, i == 0 ? "[" : ",[");
        put_hash(&d->body, &d->pieces[i]);
        snprintf(number, sizeof number, ",%u]", d->pieces[i].length);
        buf_put_str(&d->body, number);
    }
    buf_put_str(&d->body, "]}");
}

// *again: chunks went meanwhile.
static int name_blob(struct delta *d, bool *again)
{
    char path[16 + SHA256_HEX];
    put_list(d);
    snprintf(path, sizeof path, "blobs/%.64s", d->hex);
    int result = request(d, "PUT", path, "Content-Type: application/vnd.segue.manifest+json");
    if (result != SEGUE_OK) return result;
    int status = http_status(d->client->http);
    *again = status == err_status(ERR_CHUNKS_MISSING);
    if (*again || status == 200 || status == 201) return SEGUE_OK;
    return status == err_status(ERR_DIGEST_MISMATCH) ? changed(d) : client_refused(d->client);
}

static int transfer(struct delta *d)
{
    int result = SEGUE_OK;
    bool again = true;
    for (int round = 0; round < ROUNDS_MAX && again && result == SEGUE_OK; round++) {
        if (round > 0) result = ask(d);
        for (size_t at = 0; at < d->count && result == SEGUE_OK;)
            result = send_body(d, &at);
        if (result == SEGUE_OK) result = name_blob(d, &again);
    }
    if (result == SEGUE_OK && again) result = client_refused(d->client);
    if (result == SEGUE_OK && d->what->progress != NULL) d->what->progress(d->what->ctx, d->source->size, d->source->size);
    return result;
}

int delta_source(struct segue *s, const struct segue_put_options *what, struct source *source, const char hex[SHA256_HEX], bool *done)
{
    struct delta d = {.client = s, .what = what, .source = source, .hex = hex};
    uint64_t distinct = 0;
    buf_init(&d.body, CHUNKS_MANIFEST_MAX);
    *done = false;
    int err = cut(&d);
    if (err == 0) err = find_same(&d);
    for (size_t i = 0; i < d.count && err == 0; i++)
        if (!d.pieces[i].same) distinct += d.pieces[i].length;
    int result = err == ERR_NOMEM ? no_memory(&d) : err != 0 ? unreadable(&d, err) : ask(&d);
    // An upload needs no second way where nothing is known, and brings an older service's refusal of this one to no harm.
    bool unknown = result != SEGUE_OK && http_status(s->http) >= 400 && http_status(s->http) < 500;
    if (unknown) client_begin(s);
    if (result == SEGUE_OK && (d.missing < distinct || distinct < source->size)) {
        *done = true;
        result = transfer(&d);
    }
    buf_free(&d.body);
    free(d.pieces);
    return unknown ? SEGUE_OK : result;
}
